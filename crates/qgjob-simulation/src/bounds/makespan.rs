//! The least time in which everything can be done.

use std::collections::BTreeMap;

use super::FirstUses;
use crate::workload::Workload;

/// At most this many instants are tried as the start of what remains. Any number of them gives a bound.
const STARTS: usize = 48;
/// Halvings of the interval that holds the bound; its lower end is returned.
const HALVINGS: usize = 40;

/// The least makespan, in seconds from the start.
///
/// For any instant r, the work that arrives from r on has to fit into what the devices that can do it have until the
/// end T: `Σ (W + s·⌈W / (T−s)⌉) ≤ m·T` over the versions, since a device that serves a version installs it and then
/// works for T−s at most. T also covers the longest install with its longest job, and, when there are more jobs than
/// devices, the two shortest of the m+1 longest jobs, of which two must share a device. The bound is the greatest over
/// r and over every union of the classes of a pool, against the devices that serve any of them.
pub fn makespan(workload: &Workload) -> f64 {
    let uses = FirstUses::of(workload);
    let starts = starts(workload);
    let mut bound = 0.0;
    for union in unions(workload) {
        let devices = workload
            .devices
            .iter()
            .filter(|device| workload.kinds[device.kind].iter().any(|class| union.contains(class)))
            .count();
        for &start in &starts {
            let seconds = remaining(workload, &uses, &union, devices, start);
            bound = f64::max(bound, seconds.map_or(0.0, |seconds| start + seconds));
        }
    }
    bound
}

/// Instants at which runs arrive, spread over all.
fn starts(workload: &Workload) -> Vec<f64> {
    let mut at: Vec<f64> = workload.runs.iter().map(|run| run.submitted_at).collect();
    at.sort_by(f64::total_cmp);
    at.dedup();
    let step = at.len().div_ceil(STARTS).max(1);
    at.into_iter().step_by(step).collect()
}

/// Every union of classes that share a pool.
fn unions(workload: &Workload) -> Vec<Vec<usize>> {
    let mut by_pool: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (class, pool) in workload.pools().into_iter().enumerate() {
        by_pool.entry(pool).or_default().push(class);
    }
    let mut unions = Vec::new();
    for classes in by_pool.into_values() {
        // With very many classes only the single ones and the whole pool: still bounds, if weaker ones.
        if classes.len() > 8 {
            unions.extend(classes.iter().map(|&class| vec![class]));
            unions.push(classes);
            continue;
        }
        for chosen in 1..1_usize << classes.len() {
            let inside = classes.iter().enumerate().filter(|(bit, _)| chosen & (1 << bit) != 0);
            unions.push(inside.map(|(_, &class)| class).collect());
        }
    }
    unions
}

#[derive(Debug, Default)]
struct Version {
    work: f64,
    longest: f64,
    install: f64,
}

/// The least time for what arrives from `start` on in these classes.
fn remaining(
    workload: &Workload,
    uses: &FirstUses,
    union: &[usize],
    devices: usize,
    start: f64,
) -> Option<f64> {
    let mut versions: BTreeMap<(usize, usize), Version> = BTreeMap::new();
    let mut jobs = Vec::new();
    for group in &workload.groups {
        if group.submitted_at < start || !union.contains(&group.class) {
            continue;
        }
        let install = uses.install_since(group, start);
        let version = versions.entry(uses.key(group)).or_insert(Version { install, ..Version::default() });
        version.work += group.work();
        version.longest = version.longest.max(group.longest());
        version.install = version.install.min(install);
        jobs.extend(group.jobs.iter().map(|job| job.duration_s));
    }
    if devices == 0 || versions.is_empty() {
        return None;
    }
    let versions: Vec<Version> = versions.into_values().collect();
    let least_install = versions.iter().map(|version| version.install).fold(f64::INFINITY, f64::min);
    let mut low = versions.iter().map(|version| version.install + version.longest).fold(0.0, f64::max);
    if jobs.len() > devices {
        let (longer, &mut shortest, _) = jobs.select_nth_unstable_by(devices, |a, b| b.total_cmp(a));
        let second = longer.iter().copied().fold(f64::INFINITY, f64::min);
        low = low.max(least_install + second + shortest);
    }
    let needed = |seconds: f64| {
        let version = |version: &Version| {
            if version.install == 0.0 {
                return version.work;
            }
            let devices = (version.work / (seconds - version.install)).ceil().max(1.0);
            version.work + version.install * devices
        };
        versions.iter().map(version).sum::<f64>()
    };
    let fits = |seconds: f64| needed(seconds) <= devices as f64 * seconds;
    if fits(low) {
        return Some(low);
    }
    let mut high = 2.0 * low.max(1.0);
    while !fits(high) {
        high *= 2.0;
    }
    for _ in 0..HALVINGS {
        let middle = 0.5 * (low + high);
        if fits(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    Some(low)
}
