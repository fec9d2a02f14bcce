//! Placement: which device takes which jobs. A data structure in memory with one rule, asked by the server for each
//! device that is free and by the simulator for each of its virtual ones; it does no I/O and reads no clock.
//!
//! The rule, by the name of CAST (cost-aware affinity with a spread threshold), in four parts:
//!
//! 1. A device stays with a version that it has while that has jobs for it.
//! 2. A device installs the version of a group only if nobody serves the group, or if the work that is left per
//!    serving device is worth an install (`Group::worth_joining_s`), or if the group started nothing for long.
//! 3. Groups rank by age, less a credit for priority, plus a penalty for size. An org that holds much more than its
//!    fair share of the pool comes after those that do not.
//! 4. Within a group the longest job starts first.
//!
//! Where it comes from: the project's own study, which `docs/PLACEMENT.md` sums up. Its nearest kin is delay
//! scheduling (M. Zaharia et al., "Delay Scheduling", EuroSys 2010), which waits a fixed time before it gives up
//! locality; here the wait is computed from the work that is left.
//!
//! Words: a **class** is a set of requirements that jobs have and devices meet; a **pool** is a set of classes whose
//! orgs share devices fairly. A device may meet several classes. Times are `f64` seconds since any fixed origin, the
//! same for all calls; durations are seconds, too. A time that is no number counts as the origin; a prediction is
//! brought to within 1 s and 1 day.
//!
//! Each operation costs O(log groups), amortised, plus the number of classes the device meets and the number of
//! groups of the versions it has. Three things drift with time and are put right when they are next looked at, not
//! at once: a group's work shrinks, so that it stops wanting devices; an org's due moves when others come and go; a
//! group's patience ends.

mod changes;
mod concurrency;
mod decide;
mod fleet;
mod group;
mod hashing;
mod open;
mod outlook;
mod parameters;
mod seconds;
mod share;
#[cfg(test)]
mod tests;
mod upkeep;
mod why;

use std::collections::{BTreeSet, HashSet};

pub use self::changes::NotStarted;
pub use self::concurrency::Concurrency;
pub use self::decide::{Decision, Run};
pub use self::fleet::{DeviceState, Installed};
pub use self::parameters::Parameters;
pub use self::why::{Ahead, Reason, Why};

use self::concurrency::ConcurrencyState;
use self::fleet::Known;
use self::group::{Crowd, Group, Job, Slot};
use self::hashing::Map;
use self::open::Open;
use self::seconds::Seconds;
use self::share::{OrgState, PoolState};
use crate::model::{device, job};

/// A tenant, numbered by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Org(pub u32);

/// An app, numbered by the caller: a device holds one version of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct App(pub u32);

/// A version of an app, numbered by the caller: the same number means the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version(pub u32);

/// A set of classes whose orgs share devices fairly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pool(u32);

/// A set of requirements that jobs have and devices meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Class(u32);

impl Pool {
    fn at(self) -> usize {
        self.0 as usize
    }
}

impl Class {
    fn at(self) -> usize {
        self.0 as usize
    }
}

/// What the jobs of one group have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupKey {
    /// The tenant.
    pub org: Org,
    /// The version under test.
    pub version: Version,
    /// What a device must meet.
    pub class: Class,
    /// 1 to 10, 10 most urgent.
    pub priority: u8,
    /// What its jobs name so that only so many run at a time, if they name one.
    pub concurrency: Option<Concurrency>,
}

/// A job that waits.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    /// Its group, which comes to be with its first job and goes with its last.
    pub group: GroupKey,
    /// The app of the version.
    pub app: App,
    /// How long an install of the version should take; the latest word holds for the whole group.
    pub install_s: f64,
    /// How long the job should take.
    pub predicted_s: f64,
    /// Since when it waits. A job that is queued again keeps its first time, and so its place.
    pub enqueued_at: f64,
    /// Devices that should not run it; they may if no other device of the class is up.
    pub barred: Vec<device::Id>,
}

#[derive(Debug, Clone)]
struct ClassState {
    pool: Pool,
    devices_up: u32,
    /// Groups with waiting jobs that are neither paused nor of a concurrency group that is full.
    queued: u32,
    open: Open,
    /// Groups that want no device now, by when they will.
    closed: BTreeSet<(Seconds, u64, Slot)>,
}

impl ClassState {
    fn crowd(&self) -> Crowd {
        Crowd { queued: self.queued, devices_up: self.devices_up }
    }
}

/// What waits, what could run it, and the rule that brings them together.
#[derive(Debug, Clone)]
pub struct Placement {
    parameters: Parameters,
    pools: Vec<PoolState>,
    classes: Vec<ClassState>,
    orgs: Map<Org, OrgState>,
    groups: Vec<Option<Group>>,
    free_slots: Vec<Slot>,
    /// By key, and whether its jobs were promoted.
    by_key: Map<(GroupKey, bool), Slot>,
    by_version: Map<Version, Vec<Slot>>,
    paused_versions: HashSet<(Org, Version)>,
    concurrency: Map<(Org, Concurrency), ConcurrencyState>,
    devices: Map<device::Id, Known>,
    jobs: Map<job::Id, Job>,
    /// Which device runs a job.
    running: Map<job::Id, device::Id>,
    /// Classes in which a device that found nothing might find something now.
    stirred: BTreeSet<Class>,
    next_serial: u64,
}

impl Placement {
    /// An empty one.
    pub fn new(parameters: Parameters) -> Self {
        Self {
            parameters: parameters.within_bounds(),
            pools: Vec::new(),
            classes: Vec::new(),
            orgs: Map::default(),
            groups: Vec::new(),
            free_slots: Vec::new(),
            by_key: Map::default(),
            by_version: Map::default(),
            paused_versions: HashSet::new(),
            concurrency: Map::default(),
            devices: Map::default(),
            jobs: Map::default(),
            running: Map::default(),
            stirred: BTreeSet::new(),
            next_serial: 0,
        }
    }

    /// A new pool. Pools stay for good.
    pub fn add_pool(&mut self) -> Pool {
        self.pools.push(PoolState::default());
        Pool(self.pools.len() as u32 - 1)
    }

    /// A new class in a pool. Classes stay for good; one without jobs costs a claim a few nanoseconds.
    pub fn add_class(&mut self, pool: Pool) -> Class {
        self.classes.push(ClassState {
            pool,
            devices_up: 0,
            queued: 0,
            open: Open::default(),
            closed: BTreeSet::new(),
        });
        Class(self.classes.len() as u32 - 1)
    }

    /// Jobs that wait.
    pub fn waiting(&self) -> usize {
        self.jobs.len() - self.running.len()
    }

    /// The device that runs a job, if one does.
    pub fn device_of(&self, job: job::Id) -> Option<device::Id> {
        self.running.get(&job).copied()
    }

    fn group(&self, slot: Slot) -> &Group {
        self.groups[slot].as_ref().expect("a slot that is referred to is taken")
    }

    fn group_mut(&mut self, slot: Slot) -> &mut Group {
        self.groups[slot].as_mut().expect("a slot that is referred to is taken")
    }
}
