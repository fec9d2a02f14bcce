//! `qgjob simulate --from-server` against a server that has a history.

use serde_json::Value;
use tokio::io::AsyncWriteExt;

use super::agent::{FakeAgent, Play};
use super::desk::{self, Desk};

/// Three tests for each of two versions, on two phones.
async fn with_history() -> Desk {
    let desk = Desk::new().await;
    let apk = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/demo.apk");
    let other = desk.project().join("other.apk");
    desk::altered_apk(apk, &other);
    desk.bind_app("v1").await;
    let upload = ["app", "upload", "--org-id=qualgent", "--app-version-id=v2", other.to_str().unwrap()];
    assert_eq!(desk.qgjob(&upload).await.code, 0);
    let agent = FakeAgent::start(&desk, &["pixel-7-01", "pixel-7-02"], |test| match test {
        "tests/login.spec.js" => Play::Lasts(1_600),
        "tests/cart.spec.js" => Play::Faults("device_fault"),
        _ => Play::Passes,
    })
    .await;
    for label in ["--app-version-id=v1", "--app-version-id=v2"] {
        let submit = ["submit", "--org-id=qualgent", label, "--test=tests", "--retries=0", "--wait"];
        let done = desk.qgjob(&submit).await;
        assert_eq!(done.code, 10, "a job of each run gives up: {done:?}");
    }
    agent.stop().await;
    desk
}

fn replayed(document: &Value, policy: &str) -> f64 {
    let policies = document["policies"].as_array().unwrap();
    policies.iter().find(|one| one["policy"] == policy).unwrap()["installs"].as_f64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_servers_history_is_replayed_and_exported() {
    let desk = with_history().await;
    let jobs = desk.qgjob(&["list", "-o", "json"]).await.json();
    let actions = jobs["items"].as_array().unwrap().iter().map(|job| job["install"]["action"].clone());
    let made = actions.filter(|action| action != "avoided").count();

    let done = desk.qgjob(&["simulate", "--from-server", "--export=w.json", "-o", "json"]).await;
    assert_eq!(done.code, 0, "{done:?}");
    let document = done.json();
    assert_eq!((document["jobs"].as_f64(), document["runs"].as_f64()), (Some(6.0), Some(2.0)));
    assert_eq!(document["devices"], 2.0);
    let about = document["about"].as_str().unwrap();
    assert!(
        about.contains(&format!("the server made {made} installs in ")),
        "{about}, and jobs tell of {made}"
    );
    for policy in ["qgjob", "fifo", "one-device"] {
        let installs = replayed(&document, policy);
        assert!((2.0..=4.0).contains(&installs), "{policy}: {installs} installs of 2 versions on 2 devices");
    }
    assert_eq!(replayed(&document, "one-device"), 2.0);
    assert!(done.err.contains("warning: 2 jobs did not run to their end"), "{done:?}");

    let exported = desk.qgjob(&["simulate", "--from-file=w.json", "-o", "json"]).await.json();
    for policy in ["qgjob", "fifo", "random"] {
        assert_eq!(replayed(&exported, policy), replayed(&document, policy), "{policy}");
    }
    let workload: Value =
        serde_json::from_slice(&std::fs::read(desk.project().join("w.json")).unwrap()).unwrap();
    assert_eq!(workload["install_s"], 1.5, "as the agent reported it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_of_a_server_is_said() {
    let desk = Desk::new().await;
    let simulate = &["simulate", "--from-server", "--since=1d"];
    let done = desk.qgjob(simulate).await;
    assert_eq!(done.code, 5, "{done:?}");
    assert!(
        done.err.contains("has no jobs since") && done.err.contains("--since goes further back"),
        "{done:?}"
    );

    let done = desk.qgjob_with(&[("QGJOB_TOKEN", "qgj_pat_of-somewhere-else")], simulate).await;
    assert_eq!(done.code, 4, "{done:?}");

    for (args, why) in [
        (&["simulate", "--from-server", "--since=yesterday"][..], "is no time"),
        (&["simulate", "--since=1d"], "--from-server"),
        (&["simulate", "a1", "--from-server"], "cannot be used with"),
    ] {
        let done = desk.qgjob(args).await;
        assert!(done.code == 2 && done.err.contains(why), "{args:?}: {done:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_another_version_is_named_as_such() {
    let desk = Desk::without_server();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("--server=http://{}", listener.local_addr().unwrap());
    let answering = tokio::spawn(async move {
        let page = br#"{"items":[{"id":"job_1"}],"next_cursor":null}"#;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", page.len());
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        tokio::io::AsyncReadExt::read(&mut stream, &mut request).await.unwrap();
        stream.write_all(&[head.as_bytes(), page].concat()).await.unwrap();
    });
    let done =
        desk.qgjob_with(&[("QGJOB_TOKEN", "qgj_pat_any")], &["simulate", "--from-server", &server]).await;
    assert_eq!(done.code, 10, "{done:?}");
    assert!(done.err.contains("too old, or too new") && done.err.contains("qgjob doctor"), "{done:?}");
    answering.await.unwrap();
}
