//! Submits, claims and finishes in turns, so that as much waits after as before: what each costs the server.

use std::io::Result;

use serde_json::{Value, json};

use crate::agent::{self, Agent};
use crate::cpu::Cpu;
use crate::scene::Scene;
use crate::submit;

/// Jobs that are submitted before as many are claimed and finished.
const AT_ONCE: usize = 500;

/// Submits `jobs` jobs by `clients` connections, `first` being the number of the first, and finishes as many of those that
/// wait. Answers the server's CPU microseconds per job.
pub async fn measure(
    scene: &Scene,
    agent: &Agent,
    clients: usize,
    first: usize,
    jobs: usize,
    server: u32,
) -> Result<Value> {
    let cpu = Cpu::of(server);
    let (mut submitting, mut serving, mut over) = (0.0, [0.0; 2], 0);
    for done in (0..jobs).step_by(AT_ONCE) {
        let began = cpu.spent().0;
        submit::singly(scene, clients, first + done, AT_ONCE).await?;
        submitting += cpu.spent().0 - began;
        let (jobs, spent) = agent::in_turns(agent, AT_ONCE, &cpu).await?;
        over += jobs;
        serving.iter_mut().zip(spent).for_each(|(sum, one)| *sum += one);
    }
    let submitted = jobs.next_multiple_of(AT_ONCE);
    let per = |seconds: f64, jobs: usize| seconds * 1e6 / jobs as f64;
    Ok(json!({
        "submit_us": per(submitting, submitted), "claim_us": per(serving[0], over), "finish_us": per(serving[1], over),
    }))
}
