//! Logs: append-only bytes with stable offsets, read and followed.

use std::time::Duration;

use futures_util::StreamExt;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::world::{Expect, Running, World};

fn path(running: &Running, rest: &str) -> String {
    format!("/api/v1/jobs/{}/logs{rest}", running.job)
}

#[tokio::test]
async fn bytes_continue_repeat_or_are_refused() {
    let world = World::new().await;
    let running = world.running("own").await;
    let sent: Value = running.log(0, b"hello").await.ok().await;
    assert_eq!(sent["offset"], 5);
    let overlap: Value = running.log(3, b"lo world").await.ok().await;
    assert_eq!(overlap["offset"], 11);
    for (offset, bytes) in [(12, b"x"), (10, b"D")] {
        let problem = running.log(offset, bytes).await.problem("offset_mismatch").await;
        assert_eq!(problem.expected_offset, Some(11));
    }
    let read =
        async |rest: &str| running.member.get(&path(&running, rest)).await.status_is(StatusCode::OK).await;
    assert_eq!(read("").await, "hello world");
    assert_eq!(read("?offset=6&limit=3").await, "wor");
    assert_eq!(read("?attempt=1&stream=test").await, "hello world");
    assert_eq!(read("?stream=appium").await, "");
    running.member.get(&path(&running, "?attempt=2")).await.problem("not_found").await;
    let reply = running.member.get(&path(&running, "")).await;
    assert_eq!(reply.headers()["qgjob-attempt"], "1");
}

#[tokio::test]
async fn only_the_lease_that_lives_appends() {
    let world = World::new().await;
    let running = world.running("own").await;
    let send = async |epoch: u64, stream: &str| {
        let path = running.attempt(&format!("/logs/{stream}?epoch={epoch}"));
        let request = running.agent.caller.request(Method::PATCH, &path).header("upload-offset", 0);
        request.body("x").send().await.unwrap()
    };
    let epoch = running.lease.epoch;
    send(epoch + 1, "test").await.problem("lease_lost").await;
    send(epoch, "nonsense").await.problem("not_found").await;
    let request =
        running.agent.caller.request(Method::PATCH, &running.attempt(&format!("/logs/test?epoch={epoch}")));
    request.body("x").send().await.unwrap().problem("invalid_request").await;
    send(epoch, "agent").await.status_is(StatusCode::OK).await;
    running.finish().await.status_is(StatusCode::OK).await;
    send(epoch, "test").await.problem("lease_lost").await;
    assert_eq!(running.member.get(&path(&running, "")).await.status_is(StatusCode::OK).await, "");
}

#[tokio::test]
async fn a_follower_sees_every_byte_and_the_end() {
    let world = World::with(|config| config.lease = Duration::from_secs(300)).await;
    let running = world.running("own").await;
    let text: String = (0..200).map(|at| format!("line {at} äöü €\n")).collect();
    let followers = ["?follow=true", "?follow=true&offset=0"].map(|rest| {
        let (member, path) = (running.member.clone(), path(&running, rest));
        tokio::spawn(async move { member.get(&path).await.status_is(StatusCode::OK).await })
    });
    let (member, events) = (running.member.clone(), path(&running, ""));
    let sse = tokio::spawn(async move {
        let request = member.request(Method::GET, &events).header("accept", "text/event-stream");
        request.send().await.unwrap().status_is(StatusCode::OK).await
    });
    // Pieces that end inside characters.
    for (at, piece) in text.as_bytes().chunks(7).enumerate() {
        running.log(7 * at as u64, piece).await.status_is(StatusCode::OK).await;
    }
    running.finish().await.status_is(StatusCode::OK).await;
    for follower in followers {
        let seen = tokio::time::timeout(Duration::from_secs(10), follower).await.expect("it ends").unwrap();
        assert_eq!(seen, text);
    }
    let frames = tokio::time::timeout(Duration::from_secs(10), sse).await.expect("it ends").unwrap();
    let pieces: Vec<Value> = frames
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    let joined: String = pieces.iter().map(|piece| piece["text"].as_str().unwrap()).collect();
    assert_eq!(joined, text);
    let mut offset = 0;
    for piece in &pieces {
        assert_eq!(piece["offset"], offset, "no gap and no overlap");
        offset += piece["text"].as_str().unwrap().len();
    }
    assert!(frames.contains("event: end") && frames.contains(&format!("id: 1:{}", text.len())));
}

#[tokio::test]
async fn a_follower_resumes_by_the_last_id_and_reads_another_attempt_from_its_start() {
    let world = World::new().await;
    let mut running = world.running("own").await;
    running.log(0, b"0123456789").await.status_is(StatusCode::OK).await;
    running.start_anew().await;
    running.log(0, b"abcdefghij").await.status_is(StatusCode::OK).await;
    running.finish().await.status_is(StatusCode::OK).await;
    let resume = async |rest: &str, id: &str| {
        let request = running.member.request(Method::GET, &path(&running, rest));
        let request = request.header("accept", "text/event-stream").header("last-event-id", id);
        request.send().await.unwrap()
    };
    for (rest, id, piece) in [
        ("", "2:4", r#""attempt":2,"stream":"test","offset":4,"text":"efghij""#),
        ("", "1:4", r#""attempt":2,"stream":"test","offset":0,"text":"abcdefghij""#),
        ("?attempt=1", "1:4", r#""attempt":1,"stream":"test","offset":4,"text":"456789""#),
        ("?attempt=1&offset=9", "2:4", r#""attempt":1,"stream":"test","offset":0,"text":"0123456789""#),
        (
            "?offset=7",
            "2:18446744073709551615",
            r#""attempt":2,"stream":"test","offset":18446744073709551615,"text":"""#,
        ),
    ] {
        let frames = resume(rest, id).await.status_is(StatusCode::OK).await;
        assert!(frames.contains(piece), "{rest} {id}: {frames}");
    }
    for bad in ["", "4", "x", "1:", ":4", "1:x", "1:4:5", "-1:4"] {
        let problem = resume("", bad).await.problem("invalid_request").await;
        assert_eq!(problem.errors[0].pointer, "Last-Event-ID", "{bad}");
    }
}

#[tokio::test]
async fn a_follower_of_a_waiting_job_waits_for_its_attempt() {
    let world = World::new().await;
    let member = world.member("own").await;
    let made = member.submit("own", &["a.spec.js"]).await;
    let path = format!("/api/v1/jobs/{}/logs?follow=true", made["job_id"].as_str().unwrap());
    let mut follower = member.get(&path).await.bytes_stream();
    let running = world.running("own").await;
    assert_eq!(running.lease.job_id.to_string(), made["job_id"].as_str().unwrap());
    running.log(0, b"first words").await.status_is(StatusCode::OK).await;
    let seen = tokio::time::timeout(Duration::from_secs(10), follower.next())
        .await
        .expect("it wakes")
        .unwrap()
        .unwrap();
    assert_eq!(seen, "first words");
    // A job that ends without an attempt ends its followers.
    let other = member.submit("own", &["b.spec.js"]).await["job_id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/jobs/{other}/logs?follow=true");
    let follower = tokio::spawn({
        let member = member.clone();
        async move { member.get(&path).await.status_is(StatusCode::OK).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    member.post(&format!("/api/v1/jobs/{other}/cancel"), &Value::Null).await.status_is(StatusCode::OK).await;
    assert_eq!(tokio::time::timeout(Duration::from_secs(10), follower).await.expect("it ends").unwrap(), "");
}
