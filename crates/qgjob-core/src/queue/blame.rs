//! Blame: whether a failure that is no verdict on the tests speaks against the device or against the version, and what
//! follows. A build that crashes everywhere must not put the whole rack into quarantine, and a broken phone must not
//! spoil a hundred jobs because it is free again every 8 s.
//!
//! The numbers come from the project's own simulations: with 5 % of versions broken, a quarantine that looks at the
//! device alone put some 1,300 healthy devices out; with these rules none. [`super::board`] applies them. Times are
//! `f64` seconds since any fixed origin; only failures for infrastructure reasons are noted, and passes.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::device;

/// What is thought of a version before anything is known, worth one device's word.
const ASSUMED_FAILURE_RATE: f64 = 0.15;
/// A version that fails this often on other devices takes all the blame for a failure.
const VERSION_TAKES_ALL_AT: f64 = 0.3;
/// A version is broken when it failed on so many devices ...
const BROKEN_ON_DEVICES: usize = 4;
/// ... and fails more often than this on the average device.
const BROKEN_RATE: f64 = 0.5;
/// A version that so many devices failed to install, and none ever ran, cannot be installed.
const NOT_INSTALLABLE_ON_DEVICES: usize = 3;

/// What remains of a device's record with each further job: about 14 jobs are remembered.
const REMEMBERED: f64 = 0.93;
/// A device is bad when its failure rate is above this ...
const BAD_RATE: f64 = 0.3;
/// ... and it took the blame for at least this many recent failures.
const BAD_FAILURES: f64 = 2.0;
/// The rate starts as if so many failures ...
const PRIOR_FAILURES: f64 = 0.5;
/// ... in so many jobs had been seen.
const PRIOR_JOBS: f64 = 5.0;

/// The first quarantine; each further one lasts twice as long, up to [`LONGEST_QUARANTINE_S`].
const FIRST_QUARANTINE_S: f64 = 600.0;
const LONGEST_QUARANTINE_S: f64 = 9600.0;
/// After so long without a quarantine the next one is a first one again.
const FORGIVEN_AFTER_S: f64 = 86_400.0;

/// Within this time ...
const INCIDENT_S: f64 = 600.0;
/// ... at most this share of a class goes into quarantine, but one device always may.
const INCIDENT_SHARE: f64 = 0.1;

const FIRST_PAUSE_S: f64 = 5.0;
const LONGEST_PAUSE_S: f64 = 300.0;

/// How a version did on each device.
#[derive(Debug, Clone, Default)]
pub struct VersionRecord {
    tries: BTreeMap<device::Id, Tries>,
    not_installed_on: BTreeSet<device::Id>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Tries {
    passed: u32,
    failed: u32,
    /// Failures that no version can cause.
    failed_elsewhere: u32,
}

impl Tries {
    fn rate(self) -> f64 {
        let failed = self.failed + self.failed_elsewhere;
        f64::from(failed) / f64::from(self.passed + failed).max(1.0)
    }

    /// The rate of failures that may be the version's; none if nothing speaks for or against it.
    fn version_rate(self) -> Option<f64> {
        let tried = self.passed + self.failed;
        (tried > 0).then(|| f64::from(self.failed) / f64::from(tried))
    }
}

impl VersionRecord {
    /// An attempt on a device came to a verdict, whatever the verdict.
    pub fn passed(&mut self, device: device::Id) {
        self.tries.entry(device).or_default().passed += 1;
    }

    /// An attempt on a device ended for infrastructure reasons. Answers how much of the blame is the device's, 0 to 1:
    /// the less, the more often the version fails on other devices, too.
    pub fn failed(&mut self, device: device::Id) -> f64 {
        self.tries.entry(device).or_default().failed += 1;
        self.share_of(device)
    }

    /// The device's agent could not do its part, or the device left. Answers the device's share of the blame as
    /// [`VersionRecord::failed`] does, and does not make the version broken.
    pub fn failed_elsewhere(&mut self, device: device::Id) -> f64 {
        self.tries.entry(device).or_default().failed_elsewhere += 1;
        self.share_of(device)
    }

    /// How much of the blame for a failure is the device's, by what the others say.
    fn share_of(&self, device: device::Id) -> f64 {
        let others = self.tries.iter().filter(|(other, _)| **other != device);
        let (devices, rates) = others.fold((1.0, ASSUMED_FAILURE_RATE), |(devices, rates), (_, tries)| {
            (devices + 1.0, rates + tries.rate())
        });
        (1.0 - rates / devices / VERSION_TAKES_ALL_AT).max(0.0)
    }

    /// Whether other devices speak for the version: if it fails on this one, that is more the device's doing.
    pub fn does_well_besides(&self, device: device::Id) -> bool {
        self.share_of(device) > VersionRecord::default().share_of(device)
    }

    /// A device failed to install it. Answers the device's share of the blame as [`VersionRecord::failed`] does.
    pub fn failed_to_install(&mut self, device: device::Id) -> f64 {
        self.not_installed_on.insert(device);
        self.failed(device)
    }

    /// Whether the version is to blame wherever it runs: its jobs should not be tried again.
    pub fn is_broken(&self) -> bool {
        let (failed_on, tried_on) = self.devices();
        let rates: f64 = self.tries.values().filter_map(|tries| tries.version_rate()).sum();
        failed_on >= BROKEN_ON_DEVICES && rates / tried_on as f64 > BROKEN_RATE
    }

    /// On how many devices it failed, and how many tried it; failures that no version can cause are not counted.
    pub fn devices(&self) -> (usize, usize) {
        let tried = self.tries.values().filter(|tries| tries.version_rate().is_some());
        (self.tries.values().filter(|tries| tries.failed > 0).count(), tried.count())
    }

    /// Whether no device can install it: its jobs should end.
    pub fn cannot_be_installed(&self) -> bool {
        self.not_installed_on.len() >= NOT_INSTALLABLE_ON_DEVICES
            && self.tries.values().all(|tries| tries.passed == 0)
    }
}

/// How a device did lately.
#[derive(Debug, Clone, Default)]
pub struct DeviceRecord {
    passed: f64,
    failed: f64,
    failed_in_a_row: u32,
    /// Quarantines in a row.
    quarantines: u32,
    /// When the latest quarantine ends or ended.
    out_until: Option<f64>,
    /// Whether nothing has passed since.
    must_prove_itself: bool,
}

/// What may be given to a device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Standing {
    /// Any job.
    Trusted,
    /// Nothing: it is in quarantine.
    Out {
        /// Until then.
        until: f64,
    },
    /// One job, of a version that does well elsewhere: its quarantine is over, and this shows whether it was enough.
    Probe,
}

impl DeviceRecord {
    /// An attempt came to a verdict, whatever the verdict.
    pub fn passed(&mut self) {
        if std::mem::take(&mut self.must_prove_itself) {
            // What was held against it led to the quarantine that it has behind it.
            (self.passed, self.failed) = (0.0, 0.0);
        }
        self.failed_in_a_row = 0;
        self.note(1.0, 0.0);
    }

    /// An attempt ended for infrastructure reasons, and the device takes this share of the blame, 0 to 1. Answers
    /// whether it should go into quarantine: its failure rate is too high, or it failed on probe.
    pub fn failed(&mut self, blame: f64) -> bool {
        let blame = if blame.is_nan() { 0.0 } else { blame.clamp(0.0, 1.0) };
        self.failed_in_a_row = self.failed_in_a_row.saturating_add(1);
        self.note(0.0, blame);
        let failed_on_probe = self.must_prove_itself && blame > 0.0;
        failed_on_probe || (self.failed >= BAD_FAILURES && self.failure_rate() > BAD_RATE)
    }

    fn note(&mut self, passed: f64, failed: f64) {
        self.passed = self.passed * REMEMBERED + passed;
        self.failed = self.failed * REMEMBERED + failed;
    }

    /// The failure rate that recent jobs speak for, 0 to 1: the mean of a beta distribution that starts at half a
    /// failure in five jobs.
    pub fn failure_rate(&self) -> f64 {
        (self.failed + PRIOR_FAILURES) / (self.passed + self.failed + PRIOR_JOBS)
    }

    /// Puts the device into quarantine; answers until when: 10 min the first time, then 20, up to 160. Whoever calls
    /// asks [`may_quarantine`] before.
    pub fn quarantine(&mut self, now: f64) -> f64 {
        if self.out_until.is_some_and(|until| now - until > FORGIVEN_AFTER_S) {
            self.quarantines = 0;
        }
        let lasts = doubled(FIRST_QUARANTINE_S, self.quarantines, LONGEST_QUARANTINE_S);
        self.quarantines = self.quarantines.saturating_add(1);
        self.out_until = Some(now + lasts);
        self.must_prove_itself = true;
        now + lasts
    }

    /// Goes on from what was kept of the latest quarantine: the how manieth in a row it is, when it ends or ended, and whether
    /// it is still in force. What the device did before is forgotten.
    pub fn resume(&mut self, in_a_row: u32, until: f64, in_force: bool) {
        *self = Self {
            quarantines: in_a_row,
            out_until: Some(until),
            must_prove_itself: in_force,
            ..Self::default()
        };
    }

    /// Quarantines in a row.
    pub fn quarantines(&self) -> u32 {
        self.quarantines
    }

    /// What may be given to the device.
    pub fn standing(&self, now: f64) -> Standing {
        match self.out_until.filter(|_| self.must_prove_itself) {
            None => Standing::Trusted,
            Some(until) if now < until => Standing::Out { until },
            Some(_) => Standing::Probe,
        }
    }

    /// How long the device should wait after its last failure before it takes another job: 5 s, doubled with each
    /// failure in a row, up to 5 min. A device that fails at once is free more often than any other.
    pub fn pause_s(&self) -> f64 {
        match self.failed_in_a_row {
            0 => 0.0,
            failures => doubled(FIRST_PAUSE_S, failures - 1, LONGEST_PAUSE_S),
        }
    }
}

fn doubled(first: f64, times: u32, longest: f64) -> f64 {
    (first * f64::from(2u32.saturating_pow(times))).min(longest)
}

/// Whether one more of a class's devices may go into quarantine, given when others did. If a tenth goes within 10 min,
/// it is not the devices that broke.
pub fn may_quarantine(
    devices_in_class: usize,
    quarantined_at: impl IntoIterator<Item = f64>,
    now: f64,
) -> bool {
    let lately = quarantined_at.into_iter().filter(|at| now - at < INCIDENT_S).count();
    let most = (INCIDENT_SHARE * devices_in_class as f64).floor().max(1.0);
    ((lately + 1) as f64) <= most
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(number: u128) -> device::Id {
        device::Id(number)
    }

    /// A device that passed `passed` jobs.
    fn record(passed: usize) -> DeviceRecord {
        let mut record = DeviceRecord::default();
        (0..passed).for_each(|_| record.passed());
        record
    }

    #[test]
    fn a_failure_of_a_version_that_does_well_elsewhere_is_the_devices() {
        let mut version = VersionRecord::default();
        (1..100).for_each(|device| version.passed(on(device)));
        assert!(version.failed(on(0)) > 0.99);
    }

    #[test]
    fn a_failure_of_a_version_that_fails_elsewhere_is_not() {
        let mut version = VersionRecord::default();
        assert_eq!(version.failed(on(0)), 0.5, "nothing is known: both may be to blame");
        assert_eq!(version.failed(on(1)), 0.0);
        assert_eq!(version.failed(on(1)), 0.0, "its own failures are no excuse, those of others are");
    }

    #[test]
    fn a_version_is_broken_when_it_fails_on_four_devices_and_more_often_than_not() {
        let mut version = VersionRecord::default();
        (0..3).for_each(|device| _ = version.failed(on(device)));
        assert!(!version.is_broken());
        version.failed(on(3));
        assert!(version.is_broken());
        (4..8).for_each(|device| version.passed(on(device)));
        assert!(!version.is_broken(), "half of the devices are fine");
    }

    #[test]
    fn a_version_that_three_devices_failed_to_install_and_none_ran_cannot_be_installed() {
        let mut version = VersionRecord::default();
        (0..3).for_each(|device| {
            assert!(!version.cannot_be_installed());
            version.failed_to_install(on(device));
        });
        assert!(version.cannot_be_installed());
        version.passed(on(9));
        assert!(!version.cannot_be_installed());
    }

    #[test]
    fn failures_that_no_version_can_cause_excuse_devices_but_do_not_break_a_version() {
        let mut version = VersionRecord::default();
        (0..9).for_each(|device| _ = version.failed_elsewhere(on(device)));
        assert!(!version.is_broken() && version.devices() == (0, 0));
        assert_eq!(version.failed_elsewhere(on(9)), 0.0, "whatever it is, it is not this device alone");
    }

    #[test]
    fn a_version_does_well_when_other_devices_say_so() {
        let mut version = VersionRecord::default();
        version.passed(on(1));
        assert!(!version.does_well_besides(on(1)), "nobody else has tried it");
        assert!(version.does_well_besides(on(2)));
        version.failed(on(3));
        assert!(!version.does_well_besides(on(2)));
    }

    #[test]
    fn a_device_goes_after_a_few_failures_that_are_its_own_and_not_for_those_of_a_version() {
        let mut bad = record(3);
        let failures = (1..10).find(|_| bad.failed(1.0));
        assert_eq!(failures, Some(3));
        let mut unlucky = record(3);
        assert!((0..100).all(|_| !unlucky.failed(0.0)));
        assert!(!record(30).failed(1.0), "one failure is none");
    }

    #[test]
    fn old_failures_are_forgotten() {
        let mut device = record(0);
        device.failed(1.0);
        device.failed(1.0);
        let rate = device.failure_rate();
        (0..50).for_each(|_| device.passed());
        assert!(rate > 0.3 && device.failure_rate() < 0.06);
    }

    #[test]
    fn quarantines_double_up_to_160_minutes_and_a_good_day_forgives() {
        let mut device = record(0);
        let mut now = 0.0;
        let minutes: Vec<f64> = (0..6)
            .map(|_| {
                let until = device.quarantine(now);
                let lasts = until - now;
                now = until;
                lasts / 60.0
            })
            .collect();
        assert_eq!(minutes, [10.0, 20.0, 40.0, 80.0, 160.0, 160.0]);
        now += FORGIVEN_AFTER_S + 1.0;
        assert_eq!(device.quarantine(now) - now, 600.0);
    }

    #[test]
    fn what_was_kept_of_a_quarantine_goes_on() {
        let mut device = record(9);
        device.resume(2, 100.0, true);
        assert_eq!(device.standing(99.0), Standing::Out { until: 100.0 });
        assert!(device.failed(1.0), "it has to prove itself");
        assert_eq!((device.quarantine(100.0), device.quarantines()), (100.0 + 2400.0, 3));
        device.resume(3, 2500.0, false);
        assert_eq!(device.standing(200.0), Standing::Trusted);
    }

    #[test]
    fn after_its_quarantine_a_device_proves_itself_with_one_job() {
        let mut device = record(0);
        (0..3).for_each(|_| _ = device.failed(1.0));
        let until = device.quarantine(0.0);
        assert_eq!(device.standing(until - 1.0), Standing::Out { until });
        assert_eq!(device.standing(until), Standing::Probe);
        assert!(device.clone().failed(0.4), "out again at the first failure that is its own");
        device.passed();
        assert_eq!(device.standing(until), Standing::Trusted);
        assert!(!device.failed(1.0), "and the old failures are behind it");
    }

    #[test]
    fn a_device_that_fails_at_once_is_asked_ever_more_seldom() {
        let mut device = record(0);
        let pauses: Vec<f64> = (0..8)
            .map(|_| {
                device.failed(1.0);
                device.pause_s()
            })
            .collect();
        assert_eq!(pauses, [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0]);
        device.passed();
        assert_eq!(device.pause_s(), 0.0);
    }

    #[test]
    fn no_more_than_a_tenth_of_a_class_goes_within_ten_minutes() {
        let went = [0.0, 100.0, 500.0];
        assert!(may_quarantine(40, went, 599.0));
        assert!(!may_quarantine(39, went, 599.0));
        assert!(may_quarantine(39, went, 600.0), "the first is long ago");
        assert!(may_quarantine(3, [], 0.0), "one device always may");
        assert!(!may_quarantine(3, [0.0], 0.0));
    }
}
