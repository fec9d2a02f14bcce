//! The load that `make bench-queue` and `make bench-scale` put on a running `qgjob server`: one scenario a call, over
//! loopback, with connections that stay open. Prints one line of JSON: jobs, seconds, CPU seconds of server and client,
//! latencies; the scenario `level`, which is for a store of `scale-store`: the server's CPU microseconds per job.

mod agent;
mod cpu;
mod http;
mod latency;
mod level;
mod scene;
mod submit;

use std::io::Result;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::cpu::Cpu;
use crate::scene::Scene;

/// What a scenario did.
pub struct Done {
    /// Jobs that were submitted, finished or started, whatever the scenario counts.
    pub jobs: usize,
    /// How long each took, in any order; empty when the scenario does not say.
    pub took: Vec<Duration>,
}

/// What is wanted, from `--name=value` arguments.
struct Wanted {
    server: String,
    token: String,
    server_pid: u32,
    scenario: String,
    seconds: f64,
    clients: usize,
    jobs: usize,
    rate: f64,
    labels: usize,
}

impl Wanted {
    fn read() -> Self {
        let value = |name: &str| {
            std::env::args().find_map(|arg| arg.strip_prefix(&format!("--{name}=")).map(str::to_owned))
        };
        let text = |name: &str| value(name).unwrap_or_else(|| panic!("--{name}= is missing"));
        let number = |name: &str, otherwise: f64| -> f64 {
            value(name).map_or(otherwise, |text| text.parse().expect("a number"))
        };
        Self {
            server: text("server"),
            token: text("token"),
            server_pid: text("server-pid").parse().expect("a process id"),
            scenario: text("scenario"),
            seconds: number("seconds", 2.0),
            clients: number("clients", 64.0) as usize,
            jobs: number("jobs", 10_000.0) as usize,
            rate: number("rate", 2_000.0),
            labels: number("labels", 0.0) as usize,
        }
    }
}

// One thread: the drivers of the other queues have one, too.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let wanted = Wanted::read();
    if wanted.scenario == "level" {
        return level(&wanted).await;
    }
    let scene = Scene::set(&wanted.server, &wanted.token).await?;
    let span = Duration::from_secs_f64(wanted.seconds);
    let agent = match wanted.scenario.as_str() {
        "drain" | "latency" => Some(agent::Agent::register(&scene, wanted.clients).await?),
        _ => None,
    };
    if wanted.scenario == "drain" {
        submit::fill(&scene, wanted.jobs).await?;
    }
    let (cpu, began) = (Cpu::of(wanted.server_pid), Instant::now());
    let done = match (wanted.scenario.as_str(), agent) {
        ("single", _) => submit::closed_loop(&scene, wanted.clients, 1, span).await?,
        ("bulk", _) => submit::closed_loop(&scene, wanted.clients, 100, span).await?,
        ("drain", Some(agent)) => agent::drain(agent, wanted.jobs).await?,
        ("latency", Some(agent)) => latency::measure(&scene, agent, wanted.rate, span).await?,
        (other, _) => panic!("no scenario {other:?}"),
    };
    let seconds = began.elapsed().as_secs_f64();
    let (server, client) = cpu.spent();
    let mut took = done.took;
    took.sort_unstable();
    let at = |part: f64| {
        let place = ((took.len() as f64 * part) as usize).min(took.len().saturating_sub(1));
        took.get(place).map(|took| took.as_secs_f64() * 1_000.0)
    };
    let line = json!({
        "jobs": done.jobs, "seconds": seconds, "server_cpu": server, "client_cpu": client,
        "p50_ms": at(0.5), "p99_ms": at(0.99),
    });
    println!("{line}");
    Ok(())
}

async fn level(wanted: &Wanted) -> Result<()> {
    let scene = Scene::found(&wanted.server, &wanted.token, wanted.labels);
    let agent = agent::Agent::register(&scene, wanted.clients).await?;
    // The first calls prepare the statements.
    level::measure(&scene, &agent, wanted.clients, 0, 1, wanted.server_pid).await?;
    let line =
        level::measure(&scene, &agent, wanted.clients, wanted.jobs, wanted.jobs, wanted.server_pid).await?;
    println!("{line}");
    Ok(())
}
