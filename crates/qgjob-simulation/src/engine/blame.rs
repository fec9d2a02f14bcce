//! Who is to blame when a job breaks, by the rules that the server has.

use std::collections::HashMap;

use qgjob_core::model::device;
use qgjob_core::queue::blame::{DeviceRecord, VersionRecord, may_quarantine};

use crate::workload::Workload;

/// Attempts of a job, in all.
pub(super) const MAX_ATTEMPTS: u8 = 4;
/// A job that took this many devices down is not tried again.
const MAX_DEVICES_DOWN: u8 = 2;

/// What is known of devices and of versions.
#[derive(Debug)]
pub(super) struct Blame {
    devices: Vec<DeviceRecord>,
    versions: HashMap<usize, VersionRecord>,
    kind: Vec<usize>,
    /// For each kind, how many devices there are and when each of them went into quarantine.
    kinds: Vec<(usize, Vec<f64>)>,
}

/// What follows from a failure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Judgement {
    /// Whether the job is over.
    pub gives_up: bool,
    /// Until when the device is in quarantine, if it is.
    pub out_until: Option<f64>,
    /// How long the device takes no other job.
    pub pause_s: f64,
}

impl Blame {
    pub(super) fn new(workload: &Workload) -> Self {
        let kind: Vec<usize> = workload.devices.iter().map(|device| device.kind).collect();
        let mut kinds = vec![(0, Vec::new()); workload.kinds.len()];
        for &kind in &kind {
            kinds[kind].0 += 1;
        }
        Self {
            devices: vec![DeviceRecord::default(); workload.devices.len()],
            versions: HashMap::new(),
            kind,
            kinds,
        }
    }

    pub(super) fn fine(&mut self, version: usize, device: usize) {
        self.versions.entry(version).or_default().passed(id(device));
        self.devices[device].passed();
    }

    /// A job broke in its attempt of this number, from 1.
    pub(super) fn broke(
        &mut self,
        now: f64,
        version: usize,
        device: usize,
        attempt: u8,
        took_device_down: bool,
    ) -> Judgement {
        let record = self.versions.entry(version).or_default();
        let share = record.failed(id(device));
        let poison = took_device_down && attempt >= MAX_DEVICES_DOWN;
        let gives_up = poison || record.is_broken() || attempt >= MAX_ATTEMPTS;
        let (devices, went) = &mut self.kinds[self.kind[device]];
        let is_bad = self.devices[device].failed(if poison { 0.0 } else { share });
        let out_until = (is_bad && may_quarantine(*devices, went.iter().copied(), now)).then(|| {
            went.push(now);
            self.devices[device].quarantine(now)
        });
        Judgement { gives_up, out_until, pause_s: self.devices[device].pause_s() }
    }
}

fn id(device: usize) -> device::Id {
    device::Id(device as u128)
}
