//! Projects that cannot run, runners that crash, reports that lie: all with the real runner.

use serde_json::json;

use super::project::{FAILS, FLAKY, HIDES, PASSES, Project};
use super::{End, ends, hostile, still_works};
use crate::world::{GOOD, ORG, World, example};

/// What happens, the flags, and what must come of it.
struct Case {
    /// The trick is the name of the test file.
    trick: &'static str,
    /// What is in the file.
    spec: &'static str,
    /// A job variable for the configuration.
    env: &'static str,
    end: End<'static>,
    /// What the job's detail must say.
    told: &'static str,
}

const fn report(trick: &'static str, spec: &'static str, reason: &'static str, told: &'static str) -> Case {
    Case { trick, spec, env: "CI=1", end: End { code: 10, conclusion: "errored", reason }, told }
}

const fn configuration(env: &'static str, spec: &'static str, end: End<'static>, told: &'static str) -> Case {
    Case { trick: "ordinary", spec, env, end, told }
}

const INVALID: End<'_> = End { code: 2, conclusion: "errored", reason: "project_invalid" };

const CASES: &[Case] = &[
    report("delete", PASSES, "report_unreadable", "left no report"),
    report("empty", PASSES, "report_unreadable", "is empty"),
    report("truncate", PASSES, "report_unreadable", "no Playwright report"),
    report("nonsense", PASSES, "report_unreadable", "no Playwright report"),
    report("link", PASSES, "report_unreadable", "no regular file"),
    report("say-nothing", PASSES, "report_unreadable", "ended with code 0 and left no report"),
    report("code-1", PASSES, "report_contradicts", "ended with code 1"),
    report("code-0", FAILS, "report_contradicts", "ended with code 0"),
    report("forge", FAILS, "report_contradicts", "live it was"),
    report("forget", FAILS, "report_contradicts", "does not name it"),
    report("call-flaky", FAILS, "report_contradicts", "live it was"),
    report("call-skipped", FAILS, "report_contradicts", "but it ran"),
    report("count-less", FAILS, "report_unreadable", "but holds"),
    report("of-another-file", PASSES, "report_contradicts", "a test of tests/passes.spec.js"),
    report("of-another-test", PASSES, "report_contradicts", "not seen live"),
    report("of-another-place", PASSES, "report_contradicts", "/elsewhere"),
    report("name-twice", PASSES, "report_contradicts", "twice"),
    report("unknown-status", PASSES, "report_unreadable", "great"),
    report("more-tries", PASSES, "report_contradicts", "live there were 1"),
    report("no-tries", PASSES, "report_contradicts", "did not run"),
    report("less-tries", FLAKY, "report_contradicts", "live there were 2"),
    report("keep-one-back", HIDES, "report_contradicts", "2 tests were selected, but the report names 1"),
    report("in-secret", PASSES, "report_contradicts", "not seen live"),
    report("huge", PASSES, "report_unreadable", "more than"),
    report("folder", PASSES, "report_unreadable", "no regular file"),
    report("pipe", PASSES, "report_unreadable", "no regular file"),
    report("kill", PASSES, "runner_crashed", "signal 9"),
    Case {
        trick: "name-none",
        spec: PASSES,
        env: "CI=1",
        end: End { code: 3, conclusion: "errored", reason: "no_tests" },
        told: "names no test",
    },
    configuration("CONFIGURATION=throws", PASSES, INVALID, "the configuration needs a secret"),
    configuration("CONFIGURATION=quits", PASSES, INVALID, "configuration cannot be loaded"),
    // Only noise: no verdict is read from what is printed.
    configuration(
        "CONFIGURATION=prints",
        PASSES,
        End { code: 0, conclusion: "passed", reason: "tests_passed" },
        "",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_project_its_runner_or_its_report_is_told_and_never_passes() {
    let world = World::new(2).await;
    let project = Project::new();
    let mut jobs = Vec::new();
    for case in CASES {
        project.write(&format!("tests/{}.spec.js", case.trick), case.spec);
    }
    for case in CASES {
        let (file, env) = (format!("--test=tests/{}.spec.js", case.trick), format!("--env={}", case.env));
        jobs.push((case, project.submit(&world, &[GOOD, &file, &env, "--retries=0"]).await));
    }
    let too_new = too_new_playwright(&world).await;
    let stale = stale_lockfile(&world).await;
    let bundles = hostile::submit_all(&world).await;
    let unlisted = hostile::submit_unlisted_test(&world).await;

    for (case, id) in jobs {
        let job = ends(&world, &id, case.end, &format!("{} with {}", case.trick, case.env)).await;
        let detail = job["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(case.told) && !detail.contains('\u{1b}'), "{}: {job}", case.trick);
        assert_eq!(job["attempts"], 1, "{job}");
    }
    let job = ends(&world, &too_new, INVALID, "Playwright 1.60").await;
    let told = world.qgjob(&["status", "--job-id", &too_new]).await;
    assert!(told.out.contains(r#"Pin "@playwright/test": "1.59.1""#), "{told:?}\n{job}");
    let job = ends(&world, &stale, INVALID, "a stale lockfile").await;
    assert!(job["detail"].as_str().unwrap().contains("left-pad"), "npm's own words are kept: {job}");
    for (bundle, id) in bundles {
        let job = ends(&world, &id, INVALID, bundle.what).await;
        assert!(job["detail"].as_str().unwrap().contains(bundle.told), "{}: {job}", bundle.what);
        assert_eq!(job["attempts"], 1, "another attempt would find the same: {job}");
    }
    let job = ends(&world, &unlisted, INVALID, "a test that is not in the bundle").await;
    assert!(
        job["detail"].as_str().unwrap().contains("tests/passes.spec.js"),
        "similar names are told: {job}"
    );
    hostile::nothing_escaped();
    still_works(&world).await;
    let sessions: u64 = world.phones.iter().map(|one| one.phone.truth().automation_sessions).sum();
    assert_eq!(sessions, 1, "only the last job's test was allowed on a phone");
}

/// A project whose lockfile pins the first Playwright that AppWright cannot work with.
async fn too_new_playwright(world: &World) -> String {
    let project = Project::new();
    project.replace("package.json", r#""@playwright/test": "1.59.1""#, r#""@playwright/test": "1.60.0""#);
    let mut npm = std::process::Command::new("npm");
    npm.args([
        "install",
        "--package-lock-only",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--prefer-offline",
    ]);
    npm.current_dir(project.dir());
    let done = super::run(npm).await;
    assert_eq!(done.code, 0, "{done:?}");
    let doctor = project.qgjob_in(world, &["doctor", "-o", "json"]).await.json();
    let check = doctor["checks"].as_array().unwrap().iter().find(|check| check["name"] == "runner").unwrap();
    assert_eq!(check["state"], "fail");
    assert!(check["hint"].as_str().unwrap().contains("@playwright/test@1.59.1"), "{check}");
    project.submit(world, &[GOOD, "--test=tests/passes.spec.js"]).await
}

/// A project whose package.json asks for more than its lockfile holds.
async fn stale_lockfile(world: &World) -> String {
    let project = Project::new();
    project.replace("package.json", r#""appwright":"#, "\"left-pad\": \"1.3.0\",\n    \"appwright\":");
    project.submit(world, &[GOOD, "--test=tests/passes.spec.js"]).await
}

#[tokio::test]
async fn a_wrong_name_shows_the_nearest_in_the_example() {
    let world = World::without_agent(0).await;
    let done = world.qgjob(&["submit", ORG, GOOD, "--test=tests/onbording.spec.js", "-o", "json"]).await;
    assert_eq!(done.code, 2, "{done:?}");
    let error: serde_json::Value = serde_json::from_str(&done.err).unwrap();
    assert_eq!(error["error"]["exit_code"], json!(2));
    assert!(
        error["error"]["hint"].as_str().unwrap().contains("did you mean tests/onboarding.spec.js"),
        "{error}"
    );
    assert!(example().join("tests/onboarding.spec.js").is_file());
}
