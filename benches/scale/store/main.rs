//! Fills a store and measures its verbs, in this process: `scale-store --db=PATH fill --queued=N --groups=G
//! --finished=M`, then any number of times `scale-store --db=PATH measure`, which leaves as many jobs queued as it found.
//! Prints one line of JSON: CPU microseconds per job of submit, claim and finish, the fsyncs included.

mod world;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use qgjob_server::store::sqlite::Sqlite;
use qgjob_server::store::{Rules, Store};
use serde_json::json;

use crate::world::World;

/// Jobs of each group while a store is filled with finished ones.
const FINISHED_AT_ONCE: usize = 1_000;
/// Jobs that one measurement submits, claims and finishes.
const MEASURED: usize = 4_000;
/// Calls that wait together: submits of one job, claims, finishes.
const TOGETHER: usize = 50;

fn value(name: &str) -> Option<String> {
    std::env::args().find_map(|arg| arg.strip_prefix(&format!("--{name}=")).map(str::to_owned))
}

fn number(name: &str) -> usize {
    value(name).map_or(0, |text| text.parse().expect("a number"))
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let path = PathBuf::from(value("db").expect("--db=PATH"));
    let store: Arc<dyn Store> = Arc::new(Sqlite::open(&path, Rules::default()).expect("the store opens"));
    let mut world = World::of(store);
    match std::env::args().any(|arg| arg == "measure") {
        true => measure(&mut world).await,
        false => fill(&mut world, number("queued"), number("groups"), number("finished")).await,
    }
}

async fn fill(world: &mut World, queued: usize, groups: usize, finished: usize) {
    world.prepare(groups, FINISHED_AT_ONCE).await;
    for _ in 0..finished / FINISHED_AT_ONCE {
        let jobs = world.submit(10, FINISHED_AT_ONCE / 10, 0).await;
        let leases = world.claim(jobs).await;
        world.finish(leases).await;
    }
    let each = queued / groups.max(1);
    for first in (0..groups).step_by(100) {
        for group in first..groups.min(first + 100) {
            world.submit(1, each, group).await;
        }
    }
}

async fn measure(world: &mut World) {
    world.find_rack().await;
    // The first calls prepare the statements.
    cycle(world, TOGETHER, 0).await;
    let mut spent = [0.0; 3];
    let began = Instant::now();
    for (at, _) in (0..MEASURED).step_by(TOGETHER).enumerate() {
        let took = cycle(world, TOGETHER, at).await;
        spent.iter_mut().zip(took).for_each(|(sum, one)| *sum += one);
    }
    let [submit, claim, finish] = spent.map(|seconds| seconds * 1e6 / MEASURED as f64);
    let wall = began.elapsed().as_secs_f64() * 1e6 / MEASURED as f64;
    println!("{}", json!({"submit_us": submit, "claim_us": claim, "finish_us": finish, "wall_us": wall}));
}

/// Submits, claims and finishes `jobs` jobs of a group; answers the CPU seconds of each.
async fn cycle(world: &mut World, jobs: usize, at: usize) -> [f64; 3] {
    let group = world.some_group(at);
    let began = cpu();
    let jobs = world.submit(jobs, 1, group).await;
    let submitted = cpu();
    let leases = world.claim(jobs).await;
    let claimed = cpu();
    world.finish(leases).await;
    [submitted - began, claimed - submitted, cpu() - claimed]
}

/// CPU seconds of this process, all threads.
fn cpu() -> f64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}
