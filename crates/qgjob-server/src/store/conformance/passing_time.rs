//! What happens because time passes.

use qgjob_core::api::agents::Order;
use qgjob_core::model::attempt::Outcome;
use qgjob_core::model::job::{Conclusion, Reason, Status};
use qgjob_core::model::{agent, device};

use super::world::{World, broken};
use crate::store::Swept;

pub async fn an_expired_lease_is_lost(w: &mut World) {
    let accepted = w.submit(1).await;
    let group = w.group(&accepted).await;
    let rack = w.rack("rack", 2).await;
    let lease = w.claim(&rack, 0, group).await.unwrap();
    w.wait(29);
    assert_eq!(w.sweep().await, Swept::default());
    w.wait(1);
    assert_eq!(w.sweep().await, Swept { leases_expired: 1, ..Swept::default() });
    assert_eq!(w.sweep().await, Swept::default());
    let (attempt, _) = w.store.attempt(lease.attempt_id).await.unwrap().unwrap();
    assert_eq!((attempt.outcome, attempt.ended_at), (Some(Outcome::Lost), Some(w.now)));
    let job = w.job(lease.job_id).await;
    assert_eq!((job.status, job.reason, job.infra_faults), (Status::Queued, Some(Reason::LeaseLost), 1));
    assert_eq!(w.device(rack.devices[0]).await.attempt_id, None);
    assert_eq!(w.renew(&rack, &lease).await, Order::Abandon);
    let reply = w.heartbeat(&rack, false, &[&lease]).await.unwrap();
    assert_eq!(reply.held[0].order, Order::Abandon);
}

pub async fn a_renewed_lease_holds(w: &mut World) {
    let accepted = w.submit(2).await;
    let group = w.group(&accepted).await;
    let rack = w.rack("rack", 2).await;
    let (by_renew, by_heartbeat) =
        (w.claim(&rack, 0, group).await.unwrap(), w.claim(&rack, 1, group).await.unwrap());
    for _ in 0..5 {
        w.wait(20);
        assert_eq!(w.renew(&rack, &by_renew).await, Order::GoOn { lease_ms: 30_000 });
        let reply = w.heartbeat(&rack, false, &[&by_heartbeat]).await.unwrap();
        assert_eq!(reply.held[0].order, Order::GoOn { lease_ms: 30_000 });
        assert_eq!(w.sweep().await, Swept::default());
    }
    w.wait(31);
    assert_eq!(w.sweep().await.leases_expired, 2);
}

pub async fn the_queue_deadline_ends_the_first_wait(w: &mut World) {
    let accepted = w.submit_with(2, |run| run.options.queue_timeout_ms = 60_000).await;
    let group = w.group(&accepted).await;
    let rack = w.rack("rack", 1).await;
    let lease = w.claim(&rack, 0, group).await.unwrap();
    w.wait(20);
    w.finish(&rack, &lease, broken()).await;
    w.wait(39);
    assert_eq!(w.sweep().await.deadlines_missed, 0);
    w.wait(1);
    assert_eq!(w.sweep().await.deadlines_missed, 1);
    let waited = w.job(accepted.jobs[1].id).await;
    assert_eq!((waited.conclusion, waited.reason), (Some(Conclusion::Errored), Some(Reason::QueueDeadline)));
    assert_eq!(w.job(lease.job_id).await.status, Status::Queued, "a job that had a device goes on waiting");
    w.wait(100_000);
    assert_eq!(w.sweep().await.deadlines_missed, 0);
}

pub async fn an_attempt_that_outlives_its_timeout_ends(w: &mut World) {
    let accepted = w.submit_with(1, |run| run.options.timeout_ms = 30_000).await;
    let group = w.group(&accepted).await;
    let rack = w.rack("rack", 1).await;
    let lease = w.claim(&rack, 0, group).await.unwrap();
    for _ in 0..4 {
        w.wait(22);
        assert_eq!(w.renew(&rack, &lease).await, Order::GoOn { lease_ms: 30_000 });
        w.sweep().await;
    }
    // 88 s of 30 s and 60 s of grace.
    assert_eq!(w.job(lease.job_id).await.status, Status::Running);
    w.wait(2);
    w.sweep().await;
    let job = w.job(lease.job_id).await;
    assert_eq!((job.conclusion, job.reason), (Some(Conclusion::TimedOut), Some(Reason::Timeout)));
    assert_eq!(w.renew(&rack, &lease).await, Order::Abandon);
}

pub async fn silent_agents_go_offline(w: &mut World) {
    let rack = w.rack("rack", 2).await;
    let told = w.told("device.changed").await;
    w.wait(91);
    assert_eq!(w.sweep().await.agents_gone, 1);
    assert_eq!(w.sweep().await.agents_gone, 0);
    assert_eq!(w.store.agents().await.unwrap()[0].state, agent::State::Offline);
    assert_eq!(w.device(rack.devices[0]).await.state, device::State::Offline);
    assert_eq!(w.told("device.changed").await, told + 2);
    w.heartbeat(&rack, false, &[]).await.unwrap();
    w.heartbeat(&rack, false, &[]).await.unwrap();
    assert_eq!(w.store.agents().await.unwrap()[0].state, agent::State::Online);
    assert_eq!(w.device(rack.devices[0]).await.state, device::State::Idle);
    assert_eq!(w.told("device.changed").await, told + 4, "a call without news is not told");
    assert_eq!(w.told("agent.changed").await, 3, "came, went, came back");
}

pub async fn a_key_is_forgotten_after_a_week(w: &mut World) {
    let first = w.submit_keyed("k", 1).await;
    w.wait(7 * 24 * 3600 - 1);
    w.sweep().await;
    let again = w.submit_keyed("k", 1).await;
    assert_eq!((again.run.id, again.replayed), (first.run.id, true));
    w.wait(1);
    w.sweep().await;
    let anew = w.submit_keyed("k", 1).await;
    assert!(anew.run.id != first.run.id && !anew.replayed);
}
