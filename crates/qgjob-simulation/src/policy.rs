//! Who decides which device takes which job.

mod peer;
mod qgjob;

pub use peer::{Peer, RULES, Rule};
pub use qgjob::Qgjob;
use qgjob_core::queue::placement::Parameters;

use crate::fleet::Fleet;
use crate::workload::Workload;

/// What a free device is told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Decision {
    /// Start this job of this group; it no longer waits.
    Start {
        /// The group.
        group: usize,
        /// The job's place in it.
        job: usize,
    },
    /// Nothing for now; ask again at the latest at this time. Infinite: when something arrives.
    Wait {
        /// Seconds from the start.
        until: f64,
    },
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With the job done.
    Done,
    /// It broke; the job goes on elsewhere.
    Broke,
    /// It broke, and the job with it: there are no more attempts.
    GaveUp,
    /// The device left.
    Lost,
}

impl End {
    /// Whether the job is over.
    pub fn settles(self) -> bool {
        matches!(self, Self::Done | Self::GaveUp)
    }
}

/// A rule of placement. Devices, groups and jobs are given by their place in the workload; `now` never goes back.
pub trait Policy {
    /// What people call it.
    fn name(&self) -> &str;

    /// All jobs of a group arrive.
    fn arrive(&mut self, now: f64, group: usize);

    /// A job that was started waits again; it was on a device and should avoid it.
    fn requeue(&mut self, now: f64, group: usize, job: usize, avoid: usize);

    /// A free device asks.
    fn decide(&mut self, now: f64, device: usize, fleet: &Fleet) -> Decision;

    /// A device no longer runs what it was told to start. Unless that settles the job, it is requeued: at once when it
    /// broke, later when the device was lost.
    fn finish(&mut self, now: f64, device: usize, end: End);

    /// A device left, or was taken out.
    fn gone(&mut self, now: f64, device: usize, fleet: &Fleet) {
        _ = (now, device, fleet);
    }

    /// A device is free and about to ask, maybe after having been gone.
    fn here(&mut self, now: f64, device: usize, fleet: &Fleet) {
        _ = (now, device, fleet);
    }

    /// Which idle device of a kind asks next: its place in the fleet's list, which is not empty.
    fn next_to_ask(&mut self, fleet: &Fleet, kind: usize) -> usize {
        fleet.idle(kind).len() - 1
    }

    /// Whether one idle device may be told to wait when another of its kind would get a job.
    fn tells_devices_apart(&self) -> bool {
        false
    }

    /// Whether a device that turns to another group installs even what it has.
    fn reinstalls(&self) -> bool {
        false
    }

    /// Whether devices that break jobs are taken out, and versions that break everywhere are given up.
    fn blames(&self) -> bool {
        false
    }
}

/// A policy that can be put to work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Choice {
    /// qgjob's placement.
    Qgjob(Parameters),
    /// A rule of others.
    Peer(Rule),
}

impl Choice {
    /// Every policy, qgjob's with its defaults.
    pub fn all() -> Vec<Self> {
        let own = Self::Qgjob(Parameters::default());
        std::iter::once(own).chain(RULES.into_iter().map(Self::Peer)).collect()
    }

    /// The policy of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|choice| choice.name() == name)
    }

    /// What people call it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Qgjob(_) => "qgjob",
            Self::Peer(rule) => rule.name,
        }
    }

    /// Who has it.
    pub fn of(&self) -> &'static str {
        match self {
            Self::Qgjob(_) => "qgjob; the server is to follow",
            Self::Peer(rule) => rule.of,
        }
    }

    /// Puts it to work; `seed` is for those that draw lots.
    pub fn at_work<'a>(&self, workload: &'a Workload, seed: u64) -> Box<dyn Policy + 'a> {
        match *self {
            Self::Qgjob(parameters) => Box::new(Qgjob::new(workload, parameters)),
            Self::Peer(rule) => Box::new(Peer::new(workload, rule, seed)),
        }
    }
}
