//! A run that the step made before is its own only if it is about the bytes that are there now.

use std::path::{Path, PathBuf};

use super::runner::{Runner, Step};
use super::three_tests;
use crate::cli_story::agent::{FakeAgent, Play};
use crate::cli_story::desk::{Desk, altered_apk};

const APK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/demo.apk");

/// A step that uploads an app, and where that is: beside the project, as what a build leaves.
fn with_app(desk: &Desk) -> (Runner, PathBuf) {
    let app = desk.project().parent().unwrap().join("app.apk");
    std::fs::copy(APK, &app).unwrap();
    (three_tests(desk).with("app", app.to_str().unwrap()), app)
}

/// The step came to no verdict, and says why; what follows it leaves the runs of others alone.
async fn assert_conflict(runner: &Runner, step: &Step, said: &str) {
    assert_eq!((step.code, step.output("conclusion"), step.output("run-id")), (6, "", ""), "{}", step.log);
    let errors = step.errors();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].title.contains(said) && !errors[0].message.is_empty(), "{errors:?}");
    let post = runner.post(step).await;
    assert!(post.code == 0 && post.log.contains("Nothing was left behind."), "{}", post.log);
}

async fn runs(desk: &Desk) -> usize {
    desk.qgjob(&["run", "list", "-o", "name"]).await.out.lines().count()
}

fn build_anew(app: &Path) {
    altered_apk(APK, app);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_attempt_with_other_bytes_is_not_judged_by_the_run_before() {
    let desk = Desk::new().await;
    let (runner, app) = with_app(&desk);
    let play = |test: &str| match test {
        "tests/login.spec.js" => Play::Fails("Error: no"),
        _ => Play::Passes,
    };
    let agent = FakeAgent::start(&desk, &["p1"], play).await;
    let first = runner.main().await;
    assert_eq!((first.code, first.output("failed")), (1, "1"), "{}", first.log);
    agent.stop().await;
    // All would pass now.
    let agent = FakeAgent::start(&desk, &["p2"], |_| Play::Passes).await;
    build_anew(&app);
    let runner = runner.attempt(2);
    let second = runner.main().await;
    assert_conflict(&runner, &second, "app version xyz123 is bound to another build").await;
    assert_eq!(runs(&desk).await, 1, "nothing was repeated");
    // With the bytes of the first attempt it is.
    std::fs::copy(APK, &app).unwrap();
    let again = runner.main().await;
    assert!(again.code == 0 && again.log.contains("Repeating 1 job of "), "{}", again.log);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_is_started_again_with_another_app_does_not_go_on() {
    let desk = Desk::new().await;
    let (runner, app) = with_app(&desk);
    let running = runner.start();
    running.says("waiting for a device").await;
    let run = running.output("run-id").unwrap();
    running.lose().await;
    build_anew(&app);
    let again = runner.main().await;
    assert_conflict(&runner, &again, "app version xyz123 is bound to another build").await;
    // It may be that of another call of the same workflow, which waits for it.
    let view = desk.qgjob(&["run", "view", &run, "-o", "json"]).await.json();
    assert_eq!(view["status"], "queued");
    std::fs::copy(APK, &app).unwrap();
    let agent = FakeAgent::start(&desk, &["p1"], |_| Play::Passes).await;
    let same = runner.main().await;
    assert_eq!((same.code, same.output("run-id")), (0, run.as_str()), "{}", same.log);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_another_project_is_not_gone_on_with_and_not_repeated() {
    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    let play = |test: &str| match test {
        "tests/login.spec.js" => Play::Fails("Error: no"),
        _ => Play::Passes,
    };
    let agent = FakeAgent::start(&desk, &["p1"], play).await;
    let runner = three_tests(&desk);
    let first = runner.main().await;
    assert_eq!(first.code, 1, "{}", first.log);
    std::fs::write(desk.project().join("tests/cart.spec.js"), "// another test\n").unwrap();
    let again = runner.main().await;
    assert_conflict(&runner, &again, "of another project").await;
    assert!(again.errors()[0].message.contains("name"), "{:?}", again.errors());
    let named = runner.clone().with("name", "second call").main().await;
    assert_eq!((named.code, named.output("failed")), (1, "1"), "{}", named.log);
    agent.stop().await;
    // Tests that passed in another form prove nothing: all of them are run.
    let agent = FakeAgent::start(&desk, &["p2"], |_| Play::Passes).await;
    let second = runner.attempt(2).main().await;
    assert!(second.log.contains("Submitting all of it: "), "{}", second.log);
    let view = desk.qgjob(&["run", "view", second.output("run-id"), "-o", "json"]).await.json();
    assert_eq!((second.code, &view["jobs"]["total"]), (0, &3.into()), "{view}");
    agent.stop().await;
}
