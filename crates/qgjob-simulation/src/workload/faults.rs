//! Faults to add to a workload.

use crate::random::Random;

use super::Workload;

/// Devices that break most of what they are given, within seconds, and so are free for more: black holes.
///
/// `share` of the devices break a job with probability `rate`.
pub fn black_holes(workload: &mut Workload, seed: u64, share: f64, rate: f64) {
    let mut random = Random::new(seed.wrapping_add(5));
    for device in &mut workload.devices {
        if random.chance(share) {
            device.fault_rate = rate;
        }
    }
}

/// Versions that break their jobs on every device, in a way that looks like the device's fault, and a few black
/// holes for them to hide behind.
pub fn broken_builds(workload: &mut Workload, seed: u64) {
    const BROKEN_RUNS: f64 = 0.05;
    const CRASH_RATE: f64 = 0.7;
    const BLACK_HOLES: f64 = 0.01;
    const FAULT_RATE: f64 = 0.9;
    let mut random = Random::new(seed.wrapping_add(6));
    for run in &workload.runs {
        if random.chance(BROKEN_RUNS) {
            for &group in &run.groups {
                workload.groups[group].crash_rate = CRASH_RATE;
            }
        }
    }
    for device in &mut workload.devices {
        if random.chance(BLACK_HOLES) {
            device.fault_rate = FAULT_RATE;
        }
    }
}

/// Jobs that take any device down with them, each job with this probability.
pub fn poison(workload: &mut Workload, seed: u64, rate: f64) {
    let mut random = Random::new(seed.wrapping_add(7));
    for group in &mut workload.groups {
        for job in &mut group.jobs {
            job.poison = random.chance(rate);
        }
    }
}
