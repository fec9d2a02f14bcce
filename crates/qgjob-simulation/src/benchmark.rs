//! The benchmark of placement: rows of targets, each to be held by qgjob's placement on named workloads and seeds.
//!
//! Most targets are ratios, to a bound or to what FIFO does with the same seed, so that they mean the same after the
//! workloads change. Nothing depends on the machine but the row in nanoseconds.

mod cells;
mod offline;
mod rows;

use serde::Serialize;

pub use cells::Seeds;

/// One target.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// The row it belongs to: `A1`, `B8`, …
    pub row: &'static str,
    /// What is measured.
    pub what: String,
    /// What came out.
    pub measured: f64,
    /// What it must be.
    pub target: Target,
    /// Whether it is.
    pub holds: bool,
}

/// What a number must be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
    /// Less than this.
    Below(f64),
}

impl Target {
    fn holds(self, measured: f64) -> bool {
        match self {
            Self::AtMost(limit) => measured <= limit,
            Self::AtLeast(limit) => measured >= limit,
            Self::Below(limit) => measured < limit,
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtMost(limit) => write!(out, "≤ {limit}"),
            Self::AtLeast(limit) => write!(out, "≥ {limit}"),
            Self::Below(limit) => write!(out, "< {limit}"),
        }
    }
}

/// Runs every row, in as many threads as given.
///
/// Takes about 30 s on two cores with the usual seeds.
pub fn run(seeds: &Seeds, threads: usize) -> Vec<Check> {
    let cells = cells::compute(&rows::plan(), seeds, threads);
    rows::checks(&cells)
}

fn check(row: &'static str, what: impl Into<String>, measured: f64, target: Target) -> Check {
    Check { row, what: what.into(), measured, target, holds: target.holds(measured) }
}
