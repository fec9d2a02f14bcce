//! Submitting.

use qgjob_core::model::job::{Conclusion, Status};
use qgjob_core::model::refusal::Refusal;
use qgjob_core::model::sha256::Sha256;

use super::world::{World, acme, key, org};
use crate::store::{Cancel, JobFilter, Scope};

pub async fn a_run_of_a_thousand_is_there_at_once(w: &mut World) {
    let accepted = w.submit(1000).await;
    assert_eq!((accepted.run.jobs.queued, accepted.jobs.len(), accepted.replayed), (1000, 1000, false));
    assert_eq!(accepted.app_sha256, Some(Sha256([1; 32])));
    let filter = JobFilter { run_id: Some(accepted.run.id), ..JobFilter::default() };
    let stored = w.store.jobs(&Scope::All, &filter, None, 2000).await.unwrap();
    let stored: Vec<_> = stored.into_iter().map(|(job, _)| job).collect();
    assert_eq!(stored, accepted.jobs, "what is answered is what is stored, in the order of submission");
    assert_eq!(w.run(accepted.run.id).await, accepted.run);
    assert_eq!(w.told("job.queued").await, 1000);
}

pub async fn a_key_makes_one_run(w: &mut World) {
    let first = w.submission(2, |_| ());
    let first = crate::store::Submission { key: key("ci-1", 1), ..first };
    let again = crate::store::Submission { key: key("ci-1", 1), ..w.submission(2, |_| ()) };
    // Both in one batch: the second sees the first.
    let answers = w.store.submit(w.now, vec![first, again]).await.unwrap();
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!((answers[0].replayed, answers[1].replayed), (false, true));
    assert_eq!(answers[0].run, answers[1].run);
    assert_eq!(answers[0].jobs, answers[1].jobs);
    assert_eq!(answers[0].run.idempotency_key, key("ci-1", 1).map(|(key, _)| key));
    assert_eq!(w.told("job.queued").await, 2);
}

pub async fn a_key_with_another_request_is_refused(w: &mut World) {
    let first = crate::store::Submission { key: key("ci-1", 1), ..w.submission(1, |_| ()) };
    w.try_submit(first).await.unwrap();
    let other = crate::store::Submission { key: key("ci-1", 2), ..w.submission(3, |_| ()) };
    assert_eq!(w.try_submit(other).await.unwrap_err(), Refusal::KeyReused);
    assert_eq!(w.told("job.queued").await, 1);
}

pub async fn a_cancelled_key_makes_a_cancelled_run(w: &mut World) {
    let (ci, _) = key("ci-1", 1).unwrap();
    let cancel = || Cancel::Key(acme(), ci.clone());
    w.store.cancel(w.now, &Scope::All, cancel()).await.unwrap().unwrap();
    w.store.cancel(w.now, &Scope::All, cancel()).await.unwrap().unwrap();
    let born = w.submit_keyed("ci-1", 2).await;
    assert_eq!(
        (born.run.conclusion, born.run.jobs.cancelled, born.replayed),
        (Some(Conclusion::Cancelled), 2, false)
    );
    assert!(born.jobs.iter().all(|job| job.conclusion == Some(Conclusion::Cancelled)));
    assert_eq!(w.store.waiting_jobs().await.unwrap().len(), 0);
    let again = w.submit_keyed("ci-1", 2).await;
    assert_eq!((again.run, again.replayed), (born.run, true));
    // The other order: the run exists when its key is cancelled.
    let live = w.submit_keyed("ci-2", 1).await;
    let (ci, _) = key("ci-2", 1).unwrap();
    w.store.cancel(w.now, &Scope::All, Cancel::Key(acme(), ci)).await.unwrap().unwrap();
    assert_eq!(w.run(live.run.id).await.conclusion, Some(Conclusion::Cancelled));
}

pub async fn a_bundle_must_be_uploaded(w: &mut World) {
    let missing = Sha256([9; 32]);
    let submission = w.submission(1, |run| run.bundle_sha256 = missing);
    let refusal = w.try_submit(submission).await.unwrap_err();
    assert_eq!(refusal, Refusal::NotUploaded { what: "bundle", sha256: missing });
    assert_eq!(w.told("job.queued").await, 0);
}

pub async fn a_batch_is_answered_item_by_item(w: &mut World) {
    let good = w.submission(1, |_| ());
    let bad = w.submission(1, |run| run.bundle_sha256 = Sha256([9; 32]));
    let mut uneven = w.submission(2, |_| ());
    uneven.job_ids.pop();
    let last = w.submission(1, |_| ());
    let answers = w.store.submit(w.now, vec![good, bad, uneven, last]).await.unwrap();
    let good: Vec<_> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(good, [true, false, false, true]);
    assert_eq!(w.told("job.queued").await, 2);
}

pub async fn keys_and_bundles_belong_to_their_org(w: &mut World) {
    let other = org("other");
    let foreign = w.submission(1, |run| run.org_id = org("other"));
    assert!(matches!(w.try_submit(foreign).await.unwrap_err(), Refusal::NotUploaded { .. }));
    w.upload(&other).await;
    let ours = w.submit_keyed("ci-1", 1).await;
    let theirs = w.submission(1, |run| run.org_id = org("other"));
    let theirs = w.try_submit(crate::store::Submission { key: key("ci-1", 1), ..theirs }).await.unwrap();
    assert_ne!(ours.run.id, theirs.run.id);
    assert!(!theirs.replayed && theirs.app_sha256.is_none(), "labels belong to their org too");
}

pub async fn a_scheduled_run_waits(w: &mut World) {
    let due = w.now + jiff::SignedDuration::from_mins(10);
    let later = w.submit_with(1, |run| run.options.not_before = Some(due)).await;
    assert_eq!((later.run.status, later.jobs[0].status), (Status::Scheduled, Status::Scheduled));
    assert_eq!(
        later.jobs[0].queue_deadline,
        due + jiff::SignedDuration::from_hours(2),
        "waiting begins when it is due"
    );
    assert_eq!(w.store.waiting_jobs().await.unwrap().len(), 0);
    assert_eq!(w.sweep().await.became_due, 0);
    w.wait(600);
    assert_eq!(w.sweep().await.became_due, 1);
    assert_eq!(w.job(later.jobs[0].id).await.status, Status::Queued);
    let waiting = w.store.waiting_jobs().await.unwrap();
    assert_eq!((waiting[0].id, waiting[0].queued_at, waiting[0].not_before), (later.jobs[0].id, w.now, None));
    assert_eq!(w.run(later.run.id).await.status, Status::Queued);
    let past = w.now - jiff::SignedDuration::from_mins(10);
    assert_eq!(w.submit_with(1, |run| run.options.not_before = Some(past)).await.run.status, Status::Queued);
}
