//! A whole batch in virtual time: how many installs it takes, and how much longer than the lower bound.

use std::collections::BTreeMap;

use super::super::*;
use super::world::{World, device_id};

struct Outcome {
    installs: u64,
    /// Of the end against the lower bound: all devices busy from first to last, and one install each.
    ratio: f64,
}

/// Durations between 20 s and 600 s, most of them short.
fn durations(count: usize) -> Vec<f64> {
    let spread = |at: usize| ((at * 7919) % 1009) as f64 / 1009.0;
    (0..count).map(|at| (20.0 * 30f64.powf(spread(at).powi(2))).round()).collect()
}

fn run(versions: usize, jobs_each: usize, devices: u128, install_s: f64) -> Outcome {
    let mut world = World::with_devices(devices);
    let mut length = BTreeMap::new();
    for (at, duration) in durations(versions * jobs_each).into_iter().enumerate() {
        let waiting = Waiting { install_s, ..world.job((at % versions) as u32, duration) };
        length.insert(world.put(waiting), duration);
    }
    let work: f64 = length.values().sum();
    let mut idle: BTreeMap<device::Id, f64> = (0..devices).map(|number| (device_id(number), 0.0)).collect();
    let mut busy: BTreeSet<(u64, device::Id)> = BTreeSet::new();
    let (mut installs, mut end) = (0, 0.0);
    loop {
        let now = world.now;
        let mut asking: BTreeSet<device::Id> =
            world.placement.worth_asking(idle.keys().copied()).into_iter().collect();
        asking.extend(idle.iter().filter(|(_, until)| **until <= now).map(|(device, _)| *device));
        let asking: Vec<device::Id> = asking.into_iter().collect();
        for (device, decision) in world.placement.claim_all(&asking, now) {
            match decision {
                Decision::Wait { until } => _ = idle.insert(device, until.unwrap_or(f64::INFINITY)),
                Decision::Run(run) => {
                    idle.remove(&device);
                    installs += u64::from(run.install);
                    let ends = now + length[&run.job] + if run.install { install_s } else { 0.0 };
                    busy.insert((ends as u64, device));
                }
            }
        }
        let wakes = idle.values().copied().fold(f64::INFINITY, f64::min);
        match busy.first().copied() {
            None if wakes.is_infinite() => break,
            Some((ends, device)) if ends as f64 <= wakes => {
                busy.pop_first();
                world.now = ends as f64;
                end = world.now;
                world.placement.finish(device, world.now);
                idle.insert(device, world.now);
            }
            _ => world.now = wakes,
        }
    }
    assert_eq!(world.placement.waiting(), 0, "all jobs ran");
    let bound = (work + install_s * (devices as f64).max(versions as f64)) / devices as f64;
    Outcome { installs, ratio: end / bound }
}

#[test]
fn one_big_suite_uses_every_device_once_and_ends_almost_at_the_bound() {
    let outcome = run(1, 2000, 50, 60.0);
    assert_eq!(outcome.installs, 50);
    assert!(outcome.ratio < 1.02, "{}", outcome.ratio);
}

#[test]
fn many_suites_at_once_take_a_few_installs_each_and_end_near_the_bound() {
    let outcome = run(40, 50, 50, 60.0);
    assert!(outcome.installs <= 330, "{} installs, of 2,000 jobs", outcome.installs);
    assert!(outcome.ratio < 1.2, "{}", outcome.ratio);
}

#[test]
fn small_suites_that_take_long_to_install_take_less_than_two_installs_each() {
    let outcome = run(200, 10, 50, 120.0);
    assert!(outcome.installs <= 380, "{} installs, of 2,000 jobs", outcome.installs);
    assert!(outcome.ratio < 1.25, "{}", outcome.ratio);
}
