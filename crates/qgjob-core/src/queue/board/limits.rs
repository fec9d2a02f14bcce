//! Limits on the board: what rests, what an org may hold, what comes first.

use jiff::Timestamp;

use super::{Board, Group, Place, seconds};
use crate::model::event::Fact;
use crate::model::limits::{Limited, OrgLimits};
use crate::model::name::{AppVersionId, ConcurrencyGroup, OrgId};
use crate::model::{group, job};

impl Board {
    /// Sets all limits of an org.
    pub fn put_limits(&mut self, org: &OrgId, limits: &Limited, now: Timestamp) {
        self.set_org(org, limits.org);
        for app_version in &limits.paused {
            self.set_paused(org, app_version, true, now);
        }
        for (name, limit) in &limits.concurrency {
            self.set_concurrency_limit(org, name, *limit, now);
        }
    }

    /// Follows an event that tells of a limit of an org.
    pub fn follow_limit(&mut self, org: &OrgId, at: Timestamp, fact: &Fact) {
        match fact {
            Fact::OrgChanged { limits } => self.set_org(org, *limits),
            Fact::QueueChanged { app_version_id, paused } => {
                self.set_paused(org, app_version_id, *paused, at)
            }
            Fact::ConcurrencyChanged { concurrency_group, limit } => {
                self.set_concurrency_limit(org, concurrency_group, *limit, at);
            }
            _ => {}
        }
    }

    fn set_org(&mut self, org: &OrgId, limits: OrgLimits) {
        let org = self.numbers.org(org);
        self.placement.set_weight(org, limits.weight);
        self.placement.set_cap(org, limits.max_running);
        self.placement.set_org_paused(org, limits.paused);
    }

    fn set_concurrency_limit(&mut self, org: &OrgId, name: &ConcurrencyGroup, limit: u32, now: Timestamp) {
        let (number, name) = (self.numbers.org(org), self.numbers.concurrency(org, name));
        self.placement.set_concurrency_limit(number, name, limit, seconds(now));
    }

    /// Moves a waiting job before those that were not promoted.
    pub(super) fn promote(&mut self, id: job::Id, at: Timestamp) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.waiting.promoted_at = job.waiting.promoted_at.or(Some(at));
        if job.place == Place::Ready {
            self.placement.promote(id, seconds(at));
        }
    }

    /// Lets the waiting jobs of an org for an app version rest, or lets them go on. What runs is not touched.
    pub fn set_paused(&mut self, org: &OrgId, app_version: &AppVersionId, paused: bool, now: Timestamp) {
        let version = (org.clone(), app_version.clone());
        let changed = if paused { self.paused.insert(version) } else { self.paused.remove(&version) };
        if !changed {
            return;
        }
        let of_version =
            |group: &&Group| group.key.org_id == *org && group.key.app_version_id == *app_version;
        let waiting = self.groups.values().filter(of_version).flat_map(|group| group.waiting.iter().copied());
        for job in waiting.collect::<Vec<_>>() {
            if paused {
                self.set_aside(job, now);
            } else {
                self.make_ready(job, now);
            }
        }
    }

    /// Whether an org's jobs for an app version rest.
    pub fn is_paused(&self, key: &group::Key) -> bool {
        !self.paused.is_empty() && self.paused.contains(&(key.org_id.clone(), key.app_version_id.clone()))
    }
}
