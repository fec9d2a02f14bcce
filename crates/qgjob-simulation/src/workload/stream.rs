//! A stream of commits: many orgs, each commit a new app version with a run of its tests.

use std::collections::BTreeMap;

use crate::random::{Random, running_sums};

use super::duration::{Durations, Installs};
use super::{Device, Group, Run, Span, Workload};

/// A mixed fleet: kinds of device, their share, and the classes they serve (see [`Fleet::Mixed`]).
const MIXED: [(&str, f64, &[usize]); 6] = [
    ("emulator", 0.655 * 0.7, &[0]),
    ("tablet-emulator", 0.655 * 0.3, &[0, 1]),
    ("pixel", 0.145 * 0.5, &[2, 3]),
    ("galaxy", 0.145 * 0.5, &[2, 4]),
    ("simulator", 0.15, &[5]),
    ("browserstack", 0.05, &[6]),
];

/// Which devices there are, and so what jobs can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fleet {
    /// 65 % emulators (three of ten are tablets), 15 % phones of two makers, 15 % simulators, 5 % BrowserStack. Classes:
    /// 0 any emulator, 1 tablet, 2 any phone, 3 and 4 a phone of one maker, 5 simulator, 6 BrowserStack.
    Mixed,
    /// One kind, one class.
    Uniform,
}

/// A stream of commits.
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    /// How many orgs; the popularity of the n-th is 1/n (Zipf's law).
    pub orgs: usize,
    /// How many devices; of a mixed fleet at least one of each of its six kinds.
    pub devices: usize,
    /// Test work that arrives per device and second; installs come on top.
    pub load: f64,
    /// How long commits arrive. Of the first and last eighth, at most an hour each, nothing is measured.
    pub hours: f64,
    /// How long jobs take.
    pub durations: Durations,
    /// How long installs take.
    pub installs: Installs,
    /// Deviation of the logarithm of predicted over real duration.
    pub prediction_sigma: f64,
    /// The devices.
    pub fleet: Fleet,
    /// Whether priorities differ (3, 5, 7, 9, 10 in shares of 15, 60, 15, 8, 2 %); all 5 otherwise.
    pub priorities: bool,
}

/// Fewest and most jobs of a commit; the logarithm is uniform.
const JOBS_PER_COMMIT: (f64, f64) = (20.0, 300.0);

impl Default for Stream {
    fn default() -> Self {
        Self {
            orgs: 200,
            devices: 500,
            load: 0.8,
            hours: 8.0,
            durations: Durations::LogNormal { median: 75.0, sigma: 0.85 },
            installs: Installs::LogNormal { median: 60.0, sigma: 0.6 },
            prediction_sigma: 0.3,
            fleet: Fleet::Mixed,
            priorities: true,
        }
    }
}

/// A run to add to a workload.
pub(super) struct Commit {
    pub org: usize,
    pub app: usize,
    pub version: usize,
    pub at: f64,
    pub priority: u8,
    pub jobs: usize,
    pub durations: Durations,
    pub install_s: f64,
}

impl Stream {
    /// Draws the stream of a seed.
    pub fn workload(&self, seed: u64) -> Workload {
        let mut random = Random::new(seed ^ 0xC1);
        let devices = self.fleet();
        let popularity = running_sums((1..=self.orgs).map(|rank| 1.0 / (rank as f64)));
        let (apps, install_s) = self.apps(&mut random);
        let (fewest, most) = JOBS_PER_COMMIT;
        let mean_jobs = (most - fewest) / (most / fewest).ln();
        let rate = self.load * devices.len() as f64 / (mean_jobs * self.durations.mean());
        let horizon = self.hours * 3_600.0;
        let margin = (0.125 * horizon).min(3_600.0);
        let (kinds, classes) = match self.fleet {
            Fleet::Mixed => (MIXED.iter().map(|(.., classes)| classes.to_vec()).collect(), 7),
            Fleet::Uniform => (vec![vec![0]], 1),
        };
        let mut workload = Workload {
            name: format!("commits at load {:.2}", self.load),
            kinds,
            classes,
            devices,
            runs: Vec::new(),
            groups: Vec::new(),
            orgs: self.orgs,
            measured: Span { from: margin, to: horizon - margin },
            apps_per_device: 4,
            churn: None,
            version_names: BTreeMap::new(),
        };
        let mut now = 0.0;
        for version in 0.. {
            now += random.exponential(1.0 / rate);
            if now > horizon {
                break;
            }
            let org = random.weighted(&popularity);
            let app = apps[org].start + random.below(apps[org].len());
            let jobs = (random.log_uniform(fewest, most).round() as usize).max(1);
            let priority = if self.priorities { draw_priority(&mut random) } else { 5 };
            let durations = self.durations;
            let commit =
                Commit { org, app, version, at: now, priority, jobs, durations, install_s: install_s[app] };
            self.add(&mut workload, &mut random, &commit);
        }
        workload
    }

    fn fleet(&self) -> Vec<Device> {
        let shares: &[(&str, f64, &[usize])] = match self.fleet {
            Fleet::Mixed => &MIXED,
            Fleet::Uniform => &[("phone", 1.0, &[0])],
        };
        let mut counts: Vec<usize> = shares
            .iter()
            .map(|(_, share, _)| ((share * self.devices as f64).round() as usize).max(1))
            .collect();
        // What rounding made too many goes from the largest kind, so that every class keeps a device.
        while counts.iter().sum::<usize>() > self.devices {
            match counts.iter_mut().max() {
                Some(largest) if *largest > 1 => *largest -= 1,
                _ => break,
            }
        }
        let mut devices = Vec::with_capacity(self.devices);
        for (kind, ((name, ..), count)) in shares.iter().zip(counts).enumerate() {
            devices.extend((0..count).map(|at| Device::new(name, at, kind)));
        }
        let rounded_off = self.devices.saturating_sub(devices.len());
        devices.extend((0..rounded_off).map(|at| Device::new("spare-emulator", at, 0)));
        devices
    }

    /// Each org has one to three apps; each app its own install time.
    fn apps(&self, random: &mut Random) -> (Vec<std::ops::Range<usize>>, Vec<f64>) {
        let mut install_s = Vec::new();
        let apps = (0..self.orgs).map(|_| {
            let count = 1 + random.below(3);
            let first = install_s.len();
            install_s.extend((0..count).map(|_| self.installs.draw(random)));
            first..first + count
        });
        let apps = apps.collect();
        (apps, install_s)
    }

    /// Adds a run; the jobs of some commits are split over two targets.
    pub(super) fn add(&self, workload: &mut Workload, random: &mut Random, commit: &Commit) {
        let run = workload.runs.len();
        let mut groups = Vec::new();
        for (class, count) in self.split(random, commit.jobs) {
            let jobs = commit.durations.jobs(random, count, self.prediction_sigma);
            let variation = random.between(0.9, 1.1);
            let install_s = commit.install_s;
            groups.push(workload.groups.len());
            workload.groups.push(Group {
                run,
                org: commit.org,
                app: commit.app,
                version: commit.version,
                class,
                priority: commit.priority,
                submitted_at: commit.at,
                // Fetching, then installing: summed as in the study, to the last bit.
                install_s: install_s * 0.7 * variation + install_s * 0.3 * variation,
                crash_rate: 0.0,
                jobs,
            });
        }
        workload.runs.push(Run {
            org: commit.org,
            submitted_at: commit.at,
            priority: commit.priority,
            groups,
        });
    }

    fn split(&self, random: &mut Random, jobs: usize) -> Vec<(usize, usize)> {
        if self.fleet == Fleet::Uniform {
            return vec![(0, jobs)];
        }
        let any_emulator = |random: &mut Random| if random.chance(0.85) { 0 } else { 1 };
        let any_phone = |random: &mut Random| match random.unit() {
            x if x < 0.6 => 2,
            x if x < 0.8 => 3,
            _ => 4,
        };
        match random.unit() {
            x if x < 0.55 => vec![(any_emulator(random), jobs)],
            x if x < 0.70 => vec![(5, jobs)],
            x if x < 0.80 => vec![(any_phone(random), jobs)],
            x if x < 0.95 => {
                let most = ((jobs as f64) * 0.7).ceil() as usize;
                let mut parts = vec![(any_emulator(random), most)];
                if jobs > most {
                    parts.push((any_phone(random), jobs - most));
                }
                parts
            }
            _ => vec![(6, jobs)],
        }
    }
}

fn draw_priority(random: &mut Random) -> u8 {
    match random.unit() {
        x if x < 0.60 => 5,
        x if x < 0.75 => 7,
        x if x < 0.83 => 9,
        x if x < 0.85 => 10,
        _ => 3,
    }
}
