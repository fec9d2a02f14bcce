//! Devices on the board.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::super::placement::{Class, DeviceState, Installed};
use super::{Board, is_up, seconds};
use crate::model::device::{self, Device};

/// How many apps a device is thought to hold. What it really holds its agent tells.
pub(super) const CAPACITY_APPS: usize = 64;

impl Board {
    /// Replaces what is known of the devices. Says whether the board can go on: with an org's first own device it must
    /// be built anew.
    pub fn put_devices(&mut self, devices: Vec<Device>, now: Timestamp) -> bool {
        let fits =
            |device: &Device| device.serves.as_ref().is_none_or(|org| self.numbers.knows_devices_of(org));
        if !devices.iter().all(fits) {
            return false;
        }
        self.kinds.clear();
        let mut gone = std::mem::take(&mut self.devices);
        for device in devices {
            let before = gone.remove(&device.id);
            self.put_device(device, before.as_ref(), now);
        }
        for device in gone.into_keys() {
            self.told_to_wait.remove(&device);
            self.expected.remove(&device);
            self.placement.remove_device(device, seconds(now));
        }
        true
    }

    fn put_device(&mut self, device: Device, before: Option<&Device>, now: Timestamp) {
        let known = self.placement.device(device.id);
        let installs = known.map_or(0, |known| known.installs);
        let state = match known {
            // While the ledger says nothing new, what the placement has given it is the better knowledge.
            Some(known) if before.is_some_and(|before| before.ledger == device.ledger) => DeviceState {
                classes: same_classes(&known.classes, self.numbers.met_by(&device)),
                up: is_up(&device),
                ..known.clone()
            },
            _ => DeviceState {
                classes: self.numbers.met_by(&device).into(),
                installed: self.installed(&device),
                capacity_apps: CAPACITY_APPS,
                up: is_up(&device),
                installs,
            },
        };
        if self.placement.device(device.id) != Some(&state) {
            self.placement.put_device(device.id, state, seconds(now));
        }
        self.devices.insert(device.id, device);
    }

    /// The apps of its ledger, the one verified last at the end.
    fn installed(&mut self, device: &Device) -> Vec<Installed> {
        let mut ledger: Vec<&device::Installed> = device.ledger.iter().collect();
        ledger.sort_by_key(|entry| entry.verified_at);
        let entry = |entry: &device::Installed| Installed {
            app: self.numbers.app(device.platform, &entry.app_id),
            version: self.numbers.version(entry.sha256),
        };
        ledger.into_iter().map(entry).collect()
    }

    /// Finds anew which classes the devices meet.
    pub(super) fn classify_devices(&mut self, now: Timestamp) {
        let mut shared: HashMap<Vec<Class>, Arc<[Class]>> = HashMap::new();
        for device in self.devices.values() {
            let classes = self.numbers.met_by(device);
            let Some(known) = self.placement.device(device.id).filter(|known| *known.classes != *classes)
            else {
                continue;
            };
            let classes = shared.entry(classes.clone()).or_insert_with(|| classes.into());
            let state = DeviceState { classes: Arc::clone(classes), ..known.clone() };
            self.placement.put_device(device.id, state, seconds(now));
        }
    }

    /// What a device has is what its ledger says: an attempt on it ended, whatever it was meant to install.
    pub(super) fn trust_ledger(&mut self, id: device::Id, now: Timestamp) {
        let Some(device) = self.devices.remove(&id) else { return };
        let installed = self.installed(&device);
        if let Some(known) = self.placement.device(id).filter(|known| known.installed != installed) {
            let state = DeviceState { installed, ..known.clone() };
            self.placement.put_device(id, state, seconds(now));
        }
        self.devices.insert(id, device);
    }

    /// A device that is offline or drained stays so, whatever it runs.
    pub(super) fn turn(&mut self, device: device::Id, from: device::State, to: device::State) {
        if let Some(device) = self.devices.get_mut(&device).filter(|device| device.state == from) {
            device.state = to;
        }
    }
}

fn same_classes(before: &Arc<[Class]>, now: Vec<Class>) -> Arc<[Class]> {
    if **before == *now { Arc::clone(before) } else { now.into() }
}
