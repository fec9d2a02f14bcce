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

#[tokio::test(flavor = "multi_thread")]
async fn another_attempt_repeats_only_what_did_not_pass() {
    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    let play = |test: &str| match test {
        "tests/login.spec.js" => Play::Fails("Error: no"),
        _ => Play::Passes,
    };
    let agent = FakeAgent::start(&desk, &["p1"], play).await;
    let first = three_tests(&desk).main().await;
    assert_eq!((first.code, first.output("failed"), first.output("total")), (1, "1", "3"), "{}", first.log);
    agent.stop().await;
    let agent = FakeAgent::start(&desk, &["p2"], |_| Play::Passes).await;
    let second = three_tests(&desk).attempt(2).main().await;
    let told = ["conclusion", "passed", "failed", "total"].map(|name| second.output(name));
    assert_eq!((second.code, told), (0, ["passed", "3", "0", "3"]), "{}", second.log);
    assert!(second.log.contains(&format!("Repeating 1 job of {}", first.output("run-id"))), "{}", second.log);
    let view = desk.qgjob(&["run", "view", second.output("run-id"), "-o", "json"]).await.json();
    assert_eq!((&view["rerun_of"], &view["jobs"]["total"]), (&first.output("run-id").into(), &1.into()));
    // A runner that is started again in the same attempt finds that run, too.
    let again = three_tests(&desk).attempt(2).main().await;
    assert_eq!((again.code, again.output("run-id")), (0, second.output("run-id")), "{}", again.log);
    // Nothing of it failed, so all is run; and so it is where that is asked for.
    let third = three_tests(&desk).attempt(3).main().await;
    assert!(third.code == 0 && third.log.contains("Submitting all of it: nothing failed"), "{}", third.log);
    let all = three_tests(&desk).attempt(2).with("rerun", "all").matrix("1").main().await;
    assert_eq!((all.code, all.output("passed")), (0, "3"), "{}", all.log);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_an_earlier_attempt_left_is_ended_and_repeated() {
    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    let running = three_tests(&desk).start();
    running.says("waiting for a device").await;
    let left = running.output("run-id").unwrap();
    running.lose().await;
    let agent = FakeAgent::start(&desk, &["p1"], |_| Play::Passes).await;
    // The second attempt was cancelled before it made a run.
    let step = three_tests(&desk).attempt(3).main().await;
    assert_eq!(
        (step.code, step.output("conclusion"), step.output("passed")),
        (0, "passed", "3"),
        "{}",
        step.log
    );
    let view = desk.qgjob(&["run", "view", &left, "-o", "json"]).await.json();
    assert_eq!(view["status"], "completed");
    assert_ne!(step.output("run-id"), left);
    agent.stop().await;
}
