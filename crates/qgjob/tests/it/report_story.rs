//! The reports of a real run: tests of the example on simulated phones, told in every form, and read by those who read such
//! reports.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::readers;
use crate::world::{BUGGY, ORG, World};

const TESTS: &[&str] = &[
    "--test=tests/onboarding.spec.js",
    "--test=tests/known-bug.spec.js",
    "--test=tests/flaky.spec.js",
    "--test=tests/gift-cards.spec.js",
    "--test=tests-special/no-tests.spec.js",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_told_in_every_form() {
    let world = World::new(2).await;
    let out = tempfile::tempdir().unwrap();
    let at = |name: &str| -> String { out.path().join(name).to_str().unwrap().to_owned() };
    let (junit, json, html, files) = (at("junit.xml"), at("run.json"), at("html"), at("files"));
    let flags = [
        "--junit",
        &junit,
        "--report-json",
        &json,
        "--html",
        &html,
        "--artifacts",
        &files,
        "--test-retries=1",
        "-o",
        "json",
    ];
    let done = world.qgjob(&[&["submit", ORG, BUGGY], TESTS, &flags].concat()).await;
    assert_eq!(done.code, 1, "{done:?}");
    let id = done.json()["id"].as_str().unwrap().to_owned();
    let report: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let counts =
        ["total", "passed", "failed", "flaky", "skipped"].map(|word| report["totals"][word].as_u64());
    assert_eq!(counts, [6, 2, 1, 1, 2].map(Some));

    let read = readers::junit(Path::new(&junit));
    assert_eq!(read["stated"], read["counted"]);
    // The file without tests is a case of its own.
    assert_eq!(read["counted"], serde_json::json!({"tests": 7, "failures": 1, "errors": 1, "skipped": 2}));
    let case = |title: &str| {
        let cases = read["cases"].as_array().unwrap();
        cases.iter().find(|case| case["name"].as_str().unwrap().contains(title)).unwrap()
    };
    assert_eq!((&case("by name")["flaky"], &case("coupon")["rerun"]), (&1.into(), &1.into()));
    let attached = case("coupon")["system_out"].as_str().unwrap();
    for line in attached.lines() {
        let path = line.strip_prefix("[[ATTACHMENT|").and_then(|line| line.strip_suffix("]]")).unwrap();
        assert!(std::fs::metadata(path).unwrap().len() > 0, "{path}");
    }
    assert_eq!(attached.lines().count(), 2, "one of each try");
    assert_eq!(readers::allure(&[PathBuf::from(&junit)]).len(), 7);

    let page = readers::shown(&Path::new(&html).join("index.html"), "the coupon is subtracted");
    assert!(page.contains("Total: € 12.00"), "{page}");

    let results = at("allure-results");
    assert_eq!(world.qgjob(&["report", "allure", &id, "--out", &results]).await.code, 0);
    let read = readers::allure(&readers::files(Path::new(&results)));
    let count = |status: &str| read.iter().filter(|one| one["status"] == status).count();
    // Three tries failed: two of the known bug, one of the flaky test.
    assert_eq!([count("passed"), count("failed"), count("skipped"), count("broken")], [3, 3, 2, 1]);
    let attached = read.iter().flat_map(|one| one["attachments"].as_array().unwrap());
    for name in attached {
        assert!(Path::new(&results).join(name.as_str().unwrap()).is_file(), "{name}");
    }

    merged(&world, &id, &at("playwright"), &at("blobs")).await;
}

/// Playwright's own report of all jobs, made by the project's Playwright.
async fn merged(world: &World, id: &str, to: &str, blobs: &str) {
    let done = world.qgjob(&["report", "playwright", id, "--out", to]).await;
    assert_eq!(done.code, 0, "{done:?}");
    let page = readers::shown(&Path::new(to).join("index.html"), "the coupon is subtracted from the total");
    for told in [
        "finds a product by name",
        "the tour can be skipped",
        "tests/known-bug.spec.js",
        // What no test says.
        "tests-special/no-tests.spec.js: errored (no_tests)",
    ] {
        assert!(page.contains(told), "{told:?} is not in {}", page.rsplit_once("<body").unwrap().1);
    }
    // A second time replaces the first; what is no report is not deleted.
    assert_eq!(world.qgjob(&["report", "playwright", id, "--out", to]).await.code, 0);
    std::fs::write(Path::new(to).join("notes.txt"), "mine").unwrap();
    let refused = world.qgjob(&["report", "playwright", id, "--out", to]).await;
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.err.contains("notes.txt") && Path::new(to).join("notes.txt").exists(), "{refused:?}");

    let done = world.qgjob(&["report", "blob", id, "--out", blobs]).await;
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(readers::files(Path::new(blobs)).len(), 5, "a name of its own for each job");
    let again = world.qgjob(&["report", "blob", id, "--out", blobs]).await;
    assert_eq!(again.code, 2, "others must not be merged with them: {again:?}");
}
