//! Nine frozen instances with the results of an offline search that knew the future: exact durations, 240 settings of
//! the rule tuned per instance, then 3,000 steps of local search over each group's spread and place in the order. On 52
//! small instances solved to proven optimality that search ended within 2 % of the optimum on average.

use super::cells::{Cells, Variant};
use super::{Check, Target, check};

/// Seconds of mean completion time that one install per group is worth in the objective.
const INSTALL_PRICE_S: f64 = 10.0;

struct Result {
    seed: u64,
    installs: f64,
    mean_s: f64,
    p95_s: f64,
}

const fn result(seed: u64, installs: f64, mean_s: f64, p95_s: f64) -> Result {
    Result { seed, installs, mean_s, p95_s }
}

struct Load {
    workload: &'static str,
    /// How much worse than the search the objective may be.
    limit: f64,
    results: [Result; 3],
}

const LOADS: [Load; 3] = [
    Load {
        workload: "e6",
        limit: 1.08,
        results: [
            result(0, 2_515.0, 627.0, 883.0),
            result(1, 2_580.0, 703.0, 1_332.0),
            result(2, 2_636.0, 646.0, 866.0),
        ],
    },
    Load {
        workload: "e8",
        limit: 1.11,
        results: [
            result(0, 3_003.0, 730.0, 1_346.0),
            result(1, 3_369.0, 936.0, 2_785.0),
            result(2, 3_330.0, 932.0, 2_717.0),
        ],
    },
    Load {
        workload: "e9",
        limit: 1.16,
        results: [
            result(0, 3_275.0, 856.0, 2_166.0),
            result(1, 3_383.0, 1_172.0, 3_796.0),
            result(2, 3_362.0, 1_151.0, 3_799.0),
        ],
    },
];

pub(super) fn checks(cells: &Cells) -> Vec<Check> {
    let mut checks = Vec::new();
    let (mut worst_p95, mut installs): (f64, Vec<f64>) = (0.0, Vec::new());
    for load in &LOADS {
        let mut objectives = Vec::new();
        for (seed, cell) in cells.of(load.workload, Variant::Qgjob) {
            let Some(best) = load.results.iter().find(|result| result.seed == seed) else { continue };
            let objective =
                |mean_s: f64, installs: f64| mean_s + INSTALL_PRICE_S * installs / cell.groups as f64;
            let completion = cell.metrics.completion_s;
            let ours = objective(completion.mean, cell.metrics.installs);
            objectives.push(ours / objective(best.mean_s, best.installs));
            worst_p95 = worst_p95.max(completion.p95 / best.p95_s);
            installs.push(cell.metrics.installs / best.installs);
        }
        let what = format!("{}: time and installs / offline search", load.workload);
        checks.push(check("E", what, mean(&objectives), Target::AtMost(load.limit)));
    }
    checks.push(check("E", "p95 of runs / offline search, worst", worst_p95, Target::AtMost(1.15)));
    checks.push(check("E", "installs / offline search", mean(&installs), Target::AtMost(1.02)));
    checks
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
