//! The decision: what a device that is free should do.

use std::sync::Arc;

use super::group::{Job, Slot, Wants};
use super::seconds::{Seconds, moment};
use super::{Class, GroupKey, Placement};
use crate::model::{device, job};

/// How many jobs of a group, or groups of a class, are looked at in one decision to find one that the device may
/// take. A device that would need more has failed at all of those; others serve them.
const LOOKS: usize = 64;

/// How many groups whose patience ended are reopened in one decision, for each class.
const REOPENED_AT_ONCE: usize = 16;

/// What a free device should do.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Run a job.
    Run(Run),
    /// Wait until something changes.
    Wait {
        /// Ask again then even if nothing changed; never, if none.
        until: Option<f64>,
    },
}

/// A job for a device: one at a time, so that each has its own lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The job.
    pub job: job::Id,
    /// Its group.
    pub group: GroupKey,
    /// Whether the version must be installed first.
    pub install: bool,
}

/// A group that a device could take jobs of.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    over: bool,
    /// As this device sees it: with the head start of scarce work.
    key: Seconds,
    serial: u64,
    slot: Slot,
}

impl Candidate {
    fn order(&self) -> (bool, Seconds, u64) {
        (self.over, self.key, self.serial)
    }
}

impl Placement {
    /// What a free device should do. Takes nothing: [`Placement::start`] does. A device that is not known, not up or
    /// not free waits.
    pub fn decide(&mut self, device: device::Id, now: f64) -> Decision {
        let now = moment(now);
        let free = self.devices.get(&device).filter(|known| known.state.up && known.hold.is_none());
        let Some(known) = free else { return Decision::Wait { until: None } };
        let classes = Arc::clone(&known.state.classes);
        let until = self.reopen_due(&classes, now);
        let warm = self.best_warm(device);
        let cold = self.best_cold(device, now);
        let pick = match (warm, cold) {
            (None, None) => return Decision::Wait { until },
            (Some(only), None) | (None, Some(only)) => only,
            (Some(warm), Some(cold)) if self.leaves(warm, cold, now) => cold,
            (Some(warm), Some(_)) => warm,
        };
        let first = self.may_take(device, pick.slot).next();
        let (job, _) = first.expect("a group is picked for a job that the device may take");
        let install = warm.is_none_or(|warm| warm.slot != pick.slot);
        Decision::Run(Run { job, group: self.group(pick.slot).key, install })
    }

    /// Decides and starts at once.
    pub fn claim(&mut self, device: device::Id, now: f64) -> Decision {
        let decision = self.decide(device, now);
        if let Decision::Run(run) = &decision {
            self.start(device, run.job, now).expect("a decision names a free device and a waiting job");
        }
        decision
    }

    /// Decides for all devices that ask, and starts. First those that go on with a version they have, so that none
    /// of their jobs goes to a device that must install; then the others, the less worn first. `asking` names each
    /// device once; the answer is in the order of the decisions. What comes to nothing is taken back with
    /// [`Placement::undo`].
    pub fn claim_all(&mut self, asking: &[device::Id], now: f64) -> Vec<(device::Id, Decision)> {
        let mut decisions = Vec::with_capacity(asking.len());
        let mut cold = Vec::new();
        for device in asking.iter().copied() {
            match self.decide(device, now) {
                Decision::Run(run) if !run.install => {
                    self.start(device, run.job, now).expect("a decision names a free device");
                    decisions.push((device, Decision::Run(run)));
                }
                Decision::Run(_) => cold.push(device),
                // What others start leaves no more for it.
                wait => decisions.push((device, wait)),
            }
        }
        cold.sort_by_key(|device| self.devices.get(device).map(|known| known.state.installs));
        for device in cold {
            let decision = self.claim(device, now);
            decisions.push((device, decision));
        }
        decisions
    }

    /// Of devices that asked and found nothing: those that should be asked about again, because something changed
    /// since the last call that may concern them. The others would find nothing, unless the time came that they were
    /// told to wait until.
    pub fn worth_asking(&mut self, waiting: impl IntoIterator<Item = device::Id>) -> Vec<device::Id> {
        let stirred = std::mem::take(&mut self.stirred);
        if stirred.is_empty() {
            return Vec::new();
        }
        let may_find = |id: &device::Id| {
            let known = self.devices.get(id);
            known.is_some_and(|known| known.state.classes.iter().any(|class| stirred.contains(class)))
        };
        waiting.into_iter().filter(may_find).collect()
    }

    /// Whether a device that is up and free has the version of a job and may run it.
    pub fn could_go_on_with(&self, device: device::Id, job: job::Id) -> bool {
        let (Some(known), Some(job)) = (self.devices.get(&device), self.jobs.get(&job)) else { return false };
        let key = self.group(job.group).key;
        let meets = known.state.has(key.version) && known.state.classes.contains(&key.class);
        known.state.up && known.hold.is_none() && meets && !self.is_barred(device, job, key.class)
    }

    /// Whether a device leaves a version that it has, for a group whose version it must install.
    fn leaves(&self, warm: Candidate, cold: Candidate, now: f64) -> bool {
        let break_after_s = self.parameters.break_after_s;
        match (warm.over, cold.over) {
            (true, false) => {
                // What is nearly done is finished first.
                let group = self.group(warm.slot);
                group.work_s(now) / f64::from(group.serving.max(1)) > break_after_s
            }
            (false, true) => false,
            _ => cold.key.get() + break_after_s < warm.key.get(),
        }
    }

    /// Reopens groups whose patience ended; answers when the next one's will.
    fn reopen_due(&mut self, classes: &[Class], now: f64) -> Option<f64> {
        let mut next: Option<f64> = None;
        for class in classes {
            for looked in 0.. {
                let Some((time, _, slot)) = self.classes[class.at()].closed.first().copied() else { break };
                if time.get() > now || looked == REOPENED_AT_ONCE {
                    next = Some(next.map_or(time.get(), |next| next.min(time.get())));
                    break;
                }
                self.settle(slot, now);
            }
        }
        next
    }

    /// The first group in rank whose version the device has.
    fn best_warm(&self, device: device::Id) -> Option<Candidate> {
        let state = &self.devices.get(&device)?.state;
        let most = self.most_devices(&state.classes);
        let slots = state.installed.iter().filter_map(|installed| self.by_version.get(&installed.version));
        let candidates = slots.flatten().filter_map(|slot| {
            let group = self.group(*slot);
            let key = &group.key;
            if !group.queued || !state.classes.contains(&key.class) || self.is_held(key.org) {
                return None;
            }
            self.may_take(device, *slot).next()?;
            let rank = group.rank(*slot);
            Some(Candidate {
                over: self.is_over(key.org, self.classes[key.class.at()].pool),
                key: self.seen_from(rank.key, key.class, most),
                serial: rank.serial,
                slot: *slot,
            })
        });
        candidates.min_by_key(Candidate::order)
    }

    /// The first group in rank that wants a device and whose version this one would have to install. What turns out
    /// to be out of date on the way is put right.
    fn best_cold(&mut self, device: device::Id, now: f64) -> Option<Candidate> {
        loop {
            let found = self.first_open(device, false).or_else(|| self.first_open(device, true))?;
            let key = self.group(found.slot).key;
            if self.is_over(key.org, self.classes[key.class.at()].pool) != found.over {
                self.rebalance(key.org);
            } else if self.wants(found.slot, now) != Wants::More {
                self.settle(found.slot, now);
            } else {
                return Some(found);
            }
        }
    }

    fn first_open(&self, device: device::Id, over: bool) -> Option<Candidate> {
        let state = &self.devices.get(&device)?.state;
        let most = self.most_devices(&state.classes);
        let mut best: Option<Candidate> = None;
        for class in state.classes.iter() {
            for (rank, _) in self.classes[class.at()].open.ranked(over).take(LOOKS) {
                let key = self.seen_from(rank.key, *class, most);
                let candidate = Candidate { over, key, serial: rank.serial, slot: rank.slot };
                if best.is_some_and(|best| best.order() < candidate.order()) {
                    break;
                }
                let version = self.group(rank.slot).key.version;
                if !state.has(version) && self.may_take(device, rank.slot).next().is_some() {
                    best = Some(candidate);
                    break;
                }
            }
        }
        best
    }

    fn most_devices(&self, classes: &[Class]) -> u32 {
        classes.iter().map(|class| self.classes[class.at()].devices_up).max().unwrap_or(0)
    }

    /// A key as a device sees it: work that only few of its peers can do has a head start.
    fn seen_from(&self, key: Seconds, class: Class, most: u32) -> Seconds {
        let few = f64::from(self.classes[class.at()].devices_up) / f64::from(most.max(1));
        Seconds::new(key.get() - self.parameters.scarcity_s * (1.0 - few))
    }

    /// Jobs of a group that a device may take, in order.
    fn may_take(&self, device: device::Id, slot: Slot) -> impl Iterator<Item = (job::Id, &Job)> {
        let group = self.group(slot);
        let anybody = group.pending.nobody_is_barred();
        group.pending.iter().take(LOOKS).filter_map(move |id| {
            let job = &self.jobs[&id];
            (anybody || !self.is_barred(device, job, group.key.class)).then_some((id, job))
        })
    }

    /// Whether a job must not run on a device: it names the device, and another one that is up could run it.
    pub(super) fn is_barred(&self, device: device::Id, job: &Job, class: Class) -> bool {
        if !job.barred.contains(&device) {
            return false;
        }
        let is_up = |device: &&device::Id| {
            let known = self.devices.get(device);
            known.is_some_and(|known| known.state.up && known.state.classes.contains(&class))
        };
        let barred_up = job.barred.iter().filter(is_up).count();
        self.classes[class.at()].devices_up as usize > barred_up
    }
}
