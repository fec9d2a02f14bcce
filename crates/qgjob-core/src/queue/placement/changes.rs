//! What happens to jobs, and what an operator asks for.

use super::fleet::Hold;
use super::group::{Group, Job, Pending, Slot};
use super::seconds::{Tally, moment, prediction};
use super::{Class, GroupKey, Org, Placement, Version, Waiting};
use crate::model::attempt::Choice;
use crate::model::{device, job};

/// Jobs that come to a group later make it look no older than this, so that an endless stream does not stay ahead
/// of everybody for ever.
const OLDEST_OF_A_STREAM_S: f64 = 3600.0;

/// Ranks before any age and priority: 31 years.
const PROMOTED_S: f64 = 1e9;

/// Why a job could not be started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotStarted {
    /// The device is not known.
    #[error("device {0} is not known")]
    UnknownDevice(device::Id),
    /// The device runs another job.
    #[error("device {0} runs another job")]
    Busy(device::Id),
    /// The job does not wait.
    #[error("job {0} does not wait")]
    NotWaiting(job::Id),
}

impl Placement {
    /// Adds a job that waits. One that is known already is taken out first, wherever it is.
    pub fn enqueue(&mut self, id: job::Id, waiting: Waiting, now: f64) {
        let now = moment(now);
        self.remove(id, now);
        self.put(id, waiting, false, now);
    }

    /// Takes a job out: it was cancelled, or it is over. The device that ran it is free.
    pub fn remove(&mut self, id: job::Id, now: f64) {
        let now = moment(now);
        let Some(job) = self.jobs.remove(&id) else { return };
        let slot = job.group;
        if !job.running {
            self.group_mut(slot).pending.remove(id, &job);
            let key = self.group(slot).key;
            self.settle(slot, now);
            self.count_for_org(key, -1, 0);
            return;
        }
        let key = self.group(slot).key;
        let device = self.running.remove(&id).and_then(|device| self.devices.get_mut(&device));
        if let Some(hold) = device.and_then(|known| known.hold.take()) {
            self.release(&hold, now);
        }
        self.count_for_org(key, -1, 0);
    }

    /// Moves a waiting job to the front: before all that were not promoted, behind those that were. An org over its
    /// share still yields. Says whether the job waits.
    pub fn promote(&mut self, id: job::Id, now: f64) -> bool {
        let now = moment(now);
        let Some(job) = self.jobs.get(&id).filter(|job| !job.running) else { return false };
        let group = self.group(job.group);
        if group.promoted {
            return true;
        }
        let waiting = Waiting {
            group: group.key,
            app: group.app,
            install_s: group.install_s,
            predicted_s: job.predicted_s,
            enqueued_at: job.enqueued_at,
            barred: job.barred.to_vec(),
        };
        self.remove(id, now);
        self.put(id, waiting, true, now);
        true
    }

    /// Notes that a device runs a job from now on. A repeat changes nothing.
    ///
    /// # Errors
    /// When the device or the job is not in the state for it; then nothing changed.
    pub fn start(&mut self, device: device::Id, job: job::Id, now: f64) -> Result<(), NotStarted> {
        let now = moment(now);
        let known = self.devices.get_mut(&device).ok_or(NotStarted::UnknownDevice(device))?;
        if let Some(hold) = &known.hold {
            return if hold.job == job { Ok(()) } else { Err(NotStarted::Busy(device)) };
        }
        let waiting =
            self.jobs.get_mut(&job).filter(|job| !job.running).ok_or(NotStarted::NotWaiting(job))?;
        waiting.running = true;
        self.running.insert(job, device);
        let slot = waiting.group;
        let group = self.groups[slot].as_mut().expect("the group of a job is there");
        let install = !known.state.has(group.key.version);
        let crowd = self.classes[group.key.class.at()].crowd();
        let choice = if install { group.why_install(&self.parameters, crowd, now) } else { Choice::HadBuild };
        group.pending.remove(job, waiting);
        let installed_before = install.then(|| known.state.installed.clone());
        known.state.use_version(group.app, group.key.version);
        known.state.installs += u64::from(install);
        let end = now + waiting.predicted_s + if install { group.install_s } else { 0.0 };
        let serving = known.state.up;
        known.hold = Some(Hold {
            group: slot,
            job,
            end,
            started: now,
            serving,
            choice,
            launch_before: group.last_launch,
            installed_before,
        });
        group.holds += 1;
        if serving {
            group.serve(end);
        }
        group.last_launch = group.last_launch.max(now);
        let key = group.key;
        self.count_running(slot, 1, now);
        self.count_for_org(key, 0, 1);
        Ok(())
    }

    /// Notes that a device is done with its job: it is over, whatever came of it.
    pub fn finish(&mut self, device: device::Id, now: f64) {
        let now = moment(now);
        let Some(hold) = self.devices.get_mut(&device).and_then(|known| known.hold.take()) else { return };
        let key = self.group(hold.group).key;
        self.jobs.remove(&hold.job);
        self.running.remove(&hold.job);
        self.leave(&hold, now);
        self.count_for_org(key, -1, -1);
    }

    /// Notes that a device no longer runs its job and that it is not over: it waits again at its old place, and not for
    /// this device.
    pub fn lost(&mut self, device: device::Id, now: f64) {
        self.give_back(device, Some(device), moment(now));
    }

    /// Takes back a start that came to nothing: the device never began and has what it had before.
    pub fn undo(&mut self, device: device::Id, now: f64) {
        let Some(hold) = self.give_back(device, None, moment(now)) else { return };
        if let Some(known) = self.devices.get_mut(&device)
            && let Some(installed) = hold.installed_before
        {
            known.state.installed = installed;
            known.state.installs = known.state.installs.saturating_sub(1);
        }
    }

    fn give_back(&mut self, device: device::Id, bar: Option<device::Id>, now: f64) -> Option<Hold> {
        let hold = self.devices.get_mut(&device)?.hold.take()?;
        let group = self.groups[hold.group].as_mut().expect("the group of a hold is there");
        self.running.remove(&hold.job);
        if let Some(job) = self.jobs.get_mut(&hold.job) {
            job.running = false;
            if let Some(bar) = bar.filter(|bar| !job.barred.contains(bar)) {
                job.barred = job.barred.iter().copied().chain([bar]).collect();
            }
            group.pending.insert(hold.job, job);
        }
        self.stirred.insert(group.key.class);
        if bar.is_none() && group.last_launch == hold.started {
            group.last_launch = hold.launch_before;
        }
        self.release(&hold, now);
        Some(hold)
    }

    /// How long an install of a version takes on devices of a class, for the groups that are there.
    pub fn set_install_s(&mut self, version: Version, class: Class, install_s: f64, now: f64) {
        let slots = self.by_version.get(&version).cloned().unwrap_or_default();
        for slot in slots {
            let group = self.group_mut(slot);
            if group.key.class == class {
                group.install_s = prediction(install_s);
                self.settle(slot, moment(now));
            }
        }
    }

    /// Weight of an org's fair share, 1 to 1,000; 1 unless said otherwise.
    pub fn set_weight(&mut self, org: Org, weight: u32) {
        let state = self.orgs.entry(org).or_default();
        let active = state.shares.iter().filter(|share| share.active);
        for share in active {
            let pool = &mut self.pools[share.pool.at()];
            pool.weight = pool.weight - u64::from(state.weight) + u64::from(weight.clamp(1, 1000));
        }
        state.weight = weight.clamp(1, 1000);
        self.rebalance(org);
    }

    /// Most devices that an org may hold at a time; none: no limit.
    pub fn set_cap(&mut self, org: Org, cap: Option<u32>) {
        self.orgs.entry(org).or_default().cap = cap;
        self.rebalance(org);
    }

    /// Lets an org's waiting jobs rest, or lets them go on. What runs is not touched.
    pub fn set_org_paused(&mut self, org: Org, paused: bool) {
        self.orgs.entry(org).or_default().paused = paused;
        self.rebalance(org);
    }

    /// Lets an org's waiting jobs for one version rest, or lets them go on. What runs is not touched.
    pub fn set_version_paused(&mut self, org: Org, version: Version, paused: bool, now: f64) {
        if paused {
            self.paused_versions.insert((org, version));
        } else {
            self.paused_versions.remove(&(org, version));
        }
        let mut slots = self.by_version.get(&version).cloned().unwrap_or_default();
        slots.retain(|slot| self.group(*slot).key.org == org);
        // All are counted before the first is looked at, because that depends on how many wait.
        for slot in &slots {
            self.group_mut(*slot).paused = paused;
            self.count_queued(*slot);
        }
        for slot in slots {
            self.settle(slot, moment(now));
        }
    }

    fn put(&mut self, id: job::Id, waiting: Waiting, promoted: bool, now: f64) {
        let predicted_s = prediction(waiting.predicted_s);
        let enqueued_at = moment(waiting.enqueued_at).min(now);
        let mut key = waiting.group;
        key.priority = key.priority.clamp(1, 10);
        let since = if promoted { now } else { enqueued_at };
        let slot = match self.by_key.get(&(key, promoted)) {
            Some(slot) => *slot,
            None => self.add_group(key, &waiting, promoted, since, now),
        };
        let pool = self.classes[key.class.at()].pool;
        let devices_up = f64::from(self.pools[pool.at()].devices_up.max(1));
        let size_s = self.parameters.size_penalty * predicted_s / devices_up;
        let mut barred = waiting.barred;
        barred.sort_unstable();
        barred.dedup();
        let barred = barred.into_boxed_slice();
        let job = Job { group: slot, predicted_s, enqueued_at, barred, running: false };
        let group = self.group_mut(slot);
        group.install_s = prediction(waiting.install_s);
        group.since = group.since.min(since).max(since - OLDEST_OF_A_STREAM_S);
        group.size_s += size_s;
        group.pending.insert(id, &job);
        self.jobs.insert(id, job);
        self.orgs.entry(key.org).or_default().share_mut(pool).jobs += 1;
        self.stirred.insert(key.class);
        self.settle(slot, now);
        self.rebalance(key.org);
    }

    fn add_group(&mut self, key: GroupKey, waiting: &Waiting, promoted: bool, since: f64, now: f64) -> Slot {
        let slot = self.free_slots.pop().unwrap_or_else(|| {
            self.groups.push(None);
            self.groups.len() - 1
        });
        let group = Group {
            key,
            app: waiting.app,
            promoted,
            head_start_s: if promoted {
                PROMOTED_S
            } else {
                self.parameters.priority_worth_s * f64::from(key.priority)
            },
            since,
            size_s: 0.0,
            serial: self.next_serial,
            install_s: prediction(waiting.install_s),
            pending: Pending::default(),
            holds: 0,
            serving: 0,
            ends_s: 0.0,
            ends: Tally::default(),
            born: now,
            last_launch: now,
            paused: self.paused_versions.contains(&(key.org, key.version)),
            full: self.join_concurrency(&key, slot),
            queued: false,
            open: None,
            reopens_at: None,
        };
        self.next_serial += 1;
        self.groups[slot] = Some(group);
        self.by_key.insert((key, promoted), slot);
        self.by_version.entry(key.version).or_default().push(slot);
        slot
    }

    fn release(&mut self, hold: &Hold, now: f64) {
        let key = self.group(hold.group).key;
        self.leave(hold, now);
        self.count_for_org(key, 0, -1);
    }

    /// A device no longer works for a group.
    fn leave(&mut self, hold: &Hold, now: f64) {
        let group = self.group_mut(hold.group);
        group.holds -= 1;
        if hold.serving {
            group.unserve(hold.end);
        }
        self.count_running(hold.group, -1, now);
    }

    fn count_for_org(&mut self, key: GroupKey, jobs: i32, holds: i32) {
        let pool = self.classes[key.class.at()].pool;
        let state = self.orgs.entry(key.org).or_default();
        state.running = state.running.saturating_add_signed(holds);
        let share = state.share_mut(pool);
        share.jobs = share.jobs.saturating_add_signed(jobs);
        share.running = share.running.saturating_add_signed(holds);
        self.rebalance(key.org);
    }
}
