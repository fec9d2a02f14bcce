//! Real AppWright projects run through the agent's own chain: bundle, cache, working copy, Playwright, evidence,
//! verdict. Their tests use AppWright's `test`, but no device: what a phone adds is told elsewhere.

mod preparing;
mod reruns;
mod scene;
mod shards;
mod traps;

use std::time::{Duration, Instant};

use qgjob::agent::runner::Live;
use qgjob_core::model::attempt::Outcome;
use qgjob_core::model::evidence::{Exit, Report, Stop};
use qgjob_core::model::job::Reason;
use qgjob_core::model::test_result::{TestOutcome, TryStatus};

use scene::{Scene, alive};

#[tokio::test(flavor = "multi_thread")]
async fn a_passing_file_passes_and_is_told_live() {
    let scene = Scene::of(&[(
        "tests/pass.spec.js",
        r#"const { test, expect } = require("appwright");
        test.describe("outer", () => { test("inner", async () => { console.log("hello"); expect(1).toBe(1); }); });
        test("second", async () => {});"#,
    )])
    .await;
    let mut running = scene.start("tests/pass.spec.js", |_| {});
    let (mut begun, mut told, mut printed) = (None, Vec::new(), Vec::new());
    while let Some(live) = running.next().await {
        match live {
            Live::Begin { total } => begun = Some(total),
            Live::Try(one) => told.push(one),
            Live::Output(bytes) => printed.extend_from_slice(&bytes),
        }
    }
    let done = running.wait().await.unwrap();
    assert_eq!(begun, Some(2));
    assert_eq!(told, done.tries);
    assert_eq!(told[0].title, ["outer", "inner"]);
    assert_eq!((told[0].file.as_str(), told[0].line), ("tests/pass.spec.js", 2));
    assert!(String::from_utf8_lossy(&printed).contains("hello"));
    assert_eq!(done.exit, Exit::Code(0));
    let judged = scene.judge("tests/pass.spec.js", &done, None);
    assert_eq!((judged.outcome, judged.tests.passed), (Outcome::Passed, 2), "{judged:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_a_test_can_end_is_told_alike_live_and_in_the_report() {
    let file = "tests/matrix.spec.js";
    let scene = Scene::of(&[(
        file,
        r#"const { test, expect } = require("appwright");
        test("passes", async () => {});
        test("fails", async () => { expect("left").toBe("right"); });
        test("is flaky", async ({}, info) => { expect(info.retry).toBe(1); });
        test("times out", async () => { test.setTimeout(300); await new Promise(() => {}); });
        test.skip("is skipped", async () => {});
        test("skips itself", async () => { test.skip(true, "not today"); });
        test("fails as expected", async () => { test.fail(); expect(1).toBe(2); });
        test("ends its worker", async () => { process.exit(3); });"#,
    )])
    .await;
    let done = scene.run(file, |plan| plan.test_retries = 1).await;
    let Report::Read { tests, errors } = &done.report else { panic!("{:?}", done.report) };
    assert!(errors.is_empty(), "{errors:?}");
    for test in tests {
        let tries: Vec<_> = done.tries.iter().filter(|one| one.test_id == test.test_id).collect();
        assert_eq!(tries.len() as u32, test.tries, "{test:?}");
        assert_eq!(tries.last().unwrap().outcome, test.outcome, "{test:?}");
        assert_eq!((test.file.as_str(), tries[0].file.as_str()), (file, file));
    }
    let of = |title: &str| {
        let tries = done.tries.iter().filter(|one| one.title == [title]);
        tries.map(|one| (one.status, one.outcome)).collect::<Vec<_>>()
    };
    use TestOutcome::{Expected, Flaky, Skipped, Unexpected};
    assert_eq!(of("passes"), [(TryStatus::Passed, Expected)]);
    assert_eq!(of("fails"), [(TryStatus::Failed, Unexpected); 2]);
    assert_eq!(of("is flaky"), [(TryStatus::Failed, Unexpected), (TryStatus::Passed, Flaky)]);
    assert_eq!(of("times out"), [(TryStatus::TimedOut, Unexpected); 2]);
    assert_eq!(of("is skipped"), [(TryStatus::Skipped, Skipped)]);
    assert_eq!(of("skips itself"), [(TryStatus::Skipped, Skipped)]);
    assert_eq!(of("fails as expected"), [(TryStatus::Failed, Expected)]);
    assert_eq!(of("ends its worker"), [(TryStatus::Failed, Unexpected); 2]);
    let judged = scene.judge(file, &done, None);
    assert_eq!((judged.outcome, judged.reason), (Outcome::Failed, Reason::TestsFailed), "{judged:?}");
    let counts = (judged.tests.passed, judged.tests.failed, judged.tests.flaky, judged.tests.skipped);
    assert_eq!(counts, (2, 3, 1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_a_pass_is_none() {
    let scene = Scene::of(&[
        ("tests/flaky.spec.js", r#"const { test, expect } = require("appwright");
            test("flaky", async ({}, info) => { expect(info.retry).toBe(1); });"#),
        ("tests/skipped.spec.js", r#"require("appwright").test.skip("later", async () => {});"#),
        ("tests/empty.spec.js", r#"require("appwright");"#),
        ("tests/syntax.spec.js", r#"const { test } = require("appwright"); test("x", async () => {"#),
        ("tests/throws.spec.js", r#"require("appwright"); throw new Error("while loading");"#),
        ("tests/crash.spec.js", r#"const { test } = require("appwright");
            test("kills the runner", async () => { process.kill(process.ppid, "SIGKILL"); await new Promise(() => {}); });"#),
        ("tests/forged.spec.js", r#"const { test } = require("appwright");
            test("fails and hides it", async () => { process.on("exit", () => {}); throw new Error("no"); });
            test.afterAll(async () => { require("fs").writeFileSync(process.env.PLAYWRIGHT_JSON_OUTPUT_FILE, "{}"); });"#),
    ])
    .await;
    for (file, outcome, reason) in [
        ("tests/flaky.spec.js", Outcome::Failed, Reason::TestsFailed),
        ("tests/skipped.spec.js", Outcome::Skipped, Reason::TestsSkipped),
        ("tests/empty.spec.js", Outcome::Errored, Reason::NoTests),
        ("tests/syntax.spec.js", Outcome::Failed, Reason::LoadError),
        ("tests/throws.spec.js", Outcome::Failed, Reason::LoadError),
        ("tests/crash.spec.js", Outcome::Errored, Reason::RunnerCrashed),
        ("tests/forged.spec.js", Outcome::Failed, Reason::TestsFailed),
    ] {
        let done = scene.run(file, |_| {}).await;
        let judged = scene.judge(file, &done, None);
        assert_eq!((judged.outcome, judged.reason), (outcome, reason), "{file}: {judged:?} {done:?}");
        if let Report::Read { errors, .. } = &done.report {
            assert!(errors.iter().all(|error| !error.contains(['\u{1b}'])), "{errors:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_runner_reports_and_leaves_nothing_behind() {
    let file = "tests/hangs.spec.js";
    let scene = Scene::of(&[(
        file,
        r#"const { test } = require("appwright");
        test("passes first", async () => {});
        test("hangs", async () => {
          const child = require("child_process").spawn("sleep", ["300"], { detached: true, stdio: "ignore" });
          child.unref();
          console.log(`left:${child.pid}:left`);
          await new Promise(() => {});
        });"#,
    )])
    .await;
    let mut running = scene.start(file, |_| {});
    let mut printed = String::new();
    let left: i32 = loop {
        match running.next().await.expect("it hangs") {
            Live::Output(bytes) => printed.push_str(&String::from_utf8_lossy(&bytes)),
            Live::Begin { .. } | Live::Try(_) => {}
        }
        if let Some((_, rest)) = printed.split_once("left:")
            && let Some((pid, _)) = rest.split_once(":left")
        {
            break pid.parse().unwrap();
        }
    };
    assert!(alive(left));
    let asked = Instant::now();
    running.interrupt();
    let done = running.wait().await.unwrap();
    // Its grace is 10 s, and then it would be ended without a report.
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
    assert!(!alive(left), "a process in a group of its own was left");
    assert_eq!(done.exit, Exit::Code(130));
    let Report::Read { tests, .. } = &done.report else { panic!("{:?}", done.report) };
    assert_eq!(tests.len(), 2);
    assert_eq!(done.tries.last().unwrap().status, TryStatus::Interrupted);
    assert_eq!(scene.judge(file, &done, Some(Stop::Cancelled)).outcome, Outcome::Cancelled);
    assert_eq!(scene.judge(file, &done, Some(Stop::TimedOut)).outcome, Outcome::TimedOut);
    // And if nobody had stopped it, it would still be no pass.
    assert_eq!(scene.judge(file, &done, None).outcome, Outcome::Errored);
}

#[tokio::test(flavor = "multi_thread")]
async fn attachments_and_traces_are_kept() {
    let file = "tests/attach.spec.js";
    let scene = Scene::of(&[(
        file,
        r#"const { test, expect } = require("appwright");
        const fs = require("fs");
        test("attaches", async ({}, info) => {
          await info.attach("note", { body: "a note", contentType: "text/plain" });
          fs.writeFileSync(info.outputPath("log.txt"), "written");
          await info.attach("log", { path: info.outputPath("log.txt") });
          expect(1).toBe(2);
        });"#,
    )])
    .await;
    let done = scene.run(file, |_| {}).await;
    assert_eq!(done.artifacts_left_out, 0);
    let named = |name: &str| done.artifacts.iter().find(|one| one.name.ends_with(name));
    let read = |name: &str| {
        std::fs::read_to_string(&named(name).unwrap_or_else(|| panic!("{name}: {:?}", done.artifacts)).path)
            .unwrap()
    };
    assert_eq!(read("inline/001-note.txt"), "a note");
    assert_eq!(read("/log.txt"), "written");
    assert!(named("report.json").is_some_and(|report| report.media_type == "application/json"));
    assert!(named("error-context.md").is_some_and(|context| context.name.starts_with("results/")));
}
