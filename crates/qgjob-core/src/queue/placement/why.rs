//! Why a job waits. Reads only; costs O(devices) and a look at the groups and jobs before it.

use super::group::{Group, Slot, Wants};
use super::seconds::moment;
use super::{GroupKey, Placement};
use crate::model::group::Because;
use crate::model::job;

/// How many of the groups before a job are named.
const NAMED: usize = 5;

/// How far the groups before a job are counted.
const COUNTED: usize = 1000;

/// Why a job waits.
#[derive(Debug, Clone, PartialEq)]
pub struct Why {
    /// All that keeps it, the most final first. With [`Reason::Free`] alone nothing does: it starts when a device asks.
    pub reasons: Vec<Reason>,
    /// Groups of its class that get a device before its own, counted up to 1,000. As of the last look at each: one
    /// that has since got enough devices may be among them.
    pub groups_ahead: usize,
    /// The first 5 of them.
    pub ahead: Vec<Ahead>,
    /// Jobs of its own group that start before it.
    pub jobs_ahead: usize,
}

/// One thing that keeps a job.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reason {
    /// Its org is paused.
    OrgPaused,
    /// Its version is paused for its org.
    VersionPaused,
    /// Its org holds as many devices as it may.
    OrgAtCap {
        /// Devices that it holds.
        running: u32,
        /// Devices that it may hold.
        cap: u32,
    },
    /// As many jobs of its concurrency group run as may.
    ConcurrencyFull {
        /// Devices that run jobs of it.
        running: u32,
        /// Devices that may.
        limit: u32,
    },
    /// No device that meets its requirements is up.
    NoDeviceUp {
        /// Devices that meet them and are not up.
        down: u32,
    },
    /// Devices serve its group, and another install would not pay: the job waits for one of those.
    Served {
        /// Devices that serve it.
        devices: u32,
        /// Predicted device time until the group is done; seconds.
        work_s: f64,
        /// With more than this, another device would join; seconds.
        worth_s: f64,
        /// When another may join if the group starts nothing until then.
        joins_at: f64,
    },
    /// Its org holds more than its share of the pool, and so yields to orgs that do not.
    OrgOverShare {
        /// Devices of the pool that it holds.
        running: u32,
        /// Devices of the pool that it may hold without yielding.
        most: f64,
    },
    /// All devices that meet its requirements run something.
    Busy {
        /// How many those are.
        devices: u32,
    },
    /// It failed on each of the devices that are free, or is kept from them; another one is to run it.
    Barred {
        /// How many those are.
        devices: u32,
    },
    /// Devices are free that may run it.
    Free {
        /// How many those are.
        devices: u32,
    },
}

impl Reason {
    /// Whether it keeps the job from every device.
    pub fn is_limit(&self) -> bool {
        matches!(
            self,
            Self::OrgPaused | Self::VersionPaused | Self::OrgAtCap { .. } | Self::ConcurrencyFull { .. }
        )
    }
}

/// A group that gets a device before the job's own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ahead {
    /// The group.
    pub group: GroupKey,
    /// What weighs most for it.
    pub because: Because,
}

impl Placement {
    /// Why a job waits; none if it does not.
    pub fn why(&self, id: job::Id, now: f64) -> Option<Why> {
        let now = moment(now);
        let job = self.jobs.get(&id).filter(|job| !job.running)?;
        let group = self.group(job.group);
        let class = group.key.class;
        let state = &self.classes[class.at()];
        let mut reasons = Vec::new();
        if let Some(org) = self.orgs.get(&group.key.org) {
            if org.paused {
                reasons.push(Reason::OrgPaused);
            }
            if let Some(cap) = org.cap.filter(|cap| org.running >= *cap) {
                reasons.push(Reason::OrgAtCap { running: org.running, cap });
            }
        }
        if group.paused {
            reasons.push(Reason::VersionPaused);
        }
        if let Some(state) = self.concurrency_of(&group.key).filter(|state| state.is_full()) {
            reasons.push(Reason::ConcurrencyFull { running: state.running, limit: state.limit });
        }
        let meets = self.devices.iter().filter(|(_, known)| known.state.classes.contains(&class));
        let (mut down, mut busy, mut barred, mut free) = (0, 0, 0, 0);
        for (device, known) in meets {
            match (known.state.up, &known.hold) {
                (false, _) => down += 1,
                (true, Some(_)) => busy += 1,
                (true, None) if self.is_barred(*device, job, class) => barred += 1,
                (true, None) => free += 1,
            }
        }
        if busy + barred + free == 0 {
            reasons.push(Reason::NoDeviceUp { down });
        }
        if let Wants::NotBefore(joins_at) = group.wants(&self.parameters, state.crowd(), now) {
            let worth_s = group.worth_joining_s(&self.parameters, state.crowd(), now);
            reasons.push(Reason::Served {
                devices: group.serving,
                work_s: group.work_s(now),
                worth_s: worth_s * f64::from(group.serving),
                joins_at,
            });
        }
        if busy + barred + free > 0
            && self.is_over(group.key.org, state.pool)
            && let Some(org) = self.orgs.get(&group.key.org)
        {
            let running = org.share(state.pool).map_or(0, |share| share.running);
            let most = self.pools[state.pool.at()].most(org.weight, self.parameters.share_factor);
            reasons.push(Reason::OrgOverShare { running, most });
        }
        if free > 0 {
            reasons.push(Reason::Free { devices: free });
        } else if barred > 0 {
            reasons.push(Reason::Barred { devices: barred });
        } else if busy > 0 {
            reasons.push(Reason::Busy { devices: busy });
        }
        let mut ahead = self.ahead_of(group, job.group);
        let groups_ahead = ahead.len();
        ahead.truncate(NAMED);
        let jobs_ahead = group.pending.iter().take_while(|other| *other != id).count();
        Some(Why { reasons, groups_ahead, ahead, jobs_ahead })
    }

    fn ahead_of(&self, group: &Group, slot: Slot) -> Vec<Ahead> {
        let state = &self.classes[group.key.class.at()];
        let own = group.rank_to_join(slot);
        let yields = self.is_over(group.key.org, state.pool);
        let within = state.open.ranked(false).take_while(|(rank, _)| yields || *rank < own).take(COUNTED);
        let over = state.open.ranked(true).take_while(|(rank, _)| *rank < own).take(COUNTED);
        // In which set an org is may be out of date.
        let open = within.chain(over).map(|(rank, org)| (self.is_over(org, state.pool), rank));
        let mut before: Vec<_> = open.filter(|other| *other < (yields, own)).collect();
        before.sort_unstable();
        before.truncate(COUNTED);
        let ahead = before.into_iter().map(|(over, rank)| {
            let other = self.group(rank.slot);
            let because = if yields && !over { Because::Share } else { other.because_over(group) };
            Ahead { group: other.key, because }
        });
        ahead.collect()
    }
}

impl Group {
    /// What weighs most for this group against one that ranks behind it.
    fn because_over(&self, other: &Self) -> Because {
        let urgency = if self.promoted { Because::Promoted } else { Because::Priority };
        let advantages = [
            (self.head_start_s - other.head_start_s, urgency),
            (other.since - self.since, Because::Age),
            (other.size_s - self.size_s, Because::Size),
            (other.joined_later_by_s() - self.joined_later_by_s(), Because::Unserved),
        ];
        let mut most = advantages[0];
        for advantage in advantages {
            if advantage.0 > most.0 {
                most = advantage;
            }
        }
        most.1
    }
}
