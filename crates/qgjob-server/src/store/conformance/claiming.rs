//! Claiming.

use qgjob_core::model::attempt::Phase;
use qgjob_core::model::device;
use qgjob_core::model::job::Status;
use qgjob_core::model::priority::Priority;
use qgjob_core::model::refusal::Refusal;
use qgjob_core::model::selector::Target;

use super::world::{LEASE, World, broken, counted, org, phone};
use crate::store::Claim;

pub async fn urgent_first_then_oldest(w: &mut World) {
    let old = w.submit(2).await;
    w.wait(1);
    let young = w.submit(1).await;
    let urgent = w.submit_with(1, |run| run.options.priority = Priority::MAX).await;
    let group = w.group(&old).await;
    let rack = w.rack("rack", 4).await;
    let mut order = Vec::new();
    for device in 0..4 {
        order.push(w.claim(&rack, device, group).await.unwrap().job_id);
    }
    assert_eq!(order, [urgent.jobs[0].id, old.jobs[0].id, old.jobs[1].id, young.jobs[0].id]);
}

pub async fn no_build_no_lease(w: &mut World) {
    let accepted = w.submit_with(1, |run| run.app_version_id = "unbound".parse().unwrap()).await;
    let group = w.group(&accepted).await;
    let rack = w.rack("rack", 1).await;
    assert_eq!(w.claim(&rack, 0, group).await, None);
    assert!(w.store.group(group).await.unwrap().unwrap().build.is_none());
    w.bind(&accepted.run.org_id, "unbound", 3).await;
    assert_eq!(w.claim(&rack, 0, group).await.unwrap().job_id, accepted.jobs[0].id);
}

pub async fn a_device_has_one_attempt(w: &mut World) {
    let accepted = w.submit(2).await;
    let group = w.group(&accepted).await;
    let rack = w.rack("rack", 1).await;
    let lease = w.claim(&rack, 0, group).await.unwrap();
    assert_eq!(w.device(rack.devices[0]).await.state, device::State::Busy);
    assert_eq!(w.claim(&rack, 0, group).await, None, "another claim of a busy device");
    w.pass(&rack, &lease).await;
    assert_eq!(w.device(rack.devices[0]).await.state, device::State::Idle);
    assert!(w.claim(&rack, 0, group).await.is_some());
    assert_eq!(w.claim(&rack, 0, group).await, None);
}

pub async fn a_repeat_gets_the_same_lease(w: &mut World) {
    let accepted = w.submit(3).await;
    let group = w.group(&accepted).await;
    let rack = w.rack("rack", 2).await;
    let claim = w.claim_of(&rack, 0, group);
    let second = Claim { claim_id: claim.claim_id.clone(), ..w.claim_of(&rack, 1, group) };
    let first = w.try_claim(claim.clone()).await.unwrap().unwrap();
    let other = w.try_claim(second).await.unwrap().unwrap();
    w.wait(20);
    let repeat = Claim { attempt_id: w.claim_of(&rack, 0, group).attempt_id, ..claim.clone() };
    assert_eq!(w.try_claim(repeat).await.unwrap(), Some(first.clone()));
    let leases = w.store.leases_of_claim(rack.id, &claim.claim_id, LEASE).await.unwrap();
    assert_eq!(leases, [first.clone(), other.clone()]);
    // The repeat began the lease anew: only the other one has run out.
    w.wait(15);
    assert_eq!(w.sweep().await.leases_expired, 1);
    assert_eq!(w.store.leases_of_claim(rack.id, &claim.claim_id, LEASE).await.unwrap(), [first]);
    let stranger = w.rack("stranger", 1).await;
    assert_eq!(w.store.leases_of_claim(stranger.id, &claim.claim_id, LEASE).await.unwrap(), []);
}

pub async fn a_device_must_be_free_and_known(w: &mut World) {
    let accepted = w.submit(2).await;
    let group = w.group(&accepted).await;
    let mut rack = w.rack("rack", 1).await;
    let stranger = w.rack("stranger", 1).await;
    let foreign = Claim { device_id: rack.devices[0], ..w.claim_of(&stranger, 0, group) };
    assert!(matches!(w.try_claim(foreign).await.unwrap_err(), Refusal::NotFound { .. }));
    let unknown = Claim { device_id: device::Id(1), ..w.claim_of(&rack, 0, group) };
    assert!(matches!(w.try_claim(unknown).await.unwrap_err(), Refusal::NotFound { .. }));
    rack.reported[0].online = false;
    w.heartbeat(&rack, false, &[]).await.unwrap();
    assert_eq!(w.claim(&rack, 0, group).await, None, "an offline device");
    rack.reported[0].online = true;
    w.heartbeat(&rack, false, &[]).await.unwrap();
    assert_eq!(w.claim(&rack, 0, group + 1000).await, None, "a group that does not exist");
    assert!(w.claim(&rack, 0, group).await.is_some());
}

pub async fn epochs_rise(w: &mut World) {
    let accepted = w.submit(4).await;
    let group = w.group(&accepted).await;
    let rack = w.rack("rack", 2).await;
    let mut last = 0;
    for turn in 0..4 {
        let lease = w.claim(&rack, turn % 2, group).await.unwrap();
        assert!(lease.epoch > last);
        last = lease.epoch;
        w.pass(&rack, &lease).await;
    }
}

pub async fn a_lease_holds_all_that_is_needed(w: &mut World) {
    let accepted = w
        .submit_with(2, |run| {
            run.options.env.insert("BASE_URL".parse().unwrap(), "http://localhost".to_owned());
            run.options.timeout_ms = 60_000;
            run.options.test_retries = 3;
        })
        .await;
    let group = w.group(&accepted).await;
    let rack = w.rack("rack", 1).await;
    let lease = w.claim(&rack, 0, group).await.unwrap();
    let job = &accepted.jobs[0];
    assert_eq!((lease.job_id, lease.run_id, lease.number), (job.id, accepted.run.id, 1));
    assert_eq!((&lease.test, &lease.env, lease.timeout_ms), (&job.spec.test, &job.spec.env, 60_000));
    assert_eq!((lease.test_retries, lease.reset, lease.lease_ms), (3, job.spec.reset, 30_000));
    assert_eq!((lease.build, lease.bundle_sha256), (super::world::build(1), job.spec.bundle_sha256));
    assert_eq!(lease.device_id, rack.devices[0]);
    let job = w.job(job.id).await;
    assert_eq!((job.status, job.phase, job.attempts), (Status::Running, Some(Phase::Preparing), 1));
    assert_eq!((job.device_id, job.started_at), (Some(rack.devices[0]), Some(w.now)));
    let (attempt, name) = w.store.attempts(job.id).await.unwrap().remove(0);
    assert_eq!((attempt.id, attempt.epoch, name.as_str()), (lease.attempt_id, lease.epoch, "rack-0"));
    assert_eq!((attempt.lease_until - w.now).get_seconds(), 30);
}

pub async fn avoided_devices_come_last(w: &mut World) {
    let accepted = w.submit(1).await;
    let group = w.group(&accepted).await;
    let rack = w.rack("rack", 2).await;
    let lease = w.claim(&rack, 0, group).await.unwrap();
    w.finish(&rack, &lease, broken()).await;
    assert_eq!(w.claim(&rack, 1, group).await, None, "it waits out its backoff");
    w.wait(5);
    assert_eq!(w.claim(&rack, 0, group).await, None, "the device that broke is avoided");
    let alone = Claim { take_avoided: true, ..w.claim_of(&rack, 0, group) };
    let second = w.try_claim(alone).await.unwrap().unwrap();
    assert_eq!((second.number, second.job_id), (2, lease.job_id));
}

pub async fn a_group_takes_only_its_devices(w: &mut World) {
    let real = w.submit_with(1, |run| run.options.target = Target::Device).await;
    let any = w.submit(1).await;
    let (real, any) = (w.group(&real).await, w.group(&any).await);
    assert_ne!(real, any);
    let rack = w.rack("rack", 1).await;
    assert_eq!(w.claim(&rack, 0, real).await, None, "an emulator is no real device");
    let others = w.rack_for("others", Some(org("other")), vec![phone("theirs")]).await;
    assert_eq!(w.claim(&others, 0, any).await, None, "a device serves its own org");
    assert!(w.claim(&rack, 0, any).await.is_some());
}

pub async fn claims_at_once_share_the_jobs(w: &mut World) {
    let accepted = w.submit(20).await;
    let group = w.group(&accepted).await;
    let rack = w.rack("rack", 30).await;
    let mut tasks = tokio::task::JoinSet::new();
    for device in 0..30 {
        let (store, now, claim) = (w.store.clone(), w.now, w.claim_of(&rack, device, group));
        tasks.spawn(async move { store.claim(now, vec![claim]).await.unwrap().remove(0).unwrap() });
    }
    let leases = tasks.join_all().await;
    let jobs = counted(leases.iter().flatten().map(|lease| lease.job_id));
    assert_eq!(jobs, counted(accepted.jobs.iter().map(|job| job.id)), "each job has one lease");
}
