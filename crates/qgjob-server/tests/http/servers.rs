//! Two servers on one PostgreSQL, with one data folder.

use std::sync::Arc;

use qgjob_core::clock::SystemClock;
use qgjob_server::store::Rules;
use qgjob_server::store::postgres::Postgres;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Database};
use crate::streams::Seen;
use crate::world::{Agent, Caller, Expect, Running, World, credential_file};

/// A server on the database; a second one shares the first one's data folder and credential.
async fn server(url: &str, first: Option<&World>) -> World {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Postgres::open(url, Rules::default()).await.unwrap());
    let data = first.map(|first| first.folder.path().join("data"));
    if let Some(first) = first {
        std::fs::copy(credential_file(&first.folder), credential_file(&folder)).unwrap();
    }
    World::keeping(folder, store, Arc::new(SystemClock), |config| {
        config.data_dir = data.unwrap_or_else(|| config.data_dir.clone());
    })
    .await
}

async fn two() -> (Database, World, World) {
    let database = Cluster::shared().database().await;
    let one = server(&database.url(), None).await;
    let two = server(&database.url(), Some(&one)).await;
    (database, one, two)
}

/// The same caller at another server.
fn at(world: &World, caller: &Caller) -> Caller {
    Caller::new(&world.url, caller.token.as_deref().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_submitted_at_one_server_runs_and_is_watched_at_the_other() {
    let (_database, one, two) = two().await;
    let member = one.member("own").await;
    member.bind("own", "v1").await;
    // The agent registers at one server and waits for work at the other.
    let agent = one.agent("rack").await;
    let agent = Agent { caller: at(&two, &agent.caller), ..agent };
    let waiting = tokio::spawn(async move {
        let leases = agent.claim("claim-1").await;
        (agent, leases)
    });
    two.is_asked(&[("/agent/v1/claim", reqwest::Method::POST)], 0).await;
    let submitted = member.submit("own", &["a.spec.js"]).await;
    let text = |field: &str| submitted[field].as_str().unwrap().to_owned();
    let path = format!("/api/v1/runs/{}/events", text("run_id"));
    let watching = tokio::spawn({
        let (elsewhere, path) = (at(&two, &member), path.clone());
        async move {
            let mut seen = Seen::default();
            assert!(seen.read(&elsewhere, &path, usize::MAX).await, "the stream ends with the run");
            seen
        }
    });
    let (agent, mut leases) = waiting.await.unwrap();
    let lease = leases.pop().expect("what was submitted at the other server wakes the agent");
    // It reports at the server where it did not claim.
    let agent = Agent { caller: at(&one, &agent.caller), ..agent };
    let running = Running { member: member.clone(), agent, lease, run: text("run_id"), job: text("job_id") };
    let finished: Value = running.finish().await.ok().await;
    assert_eq!(finished["conclusion"], "passed", "{finished}");
    let seen = watching.await.unwrap();
    assert_eq!(seen.events.last().unwrap()["type"], "run.completed");
    let mut again = Seen::default();
    assert!(again.read(&member, &path, usize::MAX).await);
    assert_eq!(again.seqs(), seen.seqs(), "both servers tell the same");

    // One of them goes; the other one goes on.
    let kept = one.stop().await;
    let member = at(&two, &member);
    let submitted = member.submit("own", &["b.spec.js"]).await;
    let agent = Agent { caller: at(&two, &running.agent.caller), ..running.agent };
    let leases = agent.claim("claim-2").await;
    assert_eq!(leases[0].job_id.to_string(), submitted["job_id"].as_str().unwrap());
    drop(kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_paused_at_one_server_is_not_placed_by_the_other() {
    let (_database, one, two) = two().await;
    let member = one.member("own").await;
    member.bind("own", "v1").await;
    let agent = two.agent("rack").await;
    one.admin.post("/api/v1/orgs/own/pause", &Value::Null).await.status_is(StatusCode::OK).await;
    let submitted = member.submit("own", &["a.spec.js"]).await;
    let waiting = tokio::spawn(async move { agent.claim("claim-1").await });
    two.is_asked(&[("/agent/v1/claim", reqwest::Method::POST)], 0).await;
    assert!(!waiting.is_finished(), "it got a job of an org that is paused");
    two.admin.post("/api/v1/orgs/own/resume", &Value::Null).await.status_is(StatusCode::OK).await;
    let leases = waiting.await.unwrap();
    assert_eq!(leases[0].job_id.to_string(), submitted["job_id"].as_str().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_does_not_answer_is_told_as_busy() {
    let database = Cluster::shared().database().await;
    let url = format!("{}?options=-c%20lock_timeout%3D100ms", database.url());
    let world = server(&url, None).await;
    let member = world.member("own").await;
    member.bind("own", "v1").await;
    let run = member.new_run("own", &["a.spec.js"]).await;
    let holder = database.connect().await;
    holder.batch_execute("BEGIN; LOCK TABLE counters").await.unwrap();
    let refused = member.post("/api/v1/runs", &run).await;
    assert_eq!(refused.headers().get("retry-after").unwrap(), "1");
    assert_eq!(refused.problem("busy").await.status, 503);
    world.nobody().get("/readyz").await.status_is(StatusCode::SERVICE_UNAVAILABLE).await;
    holder.batch_execute("ROLLBACK").await.unwrap();
    world.nobody().get("/readyz").await.status_is(StatusCode::OK).await;
    let _: Value = member.post("/api/v1/runs", &json!(run)).await.ok().await;
}
