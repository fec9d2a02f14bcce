//! Reading.

use qgjob_core::model::job::Status;
use qgjob_core::model::selector::Platform;
use qgjob_core::model::{agent, device, group};

use super::world::{World, acme, org, phone};
use crate::store::{Cancel, EventFilter, JobFilter, RunFilter, Scope};

pub async fn foreign_things_are_not_found(w: &mut World) {
    let ours = w.submit(1).await;
    let (ours_scope, foreign) = (Scope::Org(acme()), Scope::Org(org("other")));
    w.rack_for("ours", Some(acme()), vec![phone("ours")]).await;
    w.rack("shared", 1).await;
    assert!(w.store.run(&ours_scope, ours.run.id).await.unwrap().is_some());
    assert!(w.store.run(&foreign, ours.run.id).await.unwrap().is_none());
    assert!(w.store.job(&ours_scope, ours.jobs[0].id).await.unwrap().is_some());
    assert!(w.store.job(&foreign, ours.jobs[0].id).await.unwrap().is_none());
    assert!(w.store.runs(&foreign, &RunFilter::default(), None, 10).await.unwrap().is_empty());
    let asked = JobFilter { run_id: Some(ours.run.id), ..JobFilter::default() };
    assert!(w.store.jobs(&foreign, &asked, None, 10).await.unwrap().is_empty());
    let id = ours.jobs[0].id.to_string();
    assert!(w.store.jobs_by_suffix(&foreign, &id[20..]).await.unwrap().is_empty());
    for filter in [EventFilter::All, EventFilter::Run(ours.run.id), EventFilter::Job(ours.jobs[0].id)] {
        assert!(w.store.events_after(&foreign, filter, 0, 100).await.unwrap().is_empty(), "{filter:?}");
        assert!(!w.store.events_after(&ours_scope, filter, 0, 100).await.unwrap().is_empty(), "{filter:?}");
    }
    let names =
        |devices: Vec<device::Device>| devices.into_iter().map(|device| device.name).collect::<Vec<_>>();
    assert_eq!(names(w.store.devices(&foreign).await.unwrap()), ["shared-0"]);
    assert_eq!(names(w.store.devices(&ours_scope).await.unwrap()), ["ours", "shared-0"]);
    let bundle = ours.jobs[0].spec.bundle_sha256;
    assert_eq!(w.store.blob(&acme(), bundle).await.unwrap(), Some(10));
    assert_eq!(w.store.blob(&org("other"), bundle).await.unwrap(), None);
    assert!(w.store.app_version(&org("other"), &ours.run.app_version_id).await.unwrap().is_none());
}

pub async fn lists_are_paged(w: &mut World) {
    let mut runs = Vec::new();
    for _ in 0..5 {
        runs.push(w.submit(3).await);
        w.wait(1);
    }
    let newest_first: Vec<_> = runs.iter().rev().map(|run| run.run.id).collect();
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = w.store.runs(&Scope::All, &RunFilter::default(), before, 2).await.unwrap();
        let Some((last, _)) = page.last() else { break };
        before = Some(last.id);
        seen.extend(page.iter().map(|(run, _)| run.id));
    }
    assert_eq!(seen, newest_first);
    let filter = JobFilter { run_id: Some(runs[0].run.id), ..JobFilter::default() };
    let first = w.store.jobs(&Scope::All, &filter, None, 2).await.unwrap();
    let rest = w.store.jobs(&Scope::All, &filter, Some(first[1].0.id), 2).await.unwrap();
    let paged: Vec<_> = first.iter().chain(&rest).map(|(job, _)| job.id).collect();
    assert_eq!(paged, runs[0].jobs.iter().map(|job| job.id).collect::<Vec<_>>());
    let all = w.store.jobs(&Scope::All, &JobFilter::default(), None, 100).await.unwrap();
    let newest_first: Vec<_> =
        runs.iter().rev().flat_map(|run| run.jobs.iter().rev()).map(|job| job.id).collect();
    assert_eq!(all.iter().map(|(job, _)| job.id).collect::<Vec<_>>(), newest_first);
    let older = w.store.jobs(&Scope::All, &JobFilter::default(), Some(all[13].0.id), 100).await.unwrap();
    assert_eq!(older[0].0.id, all[14].0.id);
    let events = w.events().await;
    let page = w.store.events_after(&Scope::All, EventFilter::Run(runs[1].run.id), 0, 2).await.unwrap();
    assert_eq!(
        page,
        events.into_iter().filter(|event| event.run_id == Some(runs[1].run.id)).take(2).collect::<Vec<_>>()
    );
}

pub async fn filters_filter(w: &mut World) {
    let labelled = w
        .submit_with(1, |run| {
            run.labels.insert("git/branch.name".parse().unwrap(), "feature/x \"y\"".parse().unwrap());
            run.name = Some("nightly".to_owned());
        })
        .await;
    let other = w.submit_with(1, |run| run.app_version_id = "v2".parse().unwrap()).await;
    w.store.cancel(w.now, &Scope::All, Cancel::Run(other.run.id)).await.unwrap().unwrap();
    assert_eq!(w.run(labelled.run.id).await.name.as_deref(), Some("nightly"));
    let all = RunFilter::default();
    let label = ("git/branch.name".to_owned(), "feature/x \"y\"".to_owned());
    for (filter, expected) in [
        (RunFilter { label: Some(label), ..all.clone() }, vec![labelled.run.id]),
        (RunFilter { label: Some(("git/branch.name".to_owned(), "main".to_owned())), ..all.clone() }, vec![]),
        (RunFilter { status: Some(Status::Queued), ..all.clone() }, vec![labelled.run.id]),
        (
            RunFilter { conclusion: other.run.conclusion, status: Some(Status::Completed), ..all.clone() },
            vec![other.run.id],
        ),
        (RunFilter { app_version_id: Some("v2".parse().unwrap()), ..all.clone() }, vec![other.run.id]),
        (RunFilter { org_id: Some(org("other")), ..all.clone() }, vec![]),
    ] {
        let found = w.store.runs(&Scope::All, &filter, None, 10).await.unwrap();
        assert_eq!(found.iter().map(|(run, _)| run.id).collect::<Vec<_>>(), expected, "{filter:?}");
    }
    let all = JobFilter::default();
    for (filter, expected) in [
        (JobFilter { status: Some(Status::Queued), ..all.clone() }, vec![labelled.jobs[0].id]),
        (
            JobFilter { conclusion: w.run(other.run.id).await.conclusion, ..all.clone() },
            vec![other.jobs[0].id],
        ),
        (JobFilter { app_version_id: Some("v2".parse().unwrap()), ..all.clone() }, vec![other.jobs[0].id]),
        (JobFilter { org_id: Some(org("other")), ..all.clone() }, vec![]),
    ] {
        let found = w.store.jobs(&Scope::All, &filter, None, 10).await.unwrap();
        assert_eq!(found.iter().map(|(job, _)| job.id).collect::<Vec<_>>(), expected, "{filter:?}");
    }
}

pub async fn groups_and_waiting_jobs_feed_the_board(w: &mut World) {
    let first = w.submit(3).await;
    let same = w.submit(1).await;
    let unbound = w.submit_with(1, |run| run.app_version_id = "v2".parse().unwrap()).await;
    let over = w.submit_with(1, |run| run.app_version_id = "v3".parse().unwrap()).await;
    w.store.cancel(w.now, &Scope::All, Cancel::Run(over.run.id)).await.unwrap().unwrap();
    let group_id = w.group(&first).await;
    assert_eq!(w.group(&same).await, group_id);
    let rack = w.rack("rack", 1).await;
    w.claim(&rack, 0, group_id).await.unwrap();
    let groups = w.store.groups().await.unwrap();
    let facts: Vec<_> = groups.iter().map(|group| (group.id, group.build.is_some())).collect();
    assert_eq!(facts, [(group_id, true), (w.group(&unbound).await, false)]);
    let key = group::Key {
        org_id: acme(),
        app_version_id: "v1".parse().unwrap(),
        platform: None,
        target: first.jobs[0].spec.target,
        selector: first.jobs[0].spec.selector.clone(),
        concurrency_group: None,
    };
    assert_eq!(w.store.group(group_id).await.unwrap().unwrap().key, key);
    assert!(w.store.group(group_id + 100).await.unwrap().is_none());
    let waiting: Vec<_> = w.store.waiting_jobs().await.unwrap().into_iter().map(|job| job.id).collect();
    assert_eq!(waiting, [first.jobs[1].id, first.jobs[2].id, same.jobs[0].id, unbound.jobs[0].id]);
}

pub async fn gauges_count(w: &mut World) {
    let accepted = w.submit(3).await;
    let due = w.now + jiff::SignedDuration::from_hours(1);
    w.submit_with(1, |run| run.options.not_before = Some(due)).await;
    let submitted_at = w.now;
    w.wait(5);
    let group = w.group(&accepted).await;
    let rack = w.rack("rack", 2).await;
    w.claim(&rack, 0, group).await.unwrap();
    let gauges = w.store.gauges().await.unwrap();
    let of = |status| gauges.jobs.iter().find(|(s, _)| *s == status).map(|(_, count)| *count);
    assert_eq!((of(Status::Scheduled), of(Status::Queued), of(Status::Running)), (Some(1), Some(2), Some(1)));
    assert_eq!(gauges.oldest_queued_at, Some(submitted_at));
    assert_eq!(gauges.agents, [(agent::State::Online, 1)]);
    assert_eq!(gauges.devices.len(), 2);
    assert!(gauges.devices.contains(&(device::State::Busy, Platform::Android, 1)));
    assert!(gauges.devices.contains(&(device::State::Idle, Platform::Android, 1)));
    w.store.probe(w.now).await.unwrap();
}

pub async fn suffixes_find_jobs(w: &mut World) {
    let accepted = w.submit(20).await;
    let id = accepted.jobs[7].id;
    let text = id.to_string();
    for suffix in [&text[20..], &text[20..].to_ascii_uppercase(), text.as_str()] {
        assert_eq!(w.store.jobs_by_suffix(&Scope::Org(acme()), suffix).await.unwrap(), [id]);
    }
    assert!(w.store.jobs_by_suffix(&Scope::All, "").await.unwrap().is_empty());
    assert!(w.store.jobs_by_suffix(&Scope::All, "%").await.unwrap().is_empty());
    let mut many = 0;
    for digit in "0123456789abcdefghjkmnpqrstvwxyz".chars() {
        let found = w.store.jobs_by_suffix(&Scope::All, &digit.to_string()).await.unwrap();
        let matching = accepted.jobs.iter().filter(|job| job.id.to_string().ends_with(digit)).count();
        assert_eq!(found.len(), matching.min(3));
        many += matching;
    }
    assert_eq!(many, 20);
}
