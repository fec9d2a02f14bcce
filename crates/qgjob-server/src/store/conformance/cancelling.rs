//! Cancelling.

use qgjob_core::api::agents::Order;
use qgjob_core::model::attempt::Outcome;
use qgjob_core::model::device;
use qgjob_core::model::evidence::Stop;
use qgjob_core::model::job::{Conclusion, Reason, Status};
use qgjob_core::model::refusal::Refusal;

use super::world::{World, acme, key, org, stopped};
use crate::store::{Cancel, Scope};

pub async fn a_waiting_job_ends_at_once(w: &mut World) {
    let queued = w.submit(1).await;
    let due = w.now + jiff::SignedDuration::from_hours(1);
    let scheduled = w.submit_with(1, |run| run.options.not_before = Some(due)).await;
    for run in [&queued, &scheduled] {
        let id = run.jobs[0].id;
        for _ in 0..2 {
            w.store.cancel(w.now, &Scope::Org(acme()), Cancel::Job(id)).await.unwrap().unwrap();
        }
        let job = w.job(id).await;
        assert_eq!((job.conclusion, job.reason), (Some(Conclusion::Cancelled), Some(Reason::Cancelled)));
        assert_eq!(w.run(run.run.id).await.conclusion, Some(Conclusion::Cancelled));
    }
    w.wait(4000);
    assert_eq!(w.sweep().await.became_due, 0);
    let rack = w.rack("rack", 1).await;
    let group = w.group(&queued).await;
    assert_eq!(w.claim(&rack, 0, group).await, None);
}

pub async fn an_agent_cannot_cancel(w: &mut World) {
    let accepted = w.submit(1).await;
    let group = w.group(&accepted).await;
    let rack = w.rack("rack", 1).await;
    let lease = w.claim(&rack, 0, group).await.unwrap();
    let finished = w.finish(&rack, &lease, stopped(Stop::Cancelled)).await;
    assert_eq!((finished.judgement.reason, finished.conclusion), (Reason::AgentFault, None));
    let job = w.job(lease.job_id).await;
    assert_eq!((job.status, job.conclusion, job.infra_faults), (Status::Queued, None, 1));
}

pub async fn a_running_job_ends_and_its_device_follows(w: &mut World) {
    let accepted = w.submit(3).await;
    let group = w.group(&accepted).await;
    let rack = w.rack("rack", 2).await;
    let (obedient, silent) =
        (w.claim(&rack, 0, group).await.unwrap(), w.claim(&rack, 1, group).await.unwrap());
    for lease in [&obedient, &silent] {
        w.store.cancel(w.now, &Scope::All, Cancel::Job(lease.job_id)).await.unwrap().unwrap();
        assert_eq!(w.job(lease.job_id).await.conclusion, Some(Conclusion::Cancelled));
        assert_eq!(w.device(lease.device_id).await.state, device::State::Busy);
    }
    assert_eq!(w.claim(&rack, 0, group).await, None, "the device is busy until it is clean");
    assert_eq!(w.renew(&rack, &obedient).await, Order::Cancel);
    let reply = w.heartbeat(&rack, false, &[&obedient]).await.unwrap();
    assert_eq!(reply.held[0].order, Order::Cancel);
    let finished = w.finish(&rack, &obedient, stopped(Stop::Cancelled)).await;
    assert_eq!(
        (finished.judgement.outcome, finished.conclusion),
        (Outcome::Cancelled, Some(Conclusion::Cancelled))
    );
    assert_eq!(w.device(obedient.device_id).await.state, device::State::Idle);
    w.wait(40);
    assert_eq!(w.sweep().await.leases_expired, 1);
    assert_eq!(w.device(silent.device_id).await.attempt_id, None);
    assert_eq!(
        w.job(silent.job_id).await.conclusion,
        Some(Conclusion::Cancelled),
        "a lost attempt changes nothing"
    );
    assert!(w.claim(&rack, 0, group).await.is_some());
}

pub async fn a_job_that_ended_stays(w: &mut World) {
    let accepted = w.submit(1).await;
    let group = w.group(&accepted).await;
    let rack = w.rack("rack", 1).await;
    let lease = w.claim(&rack, 0, group).await.unwrap();
    w.pass(&rack, &lease).await;
    let refusal = w.store.cancel(w.now, &Scope::All, Cancel::Job(lease.job_id)).await.unwrap().unwrap_err();
    assert_eq!(refusal, Refusal::WrongStatus { command: "cancel", status: Status::Completed });
    w.store.cancel(w.now, &Scope::All, Cancel::Run(accepted.run.id)).await.unwrap().unwrap();
    assert_eq!(w.run(accepted.run.id).await.conclusion, Some(Conclusion::Passed));
}

pub async fn a_run_ends_whole(w: &mut World) {
    let accepted = w.submit(5).await;
    let group = w.group(&accepted).await;
    let rack = w.rack("rack", 2).await;
    let done = w.claim(&rack, 0, group).await.unwrap();
    w.pass(&rack, &done).await;
    let running = w.claim(&rack, 1, group).await.unwrap();
    w.store.cancel(w.now, &Scope::All, Cancel::Run(accepted.run.id)).await.unwrap().unwrap();
    let run = w.run(accepted.run.id).await;
    assert_eq!((run.jobs.passed, run.jobs.cancelled), (1, 4));
    assert_eq!(run.conclusion, Some(Conclusion::Cancelled));
    // The race of a verdict with a cancel has one end: what was first.
    let finished = w.pass(&rack, &running).await;
    assert_eq!(
        (finished.judgement.outcome, finished.conclusion),
        (Outcome::Passed, Some(Conclusion::Cancelled))
    );
    assert_eq!(w.run(accepted.run.id).await.jobs.cancelled, 4);
}

pub async fn others_cannot_cancel(w: &mut World) {
    let accepted = w.submit_keyed("k", 1).await;
    let other = Scope::Org(org("other"));
    let (ci, _) = key("k", 1).unwrap();
    for what in [Cancel::Job(accepted.jobs[0].id), Cancel::Run(accepted.run.id), Cancel::Key(acme(), ci)] {
        let refusal = w.store.cancel(w.now, &other, what).await.unwrap().unwrap_err();
        assert!(matches!(refusal, Refusal::NotFound { .. }));
    }
    assert_eq!(w.job(accepted.jobs[0].id).await.status, Status::Queued);
}
