//! The first placement, until the board asks [`super::placement`]: which device takes a job of which group. A pure
//! function from what the board knows to decisions.
//!
//! The policy: a device that has the build first, then the most urgent group, then the one that no device serves
//! yet, then the oldest. A device that lacks the build joins a served group only when more jobs wait there than
//! [`SPREAD_AT`] per device that serves it, when the group is urgent, or when its devices have started nothing for
//! [`PATIENCE`], so that no job waits beside an idle device for longer. Groups are asked per device, so a group whose
//! kind of device is busy never holds up another kind.

use std::cmp::Reverse;
use std::time::Duration;

use jiff::Timestamp;

use crate::model::{device, group};

/// How many jobs must wait per serving device before another device installs the build.
pub const SPREAD_AT: u32 = 4;
/// How long the devices that serve a group may start nothing before another device installs the build.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// From this priority on another device installs the build rather than letting a job wait.
pub const URGENT: u8 = 8;

/// A group that has jobs to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The group.
    pub group: group::Id,
    /// Its most urgent waiting job: 1 to 10.
    pub priority: u8,
    /// Since when its oldest waiting job waits.
    pub oldest: Timestamp,
    /// Jobs that may start now.
    pub ready: u32,
    /// Online devices that have the build and are idle, or are running it.
    pub serving: u32,
    /// Until when its jobs may wait for the devices that serve it.
    pub patient_until: Timestamp,
    /// For each asking device, in the same order: whether it may take a job of the group, and how.
    pub offers: Vec<Offer>,
}

/// What an asking device could do for a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// It does not fit, or every job avoids it and another device can serve.
    No,
    /// It fits and has the build.
    Warm,
    /// It fits and would have to install the build.
    Cold,
}

/// This device takes a job of this group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// The device.
    pub device: device::Id,
    /// The group.
    pub group: group::Id,
}

/// Decides at `now` for every asking device; a device without a decision waits. Devices with an offer to stay warm are asked
/// before others, so that a cold device never takes what a warm one is about to.
pub fn place(asking: &[device::Id], mut groups: Vec<Candidate>, now: Timestamp) -> Vec<Decision> {
    let mut decisions = Vec::new();
    let mut free: Vec<usize> = (0..asking.len()).collect();
    for wanted in [Offer::Warm, Offer::Cold] {
        free.retain(|&at| {
            let open = groups.iter_mut().filter(|group| group.ready > 0 && group.offers[at] == wanted);
            let worth_it = open.filter(|group| {
                wanted == Offer::Warm
                    || group.serving == 0
                    || group.ready > SPREAD_AT * group.serving
                    || group.priority >= URGENT
                    || group.patient_until <= now
            });
            let rank = |group: &&mut Candidate| {
                (Reverse(group.priority), group.serving.min(1), group.oldest, group.group)
            };
            let Some(best) = worth_it.min_by_key(rank) else { return true };
            best.ready -= 1;
            best.serving += u32::from(wanted == Offer::Cold);
            best.patient_until = now + PATIENCE;
            decisions.push(Decision { device: asking[at], group: best.group });
            false
        });
    }
    decisions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(n: usize) -> Vec<device::Id> {
        (0..n).map(|at| device::Id(at as u128)).collect()
    }

    fn group(id: group::Id, priority: u8, age: i64, ready: u32, serving: u32, offers: &[Offer]) -> Candidate {
        let oldest = Timestamp::from_second(1_000_000 - age).unwrap();
        let patient_until = oldest + PATIENCE;
        Candidate { group: id, priority, oldest, ready, serving, patient_until, offers: offers.to_vec() }
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_000_000).unwrap()
    }

    fn placed(devices: usize, groups: Vec<Candidate>) -> Vec<(u128, group::Id)> {
        place(&asking(devices), groups, now()).iter().map(|d| (d.device.0, d.group)).collect()
    }

    #[test]
    fn a_warm_device_stays_warm_even_when_another_group_is_more_urgent() {
        let groups = vec![group(1, 3, 0, 5, 1, &[Offer::Warm]), group(2, 10, 50, 5, 0, &[Offer::Cold])];
        assert_eq!(placed(1, groups), [(0, 1)]);
    }

    #[test]
    fn a_cold_device_takes_the_most_urgent_then_the_oldest() {
        let groups = |urgent| {
            vec![
                group(1, 5, 10, 1, 0, &[Offer::Cold]),
                group(2, 5, 20, 1, 0, &[Offer::Cold]),
                group(3, urgent, 0, 1, 0, &[Offer::Cold]),
            ]
        };
        assert_eq!(placed(1, groups(8)), [(0, 3)]);
        assert_eq!(placed(1, groups(5)), [(0, 2)]);
    }

    #[test]
    fn two_versions_on_two_phones_get_one_phone_each() {
        let both = [Offer::Cold, Offer::Cold];
        let groups = vec![group(1, 5, 10, 10, 0, &both), group(2, 5, 0, 10, 0, &both)];
        assert_eq!(placed(2, groups), [(0, 1), (1, 2)]);
    }

    #[test]
    fn a_served_group_gets_another_device_only_when_its_backlog_is_worth_an_install() {
        let short = vec![group(1, 5, 0, SPREAD_AT, 1, &[Offer::Cold])];
        assert_eq!(placed(1, short), []);
        let long = vec![group(1, 5, 0, SPREAD_AT + 1, 1, &[Offer::Cold])];
        assert_eq!(placed(1, long), [(0, 1)]);
    }

    #[test]
    fn an_urgent_group_does_not_wait_beside_an_idle_device() {
        for (priority, joins) in [(URGENT - 1, vec![]), (URGENT, vec![(0, 1)])] {
            assert_eq!(placed(1, vec![group(1, priority, 0, 1, 1, &[Offer::Cold])]), joins);
        }
    }

    #[test]
    fn a_group_whose_devices_start_nothing_gets_one_more_and_is_patient_again() {
        let both = [Offer::Cold, Offer::Cold];
        let patience = PATIENCE.as_secs() as i64;
        assert_eq!(placed(2, vec![group(1, 5, patience - 1, 2, 1, &both)]), []);
        assert_eq!(placed(2, vec![group(1, 5, patience, 2, 1, &both)]), [(0, 1)]);
    }

    #[test]
    fn a_group_without_a_fitting_device_holds_up_nobody() {
        let groups = vec![group(1, 10, 99, 5, 0, &[Offer::No]), group(2, 1, 0, 1, 0, &[Offer::Cold])];
        assert_eq!(placed(1, groups), [(0, 2)]);
    }

    #[test]
    fn no_more_devices_are_placed_than_jobs_are_ready() {
        let groups = vec![group(1, 5, 0, 1, 2, &[Offer::Warm, Offer::Warm])];
        assert_eq!(placed(2, groups).len(), 1);
    }
}
