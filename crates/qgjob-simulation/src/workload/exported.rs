//! Workloads as JSON: what a server did, or what somebody wants to try.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::{Device, Group, Job, Run, Span, Workload};
use crate::moment::Moment;

/// The `schema` of a document.
pub const SCHEMA: &str = "qgjob.workload/v1";

/// How many apps a device holds, unless the document says otherwise.
const APPS_PER_DEVICE: usize = 4;
/// How long an install takes, unless the document says otherwise. Seconds.
const INSTALL_S: f64 = 60.0;

/// A workload as a document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// [`SCHEMA`].
    pub schema: String,
    /// What it is called.
    #[serde(default)]
    pub name: Option<String>,
    /// The devices.
    pub devices: Vec<DeviceEntry>,
    /// The jobs, in any order.
    pub jobs: Vec<JobEntry>,
    /// Seconds that an install takes where a job does not say; 60.
    #[serde(default)]
    pub install_s: Option<f64>,
    /// How many apps a device holds; 4.
    #[serde(default)]
    pub apps_per_device: Option<usize>,
}

/// A device of a document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceEntry {
    /// What people call it.
    pub name: String,
    /// The classes it serves: any texts; a job names one of them.
    pub classes: Vec<String>,
    /// What is installed at the start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub installed: Vec<InstalledEntry>,
}

/// An app version on a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstalledEntry {
    /// The org.
    pub org: String,
    /// The app; the org's only one if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// The app version.
    pub version: String,
}

/// A job of a document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobEntry {
    /// The org.
    pub org: String,
    /// The app; the org's only one if left out. A device holds one version of an app at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// The app version.
    pub version: String,
    /// What it asks of a device: one of the devices' classes.
    pub class: String,
    /// 1 to 10, 10 the most urgent; 5 if left out.
    #[serde(default = "default_priority")]
    pub priority: u8,
    /// Which run it belongs to; if left out, that of the jobs of this org and version with the same `submitted_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// When it was submitted, in seconds from any start.
    pub submitted_at: f64,
    /// How long it takes, in seconds, install not included.
    pub duration_s: f64,
    /// How long it was expected to take; if left out, as long as it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted_s: Option<f64>,
    /// Seconds that an install of its version takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub install_s: Option<f64>,
}

fn default_priority() -> u8 {
    5
}

/// Why a document is no workload.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Invalid {
    /// It is another kind of document.
    #[error("the schema is {0:?}, not {SCHEMA:?}")]
    Schema(String),
    /// There is nothing to replay.
    #[error("there are no {0}")]
    Empty(&'static str),
    /// No device serves what a job asks for.
    #[error("job {job}: no device serves the class {class:?}")]
    Unserved {
        /// The job's place in the document, from 0.
        job: usize,
        /// What it asks for.
        class: String,
    },
    /// A number is out of range.
    #[error("job {job}: {field} must be {must}")]
    Number {
        /// The job's place in the document, from 0.
        job: usize,
        /// The field.
        field: &'static str,
        /// What it must be.
        must: &'static str,
    },
    /// Too few or too many.
    #[error("{0}")]
    Document(&'static str),
}

impl Document {
    /// Makes the workload of it. All runs are measured, from the first submission on.
    ///
    /// # Errors
    /// When the document is another one, has nothing to replay, has a job that no device serves, or a number that is
    /// no time.
    pub fn workload(&self) -> Result<Workload, Invalid> {
        self.check()?;
        let mut classes = Numbers::default();
        let mut kinds = Numbers::default();
        let mut apps = Numbers::default();
        let mut versions = Numbers::default();
        let mut orgs = Numbers::default();
        let mut devices = Vec::new();
        for entry in &self.devices {
            let mut serves: Vec<usize> =
                entry.classes.iter().map(|class| classes.of(class.clone())).collect();
            serves.sort_unstable();
            serves.dedup();
            let installed = entry.installed.iter().map(|there| {
                let app = (there.org.clone(), there.app.clone());
                (apps.of(app.clone()), versions.of((app, there.version.clone())))
            });
            devices.push(Device {
                name: entry.name.clone(),
                kind: kinds.of(serves),
                fault_rate: 0.0,
                installed: installed.collect(),
            });
        }
        let mut groups: BTreeMap<GroupKey, Vec<Job>> = BTreeMap::new();
        let mut install_s: HashMap<usize, f64> = HashMap::new();
        let start = self.jobs.iter().map(|job| job.submitted_at).fold(f64::INFINITY, f64::min);
        for (at, entry) in self.jobs.iter().enumerate() {
            let Some(class) = classes.known(&entry.class) else {
                return Err(Invalid::Unserved { job: at, class: entry.class.clone() });
            };
            let app = (entry.org.clone(), entry.app.clone());
            let version = versions.of((app.clone(), entry.version.clone()));
            let key = GroupKey {
                at: Moment(entry.submitted_at - start),
                run: entry.run.clone(),
                org: orgs.of(entry.org.clone()),
                app: apps.of(app),
                version,
                priority: entry.priority,
                class,
            };
            if let Some(seconds) = entry.install_s {
                install_s.insert(version, seconds);
            }
            let predicted_s = entry.predicted_s.unwrap_or(entry.duration_s);
            groups.entry(key).or_default().push(Job {
                duration_s: entry.duration_s,
                predicted_s,
                poison: false,
            });
        }
        let usual = self.install_s.unwrap_or(INSTALL_S);
        let mut workload = Workload {
            name: self.name.clone().unwrap_or_else(|| "exported".to_owned()),
            kinds: kinds.in_order(),
            classes: classes.len(),
            devices,
            runs: Vec::new(),
            groups: Vec::new(),
            orgs: orgs.len(),
            measured: Span::ALWAYS,
            apps_per_device: self.apps_per_device.unwrap_or(APPS_PER_DEVICE),
            churn: None,
            version_names: BTreeMap::new(),
        };
        for ((app, version), number) in versions.0 {
            let name = match app {
                (org, Some(app)) => format!("{org} {app} {version}"),
                (org, None) => format!("{org} {version}"),
            };
            workload.version_names.insert(number, name);
        }
        let mut before: Option<GroupKey> = None;
        for (key, jobs) in groups {
            if !before.as_ref().is_some_and(|before| before.same_run(&key)) {
                workload.runs.push(Run {
                    org: key.org,
                    submitted_at: key.at.0,
                    priority: key.priority,
                    groups: Vec::new(),
                });
            }
            let run = workload.runs.len() - 1;
            workload.runs[run].groups.push(workload.groups.len());
            workload.groups.push(Group {
                run,
                org: key.org,
                app: key.app,
                version: key.version,
                class: key.class,
                priority: key.priority,
                submitted_at: key.at.0,
                install_s: install_s.get(&key.version).copied().unwrap_or(usual),
                crash_rate: 0.0,
                jobs,
            });
            before = Some(key);
        }
        Ok(workload)
    }

    fn check(&self) -> Result<(), Invalid> {
        if self.schema != SCHEMA {
            return Err(Invalid::Schema(self.schema.clone()));
        }
        if self.devices.is_empty() {
            return Err(Invalid::Empty("devices"));
        }
        if self.jobs.is_empty() {
            return Err(Invalid::Empty("jobs"));
        }
        if self.devices.iter().any(|device| device.classes.is_empty()) {
            return Err(Invalid::Document("each device must serve a class"));
        }
        if self.apps_per_device == Some(0) {
            return Err(Invalid::Document("a device must hold one app at least"));
        }
        if self.install_s.is_some_and(|seconds| !(seconds > 0.0 && seconds.is_finite())) {
            return Err(Invalid::Document("install_s must be more than 0"));
        }
        for (job, entry) in self.jobs.iter().enumerate() {
            let positive = |value: f64| value > 0.0 && value.is_finite();
            let bad = |field, must| Err(Invalid::Number { job, field, must });
            if !(1..=10).contains(&entry.priority) {
                return bad("priority", "1 to 10");
            }
            if !entry.submitted_at.is_finite() {
                return bad("submitted_at", "a number of seconds");
            }
            if !positive(entry.duration_s) {
                return bad("duration_s", "more than 0");
            }
            if !entry.predicted_s.is_none_or(positive) {
                return bad("predicted_s", "more than 0");
            }
            if !entry.install_s.is_none_or(positive) {
                return bad("install_s", "more than 0");
            }
        }
        Ok(())
    }
}

/// Jobs with the same one form a group; groups are kept in this order, so those of one run stand together.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct GroupKey {
    at: Moment,
    org: usize,
    version: usize,
    run: Option<String>,
    app: usize,
    class: usize,
    priority: u8,
}

impl GroupKey {
    fn same_run(&self, other: &Self) -> bool {
        (self.at, self.org, self.version, &self.run) == (other.at, other.org, other.version, &other.run)
    }
}

/// Gives things numbers, in the order in which they are first seen.
#[derive(Debug)]
struct Numbers<T>(HashMap<T, usize>);

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Eq + std::hash::Hash> Numbers<T> {
    fn of(&mut self, thing: T) -> usize {
        let next = self.0.len();
        *self.0.entry(thing).or_insert(next)
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn in_order(self) -> Vec<T> {
        let mut things: Vec<_> = self.0.into_iter().collect();
        things.sort_unstable_by_key(|&(_, number)| number);
        things.into_iter().map(|(thing, _)| thing).collect()
    }
}

impl Numbers<String> {
    fn known(&self, thing: &str) -> Option<usize> {
        self.0.get(thing).copied()
    }
}
