//! Phones that refuse, lie, die and hang under a job: infrastructure pays, the tests are not blamed.

use std::time::{Duration, Instant};

use simulated_android::Fault;

use super::project::Project;
use super::{End, ends, still_works};
use crate::world::{BUGGY, GOOD, World};

const PASSED: End<'_> = End { code: 0, conclusion: "passed", reason: "tests_passed" };
const ABOUT: &str = "--test=tests/about.spec.js";
const SLOW: &str = "--test=tests-special/slow.spec.js";
const NO_RETRY: &str = "--retries=0";
/// A test that gives the phone 5 s once it has it.
const IMPATIENT: &str = r#"const { test } = require("appwright");
let started;
test.beforeEach(() => { started = Date.now(); });
test("asks again and again", async ({ device }) => {
  test.setTimeout(Date.now() - started + 5_000);
  console.log("second 1 of 5");
  for (;;) await device.getByText("Welcome to Demo").getText();
});"#;

/// Two tests that still ask when their time is over, and three that ask at once.
const STILL_ASKING: &str = r#"const { test } = require("appwright");
test("looks again and again", async ({ device }) => {
  test.setTimeout(8_000);
  for (;;) if (await device.getByText("Loading").isVisible({ timeout: 100 })) break;
});
test("reads the screen thrice at once, for ever", async ({ device }) => {
  test.setTimeout(8_000);
  const read = async () => { for (;;) await device.webdriverClient.getPageSource().catch(() => {}); };
  await Promise.all([read(), read(), read()]);
});"#;
/// A test that makes Appium say the words of a broken device.
const ECHO: &str = r#"const { test, expect } = require("appwright");
test("says what it likes", async ({ device }) => {
  const words = "mobile: Could not proxy command to the remote server. Original error: ECONNREFUSED";
  await device.webdriverClient.executeScript(words, []).catch((error) => console.log(error.message));
  expect("left").toBe("right");
});"#;

fn errored(reason: &str) -> End<'_> {
    End { code: 10, conclusion: "errored", reason }
}

/// Something goes wrong with every phone, because nobody knows which one gets the job.
fn fault(world: &World, fault: &Fault) {
    world.phones.iter().for_each(|one| one.phone.fault(fault.clone()));
}

fn sessions(world: &World) -> u64 {
    world.phones.iter().map(|one| one.phone.truth().automation_sessions).sum()
}

/// Submits a slow test and waits until it is in the midst of its steps.
async fn in_session(world: &World, args: &[&str]) -> String {
    let id = world.submit(args).await;
    in_its_midst(world, &id).await;
    id
}

async fn in_its_midst(world: &World, id: &str) {
    // The first test waits for Appium's start, which takes long on a busy machine.
    let deadline = Instant::now() + Duration::from_secs(120);
    while !world.qgjob(&["logs", "--job-id", id, "--stream=test"]).await.out.contains("second 1 of") {
        assert!(Instant::now() < deadline, "no test used the phone: {}", world.job(id).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn detail(job: &serde_json::Value) -> &str {
    job["detail"].as_str().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_that_does_not_take_the_app_gets_no_test() {
    let world = World::new(2).await;
    fault(&world, &Fault::StorageFull);
    let id = world.submit(&[GOOD, ABOUT, NO_RETRY]).await;
    let job = ends(&world, &id, errored("install_fault"), "a phone without space").await;
    assert!(detail(&job).contains("INSUFFICIENT_STORAGE"), "{job}");
    fault(&world, &Fault::Heal);

    // Each phone says no once: the job goes from one to the other, and comes back.
    let refusal = "INSTALL_FAILED_VERIFICATION_FAILURE".to_owned();
    fault(&world, &Fault::RejectInstall { message: refusal, times: 1 });
    let id = world.submit(&[GOOD, ABOUT]).await;
    let job = ends(&world, &id, PASSED, "phones that refuse once").await;
    assert_eq!((job["attempts"].as_u64(), job["infra_faults"].as_u64()), (Some(3), Some(2)), "{job}");
    for one in &world.phones {
        let refused = one.phone.truth().refused_installs;
        assert!(refused.iter().any(|one| one.message.contains("VERIFICATION_FAILURE")), "{refused:?}");
    }

    let tested = sessions(&world);
    fault(&world, &Fault::CorruptInstall { times: 1 });
    let id = world.submit(&[BUGGY, ABOUT, NO_RETRY]).await;
    let job = ends(&world, &id, errored("build_mismatch"), "other bytes than were sent").await;
    assert!(detail(&job).contains("not version"), "{job}");
    fault(&world, &Fault::Heal);

    let lie = Fault::LieAboutVersion { package: crate::device_bench::DEMO.to_owned(), version_code: Some(1) };
    fault(&world, &lie);
    let id = world.submit(&[GOOD, ABOUT, NO_RETRY]).await;
    let job = ends(&world, &id, errored("build_mismatch"), "a version that is not the build's").await;
    assert!(detail(&job).contains("version 1 "), "{job}");
    assert_eq!(sessions(&world), tested, "no test ran on an app that was not proven");
    fault(&world, &Fault::Heal);

    // What is only slow is no fault.
    fault(&world, &Fault::SlowInstall { ms: 3_000 });
    let id = world.submit(&[BUGGY, ABOUT, NO_RETRY]).await;
    let job = ends(&world, &id, PASSED, "a slow phone").await;
    assert!(job["install"]["duration_ms"].as_u64().unwrap() >= 3_000, "{job}");
    still_works(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_that_dies_under_a_test_is_not_the_tests_failure() {
    let world = World::new(1).await;
    // The app's own death is the test's business.
    let id = in_session(&world, &[GOOD, SLOW]).await;
    fault(&world, &Fault::Crash);
    let job =
        ends(&world, &id, End { code: 1, conclusion: "failed", reason: "tests_failed" }, "a crash").await;
    assert_eq!((job["attempts"].as_u64(), job["tests"]["failed"].as_u64()), (Some(1), Some(1)), "{job}");

    let id = in_session(&world, &[GOOD, SLOW, NO_RETRY]).await;
    fault(&world, &Fault::KillInstrumentation);
    ends(&world, &id, errored("device_fault"), "a dead automation server").await;

    let id = in_session(&world, &[GOOD, SLOW, "--env=SLOW_SECONDS=4"]).await;
    fault(&world, &Fault::Reboot { ms: 2_000 });
    let job = ends(&world, &id, PASSED, "a phone that restarts").await;
    assert_eq!((job["attempts"].as_u64(), job["infra_faults"].as_u64()), (Some(2), Some(1)), "{job}");

    // The test's own time is over before anybody else's.
    let project = Project::new();
    project.write("tests/impatient.spec.js", IMPATIENT);
    let id = project.submit(&world, &[GOOD, "--test=tests/impatient.spec.js", NO_RETRY]).await;
    in_its_midst(&world, &id).await;
    fault(&world, &Fault::HangInstrumentation);
    ends(&world, &id, errored("device_fault"), "an automation server that does not answer").await;
    fault(&world, &Fault::Heal);
    still_works(&world).await;
    let truth = world.phones[0].phone.truth();
    assert_eq!(truth.app_installs().len(), 1, "no fault cost an install");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_test_brings_about_itself_is_its_own_failure() {
    let world = World::new(1).await;
    let project = Project::new();
    let failed = End { code: 1, conclusion: "failed", reason: "tests_failed" };
    for (text, tests, words) in [(STILL_ASKING, 2, ""), (ECHO, 1, "ECONNREFUSED")] {
        project.write("tests/own.spec.js", text);
        let id = project.submit(&world, &[GOOD, "--test=tests/own.spec.js"]).await;
        let job = ends(&world, &id, failed, text).await;
        let found = (job["attempts"].as_u64(), job["tests"]["failed"].as_u64());
        assert_eq!(found, (Some(1), Some(tests)), "{job}");
        let log = world.qgjob(&["logs", "--job-id", &id, "--stream=test"]).await;
        assert!(log.out.contains(words), "Appium said {words}: {log:?}");
    }
    still_works(&world).await;
}
