//! What PostgreSQL and the way to it can do to a server.

use qgjob_core::model::run;
use tokio::task::JoinSet;

use super::*;
use crate::store::conformance::history;
use crate::store::conformance::world::{World, key};

/// Ends every connection but the one that asks.
const CUT: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()";

/// Keeps both lanes waiting for the counter of events until it is dropped or rolled back.
async fn occupy(database: &Database) -> tokio_postgres::Client {
    let client = database.connect().await;
    client.batch_execute("BEGIN; SELECT 1 FROM counters FOR UPDATE").await.unwrap();
    client
}

/// Waits until so many backends wait for a lock.
async fn waiting(database: &Database, count: i64) {
    // Not in the transaction that holds the lock: that would see the same for ever.
    let client = database.connect().await;
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) < count {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_cost_an_answer_and_nothing_else() {
    let cluster = Cluster::shared();
    let database = cluster.database().await;
    let (store, other) = (Arc::new(server(&database).await), Arc::new(server(&database).await));
    let mut w = World::new(store.clone()).await;
    let mut heard = other.subscribe();
    let before = w.store.last_seq().await.unwrap();
    let admin = database.connect().await;
    let mut accepted: Vec<run::Id> = Vec::new();
    let mut refused = 0;
    for round in 0..30 {
        let mut tasks = JoinSet::new();
        for lane in 0..8 {
            let text = format!("{round}-{lane}");
            let submission = Submission { key: key(&text, 1), ..w.submission(2, |_| ()) };
            let (store, now) = (store.clone(), w.now);
            tasks.spawn(async move {
                let first = store.submit(now, vec![submission.clone()]).await;
                let was_refused = match &first {
                    Ok(_) => false,
                    Err(Error::Unavailable(_)) => true,
                    Err(other) => panic!("{other}"),
                };
                // Whoever was refused cannot know whether it happened. With the key it asks again.
                let mut answer = first;
                while answer.is_err() {
                    answer = store.submit(now, vec![submission.clone()]).await;
                }
                (answer.unwrap().remove(0).unwrap().run.id, was_refused)
            });
        }
        if round % 3 != 0 {
            // Into any part of what they do.
            tokio::time::sleep(Duration::from_micros(317 * round)).await;
            admin.batch_execute(CUT).await.unwrap();
        }
        for (run, was_refused) in tasks.join_all().await {
            accepted.push(run);
            refused += u32::from(was_refused);
        }
    }
    assert!(refused > 0, "the cuts came at the wrong time");
    assert_eq!(
        store.runs(&Scope::All, &RunFilter::default(), None, 1000).await.unwrap().len(),
        accepted.len()
    );
    for id in accepted {
        assert_eq!(w.run(id).await.jobs.queued, 2, "whole");
    }
    history::check(&*store).await;
    // The other server's connections were cut, too; its feed goes on where it was.
    let last = store.last_seq().await.unwrap();
    let mut next = before + 1;
    while next <= last {
        for event in heard.recv().await.unwrap().iter().filter(|event| event.seq > before) {
            assert_eq!(event.seq, next, "without gap or duplicate");
            next += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_crash_of_postgresql() {
    let cluster = Arc::new(Cluster::new(true));
    let database = cluster.database().await;
    let store = Arc::new(server(&database).await);
    let mut w = World::new(store.clone()).await;
    let mut acknowledged: Vec<run::Id> = Vec::new();
    for round in 0..4u64 {
        let mut tasks = JoinSet::new();
        let (crash, crashed) = tokio::sync::watch::channel(false);
        for _ in 0..8 {
            let mut own = World::new(store.clone()).await;
            own.wait(3600 * (1 + acknowledged.len() as i64) + tasks.len() as i64);
            let (store, crashed) = (store.clone(), crashed.clone());
            tasks.spawn(async move {
                let mut acknowledged = Vec::new();
                while !*crashed.borrow() {
                    let submission = own.submission(3, |_| ());
                    match store.submit(own.now, vec![submission]).await {
                        Ok(mut answers) => acknowledged.push(answers.remove(0).unwrap().run.id),
                        Err(Error::Unavailable(_)) => return acknowledged,
                        Err(other) => panic!("{other}"),
                    }
                }
                acknowledged
            });
        }
        tokio::time::sleep(Duration::from_millis(100 + 37 * round)).await;
        cluster.crash();
        crash.send(true).unwrap();
        let before = acknowledged.len();
        acknowledged.extend(tasks.join_all().await.into_iter().flatten());
        assert!(acknowledged.len() > before, "the server worked");
        // As a readiness check would.
        while store.probe(w.now).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for id in &acknowledged[before..] {
            let (run, _) = store.run(&Scope::All, *id).await.unwrap().expect("I1: an accepted run exists");
            assert_eq!(run.jobs.queued, 3, "whole");
        }
        w.wait(1);
    }
    for id in &acknowledged {
        assert!(store.run(&Scope::All, *id).await.unwrap().is_some(), "I1: and goes on to exist");
    }
    history::check(&*store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_together_is_committed_together_and_fails_alone() {
    let cluster = Cluster::shared();
    let database = cluster.database().await;
    let store = Arc::new(server(&database).await);
    let mut w = World::new(store.clone()).await;
    let known = w.submit(1).await;
    let mut heard = store.subscribe();
    let busy = occupy(&database).await;
    let now = w.now;
    let spawn = |submission: Submission| {
        let store = store.clone();
        tokio::spawn(async move { store.submit(now, vec![submission]).await })
    };
    let submissions: Vec<Submission> = (0..67).map(|_| w.submission(1, |_| ())).collect();
    let mut submissions = submissions.into_iter();
    // One after the other, so that each of them has a lane.
    let mut sound: Vec<_> = vec![spawn(submissions.next().unwrap())];
    waiting(&database, 1).await;
    sound.push(spawn(submissions.next().unwrap()));
    waiting(&database, 2).await;
    sound.extend(submissions.map(spawn));
    let bad = spawn(Submission { run_id: known.run.id, ..w.submission(1, |_| ()) });
    while store.inbox.waiting() < 66 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    busy.batch_execute("ROLLBACK").await.unwrap();
    let bad = bad.await.unwrap();
    assert!(matches!(bad, Err(Error::Corrupt(_))), "a run of that id is there: {bad:?}");
    for answer in sound {
        answer.await.unwrap().unwrap().remove(0).unwrap();
    }
    // Once more, without the bad one: all that waited in one transaction.
    while heard.try_recv().is_ok() {}
    let busy = occupy(&database).await;
    let mut sound: Vec<_> = vec![spawn(w.submission(1, |_| ()))];
    waiting(&database, 1).await;
    sound.push(spawn(w.submission(1, |_| ())));
    waiting(&database, 2).await;
    for _ in 0..64 {
        sound.push(spawn(w.submission(1, |_| ())));
    }
    while store.inbox.waiting() < 64 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    busy.batch_execute("ROLLBACK").await.unwrap();
    for answer in sound {
        answer.await.unwrap().unwrap().remove(0).unwrap();
    }
    let mut most = 0;
    while let Ok(events) = heard.try_recv() {
        most = most.max(events.len());
    }
    assert!(most >= 64, "at most {most} were told together");
    history::check(&*store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_held_for_long_makes_the_store_unavailable_and_no_more() {
    let cluster = Cluster::shared();
    let database = cluster.database().await;
    let url = format!("{}?options=-c%20lock_timeout%3D100ms", database.url());
    let store = Arc::new(Postgres::open(&url, Rules::default()).await.unwrap());
    let mut w = World::new(store.clone()).await;
    let known = w.submit(1).await;
    let holder = database.connect().await;
    holder.batch_execute("BEGIN; LOCK TABLE jobs").await.unwrap();
    let submission = w.submission(1, |_| ());
    let refused = store.submit(w.now, vec![submission.clone()]).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    let read = store.job(&Scope::All, known.jobs[0].id).await;
    assert!(matches!(read, Err(Error::Unavailable(_))), "{read:?}");
    holder.batch_execute("ROLLBACK").await.unwrap();
    w.try_submit(submission).await.unwrap();
    history::check(&*store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bug_in_one_verb_ends_only_that_verb() {
    let cluster = Cluster::shared();
    let database = cluster.database().await;
    let store = Arc::new(server(&database).await);
    let mut w = World::new(store.clone()).await;
    let submission = w.submission(1, |_| ());
    let (run_id, now, asked) = (submission.run_id, w.now, submission.clone());
    let needs = move |needs: &mut Needs| submit::submit_needs(&asked, needs);
    let verb = move |work: &mut Work| -> Verb<()> {
        submit::submit(work, now, &submission)?;
        panic!("a bug, on purpose");
    };
    let result = store.inbox.run(needs, verb, as_it_is).await;
    assert!(matches!(result, Err(Error::Corrupt(_))), "{result:?}");
    assert!(store.run(&Scope::All, run_id).await.unwrap().is_none());
    assert_eq!(w.submit(1).await.jobs.len(), 1);
    history::check(&*store).await;
}

/// Locks in another order than everybody's: PostgreSQL ends one of the two, and the store runs its own again.
#[tokio::test(flavor = "multi_thread")]
async fn a_deadlock_is_run_again() {
    let cluster = Cluster::shared();
    let database = cluster.database().await;
    let store = Arc::new(server(&database).await);
    let mut w = World::new(store.clone()).await;
    let runs = [w.submit(1).await, w.submit(1).await];
    let (low, high) =
        (runs[0].jobs[0].id.min(runs[1].jobs[0].id), runs[0].jobs[0].id.max(runs[1].jobs[0].id));
    let stranger = database.connect().await;
    // So that it is always the store's transaction that PostgreSQL ends.
    stranger.batch_execute("SET deadlock_timeout = '1min'; BEGIN").await.unwrap();
    let lock = "SELECT 1 FROM jobs WHERE id = $1 FOR UPDATE";
    stranger.query_one(lock, &[&values::Bin(high.0)]).await.unwrap();
    let (own, now) = (store.clone(), w.now);
    let gives_up = tokio::spawn(async move { own.give_up(now, vec![low, high], "broken").await });
    waiting(&database, 1).await;
    stranger.query_one(lock, &[&values::Bin(low.0)]).await.unwrap();
    stranger.batch_execute("COMMIT").await.unwrap();
    assert!(gives_up.await.unwrap().unwrap().iter().all(|answer| answer.is_ok()));
    history::check(&*store).await;
}
