//! What is replayed: devices, and runs of jobs that arrive over time. All times are seconds from the start.

pub mod burst;
pub mod catalogue;
pub mod duration;
pub mod exported;
pub mod faults;
pub mod history;
pub mod hostile;
pub mod stream;

use std::collections::BTreeMap;

/// A fleet and what is asked of it.
#[derive(Debug, Clone)]
pub struct Workload {
    /// What it is called.
    pub name: String,
    /// For each kind of device, the classes it can serve.
    pub kinds: Vec<Vec<usize>>,
    /// How many classes there are. A class is what a job asks of a device: target and selector.
    pub classes: usize,
    /// The devices.
    pub devices: Vec<Device>,
    /// The runs, in order of arrival.
    pub runs: Vec<Run>,
    /// The groups of all runs: the jobs that one device can run without another install.
    pub groups: Vec<Group>,
    /// How many orgs there are.
    pub orgs: usize,
    /// Runs that arrive in this span count for the results; before it the fleet fills up, after it it drains.
    pub measured: Span,
    /// How many apps a device holds before the least recently used one must go.
    pub apps_per_device: usize,
    /// How devices come and go.
    pub churn: Option<Churn>,
    /// Names of versions, where they have any.
    pub version_names: BTreeMap<usize, String>,
}

/// From one instant to another, both included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// Its first instant.
    pub from: f64,
    /// Its last instant.
    pub to: f64,
}

impl Span {
    /// All of time.
    pub const ALWAYS: Self = Self { from: f64::NEG_INFINITY, to: f64::INFINITY };

    /// Whether the instant lies in it.
    pub fn contains(self, at: f64) -> bool {
        self.from <= at && at <= self.to
    }
}

/// A device.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    /// What people call it.
    pub name: String,
    /// Its kind, which says what it can serve.
    pub kind: usize,
    /// How likely it is to break a job, through no fault of the job's.
    pub fault_rate: f64,
    /// The app versions on it at the start: app, version.
    pub installed: Vec<(usize, usize)>,
}

impl Device {
    /// A healthy device with nothing installed, named after its kind and number.
    pub fn new(kind_name: &str, number: usize, kind: usize) -> Self {
        let name = format!("{kind_name}-{:03}", number + 1);
        Self { name, kind, fault_rate: 0.0, installed: Vec::new() }
    }
}

/// What one submit created.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Who submitted it.
    pub org: usize,
    /// When.
    pub submitted_at: f64,
    /// 1 to 10, 10 the most urgent.
    pub priority: u8,
    /// Its groups, one for each class its jobs ask for.
    pub groups: Vec<usize>,
}

/// Jobs of one run that one device can run without another install.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// The run it belongs to.
    pub run: usize,
    /// Its org.
    pub org: usize,
    /// The app; a device holds one version of it at a time.
    pub app: usize,
    /// The app version, unique among all apps.
    pub version: usize,
    /// What its jobs ask of a device.
    pub class: usize,
    /// 1 to 10, 10 the most urgent.
    pub priority: u8,
    /// When it was submitted.
    pub submitted_at: f64,
    /// How long a device takes to fetch and install the version.
    pub install_s: f64,
    /// How likely the version is to break a job on any device, in a way that looks like the device's fault.
    pub crash_rate: f64,
    /// Its jobs.
    pub jobs: Vec<Job>,
}

impl Group {
    /// Device time that its jobs take, installs not included.
    pub fn work(&self) -> f64 {
        self.jobs.iter().map(|job| job.duration_s).sum()
    }

    /// The time of its longest job.
    pub fn longest(&self) -> f64 {
        self.jobs.iter().map(|job| job.duration_s).fold(0.0, f64::max)
    }
}

/// One test file to run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Job {
    /// How long it takes.
    pub duration_s: f64,
    /// How long it was expected to take.
    pub predicted_s: f64,
    /// Whether it takes any device down with it.
    pub poison: bool,
}

/// Devices leave, mid-job, and come back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Churn {
    /// Mean time until a device leaves.
    pub mean_up_s: f64,
    /// Mean time until it is back; at least 10 s each time.
    pub mean_down_s: f64,
    /// How likely it is to come back with nothing installed.
    pub wiped: f64,
}

impl Workload {
    /// What people call a version.
    pub fn version_name(&self, version: usize) -> String {
        self.version_names.get(&version).cloned().unwrap_or_else(|| format!("version {version}"))
    }

    /// How many jobs there are.
    pub fn jobs(&self) -> usize {
        self.groups.iter().map(|group| group.jobs.len()).sum()
    }

    /// For each class, how many devices can serve it.
    pub fn eligible(&self) -> Vec<usize> {
        let mut eligible = vec![0; self.classes];
        for device in &self.devices {
            for &class in &self.kinds[device.kind] {
                eligible[class] += 1;
            }
        }
        eligible
    }

    /// For each class, the kinds of device that can serve it.
    pub fn serving_kinds(&self) -> Vec<Vec<usize>> {
        let mut serving = vec![Vec::new(); self.classes];
        for (kind, classes) in self.kinds.iter().enumerate() {
            for &class in classes {
                serving[class].push(kind);
            }
        }
        serving
    }

    /// For each class its pool: classes that some device serves alike share one, through any chain of devices.
    pub fn pools(&self) -> Vec<usize> {
        let mut pool: Vec<usize> = (0..self.classes).collect();
        loop {
            let before = pool.clone();
            for classes in &self.kinds {
                let Some(least) = classes.iter().map(|&class| pool[class]).min() else { continue };
                for &class in classes {
                    pool[class] = least;
                }
            }
            if pool == before {
                return pool;
            }
        }
    }

    /// Sorts runs, and groups with them, by arrival.
    fn sort_by_arrival(&mut self) {
        let mut order: Vec<usize> = (0..self.runs.len()).collect();
        order.sort_by(|&a, &b| self.runs[a].submitted_at.total_cmp(&self.runs[b].submitted_at));
        let mut groups = Vec::with_capacity(self.groups.len());
        let mut runs = Vec::with_capacity(self.runs.len());
        for old in order {
            let mut run = self.runs[old].clone();
            for at in &mut run.groups {
                let mut group = self.groups[*at].clone();
                group.run = runs.len();
                *at = groups.len();
                groups.push(group);
            }
            runs.push(run);
        }
        self.runs = runs;
        self.groups = groups;
    }
}
