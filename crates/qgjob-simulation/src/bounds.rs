//! Lower bounds: what no policy can beat, whatever it knows.
//!
//! One install per version is no useful bound: a policy that attains it takes ten times as long. So installs are
//! bounded at the speed that was achieved ([`installs_within`]), and time is bounded with the installs it needs
//! ([`makespan`]). Set-up times make these problems NP-hard (parallel machines with job families); the bounds are the
//! usual ones of area and of the longest part, as in Schalekamp et al., "Split scheduling with uniform setup times"
//! (2015), and Deppert and Jansen, "Near-linear approximation algorithms for scheduling problems with batch setup
//! times" (2019).

mod makespan;
mod mean_completion;

use std::collections::HashMap;

pub use makespan::makespan;
pub use mean_completion::mean_completion;

use crate::workload::{Group, Workload};

/// Installs that a group needs at least when its first job begins at most `span_s` before its last one ends.
///
/// Each device that serves it installs, then works for what is left of the span. `warm` devices had the version
/// already and may work for all of it.
pub fn installs_within(work_s: f64, install_s: f64, span_s: f64, warm: usize) -> usize {
    // A hair less, so that rounding never asks for one too many.
    const HAIR: f64 = 1e-6;
    let left = work_s - warm as f64 * span_s;
    if left <= HAIR * work_s {
        return 0;
    }
    let each = (span_s - install_s).max(1e-9);
    let devices = (left / each - HAIR).ceil().max(0.0) as usize;
    if warm == 0 { devices.max(1) } else { devices }
}

/// Which installs cannot be avoided. The first group of a version in a pool has to install it; a later one may find it
/// there, and so may every group of a version that devices had at the start.
#[derive(Debug)]
pub struct FirstUses {
    pools: Vec<usize>,
    uses: HashMap<(usize, usize), Use>,
}

#[derive(Debug)]
struct Use {
    first: f64,
    groups: usize,
    warm: usize,
}

impl FirstUses {
    /// Reads them off a workload.
    pub fn of(workload: &Workload) -> Self {
        let pools = workload.pools();
        let mut uses: HashMap<_, Use> = HashMap::new();
        let unused = || Use { first: f64::INFINITY, groups: 0, warm: 0 };
        for group in &workload.groups {
            let used = uses.entry((group.version, pools[group.class])).or_insert_with(unused);
            used.first = used.first.min(group.submitted_at);
            used.groups += 1;
        }
        for device in &workload.devices {
            let Some(&class) = workload.kinds[device.kind].first() else { continue };
            for &(_, version) in &device.installed {
                uses.entry((version, pools[class])).or_insert_with(unused).warm += 1;
            }
        }
        Self { pools, uses }
    }

    /// A version within a pool: what an install is for.
    pub fn key(&self, group: &Group) -> (usize, usize) {
        (group.version, self.pools[group.class])
    }

    fn of_group(&self, group: &Group) -> &Use {
        &self.uses[&self.key(group)]
    }

    /// How many devices had a group's version at the start.
    pub fn warm(&self, group: &Group) -> usize {
        self.of_group(group).warm
    }

    /// The install that must come before a group's first job, if it arrived at `since` or later and none was made
    /// before.
    fn install_since(&self, group: &Group, since: f64) -> f64 {
        let used = self.of_group(group);
        if used.first < since || used.warm > 0 { 0.0 } else { group.install_s }
    }

    /// The install that is for this group alone.
    fn own_install_s(&self, group: &Group) -> f64 {
        let used = self.of_group(group);
        if used.groups > 1 || used.warm > 0 { 0.0 } else { group.install_s }
    }
}

/// For each run, the seconds that it needs on an empty fleet: that of its groups which needs most. A group needs its
/// install, and then its longest job or, if that is longer, its work shared by all devices that can serve it.
pub fn ideal_seconds(workload: &Workload) -> Vec<f64> {
    let eligible = workload.eligible();
    let uses = FirstUses::of(workload);
    let needs = |group: &Group| {
        let shared = group.work() / eligible[group.class] as f64;
        uses.install_since(group, group.submitted_at) + group.longest().max(shared)
    };
    let runs = workload.runs.iter();
    runs.map(|run| run.groups.iter().map(|&at| needs(&workload.groups[at])).fold(0.0, f64::max)).collect()
}
