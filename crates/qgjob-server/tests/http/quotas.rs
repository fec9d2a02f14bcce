//! Limits: who may set which, what they hold back, and what is refused.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::{Caller, Expect, World, eventually};

async fn patch(caller: &Caller, path: &str, body: &Value) -> reqwest::Response {
    caller.request(Method::PATCH, path).json(body).send().await.unwrap()
}

async fn put(caller: &Caller, path: &str, body: &Value) -> reqwest::Response {
    caller.request(Method::PUT, path).json(body).send().await.unwrap()
}

#[tokio::test]
async fn an_admin_changes_a_quota_and_the_org_reads_it() {
    let world = World::new().await;
    let member = world.member("own").await;
    let path = "/api/v1/orgs/own/quotas";
    let usual = json!({"schema": "qgjob.org/v1", "org_id": "own", "weight": 1, "max_running": null,
        "paused": false, "queued": 0, "running": 0});
    assert_eq!(member.get(path).await.ok::<Value>().await, usual);
    for (body, weight, most) in [
        (json!({"weight": 3, "max_running": 5}), 3, json!(5)),
        (json!({"weight": 2}), 2, json!(5)),
        (json!({"max_running": null}), 2, json!(null)),
        (json!({}), 2, json!(null)),
    ] {
        let changed: Value = patch(&world.admin, path, &body).await.ok().await;
        assert_eq!((&changed["weight"], &changed["max_running"]), (&json!(weight), &most), "{body}");
        assert_eq!(member.get(path).await.ok::<Value>().await, changed);
    }
    patch(&member, path, &json!({"weight": 1000})).await.problem("forbidden").await;
    for (body, pointer) in [
        (json!({"weight": 0}), "/weight"),
        (json!({"weight": 1001}), "/weight"),
        (json!({"max_running": 0}), "/max_running"),
        (json!({"max_running": "many"}), "/max_running"),
        (json!({"paused": true}), "/paused"),
    ] {
        let problem = patch(&world.admin, path, &body).await.problem("invalid_request").await;
        assert_eq!(problem.errors[0].pointer, pointer, "{body}");
    }
    let problem = patch(&world.admin, "/api/v1/orgs/-bad/quotas", &json!({})).await;
    assert_eq!(problem.problem("invalid_request").await.errors[0].pointer, "org_id");
    assert_eq!(member.get(path).await.ok::<Value>().await["weight"], 2, "what was refused changed nothing");
}

#[tokio::test]
async fn an_org_limits_its_own_concurrency_groups() {
    let world = World::new().await;
    let (member, other) = (world.member("own").await, world.member("other").await);
    let path = "/api/v1/orgs/own/concurrency-groups";
    let staging = format!("{path}/staging");
    let set: Value = put(&member, &staging, &json!({"limit": 3})).await.ok().await;
    assert_eq!(
        set,
        json!({"schema": "qgjob.concurrency_group/v1", "org_id": "own", "concurrency_group": "staging",
            "limit": 3, "queued": 0, "running": 0})
    );
    let mut run = member.new_run("own", &["a.spec.js"]).await;
    run["concurrency_group"] = json!("database");
    let submitted: Value = member.post("/api/v1/runs", &run).await.ok().await;
    let job = format!("/api/v1/jobs/{}", submitted["jobs"][0]["job_id"].as_str().unwrap());
    assert_eq!(member.get(&job).await.ok::<Value>().await["concurrency_group"], "database");
    eventually(async || {
        let list: Value = member.get(path).await.ok().await;
        let shown =
            |item: &Value| (item["concurrency_group"].clone(), item["limit"].clone(), item["queued"].clone());
        let shown: Vec<_> = list["items"].as_array().unwrap().iter().map(shown).collect();
        shown == [(json!("database"), json!(1), json!(1)), (json!("staging"), json!(3), json!(0))]
    })
    .await;
    let reset: Value = put(&world.admin, &staging, &json!({"limit": 1})).await.ok().await;
    assert_eq!(reset["limit"], 1);
    let list: Value = member.get(path).await.ok().await;
    assert_eq!(list["items"].as_array().unwrap().len(), 1, "what is usual is not listed");
    put(&other, &staging, &json!({"limit": 2})).await.problem("not_found").await;
    for (path, body, pointer) in [
        (&staging, json!({"limit": 0}), "/limit"),
        (&staging, json!({}), "/limit"),
        (&format!("{path}/-bad"), json!({"limit": 1}), "name"),
    ] {
        let problem = put(&member, path, &body).await.problem("invalid_request").await;
        assert_eq!(problem.errors[0].pointer, pointer, "{body}");
    }
    run["concurrency_group"] = json!("two words");
    let problem = member.post("/api/v1/runs", &run).await.problem("invalid_request").await;
    assert_eq!(problem.errors[0].pointer, "/concurrency_group");
}

#[tokio::test]
async fn what_is_paused_gets_no_device_until_it_is_resumed() {
    let world = World::new().await;
    let member = world.member("own").await;
    member.bind("own", "v1").await;
    let paused: Value = member.post("/api/v1/queue/v1/pause", &Value::Null).await.ok().await;
    assert_eq!((&paused["paused"], &paused["queued"]), (&json!(true), &json!(0)));
    member.submit("own", &["a.spec.js"]).await;
    let agent = world.agent("one").await;
    let claim = async |wait: &str, id: &str| -> Vec<Value> {
        let body = json!({"claim_id": id, "devices": [agent.device]});
        let reply: Value = agent.caller.post(&format!("/agent/v1/claim?wait={wait}"), &body).await.ok().await;
        reply["leases"].as_array().unwrap().clone()
    };
    assert_eq!(claim("300ms", "c1").await, Vec::<Value>::new());
    let view: Value = member.get("/api/v1/queue/v1").await.ok().await;
    assert_eq!((&view["paused"], &view["queued"], &view["running"]), (&json!(true), &json!(1), &json!(0)));
    let groups: Value = world.admin.get("/api/v1/queue").await.ok().await;
    assert_eq!((&groups[0]["paused"], &groups[0]["org_paused"]), (&json!(true), &json!(false)));
    // The org rests too: letting the app version go on is not enough.
    world.admin.post("/api/v1/orgs/own/pause", &Value::Null).await.ok::<Value>().await;
    let resumed: Value = member.post("/api/v1/queue/v1/resume", &Value::Null).await.ok().await;
    assert_eq!((&resumed["paused"], &resumed["org_paused"]), (&json!(false), &json!(true)));
    assert_eq!(claim("300ms", "c2").await, Vec::<Value>::new());
    // An agent that waits is woken.
    let resume = async {
        world.is_asked(&[("/agent/v1/claim", Method::POST)], 0).await;
        world.admin.post("/api/v1/orgs/own/resume", &Value::Null).await.ok::<Value>().await
    };
    let (leases, resumed) = tokio::join!(claim("30s", "c3"), resume);
    assert_eq!((leases.len(), &resumed["paused"]), (1, &json!(false)));
}

#[tokio::test]
async fn a_queue_is_asked_for_by_its_whole_label() {
    let world = World::new().await;
    let member = world.member("own").await;
    let label = "/api/v1/queue/feature%2Fpay%3A2";
    member.get(label).await.problem("not_found").await;
    // It may be paused before anything is there.
    let paused: Value = member.post(&format!("{label}/pause"), &Value::Null).await.ok().await;
    assert_eq!(paused["app_version_id"], "feature/pay:2");
    assert_eq!(member.get(label).await.ok::<Value>().await, paused);
    member.post("/api/v1/queue/a%20b/pause", &Value::Null).await.problem("invalid_request").await;
    let problem =
        world.admin.post("/api/v1/queue/v1/pause", &Value::Null).await.problem("invalid_request").await;
    assert_eq!(problem.errors[0].pointer, "org_id", "an admin says whose");
    member.get("/api/v1/queue/v1?org_id=other").await.problem("not_found").await;
}

#[tokio::test]
async fn a_waiting_job_is_promoted_and_no_other() {
    let world = World::new().await;
    let member = world.member("own").await;
    let submitted = member.submit("own", &["a.spec.js"]).await;
    let job = format!("/api/v1/jobs/{}", submitted["jobs"][0]["job_id"].as_str().unwrap());
    let before: Value = member.get(&job).await.ok().await;
    let promoted: Value = member.post(&format!("{job}/promote"), &Value::Null).await.ok().await;
    assert!(before["promoted_at"].is_null() && promoted["promoted_at"].is_string());
    let again: Value = member.post(&format!("{job}/promote"), &Value::Null).await.ok().await;
    assert_eq!(again, promoted);
    let metrics = world.admin.get("/metrics").await.status_is(StatusCode::OK).await;
    assert!(metrics.contains("qgjob_queue_paused{what=\"org\"} 0"), "{metrics}");
    eventually(async || {
        let metrics = world.admin.get("/metrics").await.status_is(StatusCode::OK).await;
        metrics.lines().any(|line| line == "qgjob_jobs_promoted_total 1")
    })
    .await;
    let running = world.running("busy").await;
    let path = format!("/api/v1/jobs/{}/promote", running.job);
    let problem = running.member.post(&path, &Value::Null).await.problem("wrong_status").await;
    assert_eq!(problem.detail, "cannot promote a job that is running");
}
