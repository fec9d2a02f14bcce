//! What a replay shows.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::bounds::{self, FirstUses};
use crate::engine::{Attempt, Trace};
use crate::policy::End;
use crate::workload::Workload;

/// The bounds and ideals of a workload; they are the same for every policy.
#[derive(Debug)]
pub struct Yardstick {
    /// For each run, the seconds that it needs on an empty fleet.
    pub ideal_s: Vec<f64>,
    /// No policy ends sooner.
    pub makespan_s: f64,
    /// No policy has a lower mean completion time of the measured runs.
    pub mean_completion_s: f64,
}

impl Yardstick {
    /// Computes them.
    pub fn of(workload: &Workload) -> Self {
        Self {
            ideal_s: bounds::ideal_seconds(workload),
            makespan_s: bounds::makespan(workload),
            mean_completion_s: bounds::mean_completion(workload),
        }
    }
}

/// How one run went.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RunResult {
    /// The run.
    pub run: usize,
    /// From its submission to the end of its last job.
    pub completion_s: f64,
    /// That, over the time that it needs on an empty fleet.
    pub slowdown: f64,
}

/// What one policy made of one workload. Everything but `decision_ns` is the same on every machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Metrics {
    /// Installs of all versions.
    pub installs: f64,
    /// Installs of the measured groups, over the least that any policy needs to serve each in the span from its first
    /// start to its last end.
    pub installs_over_bound: f64,
    /// The same, over the least for the span from submission to last end.
    pub installs_over_flow_bound: f64,
    /// Until the last job is done.
    pub makespan_s: f64,
    /// That, over its lower bound.
    pub makespan_over_bound: f64,
    /// From the submission of a run to the end of its last job; measured runs.
    pub completion_s: Spread,
    /// The mean completion time over its lower bound.
    pub completion_over_bound: f64,
    /// Completion time over that on an empty fleet; measured runs.
    pub slowdown: Spread,
    /// Mean seconds from submission to first start of measured jobs, by their priority.
    pub wait_s: Waits,
    /// Jain's index of the mean slowdowns of orgs with two measured runs or more: 1 when all are slowed down alike, 1/n
    /// when one of n is.
    pub jain: f64,
    /// The highest mean slowdown of such an org.
    pub worst_org_slowdown: f64,
    /// Device time that went into installs, of all there was until arrivals ceased to be measured.
    pub install_share: f64,
    /// What went wrong.
    pub faults: Faults,
    /// How often a device asked.
    pub decisions: f64,
    /// What a decision took on this machine.
    pub decision_ns: Nanoseconds,
}

/// Mean and tail.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Arithmetic mean.
    pub mean: f64,
    /// 95 % are at most this.
    pub p95: f64,
    /// 99 % are at most this.
    pub p99: f64,
}

/// Mean waits in seconds; none when no job has such a priority.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Waits {
    /// Priority 1 to 3.
    pub low: Option<f64>,
    /// Priority 4 to 7.
    pub normal: Option<f64>,
    /// Priority 8 to 10.
    pub high: Option<f64>,
}

/// What went wrong, and what was done about it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Faults {
    /// Attempts that broke or were lost.
    pub attempts: f64,
    /// Device hours that such attempts took.
    pub device_hours: f64,
    /// Jobs that were given up although nothing was wrong with them.
    pub good_jobs_failed: f64,
    /// Jobs that were given up and deserved it.
    pub bad_jobs_failed: f64,
    /// Jobs that were never over.
    pub jobs_lost: f64,
    /// Jobs that were over more than once.
    pub jobs_done_twice: f64,
    /// Devices put in quarantine, each time counted.
    pub quarantines: f64,
    /// Those of them that had no fault.
    pub healthy_quarantined: f64,
}

/// Nanoseconds of the machine's time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Nanoseconds {
    /// Half take at most this.
    pub p50: f64,
    /// 99 % take at most this.
    pub p99: f64,
}

/// A replay, measured.
#[derive(Debug)]
pub struct Measured {
    /// The measured runs.
    pub runs: Vec<RunResult>,
    /// The summary.
    pub metrics: Metrics,
}

/// Measures a replay.
pub fn measure(workload: &Workload, yardstick: &Yardstick, trace: &Trace) -> Measured {
    let groups = group_results(workload, &trace.attempts);
    let runs: Vec<RunResult> = workload
        .runs
        .iter()
        .enumerate()
        .filter(|(_, run)| workload.measured.contains(run.submitted_at))
        .map(|(at, run)| {
            let ended = run.groups.iter().map(|&group| groups[group].ended).fold(0.0, f64::max);
            let completion_s = ended - run.submitted_at;
            RunResult { run: at, completion_s, slowdown: completion_s / yardstick.ideal_s[at] }
        })
        .collect();
    let makespan_s = groups.iter().map(|group| group.ended).fold(0.0, f64::max);
    let completion_s = Spread::of(runs.iter().map(|run| run.completion_s));
    let (jain, worst_org_slowdown) = fairness(workload, &runs);
    let (installs, within_span, within_flow) = installs(workload, &groups);
    let metrics = Metrics {
        installs: trace.attempts.iter().filter(|attempt| attempt.install_s > 0.0).count() as f64,
        installs_over_bound: over(installs, within_span),
        installs_over_flow_bound: over(installs, within_flow),
        makespan_s,
        makespan_over_bound: makespan_s / yardstick.makespan_s,
        completion_s,
        completion_over_bound: completion_s.mean / yardstick.mean_completion_s,
        slowdown: Spread::of(runs.iter().map(|run| run.slowdown)),
        wait_s: waits(workload, &trace.attempts),
        jain,
        worst_org_slowdown,
        install_share: install_share(workload, &trace.attempts, makespan_s),
        faults: faults(workload, trace),
        decisions: trace.decision_ns.len() as f64,
        decision_ns: Nanoseconds::of(&trace.decision_ns),
    };
    Measured { runs, metrics }
}

#[derive(Debug, Clone)]
struct GroupResult {
    first: f64,
    ended: f64,
    installs: usize,
    /// Device time of the jobs that were done. What was given up may have run for less.
    work: f64,
}

fn group_results(workload: &Workload, attempts: &[Attempt]) -> Vec<GroupResult> {
    let none = GroupResult { first: f64::INFINITY, ended: 0.0, installs: 0, work: 0.0 };
    let mut groups = vec![none; workload.groups.len()];
    for attempt in attempts {
        let group = &mut groups[attempt.group];
        group.first = group.first.min(attempt.started);
        group.installs += usize::from(attempt.install_s > 0.0);
        if attempt.end.settles() {
            group.ended = group.ended.max(attempt.ended);
        }
        if attempt.end == End::Done {
            group.work += workload.groups[attempt.group].jobs[attempt.job].duration_s;
        }
    }
    groups
}

/// Installs of the measured groups, and the least of them for the span and for the flow of each version.
fn installs(workload: &Workload, groups: &[GroupResult]) -> (f64, f64, f64) {
    #[derive(Default)]
    struct Version {
        work: f64,
        install_s: f64,
        submitted: f64,
        first: f64,
        ended: f64,
        warm: usize,
        installs: usize,
    }
    let uses = FirstUses::of(workload);
    let mut versions: BTreeMap<(usize, usize), Version> = BTreeMap::new();
    for (group, result) in workload.groups.iter().zip(groups) {
        if !workload.measured.contains(group.submitted_at) {
            continue;
        }
        let version = versions.entry(uses.key(group)).or_insert_with(|| Version {
            install_s: group.install_s,
            submitted: group.submitted_at,
            first: result.first,
            warm: uses.warm(group),
            ..Version::default()
        });
        version.work += result.work;
        version.install_s = version.install_s.min(group.install_s);
        version.first = version.first.min(result.first);
        version.ended = version.ended.max(result.ended);
        version.installs += result.installs;
    }
    let mut sums = (0, 0, 0);
    for version in versions.values() {
        let least = |from: f64| {
            bounds::installs_within(version.work, version.install_s, version.ended - from, version.warm)
        };
        sums.0 += version.installs;
        sums.1 += least(version.first);
        sums.2 += least(version.submitted);
    }
    (sums.0 as f64, sums.1 as f64, sums.2 as f64)
}

/// A count over its bound; where none are needed and none were made, the bound is reached.
fn over(count: f64, bound: f64) -> f64 {
    if count == bound { 1.0 } else { count / bound }
}

fn fairness(workload: &Workload, runs: &[RunResult]) -> (f64, f64) {
    let mut by_org = vec![(0.0, 0_u32); workload.orgs];
    for run in runs {
        let (sum, count) = &mut by_org[workload.runs[run.run].org];
        *sum += run.slowdown;
        *count += 1;
    }
    let means: Vec<f64> =
        by_org.into_iter().filter(|&(_, runs)| runs >= 2).map(|(sum, runs)| sum / f64::from(runs)).collect();
    let (sum, squares) =
        means.iter().fold((0.0, 0.0), |(sum, squares), mean| (sum + mean, squares + mean * mean));
    let jain = if means.is_empty() { 1.0 } else { sum * sum / (means.len() as f64 * squares) };
    (jain, means.into_iter().fold(0.0, f64::max))
}

fn waits(workload: &Workload, attempts: &[Attempt]) -> Waits {
    let mut started: Vec<Vec<f64>> =
        workload.groups.iter().map(|group| vec![f64::INFINITY; group.jobs.len()]).collect();
    for attempt in attempts {
        let first = &mut started[attempt.group][attempt.job];
        *first = first.min(attempt.started);
    }
    let mut bands = [(0.0, 0_u32); 3];
    for (group, started) in workload.groups.iter().zip(&started) {
        if !workload.measured.contains(group.submitted_at) {
            continue;
        }
        let band = match group.priority {
            0..=3 => 0,
            4..=7 => 1,
            _ => 2,
        };
        for at in started {
            bands[band].0 += at - group.submitted_at;
            bands[band].1 += 1;
        }
    }
    let [low, normal, high] = bands.map(|(sum, jobs)| (jobs > 0).then(|| sum / f64::from(jobs)));
    Waits { low, normal, high }
}

fn install_share(workload: &Workload, attempts: &[Attempt], makespan_s: f64) -> f64 {
    let until = makespan_s.min(workload.measured.to);
    let counted = attempts.iter().filter(|attempt| attempt.started <= until);
    counted.map(|attempt| attempt.install_s).sum::<f64>() / (workload.devices.len() as f64 * until)
}

fn faults(workload: &Workload, trace: &Trace) -> Faults {
    let mut faults = Faults {
        quarantines: trace.quarantines as f64,
        healthy_quarantined: trace.healthy_quarantined as f64,
        ..Faults::default()
    };
    let mut over: Vec<Vec<u8>> = workload.groups.iter().map(|group| vec![0; group.jobs.len()]).collect();
    for attempt in trace.attempts.iter().filter(|attempt| attempt.end.settles()) {
        let times = &mut over[attempt.group][attempt.job];
        *times = times.saturating_add(1);
    }
    faults.jobs_lost = over.iter().flatten().filter(|&&times| times == 0).count() as f64;
    faults.jobs_done_twice = over.iter().flatten().filter(|&&times| times > 1).count() as f64;
    for attempt in trace.attempts.iter().filter(|attempt| attempt.end != End::Done) {
        faults.attempts += 1.0;
        faults.device_hours += (attempt.ended - attempt.started) / 3_600.0;
        if attempt.end == End::GaveUp {
            let group = &workload.groups[attempt.group];
            let bad = group.crash_rate > 0.0 || group.jobs[attempt.job].poison;
            *(if bad { &mut faults.bad_jobs_failed } else { &mut faults.good_jobs_failed }) += 1.0;
        }
    }
    faults
}

impl Metrics {
    /// The mean of each number, rounded to four places.
    pub fn mean(all: &[Self]) -> Self {
        let mean = |value: &dyn Fn(&Self) -> f64| {
            rounded(all.iter().map(value).sum::<f64>() / all.len().max(1) as f64)
        };
        let spread = |value: fn(&Self) -> Spread| Spread {
            mean: mean(&|one| value(one).mean),
            p95: mean(&|one| value(one).p95),
            p99: mean(&|one| value(one).p99),
        };
        let wait = |value: fn(&Self) -> Option<f64>| {
            let waits: Vec<f64> = all.iter().filter_map(value).collect();
            (!waits.is_empty()).then(|| rounded(waits.iter().sum::<f64>() / waits.len() as f64))
        };
        Self {
            installs: mean(&|one| one.installs),
            installs_over_bound: mean(&|one| one.installs_over_bound),
            installs_over_flow_bound: mean(&|one| one.installs_over_flow_bound),
            makespan_s: mean(&|one| one.makespan_s),
            makespan_over_bound: mean(&|one| one.makespan_over_bound),
            completion_s: spread(|one| one.completion_s),
            completion_over_bound: mean(&|one| one.completion_over_bound),
            slowdown: spread(|one| one.slowdown),
            wait_s: Waits {
                low: wait(|one| one.wait_s.low),
                normal: wait(|one| one.wait_s.normal),
                high: wait(|one| one.wait_s.high),
            },
            jain: mean(&|one| one.jain),
            worst_org_slowdown: mean(&|one| one.worst_org_slowdown),
            install_share: mean(&|one| one.install_share),
            faults: Faults {
                attempts: mean(&|one| one.faults.attempts),
                device_hours: mean(&|one| one.faults.device_hours),
                good_jobs_failed: mean(&|one| one.faults.good_jobs_failed),
                bad_jobs_failed: mean(&|one| one.faults.bad_jobs_failed),
                jobs_lost: mean(&|one| one.faults.jobs_lost),
                jobs_done_twice: mean(&|one| one.faults.jobs_done_twice),
                quarantines: mean(&|one| one.faults.quarantines),
                healthy_quarantined: mean(&|one| one.faults.healthy_quarantined),
            },
            decisions: mean(&|one| one.decisions),
            decision_ns: Nanoseconds {
                p50: mean(&|one| one.decision_ns.p50),
                p99: mean(&|one| one.decision_ns.p99),
            },
        }
    }
}

/// Rounded to four places: what is behind them is noise of the arithmetic.
pub(crate) fn rounded(number: f64) -> f64 {
    (number * 10_000.0).round() / 10_000.0
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
        Self { mean, p95: quantile(&values, 0.95), p99: quantile(&values, 0.99) }
    }
}

impl Nanoseconds {
    /// Of single measurements.
    pub fn of(values: &[u32]) -> Self {
        let mut values: Vec<f64> = values.iter().map(|&value| f64::from(value)).collect();
        values.sort_by(f64::total_cmp);
        Self { p50: quantile(&values, 0.5), p99: quantile(&values, 0.99) }
    }
}

/// Of sorted values; 0 of none.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = (sorted.len().saturating_sub(1) as f64 * share).round() as usize;
    sorted.get(at).copied().unwrap_or(0.0)
}
