//! Devices: what they meet, what they have installed, what they run.

use std::sync::Arc;

use super::group::Slot;
use super::seconds::moment;
use super::{App, Class, Placement, Pool, Version};
use crate::model::attempt::Choice;
use crate::model::{device, job};

/// A version on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Installed {
    /// The app.
    pub app: App,
    /// The version of it.
    pub version: Version,
}

/// A device as the caller knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceState {
    /// The classes it meets, each once; devices of one kind may share the list.
    pub classes: Arc<[Class]>,
    /// What is installed, the most recently used last.
    pub installed: Vec<Installed>,
    /// How many apps it holds before the one not used for longest goes; at least 1.
    pub capacity_apps: usize,
    /// Whether it takes jobs: online, not drained, not quarantined.
    pub up: bool,
    /// Installs so far: the less worn of two devices installs first.
    pub installs: u64,
}

/// A device, and what it runs.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) state: DeviceState,
    pub(super) hold: Option<Hold>,
}

/// A job that a device runs.
#[derive(Debug, Clone)]
pub(super) struct Hold {
    pub(super) group: Slot,
    pub(super) job: job::Id,
    /// When it should be free.
    pub(super) end: f64,
    pub(super) started: f64,
    /// Whether its group counts the device: it is up.
    pub(super) serving: bool,
    /// Why the device was given the job.
    pub(super) choice: Choice,
    /// For undoing: the group's last launch before.
    pub(super) launch_before: f64,
    /// For undoing: what was installed, if the job needed an install.
    pub(super) installed_before: Option<Vec<Installed>>,
}

impl DeviceState {
    pub(super) fn has(&self, version: Version) -> bool {
        self.installed.iter().any(|installed| installed.version == version)
    }

    /// Notes that a version is used, and installed before that if it was not there.
    pub(super) fn use_version(&mut self, app: App, version: Version) {
        self.installed.retain(|installed| installed.app != app);
        if self.installed.len() >= self.capacity_apps.max(1) {
            self.installed.remove(0);
        }
        self.installed.push(Installed { app, version });
    }
}

impl Placement {
    /// Makes a device known, or replaces what is known of it. What it runs stays. To be called when something changed:
    /// each call makes the waiting devices of its classes worth asking again.
    pub fn put_device(&mut self, id: device::Id, state: DeviceState, now: f64) {
        let now = moment(now);
        let hold = self.devices.remove(&id).and_then(|known| {
            self.count(&known.state, -1);
            known.hold
        });
        self.count(&state, 1);
        let up = state.up;
        let hold = hold.map(|hold| self.serve_if_up(hold, up, now));
        self.devices.insert(id, Known { state, hold });
    }

    /// Forgets a device; what it runs is put back as by [`Placement::lost`].
    pub fn remove_device(&mut self, id: device::Id, now: f64) {
        self.lost(id, now);
        if let Some(known) = self.devices.remove(&id) {
            self.count(&known.state, -1);
        }
    }

    /// A device as it is known, with the installs of the jobs that it was given.
    pub fn device(&self, id: device::Id) -> Option<&DeviceState> {
        self.devices.get(&id).map(|known| &known.state)
    }

    /// Why a device was given the job that it runs.
    pub fn choice(&self, id: device::Id) -> Option<Choice> {
        self.devices.get(&id)?.hold.as_ref().map(|hold| hold.choice)
    }

    /// Devices of a class that are up.
    pub fn devices_up(&self, class: Class) -> u32 {
        self.classes[class.at()].devices_up
    }

    fn count(&mut self, state: &DeviceState, change: i32) {
        if !state.up {
            return;
        }
        let mut pools: Vec<Pool> = Vec::with_capacity(1);
        for at in state.classes.iter() {
            let class = &mut self.classes[at.at()];
            class.devices_up = class.devices_up.saturating_add_signed(change);
            // A device that comes or goes changes which jobs are kept from which others.
            self.stirred.insert(*at);
            if !pools.contains(&class.pool) {
                pools.push(class.pool);
            }
        }
        for pool in pools {
            let pool = &mut self.pools[pool.at()];
            pool.devices_up = pool.devices_up.saturating_add_signed(change);
        }
    }

    /// A device that went away no longer counts as one that serves its group.
    fn serve_if_up(&mut self, mut hold: Hold, up: bool, now: f64) -> Hold {
        // The caller's word on what is installed is newer than what an undo would restore.
        hold.installed_before = None;
        if hold.serving != up {
            hold.serving = up;
            let group = self.group_mut(hold.group);
            if up {
                group.serve(hold.end);
            } else {
                group.unserve(hold.end);
            }
            self.settle(hold.group, now);
        }
        hold
    }
}
