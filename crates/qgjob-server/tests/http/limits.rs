//! Each limit at its edge: as much as is allowed, and one more.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::{Expect, World, new_upload, one_try, sha256};

#[tokio::test]
async fn json_bodies() {
    let world = World::with_limits(|limits| limits.json_body = 200).await;
    let send = async |size: usize| {
        let body = r#"{"kind":"admin","name":"x"}"#.to_owned();
        let body = format!("{body}{}", " ".repeat(size - body.len()));
        let request =
            world.admin.request(Method::POST, "/api/v1/tokens").header("content-type", "application/json");
        request.body(body).send().await.unwrap()
    };
    send(200).await.status_is(StatusCode::CREATED).await;
    send(201).await.problem("too_large").await;
}

#[tokio::test]
async fn headers() {
    let world = World::with_limits(|limits| limits.headers = 1_000).await;
    let send = async |size: usize| {
        let request = world
            .nobody()
            .request(Method::GET, "/livez")
            .header("x-request-id", "r")
            .header("x-pad", "x".repeat(size));
        request.send().await.unwrap()
    };
    // The other headers of a request take some room too: find the edge, and see that it is one byte wide.
    let (mut fits, mut exceeds) = (0, 1_000);
    while exceeds - fits > 1 {
        let middle = (fits + exceeds) / 2;
        if send(middle).await.status().is_success() { fits = middle } else { exceeds = middle }
    }
    send(fits).await.status_is(StatusCode::OK).await;
    let problem = send(exceeds).await.problem("too_large").await;
    assert!(problem.detail.contains("at most 1000 allowed, 1001 given"), "{}", problem.detail);
}

#[tokio::test]
async fn uploads() {
    let world = World::with_limits(|limits| (limits.app, limits.bundle) = (10, 5)).await;
    let member = world.member("own").await;
    for (kind, limit) in [("app", 10), ("bundle", 5)] {
        let begin = async |size: usize| {
            member.post("/api/v1/uploads", &new_upload("own", kind, &vec![1; size])).await
        };
        begin(limit).await.status_is(StatusCode::CREATED).await;
        begin(limit + 1).await.problem("too_large").await;
        begin(0).await.problem("invalid_request").await;
    }
}

#[tokio::test]
async fn jobs_of_a_run() {
    let world = World::new().await;
    let member = world.member("own").await;
    let names: Vec<String> = (0..1_001).map(|at| format!("tests/{at}.spec.js")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let body = member.new_run("own", &names[..1_000]).await;
    let made: Value = member.post("/api/v1/runs", &body).await.ok().await;
    let run: Value =
        member.get(&format!("/api/v1/runs/{}", made["run_id"].as_str().unwrap())).await.ok().await;
    assert_eq!(run["job_list"].as_array().unwrap().len(), 1_000);
    let body = member.new_run("own", &names).await;
    member.post("/api/v1/runs", &body).await.problem("invalid_request").await;
}

#[tokio::test]
async fn fields_of_a_run() {
    let world = World::new().await;
    let member = world.member("own").await;
    let good = member.new_run("own", &["a.spec.js"]).await;
    let labels =
        |count: usize| (0..count).map(|at| (format!("k{at}"), json!("v"))).collect::<serde_json::Map<_, _>>();
    let env =
        |count: usize| (0..count).map(|at| (format!("K{at}"), json!("v"))).collect::<serde_json::Map<_, _>>();
    let ahead = |seconds: i64| {
        json!((jiff::Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(seconds)).to_string())
    };
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
    let month = 30 * 24 * 3_600;
    for (field, fits, exceeds) in [
        ("name", json!("x".repeat(256)), json!("x".repeat(257))),
        ("labels", json!(labels(32)), json!(labels(33))),
        ("env", json!(env(64)), json!(env(65))),
        ("env", json!({"K": "x".repeat(4096)}), json!({"K": "x".repeat(4097)})),
        ("timeout_ms", json!(86_400_000), json!(86_400_001)),
        ("timeout_ms", json!(1_000), json!(999)),
        ("queue_timeout_ms", json!(2_592_000_000_u64), json!(2_592_000_001_u64)),
        ("infra_retries", json!(10), json!(11)),
        ("test_retries", json!(10), json!(11)),
        ("priority", json!(10), json!(11)),
        ("priority", json!(1), json!(0)),
        ("not_before", ahead(now + month - 5), ahead(now + month + 60)),
    ] {
        let send = async |value: Value| {
            let mut body = good.clone();
            body[field] = value;
            member.post("/api/v1/runs", &body).await
        };
        send(fits).await.status_is(StatusCode::CREATED).await;
        let problem = send(exceeds).await.problem("invalid_request").await;
        assert!(problem.errors[0].pointer.starts_with(&format!("/{field}")), "{field}: {:?}", problem.errors);
    }
}

#[tokio::test]
async fn artifacts_and_tries_of_an_attempt() {
    let world = World::with_limits(|limits| {
        (limits.artifact, limits.artifacts_per_attempt, limits.tries_per_report) = (4, 2, 2);
    })
    .await;
    let running = world.running("own").await;
    let epoch = running.lease.epoch;
    let announce = async |name: &str, size: usize| {
        let body = json!({"epoch": epoch, "name": name, "media_type": "text/plain", "size_bytes": size,
            "sha256": sha256(name.as_bytes())});
        running.agent.caller.post(&running.attempt("/artifacts"), &body).await
    };
    announce("large", 5).await.problem("too_large").await;
    announce("one", 4).await.status_is(StatusCode::CREATED).await;
    announce("two", 4).await.status_is(StatusCode::CREATED).await;
    announce("one", 4).await.status_is(StatusCode::CREATED).await;
    announce("three", 4).await.problem("too_large").await;
    for bad in ["../x", "/x", "a//b", "", "a\\b", &"x".repeat(513)] {
        announce(bad, 1).await.problem("invalid_request").await;
    }
    let report = async |count: u32| {
        let tries: Vec<_> = (1..=count).map(|seq| one_try(seq, "t")).collect();
        running.agent.caller.post(&running.attempt("/tests"), &json!({"epoch": epoch, "tries": tries})).await
    };
    report(2).await.status_is(StatusCode::NO_CONTENT).await;
    report(3).await.problem("too_large").await;
}

#[tokio::test]
async fn pieces_of_logs() {
    let world = World::with_limits(|limits| (limits.log_piece, limits.log) = (6, 10)).await;
    let running = world.running("own").await;
    running.log(0, b"1234567").await.problem("too_large").await;
    running.log(0, b"123456").await.status_is(StatusCode::OK).await;
    running.log(6, b"7890").await.status_is(StatusCode::OK).await;
    let read = format!("/api/v1/jobs/{}/logs", running.job);
    assert_eq!(running.member.get(&read).await.status_is(StatusCode::OK).await, "1234567890");
    let more: Value = running.log(10, b"x").await.ok().await;
    assert_eq!(more["offset"], 11);
    let text = running.member.get(&read).await.status_is(StatusCode::OK).await;
    assert!(text.starts_with("1234567890\n[qgjob: the log is cut here"), "{text}");
    let problem = running.log(u64::MAX, b"x").await.problem("invalid_request").await;
    assert_eq!(problem.errors[0].pointer, "upload-offset");
    let beyond = running.member.get(&format!("{read}?offset={}", u64::MAX)).await;
    assert_eq!(beyond.status_is(StatusCode::OK).await, "");
}

#[tokio::test]
async fn streams_of_a_token_and_of_the_server() {
    let world = World::with_limits(|limits| (limits.streams_per_token, limits.streams) = (2, 3)).await;
    let (own, other) = (world.member("own").await, world.member("other").await);
    let open = async |caller: &crate::world::Caller| caller.get("/api/v1/events").await;
    let (first, _second) = (open(&own).await, open(&own).await);
    let refused = open(&own).await;
    assert!(refused.headers().contains_key("retry-after"));
    refused.problem("busy").await;
    let _third = open(&other).await;
    open(&other).await.problem("busy").await;
    drop(first);
    let freed = async {
        while !open(&other).await.status().is_success() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), freed)
        .await
        .expect("a closed stream gives its place back");
}
