//! What the devices that ask should claim.

use std::collections::HashSet;

use jiff::{SignedDuration, Timestamp};

use super::super::placement::{Decision, Run};
use super::{Board, seconds, timestamp};
use crate::model::attempt::Choice;
use crate::model::{device, job};

/// For how long a free device that is about to ask has its builds to itself. An agent asks again within
/// milliseconds of its last answer; without this, a device that waits would install what that one has.
const ABOUT_TO_ASK: SignedDuration = SignedDuration::from_secs(2);

/// A claim that the store should be asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Proposal {
    /// The device.
    pub device: device::Id,
    /// The job.
    pub job: job::Id,
    /// Why this device.
    pub choice: Choice,
}

impl Board {
    /// What the asking devices should claim. They count as running it until the store's events say so, or until
    /// [`Board::undo`]. Devices that are not known or rest are left out, and so are those for which nothing changed since
    /// they last found nothing. One on probe gets a job of a build that does well elsewhere, or any if there is none.
    pub fn propose(&mut self, asking: &[device::Id], now: Timestamp) -> Vec<Proposal> {
        self.ready_what_is_due(now);
        let at = seconds(now);
        for device in self.placement.worth_asking(self.told_to_wait.keys().copied()) {
            self.told_to_wait.remove(&device);
        }
        self.told_to_wait.retain(|_, until| until.is_none_or(|until| until > at));
        asking.iter().for_each(|device| _ = self.expected.remove(device));
        self.expected.retain(|_, until| *until > now);
        self.held_back.clear();
        let mut asked = HashSet::new();
        let may_find = |id: &&device::Id| {
            !self.told_to_wait.contains_key(*id) && self.devices.contains_key(*id) && asked.insert(**id)
        };
        let asking: Vec<device::Id> = asking.iter().filter(may_find).copied().collect();
        self.first_rested = None;
        let (mut proposals, mut trusted) = (Vec::new(), Vec::new());
        for device in asking {
            if let Some(until) = self.rests_until(device, now) {
                self.first_rested = Some(self.first_rested.map_or(until, |first| first.min(until)));
                continue;
            }
            let probe = match self.is_on_probe(device, now) {
                true => {
                    self.let_prove_itself(device, now);
                    self.probe(device, now)
                }
                false => None,
            };
            match probe {
                Some(proposal) => proposals.push(proposal),
                None => trusted.push(device),
            }
        }
        for (device, decision) in self.placement.claim_all(&trusted, at) {
            match decision {
                Decision::Run(run) if run.install && self.another_is_about_to_take(&run) => {
                    self.undo(device, now);
                    self.held_back.insert(device);
                }
                Decision::Run(run) => {
                    let choice = self.placement.choice(device);
                    proposals.extend(choice.map(|choice| Proposal { device, job: run.job, choice }));
                }
                Decision::Wait { until } => _ = self.told_to_wait.insert(device, until),
            }
        }
        proposals
    }

    /// Takes a proposal back: the store refused it.
    pub fn undo(&mut self, device: device::Id, now: Timestamp) {
        self.placement.undo(device, seconds(now));
    }

    /// Notes devices that are free and about to ask: an attempt of theirs ended, or they found nothing for so long that
    /// they were told to ask again.
    pub fn expect(&mut self, devices: impl IntoIterator<Item = device::Id>, now: Timestamp) {
        let until = now.checked_add(ABOUT_TO_ASK).unwrap_or(Timestamp::MAX);
        self.expected.extend(devices.into_iter().map(|device| (device, until)));
    }

    /// When time alone may change what the devices that ask will find.
    pub fn next_due(&self) -> Option<Timestamp> {
        let backoff = self.later.first().map(|(due, _)| *due);
        let patience = self.told_to_wait.values().flatten().copied().min_by(f64::total_cmp);
        let expected = self.expected.values().filter(|_| !self.held_back.is_empty()).min().copied();
        backoff.into_iter().chain(patience.and_then(timestamp)).chain(expected).chain(self.first_rested).min()
    }

    fn another_is_about_to_take(&self, run: &Run) -> bool {
        self.expected.keys().any(|device| self.placement.could_go_on_with(*device, run.job))
    }

    fn ready_what_is_due(&mut self, now: Timestamp) {
        while let Some((due, job)) = self.later.first().copied().filter(|(due, _)| *due <= now) {
            self.later.remove(&(due, job));
            self.make_ready(job, now);
        }
    }
}
