//! What is said of a job that waits.

use super::super::*;
use super::world::{World, device_id};
use crate::model::group::Because;

fn reasons(world: &World, job: job::Id) -> Vec<Reason> {
    world.placement.why(job, world.now).expect("the job waits").reasons
}

#[test]
fn a_job_of_a_served_group_waits_because_another_install_does_not_pay() {
    let mut world = World::with_devices(2);
    let jobs = world.submit(7, 2, 80.0);
    let (_, first) = world.claim(0).unwrap();
    let waits = jobs.into_iter().find(|job| *job != first).unwrap();
    world.now = 40.0;
    // 60 + 80 s run since 40 s, 80 s wait; 4 installs are 240 s, 5 are 300 s.
    let served = Reason::Served { devices: 1, work_s: 180.0, worth_s: 240.0, joins_at: 300.0 };
    assert_eq!(reasons(&world, waits), [served, Reason::Free { devices: 1 }]);
    assert_eq!(world.placement.why(first, world.now), None, "it runs");
}

#[test]
fn pauses_and_caps_are_named() {
    let mut world = World::with_devices(1);
    let job = world.submit(7, 1, 20.0)[0];
    assert_eq!(reasons(&world, job), [Reason::Free { devices: 1 }]);
    world.placement.set_org_paused(Org(1), true);
    world.placement.set_cap(Org(1), Some(0));
    world.placement.set_version_paused(Org(1), Version(7), true, 0.0);
    let cap = Reason::OrgAtCap { running: 0, cap: 0 };
    assert_eq!(reasons(&world, job)[..3], [Reason::OrgPaused, cap, Reason::VersionPaused]);
}

#[test]
fn devices_that_are_down_busy_or_barred_are_counted() {
    let mut world = World::with_devices(2);
    world.submit_at_priority(10, 1, 1, 500.0);
    assert!(world.claim(0).is_some());
    let job = world.put(Waiting { barred: vec![device_id(1)], ..world.job(7, 20.0) });
    assert_eq!(reasons(&world, job), [Reason::Barred { devices: 1 }]);
    world.submit_at_priority(10, 2, 1, 500.0);
    assert!(world.claim(1).is_some());
    assert_eq!(reasons(&world, job), [Reason::Busy { devices: 2 }]);
    world.change_device(0, |state| state.up = false);
    world.change_device(1, |state| state.up = false);
    assert_eq!(reasons(&world, job), [Reason::NoDeviceUp { down: 2 }]);
}

#[test]
fn the_groups_before_a_job_are_named_with_what_weighs_most_for_each() {
    let mut world = World::with_devices(1);
    let small_and_old = world.job(1, 20.0);
    world.now = 1000.0;
    let job = world.put(world.job(9, 200.0));
    world.put(small_and_old);
    world.submit_at_priority(10, 2, 1, 200.0);
    world.submit(3, 1, 20.0);
    let front = world.submit(4, 1, 20.0)[0];
    world.submit(5, 1, 900.0);
    world.placement.promote(front, world.now);
    let why = world.placement.why(job, world.now).unwrap();
    let ahead: Vec<_> = why.ahead.iter().map(|ahead| (ahead.group.version.0, ahead.because)).collect();
    let expected = [(4, Because::Promoted), (1, Because::Size), (3, Because::Size), (2, Because::Priority)];
    assert_eq!((why.groups_ahead, &ahead[..]), (4, &expected[..]));
}

#[test]
fn a_group_that_nobody_serves_is_ahead_of_a_served_one_of_the_same_age() {
    let mut world = World::with_devices(2);
    let jobs = world.submit(1, 20, 60.0);
    let (_, first) = world.claim(0).unwrap();
    let waits = jobs.into_iter().find(|job| *job != first).unwrap();
    world.now = 1.0;
    world.submit(2, 20, 60.0);
    let ahead = world.placement.why(waits, world.now).unwrap().ahead;
    assert_eq!(ahead.iter().map(|ahead| ahead.because).collect::<Vec<_>>(), [Because::Unserved]);
}

#[test]
fn an_org_over_its_share_is_told_so_and_sees_whom_it_yields_to() {
    let mut world = World::with_devices(8);
    for version in 0..6 {
        world.submit_for(1, version, 1, 100.0);
    }
    for device in 0..5 {
        assert!(world.claim(device).is_some());
    }
    world.now = 500.0;
    world.submit_for(2, 100, 1, 100.0);
    let why = world.placement.why(job::Id(6), world.now).unwrap();
    assert_eq!(why.reasons, [Reason::OrgOverShare { running: 5, most: 4.0 }, Reason::Free { devices: 3 }]);
    assert_eq!((why.ahead[0].group.org, why.ahead[0].because), (Org(2), Because::Share));
}
