//! Following the store's events.

use jiff::Timestamp;

use super::health::End;
use super::{Board, Place, Waiting, seconds};
use crate::model::device;
use crate::model::event::Fact;
use crate::model::job;

impl Board {
    /// Follows an event of a job in a known group.
    pub fn follow(&mut self, job: job::Id, at: Timestamp, fact: &Fact) {
        match fact {
            Fact::JobQueued { group_id, priority, not_before, avoid, predicted_ms, promoted_at, .. } => {
                let before = self.jobs.get(&job).map(|before| before.waiting.queued_at);
                let waiting = Waiting {
                    group: *group_id,
                    priority: *priority,
                    queued_at: before.unwrap_or(at),
                    not_before: *not_before,
                    avoid: avoid.clone(),
                    promoted_at: *promoted_at,
                    predicted_ms: *predicted_ms,
                };
                self.put_waiting(job, waiting, at);
            }
            Fact::JobPromoted { .. } => self.promote(job, at),
            Fact::JobStarted { device_id, .. } => {
                self.start(job, *device_id, at);
                self.occupy(*device_id);
            }
            Fact::JobCompleted { .. } => self.complete(job, at),
            Fact::AttemptEnded { device_id, outcome, reason, detail, .. } => {
                let end = End { outcome: *outcome, reason: *reason, detail: detail.as_deref() };
                self.learn(job, *device_id, end, at);
                self.end_attempt(job, *device_id, at);
                self.free(*device_id);
                if self.rests_until(*device_id, at).is_none() {
                    self.expect([*device_id], at);
                }
            }
            _ => {}
        }
    }

    /// A job is over. A device that still runs it is not free before its attempt ends.
    pub fn complete(&mut self, id: job::Id, now: Timestamp) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        match job.place {
            Place::Runs(device) => job.place = Place::Over(device),
            _ => self.forget(id, now),
        }
    }

    fn end_attempt(&mut self, id: job::Id, device: device::Id, now: Timestamp) {
        if self.placement.device_of(id) == Some(device) {
            self.placement.finish(device, seconds(now));
        }
        self.trust_ledger(device, now);
        let Some(job) = self.jobs.get_mut(&id) else { return };
        match job.place {
            Place::Over(_) => self.forget(id, now),
            Place::Runs(on) => {
                job.place = Place::Between;
                let group = job.waiting.group;
                if let Some(group) = self.groups.get_mut(&group) {
                    group.running.remove(&on);
                }
            }
            _ => {}
        }
    }
}
