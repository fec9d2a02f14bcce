//! One workload under several policies, side by side.

use serde::Serialize;

use crate::engine::{self, Trace};
use crate::metrics::{self, Metrics, Yardstick};
use crate::parallel;
use crate::policy::Choice;
use crate::workload::Workload;
use crate::workload::catalogue::{Changes, Named};

/// Where a workload comes from.
#[derive(Debug)]
pub enum Source {
    /// It is drawn anew for each seed.
    Named(&'static Named, Changes),
    /// It is as it is, with what is to be said of it; seeds are for policies that draw lots.
    Given(Box<Workload>, String),
}

impl Source {
    /// The workload of a seed.
    pub fn workload(&self, seed: u64) -> Workload {
        match self {
            Self::Named(named, changes) => named.draw(seed, *changes),
            Self::Given(workload, _) => Workload::clone(workload),
        }
    }
}

/// What the policies made of a workload. Numbers are means over the seeds; times are in seconds, rounded to four places.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The workload's name.
    pub workload: String,
    /// What it is.
    pub about: String,
    /// The seeds.
    pub seeds: Vec<u64>,
    /// Devices.
    pub devices: f64,
    /// Runs.
    pub runs: f64,
    /// Jobs.
    pub jobs: f64,
    /// No policy ends sooner.
    pub makespan_bound_s: f64,
    /// No policy has a lower mean completion time of the measured runs.
    pub completion_bound_s: f64,
    /// The policies, in the order in which they were asked for.
    pub policies: Vec<PolicyResult>,
}

/// What one policy made of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PolicyResult {
    /// Its name.
    pub policy: String,
    /// Who has it.
    pub of: String,
    /// What came out.
    #[serde(flatten)]
    pub metrics: Metrics,
}

/// Replays a workload under each policy with each seed, in as many threads.
pub fn compare(source: &Source, seeds: &[u64], choices: &[Choice], threads: usize) -> Comparison {
    let drawn = parallel::map(seeds, threads, |&seed| {
        let workload = source.workload(seed);
        let yardstick = Yardstick::of(&workload);
        (seed, workload, yardstick)
    });
    let tasks: Vec<_> =
        choices.iter().flat_map(|choice| drawn.iter().map(move |drawn| (choice, drawn))).collect();
    let results = parallel::map(&tasks, threads, |(choice, (seed, workload, yardstick))| {
        let trace = replay(choice, workload, *seed);
        metrics::measure(workload, yardstick, &trace).metrics
    });
    let mean = |value: &dyn Fn(&Workload, &Yardstick) -> f64| {
        let sum: f64 = drawn.iter().map(|(_, workload, yardstick)| value(workload, yardstick)).sum();
        metrics::rounded(sum / drawn.len().max(1) as f64)
    };
    let (name, about) = match source {
        Source::Named(named, _) => (named.name.to_owned(), named.about.to_owned()),
        Source::Given(workload, about) => (workload.name.clone(), about.clone()),
    };
    Comparison {
        workload: name,
        about,
        seeds: seeds.to_vec(),
        devices: mean(&|workload, _| workload.devices.len() as f64),
        runs: mean(&|workload, _| workload.runs.len() as f64),
        jobs: mean(&|workload, _| workload.jobs() as f64),
        makespan_bound_s: mean(&|_, yardstick| yardstick.makespan_s),
        completion_bound_s: mean(&|_, yardstick| yardstick.mean_completion_s),
        policies: choices
            .iter()
            .zip(results.chunks(seeds.len().max(1)))
            .map(|(choice, metrics)| PolicyResult {
                policy: choice.name().to_owned(),
                of: choice.of().to_owned(),
                metrics: Metrics::mean(metrics),
            })
            .collect(),
    }
}

/// Replays a workload under one policy.
pub fn replay(choice: &Choice, workload: &Workload, seed: u64) -> Trace {
    let mut policy = choice.at_work(workload, seed);
    engine::replay(workload, &mut *policy, seed)
}
