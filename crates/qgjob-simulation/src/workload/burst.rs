//! A nightly burst: everything is there at the start, on devices that are all alike.

use std::collections::BTreeMap;

use crate::random::Random;

use super::duration::Durations;
use super::stream::Stream;
use super::{Device, Group, Run, Span, Workload};

/// A burst.
#[derive(Debug, Clone, Copy)]
pub struct Burst {
    /// How many devices.
    pub devices: usize,
    /// How many app versions, each of its own app and org.
    pub versions: usize,
    /// Jobs of each version.
    pub jobs: usize,
    /// Seconds that an install takes.
    pub install_s: f64,
}

impl Burst {
    /// Draws the burst of a seed.
    pub fn workload(&self, seed: u64) -> Workload {
        let usual = Stream::default();
        let mut random = Random::new(seed);
        let durations: Durations = usual.durations;
        let mut workload = Workload {
            name: format!("burst of {} x {}", self.versions, self.jobs),
            kinds: vec![vec![0]],
            classes: 1,
            devices: (0..self.devices).map(|at| Device::new("phone", at, 0)).collect(),
            runs: Vec::new(),
            groups: Vec::new(),
            orgs: self.versions,
            measured: Span::ALWAYS,
            apps_per_device: 4,
            churn: None,
            version_names: BTreeMap::new(),
        };
        for version in 0..self.versions {
            let jobs = durations.jobs(&mut random, self.jobs, usual.prediction_sigma);
            workload.runs.push(Run { org: version, submitted_at: 0.0, priority: 5, groups: vec![version] });
            workload.groups.push(Group {
                run: version,
                org: version,
                app: version,
                version,
                class: 0,
                priority: 5,
                submitted_at: 0.0,
                install_s: self.install_s * 0.7 + self.install_s * 0.3,
                crash_rate: 0.0,
                jobs,
            });
        }
        workload
    }
}
