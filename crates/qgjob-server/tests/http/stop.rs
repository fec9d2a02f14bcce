//! Stopping: what waits is answered, what runs is finished, what was accepted is kept.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::{Expect, World, eventually};

#[tokio::test]
async fn a_stop_answers_those_who_wait_and_keeps_what_was_accepted() {
    let world = World::new().await;
    let running = world.running("own").await;
    let (member, agent) = (running.member.clone(), running.agent.caller.clone());
    let job = format!("/api/v1/jobs/{}", running.job);
    let version = member.get(&job).await.ok::<Value>().await["version"].as_u64().unwrap();
    let poll = tokio::spawn({
        let (member, job) = (member.clone(), job.clone());
        async move { member.get(&format!("{job}?wait=50s&since={version}")).await.status() }
    });
    let claim = tokio::spawn({
        let device = running.agent.device.clone();
        async move {
            let body = json!({"claim_id": "other", "devices": [device]});
            agent.post("/agent/v1/claim?wait=50s", &body).await.status()
        }
    });
    let mut events = member.get(&format!("{job}/events")).await.bytes_stream();
    let mut log = member.get(&format!("{job}/logs?follow=true")).await.bytes_stream();
    let all = tokio::spawn(async move {
        while let Some(piece) = events.next().await {
            piece.expect("the stream ends, it does not break");
        }
        while let Some(piece) = log.next().await {
            piece.expect("the log ends, it does not break");
        }
    });
    let waiting = [("/api/v1/jobs/{id}", Method::GET), ("/agent/v1/claim", Method::POST)];
    world.is_asked(&waiting, 2).await;
    let (epoch, attempt) = (running.lease.epoch, running.lease.attempt_id);
    let began = Instant::now();
    let folder = world.stop().await;
    assert!(began.elapsed() < Duration::from_secs(9), "nobody had to be cut off: {:?}", began.elapsed());
    assert_eq!(poll.await.unwrap(), StatusCode::NOT_MODIFIED);
    assert_eq!(
        claim.await.unwrap(),
        StatusCode::SERVICE_UNAVAILABLE,
        "the agent asks again under the same id"
    );
    all.await.unwrap();

    let world = World::at(folder, |_| {}).await;
    let again = crate::world::Caller::new(&world.url, member.token.as_ref().unwrap());
    let shown: Value = again.get(&job).await.ok().await;
    assert_eq!(shown["status"], "running", "the lease outlives a restart");
    let agent = crate::world::Caller::new(&world.url, running.agent.caller.token.as_ref().unwrap());
    let path = format!("/agent/v1/attempts/{attempt}/renew");
    let renewed: Value = agent.post(&path, &json!({"epoch": epoch})).await.ok().await;
    assert_eq!(renewed["order"]["order"], "go_on");
}

#[tokio::test]
async fn a_stop_is_announced_and_a_request_in_flight_is_finished() {
    let world = World::with(|config| config.drain_delay = Duration::from_secs(3)).await;
    let member = world.member("own").await;
    let bytes = vec![7_u8; 50_000];
    let begun: Value =
        member.post("/api/v1/uploads", &crate::world::new_upload("own", "app", &bytes)).await.ok().await;
    let path = format!("/api/v1/uploads/{}", begun["upload_id"].as_str().unwrap());
    // A body that takes longer than the server is told to live.
    let pieces: Vec<Vec<u8>> = bytes.chunks(5_000).map(<[u8]>::to_vec).collect();
    let slow = futures_util::stream::iter(pieces).then(|piece| async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok::<_, std::convert::Infallible>(piece)
    });
    let body = reqwest::Body::wrap_stream(slow);
    let sending =
        tokio::spawn(member.request(Method::PATCH, &path).header("upload-offset", 0).body(body).send());
    world.is_asked(&[("/api/v1/uploads/{id}", Method::PATCH)], 0).await;
    world.shutdown.cancel();
    eventually(async || !world.nobody().get("/readyz").await.status().is_success()).await;
    let text = world.nobody().get("/readyz?verbose").await.status_is(StatusCode::SERVICE_UNAVAILABLE).await;
    assert!(text.contains("the server is stopping"), "{text}");
    world.nobody().get("/livez").await.status_is(StatusCode::OK).await;
    let sent: Value = sending.await.unwrap().unwrap().ok().await;
    assert_eq!(sent["offset"], 50_000);
    world.stop().await;
}
