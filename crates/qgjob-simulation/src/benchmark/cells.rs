//! The replays that a benchmark needs: workload, policy and seed.

use std::collections::BTreeMap;

use qgjob_core::queue::placement::Parameters;

use crate::metrics::{self, Metrics, Yardstick};
use crate::parallel;
use crate::policy::Choice;
use crate::report;
use crate::workload::catalogue::{self, Changes};

/// Which policy a cell replays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Variant {
    /// qgjob's placement with its defaults.
    Qgjob,
    /// The same, with fewer installs bought by longer runs: work per device may be as long as the longest job.
    Frugal,
    /// First in, first out.
    Fifo,
}

impl Variant {
    fn choice(self) -> Choice {
        match self {
            Self::Qgjob => Choice::Qgjob(Parameters::default()),
            Self::Frugal => Choice::Qgjob(Parameters { spread_longest: 1.0, ..Parameters::default() }),
            Self::Fifo => Choice::Peer(crate::policy::RULES[0]),
        }
    }
}

/// Which seeds to replay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seeds {
    /// These in every row but those that compare with frozen results; none: those that the targets were set with.
    pub given: Vec<u64>,
}

/// A workload to replay.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub workload: &'static str,
    pub variants: &'static [Variant],
    pub seeds: &'static [u64],
    /// Whether other seeds make no sense.
    pub frozen: bool,
}

/// A run of a cell.
#[derive(Debug, Clone, Copy)]
pub(super) struct CellRun {
    pub org: usize,
    pub priority: u8,
    pub completion_s: f64,
    pub slowdown: f64,
}

/// What one replay showed.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    pub metrics: Metrics,
    pub runs: Vec<CellRun>,
    pub groups: usize,
}

type Key = (&'static str, Variant, u64);

/// All replays.
#[derive(Debug)]
pub(super) struct Cells(BTreeMap<Key, Cell>);

impl Cells {
    /// The cells of a workload and policy, by seed.
    pub(super) fn of(&self, workload: &str, variant: Variant) -> impl Iterator<Item = (u64, &Cell)> {
        self.0
            .iter()
            .filter(move |((name, of, _), _)| *name == workload && *of == variant)
            .map(|((_, _, seed), cell)| (*seed, cell))
    }

    /// The mean over the seeds.
    pub(super) fn mean(&self, workload: &str, variant: Variant, value: impl Fn(&Cell) -> f64) -> f64 {
        let values: Vec<f64> = self.of(workload, variant).map(|(_, cell)| value(cell)).collect();
        values.iter().sum::<f64>() / values.len() as f64
    }
}

/// Replays all, the largest first so that no thread is left with one at the end.
pub(super) fn compute(plans: &[Plan], seeds: &Seeds, threads: usize) -> Cells {
    let mut keys: Vec<Key> = Vec::new();
    for plan in plans {
        let chosen = if plan.frozen || seeds.given.is_empty() { plan.seeds } else { &seeds.given };
        for &seed in chosen {
            keys.extend(plan.variants.iter().map(|&variant| (plan.workload, variant, seed)));
        }
    }
    let done = parallel::map(&keys, threads, |&key| cell(key).map(|cell| (key, cell)));
    Cells(done.into_iter().flatten().collect())
}

fn cell((name, variant, seed): Key) -> Option<Cell> {
    let workload = catalogue::named(name)?.draw(seed, Changes::default());
    let yardstick = Yardstick::of(&workload);
    let trace = report::replay(&variant.choice(), &workload, seed);
    let measured = metrics::measure(&workload, &yardstick, &trace);
    let runs = measured.runs.iter().map(|result| {
        let run = &workload.runs[result.run];
        CellRun {
            org: run.org,
            priority: run.priority,
            completion_s: result.completion_s,
            slowdown: result.slowdown,
        }
    });
    Some(Cell { runs: runs.collect(), metrics: measured.metrics, groups: workload.groups.len() })
}
