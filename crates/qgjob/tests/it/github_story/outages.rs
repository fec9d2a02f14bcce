//! Servers that are away, runners that are started again.

use super::three_tests;
use crate::cli_story::agent::{FakeAgent, Play};
use crate::cli_story::desk::Desk;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down_makes_no_green_step() {
    let mut desk = Desk::new().await;
    desk.kill_server();
    let runner = three_tests(&desk);
    let step = runner.main().await;
    assert_eq!((step.code, step.output("conclusion")), (14, ""), "{}", step.log);
    let errors = step.errors();
    assert_eq!(errors.len(), 1);
    assert!(errors[0].title.contains("cannot reach the server"), "{errors:?}");
    assert!(step.summary.as_ref().unwrap().contains("cannot reach the server"));
    // It cannot be told whether a run was made.
    let post = runner.post(&step).await;
    assert_eq!(post.code, 14, "{}", post.log);
    assert!(post.errors()[0].message.contains("qgjob cancel"), "{:?}", post.errors());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_meanwhile_costs_nothing() {
    let mut desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    let running = three_tests(&desk).start();
    running.says("waiting for a device").await;
    desk.kill_server();
    desk.start_server().await;
    let agent = FakeAgent::start(&desk, &["p1"], |_| Play::Passes).await;
    let step = running.done().await;
    assert_eq!(
        (step.code, step.output("conclusion"), step.output("passed")),
        (0, "passed", "3"),
        "{}",
        step.log
    );
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stays_away_makes_no_green_step() {
    let mut desk = Desk::new().await;
    let runner = three_tests(&desk).with("reconnect-timeout", "2s");
    let running = runner.start();
    running.says("waiting for a device").await;
    let run = running.output("run-id").expect("it is set as soon as the run exists");
    desk.kill_server();
    let step = running.done().await;
    assert_eq!((step.code, step.output("conclusion")), (14, ""), "{}", step.log);
    assert_eq!((step.output("run-id"), step.output("status")), (run.as_str(), "queued"));
    assert_eq!(step.errors().len(), 1);
    // The run was given up, so the next step ends it, by its key.
    desk.start_server().await;
    assert_eq!(runner.post(&step).await.code, 0);
    let view = desk.qgjob(&["run", "view", &run, "-o", "json"]).await.json();
    assert_eq!(view["conclusion"], "cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_is_started_again_finds_its_run() {
    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    let runner = three_tests(&desk);
    let running = runner.start();
    running.says("waiting for a device").await;
    let run = running.output("run-id").unwrap();
    // As when the machine is lost: nobody cancels.
    running.lose().await;
    let agent = FakeAgent::start(&desk, &["p1"], |_| Play::Passes).await;
    let again = runner.main().await;
    assert_eq!((again.code, again.output("run-id"), again.output("conclusion")), (0, run.as_str(), "passed"));
    let runs = desk.qgjob(&["run", "list", "-o", "name"]).await;
    assert_eq!(runs.out.lines().count(), 1, "{runs:?}");
    agent.stop().await;
}
