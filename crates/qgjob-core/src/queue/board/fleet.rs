//! Devices on the board.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::super::placement::{Class, DeviceState, Installed};
use super::{Board, seconds};
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
            self.forget_device_health(device);
            self.told_to_wait.remove(&device);
            self.expected.remove(&device);
            self.placement.remove_device(device, seconds(now));
        }
        true
    }

    fn put_device(&mut self, device: Device, before: Option<&Device>, now: Timestamp) {
        self.trust_quarantine(device.id, device.quarantine.clone());
        let up = device.is_up()
            || (device.state == device::State::Quarantined && self.is_on_probe(device.id, now));
        let known = self.placement.device(device.id);
        let installs = known.map_or(0, |known| known.installs);
        let state = match known {
            // While the ledger says nothing new, what the placement has given it is the better knowledge.
            Some(known) if before.is_some_and(|before| before.ledger == device.ledger) => DeviceState {
                classes: same_classes(&known.classes, self.numbers.met_by(&device)),
                up,
                ..known.clone()
            },
            _ => DeviceState {
                classes: self.numbers.met_by(&device).into(),
                installed: self.installed(&device),
                capacity_apps: CAPACITY_APPS,
                up,
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

    /// A device runs something. One that is offline or drained stays so, whatever it runs.
    pub(super) fn occupy(&mut self, id: device::Id) {
        if let Some(device) = self.devices.get_mut(&id)
            && matches!(device.state, device::State::Idle | device::State::Quarantined)
        {
            device.state = device::State::Busy;
        }
    }

    /// A device runs nothing any more.
    pub(super) fn free(&mut self, id: device::Id) {
        let is_quarantined = self.is_quarantined(id);
        if let Some(device) = self.devices.get_mut(&id).filter(|device| device.state == device::State::Busy) {
            device.state = if is_quarantined { device::State::Quarantined } else { device::State::Idle };
        }
    }

    /// Lets a device whose quarantine is over be given a job.
    pub(super) fn let_prove_itself(&mut self, id: device::Id, now: Timestamp) {
        let is_waiting =
            self.devices.get(&id).is_some_and(|device| device.state == device::State::Quarantined);
        if let Some(known) = self.placement.device(id).filter(|known| is_waiting && !known.up) {
            let state = DeviceState { up: true, ..known.clone() };
            self.placement.put_device(id, state, seconds(now));
        }
    }
}

fn same_classes(before: &Arc<[Class]>, now: Vec<Class>) -> Arc<[Class]> {
    if **before == *now { Arc::clone(before) } else { now.into() }
}
