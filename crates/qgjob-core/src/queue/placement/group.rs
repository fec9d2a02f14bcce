//! A group: its waiting jobs, who serves it, and whether one more device should.

use std::collections::BTreeSet;

use super::parameters::Parameters;
use super::seconds::{Seconds, Tally};
use super::{App, GroupKey};
use crate::model::attempt::Choice;
use crate::model::{device, job};

/// Where a group is kept.
pub(super) type Slot = usize;

/// A job is overtaken within its group only by jobs that came less than this many times their length later.
const LONGEST_FIRST: f64 = 5.0;

/// What the order of groups goes by: the smallest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub(super) key: Seconds,
    pub(super) serial: u64,
    pub(super) slot: Slot,
}

#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) group: Slot,
    pub(super) predicted_s: f64,
    pub(super) enqueued_at: f64,
    pub(super) barred: Box<[device::Id]>,
    pub(super) running: bool,
}

/// The jobs of a group that wait: the longest first, but an old one before a much later one.
#[derive(Debug, Clone, Default)]
pub(super) struct Pending {
    jobs: BTreeSet<(Seconds, job::Id)>,
    lengths: Tally,
    total_s: f64,
    /// How many of them name devices that they should not run on.
    with_bars: usize,
}

impl Pending {
    fn place(job: &Job) -> Seconds {
        Seconds::new(job.enqueued_at - LONGEST_FIRST * job.predicted_s)
    }

    pub(super) fn insert(&mut self, id: job::Id, job: &Job) {
        if self.jobs.insert((Self::place(job), id)) {
            self.lengths.add(job.predicted_s);
            self.total_s += job.predicted_s;
            self.with_bars += usize::from(!job.barred.is_empty());
        }
    }

    pub(super) fn remove(&mut self, id: job::Id, job: &Job) {
        if self.jobs.remove(&(Self::place(job), id)) {
            self.lengths.remove(job.predicted_s);
            self.total_s -= job.predicted_s;
            self.with_bars -= usize::from(!job.barred.is_empty());
            if self.jobs.is_empty() {
                // What rounding left over must not pile up.
                self.total_s = 0.0;
            }
        }
    }

    /// In the order in which they start.
    pub(super) fn iter(&self) -> impl Iterator<Item = job::Id> {
        self.jobs.iter().map(|(_, id)| *id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    pub(super) fn total_s(&self) -> f64 {
        self.total_s
    }

    pub(super) fn nobody_is_barred(&self) -> bool {
        self.with_bars == 0
    }
}

#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) key: GroupKey,
    pub(super) app: App,
    pub(super) promoted: bool,
    /// Seconds by which it ranks before a group of the same age without priority.
    pub(super) head_start_s: f64,
    /// The age that it ranks by.
    pub(super) since: f64,
    /// Seconds that its size costs it.
    pub(super) size_s: f64,
    pub(super) serial: u64,
    pub(super) install_s: f64,
    pub(super) pending: Pending,
    /// Devices that install or run it, up or not.
    pub(super) holds: u32,
    /// Of those, the ones that are up.
    pub(super) serving: u32,
    /// Of the serving devices: when each should be free, as seconds after `born`, summed.
    pub(super) ends_s: f64,
    /// The same, each.
    pub(super) ends: Tally,
    pub(super) born: f64,
    pub(super) last_launch: f64,
    pub(super) paused: bool,
    /// Whether its concurrency group runs as many jobs as it may.
    pub(super) full: bool,
    /// Whether its class counts it as waiting.
    pub(super) queued: bool,
    /// If it wanted one more device when it was last looked at: where it stands among those that do.
    pub(super) open: Option<Rank>,
    /// When it will want one if nothing starts until then.
    pub(super) reopens_at: Option<Seconds>,
}

/// Whether one more device, which would have to install, should join a group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Wants {
    More,
    NotBefore(f64),
}

/// How crowded a class is: groups that wait, devices that are up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Crowd {
    pub(super) queued: u32,
    pub(super) devices_up: u32,
}

impl Group {
    pub(super) fn rank(&self, slot: Slot) -> Rank {
        let key = Seconds::new(self.since - self.head_start_s + self.size_s);
        Rank { key, serial: self.serial, slot }
    }

    /// What the order of groups that want one more device goes by. One that is served comes later by an install: what
    /// another device would spend to join it could serve a group that nobody serves.
    pub(super) fn rank_to_join(&self, slot: Slot) -> Rank {
        let rank = self.rank(slot);
        Rank { key: Seconds::new(rank.key.get() + self.joined_later_by_s()), ..rank }
    }

    pub(super) fn joined_later_by_s(&self) -> f64 {
        if self.serving == 0 { 0.0 } else { self.install_s }
    }

    pub(super) fn serve(&mut self, end: f64) {
        self.serving += 1;
        self.ends_s += end - self.born;
        self.ends.add(end);
    }

    pub(super) fn unserve(&mut self, end: f64) {
        self.serving -= 1;
        self.ends.remove(end);
        self.ends_s = if self.serving == 0 { 0.0 } else { self.ends_s - (end - self.born) };
    }

    /// Predicted device time until it is done: what waits, and what is left of what runs; seconds.
    pub(super) fn work_s(&self, now: f64) -> f64 {
        let running = self.ends_s - f64::from(self.serving) * (now - self.born);
        self.pending.total_s() + running.max(0.0)
    }

    /// The work per serving device that makes one more install worth it; seconds.
    ///
    /// With k devices the rest ends after R/k, with one more after (R+s)/(k+1): better if R/k > s, and worth it if by
    /// a good deal. Below its longest job more devices gain nothing. And while Q groups wait on m devices, an install
    /// delays each of them by s/m: that costs more than it gains once R/k is under the root of R·s·Q/m.
    pub(super) fn worth_joining_s(&self, parameters: &Parameters, crowd: Crowd, now: f64) -> f64 {
        let installs = parameters.spread_installs * self.install_s;
        let still_running = self.ends.largest().map_or(0.0, |end| end - now);
        let longest = self.pending.lengths.largest().unwrap_or(0.0).max(still_running);
        let per_device = f64::from(crowd.queued) / f64::from(crowd.devices_up.max(1));
        let delayed = (self.pending.total_s() * self.install_s * per_device).sqrt();
        installs.max(parameters.spread_longest * longest).max(parameters.crowding * delayed)
    }

    /// What speaks for one more device that installs its version, if one does.
    pub(super) fn why_install(&self, parameters: &Parameters, crowd: Crowd, now: f64) -> Choice {
        let devices = self.serving;
        let work_s = self.work_s(now);
        let worth_s = self.worth_joining_s(parameters, crowd, now) * f64::from(devices);
        match devices {
            0 => Choice::Unserved,
            _ if work_s > worth_s => Choice::WorthAnInstall { devices, work_s, worth_s },
            _ => Choice::NothingStarted { devices },
        }
    }

    /// Whether one more device should install its version.
    pub(super) fn wants(&self, parameters: &Parameters, crowd: Crowd, now: f64) -> Wants {
        let worth = self.worth_joining_s(parameters, crowd, now);
        if self.serving == 0 || self.work_s(now) > worth * f64::from(self.serving) {
            return Wants::More;
        }
        let patience_ends = self.last_launch + parameters.patience_installs * self.install_s;
        if now >= patience_ends { Wants::More } else { Wants::NotBefore(patience_ends) }
    }
}
