//! The conformance suite on SQLite, and what only an embedded store must do.

mod crash;
mod disk;
mod file;

use std::sync::Arc;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::store::conformance;
use crate::store::conformance::walk::{step, walk};
use crate::store::conformance::world::World;

fn fresh(folder: &TempDir) -> Sqlite {
    Sqlite::open(&folder.path().join("qgjob.db"), Rules::default()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_property_of_a_store_holds() {
    let mut broken = Vec::new();
    for (name, property) in conformance::ALL {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(fresh(&folder));
        if tokio::spawn(property(store)).await.is_err() {
            broken.push(*name);
        }
    }
    assert!(broken.is_empty(), "these do not hold, see above: {broken:?}");
}

/// Keeps the writer inside a transaction until it is told to go on.
async fn occupy(store: &Arc<Sqlite>) -> (tokio::task::JoinHandle<Result<()>>, std::sync::mpsc::Sender<()>) {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let (begun, began) = tokio::sync::oneshot::channel();
    let store = Arc::clone(store);
    let mut begun = Some(begun);
    let verb = move |_: &mut Tx<'_>| {
        begun.take().unwrap().send(()).unwrap();
        wait.recv().unwrap();
        Ok(())
    };
    let busy = tokio::spawn(async move { store.write(verb).await });
    began.await.unwrap();
    (busy, go)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_verbs_keeps_the_invariants(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        runtime.block_on(walk(Arc::new(fresh(&folder)), &steps));
    }
}

#[test]
fn a_second_server_on_the_same_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = fresh(&folder);
    let path = folder.path().join("qgjob.db");
    let Err(second) = Sqlite::open(&path, Rules::default()) else { panic!("opened twice") };
    assert!(matches!(&second, OpenError::InUse(named) if *named == path), "{second}");
    drop(first);
    fresh(&folder);
}

#[tokio::test]
async fn what_waits_together_is_committed_together() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(fresh(&folder));
    let mut world = World::new(store.clone()).await;
    let mut heard = store.subscribe();
    // While one command keeps the writer busy, 64 submissions arrive.
    let (busy, go) = occupy(&store).await;
    let mut submits = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (store, now, submission) = (Arc::clone(&store), world.now, world.submission(1, |_| ()));
        submits.spawn(async move { store.submit(now, vec![submission]).await.unwrap().remove(0).unwrap() });
    }
    while store.commands.as_ref().unwrap().capacity() > QUEUE - 64 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    go.send(()).unwrap();
    busy.await.unwrap().unwrap();
    assert_eq!(submits.join_all().await.len(), 64);
    let transaction = heard.recv().await.unwrap();
    assert_eq!(transaction.len(), 64, "one transaction told of all");
    assert!(heard.try_recv().is_err());
}

#[tokio::test]
async fn a_bug_in_one_verb_ends_only_that_verb() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(fresh(&folder));
    let mut world = World::new(store.clone()).await;
    let submission = world.submission(1, |_| ());
    let (run_id, now) = (submission.run_id, world.now);
    let result: Result<()> = store
        .write(move |tx| {
            submit::submit(tx, now, &submission)?;
            panic!("a bug, on purpose");
        })
        .await;
    assert!(matches!(result, Err(Error::Corrupt(_))), "{result:?}");
    assert!(store.run(&crate::store::Scope::All, run_id).await.unwrap().is_none());
    assert_eq!(world.submit(1).await.jobs.len(), 1);
}

#[tokio::test]
async fn a_failure_halfway_leaves_the_others_of_its_transaction() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(fresh(&folder));
    let mut world = World::new(store.clone()).await;
    let last = store.last_seq().await.unwrap();
    let (busy, go) = occupy(&store).await;
    let (good, bad, late) =
        (world.submission(2, |_| ()), world.submission(1, |_| ()), world.submission(1, |_| ()));
    let (now, bad_run) = (world.now, bad.run_id);
    let spawn = |submission: Submission, sound: bool| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let verb = move |tx: &mut Tx<'_>| {
                let accepted = submit::submit(tx, now, &submission)?;
                if sound {
                    Ok(accepted.jobs.len())
                } else {
                    Err(transaction::Stop::Corrupt("on purpose".to_owned()))
                }
            };
            store.write(verb).await
        })
    };
    let waiting = |n| {
        let store = Arc::clone(&store);
        async move {
            while store.commands.as_ref().unwrap().capacity() > QUEUE - n {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    };
    let good = spawn(good, true);
    waiting(1).await;
    let bad = spawn(bad, false);
    waiting(2).await;
    let late = spawn(late, true);
    waiting(3).await;
    go.send(()).unwrap();
    busy.await.unwrap().unwrap();
    assert_eq!((good.await.unwrap().unwrap(), late.await.unwrap().unwrap()), (2, 1));
    assert!(matches!(bad.await.unwrap(), Err(Error::Corrupt(_))));
    let all = crate::store::Scope::All;
    assert!(store.run(&all, bad_run).await.unwrap().is_none());
    let told = store.events_after(&all, EventFilter::All, last, 100).await.unwrap();
    assert_eq!(told.len(), 3, "once each, and nothing of what failed: {told:?}");
}

/// A pause in a transaction that is undone.
#[tokio::test]
async fn a_limit_that_was_undone_holds_nothing_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(fresh(&folder));
    let mut world = World::new(store.clone()).await;
    let accepted = world.submit(2).await;
    let group = world.group(&accepted).await;
    let rack = world.rack("rack", 2).await;
    let (org, now) = (accepted.run.org_id.clone(), world.now);
    let pause = OrgChange { paused: Some(true), max_running: Some(Some(1)), ..OrgChange::default() };
    let undone: Result<()> = store
        .write(move |tx| {
            limits::change_org(tx, now, &org, pause)?;
            panic!("a bug, on purpose");
        })
        .await;
    assert!(undone.is_err());
    assert!(world.claim(&rack, 0, group).await.is_some() && world.claim(&rack, 1, group).await.is_some());
}

/// What runs is counted from the rows after a restart, and after a transaction that started something was undone.
#[tokio::test]
async fn limits_hold_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let named = |run: &mut qgjob_core::api::runs::NewRun| {
        run.options.concurrency_group = Some("staging".parse().unwrap());
    };
    let (accepted, lease) = {
        let mut world = World::new(Arc::new(fresh(&folder))).await;
        let accepted = world.submit_with(3, named).await;
        let org = &accepted.run.org_id;
        let change = OrgChange { weight: Some(7), max_running: Some(Some(2)), paused: None };
        world.store.change_org(world.now, org, change).await.unwrap();
        world.store.set_app_version_paused(world.now, org, &"v9".parse().unwrap(), true).await.unwrap();
        world.store.set_concurrency_limit(world.now, org, &"other".parse().unwrap(), 4).await.unwrap();
        let last = accepted.jobs[2].id;
        world.store.promote(world.now, &crate::store::Scope::All, last).await.unwrap().unwrap();
        let group = world.group(&accepted).await;
        let rack = world.rack("rack", 1).await;
        (accepted, world.claim(&rack, 0, group).await.unwrap())
    };
    let store = Arc::new(fresh(&folder));
    let mut world = World::new(store.clone()).await;
    let org = &accepted.run.org_id;
    let limits = store.limits().await.unwrap();
    assert_eq!(limits.org(org), OrgLimits { weight: 7, max_running: Some(2), paused: false });
    assert!(limits.is_paused(org, &"v9".parse().unwrap()));
    assert_eq!(limits.concurrency(org, &"other".parse().unwrap()), 4);
    assert!(world.job(accepted.jobs[2].id).await.promoted_at.is_some());
    world.draw();
    world.wait(1);
    let group = world.group(&accepted).await;
    let rack = world.rack("again", 2).await;
    assert_eq!(world.claim(&rack, 0, group).await, None, "the job from before still runs");
    let claim = world.claim_of(&rack, 0, accepted.jobs[1].id);
    let now = world.now;
    store.set_concurrency_limit(now, org, &"staging".parse().unwrap(), 2).await.unwrap();
    let undone: Result<()> = store
        .write(move |tx| {
            assert!(claim::claim(tx, now, &claim)?.is_some());
            panic!("a bug, on purpose");
        })
        .await;
    assert!(undone.is_err());
    let second = world.claim(&rack, 0, group).await.unwrap();
    assert_eq!(world.claim(&rack, 1, group).await, None);
    assert!(second.job_id != lease.job_id);
}

#[tokio::test]
async fn a_store_opened_again_has_everything() {
    let folder = tempfile::tempdir().unwrap();
    let (accepted, epoch, last) = {
        let mut world = World::new(Arc::new(fresh(&folder))).await;
        let accepted = world.submit(3).await;
        let group = world.group(&accepted).await;
        let rack = world.rack("rack", 1).await;
        let lease = world.claim(&rack, 0, group).await.unwrap();
        world.pass(&rack, &lease).await;
        (accepted, lease.epoch, world.store.last_seq().await.unwrap())
    };
    let mut world = World::new(Arc::new(fresh(&folder))).await;
    assert_eq!(world.store.last_seq().await.unwrap(), last);
    assert_eq!(world.run(accepted.run.id).await.jobs.passed, 1);
    world.draw();
    let group = world.group(&accepted).await;
    world.wait(1);
    let rack = world.rack("again", 1).await;
    let lease = world.claim(&rack, 0, group).await.unwrap();
    assert!(lease.epoch > epoch, "epochs rise over restarts");
    world.pass(&rack, &lease).await;
}
