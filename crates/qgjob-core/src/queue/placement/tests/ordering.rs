//! Which group, and which job of it, comes first.

use super::super::*;
use super::world::{World, device_id};

#[test]
fn the_longest_job_of_a_group_starts_first() {
    let mut world = World::with_devices(1);
    let lengths = [20.0, 90.0, 50.0].map(|length| world.put(world.job(7, length)));
    let order: Vec<_> = std::iter::from_fn(|| {
        world.finish(0);
        world.claim(0).map(|(_, job)| job)
    })
    .collect();
    assert_eq!(order, [lengths[1], lengths[2], lengths[0]]);
}

#[test]
fn an_old_short_job_is_not_overtaken_for_ever_by_long_ones_of_its_group() {
    let mut world = World::with_devices(1);
    let short = world.put(world.job(7, 10.0));
    world.now = 5.0 * (60.0 - 10.0) + 1.0;
    world.submit(7, 3, 60.0);
    assert_eq!(world.claim(0), Some((7, short)));
}

#[test]
fn the_older_group_comes_first() {
    let mut world = World::with_devices(1);
    world.submit(1, 1, 20.0);
    world.now = 1.0;
    world.submit(2, 1, 20.0);
    assert_eq!(world.version_for(0), Some(1));
}

#[test]
fn a_level_of_priority_is_worth_five_minutes_of_waiting() {
    let parameters = Parameters { size_penalty: 0.0, ..Parameters::default() };
    for (wait, first) in [(299.0, 2), (301.0, 1)] {
        let mut world = World::with(parameters, 1);
        world.submit_at_priority(5, 1, 1, 20.0);
        world.now = wait;
        world.submit_at_priority(6, 2, 1, 20.0);
        assert_eq!(world.version_for(0), Some(first), "after {wait} s");
    }
}

#[test]
fn a_small_group_comes_before_a_big_one_of_the_same_age() {
    let mut world = World::with_devices(1);
    world.submit(1, 10, 20.0);
    world.submit(2, 1, 20.0);
    assert_eq!(world.version_for(0), Some(2));
}

#[test]
fn the_least_urgent_job_runs_under_a_flood_of_the_most_urgent_ones() {
    let mut world = World::with_devices(1);
    world.submit_at_priority(1, 1, 1, 50.0);
    // A version of priority 10 arrives every 50 s and needs the only device for 110 s.
    let ran_at = (0..500).find_map(|_| {
        world.submit_at_priority(10, 100 + world.now as u32, 1, 50.0);
        world.submit_at_priority(10, 100_000 + world.now as u32, 1, 50.0);
        world.finish(0);
        let version = world.version_for(0);
        world.now += 100.0;
        (version == Some(1)).then_some(world.now)
    });
    // Nine levels are worth 2,700 s; the flood of that time takes twice as long.
    assert!(ran_at.is_some_and(|at| at <= 2.0 * 2700.0 + 1000.0), "{ran_at:?}");
}

#[test]
fn a_stream_of_new_jobs_does_not_keep_a_group_old_for_ever() {
    let parameters = Parameters { size_penalty: 0.0, ..Parameters::default() };
    let mut world = World::with(parameters, 1);
    world.submit(1, 1, 20.0);
    world.now = 1000.0;
    world.submit(2, 1, 20.0);
    world.now = 10_000.0;
    world.submit(1, 1, 20.0);
    assert_eq!(world.version_for(0), Some(2));
}

#[test]
fn a_class_whose_devices_are_busy_holds_up_no_other_class() {
    let mut world = World::with_devices(1);
    let tablets = world.placement.add_class(world.pool);
    world.add_device(1, &[tablets]);
    assert!(world.version_for(0).is_none());
    world.submit(1, 1, 20.0);
    assert_eq!(world.version_for(0), Some(1));
    world.submit_at_priority(10, 2, 50, 20.0);
    let mut waiting = world.job(3, 20.0);
    waiting.group.class = tablets;
    waiting.group.priority = 1;
    world.put(waiting);
    assert_eq!(world.version_for(1), Some(3));
}

#[test]
fn work_that_few_devices_can_do_has_a_head_start_on_them() {
    let mut world = World::with_devices(9);
    let scarce = world.placement.add_class(world.pool);
    let both = [world.class, scarce];
    world.add_device(9, &both);
    let put = |world: &mut World, class, version| {
        let mut waiting = world.job(version, 20.0);
        waiting.group.class = class;
        world.put(waiting);
    };
    let any = world.class;
    put(&mut world, any, 1);
    // A tenth of the devices: 0.9 × 1,800 s.
    world.now = 1600.0;
    put(&mut world, scarce, 2);
    assert_eq!(world.version_for(9), Some(2));
    assert_eq!(world.version_for(0), Some(1));
}

#[test]
fn a_promoted_job_comes_before_any_priority_and_brings_a_device_off_its_version() {
    let mut world = World::with_devices(1);
    world.install(0, 1);
    world.submit(1, 50, 20.0);
    world.submit_at_priority(10, 2, 1, 20.0);
    world.now = 50.0;
    let jobs = world.submit(3, 2, 20.0);
    assert!(world.placement.promote(jobs[1], world.now));
    assert_eq!(world.claim(0), Some((3, jobs[1])));
    assert!(!world.placement.promote(jobs[1], world.now), "it runs");
}

#[test]
fn a_job_does_not_return_to_a_device_that_failed_it_while_another_can_run_it() {
    let mut world = World::with_devices(2);
    let job = world.submit(7, 1, 20.0)[0];
    assert_eq!(world.version_for(0), Some(7));
    world.placement.lost(device_id(0), world.now);
    assert_eq!(world.claim(0), None);
    assert_eq!(world.claim(1), Some((7, job)));
}

#[test]
fn a_job_returns_to_a_device_that_failed_it_when_no_other_is_left() {
    let mut world = World::with_devices(2);
    let job = world.submit(7, 1, 20.0)[0];
    assert_eq!(world.version_for(0), Some(7));
    world.placement.lost(device_id(0), world.now);
    world.change_device(1, |state| state.up = false);
    assert_eq!(world.claim(0), Some((7, job)));
    world.placement.lost(device_id(0), world.now);
    world.change_device(1, |state| state.up = true);
    assert_eq!(world.claim(1), Some((7, job)));
}

#[test]
fn a_lost_job_keeps_its_place() {
    let mut world = World::with_devices(2);
    let lost = world.submit(7, 1, 20.0)[0];
    assert_eq!(world.claim(0), Some((7, lost)));
    world.now = 500.0;
    world.submit(8, 1, 20.0);
    world.placement.lost(device_id(0), world.now);
    assert_eq!(world.claim(1), Some((7, lost)));
}

#[test]
fn a_device_that_is_not_up_or_not_free_waits() {
    let mut world = World::with_devices(1);
    world.submit(7, 5, 20.0);
    world.change_device(0, |state| state.up = false);
    assert_eq!(world.claim(0), None);
    world.change_device(0, |state| state.up = true);
    assert!(world.claim(0).is_some());
    assert_eq!(world.claim(0), None);
    assert_eq!(world.claim(99), None);
}

#[test]
fn a_group_whose_only_device_went_away_gets_another_one_at_once() {
    let mut world = World::with_devices(2);
    world.submit(7, 2, 20.0);
    assert_eq!(world.version_for(0), Some(7));
    assert_eq!(world.version_for(1), None);
    world.change_device(0, |state| state.up = false);
    assert_eq!(world.version_for(1), Some(7));
}

#[test]
fn a_cancelled_job_is_gone_and_a_running_one_that_is_over_frees_its_device() {
    let mut world = World::with_devices(1);
    let jobs = world.submit(7, 2, 20.0);
    world.placement.remove(jobs[0], 0.0);
    assert_eq!(world.claim(0), Some((7, jobs[1])));
    world.placement.remove(jobs[1], 5.0);
    assert_eq!((world.placement.waiting(), world.placement.device_of(jobs[1])), (0, None));
    let next = world.submit(8, 1, 20.0)[0];
    assert_eq!(world.claim(0), Some((8, next)));
}

#[test]
fn what_cannot_start_is_refused_and_changes_nothing() {
    let mut world = World::with_devices(2);
    let (one, other) = (world.submit(1, 1, 20.0)[0], world.submit(2, 1, 20.0)[0]);
    let mut start = |device, job| world.placement.start(device_id(device), job, 0.0);
    assert_eq!(start(9, one), Err(NotStarted::UnknownDevice(device_id(9))));
    assert_eq!(start(0, job::Id(99)), Err(NotStarted::NotWaiting(job::Id(99))));
    assert_eq!(start(0, one), Ok(()));
    assert_eq!(start(0, one), Ok(()), "a repeat");
    assert_eq!(start(0, other), Err(NotStarted::Busy(device_id(0))));
    assert_eq!(start(1, one), Err(NotStarted::NotWaiting(one)));
    assert_eq!(world.placement.waiting(), 1);
}

#[test]
fn predictions_and_times_that_make_no_sense_do_no_harm() {
    let mut world = World::with_devices(3);
    for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0] {
        let waiting = Waiting { install_s: odd, enqueued_at: odd, ..world.job(7, odd) };
        world.put(waiting);
    }
    let parameters = Parameters { spread_installs: f64::NAN, crowding: -1.0, ..Parameters::default() };
    assert_eq!(parameters.within_bounds().crowding, 0.0);
    for device in 0..3 {
        assert!(world.claim(device).is_some());
        world.placement.finish(device_id(device), f64::NAN);
    }
}

#[test]
fn the_page_on_placement_gives_each_parameter_with_its_default() {
    let page = include_str!("../../../../../../docs/PLACEMENT.md");
    let defaults = serde_json::to_value(Parameters::default()).unwrap();
    for (name, default) in defaults.as_object().unwrap() {
        let row = format!("| `{name}` | {} |", default.as_f64().unwrap());
        assert!(page.contains(&row), "the page lacks {row}");
    }
}

#[test]
fn a_parameter_that_does_not_exist_is_refused_and_one_that_is_not_given_has_its_default() {
    let parameters: Parameters = serde_json::from_str(r#"{"spread_longest": 0.9}"#).unwrap();
    assert_eq!(parameters, Parameters { spread_longest: 0.9, ..Parameters::default() });
    assert!(serde_json::from_str::<Parameters>(r#"{"spread": 1}"#).is_err());
}
