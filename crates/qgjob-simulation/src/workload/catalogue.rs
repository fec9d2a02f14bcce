//! The workloads that have a name.

use super::Workload;
use super::burst::Burst;
use super::duration::{Durations, Installs};
use super::stream::{Fleet, Stream};
use super::{Churn, Span, faults, hostile};

/// A workload with a name; a seed makes it one.
#[derive(Debug, Clone, Copy)]
pub struct Named {
    /// Its name.
    pub name: &'static str,
    /// What it is, on one line.
    pub about: &'static str,
    draw: fn(u64, Changes) -> Workload,
}

/// What can be changed of a named workload.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Changes {
    /// Another number of devices.
    pub devices: Option<usize>,
    /// Another load: work that arrives per device and second, installs not included. Bursts have none.
    pub load: Option<f64>,
}

impl Changes {
    fn devices(self, usual: usize) -> usize {
        self.devices.unwrap_or(usual)
    }

    fn load(self, usual: f64) -> f64 {
        self.load.unwrap_or(usual)
    }

    fn stream(self, load: f64) -> Stream {
        Stream { load: self.load(load), devices: self.devices(500), ..Stream::default() }
    }
}

impl Named {
    /// Draws it.
    pub fn draw(&self, seed: u64, changes: Changes) -> Workload {
        Workload { name: self.name.to_owned(), ..(self.draw)(seed, changes) }
    }
}

/// The workload of this name.
pub fn named(name: &str) -> Option<&'static Named> {
    ALL.iter().find(|named| named.name == name)
}

/// The workloads that a name means: the one that is called so, or else all whose name begins with it.
pub fn matching(name: &str) -> Vec<&'static Named> {
    match named(name) {
        Some(exact) => vec![exact],
        None => ALL.iter().filter(|named| !name.is_empty() && named.name.starts_with(name)).collect(),
    }
}

fn burst(versions: usize, jobs: usize, install_s: f64, changes: Changes, seed: u64) -> Workload {
    Burst { devices: changes.devices(50), versions, jobs, install_s }.workload(seed)
}

fn with_install(install_s: f64, changes: Changes, seed: u64) -> Workload {
    Stream { installs: Installs::Fixed(install_s), ..changes.stream(0.75) }.workload(seed)
}

fn frozen(load: f64, changes: Changes, seed: u64) -> Workload {
    let stream = Stream {
        devices: changes.devices(150),
        orgs: 60,
        hours: 4.0,
        fleet: Fleet::Uniform,
        priorities: false,
        ..changes.stream(load)
    };
    Workload { measured: Span::ALWAYS, ..stream.workload(seed) }
}

macro_rules! named {
    ($($name:literal, $about:literal, $draw:expr;)*) => {
        &[$(Named { name: $name, about: $about, draw: $draw }),*]
    };
}

/// Every named workload.
pub const ALL: &[Named] = named! {
    "a1", "burst: 1 version x 2,000 jobs, 50 devices, 60 s to install", |s, c| burst(1, 2_000, 60.0, c, s);
    "a2", "burst: 40 versions x 50 jobs, 50 devices, 60 s to install", |s, c| burst(40, 50, 60.0, c, s);
    "a3", "burst: 200 versions x 10 jobs, 50 devices, 120 s to install", |s, c| burst(200, 10, 120.0, c, s);
    "b5", "commits of 200 orgs on 500 mixed devices for 8 hours, load 0.5", |s, c| c.stream(0.5).workload(s);
    "b7", "commits of 200 orgs on 500 mixed devices for 8 hours, load 0.7", |s, c| c.stream(0.7).workload(s);
    "b8", "commits of 200 orgs on 500 mixed devices for 8 hours, load 0.8", |s, c| c.stream(0.8).workload(s);
    "b9", "commits of 200 orgs on 500 mixed devices for 8 hours, load 0.9", |s, c| c.stream(0.9).workload(s);
    "c", "10,000 devices, 1,000 orgs, 103 jobs a second for 2.5 hours, load 0.8", |s, c| Stream {
        orgs: 1_000,
        devices: c.devices(10_000),
        hours: 2.5,
        durations: Durations::LogNormal { median: 55.0, sigma: 0.85 },
        ..c.stream(0.8)
    }.workload(s);
    "d1", "a trickle of tiny groups of priority 10, over commits at load 0.5 on 200 devices",
        |s, c| hostile::trickle(s, c.devices(200), c.load(0.5), 0.3);
    "d2", "one run of 20,000 jobs, over commits at load 0.5 on 200 devices",
        |s, c| hostile::giant(s, c.devices(200), 20_000, c.load(0.5));
    "d2b", "one org submits 150 runs at once, over commits at load 0.5 on 200 devices",
        |s, c| hostile::flood(s, c.devices(200), 150, c.load(0.5));
    "d3", "commits at load 0.8 whose jobs have a heavy tail: 30 s to 1 hour", |s, c| Stream {
        durations: Durations::Pareto { least: 30.0, exponent: 1.3, cap: 3_600.0 },
        hours: 10.0,
        ..c.stream(0.8)
    }.workload(s);
    "d4", "commits at load 0.6; each device leaves every 30 minutes for 5, half of them wiped", |s, c| Workload {
        churn: Some(Churn { mean_up_s: 1_800.0, mean_down_s: 300.0, wiped: 0.5 }),
        ..c.stream(0.6).workload(s)
    };
    "d5-10", "commits at load 0.75, 10 s to install", |s, c| with_install(10.0, c, s);
    "d5-30", "commits at load 0.75, 30 s to install", |s, c| with_install(30.0, c, s);
    "d5-60", "commits at load 0.75, 60 s to install", |s, c| with_install(60.0, c, s);
    "d5-120", "commits at load 0.75, 120 s to install", |s, c| with_install(120.0, c, s);
    "d5-180", "commits at load 0.75, 180 s to install", |s, c| with_install(180.0, c, s);
    "e6", "commits of 60 orgs on 150 devices for 4 hours, load 0.6", |s, c| frozen(0.6, c, s);
    "e8", "commits of 60 orgs on 150 devices for 4 hours, load 0.8", |s, c| frozen(0.8, c, s);
    "e9", "commits of 60 orgs on 150 devices for 4 hours, load 0.9", |s, c| frozen(0.9, c, s);
    "f-black-holes", "commits at load 0.6; 2 % of the devices break 90 % of their jobs in 8 s", |s, c| {
        let mut workload = c.stream(0.6).workload(s);
        faults::black_holes(&mut workload, s, 0.02, 0.9);
        workload
    };
    "f-weak-devices", "commits at load 0.6; 5 % of the devices break 30 % of their jobs", |s, c| {
        let mut workload = c.stream(0.6).workload(s);
        faults::black_holes(&mut workload, s, 0.05, 0.3);
        workload
    };
    "f-broken-builds", "commits at load 0.6; 5 % of the versions break 70 % of their jobs on every device", |s, c| {
        let mut workload = c.stream(0.6).workload(s);
        faults::broken_builds(&mut workload, s);
        workload
    };
    "f-poison", "commits at load 0.6; one job of 200 takes its device down", |s, c| {
        let mut workload = c.stream(0.6).workload(s);
        faults::poison(&mut workload, s, 0.005);
        workload
    };
    "s", "6 hours of priority-9 runs at load 1.3 on 200 devices; one run of priority 1 arrives in minute 10",
        |s, c| hostile::starvation(s, c.devices(200), c.load(1.3));
};
