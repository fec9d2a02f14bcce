//! Running again what failed, and two runs side by side.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use serde_json::json;

use super::agent::{FakeAgent, Play};
use super::desk::{Desk, redact};

const SUBMIT: &[&str] = &[
    "submit",
    "--org-id=qualgent",
    "--app-version-id=xyz123",
    "--test=tests/login.spec.js",
    "--test=tests/cart.spec.js",
    "--wait",
    "-o",
    "name",
];

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_run_again_and_held_against_the_run_before() {
    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    let is_fixed = Arc::new(AtomicBool::new(false));
    let fixed = Arc::clone(&is_fixed);
    let agent = FakeAgent::start(&desk, &["p1"], move |test| {
        let fails = test.contains("login") && !fixed.load(Ordering::Relaxed);
        if fails { Play::Fails("expected 'Hello' to be 'Bye'") } else { Play::Passes }
    })
    .await;
    let done = desk.qgjob(SUBMIT).await;
    assert_eq!(done.code, 1, "{done:?}");
    let before = desk.qgjob(&["run", "list", "-o", "name"]).await.out.trim().to_owned();

    let failing = desk.qgjob(&["retry", "--failed", "--run-id", &before, "--watch", "-o", "json"]).await;
    assert_eq!(failing.code, 1, "{failing:?}");
    let told = failing.json();
    let counts = |passed, failed| json!({"total": passed + failed, "passed": passed, "failed": failed, "flaky": 0, "skipped": 0});
    assert_eq!(
        (&told["rerun_of"], &told["tests"], &told["carried"]),
        (&json!(before), &counts(1, 1), &counts(1, 0))
    );
    assert_eq!(told["job_list"].as_array().unwrap().len(), 1);

    is_fixed.store(true, Ordering::Relaxed);
    let again = desk.qgjob(&["run", "rerun-failed", "--run-id", &before, "--watch"]).await;
    assert_eq!(again.code, 0, "{again:?}");
    let list = desk.qgjob(&["run", "list", "--limit=1", "-o", "name"]).await;
    let after = list.out.trim();
    let view = desk.qgjob(&["run", "view", after]).await;
    let line = view.out.lines().find(|line| line.contains("rerun of")).expect("it says what it is");
    assert_eq!(redact(line).trim(), "rerun of run_ID · carried from it: 1 passed · of 2 tests: 2 passed");
    assert!(view.out.contains("tests/login.spec.js (1 test)"), "{view:?}");

    for words in [&["run", "rerun-failed", after][..], &["retry", "--failed", "--run-id", after]] {
        let nothing = desk.qgjob(words).await;
        assert_eq!(nothing.code, 6, "{nothing:?}");
        assert!(nothing.err.contains("nothing failed in run"), "{nothing:?}");
    }
    let jobs = desk.qgjob(&["list", "--conclusion=failed", "--limit=1", "-o", "name"]).await;
    let job = desk.qgjob(&["retry", "--failed", jobs.out.trim()]).await;
    assert_eq!(job.code, 2, "{job:?}");
    assert!(job.err.contains("--failed is for one run"), "{job:?}");

    let compared = desk.qgjob(&["run", "compare", &before, after]).await;
    assert_eq!(compared.code, 0, "{compared:?}");
    insta::assert_snapshot!(redact(&compared.out), @r"
    before  run_ID failed: 2 tests, 1 failed
    after   run_ID passed: 2 tests, 0 failed

    fixed (1)
    TEST             BEFORE  AFTER   PLACE
    suite › does it  failed  passed  tests/login.spec.js:3
    ");
    let worse = desk.qgjob(&["run", "compare", after, &before, "-o", "json"]).await;
    assert_eq!(worse.code, 1, "{worse:?}");
    let worse = worse.json();
    assert_eq!(worse["schema"], "qgjob.comparison/v1");
    assert_eq!(worse["new_failures"][0]["file"], "tests/login.spec.js");
    let kinds = ["fixed", "still_failing", "flaky", "only_before", "only_after"];
    assert!(kinds.iter().all(|kind| worse[kind] == json!([])), "{worse}");
    agent.stop().await;
    let open = desk.qgjob(&[&SUBMIT[..5], &["-o", "json"]].concat()).await.json();
    let open = open["run_id"].as_str().unwrap();
    for words in [&["run", "compare", after, open][..], &["run", "rerun-failed", open]] {
        let refused = desk.qgjob(words).await;
        assert_eq!(refused.code, 6, "{refused:?}");
        assert!(refused.err.contains("queued"), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rerun_is_held_to_the_full_set() {
    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    let login = Arc::new(AtomicU8::new(0));
    let now = Arc::clone(&login);
    let agent = FakeAgent::start(&desk, &["p1"], move |test| match now.load(Ordering::Relaxed) {
        _ if test.contains("cart") => Play::Flaky,
        0 => Play::Fails("expected 'Hello' to be 'Bye'"),
        1 => Play::NoTests,
        _ => Play::Passes,
    })
    .await;
    assert_eq!(desk.qgjob(SUBMIT).await.code, 1);
    let before = desk.qgjob(&["run", "list", "-o", "name"]).await.out.trim().to_owned();
    let rerun = ["run", "rerun-failed", &before, "--watch"];
    // What had failed is not there any more: that is no lack of tests.
    login.store(1, Ordering::Relaxed);
    let gone = desk.qgjob(&[&rerun[..], &["--allow-no-tests"]].concat()).await;
    assert_eq!(gone.code, 1, "{gone:?}");
    // The flaky test is carried.
    login.store(2, Ordering::Relaxed);
    let strict = desk.qgjob(&[&rerun[..], &["--fail-on-flaky"]].concat()).await;
    assert_eq!(strict.code, 1, "{strict:?}");
    let lenient = desk.qgjob(&rerun).await;
    assert_eq!(lenient.code, 0, "{lenient:?}");
    agent.stop().await;
}
