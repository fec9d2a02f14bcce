//! What a store tells of the tests that a file had when it ran last.

use qgjob_core::model::attempt::Took;
use qgjob_core::model::event::Fact;
use qgjob_core::model::name::TestPath;
use qgjob_core::model::shard::Shard;
use qgjob_core::model::test_result::{TestOutcome, Try, TryStatus};

use super::world::{Rack, World, acme, broken};
use crate::store::{Accepted, Submission};

fn file() -> TestPath {
    "tests/0.spec.js".parse().expect("a good path")
}

/// A run of the file, in so many shards.
async fn submit(w: &mut World, of: u32) -> Accepted {
    let shard = |index| (of > 1).then(|| Shard { index, of, tests: vec![vec!["a test".to_owned()]] });
    let mut split = w.submission(of as usize, |run| run.tests = vec![file(); of as usize]);
    split.shards = (1..=of).map(shard).collect();
    w.wait(1);
    w.try_submit(split).await.expect("the submission is good")
}

/// Runs the `at`th job of a run; its only test passes.
async fn pass(w: &mut World, rack: &Rack, run: &Accepted, at: usize) {
    let lease = w.claim_job(rack, 0, run.jobs[at].id).await.expect("the job waits");
    assert_eq!(lease.shard, run.jobs[at].spec.shard);
    w.pass(rack, &lease).await;
}

/// The attempts whose tries are told of the file.
async fn recorded(w: &World, app_id: Option<&str>) -> usize {
    let tests = ["tests/unknown.spec.js".parse().expect("a good path"), file()];
    let mut found = w.store.recorded(&acme(), app_id, &tests).await.expect("the store works");
    assert_eq!((found.len(), found.remove(0)), (2, Vec::<Try>::new()));
    let tries = found.remove(0);
    assert!(tries.iter().all(|one| (one.status, one.outcome) == (TryStatus::Passed, TestOutcome::Expected)));
    tries.len()
}

pub async fn the_newest_run_that_tells_of_the_whole_file_counts(w: &mut World) {
    let rack = w.rack("rack", 1).await;
    assert_eq!(recorded(w, None).await, 0);
    let whole = submit(w, 1).await;
    assert_eq!(recorded(w, None).await, 0, "nothing ran yet");
    pass(w, &rack, &whole, 0).await;
    assert_eq!(recorded(w, None).await, 1);
    let split = submit(w, 2).await;
    pass(w, &rack, &split, 0).await;
    assert_eq!(recorded(w, None).await, 1, "one shard is not the file");
    pass(w, &rack, &split, 1).await;
    assert_eq!(recorded(w, None).await, 2, "all of them are");
    let failing = submit(w, 1).await;
    let lease = w.claim_job(&rack, 0, failing.jobs[0].id).await.expect("the job waits");
    w.finish(&rack, &lease, broken()).await;
    assert_eq!(recorded(w, None).await, 2, "an attempt without a verdict tells of no tests");
}

pub async fn a_record_is_of_its_app_and_its_org(w: &mut World) {
    let rack = w.rack("rack", 1).await;
    let run = submit(w, 1).await;
    pass(w, &rack, &run, 0).await;
    let version = w.store.app_version(&acme(), &run.run.app_version_id).await.expect("the store works");
    let app_id = version.expect("it is bound").build.app_id;
    assert_eq!(recorded(w, Some(&app_id)).await, 1);
    assert_eq!(recorded(w, Some("another.app")).await, 0);
    let other = "other".parse().expect("a good name");
    let found = w.store.recorded(&other, None, &[file()]).await.expect("the store works");
    assert_eq!(found, [vec![]]);
}

pub async fn what_a_shard_took_is_told_as_such(w: &mut World) {
    let rack = w.rack("rack", 1).await;
    let (whole, split) = (submit(w, 1).await, submit(w, 2).await);
    pass(w, &rack, &whole, 0).await;
    w.wait(1);
    pass(w, &rack, &split, 0).await;
    let told = w.events().await.into_iter().filter_map(|event| match event.fact {
        Fact::AttemptEnded { took, .. } => took,
        _ => None,
    });
    let told: Vec<Took> = told.collect();
    assert_eq!(told.iter().map(|took| took.is_shard).collect::<Vec<_>>(), [false, true]);
    let history = w.store.history(10).await.expect("the store works");
    assert_eq!(history.into_iter().map(|(_, took)| took).collect::<Vec<_>>(), told);
}

pub async fn a_job_keeps_its_shard(w: &mut World) {
    let run = submit(w, 2).await;
    for job in &run.jobs {
        assert_eq!(w.job(job.id).await.spec.shard, job.spec.shard);
    }
    assert_eq!(run.jobs[1].spec.shard.as_ref().map(|shard| (shard.index, shard.of)), Some((2, 2)));
    let short = Submission { shards: vec![None], ..w.submission(2, |_| ()) };
    w.try_submit(short).await.expect_err("a shard for each job, or none");
}
