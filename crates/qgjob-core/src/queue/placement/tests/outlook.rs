//! When a waiting job should start.

use std::collections::BTreeMap;

use super::super::*;
use super::world::{INSTALL_S, World};

const STEPS: usize = 10_000;

#[test]
fn a_job_behind_two_others_on_one_device_starts_after_them_and_their_install() {
    let mut world = World::with_devices(1);
    let jobs = world.submit(7, 3, 100.0);
    let last = |world: &World, stretch| world.placement.expected_start(jobs[2], world.now, stretch, STEPS);
    assert_eq!(last(&world, 1.0), Some(INSTALL_S + 200.0));
    assert_eq!(last(&world, 1.5), Some(1.5 * (INSTALL_S + 200.0)));
    assert_eq!(world.claim(0), Some((7, jobs[0])));
    world.now = 60.0;
    assert_eq!(last(&world, 1.0), Some(INSTALL_S + 200.0));
    assert_eq!(world.placement.expected_start(jobs[0], world.now, 1.0, STEPS), None, "it runs");
    // The first should have ended at 160 s, and goes on for a tenth of that; the second has no install.
    world.now = 200.0;
    assert_eq!(last(&world, 1.0), Some(200.0 + 16.0 + 100.0));
}

#[test]
fn a_job_of_another_version_starts_after_what_ranks_before_it() {
    let mut world = World::with_devices(1);
    world.submit(1, 2, 100.0);
    world.now = 1.0;
    let job = world.submit(2, 2, 100.0)[0];
    let urgent = world.placement.expected_start(job, world.now, 1.0, STEPS);
    assert_eq!(urgent, Some(1.0 + INSTALL_S + 200.0));
    world.submit_at_priority(10, 3, 1, 50.0);
    let later = world.placement.expected_start(job, world.now, 1.0, STEPS);
    assert_eq!(later, urgent.map(|urgent| urgent + INSTALL_S + 50.0));
}

#[test]
fn what_nothing_will_start_is_not_expected_to() {
    let mut world = World::with_devices(1);
    let elsewhere = world.placement.add_class(world.pool);
    let job = world.submit(7, 1, 20.0)[0];
    let mut nowhere = world.job(7, 20.0);
    nowhere.group.class = elsewhere;
    let nowhere = world.put(nowhere);
    let expected = |world: &World, job| world.placement.expected_start(job, world.now, 1.0, STEPS);
    assert_eq!(expected(&world, nowhere), None, "no device meets its class");
    assert_eq!(expected(&world, job), Some(0.0));
    world.placement.set_org_paused(Org(1), true);
    assert_eq!(expected(&world, job), None, "its org is paused");
    world.placement.set_org_paused(Org(1), false);
    world.placement.set_version_paused(Org(1), Version(7), true, 0.0);
    assert_eq!(expected(&world, job), None, "its version is paused");
    world.placement.set_version_paused(Org(1), Version(7), false, 0.0);
    world.placement.set_cap(Org(1), Some(0));
    assert_eq!(expected(&world, job), None, "its org may hold no device");
    world.placement.set_cap(Org(1), None);
    world.change_device(0, |state| state.up = false);
    assert_eq!(expected(&world, job), None, "its device is down");
}

#[test]
fn too_few_steps_give_no_answer() {
    let mut world = World::with_devices(1);
    let jobs = world.submit(7, 3, 100.0);
    assert_eq!(world.placement.expected_start(jobs[2], 0.0, 1.0, 2), None);
    assert!(world.placement.expected_start(jobs[2], 0.0, 1.0, 3).is_some());
    for odd in [f64::NAN, f64::INFINITY, -1.0] {
        assert!(world.placement.expected_start(jobs[2], odd, odd, STEPS).is_some_and(f64::is_finite));
    }
}

/// Everything goes as predicted, and the placement is asked as a server asks it.
fn starts(world: &mut World) -> BTreeMap<job::Id, f64> {
    let mut starts = BTreeMap::new();
    let devices: Vec<device::Id> = world.placement.devices.keys().copied().collect();
    for tenths in 0..200_000 {
        world.now = f64::from(tenths) / 10.0;
        for device in &devices {
            let hold = world.placement.devices[device].hold.as_ref();
            if hold.is_some_and(|hold| hold.end <= world.now) {
                world.placement.finish(*device, world.now);
            }
        }
        for (_, decision) in world.placement.claim_all(&devices, world.now) {
            if let Decision::Run(run) = decision {
                starts.insert(run.job, world.now);
            }
        }
        if world.placement.waiting() == 0 {
            break;
        }
    }
    starts
}

#[test]
fn all_jobs_start_when_they_are_expected_to_if_all_goes_as_predicted() {
    let mut world = World::with_devices(3);
    let elsewhere = world.placement.add_class(world.pool);
    world.add_device(3, &[world.class, elsewhere]);
    for version in 0..6 {
        let mut waiting = world.job(version, 0.0);
        waiting.group.org = Org(version % 2);
        for job in 0..8 + version {
            waiting.predicted_s = f64::from(30 + (version * 7 + job * 13) % 90);
            waiting.group.class = if job == 7 { elsewhere } else { world.class };
            world.put(waiting.clone());
        }
    }
    let before = world.placement.clone();
    let starts = starts(&mut world);
    assert_eq!(starts.len(), 63);
    for (job, start) in starts {
        let expected = before.expected_start(job, 0.0, 1.0, STEPS).expect("it started");
        assert!((expected - start).abs() < 0.15, "{job}: {expected} s, not {start} s");
    }
}
