//! Reruns: a new run of what failed, with the totals of the full set.

use qgjob_core::api::agents::Lease;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::world::{Agent, Caller, Expect, Running, World};

/// A test: its title, and whether it passes.
type Test = (&'static str, bool);

/// Runs the tests that a lease names, or all.
async fn play(agent: &Agent, lease: &Lease, tests: &[Test]) {
    let named = |test: &&Test| {
        lease.only.is_empty() || lease.only.iter().any(|named| named.title == [test.0.to_owned()])
    };
    let tests: Vec<&Test> = tests.iter().filter(named).collect();
    let file = lease.test.as_str();
    let outcome = |passes| if passes { "expected" } else { "unexpected" };
    let tries: Vec<Value> = (1..)
        .zip(&tests)
        .map(|(seq, (title, passes))| {
            let status = if *passes { "passed" } else { "failed" };
            json!({"seq": seq, "test_id": title, "title": [title], "unit": 1, "file": file, "line": seq, "retry": 0,
                "status": status, "outcome": outcome(*passes), "duration_ms": 100})
        })
        .collect();
    let attempt = |rest: &str| format!("/agent/v1/attempts/{}{rest}", lease.attempt_id);
    let body = json!({"epoch": lease.epoch, "tries": tries});
    agent.caller.post(&attempt("/tests"), &body).await.status_is(StatusCode::NO_CONTENT).await;
    let reported: Vec<Value> = tests
        .iter()
        .map(|(title, passes)| json!({"test_id": title, "file": file, "outcome": outcome(*passes), "tries": 1}))
        .collect();
    let code = i32::from(tests.iter().any(|test| !test.1));
    let report = json!({"state": "read", "tests": reported, "errors": []});
    let body = json!({"epoch": lease.epoch, "evidence": {"exit": {"code": code}, "report": report}});
    agent.caller.post(&attempt("/finish"), &body).await.status_is(StatusCode::OK).await;
}

async fn next(agent: &Agent, claim: &str) -> Lease {
    agent.claim(claim).await.pop().expect("a job waits")
}

/// A run of two files that is over: `a.spec.js` passed, one of three tests of `b.spec.js` failed.
async fn failed(world: &World) -> (Running, String) {
    let running = world.running("own").await;
    let (member, agent) = (&running.member, &running.agent);
    running.finish().await.status_is(StatusCode::OK).await;
    let mut body = member.new_run("own", &["a.spec.js", "b.spec.js"]).await;
    body["name"] = json!("nightly");
    body["labels"] = json!({"branch": "main"});
    body["priority"] = json!(9);
    body["env"] = json!({"STAGE": "two"});
    let made: Value = member.post("/api/v1/runs", &body).await.ok().await;
    for claim in ["first", "second"] {
        let lease = next(agent, claim).await;
        match lease.test.as_str() {
            "a.spec.js" => play(agent, &lease, &[("w", true), ("x", true)]).await,
            _ => play(agent, &lease, &[("x", true), ("y", false), ("z", true)]).await,
        }
    }
    (running, made["run_id"].as_str().unwrap().to_owned())
}

async fn rerun(member: &Caller, run: &str, key: Option<&str>) -> Response {
    let mut request = member.request(Method::POST, &format!("/api/v1/runs/{run}/rerun-failed"));
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    request.send().await.unwrap()
}

async fn view(member: &Caller, run: &Value) -> Value {
    member.get(&format!("/api/v1/runs/{}", run.as_str().unwrap())).await.ok().await
}

fn counts(passed: u32, failed: u32) -> Value {
    json!({"total": passed + failed, "passed": passed, "failed": failed, "flaky": 0, "skipped": 0})
}

#[tokio::test]
async fn what_failed_runs_again_alone_and_the_totals_stay_those_of_the_full_set() {
    let world = World::new().await;
    let (running, run) = failed(&world).await;
    let (member, agent) = (&running.member, &running.agent);
    let answer = rerun(member, &run, Some("again")).await;
    let location = answer.headers()["location"].to_str().unwrap().to_owned();
    let made: Value = answer.ok().await;
    assert_eq!(location, format!("/api/v1/runs/{}", made["run_id"].as_str().unwrap()));
    assert_eq!(made["jobs"].as_array().unwrap().len(), 1, "{made}");
    let begun = view(member, &made["run_id"]).await;
    assert_eq!((&begun["rerun_of"], &begun["retry_of"]), (&json!(run), &Value::Null));
    assert_eq!((&begun["tests"], &begun["carried"]), (&counts(4, 1), &counts(4, 0)));
    assert_eq!((&begun["name"], &begun["labels"]), (&json!("nightly"), &json!({"branch": "main"})));
    let job = &begun["job_list"][0];
    assert_eq!(
        (&job["test"], &job["priority"], &job["env"]["STAGE"]),
        (&json!("b.spec.js"), &json!(9), &json!("two"))
    );
    let named = &job["rerun"]["tests"];
    assert_eq!(
        (named.as_array().unwrap().len(), &named[0]["title"][0], &named[0]["line"]),
        (1, &json!("y"), &json!(2))
    );

    let lease = next(agent, "again").await;
    assert_eq!(lease.only.len(), 1);
    play(agent, &lease, &[("x", false), ("y", true), ("z", false)]).await;
    let over = view(member, &made["run_id"]).await;
    assert_eq!((&over["conclusion"], &over["exit_code"]), (&json!("passed"), &json!(0)));
    assert_eq!((&over["tests"], &over["carried"]), (&counts(5, 0), &counts(4, 0)));
    let tests = format!("/api/v1/runs/{}/tests?limit=2", made["run_id"].as_str().unwrap());
    let page: Value = member.get(&tests).await.ok().await;
    assert_eq!((&page["items"][0]["title"][0], page["items"][0].get("carried_from")), (&json!("y"), None));
    let mut told: Vec<Value> = page["items"].as_array().unwrap().clone();
    let mut cursor = page["next_cursor"].clone();
    while let Some(next) = cursor.as_str() {
        let page: Value = member.get(&format!("{tests}&cursor={next}")).await.ok().await;
        told.extend(page["items"].as_array().unwrap().iter().cloned());
        cursor = page["next_cursor"].clone();
    }
    assert_eq!(told.len(), 5);
    assert_eq!(told.iter().filter(|test| test["carried_from"] == json!(run)).count(), 4);

    // The same key is the same run; and nothing is left to repeat.
    let same = rerun(member, &run, Some("again")).await;
    assert_eq!(same.headers()["idempotency-replayed"], "true");
    assert_eq!(same.ok::<Value>().await["run_id"], made["run_id"]);
    let path = format!("/api/v1/runs/{}/rerun-failed", made["run_id"].as_str().unwrap());
    let nothing = member.post(&path, &Value::Null).await.problem("nothing_to_rerun").await;
    assert_eq!((nothing.status, u8::from(nothing.code.exit_code())), (409, 6));
    let old = view(member, &json!(run)).await;
    assert_eq!((&old["tests"], &old["conclusion"]), (&counts(4, 1), &json!("failed")));
}

#[tokio::test]
async fn a_rerun_needs_a_run_that_is_over_and_visible() {
    let world = World::new().await;
    let running = world.running("own").await;
    let member = &running.member;
    rerun(member, &running.run, None).await.problem("wrong_status").await;
    rerun(member, "run_01kb4x9tpz0000000000000000", None).await.problem("not_found").await;
    rerun(member, "nonsense", None).await.problem("not_found").await;
    running.finish().await.status_is(StatusCode::OK).await;
    rerun(member, &running.run, None).await.problem("nothing_to_rerun").await;
    let other = world.member("other").await;
    rerun(&other, &running.run, None).await.problem("not_found").await;
}

#[tokio::test]
async fn a_key_leads_to_its_run_and_to_no_other_request() {
    let world = World::new().await;
    let (running, run) = failed(&world).await;
    let member = &running.member;
    let made: Value = rerun(member, &run, Some("again")).await.ok().await;
    let find = async |query: &str| member.get(&format!("/api/v1/runs?{query}")).await.ok::<Value>().await;
    let found = find("idempotency_key=again").await;
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
    assert_eq!(found["items"][0]["id"], made["run_id"]);
    assert_eq!(find("idempotency_key=again&org_id=own").await, found);
    assert_eq!(find("idempotency_key=unknown").await["items"], json!([]));
    let admin = &world.admin;
    admin.get("/api/v1/runs?idempotency_key=again").await.problem("invalid_request").await;
    let found: Value = admin.get("/api/v1/runs?idempotency_key=again&org_id=own").await.ok().await;
    assert_eq!(found["items"][0]["id"], made["run_id"]);
    let body = member.new_run("own", &["a.spec.js"]).await;
    let other = member.request(Method::POST, "/api/v1/runs").header("idempotency-key", "again").json(&body);
    other.send().await.unwrap().problem("idempotency_key_reused").await;
    // Each without a key is a run of its own.
    let one: Value = rerun(member, &run, None).await.ok().await;
    let two: Value = rerun(member, &run, None).await.ok().await;
    assert_ne!(one["run_id"], two["run_id"]);
}

#[tokio::test]
async fn a_cancelled_run_is_repeated_whole() {
    let world = World::new().await;
    let running = world.running("own").await;
    let (member, agent) = (&running.member, &running.agent);
    running.finish().await.status_is(StatusCode::OK).await;
    let made = member.submit("own", &["a.spec.js", "b.spec.js"]).await;
    let run = made["run_id"].as_str().unwrap();
    member.post(&format!("/api/v1/runs/{run}/cancel"), &Value::Null).await.status_is(StatusCode::OK).await;
    let again: Value = rerun(member, run, None).await.ok().await;
    assert_eq!(again["jobs"].as_array().unwrap().len(), 2);
    for claim in ["a", "b"] {
        let lease = next(agent, claim).await;
        assert!(lease.only.is_empty());
        play(agent, &lease, &[("x", true), ("y", true)]).await;
    }
    let over = view(member, &again["run_id"]).await;
    assert_eq!(
        (&over["conclusion"], &over["tests"], &over["carried"]),
        (&json!("passed"), &counts(4, 0), &counts(0, 0))
    );
}
