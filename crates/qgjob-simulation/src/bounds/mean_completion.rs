//! The least mean time from submission to the end of a run.

use std::collections::BTreeSet;

use super::{FirstUses, ideal_seconds};
use crate::moment::Moment;
use crate::workload::{Span, Workload};

/// A bound on the mean completion time of the measured runs, in seconds.
///
/// The greater of two: the mean of what each run needs on an empty fleet; and, when all runs are measured, what the
/// fleet would need as one machine of the sum of all speeds, serving the run with the least remaining work first, one
/// install per version included (Schrage, 1968: that rule is optimal on one machine).
pub fn mean_completion(workload: &Workload) -> f64 {
    let ideal = ideal_seconds(workload);
    let measured: Vec<f64> = workload
        .runs
        .iter()
        .zip(&ideal)
        .filter(|(run, _)| workload.measured.contains(run.submitted_at))
        .map(|(_, &seconds)| seconds)
        .collect();
    if measured.is_empty() {
        return 0.0;
    }
    let alone = measured.iter().sum::<f64>() / measured.len() as f64;
    if workload.measured == Span::ALWAYS { alone.max(on_one_machine(workload)) } else { alone }
}

fn on_one_machine(workload: &Workload) -> f64 {
    let uses = FirstUses::of(workload);
    let speed = workload.devices.len() as f64;
    let mut left: Vec<f64> = workload
        .runs
        .iter()
        .map(|run| {
            let groups = run.groups.iter().map(|&at| &workload.groups[at]);
            groups.map(|group| group.work() + uses.own_install_s(group)).sum::<f64>() / speed
        })
        .collect();
    let arrives = |run: usize| workload.runs.get(run).map_or(f64::INFINITY, |run| run.submitted_at);
    let mut waiting: BTreeSet<(Moment, usize)> = BTreeSet::new();
    let (mut next, mut now, mut sum) = (0, 0.0, 0.0);
    loop {
        if waiting.is_empty() {
            if next == workload.runs.len() {
                return sum / workload.runs.len() as f64;
            }
            now = arrives(next);
        }
        while arrives(next) <= now {
            waiting.insert((Moment(left[next]), next));
            next += 1;
        }
        let Some((_, run)) = waiting.pop_first() else { continue };
        let until = arrives(next);
        if now + left[run] <= until {
            now += left[run];
            sum += now - arrives(run);
        } else {
            left[run] -= until - now;
            now = until;
            waiting.insert((Moment(left[run]), run));
        }
    }
}
