//! Predictions: a job is expected to take what the jobs before it took.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::world::{Caller, Expect, World, eventually};

/// How long a job of the test file, submitted now, is expected to take.
async fn predicted_ms(member: &Caller, version: &str, test: &str) -> u64 {
    let mut body = member.new_run("own", &[test]).await;
    body["app_version_id"] = json!(version);
    let made: Value = member.post("/api/v1/runs", &body).await.ok().await;
    let job: Value =
        member.get(&format!("/api/v1/jobs/{}", made["job_id"].as_str().unwrap())).await.ok().await;
    job["predicted_ms"].as_u64().unwrap()
}

#[tokio::test]
async fn a_job_is_expected_to_take_what_those_before_it_took() {
    let world = World::new().await;
    let running = world.running("own").await;
    let member = running.member.clone();
    let first: Value = member.get(&format!("/api/v1/jobs/{}", running.job)).await.ok().await;
    assert_eq!(first["predicted_ms"], 60_000, "nothing is known yet");
    let install = json!({"action": "cold", "duration_ms": 1});
    let phase = json!({"epoch": running.lease.epoch, "phase": "testing", "install": install});
    running
        .agent
        .caller
        .post(&running.attempt("/phase"), &phase)
        .await
        .status_is(StatusCode::NO_CONTENT)
        .await;
    running.finish().await.status_is(StatusCode::OK).await;
    eventually(async || predicted_ms(&member, "v1", "a.spec.js").await < 60_000).await;
    let known = predicted_ms(&member, "v1", "a.spec.js").await;
    let unknown = predicted_ms(&member, "v1", "b.spec.js").await;
    assert!(known < unknown && unknown < 60_000, "{known} {unknown}");
    let unbound = predicted_ms(&member, "v2", "a.spec.js").await;
    assert!(unbound < unknown, "without a build it is judged by its file: {unbound}");
    let stranger = world.member("stranger").await;
    let made = stranger.submit("stranger", &["a.spec.js"]).await;
    let theirs: Value =
        stranger.get(&format!("/api/v1/jobs/{}", made["job_id"].as_str().unwrap())).await.ok().await;
    assert_eq!(theirs["predicted_ms"], 60_000, "what one org runs tells another nothing");
    let text = world.admin.get("/metrics").await.status_is(StatusCode::OK).await;
    assert!(text.lines().any(|line| line == "qgjob_prediction_ratio_count 1"), "{text}");

    // A server that starts learns from what the one before it stored.
    let token = member.token.clone().unwrap();
    let world = World::at(world.stop().await, |_| {}).await;
    let member = Caller::new(&world.url, &token);
    assert_eq!(predicted_ms(&member, "v1", "a.spec.js").await, known);
    assert_eq!(predicted_ms(&member, "v1", "b.spec.js").await, unknown);
}
