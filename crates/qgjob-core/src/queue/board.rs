//! The board: what waits and what could run it, in memory. Soft state: rebuilt from the store at start, kept current
//! by the store's events; the store's claim is what counts.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;

use super::first_placement::{self as placement, Candidate, Decision, Offer};
use crate::model::build::Build;
use crate::model::device::{self, Device};
use crate::model::event::Fact;
use crate::model::job::Status;
use crate::model::{group, job};

/// A job that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// 1 to 10.
    pub priority: u8,
    /// Since when it waits.
    pub queued_at: Timestamp,
    /// Not before.
    pub not_before: Option<Timestamp>,
    /// Devices to avoid.
    pub avoid: Vec<device::Id>,
}

/// A group on the board.
#[derive(Debug, Clone)]
pub struct Group {
    /// What its jobs have in common.
    pub key: group::Key,
    /// The build, once the label is bound.
    pub build: Option<Build>,
    /// Its waiting jobs.
    pub waiting: BTreeMap<job::Id, Waiting>,
    /// Devices that run a job of it.
    pub running: BTreeSet<device::Id>,
    /// When a job of it was started last, as far as this board has seen.
    started_at: Option<Timestamp>,
}

/// What waits and what could run it.
#[derive(Debug, Default)]
pub struct Board {
    groups: HashMap<group::Id, Group>,
    devices: HashMap<device::Id, Device>,
}

/// A claim that the store should be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proposal {
    /// The device.
    pub device: device::Id,
    /// The group.
    pub group: group::Id,
    /// Whether jobs that avoid the device may be taken: no other device can serve them.
    pub take_avoided: bool,
}

impl Board {
    /// Makes a group known, or its build.
    pub fn put_group(&mut self, id: group::Id, key: group::Key, build: Option<Build>) {
        let empty =
            Group { key, build: None, waiting: BTreeMap::new(), running: BTreeSet::new(), started_at: None };
        self.groups.entry(id).or_insert(empty).build = build;
    }

    /// Notes that a device runs a job of a known group.
    pub fn put_running(&mut self, group: group::Id, device: device::Id) {
        if let Some(group) = self.groups.get_mut(&group) {
            group.running.insert(device);
        }
    }

    /// Whether the group is known.
    pub fn knows(&self, id: group::Id) -> bool {
        self.groups.contains_key(&id)
    }

    /// Groups whose label is not bound to a build yet.
    pub fn without_build(&self) -> Vec<group::Id> {
        self.groups.iter().filter(|(_, group)| group.build.is_none()).map(|(id, _)| *id).collect()
    }

    /// Replaces what is known of the devices.
    pub fn put_devices(&mut self, devices: impl IntoIterator<Item = Device>) {
        self.devices = devices.into_iter().map(|device| (device.id, device)).collect();
    }

    /// Adds a waiting job to a known group.
    pub fn put_waiting(&mut self, group: group::Id, job: job::Id, waiting: Waiting) {
        if let Some(group) = self.groups.get_mut(&group) {
            group.waiting.insert(job, waiting);
        }
    }

    /// Removes a job that was claimed or is over, and forgets its group when that was the last.
    pub fn remove(&mut self, group: group::Id, job: job::Id) {
        if let Some(known) = self.groups.get_mut(&group) {
            known.waiting.remove(&job);
        }
        self.forget_if_empty(group);
    }

    /// Follows an event of a job in a known group.
    pub fn follow(&mut self, job: job::Id, at: Timestamp, fact: &Fact) {
        match fact {
            Fact::JobQueued { group_id, priority, not_before, avoid, .. } => {
                let waiting = Waiting {
                    priority: *priority,
                    queued_at: at,
                    not_before: *not_before,
                    avoid: avoid.clone(),
                };
                self.put_waiting(*group_id, job, waiting);
            }
            Fact::JobStarted { group_id, device_id, .. } => {
                if let Some(group) = self.groups.get_mut(group_id) {
                    group.running.insert(*device_id);
                    group.started_at = group.started_at.max(Some(at));
                }
                self.turn(*device_id, device::State::Idle, device::State::Busy);
                self.remove(*group_id, job);
            }
            Fact::JobCompleted { group_id, from: Status::Queued | Status::Scheduled, .. } => {
                self.remove(*group_id, job);
            }
            Fact::AttemptEnded { device_id, .. } => {
                self.free(*device_id);
                self.turn(*device_id, device::State::Busy, device::State::Idle);
            }
            _ => {}
        }
    }

    fn free(&mut self, device: device::Id) {
        for group in self.groups.values_mut() {
            group.running.remove(&device);
        }
        self.groups.retain(|_, group| !group.waiting.is_empty() || !group.running.is_empty());
    }

    /// A device that is offline or drained stays so, whatever it runs.
    fn turn(&mut self, device: device::Id, from: device::State, to: device::State) {
        if let Some(device) = self.devices.get_mut(&device)
            && device.state == from
        {
            device.state = to;
        }
    }

    fn forget_if_empty(&mut self, id: group::Id) {
        if self.groups.get(&id).is_some_and(|group| group.waiting.is_empty() && group.running.is_empty()) {
            self.groups.remove(&id);
        }
    }

    /// When the next backoff ends, or the next group has waited long enough for the devices that serve it.
    pub fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        let waiting = self.groups.values().flat_map(|group| group.waiting.values());
        let backoffs = waiting.filter_map(|waiting| waiting.not_before);
        let patience = self.groups.values().filter_map(|group| group.patient_until(now));
        backoffs.chain(patience).filter(|due| *due > now).min()
    }

    /// What the asking devices should claim. Devices that are not known are left out, and so are those that an
    /// operator took out: the store would refuse them, and the job would be kept from a device that may take it.
    pub fn propose(&self, asking: &[device::Id], now: Timestamp) -> Vec<Proposal> {
        let known = asking.iter().filter_map(|id| self.devices.get(id));
        let asking: Vec<&Device> = known.filter(|device| is_up(device)).collect();
        let ids: Vec<device::Id> = asking.iter().map(|device| device.id).collect();
        let candidates =
            self.groups.iter().filter_map(|(id, group)| self.candidate(*id, group, &asking, now));
        let decisions = placement::place(&ids, candidates.collect(), now);
        let take_avoided = |decision: &Decision| {
            self.groups.get(&decision.group).is_some_and(|group| {
                let willing = |waiting: &&Waiting| !waiting.avoid.contains(&decision.device);
                !group.ready(now).any(|waiting| willing(&waiting))
            })
        };
        let proposal = |decision: Decision| Proposal {
            device: decision.device,
            group: decision.group,
            take_avoided: take_avoided(&decision),
        };
        decisions.into_iter().map(proposal).collect()
    }

    fn candidate(
        &self,
        id: group::Id,
        group: &Group,
        asking: &[&Device],
        now: Timestamp,
    ) -> Option<Candidate> {
        let build = group.build.as_ref()?;
        let ready = group.ready(now).count() as u32;
        let priority = group.ready(now).map(|waiting| waiting.priority).max()?;
        let oldest = group.ready(now).map(|waiting| waiting.queued_at).min()?;
        let fitting: Vec<&Device> = self.fitting(group).filter(|device| is_up(device)).collect();
        // A warm device that every job avoids is no reason for another one to wait.
        let serving = fitting.iter().filter(|device| match device.state {
            device::State::Idle => has(device, build) && group.has_job_for(device.id, &fitting, now),
            _ => group.running.contains(&device.id),
        });
        let offer = |device: &&Device| {
            if !group.key.accepts(device, Some(build.platform))
                || !group.has_job_for(device.id, &fitting, now)
            {
                Offer::No
            } else if has(device, build) {
                Offer::Warm
            } else {
                Offer::Cold
            }
        };
        let serving = serving.count() as u32;
        Some(Candidate {
            group: id,
            priority,
            oldest,
            ready,
            serving,
            patient_until: group.patient_until(now)?,
            offers: asking.iter().map(offer).collect(),
        })
    }

    /// Devices that fit the group, online or not.
    pub fn fitting<'a>(&'a self, group: &'a Group) -> impl Iterator<Item = &'a Device> {
        let platform = group.build.as_ref().map(|build| build.platform);
        self.devices.values().filter(move |device| group.key.accepts(device, platform))
    }

    /// A group.
    pub fn group(&self, id: group::Id) -> Option<&Group> {
        self.groups.get(&id)
    }

    /// All groups.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.values()
    }
}

impl Group {
    fn ready(&self, now: Timestamp) -> impl Iterator<Item = &Waiting> {
        self.waiting.values().filter(move |waiting| waiting.not_before.is_none_or(|due| due <= now))
    }

    /// Until when its jobs may wait for the devices that serve it; none when no job may start at `now`.
    pub fn patient_until(&self, now: Timestamp) -> Option<Timestamp> {
        let since = |waiting: &Waiting| waiting.not_before.max(Some(waiting.queued_at));
        let oldest = self.ready(now).map(since).min()?;
        Some(self.started_at.max(oldest)? + placement::PATIENCE)
    }

    /// Whether a job may start on the device: one that does not avoid it, or one that avoids all that fit.
    fn has_job_for(&self, device: device::Id, fitting: &[&Device], now: Timestamp) -> bool {
        self.ready(now).any(|waiting| {
            !waiting.avoid.contains(&device) || fitting.iter().all(|other| waiting.avoid.contains(&other.id))
        })
    }
}

/// Whether the device can run jobs now or soon.
pub fn is_up(device: &Device) -> bool {
    matches!(device.state, device::State::Idle | device::State::Busy)
}

/// Whether the device is known to have the very bytes.
pub fn has(device: &Device, build: &Build) -> bool {
    device.ledger.iter().any(|installed| installed.sha256 == build.sha256)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::agent;
    use crate::model::device::{Installed, Proof, State};
    use crate::model::selector::{Platform, Selector, Target};
    use crate::model::sha256::Sha256;

    fn now() -> Timestamp {
        "2026-11-22T10:00:00Z".parse().unwrap()
    }

    fn build(version: u8) -> Build {
        Build {
            sha256: Sha256([version; 32]),
            size_bytes: 1,
            platform: Platform::Android,
            app_id: "dev.qgjob.demo".to_owned(),
            version_name: version.to_string(),
            version_code: version.to_string(),
            launch_activity: None,
        }
    }

    fn device(id: u128, kind: Target, installed: Option<u8>) -> Device {
        let entry = |version| Installed {
            app_id: "dev.qgjob.demo".to_owned(),
            sha256: Sha256([version; 32]),
            proof: Proof::DeviceHash,
            verified_at: now(),
        };
        Device {
            id: device::Id(id),
            agent_id: agent::Id(1),
            serves: None,
            name: format!("phone-{id}"),
            serial: id.to_string(),
            platform: Platform::Android,
            kind,
            model: "Pixel 7".to_owned(),
            os_version: "14".to_owned(),
            tags: BTreeSet::new(),
            state: State::Idle,
            note: None,
            ledger: installed.map(entry).into_iter().collect(),
            attempt_id: None,
            seen_at: now(),
        }
    }

    fn key(target: Target) -> group::Key {
        group::Key {
            org_id: "qualgent".parse().unwrap(),
            app_version_id: "xyz123".parse().unwrap(),
            platform: None,
            target,
            selector: Selector::default(),
        }
    }

    fn waiting(avoid: &[u128], not_before: Option<Timestamp>) -> Waiting {
        let avoid = avoid.iter().map(|id| device::Id(*id)).collect();
        Waiting { priority: 5, queued_at: now(), not_before, avoid }
    }

    fn board(devices: Vec<Device>, avoid: &[u128]) -> Board {
        let mut board = Board::default();
        board.put_devices(devices);
        board.put_group(1, key(Target::Any), Some(build(1)));
        board.put_waiting(1, job::Id(1), waiting(avoid, None));
        board
    }

    #[test]
    fn the_device_that_has_the_build_takes_the_job() {
        let board = board(vec![device(1, Target::Device, None), device(2, Target::Device, Some(1))], &[]);
        let proposals = board.propose(&[device::Id(1), device::Id(2)], now());
        assert_eq!(proposals, [Proposal { device: device::Id(2), group: 1, take_avoided: false }]);
        assert_eq!(board.propose(&[device::Id(1)], now()), [], "the idle warm device is about to ask");
    }

    #[test]
    fn a_failed_device_is_avoided_while_another_can_serve() {
        let both = board(vec![device(1, Target::Device, Some(1)), device(2, Target::Device, None)], &[1]);
        assert_eq!(both.propose(&[device::Id(1)], now()), []);
        let alone = board(vec![device(1, Target::Device, Some(1))], &[1]);
        assert_eq!(
            alone.propose(&[device::Id(1)], now()),
            [Proposal { device: device::Id(1), group: 1, take_avoided: true }]
        );
    }

    #[test]
    fn a_warm_device_that_failed_does_not_keep_the_job_from_a_cold_one() {
        let both = board(vec![device(1, Target::Device, Some(1)), device(2, Target::Device, None)], &[1]);
        let proposals = both.propose(&[device::Id(1), device::Id(2)], now());
        assert_eq!(proposals, [Proposal { device: device::Id(2), group: 1, take_avoided: false }]);
    }

    #[test]
    fn an_offline_device_is_no_alternative_to_the_failed_one() {
        let other = Device { state: State::Offline, ..device(2, Target::Device, None) };
        let board = board(vec![device(1, Target::Device, Some(1)), other], &[1]);
        assert_eq!(board.propose(&[device::Id(1)], now()).len(), 1);
    }

    #[test]
    fn a_drained_device_takes_no_job_from_one_that_may_run_it() {
        let drained = Device { state: State::Drained, ..device(1, Target::Device, Some(1)) };
        let board = board(vec![drained, device(2, Target::Device, None)], &[]);
        let proposals = board.propose(&[device::Id(1), device::Id(2)], now());
        assert_eq!(proposals, [Proposal { device: device::Id(2), group: 1, take_avoided: false }]);
    }

    #[test]
    fn a_job_in_backoff_waits_for_its_time() {
        let due = now() + jiff::SignedDuration::from_secs(5);
        let mut board = board(vec![device(1, Target::Device, None)], &[]);
        board.put_waiting(1, job::Id(1), waiting(&[], Some(due)));
        assert_eq!(board.propose(&[device::Id(1)], now()), []);
        assert_eq!(board.next_due(now()), Some(due));
        assert_eq!(board.propose(&[device::Id(1)], due).len(), 1);
    }

    #[test]
    fn a_label_without_a_build_waits() {
        let mut board = board(vec![device(1, Target::Device, None)], &[]);
        board.put_group(1, key(Target::Any), None);
        assert_eq!(board.propose(&[device::Id(1)], now()), []);
        assert_eq!(board.without_build(), [1]);
    }

    #[test]
    fn targets_are_kept_apart() {
        let mut board = board(vec![device(1, Target::Emulator, None)], &[]);
        board.put_group(2, key(Target::Device), Some(build(1)));
        board.put_waiting(2, job::Id(2), waiting(&[], None));
        board.remove(1, job::Id(1));
        assert_eq!(board.propose(&[device::Id(1)], now()), []);
        assert!(!board.knows(1), "a group without jobs is forgotten");
    }

    #[test]
    fn a_busy_device_serves_its_group_until_its_attempt_ends() {
        let mut board = board(vec![device(1, Target::Device, Some(1)), device(2, Target::Device, None)], &[]);
        let started = Fact::JobStarted {
            group_id: 1,
            attempt_id: crate::model::attempt::Id(1),
            number: 1,
            agent_id: agent::Id(1),
            device_id: device::Id(1),
            device_name: "phone-1".to_owned(),
        };
        board.follow(job::Id(1), now(), &started);
        board.put_devices([
            Device { state: State::Busy, ..device(1, Target::Device, Some(1)) },
            device(2, Target::Device, None),
        ]);
        board.put_waiting(1, job::Id(2), waiting(&[], None));
        assert_eq!(board.propose(&[device::Id(2)], now()), [], "one job more is not worth an install");
    }
}
