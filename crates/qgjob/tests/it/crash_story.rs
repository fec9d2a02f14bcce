//! `kill -9` of the server, again and again, while agents that obey the protocol work through a queue: nothing is lost,
//! nothing ends twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use qgjob::agent::link::{self, Link};
use qgjob_core::api::agents::{
    ClaimRequest, FinishReport, Heartbeat, Held, Lease, PhaseReport, Registration, ReportedDevice,
    TestsReport,
};
use qgjob_core::api::problem::Code;
use qgjob_core::clock::{Clock, SystemClock};
use qgjob_core::model::attempt::{Install, InstallAction, Phase};
use qgjob_core::model::evidence::{Evidence, Exit, Report, ReportedTest};
use qgjob_core::model::selector::{Platform, Target};
use qgjob_core::model::test_result::{TestOutcome, Try, TryStatus};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::device_bench::eventually;
use crate::world::{GOOD, ORG, World};

const KILLS: u32 = 20;
const RUNS: usize = 20;
const JOBS_PER_RUN: usize = 10;
const AGENTS: usize = 4;
const DEVICES_PER_AGENT: usize = 2;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_twenty_times_loses_no_job_and_ends_none_twice() {
    let mut world = World::without_agent(0).await;
    let app = crate::world::apk("1.4.2");
    assert_eq!(world.qgjob(&["app", "upload", ORG, GOOD, app.to_str().unwrap()]).await.code, 0);
    let mut tokens = Vec::new();
    for _ in 0..AGENTS {
        let done = world.qgjob(&["agent", "token", "create", "-o", "json"]).await;
        tokens.push(done.json()["secret"].as_str().unwrap().to_owned());
    }
    // Uploads the bundle; what is submitted afterwards refers to it.
    let specs = specs();
    let plan = world.submit(&[GOOD, &format!("--test={}", specs[0])]).await;
    let bundle = world.job(&plan).await["bundle_sha256"].as_str().unwrap().to_owned();
    let over = CancellationToken::new();
    for (at, token) in tokens.into_iter().enumerate() {
        tokio::spawn(agent(world.url(), token, at, over.clone()));
    }
    // A registration token works once, so the killing starts when its answer is no longer on the way.
    eventually("the agents are registered", async || {
        let agents = world.qgjob(&["agent", "list", "-o", "json"]).await.json();
        agents["items"].as_array().unwrap().len() == AGENTS
    })
    .await;
    let submits = tokio::spawn(submit_all(world.url(), world.token(), bundle, specs, over.clone()));

    for _ in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(100 + (SystemClock.random() % 500) as u64)).await;
        world.kill_server();
        world.start_server().await;
    }
    let last_start = SystemClock.now();
    let mut last_end = last_start;
    let runs = submits.await.unwrap();
    assert_eq!(runs.len(), RUNS);
    let mut attempts = 0;
    for run in &runs {
        let done = world.qgjob(&["wait", "--run-id", run, "--wait-timeout=60s", "-o", "json"]).await;
        assert_eq!(done.code, 0, "{done:?}");
        let view = world.qgjob(&["run", "view", run, "-o", "json"]).await.json();
        assert_eq!(view["jobs"]["passed"].as_u64(), Some(JOBS_PER_RUN as u64), "{view}");
        attempts += view["job_list"]
            .as_array()
            .unwrap()
            .iter()
            .map(|job| job["attempts"].as_u64().unwrap())
            .sum::<u64>();
        last_end = last_end.max(one_end_each(&world, run).await);
    }
    // A lease of 6 s, a backoff of at most 4 s, and the work itself, on a machine that may be busy otherwise. By the
    // events, which know nothing of how long it takes to ask for them.
    let took = last_end.duration_since(last_start);
    assert!(took.as_secs() < 90, "{took} after the last start");
    let listed = world.qgjob(&["run", "list", "-o", "json", "--limit=200"]).await.json();
    assert_eq!(listed["items"].as_array().unwrap().len(), RUNS + 1, "a repeated submit made a second run");
    eprintln!("{} jobs, {attempts} attempts, {KILLS} kills", RUNS * JOBS_PER_RUN);
    over.cancel();
}

fn specs() -> Vec<String> {
    ["about", "cart", "catalog", "checkout", "flaky", "item", "login", "navigation", "profile", "settings"]
        .map(|name| format!("tests/{name}.spec.js"))
        .to_vec()
}

/// Submits each run until it is accepted, under one key, as a pipeline would.
async fn submit_all(
    url: String,
    token: String,
    bundle: String,
    specs: Vec<String>,
    over: CancellationToken,
) -> Vec<String> {
    let client = reqwest::Client::new();
    let mut runs = Vec::new();
    for at in 0..RUNS {
        let body = serde_json::json!({
            "org_id": "qualgent", "app_version_id": "xyz123", "bundle_sha256": bundle, "tests": specs,
            "infra_retries": 10,
        });
        let run = loop {
            assert!(!over.is_cancelled());
            let request = client.post(format!("{url}/api/v1/runs")).bearer_auth(&token).json(&body);
            let request =
                request.header("idempotency-key", format!("run-{at}")).timeout(Duration::from_secs(5));
            if let Ok(answer) = request.send().await
                && answer.status().is_success()
                && let Ok(body) = answer.json::<Value>().await
            {
                break body["run_id"].as_str().unwrap().to_owned();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        runs.push(run);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    runs
}

/// Each job of the run has exactly one `job.completed`, and the run one `run.completed`. Answers when that was.
async fn one_end_each(world: &World, run: &str) -> Timestamp {
    let url = format!("{}/api/v1/runs/{run}/events?last_event_id=0", world.url());
    let answer = reqwest::Client::new().get(url).bearer_auth(world.token()).send().await.unwrap();
    let text = answer.text().await.unwrap();
    let mut ends: BTreeMap<String, u32> = BTreeMap::new();
    let (mut numbers, mut run_ends) = (Vec::new(), Vec::new());
    for data in text.lines().filter_map(|line| line.strip_prefix("data:")) {
        let event: Value = serde_json::from_str(data).unwrap();
        numbers.push(event["seq"].as_u64().unwrap());
        match event["type"].as_str().unwrap() {
            "job.completed" => {
                *ends.entry(event["job_id"].as_str().unwrap().to_owned()).or_default() += 1;
            }
            "run.completed" => run_ends.push(event["at"].as_str().unwrap().parse().unwrap()),
            _ => {}
        }
    }
    assert_eq!(ends.len(), JOBS_PER_RUN);
    assert!(ends.values().all(|count| *count == 1), "{ends:?}");
    assert!(numbers.is_sorted_by(|a, b| a < b), "events are numbered and in order");
    assert_eq!(run_ends.len(), 1, "the run ended once");
    run_ends[0]
}

/// An agent that does everything right and runs nothing.
async fn agent(url: String, token: String, number: usize, over: CancellationToken) {
    let link = Link::new(&url, &token).unwrap();
    let body = Registration { name: format!("fake-{number}"), version: "0".to_owned() };
    let registered = link::persist(&over, || link.register(&body)).await.unwrap();
    let link = link.with_token(&registered.token);
    let held: Arc<Mutex<Vec<Held>>> = Arc::default();
    let mut fresh = true;
    let mut ids = Vec::new();
    let mut open = tokio::task::JoinSet::new();
    let busy: Arc<Mutex<Vec<qgjob_core::model::device::Id>>> = Arc::default();
    while !over.is_cancelled() {
        let attempts = held.lock().await.clone();
        let beat = Heartbeat { fresh, devices: devices(number), attempts };
        if let Ok(reply) = link.heartbeat(&beat).await {
            fresh = false;
            ids = reply.devices.values().copied().collect();
        }
        let taken = busy.lock().await.clone();
        let free: Vec<_> = ids.iter().copied().filter(|id| !taken.contains(id)).collect();
        if !free.is_empty() {
            let request = ClaimRequest { claim_id: format!("{:x}", SystemClock.random()), devices: free };
            for lease in claim(&link, &request).await {
                held.lock().await.push(Held { attempt_id: lease.attempt_id, epoch: lease.epoch });
                busy.lock().await.push(lease.device_id);
                let (link, over, held, busy) = (link.clone(), over.clone(), held.clone(), busy.clone());
                open.spawn(async move {
                    attempt(&link, &lease, &over).await;
                    held.lock().await.retain(|other| other.attempt_id != lease.attempt_id);
                    busy.lock().await.retain(|other| *other != lease.device_id);
                });
            }
        } else {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Claims, and asks again under the same id when the answer is lost.
async fn claim(link: &Link, request: &ClaimRequest) -> Vec<Lease> {
    for _ in 0..20 {
        match link.claim(request, Duration::from_secs(1)).await {
            Ok(reply) => return reply.leases,
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    Vec::new()
}

async fn attempt(link: &Link, lease: &Lease, over: &CancellationToken) {
    let id = lease.attempt_id;
    // As its heartbeats say, its devices have nothing.
    let install = Some(Install { action: InstallAction::Cold, duration_ms: 1 });
    let phase = PhaseReport { epoch: lease.epoch, phase: Phase::Testing, install };
    tolerate(link::persist(over, || link.phase(id, &phase)).await);
    tokio::time::sleep(Duration::from_millis((SystemClock.random() % 100) as u64)).await;
    let one = Try {
        seq: 1,
        test_id: "t".to_owned(),
        title: vec!["t".to_owned()],
        unit: None,
        file: lease.test.to_string(),
        line: 1,
        retry: 0,
        status: TryStatus::Passed,
        by_suite: None,
        outcome: TestOutcome::Expected,
        duration_ms: 1,
        error: None,
        files: Vec::new(),
    };
    let tests = TestsReport { epoch: lease.epoch, tries: vec![one] };
    tolerate(link::persist(over, || link.tests(id, &tests)).await);
    let reported = ReportedTest {
        test_id: "t".to_owned(),
        file: lease.test.to_string(),
        outcome: TestOutcome::Expected,
        tries: 1,
    };
    let report = Report::Read { tests: vec![reported], errors: vec![] };
    let evidence = Evidence { stopped: None, fault: None, exit: Some(Exit::Code(0)), selected: None, report };
    let finish = FinishReport { epoch: lease.epoch, evidence };
    tolerate(link::persist(over, || link.finish(id, &finish)).await.map(drop));
}

/// A lease that ran out while the server was away is no error of the agent's.
fn tolerate(answer: Result<(), link::Error>) {
    match answer {
        Ok(()) | Err(link::Error::Over) => {}
        Err(error) if error.code() == Some(Code::LeaseLost) => {}
        Err(error) => panic!("{error}"),
    }
}

fn devices(agent: usize) -> Vec<ReportedDevice> {
    let device = |at: usize| ReportedDevice {
        name: format!("fake-{agent}-{at}"),
        serial: format!("fake-{agent}-{at}"),
        platform: Platform::Android,
        kind: Target::Emulator,
        model: "Pixel 7".to_owned(),
        os_version: "14".to_owned(),
        tags: Default::default(),
        online: true,
        note: None,
        ledger: vec![],
    };
    (0..DEVICES_PER_AGENT).map(device).collect()
}
