//! Several servers on one database.

use qgjob_core::model::event::Fact;
use qgjob_core::model::limits::OrgChange;
use qgjob_core::model::token::Kind;
use tokio::task::JoinSet;

use super::*;
use crate::store::conformance::history;
use crate::store::conformance::world::{LEASE, Rack, World, acme, all_events, broken, counted, key};

/// Two servers, and a world that speaks to the first.
async fn two() -> (Database, [Arc<Postgres>; 2], World) {
    let database = Cluster::shared().database().await;
    let servers = [Arc::new(server(&database).await), Arc::new(server(&database).await)];
    let world = World::new(servers[0].clone()).await;
    (database, servers, world)
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_at_once_at_two_servers_share_the_jobs() {
    let (_database, servers, mut w) = two().await;
    let accepted = w.submit(40).await;
    let rack = w.rack("rack", 80).await;
    let mut tasks = JoinSet::new();
    // Each job is wanted by two devices, one at each server.
    for device in 0..80 {
        let claim = w.claim_of(&rack, device, accepted.jobs[device % 40].id);
        let (store, now) = (servers[device / 40].clone(), w.now);
        tasks.spawn(async move { store.claim(now, vec![claim]).await.unwrap().remove(0).unwrap() });
    }
    let leases = tasks.join_all().await;
    let jobs = counted(leases.iter().flatten().map(|lease| lease.job_id));
    assert_eq!(jobs, counted(accepted.jobs.iter().map(|job| job.id)), "each job has one lease");
    for server in servers {
        history::check(&*server).await;
    }
}

/// Takes jobs at one server until none wait, and ends them.
async fn work_off(store: Arc<Postgres>, mut w: World, rack: Rack, group: group::Id) {
    w.store = store;
    let mut device = 0;
    loop {
        device = (device + 1) % rack.devices.len();
        let waiting = w.store.waiting_jobs().await.unwrap();
        let Some(job) = waiting.iter().find(|job| job.group_id == group).map(|job| job.id) else { return };
        if let Some(lease) = w.claim_job(&rack, device, job).await {
            w.pass(&rack, &lease).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_see_the_same_events_in_one_order_while_two_servers_write() {
    let (_database, servers, mut w) = two().await;
    let before = w.store.last_seq().await.unwrap();
    let heard = servers.clone().map(|server| server.subscribe());
    let accepted = w.submit(40).await;
    let group = w.group(&accepted).await;
    let racks = [w.rack("one", 3).await, w.rack("two", 3).await];
    let (stop, stopped) = tokio::sync::watch::channel(false);
    // Whoever asks for what comes after the number that it has seen misses nothing, at either server.
    let mut readers = JoinSet::new();
    for server in servers.clone() {
        let stopped = stopped.clone();
        readers.spawn(async move {
            let mut last = before;
            loop {
                let is_last = *stopped.borrow();
                for event in server.events_after(&Scope::All, EventFilter::All, last, 7).await.unwrap() {
                    assert_eq!(event.seq, last + 1, "an event came late");
                    last = event.seq;
                }
                if is_last && last == server.last_seq().await.unwrap() {
                    return last;
                }
            }
        });
    }
    let mut writers = JoinSet::new();
    for (server, rack) in servers.clone().into_iter().zip(racks) {
        let mut own = World::new(w.store.clone()).await;
        // Ids of its own.
        own.wait(
            if rack.devices[0] < rack.devices[1] { 1 } else { 2 } + i64::from(writers.len() as u32) * 10,
        );
        writers.spawn(work_off(server, own, rack, group));
    }
    writers.join_all().await;
    stop.send(true).unwrap();
    let ends = readers.join_all().await;
    let stored: Vec<Event> =
        all_events(&*w.store).await.into_iter().filter(|event| event.seq > before).collect();
    assert!(ends.iter().all(|end| *end == stored.last().unwrap().seq));
    assert_eq!(stored.iter().filter(|event| matches!(event.fact, Fact::JobCompleted { .. })).count(), 40);
    for mut heard in heard {
        let mut live = Vec::new();
        while live.len() < stored.len() {
            let events = heard.recv().await.unwrap();
            // The other server may tell of what was before only now.
            live.extend(events.iter().filter(|event| event.seq > before).cloned());
        }
        assert_eq!(live, stored, "each once, in the order of their numbers");
    }
    history::check(&*w.store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_at_once_at_two_servers_makes_one_run() {
    let (_database, servers, mut w) = two().await;
    for round in 0..10 {
        let text = format!("key-{round}");
        let mut tasks = JoinSet::new();
        for server in servers.iter().chain(&servers) {
            let submission = Submission { key: key(&text, 1), ..w.submission(2, |_| ()) };
            let (store, now) = (server.clone(), w.now);
            tasks.spawn(async move { store.submit(now, vec![submission]).await.unwrap().remove(0).unwrap() });
        }
        let answers = tasks.join_all().await;
        assert_eq!(counted(answers.iter().map(|accepted| accepted.run.id)).len(), 1);
        assert_eq!(answers.iter().filter(|accepted| !accepted.replayed).count(), 1);
        assert!(answers.iter().all(|accepted| accepted.jobs == answers[0].jobs));
    }
    history::check(&*w.store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_changed_at_one_server_holds_at_the_other() {
    let (_database, [one, two], mut w) = two().await;
    let accepted = w.submit(6).await;
    let rack = w.rack("rack", 6).await;
    let job = |at: usize| accepted.jobs[at].id;
    let (token, hash) = w.token(Kind::Admin, None);
    one.add_token(token.clone(), hash).await.unwrap();
    assert_eq!(two.token_by_hash(hash, w.now).await.unwrap(), Some(token.clone()));
    one.remove_token(token.id).await.unwrap().unwrap();
    assert_eq!(two.token_by_hash(hash, w.now).await.unwrap(), None);

    w.store = two.clone();
    assert!(w.claim_job(&rack, 0, job(0)).await.is_some());
    let pause = |paused| OrgChange { paused: Some(paused), ..OrgChange::default() };
    one.change_org(w.now, &acme(), pause(true)).await.unwrap();
    assert_eq!(w.claim_job(&rack, 1, job(1)).await, None, "paused at the other server");
    two.change_org(w.now, &acme(), pause(false)).await.unwrap();
    one.set_app_version_paused(w.now, &acme(), &"v1".parse().unwrap(), true).await.unwrap();
    assert_eq!(w.claim_job(&rack, 1, job(1)).await, None, "the app version, too");
    two.set_app_version_paused(w.now, &acme(), &"v1".parse().unwrap(), false).await.unwrap();

    one.set_device_drained(w.now, rack.devices[1], true).await.unwrap().unwrap();
    assert_eq!(w.claim_job(&rack, 1, job(1)).await, None, "a device drained at the other server");
    one.set_device_drained(w.now, rack.devices[1], false).await.unwrap().unwrap();
    assert!(w.claim_job(&rack, 1, job(1)).await.is_some());
    history::check(&*two).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_at_once_at_two_servers_do_not_exceed_a_cap_or_a_concurrency_group() {
    let (_database, servers, mut w) = two().await;
    let named = |run: &mut qgjob_core::api::runs::NewRun| {
        run.options.concurrency_group = Some("staging".parse().unwrap());
    };
    let (plain, named) = (w.submit(10).await, w.submit_with(10, named).await);
    let cap = OrgChange { max_running: Some(Some(3)), ..OrgChange::default() };
    servers[0].change_org(w.now, &acme(), cap).await.unwrap();
    let rack = w.rack("rack", 20).await;
    let mut tasks = JoinSet::new();
    for device in 0..20 {
        let jobs = if device % 4 < 2 { &plain.jobs } else { &named.jobs };
        let claim = w.claim_of(&rack, device, jobs[device / 2].id);
        let (store, now) = (servers[device % 2].clone(), w.now);
        tasks.spawn(async move { store.claim(now, vec![claim]).await.unwrap().remove(0).unwrap() });
    }
    let leases: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    assert_eq!(leases.len(), 3, "the cap");
    let of_name = leases.iter().filter(|lease| lease.run_id == named.run.id).count();
    assert!(of_name <= 1, "{of_name} of a concurrency group");
    history::check(&*w.store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sweeps_at_once_do_each_duty_once() {
    let (_database, servers, mut w) = two().await;
    let accepted = w.submit(10).await;
    let rack = w.rack("rack", 10).await;
    for device in 0..10 {
        w.claim_job(&rack, device, accepted.jobs[device].id).await.unwrap();
    }
    w.wait(LEASE.as_secs() as i64 + 1);
    let mut tasks = JoinSet::new();
    for server in servers.iter().cycle().take(8) {
        let (server, now, random) = (server.clone(), w.now, w.draw());
        let (grace, silent) = (Duration::from_secs(60), Duration::from_secs(90));
        tasks.spawn(async move { server.sweep(now, grace, silent, random).await.unwrap() });
    }
    let swept: u32 = tasks.join_all().await.iter().map(|swept| swept.leases_expired).sum();
    let left = w.sweep().await.leases_expired;
    assert_eq!(swept + left, 10, "each lease expired once");
    history::check(&*w.store).await;
}

/// An agent calls at any server; its finish is known at all of them.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_moves_between_servers() {
    let (_database, [one, two], mut w) = two().await;
    let accepted = w.submit(2).await;
    let rack = w.rack("rack", 1).await;
    let claim = w.claim_of(&rack, 0, accepted.jobs[0].id);
    let lease = w.try_claim(claim.clone()).await.unwrap().unwrap();
    w.store = two.clone();
    assert_eq!(w.try_claim(claim.clone()).await.unwrap(), Some(lease.clone()), "the same claim elsewhere");
    assert_eq!(two.leases_of_claim(rack.id, &claim.claim_id, LEASE).await.unwrap(), vec![lease.clone()]);
    let finished = w.finish(&rack, &lease, broken()).await;
    w.store = one;
    let again = w.finish(&rack, &lease, broken()).await;
    assert_eq!((again.judgement, again.conclusion), (finished.judgement, finished.conclusion));
    history::check(&*two).await;
}
