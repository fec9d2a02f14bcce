//! Who is to blame when a job breaks: the job, the device, or the version.
//!
//! A version that fails everywhere must not cost healthy devices their good name, so a device is blamed only as far as
//! the version does better on others.

/// Attempts of a job, in all.
pub(super) const MAX_ATTEMPTS: u8 = 4;
/// A job that took this many devices down is not tried again.
const MAX_DEVICES_DOWN: u8 = 2;
/// How much of a device's past counts after each further job.
const MEMORY: f64 = 0.93;
/// A device whose failure rate, by its posterior mean, is above this goes into quarantine.
const WORST_RATE: f64 = 0.30;
/// What is expected of a device that nothing is known of: this many bad jobs of so many.
const PRIOR: (f64, f64) = (0.5, 5.0);
/// The first quarantine of a device; each further one is twice as long, up to the longest.
const FIRST_QUARANTINE_S: f64 = 600.0;
const LONGEST_QUARANTINE_S: f64 = 9_600.0;

/// What is known of devices and of groups.
#[derive(Debug)]
pub struct Blame {
    devices: Vec<Record>,
    groups: Vec<Vec<OnDevice>>,
}

#[derive(Debug, Clone, Default)]
struct Record {
    fine: f64,
    bad: f64,
    quarantines: i32,
}

#[derive(Debug, Clone)]
struct OnDevice {
    device: usize,
    fine: f64,
    bad: f64,
}

impl OnDevice {
    fn rate(&self) -> f64 {
        self.bad / (self.fine + self.bad)
    }
}

/// What follows from a failure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Judgement {
    /// Whether the job is over.
    pub gives_up: bool,
    /// How long the device is taken out, if it is.
    pub quarantine_s: Option<f64>,
}

impl Blame {
    pub(super) fn new(devices: usize, groups: usize) -> Self {
        Self { devices: vec![Record::default(); devices], groups: vec![Vec::new(); groups] }
    }

    pub(super) fn fine(&mut self, group: usize, device: usize) {
        self.on_device(group, device).fine += 1.0;
        self.remember(device, 1.0, 0.0);
    }

    pub(super) fn broke(
        &mut self,
        group: usize,
        device: usize,
        tries: u8,
        took_device_down: bool,
    ) -> Judgement {
        let elsewhere = self.rate_elsewhere(group, device);
        self.on_device(group, device).bad += 1.0;
        let poison = took_device_down && tries >= MAX_DEVICES_DOWN;
        let weight = if poison { 0.0 } else { (1.0 - elsewhere / WORST_RATE).max(0.0) };
        let quarantine_s = if poison { None } else { self.quarantine(device, weight) };
        let gives_up = poison || self.is_broken(group) || tries >= MAX_ATTEMPTS;
        Judgement { gives_up, quarantine_s }
    }

    fn on_device(&mut self, group: usize, device: usize) -> &mut OnDevice {
        let known = &mut self.groups[group];
        let at = known.iter().position(|on| on.device == device).unwrap_or_else(|| {
            known.push(OnDevice { device, fine: 0.0, bad: 0.0 });
            known.len() - 1
        });
        &mut known[at]
    }

    /// The mean failure rate of a group on all other devices; one imagined device with 15 % among them.
    fn rate_elsewhere(&self, group: usize, device: usize) -> f64 {
        let others = self.groups[group].iter().filter(|on| on.device != device);
        let (sum, count) = others.fold((0.15, 1.0), |(sum, count), on| (sum + on.rate(), count + 1.0));
        sum / count
    }

    /// Whether a group fails on at least four devices and more often than not.
    fn is_broken(&self, group: usize) -> bool {
        let known = &self.groups[group];
        let failing = known.iter().filter(|on| on.bad > 0.0).count();
        let mean = known.iter().map(OnDevice::rate).sum::<f64>() / known.len() as f64;
        failing >= 4 && mean > 0.5
    }

    fn remember(&mut self, device: usize, fine: f64, bad: f64) {
        let record = &mut self.devices[device];
        record.fine = record.fine * MEMORY + fine;
        record.bad = record.bad * MEMORY + bad;
    }

    fn quarantine(&mut self, device: usize, weight: f64) -> Option<f64> {
        self.remember(device, 0.0, weight);
        let record = &mut self.devices[device];
        let rate = (record.bad + PRIOR.0) / (record.fine + record.bad + PRIOR.1);
        if record.bad < 2.0 || rate <= WORST_RATE {
            return None;
        }
        record.bad *= 0.6;
        let seconds = (FIRST_QUARANTINE_S * 2_f64.powi(record.quarantines)).min(LONGEST_QUARANTINE_S);
        record.quarantines += 1;
        Some(seconds)
    }
}
