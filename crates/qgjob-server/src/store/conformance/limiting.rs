//! Limits: caps, concurrency groups, pauses, promotion.

use jiff::SignedDuration;
use qgjob_core::model::event::Fact;
use qgjob_core::model::evidence::Stop;
use qgjob_core::model::group;
use qgjob_core::model::job::{Conclusion, Reason, Status};
use qgjob_core::model::limits::{OrgChange, OrgLimits};
use qgjob_core::model::refusal::Refusal;

use super::world::{World, acme, broken, org, stopped};
use crate::store::{Accepted, Cancel, Scope};

async fn change(w: &World, change: OrgChange) -> OrgLimits {
    w.store.change_org(w.now, &acme(), change).await.expect("the store works")
}

async fn cap(w: &World, most: Option<u32>) {
    change(w, OrgChange { max_running: Some(most), ..OrgChange::default() }).await;
}

async fn pause_org(w: &World, paused: bool) {
    change(w, OrgChange { paused: Some(paused), ..OrgChange::default() }).await;
}

async fn pause(w: &World, label: &str, paused: bool) {
    let label = label.parse().expect("a good label");
    w.store.set_app_version_paused(w.now, &acme(), &label, paused).await.expect("the store works");
}

async fn limit(w: &World, name: &str, most: u32) {
    let name = name.parse().expect("a good name");
    w.store.set_concurrency_limit(w.now, &acme(), &name, most).await.expect("the store works");
}

/// One job for `label` of acme that names `name`.
async fn submit(w: &mut World, label: &str, name: Option<&str>) -> (Accepted, group::Id) {
    let accepted = w
        .submit_with(1, |run| {
            run.app_version_id = label.parse().expect("a good label");
            run.options.concurrency_group = name.map(|name| name.parse().expect("a good name"));
        })
        .await;
    let group = w.group(&accepted).await;
    (accepted, group)
}

pub async fn limits_are_kept_told_and_changed_in_part(w: &mut World) {
    assert_eq!(w.store.limits().await.unwrap().org(&acme()), OrgLimits::default());
    let weight = OrgChange { weight: Some(3), ..OrgChange::default() };
    for _ in 0..2 {
        assert_eq!(change(w, weight).await.weight, 3);
    }
    cap(w, Some(2)).await;
    pause_org(w, true).await;
    pause(w, "v1", true).await;
    pause(w, "v1", true).await;
    limit(w, "staging", 4).await;
    let limits = w.store.limits().await.unwrap();
    assert_eq!(limits.org(&acme()), OrgLimits { weight: 3, max_running: Some(2), paused: true });
    assert_eq!(limits.org(&org("other")), OrgLimits::default());
    let (v1, v2) = ("v1".parse().unwrap(), "v2".parse().unwrap());
    assert!(limits.is_paused(&acme(), &v1) && !limits.is_paused(&acme(), &v2));
    assert!(!limits.is_paused(&org("other"), &v1));
    assert_eq!(limits.concurrency(&acme(), &"staging".parse().unwrap()), 4);
    assert_eq!(limits.concurrency(&acme(), &"other".parse().unwrap()), 1);
    let told =
        w.events().await.into_iter().filter(|event| event.org_id == Some(acme())).map(|event| event.fact);
    let told: Vec<Fact> = told.filter(|fact| fact.name().ends_with(".changed")).collect();
    let org = |limits| Fact::OrgChanged { limits };
    assert_eq!(
        told,
        [
            org(OrgLimits { weight: 3, max_running: None, paused: false }),
            org(OrgLimits { weight: 3, max_running: Some(2), paused: false }),
            org(OrgLimits { weight: 3, max_running: Some(2), paused: true }),
            Fact::QueueChanged { app_version_id: v1, paused: true },
            Fact::ConcurrencyChanged { concurrency_group: "staging".parse().unwrap(), limit: 4 },
        ],
        "each change is told once"
    );
    assert_eq!(
        (w.store.gauges().await.unwrap().paused_orgs, w.store.gauges().await.unwrap().paused_app_versions),
        (1, 1)
    );
    pause(w, "v1", false).await;
    limit(w, "staging", 1).await;
    let back = OrgChange { weight: Some(1), max_running: Some(None), paused: Some(false) };
    assert_eq!(change(w, back).await, OrgLimits::default());
    assert_eq!(w.store.limits().await.unwrap(), Default::default(), "nothing is kept of what is usual");
}

pub async fn an_org_runs_no_more_than_its_cap(w: &mut World) {
    let (_, first) = submit(w, "v1", None).await;
    w.bind(&acme(), "v2", 2).await;
    let (_, second) = submit(w, "v2", None).await;
    let third = submit(w, "v2", None).await.0;
    let rack = w.rack("rack", 3).await;
    let lease = w.claim(&rack, 0, first).await.unwrap();
    cap(w, Some(1)).await;
    assert_eq!(w.claim(&rack, 1, second).await, None, "what runs already counts");
    cap(w, Some(2)).await;
    let other = w.claim(&rack, 1, second).await.unwrap();
    assert_eq!(w.claim(&rack, 2, second).await, None);
    w.pass(&rack, &lease).await;
    let next = w.claim(&rack, 0, second).await.unwrap();
    assert_eq!(next.job_id, third.jobs[0].id);
    // A lower cap ends nothing.
    cap(w, Some(1)).await;
    for lease in [&other, &next] {
        assert_eq!(w.job(lease.job_id).await.status, Status::Running);
    }
    w.wait(40);
    assert_eq!(w.sweep().await.leases_expired, 2);
    w.wait(400);
    w.heartbeat(&rack, false, &[]).await.unwrap();
    assert!(w.claim(&rack, 2, second).await.is_some(), "what is lost no longer counts");
    assert_eq!(w.claim(&rack, 1, second).await, None);
}

pub async fn a_cap_is_of_one_org(w: &mut World) {
    let other = org("other");
    w.upload(&other).await;
    w.bind(&other, "v1", 1).await;
    let foreign = w.submit_with(1, |run| run.org_id = org("other")).await;
    let foreign = w.group(&foreign).await;
    let own = w.submit(2).await;
    let own = w.group(&own).await;
    cap(w, Some(1)).await;
    let rack = w.rack("rack", 3).await;
    assert!(w.claim(&rack, 0, own).await.is_some());
    assert_eq!(w.claim(&rack, 1, own).await, None);
    assert!(w.claim(&rack, 1, foreign).await.is_some());
}

pub async fn claims_at_once_do_not_exceed_a_cap(w: &mut World) {
    let jobs = w.submit(4).await.jobs;
    cap(w, Some(2)).await;
    let rack = w.rack("rack", 4).await;
    let claims = (0..4).map(|device| w.claim_of(&rack, device, jobs[device].id)).collect();
    let answers = w.store.claim(w.now, claims).await.unwrap();
    assert_eq!(answers.into_iter().filter(|answer| answer.as_ref().unwrap().is_some()).count(), 2);
}

pub async fn jobs_of_a_concurrency_group_take_turns(w: &mut World) {
    w.bind(&acme(), "v2", 2).await;
    let (_, first) = submit(w, "v1", Some("staging")).await;
    let (_, second) = submit(w, "v2", Some("staging")).await;
    let (_, without) = submit(w, "v1", None).await;
    let (_, elsewhere) = submit(w, "v1", Some("production")).await;
    assert!(without != first && elsewhere != first, "jobs of one group name the same");
    let rack = w.rack("rack", 4).await;
    let lease = w.claim(&rack, 0, first).await.unwrap();
    assert_eq!(w.claim(&rack, 1, second).await, None);
    assert!(w.claim(&rack, 1, without).await.is_some());
    assert!(w.claim(&rack, 2, elsewhere).await.is_some());
    assert_eq!(w.job(lease.job_id).await.spec.concurrency_group, Some("staging".parse().unwrap()));
    // A cancelled job holds its turn until its device is clean: its test may still run.
    w.store.cancel(w.now, &Scope::All, Cancel::Job(lease.job_id)).await.unwrap().unwrap();
    assert_eq!(w.claim(&rack, 3, second).await, None);
    w.finish(&rack, &lease, stopped(Stop::Cancelled)).await;
    let lease = w.claim(&rack, 3, second).await.unwrap();
    // One that is tried again gives its turn up.
    let (_, third) = submit(w, "v1", Some("staging")).await;
    assert_eq!(w.claim(&rack, 0, third).await, None);
    w.finish(&rack, &lease, broken()).await;
    assert!(w.claim(&rack, 0, third).await.is_some());
}

pub async fn a_concurrency_group_has_as_many_turns_as_its_limit(w: &mut World) {
    let accepted = w
        .submit_with(4, |run| run.options.concurrency_group = Some("staging".parse().expect("a good name")))
        .await;
    let group = w.group(&accepted).await;
    limit(w, "staging", 2).await;
    let rack = w.rack("rack", 3).await;
    let (first, second) = (w.claim(&rack, 0, group).await.unwrap(), w.claim(&rack, 1, group).await.unwrap());
    assert_eq!(w.claim(&rack, 2, group).await, None);
    limit(w, "staging", 1).await;
    w.pass(&rack, &first).await;
    assert_eq!(w.claim(&rack, 2, group).await, None, "one still runs");
    w.pass(&rack, &second).await;
    assert!(w.claim(&rack, 2, group).await.is_some());
}

pub async fn what_is_paused_does_not_start_and_what_runs_goes_on(w: &mut World) {
    let accepted = w.submit(3).await;
    let group = w.group(&accepted).await;
    let (_, named) = submit(w, "v1", Some("staging")).await;
    w.bind(&acme(), "v2", 2).await;
    let (_, other) = submit(w, "v2", None).await;
    let rack = w.rack("rack", 4).await;
    let lease = w.claim(&rack, 0, group).await.unwrap();
    pause(w, "v1", true).await;
    assert_eq!(w.claim(&rack, 1, group).await, None);
    assert_eq!(w.claim(&rack, 1, named).await, None, "all groups of the app version rest");
    assert!(w.claim(&rack, 1, other).await.is_some());
    assert_eq!(w.pass(&rack, &lease).await.conclusion, Some(Conclusion::Passed));
    pause_org(w, true).await;
    pause(w, "v1", false).await;
    assert_eq!(w.claim(&rack, 0, group).await, None, "the org rests");
    pause_org(w, false).await;
    assert!(w.claim(&rack, 0, group).await.is_some());
    assert!(w.claim(&rack, 2, named).await.is_some());
}

/// A job that may wait for 100 s.
async fn patient(w: &mut World, label: &str) -> Accepted {
    w.submit_with(1, |run| {
        run.app_version_id = label.parse().expect("a good label");
        run.options.queue_timeout_ms = 100_000;
    })
    .await
}

pub async fn a_deadline_does_not_pass_while_a_job_is_paused(w: &mut World) {
    let job = patient(w, "v1").await.jobs[0].id;
    let other = patient(w, "v2").await.jobs[0].id;
    w.wait(60);
    pause(w, "v1", true).await;
    w.wait(1_000);
    // Submitted meanwhile: all of its time is left.
    let late = patient(w, "v1").await.jobs[0].id;
    w.wait(1_000);
    assert_eq!(w.sweep().await.deadlines_missed, 1);
    assert_eq!(w.job(other).await.reason, Some(Reason::QueueDeadline), "what is not paused gives up");
    assert_eq!(w.job(job).await.status, Status::Queued);
    pause(w, "v1", false).await;
    assert_eq!(w.job(job).await.queue_deadline, w.now + SignedDuration::from_secs(40));
    assert_eq!(w.job(late).await.queue_deadline, w.now + SignedDuration::from_secs(100));
    w.wait(39);
    assert_eq!(w.sweep().await.deadlines_missed, 0);
    w.wait(2);
    assert_eq!(w.sweep().await.deadlines_missed, 1);
    assert_eq!(w.job(job).await.reason, Some(Reason::QueueDeadline));
    w.wait(60);
    assert_eq!(w.sweep().await.deadlines_missed, 1);
}

pub async fn two_pauses_at_a_time_count_once(w: &mut World) {
    // Whichever begins first and whichever ends first: the job rests from 10 s to 40 s.
    type Change = (bool, bool);
    let (org_on, org_off) = ((true, true), (true, false));
    let (version_on, version_off) = ((false, true), (false, false));
    let orders: [[Change; 4]; 4] = [
        [org_on, version_on, version_off, org_off],
        [org_on, version_on, org_off, version_off],
        [version_on, org_on, version_off, org_off],
        [version_on, org_on, org_off, version_off],
    ];
    for order in orders {
        let job = patient(w, "v1").await.jobs[0].id;
        let deadline = w.job(job).await.queue_deadline;
        for (is_org, paused) in order {
            w.wait(10);
            match is_org {
                true => pause_org(w, paused).await,
                false => pause(w, "v1", paused).await,
            }
        }
        assert_eq!(w.job(job).await.queue_deadline, deadline + SignedDuration::from_secs(30), "{order:?}");
    }
}

pub async fn a_job_that_is_not_due_or_had_a_device_keeps_its_deadline(w: &mut World) {
    let due = w.now + SignedDuration::from_secs(500);
    let scheduled = w.submit_with(1, |run| run.options.not_before = Some(due)).await.jobs[0].id;
    let tried = w.submit(1).await;
    let group = w.group(&tried).await;
    let rack = w.rack("rack", 1).await;
    let lease = w.claim(&rack, 0, group).await.unwrap();
    w.finish(&rack, &lease, broken()).await;
    let deadlines = (w.job(scheduled).await.queue_deadline, w.job(lease.job_id).await.queue_deadline);
    for paused in [true, false] {
        pause(w, "v1", paused).await;
        pause_org(w, paused).await;
        w.wait(100);
    }
    assert_eq!((w.job(scheduled).await.queue_deadline, w.job(lease.job_id).await.queue_deadline), deadlines);
}

pub async fn a_promoted_job_stays_so(w: &mut World) {
    let accepted = w.submit(3).await;
    let group = w.group(&accepted).await;
    let [first, second, third] = [0, 1, 2].map(|at| accepted.jobs[at].id);
    w.wait(5);
    let at = w.now;
    w.store.promote(w.now, &Scope::Org(acme()), third).await.unwrap().unwrap();
    w.wait(5);
    w.store.promote(w.now, &Scope::All, third).await.unwrap().unwrap();
    w.store.promote(w.now, &Scope::All, second).await.unwrap().unwrap();
    assert_eq!(w.told("job.promoted").await, 2, "a repeat changes nothing");
    assert_eq!(w.job(third).await.promoted_at, Some(at));
    assert!(w.job(third).await.version > w.job(first).await.version, "watchers see it");
    let waiting = w.store.waiting_jobs().await.unwrap();
    let promoted = |id| waiting.iter().find(|job| job.id == id).unwrap().promoted_at;
    assert_eq!([first, second, third].map(promoted), [None, Some(w.now), Some(at)]);
    // Each of the three starts once and comes back.
    let rack = w.rack("rack", 3).await;
    for device in 0..3 {
        let lease = w.claim(&rack, device, group).await.unwrap();
        w.finish(&rack, &lease, broken()).await;
    }
    let told = w.events().await.into_iter().filter_map(|event| match event.fact {
        Fact::JobQueued { promoted_at, reason: Some(_), .. } => Some((event.job_id?, promoted_at)),
        _ => None,
    });
    let mut told: Vec<_> = told.collect();
    told.sort();
    let mut expected = vec![(first, None), (second, Some(w.now)), (third, Some(at))];
    expected.sort();
    assert_eq!(told, expected);
}

pub async fn only_a_job_that_waits_can_be_promoted(w: &mut World) {
    let due = w.now + SignedDuration::from_hours(1);
    let scheduled = w.submit_with(1, |run| run.options.not_before = Some(due)).await.jobs[0].id;
    let accepted = w.submit(2).await;
    let group = w.group(&accepted).await;
    let rack = w.rack("rack", 2).await;
    let (running, ended) = (w.claim(&rack, 0, group).await.unwrap(), w.claim(&rack, 1, group).await.unwrap());
    w.pass(&rack, &ended).await;
    for (id, status) in
        [(scheduled, Status::Scheduled), (running.job_id, Status::Running), (ended.job_id, Status::Completed)]
    {
        let refusal = w.store.promote(w.now, &Scope::All, id).await.unwrap().unwrap_err();
        assert_eq!(refusal, Refusal::WrongStatus { command: "promote", status });
        assert_eq!(w.job(id).await.promoted_at, None);
    }
    let other = w.submit(1).await.jobs[0].id;
    let refusal = w.store.promote(w.now, &Scope::Org(org("other")), other).await.unwrap().unwrap_err();
    assert!(matches!(refusal, Refusal::NotFound { .. }));
    assert_eq!(w.told("job.promoted").await, 0);
}
