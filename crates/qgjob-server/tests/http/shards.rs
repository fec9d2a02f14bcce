//! Shards: the tests of a file that ran before are split into jobs, each test into one.

use std::collections::BTreeSet;

use qgjob_core::api::agents::Lease;
use qgjob_core::model::shard::Shard;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::world::{Agent, Caller, Expect, World, eventually};

/// A test: its titles, how many of them name what runs as one, and how long it takes.
type Test = (&'static [&'static str], u32, u64);

const TESTS: &[Test] = &[
    (&["a"], 1, 300),
    (&["b"], 1, 200),
    (&["c"], 1, 100),
    (&["order", "pays"], 1, 250),
    (&["order", "arrives"], 1, 150),
];

/// What a runner would select of `tests`.
fn selected(shard: Option<&Shard>, tests: &[Test]) -> Vec<Test> {
    let named = |shard: &Shard, test: &Test| {
        let titles: Vec<String> = test.0.iter().map(|title| (*title).to_owned()).collect();
        shard.tests.iter().any(|name| titles.starts_with(name))
    };
    let runs = |test: &Test| shard.is_none_or(|shard| named(shard, test) != shard.is_last());
    tests.iter().filter(|test| runs(test)).copied().collect()
}

/// Runs the tests of a lease, which all pass; answers what the server says.
async fn play(agent: &Agent, lease: &Lease, tests: &[Test]) -> Value {
    let file = lease.test.as_str();
    let id = |test: &Test| test.0.join("/");
    let tests = selected(lease.shard.as_ref(), tests);
    let tries: Vec<Value> = (1..)
        .zip(&tests)
        .map(|(seq, test)| {
            json!({"seq": seq, "test_id": id(test), "title": test.0, "unit": test.1, "file": file, "line": 1, "retry": 0,
                "status": "passed", "outcome": "expected", "duration_ms": test.2})
        })
        .collect();
    let attempt = |rest: &str| format!("/agent/v1/attempts/{}{rest}", lease.attempt_id);
    let body = json!({"epoch": lease.epoch, "tries": tries});
    agent.caller.post(&attempt("/tests"), &body).await.status_is(StatusCode::NO_CONTENT).await;
    let reported: Vec<Value> = tests
        .iter()
        .map(|test| json!({"test_id": id(test), "file": file, "outcome": "expected", "tries": 1}))
        .collect();
    let report = json!({"state": "read", "tests": reported, "errors": []});
    let body = json!({"epoch": lease.epoch, "evidence": {"exit": {"code": 0}, "report": report}});
    agent.caller.post(&attempt("/finish"), &body).await.ok().await
}

async fn submit(member: &Caller, body: &Value, key: &str) -> Response {
    member
        .request(Method::POST, "/api/v1/runs")
        .header("idempotency-key", key)
        .json(body)
        .send()
        .await
        .unwrap()
}

fn shard_of(job: &Value) -> Shard {
    serde_json::from_value(job["shard"].clone()).unwrap()
}

/// Runs all jobs of a run; answers how often each test ran.
async fn run_all(agent: &Agent, jobs: usize, claim: &str, tests: &[Test]) -> Vec<&'static [&'static str]> {
    let mut ran = Vec::new();
    for number in 0..jobs {
        let lease = agent.claim(&format!("{claim}-{number}")).await.pop().expect("a job waits");
        ran.extend(selected(lease.shard.as_ref(), tests).iter().map(|test| test.0));
        play(agent, &lease, tests).await;
    }
    ran.sort_unstable();
    ran
}

fn names(tests: &[Test]) -> Vec<&'static [&'static str]> {
    let mut names: Vec<_> = tests.iter().map(|test| test.0).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn a_file_that_ran_before_is_split_and_each_of_its_tests_runs_once() {
    let world = World::new().await;
    let running = world.running("own").await;
    let (member, agent) = (&running.member, &running.agent);
    let mut body = member.new_run("own", &["a.spec.js", "never-ran.spec.js"]).await;
    body["shards"] = json!(2);
    play(agent, &running.lease, TESTS).await;

    let made: Value = submit(member, &body, "first").await.ok().await;
    let jobs = made["jobs"].as_array().unwrap();
    let tests: Vec<_> = jobs.iter().map(|job| job["test"].as_str().unwrap()).collect();
    assert_eq!(tests, ["a.spec.js", "a.spec.js", "never-ran.spec.js"]);
    assert!(jobs[2].get("shard").is_none(), "nothing is recorded of it");
    let shards = [shard_of(&jobs[0]), shard_of(&jobs[1])];
    assert_eq!(shards.each_ref().map(|shard| (shard.index, shard.of)), [(1, 2), (2, 2)]);
    // 400 for the serial suite and 100 make 500, as do 300 and 200.
    assert_eq!(shards[0].tests.len(), 2);
    assert_eq!(shards[0].tests, shards[1].tests, "the last one leaves to the first what that runs");
    let run = format!("/api/v1/runs/{}", made["run_id"].as_str().unwrap());
    let view: Value = member.get(&run).await.ok().await;
    let predicted = |at: usize| view["job_list"][at]["predicted_ms"].as_u64().unwrap();
    assert_eq!(predicted(0), predicted(1));
    assert_eq!(shard_of(&view["job_list"][1]), shards[1]);

    // A test that is new since runs once, too.
    let grown: Vec<Test> = TESTS.iter().copied().chain([(&["new"][..], 1, 5_000)]).collect();
    let ran = run_all(agent, 3, "first", &grown).await;
    let own: BTreeSet<_> = ran.iter().copied().collect();
    assert_eq!(own.into_iter().collect::<Vec<_>>(), names(&grown));
    assert_eq!(ran.len(), 2 * grown.len(), "once in its file's shards, once in the other file");
    let view: Value = member.get(&run).await.ok().await;
    assert_eq!((view["conclusion"].as_str(), view["exit_code"].as_u64()), (Some("passed"), Some(0)));

    // What was recorded since changes nothing about a key that is known.
    let again = submit(member, &body, "first").await;
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    let again: Value = again.ok().await;
    let ids = |made: &Value| {
        made["jobs"].as_array().unwrap().iter().map(|job| job["job_id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!((&again["run_id"], ids(&again)), (&made["run_id"], ids(&made)));

    // Both shards together are the new record: the test that was new is as long as all others.
    let next: Value = submit(member, &body, "second").await.ok().await;
    assert_eq!(next["jobs"].as_array().unwrap().len(), 4);
    let first = shard_of(&next["jobs"][0]);
    assert_eq!(first.tests, [["new"]]);
}

#[tokio::test]
async fn a_retried_shard_is_the_same_shard_and_no_record_of_its_file() {
    let world = World::new().await;
    let running = world.running("own").await;
    let (member, agent) = (&running.member, &running.agent);
    play(agent, &running.lease, TESTS).await;
    let mut body = member.new_run("own", &["a.spec.js"]).await;
    body["shards"] = json!(3);
    let made: Value = submit(member, &body, "first").await.ok().await;
    run_all(agent, 3, "first", TESTS).await;
    let job = made["jobs"][1]["job_id"].as_str().unwrap();
    let retried: Value = member.post(&format!("/api/v1/jobs/{job}/retry"), &Value::Null).await.ok().await;
    assert_eq!(retried["jobs"].as_array().unwrap().len(), 1);
    assert_eq!(shard_of(&retried["jobs"][0]), shard_of(&made["jobs"][1]));
    let lease = agent.claim("retry").await.pop().unwrap();
    assert_eq!(lease.shard, Some(shard_of(&made["jobs"][1])));
    play(agent, &lease, TESTS).await;
    let next: Value = submit(member, &body, "second").await.ok().await;
    let shards = |made: &Value| made["jobs"].as_array().unwrap().iter().map(shard_of).collect::<Vec<_>>();
    assert_eq!(shards(&next), shards(&made));
}

/// How long a job of the test file, submitted now, is expected to take.
async fn predicted_ms(member: &Caller, test: &str) -> u64 {
    let made = member.submit("own", &[test]).await;
    let id = made["job_id"].as_str().unwrap();
    let job: Value = member.get(&format!("/api/v1/jobs/{id}")).await.ok().await;
    member.post(&format!("/api/v1/jobs/{id}/cancel"), &Value::Null).await.status_is(StatusCode::OK).await;
    job["predicted_ms"].as_u64().unwrap()
}

#[tokio::test]
async fn what_shards_take_is_not_what_their_file_takes() {
    let world = World::new().await;
    let running = world.running("own").await;
    let (member, agent) = (&running.member, &running.agent);
    play(agent, &running.lease, TESTS).await;
    let is_learned = async |test: &str, before: u64| predicted_ms(member, test).await < before;
    eventually(async || is_learned("a.spec.js", 60_000).await).await;
    let unknown = predicted_ms(member, "b.spec.js").await;
    let mut body = member.new_run("own", &["a.spec.js"]).await;
    body["shards"] = json!(4);
    submit(member, &body, "first").await.status_is(StatusCode::CREATED).await;
    run_all(agent, 4, "first", TESTS).await;
    // What is learned is learned in order: once this one is known, the shards would be.
    member.submit("own", &["b.spec.js"]).await;
    run_all(agent, 1, "second", TESTS).await;
    eventually(async || is_learned("b.spec.js", unknown).await).await;
    // Two jobs of the app leave much to the prior, which is a minute; six that took no time would leave nothing.
    let file = predicted_ms(member, "a.spec.js").await;
    assert!(file > 1_000, "{file}");
}

#[tokio::test]
async fn a_shard_whose_tests_are_gone_is_skipped() {
    let world = World::new().await;
    let running = world.running("own").await;
    let (member, agent) = (&running.member, &running.agent);
    play(agent, &running.lease, TESTS).await;
    let mut body = member.new_run("own", &["a.spec.js"]).await;
    body["shards"] = json!(2);
    let made: Value = submit(member, &body, "first").await.ok().await;
    run_all(agent, 2, "first", &[(&["new"], 1, 1)]).await;
    let run: Value =
        member.get(&format!("/api/v1/runs/{}", made["run_id"].as_str().unwrap())).await.ok().await;
    let ends: Vec<_> = run["job_list"].as_array().unwrap().iter().map(|job| &job["conclusion"]).collect();
    assert_eq!(ends, ["skipped", "passed"]);
    assert_eq!(run["conclusion"], "passed");
}

#[tokio::test]
async fn auto_splits_a_long_file_once_a_second_device_can_help() {
    let world = World::new().await;
    let running = world.running("own").await;
    let (member, agent) = (&running.member, &running.agent);
    let hour = 3_600_000;
    play(agent, &running.lease, &[(&["a"], 1, hour), (&["b"], 1, hour), (&["c"], 1, 2 * hour)]).await;
    let mut body = member.new_run("own", &["a.spec.js"]).await;
    body["shards"] = json!("auto");
    let alone: Value = member.post("/api/v1/runs", &body).await.ok().await;
    assert_eq!(alone["jobs"].as_array().unwrap().len(), 1, "{alone}");
    world.agent("second").await;
    let made: Value = member.post("/api/v1/runs", &body).await.ok().await;
    assert_eq!(made["jobs"].as_array().unwrap().len(), 2, "{made}");
    let run: Value =
        member.get(&format!("/api/v1/runs/{}", made["run_id"].as_str().unwrap())).await.ok().await;
    let predicted: Vec<_> =
        run["job_list"].as_array().unwrap().iter().map(|job| &job["predicted_ms"]).collect();
    assert_eq!(
        predicted,
        [&json!(2 * hour); 2],
        "the file's own record is longer than what is expected of it"
    );
}

#[tokio::test]
async fn a_file_of_serial_tests_and_a_number_that_is_none() {
    let world = World::new().await;
    let running = world.running("own").await;
    let (member, agent) = (&running.member, &running.agent);
    play(agent, &running.lease, &[(&["a"], 0, 1_000), (&["b"], 0, 2_000)]).await;
    let mut body = member.new_run("own", &["a.spec.js"]).await;
    for shards in [json!(2), json!("auto")] {
        body["shards"] = shards;
        let made: Value = member.post("/api/v1/runs", &body).await.ok().await;
        assert!(made["job_id"].is_string() && made["jobs"][0].get("shard").is_none(), "{made}");
    }
    for shards in [json!(0), json!(51), json!("two"), json!(true)] {
        body["shards"] = shards;
        member.post("/api/v1/runs", &body).await.problem("invalid_request").await;
    }
}
