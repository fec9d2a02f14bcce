//! Streams with something in them that bad policies trip over.

use crate::random::Random;

use super::Workload;
use super::duration::Durations;
use super::stream::{Commit, Fleet, Stream};

/// The orgs of the background.
const BACKGROUND_ORGS: usize = 100;
const INSTALL_S: f64 = 60.0;

fn background(devices: usize, load: f64) -> Stream {
    Stream {
        orgs: BACKGROUND_ORGS,
        devices,
        load,
        hours: 4.0,
        fleet: Fleet::Uniform,
        priorities: false,
        ..Stream::default()
    }
}

/// Tiny groups of priority 10 (one to three jobs of 40 s, 60 s to install), `trickle_load` of the fleet, over a background.
pub fn trickle(seed: u64, devices: usize, load: f64, trickle_load: f64) -> Workload {
    const ORGS: usize = 20;
    const JOB_S: f64 = 40.0;
    let stream = background(devices, load);
    let mut workload = stream.workload(seed);
    workload.name = "urgent trickle".to_owned();
    workload.orgs += ORGS;
    let mut random = Random::new(seed ^ 0x71);
    let rate = trickle_load * devices as f64 / (2.0 * JOB_S + INSTALL_S);
    let mut now = 0.0;
    for version in 1_000_000.. {
        now += random.exponential(1.0 / rate);
        if now > stream.hours * 3_600.0 {
            break;
        }
        let org = random.below(ORGS);
        let jobs = 1 + random.below(3);
        let commit = Commit {
            org: BACKGROUND_ORGS + org,
            app: 10_000 + org,
            version,
            at: now,
            priority: 10,
            jobs,
            durations: Durations::Fixed(JOB_S),
            install_s: INSTALL_S,
        };
        stream.add(&mut workload, &mut random, &commit);
    }
    workload.sort_by_arrival();
    workload
}

/// One run of `jobs` jobs at the start, by org 0, over a background of other orgs.
pub fn giant(seed: u64, devices: usize, jobs: usize, load: f64) -> Workload {
    let stream = background(devices, load);
    let mut workload = with_org_0_apart(stream.workload(seed), "giant run");
    let mut random = Random::new(seed ^ 0x91);
    let commit = Commit {
        org: 0,
        app: 20_000,
        version: 2_000_000,
        at: 1.0,
        priority: 5,
        jobs,
        durations: stream.durations,
        install_s: INSTALL_S,
    };
    stream.add(&mut workload, &mut random, &commit);
    workload.sort_by_arrival();
    workload
}

/// `runs` ordinary runs by org 0, two a second from minute 10 on, over a background of other orgs.
pub fn flood(seed: u64, devices: usize, runs: usize, load: f64) -> Workload {
    let stream = background(devices, load);
    let mut workload = with_org_0_apart(stream.workload(seed), "flood");
    let mut random = Random::new(seed ^ 0x93);
    for at in 0..runs {
        let jobs = (20_f64.ln() + 15_f64.ln() * random.unit()).exp() as usize;
        let commit = Commit {
            org: 0,
            app: 20_000 + (at % 20),
            version: 2_000_000 + at,
            at: 600.0 + at as f64 * 0.5,
            priority: 5,
            jobs,
            durations: stream.durations,
            install_s: INSTALL_S,
        };
        stream.add(&mut workload, &mut random, &commit);
    }
    workload.sort_by_arrival();
    workload
}

/// Six hours of priority-9 runs at load 1.3; one run of 50 jobs of priority 1, the last org's, arrives at minute 10.
pub fn starvation(seed: u64, devices: usize, load: f64) -> Workload {
    let stream = Stream { orgs: 50, hours: 6.0, ..background(devices, load) };
    let mut workload = stream.workload(seed);
    workload.name = "starvation".to_owned();
    for group in &mut workload.groups {
        group.priority = 9;
    }
    for run in &mut workload.runs {
        run.priority = 9;
    }
    workload.measured = super::Span::ALWAYS;
    workload.orgs += 1;
    let mut random = Random::new(seed);
    let commit = Commit {
        org: 50,
        app: 99_999,
        version: 9_999_999,
        at: 600.0,
        priority: 1,
        jobs: 50,
        durations: stream.durations,
        install_s: INSTALL_S,
    };
    stream.add(&mut workload, &mut random, &commit);
    workload.sort_by_arrival();
    workload
}

/// Makes room for a special org 0, and measures from the start, where it acts.
fn with_org_0_apart(mut workload: Workload, name: &str) -> Workload {
    workload.name = name.to_owned();
    workload.measured.from = 0.0;
    workload.orgs += 1;
    for run in &mut workload.runs {
        run.org += 1;
    }
    for group in &mut workload.groups {
        group.org += 1;
    }
    workload
}
