//! What a server did, as a workload: its jobs as they were submitted, as long as they took.

use std::collections::{BTreeSet, HashMap, HashSet};

use jiff::Timestamp;
use qgjob_core::api::jobs::JobView;
use qgjob_core::model::attempt::{Attempt, Install, InstallAction, Outcome};
use qgjob_core::model::build::{AppVersion, Build};
use qgjob_core::model::device::{self, Device};
use qgjob_core::model::group::Key;
use qgjob_core::model::job::{Conclusion, Job, Status};
use qgjob_core::model::name::{AppVersionId, OrgId};
use qgjob_core::model::selector::Platform;

use super::exported::{DeviceEntry, Document, InstalledEntry, JobEntry, SCHEMA};

/// No job and no install is shorter. Seconds.
const SHORTEST_S: f64 = 0.001;

/// What a server knows of a span of time.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The devices that it has now.
    pub devices: Vec<Device>,
    /// The labels and their builds.
    pub app_versions: Vec<AppVersion>,
    /// The jobs, in any order.
    pub jobs: Vec<Past>,
}

/// A job and the times when it held a device.
#[derive(Debug, Clone)]
pub struct Past {
    /// The job.
    pub job: Job,
    /// Oldest first. An attempt that lives is not among them.
    pub held: Vec<Held>,
}

/// An attempt that is over.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    device: device::Id,
    from: Timestamp,
    to: Timestamp,
    install: Option<Install>,
    /// Whether it ran as long as the job takes: a fault or a cancel cuts it short.
    whole: bool,
}

/// What a history came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// The workload.
    pub document: Document,
    /// Installs that were made.
    pub installs: usize,
    /// Device time that went into them. Seconds.
    pub install_s: f64,
    /// From the first submission to the end of the last attempt. Seconds.
    pub makespan_s: f64,
    /// Jobs that no device of now would take.
    pub unserved: usize,
    /// Jobs that were cancelled before they started, or are not due yet.
    pub unwanted: usize,
    /// Jobs whose duration is a forecast, since they did not run to their end.
    pub forecast: usize,
}

impl Past {
    /// A job of which its own record says all: one attempt that came to a verdict. None for other jobs, whose attempts
    /// must be read.
    pub fn of_record(view: &JobView) -> Option<Self> {
        let job = &view.job;
        let held = match (job.attempts, job.status, job.conclusion) {
            (0, ..) => Vec::new(),
            (
                1,
                Status::Completed,
                Some(Conclusion::Passed | Conclusion::Failed | Conclusion::Skipped | Conclusion::TimedOut),
            ) => vec![Held {
                device: job.device_id?,
                from: job.started_at?,
                to: job.finished_at?,
                install: view.install,
                whole: true,
            }],
            _ => return None,
        };
        Some(Self { job: job.clone(), held })
    }

    /// A job with its attempts.
    pub fn of_attempts(job: Job, attempts: &[Attempt]) -> Self {
        let held = attempts.iter().filter_map(|attempt| {
            Some(Held {
                device: attempt.device_id,
                from: attempt.started_at,
                to: attempt.ended_at?,
                install: attempt.install,
                whole: matches!(
                    attempt.outcome?,
                    Outcome::Passed | Outcome::Failed | Outcome::Skipped | Outcome::TimedOut
                ),
            })
        });
        Self { job, held: held.collect() }
    }

    /// How long it took without its install, when it ran to its end.
    fn duration_s(&self) -> Option<f64> {
        let last = self.held.last().filter(|held| held.whole)?;
        Some((seconds(last.from, last.to) - last.installed_s().unwrap_or(0.0)).max(SHORTEST_S))
    }

    /// When it began to wait for a device.
    fn waits_from(&self) -> Timestamp {
        // The `not_before` of later attempts is the pause after a fault.
        let due =
            self.job.not_before.filter(|_| self.job.attempts <= 1 && self.held.iter().all(|held| held.whole));
        due.map_or(self.job.created_at, |due| due.max(self.job.created_at))
    }

    fn is_wanted(&self) -> bool {
        let never_started = self.job.attempts == 0 && self.job.conclusion == Some(Conclusion::Cancelled);
        self.job.status != Status::Scheduled && !never_started
    }
}

impl Held {
    /// How long its install took, if it made one.
    fn installed_s(&self) -> Option<f64> {
        let install = self.install.filter(|install| install.action.is_switch())?;
        Some((install.duration_ms as f64 / 1000.0).max(SHORTEST_S))
    }
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

/// What a job is submitted for.
type Label<'a> = (&'a OrgId, &'a AppVersionId);

impl History {
    /// The workload, and what the server made of it. A device is part of it when it ran a job or can run one now.
    pub fn tell(&self, name: &str) -> Told {
        let builds: HashMap<Label<'_>, &Build> =
            self.app_versions.iter().map(|app| ((&app.org_id, &app.app_version_id), &app.build)).collect();
        let wanted: Vec<&Past> = self.jobs.iter().filter(|past| past.is_wanted()).collect();
        let used: HashSet<device::Id> =
            wanted.iter().flat_map(|past| past.held.iter().map(|held| held.device)).collect();
        let fleet: Vec<&Device> =
            self.devices.iter().filter(|device| used.contains(&device.id) || device.is_up()).collect();

        let mut classes: Vec<BTreeSet<String>> = vec![BTreeSet::new(); fleet.len()];
        let dedicated = fleet.iter().any(|device| device.serves.is_some());
        let mut known: HashMap<String, bool> = HashMap::new();
        let mut asked: Vec<(&Past, String)> = Vec::new();
        for &past in &wanted {
            let build = builds.get(&label(&past.job)).map(|build| build.platform);
            let class = class(&past.job, build, dedicated);
            let served = *known.entry(class.clone()).or_insert_with(|| {
                let key = key(&past.job);
                let takes = |device: &Device| key.accepts(device, build);
                let serving = fleet.iter().zip(&mut classes).filter(|(device, _)| takes(device));
                serving.map(|(_, classes)| classes.insert(class.clone())).count() > 0
            });
            if served {
                asked.push((past, class));
            }
        }

        let start = asked.iter().map(|(past, _)| past.waits_from()).min().unwrap_or_default();
        let names = self.version_names();
        let version_of = |job: &Job| -> String {
            names.get(&label(job)).map_or(job.app_version_id.to_string(), ToString::to_string)
        };
        let app_of = |job: &Job| builds.get(&label(job)).map(|build| build.app_id.clone());
        let install_s = self.install_s(&names);
        let entries = asked.iter().map(|(past, class)| {
            let job = &past.job;
            let predicted_s = (job.predicted_ms as f64 / 1000.0).max(SHORTEST_S);
            let name = names.get(&label(job)).copied().unwrap_or(&job.app_version_id);
            JobEntry {
                org: job.org_id.to_string(),
                app: app_of(job),
                version: version_of(job),
                class: class.clone(),
                priority: job.spec.priority.into(),
                run: Some(job.run_id.to_string()),
                submitted_at: seconds(start, past.waits_from()),
                duration_s: past.duration_s().unwrap_or(predicted_s),
                predicted_s: Some(predicted_s),
                install_s: install_s.get(&(&job.org_id, name)).copied(),
            }
        });
        let jobs: Vec<JobEntry> = entries.collect();

        let mut first_seen = self.found_installed(version_of, app_of);
        let devices =
            fleet.iter().zip(classes).filter(|(_, classes)| !classes.is_empty()).map(|(device, classes)| {
                DeviceEntry {
                    name: device.name.clone(),
                    classes: classes.into_iter().collect(),
                    installed: first_seen.remove(&device.id).unwrap_or_default(),
                }
            });
        let devices = devices.collect();

        let held = || asked.iter().flat_map(|(past, _)| &past.held);
        let made: Vec<f64> = held().filter_map(Held::installed_s).collect();
        let apps: HashSet<_> = jobs.iter().map(|job| (&job.org, &job.app)).collect();
        let document = Document {
            schema: SCHEMA.to_owned(),
            name: Some(name.to_owned()),
            devices,
            // An agent removes no app to make room.
            apps_per_device: Some(apps.len().max(1)),
            install_s: median(made.clone()),
            jobs,
        };
        Told {
            installs: made.len(),
            install_s: made.iter().sum(),
            makespan_s: held().map(|held| seconds(start, held.to)).fold(0.0, f64::max),
            unserved: wanted.len() - asked.len(),
            unwanted: self.jobs.len() - wanted.len(),
            forecast: asked.iter().filter(|(past, _)| past.duration_s().is_none()).count(),
            document,
        }
    }

    /// What each label is called in the workload: the org's first label for the same bytes, since they need no install.
    fn version_names(&self) -> HashMap<Label<'_>, &AppVersionId> {
        let mut oldest: Vec<&AppVersion> = self.app_versions.iter().collect();
        oldest.sort_by_key(|app| (app.created_at, &app.app_version_id));
        let mut first = HashMap::new();
        let named = oldest.into_iter().map(|app| {
            let name = *first.entry((&app.org_id, app.build.sha256)).or_insert(&app.app_version_id);
            ((&app.org_id, &app.app_version_id), name)
        });
        named.collect()
    }

    /// Median seconds of the installs of each version.
    fn install_s<'a>(&'a self, names: &HashMap<Label<'a>, &'a AppVersionId>) -> HashMap<Label<'a>, f64> {
        let mut took: HashMap<Label<'_>, Vec<f64>> = HashMap::new();
        for past in &self.jobs {
            let (org, label) = label(&past.job);
            let name = names.get(&(org, label)).copied().unwrap_or(label);
            let made = past.held.iter().filter_map(Held::installed_s);
            took.entry((org, name)).or_default().extend(made);
        }
        took.into_iter().filter_map(|(version, took)| Some((version, median(took)?))).collect()
    }

    /// What the first attempt of each app found on its device.
    fn found_installed(
        &self,
        version_of: impl Fn(&Job) -> String,
        app_of: impl Fn(&Job) -> Option<String>,
    ) -> HashMap<device::Id, Vec<InstalledEntry>> {
        let mut attempts: Vec<(&Job, &Held)> =
            self.jobs.iter().flat_map(|past| past.held.iter().map(move |held| (&past.job, held))).collect();
        attempts.sort_by_key(|(_, held)| held.from);
        let mut seen = HashSet::new();
        let mut found: HashMap<device::Id, Vec<InstalledEntry>> = HashMap::new();
        for (job, held) in attempts {
            let app = app_of(job);
            let Some(install) = held.install else { continue };
            if seen.insert((held.device, job.org_id.clone(), app.clone()))
                && install.action == InstallAction::Avoided
            {
                let entry = InstalledEntry { org: job.org_id.to_string(), app, version: version_of(job) };
                found.entry(held.device).or_default().push(entry);
            }
        }
        found
    }
}

fn label(job: &Job) -> Label<'_> {
    (&job.org_id, &job.app_version_id)
}

fn key(job: &Job) -> Key {
    Key {
        org_id: job.org_id.clone(),
        app_version_id: job.app_version_id.clone(),
        platform: job.spec.platform,
        target: job.spec.target,
        selector: job.spec.selector.clone(),
        concurrency_group: job.spec.concurrency_group.clone(),
    }
}

/// Jobs with the same one can use the same devices.
fn class(job: &Job, build: Option<Platform>, dedicated: bool) -> String {
    let platform = build.or(job.spec.platform).map_or("any platform", Platform::as_str);
    let mut class = format!("{platform} {}", job.spec.target);
    if !job.spec.selector.is_empty() {
        class += &format!(" {}", job.spec.selector);
    }
    if dedicated {
        class += &format!(" of {}", job.org_id);
    }
    class
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
