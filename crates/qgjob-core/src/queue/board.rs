//! The board: what waits and what could run it, in memory, as the server sees it. It follows the store's events, keeps
//! apart what may not start yet, and asks [`super::placement`] who takes what. Soft state: rebuilt from the store at
//! start; the store's claim is what counts.

mod events;
mod fleet;
mod health;
mod limits;
mod numbers;
mod propose;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet};

use jiff::Timestamp;

pub use self::health::{Health, Ruling};
pub use self::propose::Proposal;

use self::numbers::Numbers;
use super::forecast::PRIOR_S;
use super::placement::{self, App, Class, Concurrency, Placement, Version};
use crate::model::build::Build;
use crate::model::device::{self, Device};
use crate::model::name::{AppVersionId, OrgId};
use crate::model::selector::Target;
use crate::model::{group, job};

/// A job that waits, as the store tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    /// Its group.
    pub group: group::Id,
    /// 1 to 10.
    pub priority: u8,
    /// Since when it waits: a job that is queued again keeps its first time, and so its place.
    pub queued_at: Timestamp,
    /// Not before.
    pub not_before: Option<Timestamp>,
    /// Devices to avoid.
    pub avoid: Vec<device::Id>,
    /// Since when it is to start before others, if it was promoted.
    pub promoted_at: Option<Timestamp>,
    /// How long it should hold a device, the install apart; milliseconds.
    pub predicted_ms: u64,
}

impl Waiting {
    fn predicted_s(&self) -> f64 {
        self.predicted_ms as f64 / 1000.0
    }
}

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It waits, and may start.
    Ready,
    /// It waits, and may not start yet: a backoff, a missing or broken build, a paused app version.
    Aside,
    /// A device runs it.
    Runs(device::Id),
    /// A device still holds it, but it is over: it was cancelled.
    Over(device::Id),
    /// Its attempt ended; whether it waits again is about to be told.
    Between,
}

#[derive(Debug)]
struct Job {
    waiting: Waiting,
    place: Place,
}

/// A group on the board.
#[derive(Debug)]
pub struct Group {
    /// What its jobs have in common.
    pub key: group::Key,
    /// The build, once the label is bound.
    pub build: Option<Build>,
    /// How long an install of the build should take; seconds.
    pub install_s: f64,
    /// Its waiting jobs.
    pub waiting: BTreeSet<job::Id>,
    /// Devices that run a job of it.
    pub running: BTreeSet<device::Id>,
}

/// What a group is to the placement.
#[derive(Debug, Clone, Copy)]
struct Numbered {
    org: placement::Org,
    app: App,
    version: Version,
    class: Class,
    concurrency: Option<Concurrency>,
}

/// What waits and what could run it.
#[derive(Debug)]
pub struct Board {
    placement: Placement,
    numbers: Numbers,
    groups: HashMap<group::Id, Group>,
    jobs: HashMap<job::Id, Job>,
    /// Jobs that wait out a backoff, by its end.
    later: BTreeSet<(Timestamp, job::Id)>,
    paused: HashSet<(OrgId, AppVersionId)>,
    devices: HashMap<device::Id, Device>,
    /// The kinds of devices that meet a class.
    kinds: HashMap<Class, BTreeSet<Target>>,
    /// Devices that asked and found nothing, and until when nothing can change for them by time alone.
    told_to_wait: HashMap<device::Id, Option<f64>>,
    /// Devices that are free and about to ask, and until when that is believed.
    expected: HashMap<device::Id, Timestamp>,
    /// Devices that found what an expected one has installed.
    held_back: BTreeSet<device::Id>,
    health: Health,
    /// When the first of the devices that asked while they rested may be asked again.
    first_rested: Option<Timestamp>,
}

/// After so many more numbers than are in use, the board is worth building anew.
const WORN_AT: usize = 100_000;

impl Board {
    /// A board with devices and nothing that waits.
    pub fn new(parameters: placement::Parameters, devices: Vec<Device>, now: Timestamp) -> Self {
        let mut board = Self {
            placement: Placement::new(parameters),
            numbers: Numbers::new(devices.iter().filter_map(|device| device.serves.clone())),
            groups: HashMap::new(),
            jobs: HashMap::new(),
            later: BTreeSet::new(),
            paused: HashSet::new(),
            devices: HashMap::new(),
            kinds: HashMap::new(),
            told_to_wait: HashMap::new(),
            expected: HashMap::new(),
            held_back: BTreeSet::new(),
            health: Health::default(),
            first_rested: None,
        };
        board.expect(devices.iter().filter(|device| device.is_up()).map(|device| device.id), now);
        board.put_devices(devices, now);
        board
    }

    /// Makes a group known, or its build.
    pub fn put_group(
        &mut self,
        id: group::Id,
        key: group::Key,
        build: Option<Build>,
        install_s: f64,
        now: Timestamp,
    ) {
        let empty =
            || Group { key, build: None, install_s, waiting: BTreeSet::new(), running: BTreeSet::new() };
        let group = self.groups.entry(id).or_insert_with(empty);
        group.install_s = install_s;
        if group.build.is_none() && build.is_some() {
            group.build = build;
            let held_back: Vec<job::Id> = group.waiting.iter().copied().collect();
            held_back.into_iter().for_each(|job| self.make_ready(job, now));
        }
    }

    /// How long an install of a group's build should take, as it is now thought; seconds.
    pub fn set_install_s(&mut self, id: group::Id, install_s: f64, now: Timestamp) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        group.install_s = install_s;
        let weighed_s = self.weighed_install_s(id);
        if let Some(numbered) = self.numbered(id, now) {
            self.placement.set_install_s(numbered.version, numbered.class, weighed_s, seconds(now));
        }
    }

    /// What an install for a group is weighed with; seconds. A measured install is not held against jobs of which nobody
    /// knows how long they take: then both count as unknown, or each fast install would look worth it.
    fn weighed_install_s(&self, id: group::Id) -> f64 {
        let Some(group) = self.groups.get(&id) else { return PRIOR_S };
        let first = group.waiting.first().and_then(|job| self.jobs.get(job));
        match first.is_some_and(|job| job.waiting.predicted_s() == PRIOR_S) {
            true => group.install_s.max(PRIOR_S),
            false => group.install_s,
        }
    }

    /// Whether the group is known.
    pub fn knows(&self, id: group::Id) -> bool {
        self.groups.contains_key(&id)
    }

    /// Groups of a label that is not bound to a build yet.
    pub fn without_build(&self, org: &OrgId, app_version: &AppVersionId) -> Vec<group::Id> {
        let of_label = |group: &Group| group.key.org_id == *org && group.key.app_version_id == *app_version;
        let waits = |group: &Group| group.build.is_none() && of_label(group);
        self.groups.iter().filter(|(_, group)| waits(group)).map(|(id, _)| *id).collect()
    }

    /// Groups whose build is of the app.
    pub fn of_app(&self, app_id: &str) -> Vec<group::Id> {
        let is_of = |group: &Group| group.build.as_ref().is_some_and(|build| build.app_id == app_id);
        self.groups.iter().filter(|(_, group)| is_of(group)).map(|(id, _)| *id).collect()
    }

    /// The kinds of devices that may take a group's jobs. Found once for each class, until devices change.
    pub fn kinds(&mut self, id: group::Id, now: Timestamp) -> BTreeSet<Target> {
        let Some(class) = self.numbered(id, now).map(|numbered| numbered.class) else {
            return BTreeSet::new();
        };
        if let Some(known) = self.kinds.get(&class) {
            return known.clone();
        }
        let Some(group) = self.groups.get(&id) else { return BTreeSet::new() };
        let kinds: BTreeSet<Target> = self.fitting(group).map(|device| device.kind).collect();
        self.kinds.insert(class, kinds.clone());
        kinds
    }

    /// Adds a waiting job to a known group.
    pub fn put_waiting(&mut self, id: job::Id, waiting: Waiting, now: Timestamp) {
        self.take_out(id, now);
        let Some(group) = self.groups.get_mut(&waiting.group) else { return };
        group.waiting.insert(id);
        self.jobs.insert(id, Job { waiting, place: Place::Aside });
        self.make_ready(id, now);
    }

    /// Adds a job of a known group that a device runs since `started_at`.
    pub fn put_running(&mut self, id: job::Id, waiting: Waiting, device: device::Id, started_at: Timestamp) {
        self.put_waiting(id, waiting, started_at);
        self.start(id, device, started_at);
    }

    /// A group.
    pub fn group(&self, id: group::Id) -> Option<&Group> {
        self.groups.get(&id)
    }

    /// All groups that have jobs.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.values().filter(|group| !group.is_empty())
    }

    /// A job that waits.
    pub fn waiting(&self, id: job::Id) -> Option<&Waiting> {
        let job = self.jobs.get(&id)?;
        matches!(job.place, Place::Ready | Place::Aside).then_some(&job.waiting)
    }

    /// Devices that fit the group, online or not.
    pub fn fitting<'a>(&'a self, group: &'a Group) -> impl Iterator<Item = &'a Device> {
        self.devices.values().filter(|device| group.accepts(device))
    }

    /// Why a job waits that the placement knows; none if something else holds it back.
    pub fn why(&self, job: job::Id, now: Timestamp) -> Option<placement::Why> {
        self.placement.why(job, seconds(now))
    }

    /// A copy of what the placement knows, to foresee with: [`expected_start`].
    pub fn outlook(&self) -> Placement {
        self.placement.clone()
    }

    /// What a group of the placement is to people: the first of the groups that are one to it.
    pub fn named(&self, key: &placement::GroupKey) -> Option<&group::Key> {
        let groups = self.groups.values().filter(|group| self.numbers.are_of(key, group));
        groups.map(|group| &group.key).min()
    }

    /// Whether so much came and went that the board should be built anew: what it numbers it never forgets.
    pub fn is_worn(&self) -> bool {
        let in_use = 4 * self.groups.len() + 2 * fleet::CAPACITY_APPS * self.devices.len();
        self.numbers.given() > WORN_AT + in_use
    }

    /// Gives a waiting job to the placement, unless something holds it back.
    fn make_ready(&mut self, id: job::Id, now: Timestamp) {
        let Some(job) = self.jobs.get(&id).filter(|job| job.place == Place::Aside) else { return };
        let Some(group) = self.groups.get(&job.waiting.group) else { return };
        if group.build.is_none() || self.is_paused(&group.key) {
            return;
        }
        if self.is_broken(group, now) {
            self.give_up(id);
        } else if let Some(due) = job.waiting.not_before.filter(|due| *due > now) {
            self.later.insert((due, id));
        } else {
            self.enqueue(id, now);
        }
    }

    /// Gives a waiting job of a group with a build to the placement.
    fn enqueue(&mut self, id: job::Id, now: Timestamp) {
        let Some(group) = self.jobs.get(&id).map(|job| job.waiting.group) else { return };
        let Some(numbered) = self.numbered(group, now) else { return };
        let install_s = self.weighed_install_s(group);
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.place = Place::Ready;
        let waiting = &job.waiting;
        let waiting = placement::Waiting {
            group: placement::GroupKey {
                org: numbered.org,
                version: numbered.version,
                class: numbered.class,
                priority: waiting.priority,
                concurrency: numbered.concurrency,
            },
            app: numbered.app,
            install_s,
            predicted_s: waiting.predicted_s(),
            enqueued_at: seconds(waiting.queued_at),
            barred: waiting.avoid.clone(),
        };
        let promoted_at = job.waiting.promoted_at;
        self.placement.enqueue(id, waiting, seconds(now));
        if let Some(at) = promoted_at {
            self.placement.promote(id, seconds(at));
        }
    }

    /// Takes a waiting job from the placement, and keeps it.
    fn set_aside(&mut self, id: job::Id, now: Timestamp) {
        if let Some(job) = self.jobs.get_mut(&id).filter(|job| job.place == Place::Ready) {
            job.place = Place::Aside;
            self.placement.remove(id, seconds(now));
        }
    }

    /// Forgets a job, and its group if that was the last.
    fn forget(&mut self, id: job::Id, now: Timestamp) {
        let Some(group) = self.take_out(id, now) else { return };
        if self.groups.get(&group).is_some_and(Group::is_empty) {
            self.groups.remove(&group);
        }
    }

    /// Takes a job from wherever it is; answers its group.
    fn take_out(&mut self, id: job::Id, now: Timestamp) -> Option<group::Id> {
        let job = self.jobs.remove(&id)?;
        if let Some(due) = job.waiting.not_before {
            self.later.remove(&(due, id));
        }
        self.placement.remove(id, seconds(now));
        if let Some(group) = self.groups.get_mut(&job.waiting.group) {
            group.waiting.remove(&id);
            if let Place::Runs(device) | Place::Over(device) = job.place {
                group.running.remove(&device);
            }
        }
        Some(job.waiting.group)
    }

    /// A device runs a job.
    fn start(&mut self, id: job::Id, device: device::Id, now: Timestamp) {
        let Some(job) = self.jobs.get(&id) else { return };
        if job.place == Place::Aside {
            // The store knew better what holds it back.
            self.enqueue(id, now);
        }
        let at = seconds(now);
        if self.placement.start(device, id, at) == Err(placement::NotStarted::Busy(device)) {
            // What this device was thought to run, another server knew better.
            self.placement.undo(device, at);
            let _ = self.placement.start(device, id, at);
        }
        if self.placement.device_of(id) != Some(device) {
            // The device is not known yet; the job must not go to another.
            self.placement.remove(id, at);
        }
        self.told_to_wait.remove(&device);
        self.expected.remove(&device);
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.place = Place::Runs(device);
        if let Some(due) = job.waiting.not_before {
            self.later.remove(&(due, id));
        }
        if let Some(group) = self.groups.get_mut(&job.waiting.group) {
            group.waiting.remove(&id);
            group.running.insert(device);
        }
    }
}

impl Group {
    /// Whether a device may run its jobs.
    fn accepts(&self, device: &Device) -> bool {
        self.key.accepts(device, self.build.as_ref().map(|build| build.platform))
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }
}

/// When a waiting job should start, by a copy of the placement: see [`Placement::expected_start`].
pub fn expected_start(
    outlook: &Placement,
    job: job::Id,
    now: Timestamp,
    stretch: f64,
    most_decisions: usize,
) -> Option<Timestamp> {
    outlook.expected_start(job, seconds(now), stretch, most_decisions).and_then(timestamp)
}

/// A moment as the placement counts it: seconds since 1970.
fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

/// The first millisecond that is not before a moment of the placement; none beyond the calendar.
fn timestamp(seconds: f64) -> Option<Timestamp> {
    Timestamp::from_millisecond((seconds * 1000.0).ceil() as i64).ok()
}
