//! Tests that try to speak to the runner, and more output than it takes.

use qgjob_core::api::agents::Lease;
use qgjob_core::model::test_result::{TestOutcome, Try, TryStatus};

use super::three_tests;
use crate::cli_story::agent::{FakeAgent, Play};
use crate::cli_story::desk::Desk;

/// What a test may put into its titles, errors and file names so that the runner obeys it.
const PAYLOADS: [&str; 20] = [
    "::set-output name=conclusion::pwned",
    "\n::set-output name=conclusion::pwned",
    "::set-env name=PWNED::1",
    "::add-path::/pwned",
    "::save-state name=left::pwned",
    "::add-mask::qgjob",
    "::stop-commands::pwned",
    "\n::stop-commands::pwned\n::pwned::",
    "x\r::set-output name=conclusion::pwned",
    "x\u{2028}::set-output name=conclusion::pwned",
    "x\u{85}::error::pwned",
    "##[set-output name=conclusion;]pwned",
    "text ##[add-path]/pwned",
    "%0A::set-output name=conclusion::pwned",
    "%250A::set-output name=conclusion::pwned%250A",
    "\x1b[31m::error::pwned\x1b[0m",
    "\x1b]0;x\x07##[error]pwned",
    "::qgjob-00000000000000000000000000000000::\n::error::pwned",
    "\n::endgroup::\n::error::pwned\n::group::pwned",
    "title=x,file=/etc/passwd::pwned::error::pwned",
];

fn one(seq: u32, title: &str, file: &str, error: &str) -> Try {
    Try {
        seq,
        test_id: format!("t{seq}"),
        title: vec!["suite".into(), title.into()],
        unit: None,
        file: file.into(),
        line: seq,
        retry: 0,
        status: TryStatus::Failed,
        by_suite: None,
        outcome: TestOutcome::Unexpected,
        duration_ms: 10,
        error: Some(error.into()),
        files: Vec::new(),
    }
}

/// The payload of a file `tests/h<number>/…`.
fn payload_of(lease: &Lease) -> &'static str {
    let number = lease.test.as_str().trim_start_matches("tests/h").split('/').next().unwrap();
    PAYLOADS[number.parse::<usize>().unwrap()]
}

fn in_titles_and_errors(lease: &Lease) -> Vec<Try> {
    let payload = payload_of(lease);
    let (test, error) = (lease.test.as_str(), format!("Error: {payload}"));
    vec![one(1, payload, test, payload), one(2, "an error", test, &error)]
}

/// No test of the job: the server finds that the report contradicts, and repeats what it says.
fn in_names_of_files(lease: &Lease) -> Vec<Try> {
    vec![one(1, "a file", payload_of(lease), "Error: no")]
}

/// Files with the payloads in their names, as far as names can have them.
fn write_files(desk: &Desk) {
    for (at, payload) in PAYLOADS.iter().enumerate() {
        let dir = desk.project().join(format!("tests/h{at}"));
        std::fs::create_dir(&dir).unwrap();
        let name: String = payload.chars().filter(|c| !c.is_control() && !"/:".contains(*c)).collect();
        std::fs::write(dir.join(format!("{name}.spec.js")), "// a test\n").unwrap();
    }
}

/// What the step prints of its own, in order, until the result.
const OWN: [&str; 8] =
    ["group", "stop-commands", "endgroup", "group", "stop-commands", "endgroup", "stop-commands", "endgroup"];

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_test_says_is_a_command() {
    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    write_files(&desk);
    let agent = FakeAgent::start(&desk, &["p1", "p2"], |_| Play::Tells(in_titles_and_errors)).await;
    for (at, payload) in PAYLOADS.iter().enumerate() {
        let name: String = payload.chars().filter(|c| !c.is_control()).collect();
        let step = three_tests(&desk).with("test", &format!("tests/h{at}")).with("name", &name).main().await;
        assert_eq!((step.code, step.output("conclusion")), (1, "failed"), "{payload:?}: {}", step.log);
        let obeyed: Vec<_> = step.console.obeyed.iter().map(|command| command.name.as_str()).collect();
        assert_eq!(obeyed, [&OWN[..], &["error", "error"]].concat(), "{payload:?}: {}", step.log);
        assert!(!step.meddled && !step.console.failed && !step.console.is_stopped(), "{payload:?}");
        assert!(!step.state.values().any(|value| value == "pwned"), "{payload:?}: {:?}", step.state);
        for error in step.errors() {
            assert!(
                error.file.as_ref().unwrap().starts_with(&format!("tests/h{at}/")),
                "{payload:?}: {error:?}"
            );
            assert!(error.message.contains("on p"), "{payload:?}: {error:?}");
        }
        assert!(step.summary.is_some());
    }
    agent.stop().await;
    // Names that no project may have are told, too.
    std::fs::write(desk.project().join("tests/::error::pwned.spec.js"), "// a test\n").unwrap();
    let step = three_tests(&desk).main().await;
    let obeyed: Vec<_> = step.console.obeyed.iter().map(|command| command.name.as_str()).collect();
    assert_eq!((step.code, obeyed), (2, vec!["group", "stop-commands", "endgroup", "error"]), "{}", step.log);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_holds_for_a_plain_command() {
    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    write_files(&desk);
    let agent = FakeAgent::start(&desk, &["p1", "p2"], |_| Play::Tells(in_names_of_files)).await;
    let command = format!(
        "{} submit --server=http://{} --org-id=qualgent --app-version-id=xyz123 '--test=tests/h*/**' --watch --retries=0",
        env!("CARGO_BIN_EXE_qgjob"),
        desk.address
    );
    let step = three_tests(&desk).shell(&format!("exec {command}")).done().await;
    // A report of other tests than the job's proves nothing.
    assert_eq!(step.code, 10, "{}", step.log);
    let obeyed: Vec<_> = step.console.obeyed.iter().map(|command| command.name.as_str()).collect();
    assert_eq!(obeyed, [&OWN[..], &["error"; 10]].concat(), "{}", step.log);
    assert!(step.errors()[0].message.contains("report_contradicts"), "{:?}", step.errors());
    assert_eq!(step.errors()[9].title, "11 more failures");
    assert!(step.summary.is_some() && step.outputs.is_empty() && !step.meddled);
    // What comes after it in the script is obeyed again, and all of it can be turned off.
    let quick = command.replace("--test=tests/h*/**", "--test=no-such-test");
    let after = three_tests(&desk).shell(&format!("{quick} || echo ::notice::after")).done().await;
    assert_eq!(after.console.obeyed.last().map(|command| command.data.as_str()), Some("after"));
    let off = three_tests(&desk).shell(&format!("{quick} --no-ci")).done().await;
    assert!(off.code == 2 && off.summary.is_none() && off.console.obeyed.is_empty(), "{}", off.log);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_holds_for_commands_that_watch_what_others_made() {
    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    write_files(&desk);
    let runner = three_tests(&desk).with("mode", "async").with("test", "tests/h*/**");
    let made = runner.main().await;
    let agent = FakeAgent::start(&desk, &["p1", "p2"], |_| Play::Tells(in_titles_and_errors)).await;
    let qgjob = env!("CARGO_BIN_EXE_qgjob");
    let run = made.output("run-id");
    for command in [
        format!("{qgjob} status --run-id={run} --watch"),
        format!("{qgjob} wait --run-id={run}"),
        format!("{qgjob} run rerun-failed {run} --watch"),
    ] {
        let server = format!("--server=http://{} --org-id=qualgent", desk.address);
        let script = format!("{command} {server} || echo ::notice::after $?");
        let step = runner.shell(&script).done().await;
        let obeyed: Vec<_> = step.console.obeyed.iter().map(|command| command.name.as_str()).collect();
        assert_eq!(obeyed, ["stop-commands", "notice"], "{command}: {}", step.log);
        assert_eq!(step.console.obeyed[1].data, "after 1", "{command}: {}", step.log);
        assert!(!step.meddled && !step.console.failed, "{command}: {}", step.log);
        // What is obeyed elsewhere was said.
        let watches = command.ends_with("--watch");
        assert_eq!(step.log.contains("::error::pwned"), watches, "{command}: {}", step.log);
    }
    agent.stop().await;
}

fn many(lease: &Lease) -> Vec<Try> {
    let error = format!("Error: {}", "é\n".repeat(5_000));
    (1..=60).map(|seq| one(seq, &format!("test {seq}"), lease.test.as_str(), &error)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_the_runner_takes_is_counted_not_lost() {
    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    let agent = FakeAgent::start(&desk, &["p1"], |_| Play::Tells(many)).await;
    let step = three_tests(&desk).main().await;
    assert_eq!((step.code, step.output("failed")), (1, "180"), "{}", step.log);
    let errors = step.errors();
    assert_eq!((errors.len(), step.console.dropped), (10, 0));
    // Every file has its first before any has its second.
    let files: std::collections::BTreeSet<_> =
        errors[..3].iter().map(|error| error.file.clone().unwrap()).collect();
    assert_eq!(files.len(), 3);
    assert_eq!(errors[9].title, "171 more failures");
    assert!(errors[9].message.contains("https://github.com/acme/shop/actions/runs/9001"), "{:?}", errors[9]);
    assert!(errors.iter().all(|error| error.message.encode_utf16().count() < 4_096));
    // 180 errors of 15 kB each: three times what a summary may have.
    let summary = step.summary.as_ref().expect("it was not thrown away");
    assert!(summary.len() > 100_000 && summary.len() <= 900_000, "{}", summary.len());
    let results: serde_json::Value = serde_json::from_str(step.output("results")).unwrap();
    assert!(step.output("results").len() <= 512_000);
    assert_eq!(
        results["tests"].as_array().unwrap().len() as u64 + results["left_out"].as_u64().unwrap(),
        180
    );
    agent.stop().await;
}
