//! Submitting: idempotency, validation, cancel, retry.

use std::collections::HashSet;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::{Expect, World};

#[tokio::test]
async fn a_submit_answers_with_the_run_and_its_jobs() {
    let world = World::new().await;
    let member = world.member("own").await;
    let body = member.new_run("own", &["a.spec.js", "b.spec.js"]).await;
    let reply = member.post("/api/v1/runs", &body).await;
    assert_eq!(reply.status(), StatusCode::CREATED);
    let location = reply.headers()["location"].to_str().unwrap().to_owned();
    let made: Value = reply.ok().await;
    assert_eq!(location, format!("/api/v1/runs/{}", made["run_id"].as_str().unwrap()));
    assert_eq!((made["status"].as_str(), made["deduplicated"].as_bool()), (Some("queued"), Some(false)));
    let tests: Vec<_> =
        made["jobs"].as_array().unwrap().iter().map(|job| job["test"].as_str().unwrap()).collect();
    assert_eq!(tests, ["a.spec.js", "b.spec.js"]);
    let run: Value = member.get(&location).await.ok().await;
    let listed: Vec<_> =
        run["job_list"].as_array().unwrap().iter().map(|job| job["test"].as_str().unwrap()).collect();
    assert_eq!(listed, tests);
    assert!(made.get("job_id").is_none(), "only a run of one job names it");
}

#[tokio::test]
async fn a_single_job_is_submitted_in_its_own_shape() {
    let world = World::new().await;
    let member = world.member("own").await;
    let mut body = member.new_run("own", &[]).await;
    body.as_object_mut().unwrap().remove("tests");
    body["test"] = json!("a.spec.js");
    body["priority"] = json!(8);
    let made: Value = member.post("/api/v1/jobs", &body).await.ok().await;
    let job = made["job_id"].as_str().unwrap();
    let shown: Value = member.get(&format!("/api/v1/jobs/{job}")).await.ok().await;
    assert_eq!((shown["priority"].as_u64(), shown["status"].as_str()), (Some(8), Some("queued")));
    let short: Value = member.get(&format!("/api/v1/jobs/{}", &job[job.len() - 8..])).await.ok().await;
    assert_eq!(short["id"], shown["id"], "the end of an id is enough");
    member.get(&format!("/api/v1/jobs/{}", &job[job.len() - 5..])).await.problem("not_found").await;
}

#[tokio::test]
async fn the_same_key_makes_one_run_however_often_and_fast_it_is_sent() {
    let world = World::new().await;
    let member = world.member("own").await;
    let body = member.new_run("own", &["a.spec.js"]).await;
    let sends = (0..64).map(|_| {
        let request =
            member.request(Method::POST, "/api/v1/runs").header("idempotency-key", "ci-1").json(&body);
        tokio::spawn(request.send())
    });
    let (mut runs, mut replayed) = (HashSet::new(), 0);
    for send in sends.collect::<Vec<_>>() {
        let reply = send.await.unwrap().unwrap();
        replayed += u32::from(reply.headers().contains_key("idempotency-replayed"));
        let made: Value = reply.ok().await;
        runs.insert(made["run_id"].as_str().unwrap().to_owned());
    }
    assert_eq!((runs.len(), replayed), (1, 63));
    let listed: Value = member.get("/api/v1/runs").await.ok().await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_key_stands_for_one_request_of_one_org() {
    let world = World::new().await;
    let (own, other) = (world.member("own").await, world.member("other").await);
    let send = async |caller: &crate::world::Caller, body: &Value, key: &str| {
        caller
            .request(Method::POST, "/api/v1/runs")
            .header("idempotency-key", key)
            .json(body)
            .send()
            .await
            .unwrap()
    };
    let body = own.new_run("own", &["a.spec.js"]).await;
    let first: Value = send(&own, &body, "k").await.ok().await;
    let mut changed = body.clone();
    changed["priority"] = json!(9);
    send(&own, &changed, "k").await.problem("idempotency_key_reused").await;
    let theirs = other.new_run("other", &["a.spec.js"]).await;
    let second: Value = send(&other, &theirs, "k").await.ok().await;
    assert_ne!(first["run_id"], second["run_id"]);
    let bad = send(&own, &body, &"k".repeat(256)).await.problem("invalid_request").await;
    assert_eq!(bad.errors[0].pointer, "Idempotency-Key");
    // Nothing is remembered of a request that was refused.
    let mut wrong = body.clone();
    wrong["priority"] = json!(0);
    send(&own, &wrong, "k2").await.problem("invalid_request").await;
    let good: Value = send(&own, &body, "k2").await.ok().await;
    assert_eq!(good["deduplicated"], false);
}

#[tokio::test]
async fn every_wrong_field_is_named() {
    let world = World::new().await;
    let member = world.member("own").await;
    let mut body = member.new_run("own", &["a.spec.js", "../b"]).await;
    body["priority"] = json!(11);
    body["colour"] = json!("red");
    body["reset"] = json!("sometimes");
    let problem = member.post("/api/v1/runs", &body).await.problem("invalid_request").await;
    let mut pointers: Vec<_> = problem.errors.iter().map(|error| error.pointer.as_str()).collect();
    pointers.sort_unstable();
    assert_eq!(pointers, ["/colour", "/priority", "/reset", "/tests/1"]);
    let mut body = member.new_run("own", &[]).await;
    body["timeout_ms"] = json!(999);
    body["infra_retries"] = json!(11);
    body["env"] = json!({"BIG": "x".repeat(4097)});
    let problem = member.post("/api/v1/runs", &body).await.problem("invalid_request").await;
    let mut pointers: Vec<_> = problem.errors.iter().map(|error| error.pointer.as_str()).collect();
    pointers.sort_unstable();
    assert_eq!(pointers, ["/env/BIG", "/infra_retries", "/tests", "/timeout_ms"]);
}

#[tokio::test]
async fn a_run_names_each_test_once() {
    let world = World::new().await;
    let member = world.member("own").await;
    let body =
        member.new_run("own", &["a.spec.js", "b.spec.js", "a.spec.js", "b.spec.js", "c.spec.js"]).await;
    let problem = member.post("/api/v1/runs", &body).await.problem("invalid_request").await;
    let errors: Vec<_> =
        problem.errors.iter().map(|error| (error.pointer.as_str(), error.detail.as_str())).collect();
    assert_eq!(errors, [("/tests/2", "is there twice"), ("/tests/3", "is there twice")]);
}

#[tokio::test]
async fn a_bundle_must_have_been_uploaded_by_the_same_org() {
    let world = World::new().await;
    let (own, other) = (world.member("own").await, world.member("other").await);
    let mut body = own.new_run("own", &["a.spec.js"]).await;
    body["org_id"] = json!("other");
    other.post("/api/v1/runs", &body).await.problem("not_uploaded").await;
}

#[tokio::test]
async fn cancel_is_idempotent_and_retry_makes_a_new_run() {
    let world = World::new().await;
    let member = world.member("own").await;
    let made = member.submit("own", &["a.spec.js"]).await;
    let job = made["job_id"].as_str().unwrap();
    let retry = format!("/api/v1/jobs/{job}/retry");
    member.post(&retry, &Value::Null).await.problem("wrong_status").await;
    for _ in 0..2 {
        let cancelled: Value =
            member.post(&format!("/api/v1/jobs/{job}/cancel"), &Value::Null).await.ok().await;
        assert_eq!(
            (cancelled["conclusion"].as_str(), cancelled["exit_code"].as_u64()),
            (Some("cancelled"), Some(13))
        );
    }
    let again: Value = member.post(&retry, &Value::Null).await.ok().await;
    let run: Value =
        member.get(&format!("/api/v1/runs/{}", again["run_id"].as_str().unwrap())).await.ok().await;
    assert_eq!(
        (run["retry_of"].as_str(), run["job_list"][0]["test"].as_str()),
        (Some(job), Some("a.spec.js"))
    );
    let run = made["run_id"].as_str().unwrap();
    let cancelled: Value = member.post(&format!("/api/v1/runs/{run}/cancel"), &Value::Null).await.ok().await;
    assert_eq!(cancelled["conclusion"], "cancelled");
}

#[tokio::test]
async fn a_run_can_be_cancelled_before_it_exists() {
    let world = World::new().await;
    let member = world.member("own").await;
    let key = json!({"org_id": "own", "idempotency_key": "late"});
    member.post("/api/v1/runs/cancel-by-key", &key).await.status_is(StatusCode::NO_CONTENT).await;
    let body = member.new_run("own", &["a.spec.js"]).await;
    let send = member.request(Method::POST, "/api/v1/runs").header("idempotency-key", "late").json(&body);
    let made: Value = send.send().await.unwrap().ok().await;
    assert_eq!(
        (made["status"].as_str(), made["conclusion"].as_str()),
        (Some("completed"), Some("cancelled"))
    );
}
