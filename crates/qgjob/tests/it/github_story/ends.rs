//! How runs end, and what the workflow is told.

use std::path::Path;

use serde_json::{Value, json};

use super::runner::Step;
use super::three_tests;
use crate::cli_story::agent::{FakeAgent, Play};
use crate::cli_story::desk::Desk;

/// What must come of a step: exit code, conclusion, passed, failed, flaky, skipped, errors, warnings.
fn assert_end(step: &Step, code: i32, conclusion: &str, tests: [u32; 4], annotations: [usize; 2]) {
    assert_eq!(step.code, code, "{}", step.log);
    assert_eq!(step.is_green(), code == 0);
    assert_eq!((step.output("conclusion"), step.output("status")), (conclusion, "completed"), "{step:#?}");
    let counted =
        ["passed", "failed", "flaky", "skipped"].map(|name| step.output(name).parse::<u32>().unwrap());
    assert_eq!(counted, tests);
    assert_eq!(step.output("total"), tests.iter().sum::<u32>().to_string());
    assert_eq!([step.errors().len(), step.warnings().len()], annotations, "{:#?}", step.console.annotations);
    let summary = step.summary.as_ref().expect("there is a summary");
    assert!(summary.starts_with("## ") && summary.lines().next().unwrap().contains(conclusion), "{summary}");
    assert!(!step.console.is_stopped() && !step.meddled, "{}", step.log);
}

#[tokio::test(flavor = "multi_thread")]
async fn passed_tests_make_the_step_green() {
    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    let agent = FakeAgent::start(&desk, &["p1"], |_| Play::Passes).await;
    let runner = three_tests(&desk);
    let step = runner.main().await;
    assert_end(&step, 0, "passed", [3, 0, 0, 0], [0, 0]);
    assert!(step.output("run-id").starts_with("run_") && step.output("job-id").is_empty());
    assert_eq!(step.output("url"), format!("http://{}/api/v1/runs/{}", desk.address, step.output("run-id")));
    assert_eq!((step.output("installs"), step.output("installs-avoided")), ("1", "2"));
    let results: Value = serde_json::from_str(step.output("results")).unwrap();
    assert_eq!((results["tests"].as_array().unwrap().len(), &results["left_out"]), (3, &json!(0)));
    let junit = std::fs::read_to_string(step.output("junit-path")).unwrap();
    assert!(junit.contains("<testsuites") && junit.matches("<testcase").count() == 3, "{junit}");
    assert_eq!(step.output("artifacts-path"), "", "files are for failures");
    // Folded: what leads to the result. Not folded: the result.
    let groups: Vec<_> = step.log.lines().filter(|line| line.starts_with('▼')).collect();
    assert_eq!(groups, ["▼ qgjob submit", &format!("▼ qgjob: what happens in {}", step.output("run-id"))]);
    assert!(step.log.contains("Project bundle") && step.log.contains("TEST FILE"), "{}", step.log);
    let labels = &desk.qgjob(&["run", "view", step.output("run-id"), "-o", "json"]).await.json()["labels"];
    assert_eq!((&labels["github.run_id"], &labels["github.ref"]), (&json!("9001"), &json!("main")));
    let post = runner.post(&step).await;
    assert_eq!(post.code, 0, "{}", post.log);
    assert!(post.log.contains("Nothing was left behind."), "{}", post.log);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_tests_are_shown_at_their_lines_in_the_repository() {
    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    let play = |test: &str| match test {
        "tests/cart.spec.js" => Play::Passes,
        "tests/login.spec.js" => Play::Fails("Error: expected 1, got 2\n    at login.spec.js:3"),
        _ => Play::Flaky,
    };
    let agent = FakeAgent::start(&desk, &["p1"], play).await;
    // The project is in a folder of the repository.
    let mut runner = three_tests(&desk).with("project-dir", "project");
    runner.workspace = desk.project().parent().unwrap().to_owned();
    let runner = runner.clone().env("GITHUB_WORKSPACE", runner.workspace.to_str().unwrap());
    let step = runner.with("junit", "results/junit.xml").main().await;
    assert_end(&step, 1, "failed", [1, 1, 1, 0], [1, 1]);
    let root = desk.project().parent().unwrap().canonicalize().unwrap();
    assert_eq!(Path::new(step.output("junit-path")).canonicalize().unwrap(), root.join("results/junit.xml"));
    let junit = std::fs::read_to_string(step.output("junit-path")).unwrap();
    assert!(junit.contains("expected 1, got 2"), "{junit}");
    assert!(files_below(Path::new(step.output("artifacts-path"))) >= 3, "{}", step.output("artifacts-path"));
    let error = step.errors()[0];
    assert_eq!((error.file.as_deref(), error.line), (Some("project/tests/login.spec.js"), Some(3)));
    assert_eq!(error.title, "suite › does it");
    assert!(
        error.message.starts_with("Error: expected 1, got 2\n    at login.spec.js:3\n\non p1 (job_"),
        "{error:?}"
    );
    let flaky = step.warnings()[0];
    assert_eq!(flaky.file.as_deref(), Some("project/tests/onboarding.spec.js"));
    assert!(flaky.title.starts_with("flaky: ") && flaky.message.starts_with("Error: not yet"), "{flaky:?}");
    assert!(step.summary.unwrap().contains("expected 1, got 2"));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flaky_test_is_green_unless_that_is_not_wanted() {
    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    let agent = FakeAgent::start(&desk, &["p1"], |_| Play::Flaky).await;
    let runner = three_tests(&desk).with("test", "tests/login.spec.js");
    let step = runner.main().await;
    assert_end(&step, 0, "passed", [0, 0, 1, 0], [0, 1]);
    assert!(step.output("job-id").starts_with("job_"));
    // Another matrix makes another run of the same step.
    let strict = runner.matrix("{\"os\":\"14\"}").with("fail-on-flaky", "true").main().await;
    assert_ne!(strict.output("run-id"), step.output("run-id"));
    assert_end(&strict, 1, "passed", [0, 0, 1, 0], [1, 1]);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn infrastructure_is_told_apart_from_tests() {
    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    let play = |test: &str| match test {
        "tests/cart.spec.js" => Play::Faults("device_fault"),
        _ => Play::Passes,
    };
    let agent = FakeAgent::start(&desk, &["p1"], play).await;
    let step = three_tests(&desk).with("retries", "0").main().await;
    assert_end(&step, 10, "errored", [2, 0, 0, 0], [1, 0]);
    let error = step.errors()[0];
    assert_eq!(error.file.as_deref(), Some("tests/cart.spec.js"));
    assert!(
        error.message.contains("device_fault") && error.message.contains("the cable fell out"),
        "{error:?}"
    );
    assert!(error.message.contains("qgjob explain job_"), "{error:?}");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_no_device_took_in_time_is_no_pass() {
    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    let step =
        three_tests(&desk).with("queue-timeout", "1s").with("test", "tests/login.spec.js").main().await;
    assert_end(&step, 11, "errored", [0, 0, 0, 0], [1, 0]);
    assert!(step.errors()[0].message.contains("queue_deadline"), "{:?}", step.errors());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_test_is_no_pass() {
    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    let agent = FakeAgent::start(&desk, &["p1"], |_| Play::NoTests).await;
    let step = three_tests(&desk).with("test", "tests/login.spec.js").main().await;
    assert_end(&step, 3, "errored", [0, 0, 0, 0], [1, 0]);
    agent.stop().await;

    let nothing = three_tests(&desk).with("test", "tests/nothing-*.spec.js").main().await;
    assert_eq!((nothing.code, nothing.output("conclusion")), (3, ""), "{}", nothing.log);
    assert_eq!(nothing.errors().len(), 1);
    assert!(nothing.summary.unwrap().contains("came to no verdict"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_input_is_named() {
    let desk = Desk::new().await;
    for (name, value, said) in [
        ("priority", "11", "the input priority cannot be \"11\""),
        ("timeout", "30", "the input timeout cannot be \"30\""),
        ("mode", "later", "the input mode cannot be \"later\""),
        ("summary", "yes", "the input summary cannot be \"yes\""),
        ("env", "NOVALUE", "the input env cannot be \"NOVALUE\""),
        ("project-dir", "nowhere", "the input project-dir cannot be \"nowhere\""),
        ("artifacts", "some", "the input artifacts cannot be \"some\""),
        ("rerun", "none", "the input rerun cannot be \"none\""),
        ("log-level", "loud", "the input log-level cannot be \"loud\""),
        ("test", "tests/logn.spec.js", "there is no test file \"tests/logn.spec.js\""),
    ] {
        let step = three_tests(&desk).with(name, value).main().await;
        assert_eq!(step.code, 2, "{name}: {}", step.log);
        let errors = step.errors();
        assert_eq!(errors.len(), 1, "{name}: {errors:?}");
        assert!(errors[0].title.contains(said), "{name}: {errors:?}");
        assert!(!errors[0].message.is_empty() && step.outputs.is_empty(), "{name}: {step:?}");
    }
    // Without a binary nothing is started, and the error says what to do.
    let missing = three_tests(&desk).with("binary", "no/such/qgjob").main().await;
    assert_eq!((missing.code, missing.errors().len()), (2, 1));
    assert!(missing.errors()[0].message.contains("no/such/qgjob"), "{:?}", missing.errors());
    let nowhere = three_tests(&desk).with("binary", "").env("PATH", &node_alone(&desk)).main().await;
    assert_eq!(nowhere.code, 2);
    assert!(nowhere.errors()[0].message.contains("cargo install"), "{:?}", nowhere.errors());
    assert_eq!(three_tests(&desk).post(&nowhere).await.code, 0);
    assert_eq!(desk.qgjob(&["list", "-o", "name"]).await.out, "", "nothing was submitted");
}

fn files_below(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { files_below(&path) } else { 1 }).sum()
}

/// A PATH with node on it and nothing else.
fn node_alone(desk: &Desk) -> String {
    let node = std::process::Command::new("node").args(["-p", "process.execPath"]).output().unwrap();
    let dir = desk.project().join("../only-node");
    std::fs::create_dir(&dir).unwrap();
    std::os::unix::fs::symlink(String::from_utf8(node.stdout).unwrap().trim(), dir.join("node")).unwrap();
    dir.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mode_async_says_nothing_about_tests() {
    let desk = Desk::new().await;
    let runner = three_tests(&desk).with("mode", "async");
    let step = runner.main().await;
    assert_eq!(
        (step.code, step.output("status"), step.output("conclusion")),
        (0, "queued", ""),
        "{}",
        step.log
    );
    // What is not waited for is not cancelled either.
    assert_eq!(runner.post(&step).await.code, 0);
    let run = desk.qgjob(&["run", "view", step.output("run-id"), "-o", "json"]).await.json();
    assert_eq!(run["status"], "queued");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_among_the_inputs_is_used_and_hidden() {
    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    let agent = FakeAgent::start(&desk, &["p1"], |_| Play::Passes).await;
    let stranger = tempfile::tempdir().unwrap();
    let without = three_tests(&desk).env("HOME", stranger.path().to_str().unwrap());
    let refused = without.main().await;
    assert_eq!((refused.code, refused.errors().len()), (4, 1), "{}", refused.log);
    let token = desk.admin_token();
    let step = without.with("token", &token).with("log-level", "debug").main().await;
    assert_end(&step, 0, "passed", [3, 0, 0, 0], [0, 0]);
    assert_eq!(step.console.masks[0], token);
    assert!(!step.log.contains(&token) && !format!("{:?}", step.outputs).contains(&token));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_id_token_the_permission_is_named_once() {
    let desk = Desk::new().await;
    let stranger = tempfile::tempdir().unwrap();
    let runner = three_tests(&desk).env("HOME", stranger.path().to_str().unwrap());
    let step = runner.main().await;
    assert_eq!((step.code, step.errors().len()), (4, 1), "{}", step.log);
    let said = &step.errors()[0].message;
    assert!(said.contains("id-token: write") && said.contains("forks"), "{said}");
    assert!(!step.log.contains("qgjob token create") && step.summary.unwrap().contains("id-token: write"));
    let step = runner.main().await;
    let post = runner.post(&step).await;
    assert_eq!((post.code, post.console.annotations.len()), (0, 0), "{}", post.log);
    assert!(post.log.contains("Nothing was left behind."), "{}", post.log);
    // Other commands say the same; who gave a token is told of tokens.
    let command = format!("{} list --server=http://{}", env!("CARGO_BIN_EXE_qgjob"), desk.address);
    let listed = runner.shell(&command).done().await;
    assert!(listed.code == 4 && listed.log.contains("id-token: write"), "{}", listed.log);
    let wrong = runner.with("token", &format!("{}x", desk.admin_token())).main().await;
    assert!(wrong.code == 4 && !wrong.log.contains("id-token") && wrong.log.contains("qgjob token create"));
}
