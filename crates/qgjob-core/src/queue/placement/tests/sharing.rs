//! Orgs: shares, caps, weights, pauses.

use super::super::*;
use super::world::{World, device_id};

#[test]
fn an_org_far_over_its_share_yields_to_one_that_waits() {
    let mut world = World::with_devices(8);
    // Org 1 floods first, with a version for each device.
    for version in 0..20 {
        world.submit_for(1, version, 1, 100.0);
    }
    // Half of the pool is the most it may hold while another waits.
    for device in 0..5 {
        assert!(world.version_for(device).is_some());
    }
    world.now = 500.0;
    world.submit_for(2, 100, 1, 100.0);
    assert_eq!(world.version_for(5), Some(100));
}

#[test]
fn an_org_over_its_share_goes_on_while_nobody_else_wants_the_device() {
    let mut world = World::with_devices(8);
    for version in 0..8 {
        world.submit_for(1, version, 1, 100.0);
    }
    for device in 0..8 {
        assert!(world.version_for(device).is_some());
    }
}

#[test]
fn a_bigger_weight_is_a_bigger_share() {
    let holds = |weight| {
        let mut world = World::with_devices(100);
        world.placement.set_weight(Org(1), weight);
        for version in 0..60 {
            world.submit_for(1, version, 1, 100.0);
        }
        for org in 2..40 {
            // The others wait for devices that are not there.
            let elsewhere = world.placement.add_class(world.pool);
            let mut waiting = world.job(org * 1000, 20.0);
            waiting.group.org = Org(org);
            waiting.group.class = elsewhere;
            world.put(waiting);
        }
        (0..60)
            .take_while(|device| {
                assert!(world.version_for(*device).is_some());
                !world.placement.is_over(Org(1), world.pool)
            })
            .count()
    };
    // 100 devices × 4 / 39, and with weight 3: × 12 / 41.
    assert_eq!(holds(1), 10);
    assert_eq!(holds(3), 29);
}

#[test]
fn an_org_never_holds_more_devices_than_its_cap() {
    let mut world = World::with_devices(3);
    world.placement.set_cap(Org(1), Some(1));
    world.submit_for(1, 1, 1, 20.0);
    world.submit_for(1, 2, 1, 20.0);
    assert_eq!(world.version_for(0), Some(1));
    assert_eq!(world.version_for(1), None);
    world.submit_for(2, 3, 1, 20.0);
    assert_eq!(world.version_for(1), Some(3));
    world.finish(0);
    assert_eq!(world.version_for(2), Some(2));
    world.placement.set_cap(Org(1), None);
    world.submit_for(1, 4, 1, 20.0);
    assert_eq!(world.version_for(0), Some(4));
}

#[test]
fn a_paused_org_gets_nothing_until_it_goes_on_not_even_on_a_device_that_has_its_version() {
    let mut world = World::with_devices(1);
    world.install(0, 1);
    world.submit_for(1, 1, 1, 20.0);
    world.placement.set_org_paused(Org(1), true);
    assert_eq!(world.version_for(0), None);
    world.submit_for(2, 2, 1, 20.0);
    assert_eq!(world.version_for(0), Some(2));
    world.finish(0);
    world.placement.set_org_paused(Org(1), false);
    assert_eq!(world.version_for(0), Some(1));
}

#[test]
fn a_paused_version_rests_for_one_org_also_for_jobs_that_come_later() {
    let mut world = World::with_devices(2);
    world.placement.set_version_paused(Org(1), Version(1), true, 0.0);
    world.submit_for(1, 1, 3, 20.0);
    assert_eq!(world.version_for(0), None);
    world.submit_for(1, 2, 1, 20.0);
    assert_eq!(world.version_for(0), Some(2));
    world.submit_for(2, 1, 1, 20.0);
    assert_eq!(world.placement.claim(device_id(1), 0.0), {
        let group = GroupKey { org: Org(2), ..world.job(1, 20.0).group };
        Decision::Run(Run { job: job::Id(5), group, install: true })
    });
    world.finish(1);
    world.placement.set_version_paused(Org(1), Version(1), false, 0.0);
    assert_eq!(world.version_for(1), Some(1));
}

#[test]
fn orgs_of_one_pool_do_not_count_in_another() {
    let mut world = World::with_devices(4);
    let other_pool = world.placement.add_pool();
    let other = world.placement.add_class(other_pool);
    for device in 4..8 {
        world.add_device(device, &[other]);
    }
    for version in 0..4 {
        world.submit_for(1, version, 1, 100.0);
    }
    for device in 0..4 {
        assert!(world.version_for(device).is_some());
    }
    let mut waiting = world.job(50, 20.0);
    waiting.group.class = other;
    world.put(waiting);
    world.now = 100.0;
    let mut waiting = world.job(51, 20.0);
    waiting.group = GroupKey { org: Org(2), class: other, ..waiting.group };
    world.put(waiting);
    assert_eq!(world.version_for(4), Some(50), "org 1 holds nothing there, and came first");
}

#[test]
fn jobs_of_one_concurrency_group_run_one_at_a_time_whatever_their_version() {
    let mut world = World::with_devices(3);
    let named = |world: &World, version| {
        let mut waiting = world.job(version, 20.0);
        waiting.group.concurrency = Some(Concurrency(7));
        waiting
    };
    world.put(named(&world, 1));
    let held = world.put(named(&world, 2));
    assert_eq!(world.version_for(0), Some(1));
    assert_eq!(world.version_for(1), None);
    let why = world.placement.why(held, 0.0).expect("it waits");
    assert!(why.reasons.contains(&Reason::ConcurrencyFull { running: 1, limit: 1 }), "{why:?}");
    // Neither jobs without the name nor those of another org wait for it.
    world.submit(3, 1, 20.0);
    assert_eq!(world.version_for(1), Some(3));
    let mut foreign = named(&world, 4);
    foreign.group.org = Org(2);
    world.put(foreign);
    assert_eq!(world.version_for(2), Some(4));
    world.finish(2);
    world.finish(0);
    assert_eq!(world.placement.worth_asking([device_id(2)]), [device_id(2)], "its end wakes who waits");
    assert_eq!(world.version_for(2), Some(2));
}

#[test]
fn a_concurrency_group_runs_as_many_jobs_as_its_limit() {
    let mut world = World::with_devices(4);
    world.placement.set_concurrency_limit(Org(1), Concurrency(1), 2, 0.0);
    for version in 0..4 {
        let mut waiting = world.job(version, 20.0);
        waiting.group.concurrency = Some(Concurrency(1));
        world.put(waiting);
    }
    assert!(world.version_for(0).is_some() && world.version_for(1).is_some());
    assert_eq!(world.version_for(2), None);
    world.placement.set_concurrency_limit(Org(1), Concurrency(1), 3, 0.0);
    assert!(world.version_for(2).is_some());
    world.placement.set_concurrency_limit(Org(1), Concurrency(1), 1, 0.0);
    world.finish(0);
    world.finish(1);
    assert_eq!(world.version_for(3), None, "one still runs");
    world.finish(2);
    assert!(world.version_for(3).is_some());
}
