//! When a device installs, and when it stays.

use super::super::*;
use super::world::{INSTALL_S, World, device_id};

#[test]
fn a_group_that_nobody_serves_gets_a_device_whatever_its_size() {
    let mut world = World::with_devices(1);
    world.submit(7, 1, 1.0);
    assert_eq!(world.version_for(0), Some(7));
}

#[test]
fn a_second_device_joins_when_the_work_per_device_is_worth_four_installs() {
    // The install and a job of 20 s run on the first device; 4 installs are 240 s.
    for (left, joins) in [(8, false), (9, true)] {
        let mut world = World::with_devices(100);
        world.submit(7, left + 1, 20.0);
        assert_eq!(world.version_for(0), Some(7));
        assert_eq!(world.version_for(1).is_some(), joins, "{left} jobs left");
    }
}

#[test]
fn two_runs_that_came_together_get_a_phone_each() {
    for jobs in 2..=8 {
        for together in [true, false] {
            let mut world = World::with_devices(2);
            world.submit(1, jobs, 60.0);
            world.now = 0.005;
            world.submit(2, jobs, 60.0);
            let both = [0, 1].map(device_id);
            if together {
                world.placement.claim_all(&both, world.now);
            } else {
                for number in [0, 1] {
                    world.claim(number);
                }
            }
            // Each phone goes on with what it has, one 20 s later than the other.
            while world.placement.waiting() > 0 {
                for number in [0, 1] {
                    world.now += 20.0;
                    world.finish(number);
                    world.claim(number);
                    world.now += 40.0;
                }
            }
            let installs = both.map(|device| world.placement.device(device).unwrap().installs);
            assert_eq!(installs, [1, 1], "two runs of {jobs} jobs");
        }
    }
}

#[test]
fn a_served_group_comes_before_an_unserved_one_only_if_it_is_ahead_by_more_than_an_install() {
    for (later, next) in [(59.0, 2), (61.0, 1)] {
        let parameters = Parameters { size_penalty: 0.0, ..Parameters::default() };
        let mut world = World::with(parameters, 100);
        world.submit(1, 30, 60.0);
        assert_eq!(world.version_for(0), Some(1));
        world.now = later;
        world.submit(2, 1, 60.0);
        assert_eq!(world.version_for(1), Some(next), "{later} s later");
    }
}

#[test]
fn a_device_does_not_join_when_one_long_job_decides_the_end_anyway() {
    // Both cases are worth 4 installs per device. Two devices work towards an end in 1,060 s: 0.8 of that, twice.
    for (short, joins) in [(27, false), (29, true)] {
        let mut world = World::with_devices(100);
        world.submit(7, 1, 1000.0);
        world.submit(7, 1 + short, 20.0);
        assert_eq!(world.version_for(0), Some(7));
        assert_eq!(world.version_for(1), Some(7));
        assert_eq!(world.version_for(2).is_some(), joins, "{short} short jobs left");
    }
}

#[test]
fn a_long_job_that_waits_decides_the_end_as_well() {
    let mut world = World::with_devices(100);
    world.submit(7, 2, 200.0);
    assert_eq!(world.version_for(0), Some(7));
    assert_eq!(world.version_for(1), Some(7));
    // Both have 10 s left. What comes is worth 4 installs per device, but not 0.8 of its longest job per device.
    world.now = 250.0;
    world.submit(7, 1, 500.0);
    assert_eq!(world.version_for(2), None);
    world.submit(7, 1, 300.0);
    assert_eq!(world.version_for(2), Some(7));
}

#[test]
fn the_more_groups_wait_the_more_work_a_joining_device_must_find() {
    let joins = |others: u32| {
        let mut world = World::with_devices(2);
        world.submit(7, 30, 20.0);
        assert_eq!(world.version_for(0), Some(7));
        for version in 0..others {
            // They are not for the device that asks.
            let barred = vec![device_id(1)];
            world.put(Waiting { barred, ..world.job(100 + version, 5.0) });
        }
        world.version_for(1).is_some()
    };
    assert!(joins(0));
    assert!(!joins(50));
}

#[test]
fn a_group_that_started_nothing_for_five_installs_gets_one_more_device() {
    let mut world = World::with_devices(100);
    world.submit(7, 2, 80.0);
    assert_eq!(world.version_for(0), Some(7));
    let Decision::Wait { until: Some(until) } = world.placement.decide(device_id(1), 0.0) else {
        panic!("80 s are not worth an install");
    };
    assert_eq!(until, 5.0 * INSTALL_S);
    world.now = until - 0.001;
    assert_eq!(world.version_for(1), None);
    world.now = until;
    assert_eq!(world.version_for(1), Some(7));
}

#[test]
fn a_device_stays_with_its_version_while_another_group_is_ahead_by_less_than_half_an_hour() {
    let mut world = World::with_devices(1);
    world.submit(1, 2, 20.0);
    assert_eq!(world.version_for(0), Some(1));
    world.submit_at_priority(10, 2, 1, 20.0);
    world.finish(0);
    assert_eq!(world.version_for(0), Some(1));
}

#[test]
fn a_device_leaves_its_version_for_a_group_that_is_ahead_by_more() {
    let parameters = Parameters { size_penalty: 0.0, ..Parameters::default() };
    for (wait, stays) in [(299.0, true), (301.0, false)] {
        let mut world = World::with(parameters, 1);
        world.submit_at_priority(10, 2, 1, 20.0);
        // Five levels of priority are worth 1,500 s.
        world.now = wait;
        world.install(0, 1);
        world.submit(1, 2, 20.0);
        assert_eq!(world.version_for(0), Some(if stays { 1 } else { 2 }), "after {wait} s");
    }
}

#[test]
fn a_device_that_lacks_the_version_never_takes_what_one_that_has_it_is_about_to() {
    let mut world = World::with_devices(2);
    world.install(1, 7);
    world.submit(7, 1, 20.0);
    let decisions = world.placement.claim_all(&[device_id(0), device_id(1)], 0.0);
    let (first, Decision::Run(run)) = &decisions[0] else { panic!("a job waits") };
    assert_eq!((*first, run.install), (device_id(1), false));
    assert_eq!(decisions[1], (device_id(0), Decision::Wait { until: None }));
}

#[test]
fn of_two_devices_that_must_install_the_less_worn_one_does() {
    let mut world = World::with_devices(2);
    world.change_device(0, |state| state.installs = 9);
    world.submit(7, 1, 20.0);
    let decisions = world.placement.claim_all(&[device_id(0), device_id(1)], 0.0);
    assert!(matches!(&decisions[0], (id, Decision::Run(run)) if *id == device_id(1) && run.install));
    assert_eq!(world.placement.device(device_id(1)).unwrap().installs, 1);
}

#[test]
fn groups_of_one_version_share_its_install() {
    let mut world = World::with_devices(1);
    world.submit(7, 1, 20.0);
    world.submit_at_priority(9, 7, 1, 20.0);
    let Decision::Run(first) = world.placement.claim(device_id(0), 0.0) else { panic!("jobs wait") };
    world.finish(0);
    let Decision::Run(second) = world.placement.claim(device_id(0), 0.0) else { panic!("jobs wait") };
    assert!(first.install && !second.install);
    assert_eq!((first.group.priority, second.group.priority), (9, 5));
}

#[test]
fn an_app_too_many_removes_the_one_not_used_for_longest() {
    let mut world = World::with_devices(1);
    let installed = [1, 2].map(|number| Installed { app: App(number), version: Version(number) });
    world.change_device(0, |state| state.installed = installed.to_vec());
    let mut waiting = world.job(3, 20.0);
    waiting.app = App(3);
    world.put(waiting);
    assert_eq!(world.version_for(0), Some(3));
    let versions = &world.placement.device(device_id(0)).unwrap().installed;
    assert_eq!(versions.iter().map(|one| one.version.0).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn a_start_that_came_to_nothing_leaves_everything_as_it_was() {
    let mut world = World::with_devices(1);
    world.install(0, 1);
    world.submit(7, 1, 20.0);
    let before = world.placement.device(device_id(0)).unwrap().clone();
    let decision = world.placement.claim(device_id(0), 5.0);
    world.placement.undo(device_id(0), 5.0);
    assert_eq!(world.placement.device(device_id(0)), Some(&before));
    assert_eq!(world.placement.decide(device_id(0), 5.0), decision);
}

#[test]
fn a_device_that_waits_is_worth_asking_again_only_when_something_came_that_may_concern_it() {
    let mut world = World::with_devices(2);
    let elsewhere = world.placement.add_class(world.pool);
    world.add_device(2, &[elsewhere]);
    world.install(0, 7);
    world.submit(7, 1, 20.0);
    assert_eq!(world.version_for(1), Some(7));
    world.put(Waiting { barred: vec![device_id(0)], ..world.job(7, 20.0) });
    assert_eq!((world.claim(0), world.claim(2)), (None, None));
    let waiting = [device_id(0), device_id(2)];
    world.placement.worth_asking(waiting);
    assert_eq!(world.placement.worth_asking(waiting), []);
    // The group wants no other device, and has work for one that has its version.
    world.submit(7, 1, 20.0);
    assert_eq!(world.placement.worth_asking(waiting), [device_id(0)]);
    assert_eq!(world.version_for(0), Some(7));
}
