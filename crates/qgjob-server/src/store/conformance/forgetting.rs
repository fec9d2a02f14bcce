//! What has been over for long is forgotten.

use std::time::Duration;

use qgjob_core::model::job::Status;

use super::world::World;
use crate::store::{EventFilter, Forgotten, Scope};

const DAY: i64 = 24 * 60 * 60;
const KEEP: Duration = Duration::from_secs(30 * DAY as u64);

pub async fn old_runs_go_with_all_that_is_theirs(w: &mut World) {
    let accepted = w.submit_keyed("old", 1).await;
    let group = w.group(&accepted).await;
    let rack = w.rack("rack", 1).await;
    let lease = w.claim(&rack, 0, group).await.unwrap();
    w.pass(&rack, &lease).await;
    w.wait(29 * DAY);
    assert_eq!(w.store.forget(w.now, KEEP, 100).await.unwrap(), Forgotten::default());
    let last = w.store.last_seq().await.unwrap();
    w.wait(2 * DAY);
    let young = w.submit(1).await;
    let forgotten = w.store.forget(w.now, KEEP, 100).await.unwrap();
    assert_eq!(forgotten, Forgotten { runs: 1, attempts: vec![lease.attempt_id] });
    let (all, run) = (Scope::All, accepted.run.id);
    assert!(w.store.run(&all, run).await.unwrap().is_none());
    assert!(w.store.job(&all, lease.job_id).await.unwrap().is_none());
    assert!(w.store.attempt(lease.attempt_id).await.unwrap().is_none());
    assert!(w.store.tries(lease.job_id).await.unwrap().is_empty());
    assert!(w.store.events_after(&all, EventFilter::Run(run), 0, 100).await.unwrap().is_empty());
    assert!(w.store.last_seq().await.unwrap() > last, "numbers go on");
    assert_eq!(w.run(young.run.id).await.status, Status::Queued);
    assert!(!w.submit_keyed("old", 1).await.replayed, "its key is free again");
}

pub async fn what_is_not_over_stays(w: &mut World) {
    let accepted = w.submit(2).await;
    let group = w.group(&accepted).await;
    let rack = w.rack("rack", 1).await;
    let lease = w.claim(&rack, 0, group).await.unwrap();
    w.pass(&rack, &lease).await;
    w.wait(365 * DAY);
    assert_eq!(w.store.forget(w.now, KEEP, 100).await.unwrap(), Forgotten::default());
    assert_eq!(w.run(accepted.run.id).await.jobs.queued, 1);
    assert_eq!(w.store.forget(w.now, Duration::MAX, 100).await.unwrap(), Forgotten::default());
}

pub async fn a_call_forgets_a_bounded_part(w: &mut World) {
    let rack = w.rack("rack", 1).await;
    for _ in 0..3 {
        let accepted = w.submit(2).await;
        let group = w.group(&accepted).await;
        for _ in 0..2 {
            let lease = w.claim(&rack, 0, group).await.unwrap();
            w.pass(&rack, &lease).await;
        }
        w.wait(1);
    }
    w.wait(8 * DAY);
    // A shorter time than keys are remembered counts as that time.
    let forget = async |w: &World, most| w.store.forget(w.now, Duration::ZERO, most).await.unwrap().runs;
    assert_eq!(forget(w, 1).await, 1, "at least one");
    assert_eq!(forget(w, 4).await, 2);
    assert_eq!(forget(w, 4).await, 0);
    w.submit(1).await;
}
