//! The real program against a real server: what people and pipelines see, and what they can rely on.

pub mod agent;
mod bounds;
pub mod desk;
mod exit_codes;
mod following;
mod initializing;
mod interrupting;
mod json;
mod limiting;
mod replaying;
mod reporting;
mod rerunning;
mod resuming;
mod watching;

use std::time::Duration;

use agent::{FakeAgent, Play};
use desk::{Desk, SEEDS_SUBMIT, redact};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_needs_no_login() {
    let desk = Desk::new().await;
    let submitted = desk.qgjob(SEEDS_SUBMIT).await;
    assert_eq!(submitted.code, 0, "{submitted:?}");
    insta::assert_snapshot!(redact(&submitted.out), @r"
    ✓ Queued job_ID
      app xyz123    target any    priority 5
    Next: qgjob status --job-id=job_ID --watch
    ");
    insta::assert_snapshot!(redact(&submitted.err), @r"
    ✓ Project bundle SIZE (5 files, uploaded)
    warning: app version xyz123 has no build yet: the jobs wait until `qgjob app upload --app-version-id=xyz123 <file>`
    ");
    let again = desk.qgjob(SEEDS_SUBMIT).await;
    assert!(again.err.contains("unchanged, reused"), "{again:?}");

    let credentials = desk.config().join("credentials.toml");
    assert_eq!(desk::mode(&credentials), 0o600);
    desk::set_mode(&credentials, 0o644);
    let refused = desk.qgjob(&["list"]).await;
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(refused.err.contains("chmod 600"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_two_commands_can_be_spelled_in_any_way() {
    let desk = Desk::new().await;
    let submits: [&[&str]; 4] = [
        SEEDS_SUBMIT,
        &[
            "submit",
            "--org-id",
            "qualgent",
            "--app-version-id",
            "xyz123",
            "--test",
            "tests/onboarding.spec.js",
        ],
        &["--org-id=qualgent", "submit", "--test=tests/onboarding.spec.js", "--app-version-id=xyz123"],
        &["submit", "--test", "tests/onboarding.spec.js", "--app-version-id=xyz123", "--org-id", "qualgent"],
    ];
    let mut jobs = Vec::new();
    for submit in submits {
        let done = desk.qgjob(&[submit, &["-o", "json"]].concat()).await;
        assert_eq!(done.code, 0, "{submit:?}: {done:?}");
        let document = done.json();
        assert_eq!(document["status"], "queued");
        jobs.push(document["job_id"].as_str().unwrap().to_owned());
    }
    let (job, suffix) = (jobs[0].as_str(), &jobs[0][jobs[0].len() - 10..]);
    let flag = format!("--job-id={job}");
    let statuses: [&[&str]; 5] = [
        &["status", &flag],
        &["status", "--job-id", job],
        &["status", job],
        &["-q", "status", suffix],
        &["status", suffix, "--color=never"],
    ];
    let mut outputs = Vec::new();
    for status in statuses {
        let done = desk.qgjob(status).await;
        assert_eq!(done.code, 0, "{status:?}: {done:?}");
        outputs.push(done.out);
    }
    assert!(outputs.iter().all(|out| *out == outputs[0]), "{outputs:#?}");
    insta::assert_snapshot!(redact(&outputs[0]), @r"
    job_ID → queued     (tests/onboarding.spec.js; waiting for a device)
      test         tests/onboarding.spec.js
      app version  xyz123
      org          qualgent
      run          run_ID
      target       any
      priority     5
      predicted    1m 00s
      attempts     0
      created      TIME
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_can_be_named_by_the_end_of_its_id() {
    let desk = Desk::new().await;
    let submitted = desk.qgjob(&[SEEDS_SUBMIT, &["-o", "json"]].concat()).await.json();
    let (run, job) = (submitted["run_id"].as_str().unwrap(), submitted["job_id"].as_str().unwrap());
    let (run_end, job_end) = (&run[run.len() - 8..], &job[job.len() - 8..]);
    for (args, expected) in [
        (&["run", "view", run_end][..], run),
        (&["run", "view", "--run-id", run], run),
        (&["status", run_end], run),
        (&["status", "--run-id", run_end], run),
        (&["status", "--job-id", job_end], job),
        (&["list", "--run-id", run_end], job),
        (&["explain", "--job-id", job_end], job),
        (&["explain", "--run-id", run_end], job),
        (&["logs", "--run-id", run_end], job),
        (&["logs", job_end], job),
        (&["cancel", run_end], run),
        (&["wait", "--job-id", job_end], job),
    ] {
        let done = desk.qgjob(&[args, &["-o", "name"]].concat()).await;
        assert_eq!(done.out.trim(), expected, "{args:?}: {done:?}");
    }
    assert_eq!(desk.qgjob(&["artifact", "list", "--job-id", job_end, "-o", "json"]).await.code, 0);
    for args in [&["run", "view", "zzzzzz"][..], &["status", "zzzzzz"], &["token", "revoke", "zzzzzz"]] {
        assert_eq!(desk.qgjob(args).await.code, 5, "{args:?}");
    }
    for args in [&["run", "view", "zzzzz"][..], &["logs"], &["artifact", "download"], &["run", "cancel"]] {
        assert_eq!(desk.qgjob(args).await.code, 2, "{args:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watching_tells_the_story_and_ends_with_the_verdict() {
    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    let agent = FakeAgent::start(&desk, &["pixel-7-01"], |test| match test {
        "tests/login.spec.js" => Play::Fails("expected 'Hello' to be 'Bye'\n    at login.spec.js:3"),
        "tests/cart.spec.js" => Play::Flaky,
        _ => Play::Passes,
    })
    .await;
    let done = desk.qgjob(&[SEEDS_SUBMIT, &["--watch"]].concat()).await;
    assert_eq!(done.code, 0, "{done:?}");
    insta::assert_snapshot!(redact(&done.out), @r"
    ✓ Queued job_ID
      app xyz123 · sha256 HASH    target any    priority 5
    job_ID → queued     (tests/onboarding.spec.js; waiting for a device)
    job_ID → running    (pixel-7-01; attempt 1)
    job_ID → running    (pixel-7-01; app installed in SPAN)
    job_ID → running    (passed: suite › does it, SPAN)
    job_ID → completed  (passed; 1 passed, 0 failed, 0 flaky; SPAN; app installed in SPAN)

    Run run_ID passed (1 of 1 job passed) in SPAN
      app version xyz123 · org qualgent

    TEST FILE                 RESULT  TESTS     DEVICE      ATTEMPTS  INSTALL      TIME
    tests/onboarding.spec.js  passed  1 passed  pixel-7-01  1         made, SPAN  SPAN

    tests/onboarding.spec.js  on pixel-7-01
      ✓ suite › does it  SPAN

    installs: 1 made, 0 avoided
    ");

    let mixed = [
        "submit",
        "--org-id=qualgent",
        "--app-version-id=xyz123",
        "--test=tests",
        "--name=nightly",
        "-l",
        "branch=main",
    ];
    let done = desk.qgjob(&[&mixed, &["--wait", "-o", "json"][..]].concat()).await;
    assert_eq!(done.code, 1, "{done:?}");
    let run = done.json();
    assert_eq!(run["conclusion"], "failed");
    assert_eq!(run["exit_code"], 1);
    assert_eq!(run["installs"], json!({ "made": 0, "avoided": 3 }));
    let id = run["id"].as_str().unwrap();
    let view = desk.qgjob(&["run", "view", id]).await;
    assert_eq!(view.code, 0);
    insta::assert_snapshot!(redact(&view.out), @r"
    Run run_ID failed (2 of 3 jobs passed; 1 failed; 1 flaky) in SPAN
      app version xyz123 · org qualgent · nightly · branch=main

    TEST FILE                 RESULT  TESTS     DEVICE      ATTEMPTS  INSTALL  TIME
    tests/cart.spec.js        passed  1 flaky   pixel-7-01  1         avoided  SPAN
    tests/login.spec.js       failed  1 failed  pixel-7-01  1         avoided  SPAN
    tests/onboarding.spec.js  passed  1 passed  pixel-7-01  1         avoided  SPAN

    tests/cart.spec.js  on pixel-7-01
      ~ suite › does it (flaky: passed on retry 1)  SPAN

    tests/login.spec.js  on pixel-7-01
      ✗ suite › does it  SPAN

    tests/onboarding.spec.js  on pixel-7-01
      ✓ suite › does it  SPAN

    ~ suite › does it  tests/cart.spec.js:3, 2 tries on pixel-7-01
        Error: not yet

    ✗ suite › does it  tests/login.spec.js:3 on pixel-7-01
        expected 'Hello' to be 'Bye'
            at login.spec.js:3

    installs: 0 made, 3 avoided
    ");
    let list = desk.qgjob(&["run", "list", "--label=branch=main", "-o", "name"]).await;
    assert_eq!(list.out.trim(), id);

    let flaky =
        ["submit", "--org-id=qualgent", "--app-version-id=xyz123", "--test=tests/cart.spec.js", "--wait"];
    assert_eq!(desk.qgjob(&flaky).await.code, 0);
    assert_eq!(desk.qgjob(&[&flaky, &["--fail-on-flaky"][..]].concat()).await.code, 1);
    let jobs = desk.qgjob(&["list", "--conclusion=failed", "-o", "name"]).await;
    let failed = jobs.out.trim();
    assert_eq!(desk.qgjob(&["wait", failed]).await.code, 1);
    assert_eq!(desk.qgjob(&["status", failed, "--exit-status"]).await.code, 1);
    assert_eq!(desk.qgjob(&["status", failed]).await.code, 0);
    let again = desk.qgjob(&["retry", failed, "--watch"]).await;
    assert_eq!(again.code, 1, "{again:?}");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_of_jsonl_is_an_event_and_the_last_is_the_run() {
    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    let agent = FakeAgent::start(&desk, &["p1"], |_| Play::Passes).await;
    let done = desk.qgjob(&[SEEDS_SUBMIT, &["--watch", "-o", "jsonl"]].concat()).await;
    assert_eq!(done.code, 0, "{done:?}");
    let lines: Vec<serde_json::Value> =
        done.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (first, last) = (&lines[0], &lines[lines.len() - 1]);
    assert_eq!((&first["schema"], &last["schema"]), (&json!("qgjob.submit/v1"), &json!("qgjob.run/v1")));
    assert_eq!(last["conclusion"], "passed");
    let events = &lines[1..lines.len() - 1];
    assert!(events.iter().all(|line| line["schema"] == "qgjob.event/v1"), "{events:#?}");
    let numbers: Vec<_> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    let kinds: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    for kind in ["job.queued", "job.started", "test.finished", "job.completed", "run.completed"] {
        assert!(kinds.contains(&kind), "{kind} in {kinds:?}");
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watching_survives_a_killed_server_without_losing_or_repeating_a_line() {
    let mut desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    let job = desk.qgjob(&[SEEDS_SUBMIT, &["-o", "name"]].concat()).await.out.trim().to_owned();
    let watching = desk.start(&["status", "--job-id", &job, "--watch"]).has_begun().await;
    desk.kill_server();
    // Long enough to be noticed.
    tokio::time::sleep(Duration::from_millis(700)).await;
    desk.start_server().await;
    let agent = FakeAgent::start(&desk, &["p1"], |_| Play::Passes).await;
    let done = watching.done().await;
    assert_eq!(done.code, 0, "{done:?}");
    let statuses: Vec<_> = done.out.lines().map(|line| line.split_whitespace().nth(2).unwrap()).collect();
    assert_eq!(statuses, ["queued", "running", "running", "running", "completed"], "{done:?}");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_end_of_a_job_has_its_exit_code() {
    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    let agent = FakeAgent::start(&desk, &["p1"], |test| match test {
        "tests/login.spec.js" => Play::Faults("device_fault"),
        "tests/cart.spec.js" => Play::TimesOut,
        _ => Play::NoTests,
    })
    .await;
    let base = ["submit", "--org-id=qualgent", "--app-version-id=xyz123", "--wait"];
    for (test, extra, expected) in [
        ("--test=tests/onboarding.spec.js", "--retries=0", 3),
        ("--test=tests/onboarding.spec.js", "--allow-no-tests", 0),
        ("--test=tests/login.spec.js", "--retries=0", 10),
        ("--test=tests/cart.spec.js", "--retries=0", 12),
    ] {
        let done = desk.qgjob(&[&base, &[test, extra][..]].concat()).await;
        assert_eq!(done.code, expected, "{test} {extra}: {done:?}");
    }
    agent.stop().await;

    let late = desk.qgjob(&[&base, &["--test=tests/cart.spec.js", "--queue-timeout=1s"][..]].concat()).await;
    assert_eq!(late.code, 11, "{late:?}");

    let submit = [
        "submit",
        "--org-id=qualgent",
        "--app-version-id=nothing",
        "--test=tests/cart.spec.js",
        "-o",
        "name",
    ];
    let job = desk.qgjob(&submit).await.out.trim().to_owned();
    let waiting = desk.qgjob(&["wait", &job, "--wait-timeout=300ms"]).await;
    assert_eq!(waiting.code, 15, "{waiting:?}");
    assert!(waiting.err.contains(&format!("qgjob status --job-id={job} --watch")), "{waiting:?}");
    let explained = desk.qgjob(&["explain", &job, "-o", "json"]).await.json();
    assert_eq!(explained["reasons"][0]["code"], "build_missing", "{explained}");

    let interrupted = desk.start(&["status", &job, "--watch"]).has_begun().await;
    interrupted.signal(nix::sys::signal::Signal::SIGINT);
    let interrupted = interrupted.done().await;
    assert_eq!(interrupted.code, 130, "{interrupted:?}");
    assert!(interrupted.err.contains("the jobs go on"), "{interrupted:?}");
    let terminated = desk.start(&["status", &job, "--watch"]).has_begun().await;
    terminated.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(terminated.done().await.code, 143);

    let watching = desk.start(&["wait", &job]);
    assert_eq!(desk.qgjob(&["cancel", &job]).await.code, 0);
    assert_eq!(watching.done().await.code, 13);
    let finished = desk.qgjob(&["retry", &job, "-o", "name"]).await;
    assert_eq!(finished.code, 0, "{finished:?}");
    assert_ne!(finished.out.trim(), job);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_told_with_a_way_out() {
    let desk = Desk::new().await;
    let base = ["submit", "--org-id=qualgent", "--app-version-id=xyz123"];
    let typo = desk.qgjob(&[&base, &["--test=tests/onbording.spec.js"][..]].concat()).await;
    assert_eq!(typo.code, 2);
    insta::assert_snapshot!(redact(&typo.err), @r#"
    error: there is no test file "tests/onbording.spec.js"
      cause: looked in the project FOLDER
      hint:  did you mean tests/onboarding.spec.js, tests/login.spec.js, tests/cart.spec.js?
    "#);
    let empty = desk.qgjob(&[&base, &["--test=nothing/*.spec.js"][..]].concat()).await;
    assert_eq!(empty.code, 3, "{empty:?}");
    let allowed = desk.qgjob(&[&base, &["--test=nothing/*.spec.js", "--allow-no-tests"][..]].concat()).await;
    assert_eq!(allowed.code, 0, "{allowed:?}");
    for (args, code, word) in [
        (&["submit", "--app-version-id=x", "--test=tests"][..], 2, "--org-id"),
        (&["submit", "--org-id=q", "--test=tests"], 2, "--app-version-id"),
        (&["submit", "--org-id=q", "--app-version-id=x"], 2, "--test"),
        (&["submit", "--app-verison-id=x"], 2, "--app-version-id"),
        (&["sumbit"], 2, "submit"),
        (&["stat", "x"], 2, "unrecognized"),
        (
            &["submit", "--org-id=q", "--app-version-id=x", "--test=tests", "--priority=11"],
            2,
            "10 most urgent",
        ),
        (&["submit", "--org-id=q", "--app-version-id=x", "--test=tests", "--timeout=30"], 2, "30m"),
        (&["status", "job_00000000000000000000000000"], 5, "Not found"),
        (&["status", "--job-id=run_00000000000000000000000000"], 2, "--run-id"),
        (&["status", "nonsense!"], 2, "not the id of a job"),
        (&["status"], 2, "--job-id"),
        (&["device", "view", "pixel"], 5, "device list"),
        (&["help", "exit-code"], 2, "exit-codes"),
    ] {
        let done = desk.qgjob(args).await;
        assert_eq!(done.code, code, "{args:?}: {done:?}");
        assert!(done.err.contains(word), "{args:?}: {done:?}");
        assert_eq!(done.out, "", "{args:?}");
    }
    std::fs::write(desk.project().join("qgjob.toml"), "[submit]\ntimeuot = \"1m\"\n").unwrap();
    let config = desk.qgjob(&["list"]).await;
    assert_eq!(config.code, 2);
    assert!(config.err.contains("timeuot") && config.err.contains("line 2"), "{config:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_one_line_of_json_when_output_is_json() {
    let desk = Desk::new().await;
    let done = desk.qgjob(&["status", "job_00000000000000000000000000", "-o", "json"]).await;
    assert_eq!((done.code, done.out.as_str(), done.err.lines().count()), (5, "", 1));
    let error = serde_json::from_str::<serde_json::Value>(&done.err).unwrap();
    assert_eq!(error["error"]["code"], "not_found");
    assert_eq!(error["error"]["exit_code"], 5);
    assert_eq!(error["error"]["status"], 404);
    let usage = desk.qgjob(&["list", "--no-such-flag", "-o", "json"]).await;
    let error = serde_json::from_str::<serde_json::Value>(&usage.err).unwrap();
    assert_eq!((usage.code, &error["error"]["exit_code"]), (2, &json!(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_servers_that_do_not_work_have_their_exit_codes() {
    let mut desk = Desk::new().await;
    let wrong = desk.qgjob_with(&[("QGJOB_TOKEN", "qgj_pat_wrong")], &["list"]).await;
    assert_eq!(wrong.code, 4, "{wrong:?}");
    assert!(!wrong.err.contains("qgj_pat_wrong"), "a token must not be shown: {wrong:?}");

    let made = desk.qgjob(&["token", "create", "--org-id=qualgent", "--name=ci"]).await;
    assert!(made.out.starts_with("qgj_pat_"), "{made:?}");
    let token = made.out.trim();
    let verbose = desk.qgjob_with(&[("QGJOB_TOKEN", token)], &["-vvv", "list"]).await;
    assert_eq!(verbose.code, 0, "{verbose:?}");
    assert!(verbose.err.contains("answered") && !verbose.err.contains(token), "{verbose:?}");
    let forbidden = desk.qgjob_with(&[("QGJOB_TOKEN", token)], &["token", "list"]).await;
    assert_eq!(forbidden.code, 4, "{forbidden:?}");
    let elsewhere = ["submit", "--org-id=other", "--app-version-id=x", "--test=tests/cart.spec.js"];
    assert_eq!(desk.qgjob_with(&[("QGJOB_TOKEN", token)], &elsewhere).await.code, 4);
    let id = desk.qgjob(&["token", "list", "-o", "jsonl"]).await;
    let line = id.out.lines().find(|line| line.contains("\"ci\"")).unwrap();
    let id = serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_str().unwrap().to_owned();
    assert_eq!(desk.qgjob(&["token", "revoke", &id]).await.code, 0);
    assert_eq!(desk.qgjob_with(&[("QGJOB_TOKEN", token)], &["list"]).await.code, 4, "a revoked token");

    assert_eq!(desk.qgjob(&["server", "check"]).await.code, 0);
    desk.kill_server();
    let gone = desk.qgjob(&["list"]).await;
    assert_eq!(gone.code, 14, "{gone:?}");
    assert!(gone.err.contains("qgjob server run"), "{gone:?}");
    let watching = desk.qgjob(&["wait", "job_00000000000000000000000000", "--reconnect-timeout=1s"]).await;
    assert_eq!(watching.code, 14, "{watching:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_never_changes_its_build() {
    let desk = Desk::new().await;
    let apk = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/demo.apk");
    let upload = ["app", "upload", "--org-id=qualgent", "--app-version-id=v1"];
    let done = desk.qgjob(&[&upload, &[apk][..]].concat()).await;
    assert_eq!(done.code, 0, "{done:?}");
    let again = desk.qgjob(&[&upload, &[apk][..]].concat()).await;
    assert!(again.code == 0 && again.err.contains("before"), "{again:?}");

    let other = desk.project().join("other.apk");
    desk::altered_apk(apk, &other);
    let submit = ["submit", "--org-id=qualgent", "--app-version-id=v1", "--test=tests/cart.spec.js"];
    let refused = desk.qgjob(&[&submit, &["--app", other.to_str().unwrap()][..]].concat()).await;
    assert_eq!(refused.code, 6, "{refused:?}");
    for bytes in [std::fs::read(apk).unwrap(), std::fs::read(&other).unwrap()] {
        assert!(refused.err.contains(&desk::sha256(&bytes)), "both hashes are told: {refused:?}");
    }
    let view = desk.qgjob(&["app", "view", "v1", "--org-id=qualgent", "-o", "json"]).await.json();
    assert_eq!(view["build"]["app_id"], "dev.qgjob.demo");
    let text = desk.project().join("notes.apk");
    std::fs::write(&text, "not an app").unwrap();
    let no_app = desk.qgjob(&[&upload, &[text.to_str().unwrap()][..]].concat()).await;
    assert_eq!(no_app.code, 2, "{no_app:?}");

    let key = [&submit[..], &["--idempotency-key=k1", "-o", "name"]].concat();
    let first = desk.qgjob(&key).await;
    assert_eq!(first.out, desk.qgjob(&key).await.out, "one key, one run");
    let reused = desk.qgjob(&[&key[..], &["--priority=9"]].concat()).await;
    assert_eq!(reused.code, 6, "{reused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_project_file_fills_in_what_flags_do_not_say() {
    let desk = Desk::new().await;
    let text = "org_id = \"qualgent\"\nserver = \"https://evil.example\"\n[submit]\napp_version_id = \"from-file\"\n\
        tests = [\"tests/*.spec.js\"]\npriority = \"high\"\nqueue_timeout = \"5m\"\n[submit.labels]\nteam = \"mobile\"\n";
    std::fs::write(desk.project().join("qgjob.toml"), text).unwrap();
    let below = desk.project().join("tests");
    let done = desk.qgjob_in(&below, &["submit", "-o", "json"]).await;
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.err.contains("evil.example"), "the ignored server is told: {done:?}");
    let document = done.json();
    assert_eq!(document["app_version_id"], "from-file");
    assert_eq!(document["jobs"].as_array().unwrap().len(), 3);
    let job = document["jobs"][0]["job_id"].as_str().unwrap();
    let job = desk.qgjob(&["status", job, "-o", "json"]).await.json();
    assert_eq!(job["priority"], 8);
    let one =
        desk.qgjob(&["submit", "--test=tests/cart.spec.js", "--priority=low", "-o", "json"]).await.json();
    assert_eq!(one["jobs"].as_array().unwrap().len(), 1);

    let plan = desk.qgjob(&["submit", "--dry-run", "-o", "json"]).await.json();
    assert_eq!(
        plan["tests"],
        json!(["tests/cart.spec.js", "tests/login.spec.js", "tests/onboarding.spec.js"])
    );
    let count = desk.qgjob(&["run", "list", "-o", "name"]).await.out.lines().count();
    assert_eq!(count, 2, "a dry run submits nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn output_fits_where_it_goes() {
    let desk = Desk::new().await;
    let job = desk.qgjob(&[SEEDS_SUBMIT, &["-o", "name"]].concat()).await.out.trim().to_owned();
    let plain = desk.qgjob(&["status", &job]).await.out;
    assert!(!plain.contains('\x1b'), "a pipe gets no colours: {plain:?}");
    let colored = desk.qgjob(&["status", &job, "--color=always"]).await.out;
    assert!(colored.contains('\x1b'), "{colored:?}");
    let forced = desk.qgjob_with(&[("CLICOLOR_FORCE", "1")], &["status", &job]).await.out;
    assert_eq!(forced, colored);
    let without = desk.qgjob_with(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], &["status", &job]).await.out;
    assert_eq!(without, plain);
    let none = desk.qgjob(&["status", &job, "-o", "none"]).await;
    assert_eq!((none.code, none.out.as_str()), (0, ""));
    let by_env = desk.qgjob_with(&[("QGJOB_OUTPUT", "name")], &["status", &job]).await.out;
    assert_eq!(by_env.trim(), job);

    let script = "set -o pipefail; \"$QGJOB\" help exit-codes | true; exit ${PIPESTATUS[0]}";
    let broken = desk.bash(script).await;
    assert!(matches!(broken.code, 0 | 141), "{broken:?}");
    assert_eq!(broken.err, "", "a reader that leaves is no reason to complain");
    let broken = desk.bash("exec 3>&1; { \"$QGJOB\" list -o json; echo $? >&3; } | sleep 0").await;
    assert!(["0", "141"].contains(&broken.out.trim()) && broken.err.is_empty(), "{broken:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn completion_scripts_parse() {
    let desk = Desk::without_server();
    for (shell, check) in [("bash", "bash -n"), ("zsh", ""), ("fish", ""), ("powershell", ""), ("elvish", "")]
    {
        let script = desk.qgjob(&["completion", shell]).await;
        assert_eq!(script.code, 0, "{shell}: {script:?}");
        assert!(script.out.contains("app-version-id"), "{shell}");
        if !check.is_empty() {
            let path = desk.project().join(shell);
            std::fs::write(&path, &script.out).unwrap();
            let parsed = desk.bash(&format!("{check} {}", path.display())).await;
            assert_eq!(parsed.code, 0, "{parsed:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_tells_its_configuration_and_refuses_company() {
    let desk = Desk::new().await;
    let printed = desk.qgjob(&["server", "print-config", "--listen=127.0.0.1:4321"]).await;
    assert_eq!(printed.code, 0, "{printed:?}");
    let path = desk.project().join("server.toml");
    std::fs::write(&path, &printed.out).unwrap();
    let again = desk.qgjob(&["server", "print-config", "--config", path.to_str().unwrap()]).await;
    assert_eq!(again.out, printed.out, "what it prints it can read");
    std::fs::write(&path, "listn = \"127.0.0.1:1\"").unwrap();
    let typo = desk.qgjob(&["server", "run", "--config", path.to_str().unwrap()]).await;
    assert!(typo.code == 2 && typo.err.contains("listn"), "{typo:?}");

    let second = desk.qgjob(&["server", "run", "--listen=127.0.0.1:0"]).await;
    assert_eq!(second.code, 10, "{second:?}");
    assert!(second.err.contains("--data-dir"), "{second:?}");
    let doctor = desk.qgjob(&["doctor", "-o", "json"]).await.json();
    let state = |name: &str| {
        let checks = doctor["checks"].as_array().unwrap();
        checks.iter().find(|check| check["name"] == name).unwrap()["state"].clone()
    };
    assert_eq!((state("server"), state("token"), state("clock")), (json!("ok"), json!("ok"), json!("ok")));
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_and_artifacts_come_as_they_were_sent() {
    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    let agent = FakeAgent::start(&desk, &["p1"], |_| Play::Passes).await;
    let job = desk.qgjob(&[SEEDS_SUBMIT, &["-o", "name"]].concat()).await.out.trim().to_owned();
    let followed = desk.qgjob(&["logs", &job, "-f"]).await;
    assert_eq!((followed.code, followed.out.as_str()), (0, "line 1\nline 2 é\nline 3\n"), "{followed:?}");
    assert_eq!(desk.qgjob(&["logs", &job]).await.out, followed.out);
    assert_eq!(desk.qgjob(&["logs", &job, "--tail=1"]).await.out, "line 3\n");

    assert_eq!(desk.qgjob(&["wait", &job]).await.code, 0);
    let devices = desk.qgjob(&["device", "list", "-o", "json"]).await.json();
    assert_eq!(devices["items"][0]["name"], "p1");
    assert_eq!(desk.qgjob(&["device", "drain", "p1"]).await.code, 0);
    let drained = desk.qgjob(&["device", "view", "p1", "-o", "json"]).await.json();
    assert_eq!(drained["state"], "drained");
    assert_eq!(desk.qgjob(&["device", "enable", "p1"]).await.code, 0);
    let typo = desk.qgjob(&["device", "view", "p11"]).await;
    assert!(typo.code == 5 && typo.err.contains("did you mean p1?"), "{typo:?}");

    let list = desk.qgjob(&["artifact", "list", &job, "-o", "json"]).await.json();
    assert_eq!(list["items"][0]["name"], "results/report.json");
    let dir = desk.project().join("kept");
    let loaded = desk.qgjob(&["artifact", "download", &job, "--dir", dir.to_str().unwrap()]).await;
    assert_eq!(loaded.code, 0, "{loaded:?}");
    assert_eq!(std::fs::read(dir.join("results/report.json")).unwrap(), agent::ARTIFACT);
    agent.stop().await;
}
