//! The agent protocol: registration, leases, reports, fencing.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::{Caller, Expect, World, one_try, sha256};

#[tokio::test]
async fn a_registration_token_works_once() {
    let world = World::new().await;
    let made: Value =
        world.admin.post("/api/v1/tokens", &json!({"kind": "registration", "name": "x"})).await.ok().await;
    let newcomer = Caller::new(&world.url, made["secret"].as_str().unwrap());
    let bad = json!({"name": "", "version": "1"});
    newcomer.post("/agent/v1/register", &bad).await.problem("invalid_request").await;
    let body = json!({"name": "rack-1", "version": "1"});
    let first: Value = newcomer.post("/agent/v1/register", &body).await.ok().await;
    newcomer.post("/agent/v1/register", &body).await.problem("unauthenticated").await;
    let agents: Value = world.admin.get("/api/v1/agents").await.ok().await;
    let agents = agents["items"].as_array().unwrap();
    assert_eq!((agents.len(), &agents[0]["id"]), (1, &first["agent_id"]));
}

#[tokio::test]
async fn a_job_runs_from_claim_to_verdict() {
    let world = World::new().await;
    let running = world.running("own").await;
    let (agent, lease) = (&running.agent.caller, &running.lease);
    assert_eq!((lease.number, lease.test.as_str(), lease.org_id.as_str()), (1, "a.spec.js", "own"));
    let renewed: Value =
        agent.post(&running.attempt("/renew"), &json!({"epoch": lease.epoch})).await.ok().await;
    assert_eq!(renewed["order"]["order"], "go_on");
    let install = json!({"action": "cold", "duration_ms": 1200});
    let phase = json!({"epoch": lease.epoch, "phase": "installing", "install": install});
    agent.post(&running.attempt("/phase"), &phase).await.status_is(StatusCode::NO_CONTENT).await;
    let finished: Value = running.finish().await.ok().await;
    assert_eq!(finished, json!({"outcome": "passed", "conclusion": "passed"}));
    let again: Value = running.finish_again().await.ok().await;
    assert_eq!(again, finished, "a repeat answers as the first time");
    let run: Value = running.member.get(&format!("/api/v1/runs/{}", running.run)).await.ok().await;
    assert_eq!((run["conclusion"].as_str(), run["exit_code"].as_u64()), (Some("passed"), Some(0)));
    assert_eq!(run["installs"], json!({"made": 1, "avoided": 0}));
    let tests: Value = running.member.get(&format!("/api/v1/jobs/{}/tests", running.job)).await.ok().await;
    let tests = tests["items"].as_array().unwrap();
    assert_eq!((tests.len(), &tests[0]["status"]), (1, &json!("passed")));
    let attempts: Value =
        running.member.get(&format!("/api/v1/jobs/{}/attempts", running.job)).await.ok().await;
    let attempts = &attempts["items"];
    assert_eq!((&attempts[0]["outcome"], &attempts[0]["device_name"]), (&json!("passed"), &json!("phone")));
    let device: Value =
        running.member.get(&format!("/api/v1/devices/{}", running.agent.device)).await.ok().await;
    assert_eq!(device["state"], "idle");
}

#[tokio::test]
async fn a_claim_waits_for_work_and_its_repeat_gets_the_same() {
    let world = World::new().await;
    let agent = world.agent("one").await;
    let began = Instant::now();
    let body = json!({"claim_id": "c0", "devices": [agent.device]});
    let none: Value = agent.caller.post("/agent/v1/claim?wait=300ms", &body).await.ok().await;
    assert_eq!(none["leases"], json!([]));
    assert!(began.elapsed() >= Duration::from_millis(300));
    let member = world.member("own").await;
    member.bind("own", "v1").await.status_is(StatusCode::CREATED).await;
    let claim = tokio::spawn({
        let (caller, device) = (agent.caller.clone(), agent.device.clone());
        async move {
            let body = json!({"claim_id": "c1", "devices": [device]});
            caller.post("/agent/v1/claim?wait=30s", &body).await.ok::<Value>().await
        }
    });
    world.is_asked(&[("/agent/v1/claim", Method::POST)], 0).await;
    let made = member.submit("own", &["a.spec.js", "b.spec.js"]).await;
    let first = claim.await.unwrap();
    assert_eq!(first["leases"][0]["job_id"], made["jobs"][0]["job_id"]);
    let again = agent.claim("c1").await;
    assert_eq!(again[0].attempt_id.to_string(), first["leases"][0]["attempt_id"].as_str().unwrap());
    assert_eq!(again[0].epoch, first["leases"][0]["epoch"].as_u64().unwrap());
}

#[tokio::test]
async fn an_agent_touches_nothing_that_it_does_not_hold() {
    let world = World::new().await;
    let running = world.running("own").await;
    let intruder = world.agent("intruder").await;
    let epoch = running.lease.epoch;
    let before: Value = running.member.get(&format!("/api/v1/jobs/{}", running.job)).await.ok().await;
    let artifact =
        json!({"epoch": epoch, "name": "x", "media_type": "a/b", "size_bytes": 1, "sha256": sha256(b"x")});
    let evidence = json!({"report": {"state": "missing"}});
    for (method, path, body) in [
        (Method::POST, "/renew".to_owned(), json!({"epoch": epoch})),
        (Method::POST, "/phase".to_owned(), json!({"epoch": epoch, "phase": "testing"})),
        (Method::POST, "/tests".to_owned(), json!({"epoch": epoch, "tries": [one_try(1, "forged")]})),
        (Method::PATCH, format!("/logs/test?epoch={epoch}"), json!("forged")),
        (Method::POST, "/artifacts".to_owned(), artifact),
        (Method::POST, "/finish".to_owned(), json!({"epoch": epoch, "evidence": evidence})),
        (Method::GET, "/inputs/app".to_owned(), Value::Null),
        (Method::GET, "/inputs/bundle".to_owned(), Value::Null),
    ] {
        let request = intruder.caller.request(method, &running.attempt(&path)).header("upload-offset", 0);
        request.json(&body).send().await.unwrap().problem("not_found").await;
    }
    let held = json!({"fresh": false, "devices": [], "attempts": [{"attempt_id": running.lease.attempt_id, "epoch": epoch}]});
    let reply: Value = intruder.caller.post("/agent/v1/heartbeat", &held).await.ok().await;
    assert_eq!(reply["attempts"][0]["order"]["order"], "abandon");
    let after: Value = running.member.get(&format!("/api/v1/jobs/{}", running.job)).await.ok().await;
    assert_eq!(after, before);
    assert_eq!(running.finish().await.ok::<Value>().await["conclusion"], "passed");
}

#[tokio::test]
async fn an_old_epoch_changes_nothing() {
    let world = World::new().await;
    let running = world.running("own").await;
    let agent = &running.agent.caller;
    let epoch = running.lease.epoch - 1;
    let artifact =
        json!({"epoch": epoch, "name": "x", "media_type": "a/b", "size_bytes": 1, "sha256": sha256(b"x")});
    for (path, body) in [
        ("/phase", json!({"epoch": epoch, "phase": "testing"})),
        ("/tests", json!({"epoch": epoch, "tries": [one_try(1, "t")]})),
        ("/artifacts", artifact),
        ("/finish", json!({"epoch": epoch, "evidence": {"report": {"state": "missing"}}})),
    ] {
        agent.post(&running.attempt(path), &body).await.problem("lease_lost").await;
    }
    let job: Value = running.member.get(&format!("/api/v1/jobs/{}", running.job)).await.ok().await;
    assert_eq!((job["status"].as_str(), job["conclusion"].as_str()), (Some("running"), None));
    assert_eq!(running.finish().await.ok::<Value>().await["conclusion"], "passed");
}

#[tokio::test]
async fn a_cancelled_job_is_told_to_its_agent() {
    let world = World::new().await;
    let running = world.running("own").await;
    let path = format!("/api/v1/jobs/{}/cancel", running.job);
    running.member.post(&path, &Value::Null).await.status_is(StatusCode::OK).await;
    let epoch = running.lease.epoch;
    let renewed: Value =
        running.agent.caller.post(&running.attempt("/renew"), &json!({"epoch": epoch})).await.ok().await;
    assert_eq!(renewed["order"]["order"], "cancel");
    let device = async || {
        let path = format!("/api/v1/devices/{}", running.agent.device);
        running.member.get(&path).await.ok::<Value>().await["state"].as_str().unwrap().to_owned()
    };
    assert_eq!(device().await, "busy", "until the agent has cleaned it");
    let body = json!({"epoch": epoch, "evidence": {"stopped": "cancelled", "report": {"state": "missing"}}});
    running.agent.caller.post(&running.attempt("/finish"), &body).await.status_is(StatusCode::OK).await;
    assert_eq!(device().await, "idle");
    let job: Value = running.member.get(&format!("/api/v1/jobs/{}", running.job)).await.ok().await;
    assert_eq!(job["conclusion"], "cancelled");
}

#[tokio::test]
async fn a_lease_that_is_not_renewed_is_lost_and_the_job_waits_again() {
    let world = World::with(|config| config.lease = Duration::from_secs(6)).await;
    let running = world.running("own").await;
    let path = format!("/api/v1/jobs/{}?wait=20s&since=", running.job);
    let mut job: Value = running.member.get(&format!("/api/v1/jobs/{}", running.job)).await.ok().await;
    while job["status"] != "queued" {
        job = running.member.get(&format!("{path}{}", job["version"])).await.ok().await;
    }
    assert_eq!(job["reason"], "lease_lost");
    running.finish_again().await.problem("lease_lost").await;
    let text = world.admin.get("/metrics").await.status_is(StatusCode::OK).await;
    assert!(
        text.contains("qgjob_lease_expired_total 1") && text.contains("qgjob_stale_reports_rejected_total 1"),
        "{text}"
    );
}

#[tokio::test]
async fn an_operator_takes_devices_and_agents_out_and_brings_them_back() {
    let world = World::new().await;
    let agent = world.agent("one").await;
    let device = format!("/api/v1/devices/{}", agent.device);
    let state =
        async |path: String| world.admin.post(&path, &Value::Null).await.ok::<Value>().await["state"].clone();
    assert_eq!(state(format!("{device}/drain")).await, "drained");
    assert_eq!(state(format!("{device}/enable")).await, "idle");
    let path = format!("/api/v1/agents/{}", agent.id);
    assert_eq!(state(format!("{path}/drain")).await, "draining");
    let reply: Value = agent.caller.post("/agent/v1/heartbeat", &agent.heartbeat(false)).await.ok().await;
    assert_eq!(reply["drain"], true);
    assert_eq!(state(format!("{path}/enable")).await, "online");
    world.admin.delete(&path).await.status_is(StatusCode::NO_CONTENT).await;
    world.admin.get(&path).await.problem("not_found").await;
    agent.caller.post("/agent/v1/heartbeat", &agent.heartbeat(false)).await.problem("unauthenticated").await;
}
