//! Ways in which AppWright or Playwright surprise whoever runs them; each test names one.

use std::time::{Duration, Instant};

use qgjob_core::model::attempt::Outcome;
use qgjob_core::model::evidence::{Exit, Report};
use qgjob_core::model::selector::Target;
use qgjob_core::model::test_result::TryStatus;

use super::scene::{Scene, project_for};

const PASSES: &str = r#"require("appwright").test("passes", async () => {});"#;
const MUST_NOT_RUN: &str =
    r#"require("appwright").test("must not run", async () => { throw new Error("ran"); });"#;

#[tokio::test(flavor = "multi_thread")]
async fn trap_8_a_file_with_a_patterns_characters_is_the_only_one_that_runs() {
    let odd = "tests/(a)+ [1] $x^/b+.{1}|ü.spec.js";
    let scene = Scene::of(&[
        (odd, PASSES),
        ("tests/a+b.spec.js", PASSES),
        // Each would match if the name of one above were taken for a pattern.
        ("tests/aab.spec.js", MUST_NOT_RUN),
        ("tests/deep/tests/a+b.spec.js", MUST_NOT_RUN),
        ("tests/a+b.spec.js.spec.js", MUST_NOT_RUN),
    ])
    .await;
    for file in [odd, "tests/a+b.spec.js"] {
        let done = scene.run(file, |_| {}).await;
        let judged = scene.judge(file, &done, None);
        assert_eq!((judged.outcome, judged.tests.total), (Outcome::Passed, 1), "{file}: {judged:?} {done:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_9_the_project_is_chosen_by_the_device_and_named_in_two_words() {
    let scene = Scene::of(&[("tests/a.spec.js", PASSES)]).await;
    assert_eq!(project_for(&scene, "tests/a.spec.js", Target::Emulator).await.unwrap().name, "an emulator");
    let device = project_for(&scene, "tests/a.spec.js", Target::Device).await.unwrap();
    // AppWright's default, which would let a test hang for ever.
    assert_eq!((device.name.as_str(), device.timeout_ms), ("a device", 0));
    let refused = project_for(&scene, "tests/a.spec.js", Target::Browserstack).await.unwrap_err();
    assert!(refused.contains("browserstack") && refused.contains("\"a device\""), "{refused}");
    // AppWright's global setup finds the project, or it would refuse to run at all.
    assert_eq!(scene.run("tests/a.spec.js", |_| {}).await.exit, Exit::Code(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_10_a_test_without_a_limit_ends_and_is_not_retried_because_of_ci() {
    let file = "tests/hangs.spec.js";
    let hangs = r#"require("appwright").test("hangs", async () => { await new Promise(() => {}); });"#;
    let scene = Scene::of(&[(file, hangs)]).await;
    let done = scene.run(file, |plan| plan.timeout = Duration::from_secs(2)).await;
    // With CI set, AppWright's own default is two retries.
    let statuses: Vec<_> = done.tries.iter().map(|one| one.status).collect();
    assert_eq!(statuses, [TryStatus::TimedOut]);
    assert_eq!(scene.judge(file, &done, None).outcome, Outcome::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_html_report_is_neither_opened_nor_served() {
    let file = "tests/fails.spec.js";
    let scene = Scene::of(&[(
        file,
        r#"require("appwright").test("fails", async () => { throw new Error("no"); });"#,
    )])
    .await;
    let begun = Instant::now();
    let done = scene.run(file, |_| {}).await;
    assert!(
        begun.elapsed() < Duration::from_secs(45),
        "a served report would have kept it: {:?}",
        begun.elapsed()
    );
    assert_eq!(done.exit, Exit::Code(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_ansi_codes_are_in_no_error() {
    let file = "tests/fails.spec.js";
    let scene = Scene::of(&[(
        file,
        r#"const { test, expect } = require("appwright"); test("fails", async () => { expect({ a: 1 }).toEqual({ a: 2 }); });"#,
    )])
    .await;
    let done = scene
        .run(file, |plan| _ = plan.setting.env.insert("FORCE_COLOR".parse().unwrap(), "1".to_owned()))
        .await;
    let error = done.tries[0].error.as_deref().unwrap();
    assert!(error.contains("toEqual") && !error.contains('\u{1b}'), "{error:?}");
    // They were there: the report as Playwright wrote it has them.
    let report = done.artifacts.iter().find(|one| one.name == "report.json").unwrap();
    assert!(std::fs::read_to_string(&report.path).unwrap().contains("\\u001b["));
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_tests_written_in_a_shared_file_count_for_the_file_that_was_named() {
    let file = "tests/uses.spec.js";
    let scene = Scene::of(&[
        (file, r#"require("../shared/login").define("from the shared file");"#),
        (
            "shared/login.js",
            r#"exports.define = (title) => require("appwright").test(title, async () => {});"#,
        ),
    ])
    .await;
    let done = scene.run(file, |_| {}).await;
    let judged = scene.judge(file, &done, None);
    assert_eq!(judged.outcome, Outcome::Passed, "{judged:?} {done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_jobs_variables_reach_the_tests_but_cannot_touch_the_runner() {
    let file = "tests/env.spec.js";
    let scene = Scene::of(&[(
        file,
        r#"const { test, expect } = require("appwright");
        test("sees", async () => {
          expect(process.env.GIVEN).toBe("by the job");
          expect(process.env.CI).toBe("1");
          expect(process.env.QGJOB_UDID).toBe("SERIAL");
          expect(process.env.PLAYWRIGHT_JSON_OUTPUT_FILE).not.toBe("/nowhere/else.json");
          expect(process.env.CARGO_MANIFEST_DIR).toBe(undefined);
          expect(process.argv.join()).not.toContain("appium");
        });"#,
    )])
    .await;
    let done = scene
        .run(file, |plan| {
            for (name, value) in [
                ("GIVEN", "by the job"),
                ("CI", "no"),
                ("PLAYWRIGHT_JSON_OUTPUT_FILE", "/nowhere/else.json"),
                ("PW_TEST_REPORTER", "/nowhere/reporter.js"),
            ] {
                plan.setting.env.insert(name.parse().unwrap(), value.to_owned());
            }
        })
        .await;
    assert!(std::env::var("CARGO_MANIFEST_DIR").is_ok());
    assert!(matches!(done.report, Report::Read { .. }));
    let judged = scene.judge(file, &done, None);
    assert_eq!(judged.outcome, Outcome::Passed, "{judged:?} {:?}", done.tries);
}
