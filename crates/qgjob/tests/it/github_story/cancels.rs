//! A workflow is cancelled at six points of a run's life: each time the run is cancelled on the server while the runner still
//! waits, no process is left behind, and the phones are free again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use simulated_android::Fault;

use super::runner::{Runner, Running, Step};
use super::three_tests;
use crate::cli_story::desk::Desk;
use crate::proxy::{Fate, Proxy};
use crate::world::{GOOD, ORG, World, apk, example};

/// How often each point is tried: once, or as often as `QGJOB_TRIALS` says.
fn trials() -> usize {
    std::env::var("QGJOB_TRIALS").map_or(1, |text| text.parse().unwrap())
}

/// Cancels, and checks what is true of every cancel.
async fn cancel(runner: &Runner, running: Running, point: &str) -> Step {
    let step = running.cancel().await;
    assert_eq!(step.code, 130, "{point}: {}", step.log);
    assert!(!step.console.is_stopped() && step.console.annotations.is_empty(), "{point}: {}", step.log);
    assert_eq!(runner.orphans(), Vec::<String>::new(), "{point}");
    println!("{point}: ended {} ms after SIGINT", step.cancelled_in.as_millis());
    step
}

/// The runs of the step's key, as a command for people lists them.
fn of_key(list: &Value, step: &Step) -> Vec<Value> {
    let all = list["items"].as_array().unwrap().iter();
    all.filter(|run| run["idempotency_key"] == *step.state["key"]).cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn before_during_and_after_the_creation() {
    let desk = Desk::new().await;
    for trial in 0..trials() {
        for (point, held, said) in [
            ("before create", "POST /api/v1/uploads", "nothing was submitted"),
            ("during create", "POST /api/v1/runs", "cancelled what is being submitted with the key github-"),
            ("queued", "no such call", "cancelled run_"),
        ] {
            let proxy = Proxy::start(&desk.address, move |call| {
                match format!("{} {}", call.method, call.path).ends_with(held) {
                    true => Fate::Unanswered,
                    false => Fate::Passes,
                }
            })
            .await;
            let runner = three_tests(&desk)
                .with("server", &proxy.url)
                .with("token", &desk.admin_token())
                .matrix(&format!("{{\"trial\":\"{point} {trial}\"}}"));
            let running = runner.start();
            match point {
                "before create" => proxy.is_asked_for(held).await,
                "during create" => proxy.has_answered(held).await,
                _ => running.says("waiting for a device").await,
            }
            let step = cancel(&runner, running, point).await;
            assert!(step.log.contains(said), "{point}: {}", step.log);
            let list = desk.qgjob(&["run", "list", "--limit=200", "-o", "json"]).await.json();
            let runs = of_key(&list, &step);
            let made = usize::from(point != "before create");
            assert_eq!(runs.len(), made, "{point}");
            assert!(runs.iter().all(|run| run["conclusion"] == "cancelled"), "{point}: {runs:?}");
            if point == "queued" {
                assert_eq!(step.output("conclusion"), "cancelled");
            }
            let post = runner.post(&step).await;
            assert_eq!(post.code, 0, "{point}: {}", post.log);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_is_killed_leaves_its_run_to_the_post_step() {
    let desk = Desk::new().await;
    let runner = three_tests(&desk);
    let running = runner.start();
    running.says("waiting for a device").await;
    let step = running.lose().await;
    let run = step.output("run-id").to_owned();
    let view = desk.qgjob(&["run", "view", &run, "-o", "json"]).await.json();
    assert_eq!(view["status"], "queued", "nobody was told");
    let post = runner.post(&step).await;
    assert_eq!(post.code, 0, "{}", post.log);
    let view = desk.qgjob(&["run", "view", &run, "-o", "json"]).await.json();
    assert_eq!(view["conclusion"], "cancelled");
    // Another attempt of the workflow run begins anew.
    let again = runner.attempt(2).start();
    again.says("waiting for a device").await;
    assert_ne!(again.output("run-id").unwrap(), run);
    again.cancel().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_that_is_gone_keeps_no_run_going() {
    let mut desk = Desk::new().await;
    let mut runner = three_tests(&desk).with("project-dir", "project");
    runner.workspace = desk.project().parent().unwrap().to_owned();
    let running = runner.start();
    running.says("waiting for a device").await;
    let step = running.lose().await;
    std::fs::remove_dir_all(desk.project()).unwrap();
    let post = runner.post(&step).await;
    assert_eq!(post.code, 0, "{}", post.log);
    std::fs::create_dir(desk.project()).unwrap();
    let view = desk.qgjob(&["run", "view", step.output("run-id"), "-o", "json"]).await.json();
    assert_eq!(view["conclusion"], "cancelled");
    // Whatever keeps it from cancelling, it tells how to.
    let way = format!("qgjob cancel --org-id=qualgent --idempotency-key={}", step.state["key"]);
    let misled = runner.clone().with("server", "nowhere").post(&step).await;
    assert!(misled.code == 2 && misled.errors()[0].message.contains(&way), "{}", misled.log);
    desk.kill_server();
    let away = runner.post(&step).await;
    assert!(away.code == 14 && away.errors()[0].message.contains(&way), "{}", away.log);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_phone_installs_tests_and_uploads() {
    let mut world = World::without_agent(1).await;
    let app = apk("1.4.2");
    assert_eq!(world.qgjob(&["app", "upload", ORG, GOOD, app.to_str().unwrap()]).await.code, 0);
    // Between agent and server, where files can be held back.
    let held = Arc::new(AtomicBool::new(false));
    let rule = Arc::clone(&held);
    let address = world.url().trim_start_matches("http://").to_owned();
    let between = Proxy::start(&address, move |call| {
        match rule.load(Ordering::SeqCst) && call.path.contains("/artifacts") {
            true => Fate::Late(Duration::from_secs(600)),
            false => Fate::Passes,
        }
    })
    .await;
    world.start_agent_for(&between.url);
    world.wait_for_phones(1).await;
    for trial in 0..trials() {
        for (point, phase, test) in [
            ("installing", "installing", "tests/onboarding.spec.js"),
            ("testing", "testing", "tests-special/timeout.spec.js"),
            ("uploading", "uploading", "tests/onboarding.spec.js"),
        ] {
            held.store(point == "uploading", Ordering::SeqCst);
            let slow = if point == "installing" { 60_000 } else { 0 };
            world.phone("phone-1").fault(Fault::SlowInstall { ms: slow });
            let home = world.bench.path("config");
            let runner = Runner::new(&example(), &home)
                .with("server", &world.url())
                .with("token", &world.token())
                .with("org-id", "qualgent")
                .with("app-version-id", GOOD.split_once('=').unwrap().1)
                .with("test", test)
                .with("reset", if point == "installing" { "reinstall" } else { "clear-data" })
                .matrix(&format!("{{\"trial\":\"{point} {trial}\"}}"));
            let running = runner.start();
            running.says("waiting for a device").await;
            world.wait_for_phase(&running.output("job-id").unwrap(), phase).await;
            let step = cancel(&runner, running, point).await;
            assert!(step.log.contains("cancelled run_"), "{point}: {}", step.log);
            let view = world.qgjob(&["run", "view", step.output("run-id"), "-o", "json"]).await.json();
            assert_eq!(view["conclusion"], "cancelled", "{point}");
            assert_eq!(runner.post(&step).await.code, 0);
            held.store(false, Ordering::SeqCst);
            world.phone("phone-1").fault(Fault::Heal);
            world.wait_for_phones(1).await;
        }
    }
}
