//! The rows: which workloads they need, and what must hold.

use super::cells::{Cell, Cells, Plan, Variant};
use super::{Check, Target, check, offline};

use Target::{AtLeast, AtMost, Below};
use Variant::{Fifo, Frugal, Qgjob};

const FOUR: &[u64] = &[10, 11, 12, 13];
const THREE: &[u64] = &[0, 1, 2];

const fn plan_of(workload: &'static str, variants: &'static [Variant], seeds: &'static [u64]) -> Plan {
    Plan { workload, variants, seeds, frozen: false }
}

/// What to replay; the largest first.
pub(super) fn plan() -> Vec<Plan> {
    let mut plans = vec![
        plan_of("c", &[Qgjob, Fifo], &[0]),
        plan_of("b9", &[Qgjob], FOUR),
        plan_of("b8", &[Qgjob, Frugal], FOUR),
        plan_of("b7", &[Qgjob], FOUR),
        plan_of("b5", &[Qgjob], FOUR),
        plan_of("d1", &[Qgjob], THREE),
        plan_of("d2", &[Qgjob, Fifo], THREE),
        plan_of("d2b", &[Qgjob], THREE),
        plan_of("d3", &[Qgjob], THREE),
        plan_of("d4", &[Qgjob], THREE),
        plan_of("d5-10", &[Qgjob, Fifo], THREE),
        plan_of("d5-30", &[Qgjob], THREE),
        plan_of("d5-60", &[Qgjob], THREE),
        plan_of("d5-120", &[Qgjob], THREE),
        plan_of("d5-180", &[Qgjob, Fifo], THREE),
        plan_of("f-black-holes", &[Qgjob], THREE),
        plan_of("f-broken-builds", &[Qgjob], THREE),
        plan_of("s", &[Qgjob], THREE),
        plan_of("a1", &[Qgjob], THREE),
        plan_of("a2", &[Qgjob], THREE),
        plan_of("a3", &[Qgjob], THREE),
    ];
    let frozen = ["e6", "e8", "e9"];
    plans.extend(frozen.map(|workload| Plan { frozen: true, ..plan_of(workload, &[Qgjob], THREE) }));
    plans
}

const INSTALLS: &str = "installs / bound";
const SLOWDOWN: &str = "mean slowdown of runs";
const JAIN: &str = "Jain's index of orgs";

/// Measures every row.
pub(super) fn checks(cells: &Cells) -> Vec<Check> {
    let mut checks = Vec::new();
    bursts(cells, &mut checks);
    streams(cells, &mut checks);
    large(cells, &mut checks);
    hostile(cells, &mut checks);
    checks.extend(offline::checks(cells));
    let mean = |workload, value: fn(&Cell) -> f64| cells.mean(workload, Qgjob, value);
    let low_priority = |cell: &Cell| {
        let run = cell.runs.iter().find(|run| run.priority == 1);
        run.map_or(f64::INFINITY, |run| run.completion_s)
    };
    let done = mean("s", low_priority);
    checks.push(check("S", "run of priority 1 done after, s", done, AtMost(2_000.0)));
    let failed = mean("f-black-holes", |cell| cell.metrics.faults.good_jobs_failed);
    checks.push(check("F", "good jobs failed by black holes", failed, AtMost(15.0)));
    let healthy = mean("f-broken-builds", |cell| cell.metrics.faults.healthy_quarantined);
    checks.push(check("F", "healthy devices in quarantine for a broken build", healthy, AtMost(0.0)));
    checks
}

fn bursts(cells: &Cells, checks: &mut Vec<Check>) {
    let rows = [("A1", "a1", 1.02, 50.0), ("A2", "a2", 1.16, 330.0), ("A3", "a3", 1.18, 350.0)];
    for (row, workload, makespan, installs) in rows {
        let mean = |value: fn(&Cell) -> f64| cells.mean(workload, Qgjob, value);
        let measured = mean(|cell| cell.metrics.makespan_over_bound);
        checks.push(check(row, "makespan / bound", measured, AtMost(makespan)));
        checks.push(check(row, "installs", mean(|cell| cell.metrics.installs), AtMost(installs)));
    }
}

fn streams(cells: &Cells, checks: &mut Vec<Check>) {
    let rows = [
        ("B5", "b5", 1.13, 1.20, 0.96),
        ("B7", "b7", 1.17, 1.35, 0.92),
        ("B8", "b8", 1.20, 1.52, 0.90),
        ("B9", "b9", 1.20, 2.05, 0.86),
    ];
    for (row, workload, installs, slowdown, jain) in rows {
        let mean = |value: fn(&Cell) -> f64| cells.mean(workload, Qgjob, value);
        checks.push(check(row, INSTALLS, mean(installs_over_bound), AtMost(installs)));
        checks.push(check(row, SLOWDOWN, mean(slowdown_of_runs), AtMost(slowdown)));
        checks.push(check(row, JAIN, mean(|cell| cell.metrics.jain), AtLeast(jain)));
    }
    let frugal = cells.mean("b8", Frugal, installs_over_bound);
    checks.push(check("B8′", "installs / bound with spread_longest 1", frugal, AtMost(1.13)));
}

fn large(cells: &Cells, checks: &mut Vec<Check>) {
    let mean = |value: fn(&Cell) -> f64| cells.mean("c", Qgjob, value);
    let fifo = cells.mean("c", Fifo, |cell| cell.metrics.installs);
    let installs = mean(|cell| cell.metrics.installs);
    checks.push(check("C", INSTALLS, mean(installs_over_bound), AtMost(1.14)));
    checks.push(check("C", "installs / FIFO's", installs / fifo, AtMost(0.20)));
    checks.push(check("C", SLOWDOWN, mean(slowdown_of_runs), AtMost(1.20)));
    let p99 = mean(|cell| cell.metrics.decision_ns.p99);
    checks.push(check("C", "decision p99, ns", p99, AtMost(10_000.0)));
}

fn hostile(cells: &Cells, checks: &mut Vec<Check>) {
    let mean = |workload, value: fn(&Cell) -> f64| cells.mean(workload, Qgjob, value);
    let wait = mean("d1", |cell| cell.metrics.wait_s.high.unwrap_or(f64::INFINITY));
    checks.push(check("D1", "mean wait at priority 10, s", wait, AtMost(75.0)));
    checks.push(check("D1", INSTALLS, mean("d1", installs_over_bound), AtMost(1.05)));
    checks.push(check("D1", JAIN, mean("d1", |cell| cell.metrics.jain), AtLeast(0.95)));

    checks.push(check("D2", SLOWDOWN, mean("d2", slowdown_of_runs), AtMost(1.30)));
    let makespan = mean("d2", |cell| cell.metrics.makespan_s);
    let fifo = cells.mean("d2", Fifo, |cell| cell.metrics.makespan_s);
    checks.push(check("D2", "makespan / FIFO's", makespan / fifo, AtMost(0.90)));

    let others = |cell: &Cell| {
        let (sum, count) = cell
            .runs
            .iter()
            .filter(|run| run.org != 0)
            .fold((0.0, 0.0), |(sum, count), run| (sum + run.slowdown, count + 1.0));
        sum / count
    };
    checks.push(check("D2b", "mean slowdown of the other orgs' runs", mean("d2b", others), AtMost(2.6)));

    checks.push(check("D3", SLOWDOWN, mean("d3", slowdown_of_runs), AtMost(1.20)));
    checks.push(check("D3", INSTALLS, mean("d3", installs_over_bound), AtMost(1.38)));

    let completion = mean("d4", |cell| cell.metrics.completion_s.mean);
    checks.push(check("D4", "mean completion of runs, s", completion, AtMost(1_202.0)));
    let lost = mean("d4", |cell| cell.metrics.faults.jobs_lost);
    checks.push(check("D4", "jobs lost", lost, AtMost(0.0)));
    let twice = mean("d4", |cell| cell.metrics.faults.jobs_done_twice);
    checks.push(check("D4", "jobs done twice", twice, AtMost(0.0)));

    let by_install = ["d5-10", "d5-30", "d5-60", "d5-120", "d5-180"];
    let installs = by_install.map(|workload| mean(workload, |cell| cell.metrics.installs));
    let growth = installs.windows(2).map(|pair| pair[1] / pair[0]).fold(0.0, f64::max);
    let what = "installs / those at the next shorter install, most";
    checks.push(check("D5", what, growth, Below(1.0)));
    for (workload, limit) in [("d5-10", 0.92), ("d5-180", 0.12)] {
        let fifo = cells.mean(workload, Fifo, |cell| cell.metrics.completion_s.mean);
        let ratio = mean(workload, |cell| cell.metrics.completion_s.mean) / fifo;
        checks.push(check(
            "D5",
            format!("{workload}: mean completion of runs / FIFO's"),
            ratio,
            AtMost(limit),
        ));
    }
}

fn installs_over_bound(cell: &Cell) -> f64 {
    cell.metrics.installs_over_bound
}

fn slowdown_of_runs(cell: &Cell) -> f64 {
    cell.metrics.slowdown.mean
}
