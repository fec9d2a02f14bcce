//! An agent with many devices: it claims for all that are free in one call, and ends each attempt by a call of its
//! own. Its tests do nothing: the runner ended well and reports that the suite skipped its one test.

use std::io::Result;

use futures_util::StreamExt;
use futures_util::future::try_join_all;
use futures_util::stream::FuturesUnordered;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Done;
use crate::cpu::Cpu;
use crate::http::{Caller, Connection};
use crate::scene::Scene;

/// A registered agent whose devices have the app.
pub struct Agent {
    caller: Caller,
    devices: Vec<String>,
}

/// What the load needs of a lease.
#[derive(Deserialize)]
pub struct Lease {
    attempt_id: String,
    epoch: u64,
    device_id: String,
    /// The job's test.
    pub test: String,
}

#[derive(Deserialize)]
struct ClaimReply {
    leases: Vec<Lease>,
}

#[derive(Deserialize)]
struct FinishReply {
    conclusion: Option<String>,
}

impl Agent {
    /// Registers an agent with `devices` devices. It calls once, so it must be done within the time of a lease.
    pub async fn register(scene: &Scene, devices: usize) -> Result<Self> {
        let mut admin = scene.admin.connect().await?;
        let body = br#"{"kind": "registration", "name": "bench"}"#;
        let token: Value = admin.post("/api/v1/tokens", body).await?;
        let secret = |value: &Value, field: &str| value[field].as_str().expect("a secret").to_owned();
        let newcomer = Caller::new(scene.admin.address(), &secret(&token, "secret"));
        let body = br#"{"name": "bench", "version": "0.1.0"}"#;
        let made: Value = newcomer.connect().await?.post("/agent/v1/register", body).await?;
        let caller = Caller::new(scene.admin.address(), &secret(&made, "token"));
        let installed = scene.app.iter().map(|app| {
            json!({"app_id": "dev.qgjob.bench", "sha256": app, "proof": "device_hash",
                "verified_at": "2026-11-22T10:00:00Z"})
        });
        let installed: Vec<Value> = installed.collect();
        let device = |number: usize| {
            json!({"name": format!("phone-{number}"), "serial": format!("phone-{number}"), "platform": "android",
                "kind": "device", "model": "Pixel 7", "os_version": "14", "tags": [], "online": true, "note": null,
                "ledger": installed})
        };
        let reported: Vec<Value> = (0..devices).map(device).collect();
        let body = json!({"fresh": true, "devices": reported, "attempts": []}).to_string();
        let reply: Value = caller.connect().await?.post("/agent/v1/heartbeat", body.as_bytes()).await?;
        let devices = reply["devices"].as_object().expect("devices by serial");
        let devices = devices.values().map(|id| id.as_str().expect("an id").to_owned()).collect();
        Ok(Self { caller, devices })
    }

    /// Claims and finishes until `more` says no; it is told of every lease as it comes.
    pub async fn work(self, mut more: impl FnMut(&Lease) -> bool) -> Result<()> {
        let Self { caller, devices: mut free } = self;
        let mut idle = Vec::new();
        for _ in 0..free.len() {
            idle.push(caller.connect().await?);
        }
        let mut claimer = Some(caller.connect().await?);
        let (mut claiming, mut finishing) = (FuturesUnordered::new(), FuturesUnordered::new());
        let (mut wanted, mut claims) = (true, 0u64);
        while wanted || !finishing.is_empty() {
            if wanted
                && !free.is_empty()
                && let Some(connection) = claimer.take()
            {
                claims += 1;
                claiming.push(claim(connection, claims, free.clone()));
            }
            tokio::select! {
                Some(ended) = finishing.next() => {
                    let (connection, device) = ended?;
                    idle.push(connection);
                    free.push(device);
                }
                Some(answer) = claiming.next() => {
                    let (connection, leases): (_, Vec<Lease>) = answer?;
                    claimer = Some(connection);
                    for lease in leases {
                        wanted &= more(&lease);
                        free.retain(|device| *device != lease.device_id);
                        let connection = idle.pop().expect("as many connections as devices");
                        finishing.push(finish(connection, lease));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Claims for all devices in one call after the other, each when the leases of the one before are finished, until `jobs`
/// jobs are over. Answers how many there were, and the CPU seconds of the server in claims and in finishes.
pub async fn in_turns(agent: &Agent, jobs: usize, cpu: &Cpu) -> Result<(usize, [f64; 2])> {
    let mut claimer = agent.caller.connect().await?;
    let mut idle = Vec::new();
    for _ in 0..agent.devices.len() {
        idle.push(agent.caller.connect().await?);
    }
    let (mut over, mut spent) = (0, [0.0; 2]);
    for number in 0.. {
        let began = cpu.spent().0;
        let (connection, leases) = claim(claimer, number, agent.devices.clone()).await?;
        claimer = connection;
        let claimed = cpu.spent().0;
        over += leases.len();
        let finishing = leases.into_iter().map(|lease| {
            let connection = idle.pop().expect("as many connections as devices");
            finish(connection, lease)
        });
        let finished = try_join_all(finishing.collect::<Vec<_>>()).await?;
        idle.extend(finished.into_iter().map(|(connection, _)| connection));
        spent[0] += claimed - began;
        spent[1] += cpu.spent().0 - claimed;
        if over >= jobs {
            break;
        }
    }
    Ok((over, spent))
}

/// Finishes `jobs` jobs that wait.
pub async fn drain(agent: Agent, jobs: usize) -> Result<Done> {
    let mut started = 0;
    agent
        .work(|_| {
            started += 1;
            started < jobs
        })
        .await?;
    Ok(Done { jobs: started, took: Vec::new() })
}

async fn claim(
    mut connection: Connection,
    number: u64,
    free: Vec<String>,
) -> Result<(Connection, Vec<Lease>)> {
    let body = json!({"claim_id": format!("claim-{number}"), "devices": free}).to_string();
    let reply: ClaimReply = connection.post("/agent/v1/claim?wait=5s", body.as_bytes()).await?;
    Ok((connection, reply.leases))
}

async fn finish(mut connection: Connection, lease: Lease) -> Result<(Connection, String)> {
    let body = format!(
        r#"{{"epoch":{},"evidence":{{"exit":{{"code":0}},"report":{{"state":"read","tests":[{{"test_id":"t1","file":"{}",
        "outcome":"skipped","tries":1}}],"errors":[]}}}}}}"#,
        lease.epoch, lease.test
    );
    let path = format!("/agent/v1/attempts/{}/finish", lease.attempt_id);
    let answer: FinishReply = connection.post(&path, body.as_bytes()).await?;
    assert_eq!(answer.conclusion.as_deref(), Some("skipped"), "job {}", lease.test);
    Ok((connection, lease.device_id))
}
