//! What programs read: the JSON of every command, kept as snapshots. A change of one is a change of the contract.
//!
//! To take changes over: `INSTA_UPDATE=always cargo test -p qgjob --test it cli_story::json`, and then read the diff.

use serde_json::Value;

use super::agent::{FakeAgent, Play};
use super::desk::{Desk, Done, SEEDS_SUBMIT};

const THREE: &[&str] = &["submit", "--org-id=qualgent", "--app-version-id=xyz123", "--test=tests"];

/// Replaces what differs from run to run, and holds every object to its schema.
fn redacted(done: &Done) -> String {
    let mut document = done.json();
    let schema = document["schema"].as_str().unwrap_or_else(|| panic!("no schema: {done:?}")).to_owned();
    assert!(is_schema(&schema), "{schema}");
    if schema == "qgjob.list/v1" {
        assert!(document.as_object().unwrap().contains_key("next_cursor"), "{done:?}");
        for item in document["items"].as_array().unwrap() {
            assert!(item["schema"].as_str().is_some_and(is_schema), "{item}");
        }
    }
    redact(&mut document, "");
    serde_json::to_string_pretty(&document).unwrap()
}

fn is_schema(text: &str) -> bool {
    text.strip_prefix("qgjob.").is_some_and(|rest| rest.ends_with("/v1"))
}

fn redact(value: &mut Value, key: &str) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| redact(item, key)),
        Value::Object(fields) => fields.iter_mut().for_each(|(key, value)| redact(value, key)),
        Value::String(text) => {
            if let Some(new) = redacted_text(text, key) {
                *text = new;
            }
        }
        // Spans that are measured or learned, and counters of changes.
        Value::Number(_) if ["duration_ms", "predicted_ms", "version", "seq"].contains(&key) => {
            *value = Value::from(key.to_uppercase());
        }
        Value::Number(_) if key == "size_bytes" => *value = Value::from("SIZE"),
        _ => {}
    }
}

fn redacted_text(text: &str, key: &str) -> Option<String> {
    let instant = text.len() >= 20 && text.ends_with('Z') && text.as_bytes()[10] == b'T';
    let hash = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match key {
        "secret" => Some(format!("{}SECRET", &text[..8])),
        "version" => Some("VERSION".to_owned()),
        "request_id" => Some("REQUEST".to_owned()),
        "idempotency_key" => Some("KEY".to_owned()),
        "detail" if text.contains("bytes free") => Some("DISK".to_owned()),
        _ if instant => Some("TIME".to_owned()),
        _ if hash => Some("HASH".to_owned()),
        _ if text.starts_with('/') && text.contains("project") => Some("FOLDER".to_owned()),
        _ => redacted_ids(text),
    }
}

/// Ids, anywhere in a text.
fn redacted_ids(text: &str) -> Option<String> {
    let mut done = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('_') {
        let end = rest[at + 1..].bytes().take_while(u8::is_ascii_alphanumeric).count();
        done.push_str(&rest[..=at]);
        done.push_str(if end == 26 { "ID" } else { &rest[at + 1..at + 1 + end] });
        rest = &rest[at + 1 + end..];
    }
    done.push_str(rest);
    (done != text).then_some(done)
}

macro_rules! snapshot {
    ($name:literal, $done:expr) => {{
        let done = $done;
        assert_eq!(done.code, 0, "{}: {done:?}", $name);
        insta::assert_snapshot!($name, redacted(&done));
    }};
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_submitted_and_how_it_stands() {
    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    let json = |args: &[&str]| desk.start(&[args, &["-o", "json"]].concat()).done();
    let one = json(SEEDS_SUBMIT).await;
    let job = one.json()["job_id"].as_str().unwrap().to_owned();
    snapshot!("submit", one);
    snapshot!("submit_many", json(&[THREE, &["--name=nightly", "-l", "branch=main"]].concat()).await);
    snapshot!("submit_dry_run", json(&[SEEDS_SUBMIT, &["--dry-run", "--device=os>=14"]].concat()).await);
    snapshot!("status_queued", json(&["status", &job]).await);
    snapshot!("explain_no_matching_device", json(&["explain", &job]).await);
    snapshot!("queue_list", json(&["queue", "list"]).await);
    snapshot!("queue_pause", json(&["queue", "pause", "xyz123", "--org-id=qualgent"]).await);
    snapshot!("queue_view", json(&["queue", "view", "xyz123", "--org-id=qualgent"]).await);
    snapshot!("queue_promote", json(&["queue", "promote", &job]).await);
    let unbound = ["submit", "--org-id=qualgent", "--app-version-id=later", "--test=tests/cart.spec.js"];
    let waiting = json(&unbound).await.json()["job_id"].as_str().unwrap().to_owned();
    snapshot!("explain_build_missing", json(&["explain", &waiting]).await);
    snapshot!("cancel", json(&["cancel", &waiting]).await);
    snapshot!("explain_ended", json(&["explain", &waiting]).await);
    let retried = json(&["retry", &waiting]).await;
    let again = retried.json()["job_id"].as_str().unwrap().to_owned();
    snapshot!("retry", retried);
    snapshot!("cancel_several", json(&["cancel", &again, &job]).await);
    snapshot!("list", json(&["list", "--limit=1", "--app-version-id=later"]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_run_and_on_what() {
    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    let json = |args: &[&str]| desk.start(&[args, &["-o", "json"]].concat()).done();
    let agent = FakeAgent::start(&desk, &["pixel-7-01"], |test| match test {
        "tests/login.spec.js" => Play::Fails("expected 'Hello' to be 'Bye'"),
        "tests/cart.spec.js" => Play::Flaky,
        _ => Play::Passes,
    })
    .await;
    snapshot!("wait", json(&[SEEDS_SUBMIT, &["--wait"]].concat()).await);
    let run = json(&[THREE, &["--watch"]].concat()).await;
    assert_eq!(run.code, 1, "{run:?}");
    let id = run.json()["id"].as_str().unwrap().to_owned();
    snapshot!("run_view", json(&["run", "view", &id]).await);
    snapshot!("run_list", json(&["run", "list", "--limit=1"]).await);
    let failed = json(&["list", "--conclusion=failed"]).await.json();
    let job = failed["items"][0]["id"].as_str().unwrap().to_owned();
    snapshot!("status_completed", json(&["status", &job]).await);
    snapshot!("status_several", json(&["status", &job, &id]).await);
    snapshot!("explain_failed", json(&["explain", &job]).await);
    snapshot!("logs", json(&["logs", &job]).await);
    snapshot!("artifact_list", json(&["artifact", "list", &job]).await);
    snapshot!("artifact_download", json(&["artifact", "download", "--job-id", &job, "--dir=kept"]).await);
    snapshot!("device_list", json(&["device", "list"]).await);
    snapshot!("device_view", json(&["device", "view", "pixel-7-01"]).await);
    snapshot!("agent_list", json(&["agent", "list"]).await);
    snapshot!("agent_view", json(&["agent", "view", "fake"]).await);
    snapshot!("submit_dry_run_warm", json(&[SEEDS_SUBMIT, &["--dry-run"]].concat()).await);
    let one = json(&["retry", "--run-id", &id]).await;
    assert_eq!(one.json()["items"].as_array().unwrap().len(), 1, "only what did not pass: {one:?}");
    snapshot!("retry_run", one);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_is_explained_by_where_it_runs() {
    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    let agent = FakeAgent::start(&desk, &["pixel-7-01"], |_| Play::Lasts(2_000)).await;
    let first = desk.qgjob(&[SEEDS_SUBMIT, &["-o", "name"]].concat()).await.out.trim().to_owned();
    let status = async || desk.qgjob(&["status", &first, "-o", "json"]).await;
    while status().await.json()["status"] != "running" {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    snapshot!("explain_running", desk.qgjob(&["explain", &first, "-o", "json"]).await);
    assert_eq!(desk.qgjob(&["wait", &first]).await.code, 0);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_administered() {
    let desk = Desk::new().await;
    let json = |args: &[&str]| desk.start(&[args, &["-o", "json"]].concat()).done();
    let apk = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/demo.apk");
    snapshot!("app_upload", json(&["app", "upload", "--org-id=qualgent", "--app-version-id=v1", apk]).await);
    snapshot!("app_list", json(&["app", "list"]).await);
    snapshot!("app_view", json(&["app", "view", "v1", "--org-id=qualgent"]).await);
    snapshot!("org_quota_view", json(&["org", "quota", "view", "--org-id=qualgent"]).await);
    let set = ["org", "quota", "set", "--org-id=qualgent", "--weight=3", "--max-running=20"];
    snapshot!("org_quota_set", json(&set).await);
    snapshot!("org_pause", json(&["org", "pause", "--org-id=qualgent"]).await);
    let set = ["org", "concurrency", "set", "staging", "--limit=2", "--org-id=qualgent"];
    snapshot!("org_concurrency_set", json(&set).await);
    snapshot!("org_concurrency_list", json(&["org", "concurrency", "list", "--org-id=qualgent"]).await);
    let token = json(&["token", "create", "--org-id=qualgent", "--name=ci"]).await;
    let id = token.json()["id"].as_str().unwrap().to_owned();
    snapshot!("token_create", token);
    snapshot!("token_list", json(&["token", "list"]).await);
    snapshot!("token_revoke", json(&["token", "revoke", &id[id.len() - 8..]]).await);
    snapshot!("agent_token_create", json(&["agent", "token", "create"]).await);
    snapshot!("server_check", json(&["server", "check"]).await);
    snapshot!("version", json(&["version"]).await);
    snapshot!("init", json(&["init", "--org-id=qualgent", "--ci=gitlab"]).await);
    let doctor = json(&["doctor"]).await.json();
    // Details name the tools of the machine; the form is the contract.
    assert_eq!(doctor["schema"], "qgjob.doctor/v1");
    for check in doctor["checks"].as_array().unwrap() {
        let fields: Vec<_> = check.as_object().unwrap().keys().map(String::as_str).collect();
        let known = |field: &&str| ["name", "state", "detail", "hint"].contains(field);
        assert!(fields.iter().all(known), "{check}");
        assert!(["ok", "warn", "fail"].contains(&check["state"].as_str().unwrap()), "{check}");
    }
    for (name, args, code) in [
        ("error_of_the_server", &["status", "job_00000000000000000000000000"][..], 5),
        ("error_of_flags", &["status", "--no-such-flag"], 2),
        ("error_with_hints", &["device", "view", "pixel"], 5),
    ] {
        let done = json(args).await;
        assert_eq!((done.code, done.out.as_str(), done.err.lines().count()), (code, "", 1), "{done:?}");
        let mut error: Value = serde_json::from_str(&done.err).unwrap();
        assert_eq!(error["error"]["schema"], "qgjob.error/v1");
        redact(&mut error, "");
        insta::assert_snapshot!(name, serde_json::to_string_pretty(&error).unwrap());
    }
}
