//! Claiming.

use qgjob_core::model::attempt::Phase;
use qgjob_core::model::device;
use qgjob_core::model::job::{self, Status};
use qgjob_core::model::refusal::Refusal;
use qgjob_core::model::selector::Target;

use super::world::{LEASE, World, broken, counted, org, phone};
use crate::store::{Cancel, Claim, Scope};

pub async fn a_job_is_leased_once_and_only_while_it_waits(w: &mut World) {
    let accepted = w.submit(3).await;
    let rack = w.rack("rack", 3).await;
    let [first, cancelled, last] = [0, 1, 2].map(|at| accepted.jobs[at].id);
    let lease = w.claim_job(&rack, 0, last).await.unwrap();
    assert_eq!(lease.job_id, last, "the job that was named, not the first");
    assert_eq!(w.claim_job(&rack, 1, last).await, None, "it runs");
    w.store.cancel(w.now, &Scope::All, Cancel::Job(cancelled)).await.unwrap().unwrap();
    assert_eq!(w.claim_job(&rack, 1, cancelled).await, None, "it is over");
    assert_eq!(w.claim_job(&rack, 1, job::Id(1)).await, None, "no such job");
    assert!(w.claim_job(&rack, 1, first).await.is_some());
    w.pass(&rack, &lease).await;
    assert_eq!(w.claim_job(&rack, 0, last).await, None, "it passed");
}

pub async fn no_build_no_lease(w: &mut World) {
    let accepted = w.submit_with(1, |run| run.app_version_id = "unbound".parse().unwrap()).await;
    let group = w.group(&accepted).await;
    let rack = w.rack("rack", 1).await;
    assert_eq!(w.claim_job(&rack, 0, accepted.jobs[0].id).await, None);
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
    let [one, two] = [0, 1].map(|at| accepted.jobs[at].id);
    let rack = w.rack("rack", 2).await;
    let claim = w.claim_of(&rack, 0, one);
    let second = Claim { claim_id: claim.claim_id.clone(), ..w.claim_of(&rack, 1, two) };
    let first = w.try_claim(claim.clone()).await.unwrap().unwrap();
    let other = w.try_claim(second).await.unwrap().unwrap();
    w.wait(20);
    let repeat = Claim { attempt_id: w.claim_of(&rack, 0, one).attempt_id, ..claim.clone() };
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
    let (group, job) = (w.group(&accepted).await, accepted.jobs[0].id);
    let mut rack = w.rack("rack", 1).await;
    let stranger = w.rack("stranger", 1).await;
    let foreign = Claim { device_id: rack.devices[0], ..w.claim_of(&stranger, 0, job) };
    assert!(matches!(w.try_claim(foreign).await.unwrap_err(), Refusal::NotFound { .. }));
    let unknown = Claim { device_id: device::Id(1), ..w.claim_of(&rack, 0, job) };
    assert!(matches!(w.try_claim(unknown).await.unwrap_err(), Refusal::NotFound { .. }));
    rack.reported[0].online = false;
    w.heartbeat(&rack, false, &[]).await.unwrap();
    assert_eq!(w.claim(&rack, 0, group).await, None, "an offline device");
    rack.reported[0].online = true;
    w.heartbeat(&rack, false, &[]).await.unwrap();
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

pub async fn a_job_in_backoff_waits(w: &mut World) {
    let accepted = w.submit(1).await;
    let job = accepted.jobs[0].id;
    let rack = w.rack("rack", 2).await;
    let lease = w.claim_job(&rack, 0, job).await.unwrap();
    let queued_at = w.now;
    w.wait(1);
    w.finish(&rack, &lease, broken()).await;
    assert_eq!(w.claim_job(&rack, 1, job).await, None, "it waits out its backoff");
    let waiting = w.store.waiting_jobs().await.unwrap().remove(0);
    assert_eq!(
        (waiting.queued_at, &waiting.avoid[..]),
        (queued_at, &rack.devices[..1]),
        "it keeps its place"
    );
    w.wait(5);
    let second = w.claim_job(&rack, 1, job).await.unwrap();
    assert_eq!((second.number, second.job_id), (2, job));
}

pub async fn the_board_learns_who_runs_what(w: &mut World) {
    let accepted = w.submit(2).await;
    let [job, other] = [0, 1].map(|at| accepted.jobs[at].id);
    let rack = w.rack("rack", 2).await;
    w.claim_job(&rack, 0, job).await.unwrap();
    w.wait(1);
    let lease = w.claim_job(&rack, 1, other).await.unwrap();
    w.store.cancel(w.now, &Scope::All, Cancel::Job(job)).await.unwrap().unwrap();
    let running = w.store.running_jobs().await.unwrap();
    let seen: Vec<_> = running.iter().map(|run| (run.job.id, run.device_id, run.over)).collect();
    assert_eq!(seen, [(job, rack.devices[0], true), (other, rack.devices[1], false)]);
    assert_eq!(running[1].started_at, w.now);
    let groups: Vec<_> = w.store.groups().await.unwrap().into_iter().map(|group| group.id).collect();
    assert_eq!(groups, [running[0].job.group_id]);
    w.pass(&rack, &lease).await;
    assert_eq!(w.store.running_jobs().await.unwrap().len(), 1);
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
    let rack = w.rack("rack", 30).await;
    let mut tasks = tokio::task::JoinSet::new();
    for device in 0..30 {
        let job = accepted.jobs[device % 20].id;
        let (store, now, claim) = (w.store.clone(), w.now, w.claim_of(&rack, device, job));
        tasks.spawn(async move { store.claim(now, vec![claim]).await.unwrap().remove(0).unwrap() });
    }
    let leases = tasks.join_all().await;
    let jobs = counted(leases.iter().flatten().map(|lease| lease.job_id));
    assert_eq!(jobs, counted(accepted.jobs.iter().map(|job| job.id)), "each job has one lease");
}
