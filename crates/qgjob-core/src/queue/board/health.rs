//! What failures say about devices and builds, and what follows from it: rests, quarantines, and the end of jobs whose build
//! is broken. The rules are those of [`super::super::blame`]. Soft state, but for the quarantines, which the store keeps.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use jiff::{SignedDuration, Timestamp};

use super::super::blame::{self, DeviceRecord, Standing, VersionRecord};
use super::super::forecast::Remembered;
use super::super::placement;
use super::{Board, Group, Place, Proposal, seconds, timestamp};
use crate::model::attempt::{Choice, Outcome};
use crate::model::device::{self, Device, Quarantine};
use crate::model::job::{self, Reason};
use crate::model::name::OrgId;
use crate::model::sha256::Sha256;

/// Builds whose records are kept.
const BUILDS: usize = 1_000;
/// For how long after its latest failure a broken build is not tried.
const BROKEN_FOR: SignedDuration = SignedDuration::from_mins(10);
/// Attempts of a device that its evidence counts.
const EVIDENCE: usize = 10;
/// Devices that are named when a build is given up.
const NAMED: usize = 5;
/// Characters of what was seen on each of them.
const SEEN: usize = 200;
/// Jobs that are looked at for a probe.
const PROBES: usize = 20;

/// A build of an org: what happens to one org's jobs never decides about another's.
type Key = (OrgId, Sha256);

/// What the board decided and the store must be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    /// A device goes into quarantine, or has left it.
    Quarantine {
        /// The device.
        device: device::Id,
        /// Its quarantine.
        quarantine: Quarantine,
    },
    /// Waiting jobs end: their build is broken.
    GiveUp {
        /// The jobs.
        jobs: Vec<job::Id>,
        /// On which devices the build failed and what was seen, for people.
        detail: String,
    },
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct End<'a> {
    pub outcome: Outcome,
    pub reason: Option<Reason>,
    pub detail: Option<&'a str>,
}

/// What a failure may speak against. What the runner or the project did is not among them: tests can make it happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Install,
    Device,
    /// The agent, a cable, the power: not the build.
    Elsewhere,
}

impl End<'_> {
    /// An attempt that timed out says nothing: both hang.
    fn is_good(&self) -> bool {
        matches!(self.outcome, Outcome::Passed | Outcome::Failed | Outcome::Skipped)
    }

    fn fault(&self) -> Option<(Fault, Reason)> {
        let reason = self.reason.filter(|_| self.outcome == Outcome::Errored)?;
        let fault = match reason {
            Reason::InstallFault => Fault::Install,
            Reason::DeviceFault | Reason::BuildMismatch => Fault::Device,
            Reason::AgentFault => Fault::Elsewhere,
            _ => return None,
        };
        Some((fault, reason))
    }
}

/// What a board learned about devices and builds.
#[derive(Debug, Clone)]
pub struct Health {
    builds: Remembered<Key, BuildHealth>,
    devices: HashMap<device::Id, DeviceHealth>,
    quarantines: Vec<(device::Id, Quarantine)>,
    /// The jobs that are to end, and why.
    given_up: BTreeMap<Key, (String, BTreeSet<job::Id>)>,
    /// No build is broken after this.
    last_broken: Option<Timestamp>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            builds: Remembered::new(BUILDS),
            devices: HashMap::new(),
            quarantines: Vec::new(),
            given_up: BTreeMap::new(),
            last_broken: None,
        }
    }
}

#[derive(Debug, Clone, Default)]
struct BuildHealth {
    record: VersionRecord,
    /// The latest failure on each device, for people.
    seen: BTreeMap<device::Id, String>,
    broken_until: Option<Timestamp>,
}

#[derive(Debug, Clone, Default)]
struct DeviceHealth {
    record: DeviceRecord,
    /// The latest attempts that say something about it, and what went wrong.
    ends: VecDeque<Option<Reason>>,
    rests_until: Option<Timestamp>,
    /// The latest, as the store has it or is about to have it.
    quarantine: Option<Quarantine>,
}

impl DeviceHealth {
    fn note(&mut self, end: Option<Reason>) {
        self.ends.push_back(end);
        while self.ends.len() > EVIDENCE {
            self.ends.pop_front();
        }
    }

    /// What speaks against it, without the words of any org's jobs.
    fn evidence(&self) -> String {
        let mut reasons: BTreeMap<Reason, usize> = BTreeMap::new();
        self.ends.iter().flatten().for_each(|reason| *reasons.entry(*reason).or_default() += 1);
        let failed: usize = reasons.values().sum();
        let reasons: Vec<String> =
            reasons.iter().map(|(reason, times)| format!("{reason} {times} times")).collect();
        let reasons = reasons.join(", ").replace(" 1 times", " once");
        format!("{failed} of the last {} attempts failed: {reasons}", self.ends.len())
    }
}

impl BuildHealth {
    fn why(&self, build: Sha256, until: Timestamp) -> String {
        let (failed, tried) = self.record.devices();
        let mut named: Vec<&str> = self.seen.values().take(NAMED).map(String::as_str).collect();
        if self.seen.len() > NAMED {
            named.push("...");
        }
        format!(
            "build {} failed on {failed} of {tried} devices that tried it, for reasons other than its tests, and is not tried \
             before {until:.0}: {}",
            build.short(),
            named.join("; ")
        )
    }
}

impl Board {
    /// What was decided since this was asked last. What cannot be carried out must be tried again.
    pub fn take_rulings(&mut self) -> Vec<Ruling> {
        let quarantines = std::mem::take(&mut self.health.quarantines);
        let given_up = std::mem::take(&mut self.health.given_up);
        let quarantine = |(device, quarantine)| Ruling::Quarantine { device, quarantine };
        let give_up = |(detail, jobs): (String, BTreeSet<job::Id>)| Ruling::GiveUp {
            jobs: jobs.into_iter().collect(),
            detail,
        };
        quarantines.into_iter().map(quarantine).chain(given_up.into_values().map(give_up)).collect()
    }

    /// What this board learned, for the one that replaces it.
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Goes on from what another board learned. To be called before this one is told of jobs.
    pub fn put_health(&mut self, health: Health) {
        self.health = health;
        self.health.devices.retain(|id, _| self.devices.contains_key(id));
        let stored = self.devices.values().map(|device| (device.id, device.quarantine.clone()));
        for (device, quarantine) in stored.collect::<Vec<_>>() {
            self.trust_quarantine(device, quarantine);
        }
    }

    /// Until when a device is not asked: it is in quarantine, or rests after a failure.
    pub fn rests_until(&self, device: device::Id, now: Timestamp) -> Option<Timestamp> {
        let health = self.health.devices.get(&device)?;
        let out = match health.record.standing(seconds(now)) {
            Standing::Out { until } => timestamp(until),
            Standing::Trusted | Standing::Probe => None,
        };
        out.into_iter().chain(health.rests_until).filter(|until| *until > now).max()
    }

    /// Whether a device's quarantine is over, and a job is to prove that it was enough.
    pub(super) fn is_on_probe(&self, device: device::Id, now: Timestamp) -> bool {
        let health = self.health.devices.get(&device);
        health.is_some_and(|health| health.record.standing(seconds(now)) == Standing::Probe)
    }

    /// Whether a device is in quarantine or has not proved itself since.
    pub(super) fn is_quarantined(&self, device: device::Id) -> bool {
        let quarantine = self.health.devices.get(&device).and_then(|health| health.quarantine.as_ref());
        quarantine.is_some_and(Quarantine::is_in_force)
    }

    /// Follows what the store says about a device's quarantine.
    pub(super) fn trust_quarantine(&mut self, device: device::Id, stored: Option<Quarantine>) {
        let Some(stored) = stored else { return };
        let health = self.health.devices.entry(device).or_default();
        if stored.is_news_after(health.quarantine.as_ref()) {
            health.record.resume(stored.in_a_row, seconds(stored.until), stored.is_in_force());
            health.rests_until = None;
            health.ends.clear();
            health.quarantine = Some(stored);
        }
    }

    pub(super) fn forget_device_health(&mut self, device: device::Id) {
        self.health.devices.remove(&device);
    }

    /// Learns from the end of an attempt of a job that the board knows.
    pub(super) fn learn(&mut self, job: job::Id, device: device::Id, end: End<'_>, at: Timestamp) {
        let group = self.jobs.get(&job).and_then(|job| self.groups.get(&job.waiting.group));
        let Some(key) = group.and_then(key_of) else { return };
        if end.is_good() {
            self.learn_good(key, device, at);
        } else if let Some((fault, reason)) = end.fault() {
            self.learn_bad(key, device, fault, reason, end.detail.unwrap_or_default(), at);
        }
    }

    fn learn_good(&mut self, key: Key, device: device::Id, at: Timestamp) {
        let build = self.health.builds.of(key.clone());
        build.record.passed(device);
        if !is_bad(&build.record) {
            build.broken_until = None;
            let spared = self.health.given_up.remove(&key).map(|(_, jobs)| jobs).unwrap_or_default();
            spared.into_iter().for_each(|job| self.make_ready(job, at));
        }
        let health = self.health.devices.entry(device).or_default();
        health.record.passed();
        health.note(None);
        health.rests_until = None;
        if let Some(quarantine) = health.quarantine.as_mut().filter(|quarantine| quarantine.is_in_force()) {
            quarantine.ended_at = Some(at);
            self.health.quarantines.push((device, quarantine.clone()));
        }
    }

    fn learn_bad(
        &mut self,
        key: Key,
        device: device::Id,
        fault: Fault,
        reason: Reason,
        detail: &str,
        at: Timestamp,
    ) {
        let may_go = self.may_quarantine(device, at);
        let known = self.devices.get(&device);
        let name = known.map_or_else(|| device.to_string(), |known| known.name.clone());
        // One that is gone was unplugged or lost its power, and perhaps many with it: no build did that.
        let is_gone = known.is_some_and(|known| known.state == device::State::Offline);
        let fault = if is_gone { Fault::Elsewhere } else { fault };
        let build = self.health.builds.of(key.clone());
        let blame = match fault {
            Fault::Install => build.record.failed_to_install(device),
            Fault::Device => build.record.failed(device),
            Fault::Elsewhere => build.record.failed_elsewhere(device),
        };
        let breaks = fault != Fault::Elsewhere && is_bad(&build.record);
        if fault != Fault::Elsewhere {
            let seen: String = detail.lines().next().unwrap_or_default().chars().take(SEEN).collect();
            build.seen.insert(device, format!("{name} {reason} ({seen})"));
        }
        if breaks {
            build.broken_until = Some(at.checked_add(BROKEN_FOR).unwrap_or(Timestamp::MAX));
            self.health.last_broken = self.health.last_broken.max(build.broken_until);
        }
        let blame = if breaks { 0.0 } else { blame };
        let health = self.health.devices.entry(device).or_default();
        // What it failed while it is out began before, and was paid for.
        let is_out = matches!(health.record.standing(seconds(at)), Standing::Out { .. });
        let is_bad = health.record.failed(blame);
        health.note(Some(reason));
        health.rests_until = timestamp(seconds(at) + health.record.pause_s());
        if is_bad && blame > 0.0 && may_go && !is_out {
            let until = timestamp(health.record.quarantine(seconds(at))).unwrap_or(Timestamp::MAX);
            let (in_a_row, evidence) = (health.record.quarantines(), health.evidence());
            let quarantine = Quarantine { since: at, until, in_a_row, evidence, ended_at: None };
            health.quarantine = Some(quarantine.clone());
            self.health.quarantines.push((device, quarantine));
        }
        if breaks {
            self.give_up_on(&key, at);
        }
    }

    /// Whether one more of the devices that are like this one may go.
    fn may_quarantine(&self, id: device::Id, at: Timestamp) -> bool {
        let Some(device) = self.devices.get(&id) else { return false };
        let is_alike = |other: &&Device| {
            (other.platform, other.kind, &other.serves) == (device.platform, device.kind, &device.serves)
        };
        let alike = self.devices.values().filter(is_alike);
        let since = |other: &Device| {
            let health = self.health.devices.get(&other.id).filter(|_| other.id != id)?;
            health.quarantine.as_ref().map(|quarantine| seconds(quarantine.since))
        };
        blame::may_quarantine(alike.clone().count(), alike.filter_map(since), seconds(at))
    }

    /// Whether a group's build is broken: its jobs are not to be tried.
    pub(super) fn is_broken(&self, group: &Group, now: Timestamp) -> bool {
        if self.health.last_broken.is_none_or(|until| until <= now) {
            return false;
        }
        let build = key_of(group).and_then(|key| self.health.builds.get(&key));
        build.and_then(|build| build.broken_until).is_some_and(|until| until > now)
    }

    /// Notes that a waiting job is to end, because its build is broken.
    pub(super) fn give_up(&mut self, job: job::Id) {
        let group = self.jobs.get(&job).and_then(|job| self.groups.get(&job.waiting.group));
        let Some(key) = group.and_then(key_of) else { return };
        let build = self.health.builds.get(&key);
        let Some((build, until)) = build.and_then(|build| Some((build, build.broken_until?))) else { return };
        let because = || (build.why(key.1, until), BTreeSet::new());
        self.health.given_up.entry(key.clone()).or_insert_with(because).1.insert(job);
    }

    /// Ends the waiting jobs of a build. Those that are paused end when they go on, if the build is still broken then.
    fn give_up_on(&mut self, key: &Key, at: Timestamp) {
        let of_build = |group: &&Group| key_of(group).as_ref() == Some(key) && !self.is_paused(&group.key);
        let waiting = self.groups.values().filter(of_build).flat_map(|group| group.waiting.iter().copied());
        for job in waiting.collect::<Vec<_>>() {
            self.set_aside(job, at);
            self.give_up(job);
        }
    }

    /// A job for a device on probe, of a build that does well on others: whatever goes wrong is then the device's doing.
    /// None if no such job may start.
    pub(super) fn probe(&mut self, id: device::Id, now: Timestamp) -> Option<Proposal> {
        let job = self.job_for_probe(self.devices.get(&id)?, now)?;
        self.placement.start(id, job, seconds(now)).ok()?;
        Some(Proposal { device: id, job, choice: Choice::Probe })
    }

    fn job_for_probe(&self, device: &Device, now: Timestamp) -> Option<job::Id> {
        let fits = |group: &&Group| {
            let build = key_of(group).and_then(|key| self.health.builds.get(&key));
            group.accepts(device) && build.is_some_and(|build| build.record.does_well_besides(device.id))
        };
        let first = |group: &Group| {
            let waiting = group.waiting.iter().map(|id| (id, &self.jobs[id]));
            let mut ready = waiting.filter(|(_, job)| job.place == Place::Ready);
            let (id, job) = ready.find(|(_, job)| !job.waiting.avoid.contains(&device.id))?;
            let installs = !group.build.as_ref().is_some_and(|build| device.has(build));
            Some((installs, job.waiting.queued_at, *id))
        };
        let mut found: Vec<_> = self.groups.values().filter(fits).filter_map(first).collect();
        found.sort_unstable();
        let mut jobs = found.into_iter().take(PROBES).map(|(_, _, job)| job);
        jobs.find(|job| {
            self.why(*job, now).is_some_and(|why| !why.reasons.iter().any(placement::Reason::is_limit))
        })
    }
}

fn is_bad(record: &VersionRecord) -> bool {
    record.is_broken() || record.cannot_be_installed()
}

fn key_of(group: &Group) -> Option<Key> {
    Some((group.key.org_id.clone(), group.build.as_ref()?.sha256))
}
