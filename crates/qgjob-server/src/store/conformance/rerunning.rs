//! What a store keeps of reruns.

use TestOutcome::{Expected, Flaky, Skipped, Unexpected};
use qgjob_core::api::agents::Lease;
use qgjob_core::model::evidence::{Evidence, Exit, Report, ReportedTest};
use qgjob_core::model::job::{Conclusion, Reason};
use qgjob_core::model::rerun::{NamedTest, Rerun};
use qgjob_core::model::test_result::{Counts, TestOutcome, Try, TryStatus};
use qgjob_core::model::{job, run};
use qgjob_core::queue::reruns;

use super::world::{Rack, World, a_try, acme, broken, key};
use crate::store::{self, Accepted, RunFilter, Scope, Submission};

type Test = (&'static str, TestOutcome);

fn counts(passed: u32, failed: u32, flaky: u32, skipped: u32) -> Counts {
    Counts { total: passed + failed + flaky + skipped, passed, failed, flaky, skipped }
}

/// The job runs these tests.
async fn play(w: &mut World, rack: &Rack, job: job::Id, tests: &[Test]) {
    let lease = w.claim_job(rack, 0, job).await.expect("the job waits");
    assert_eq!(lease.only, w.job(job).await.spec.rerun.map(|rerun| rerun.tests).unwrap_or_default());
    end(w, rack, &lease, tests, &[]).await;
}

/// Ends an attempt that told of these tests as they ran, and of `unseen` ones only in the end.
async fn end(w: &mut World, rack: &Rack, lease: &Lease, tests: &[Test], unseen: &[Test]) {
    let tries = (1..).zip(tests).map(|(seq, (title, outcome))| {
        let status = match outcome {
            Expected | Flaky => TryStatus::Passed,
            Unexpected => TryStatus::Failed,
            Skipped => TryStatus::Skipped,
        };
        let by_suite = (*outcome == Skipped).then_some(true);
        let (test_id, title) = (format!("id of {title}"), vec![(*title).to_owned()]);
        Try { seq, test_id, title, unit: Some(1), by_suite, ..a_try(lease, status, *outcome) }
    });
    let report = w.report(rack, lease, tries.collect());
    w.store
        .add_tries(w.now, vec![report])
        .await
        .expect("the store works")
        .remove(0)
        .expect("the lease holds");
    let reported = tests.iter().chain(unseen).map(|(title, outcome)| ReportedTest {
        test_id: format!("id of {title}"),
        file: lease.test.to_string(),
        outcome: *outcome,
        tries: 1,
    });
    let code = i32::from(tests.iter().any(|test| test.1 == Unexpected));
    let report = Report::Read { tests: reported.collect(), errors: vec![] };
    let evidence =
        Evidence { stopped: None, fault: None, exit: Some(Exit::Code(code)), selected: None, report };
    w.finish(rack, lease, evidence).await;
}

/// Repeats what failed in a run, as the server does.
async fn rerun(w: &mut World, of: run::Id) -> Accepted {
    rerun_of(w, of, |_| true).await
}

/// The same, with those tests alone.
async fn rerun_of(w: &mut World, of: run::Id, named: impl Fn(&NamedTest) -> bool) -> Accepted {
    let before = w.run(of).await;
    let unpassed = w.store.unpassed(of).await.expect("the store works");
    let again: Vec<_> = unpassed
        .iter()
        .map(|found| {
            let mut again =
                reruns::again(&found.job, found.kept.as_ref(), &found.tries).expect("it did not pass");
            again.kept.rerun.tests.retain(&named);
            again
        })
        .collect();
    let repeats = again.iter().fold(Counts::default(), |sum, again| sum.plus(again.repeats));
    let mut submission = w.submission(again.len(), |run| {
        run.tests = unpassed.iter().map(|found| found.job.spec.test.clone()).collect();
    });
    submission.rerun = Some(store::Rerun {
        of,
        tests: before.tests,
        carried: before.tests.minus(repeats),
        jobs: again.into_iter().map(|again| again.kept).collect(),
    });
    w.wait(1);
    w.try_submit(submission).await.expect("the submission is good")
}

/// A run of two files: all tests of one pass, of the other one fails.
async fn half_failed(w: &mut World, rack: &Rack) -> Accepted {
    let run = w.submit(2).await;
    play(w, rack, run.jobs[0].id, &[("a", Expected), ("b", Flaky)]).await;
    play(w, rack, run.jobs[1].id, &[("c", Expected), ("d", Unexpected), ("e", Skipped)]).await;
    assert_eq!(w.run(run.run.id).await.tests, counts(2, 1, 1, 1));
    run
}

pub async fn a_rerun_begins_with_the_totals_of_the_run_before(w: &mut World) {
    let rack = w.rack("rack", 1).await;
    let before = half_failed(w, &rack).await;
    let made = rerun(w, before.run.id).await;
    assert_eq!(made.jobs.len(), 1);
    for run in [made.run.clone(), w.run(made.run.id).await] {
        assert_eq!(run.rerun_of, Some(before.run.id));
        assert_eq!((run.tests, run.carried), (counts(2, 1, 1, 1), counts(2, 0, 1, 1)));
    }
    for job in [made.jobs[0].clone(), w.job(made.jobs[0].id).await] {
        let Rerun { of, tests } = job.spec.rerun.expect("it repeats something");
        assert_eq!((of, job.spec.test), (before.jobs[1].id, before.jobs[1].spec.test.clone()));
        assert_eq!(tests.iter().map(|test| test.title[0].as_str()).collect::<Vec<_>>(), ["d"]);
    }
    assert_eq!(w.run(before.run.id).await.rerun_of, None);
    let short = w.submission(2, |_| ());
    let rest =
        store::Rerun { of: before.run.id, tests: made.run.tests, carried: made.run.carried, jobs: vec![] };
    w.try_submit(Submission { rerun: Some(rest), ..short }).await.expect_err("each job repeats something");
}

pub async fn new_results_take_the_place_of_old_ones(w: &mut World) {
    let rack = w.rack("rack", 1).await;
    let before = half_failed(w, &rack).await;
    let fixed = rerun(w, before.run.id).await;
    play(w, &rack, fixed.jobs[0].id, &[("d", Expected)]).await;
    let run = w.run(fixed.run.id).await;
    assert_eq!((run.tests, run.carried), (counts(3, 0, 1, 1), counts(2, 0, 1, 1)));
    assert_eq!(run.conclusion, Some(Conclusion::Passed));
    // Another one runs the whole file, and fails elsewhere.
    let more = rerun(w, before.run.id).await;
    play(w, &rack, more.jobs[0].id, &[("c", Unexpected), ("d", Expected), ("e", Skipped)]).await;
    let run = w.run(more.run.id).await;
    assert_eq!((run.tests, run.carried), (counts(2, 1, 1, 1), counts(1, 0, 1, 0)));
    assert_eq!(run.conclusion, Some(Conclusion::Failed));
    // And what failed there is repeated in turn.
    let third = rerun(w, more.run.id).await;
    assert_eq!((third.run.tests, third.run.carried), (counts(2, 1, 1, 1), counts(2, 0, 1, 1)));
    play(w, &rack, third.jobs[0].id, &[("c", Expected)]).await;
    assert_eq!(w.run(third.run.id).await.tests, counts(3, 0, 1, 1));
    assert_eq!(w.run(before.run.id).await.tests, counts(2, 1, 1, 1), "what is over stays as it was");
}

pub async fn a_rerun_without_a_verdict_keeps_its_totals(w: &mut World) {
    let rack = w.rack("rack", 1).await;
    let before = half_failed(w, &rack).await;
    let made = rerun(w, before.run.id).await;
    let id = made.jobs[0].id;
    for _ in 0..3 {
        w.wait(600);
        w.heartbeat(&rack, false, &[]).await.expect("the agent is known");
        let lease = w.claim_job(&rack, 0, id).await.expect("the job waits");
        w.finish(&rack, &lease, broken()).await;
    }
    let lost = w.run(made.run.id).await;
    assert_eq!((lost.conclusion, lost.tests), (Some(Conclusion::Errored), counts(2, 1, 1, 1)));
    // What it was to repeat is still to be repeated, and nothing else.
    let again = rerun(w, made.run.id).await;
    assert_eq!((again.run.tests, again.run.carried), (lost.tests, lost.carried));
    assert_eq!(again.jobs[0].spec.rerun.as_ref().expect("it repeats").tests.len(), 1);
    // A test that had failed and is skipped now is no pass.
    w.heartbeat(&rack, false, &[]).await.expect("the agent is known");
    play(w, &rack, again.jobs[0].id, &[("d", Skipped)]).await;
    let run = w.run(again.run.id).await;
    assert_eq!((run.conclusion, run.tests), (Some(Conclusion::Errored), counts(2, 1, 1, 1)));
}

pub async fn what_failed_is_owed_until_it_passes(w: &mut World) {
    let rack = w.rack("rack", 1).await;
    let before = w.submit(1).await;
    play(w, &rack, before.jobs[0].id, &[("x", Expected), ("y", Unexpected), ("z", Unexpected)]).await;
    let first = rerun(w, before.run.id).await;
    play(w, &rack, first.jobs[0].id, &[("y", Unexpected)]).await;
    // Beside the failure nothing told that one had no result.
    let second = rerun(w, first.run.id).await;
    let named = second.jobs[0].spec.rerun.as_ref().expect("it repeats").tests.iter();
    assert_eq!(named.map(|test| test.title[0].as_str()).collect::<Vec<_>>(), ["y", "z"]);
    play(w, &rack, second.jobs[0].id, &[("y", Expected), ("z", Skipped)]).await;
    let (job, run) = (w.job(second.jobs[0].id).await, w.run(second.run.id).await);
    assert_eq!((job.reason, run.conclusion), (Some(Reason::TestsMissing), Some(Conclusion::Errored)));
    assert_eq!(run.tests, counts(1, 2, 0, 0));
    let third = rerun(w, second.run.id).await;
    play(w, &rack, third.jobs[0].id, &[("y", Expected), ("z", Expected)]).await;
    let run = w.run(third.run.id).await;
    assert_eq!((run.conclusion, run.tests), (Some(Conclusion::Passed), counts(3, 0, 0, 0)));
}

pub async fn what_failed_is_owed_also_where_all_is_repeated(w: &mut World) {
    let rack = w.rack("rack", 1).await;
    let before = w.submit(1).await;
    let lease = w.claim_job(&rack, 0, before.jobs[0].id).await.expect("the job waits");
    // The report names a skipped test that was not told of while it ran.
    end(w, &rack, &lease, &[("x", Expected), ("y", Unexpected)], &[("hidden", Skipped)]).await;
    let whole = rerun(w, before.run.id).await;
    assert_eq!(whole.jobs[0].spec.rerun, Some(Rerun { of: before.jobs[0].id, tests: vec![] }));
    play(w, &rack, whole.jobs[0].id, &[("x", Expected), ("y", Skipped)]).await;
    let (job, run) = (w.job(whole.jobs[0].id).await, w.run(whole.run.id).await);
    assert_eq!((job.reason, run.conclusion), (Some(Reason::TestsMissing), Some(Conclusion::Errored)));
    assert_eq!(run.tests, counts(1, 1, 0, 1));
    let again = rerun(w, whole.run.id).await;
    play(w, &rack, again.jobs[0].id, &[("x", Expected), ("y", Expected)]).await;
    let run = w.run(again.run.id).await;
    assert_eq!((run.conclusion, run.tests), (Some(Conclusion::Passed), counts(2, 0, 0, 0)));
}

pub async fn a_rerun_that_carries_a_failed_test_is_not_green(w: &mut World) {
    let rack = w.rack("rack", 1).await;
    let before = w.submit(1).await;
    play(w, &rack, before.jobs[0].id, &[("x", Expected), ("y", Unexpected), ("z", Unexpected)]).await;
    let part = rerun_of(w, before.run.id, |test| test.title == ["y"]).await;
    play(w, &rack, part.jobs[0].id, &[("y", Expected)]).await;
    assert_eq!(w.job(part.jobs[0].id).await.conclusion, Some(Conclusion::Passed));
    let run = w.run(part.run.id).await;
    assert_eq!((run.conclusion, run.tests), (Some(Conclusion::Failed), counts(2, 1, 0, 0)));
}

pub async fn a_job_without_a_verdict_is_repeated_whole(w: &mut World) {
    let rack = w.rack("rack", 1).await;
    let before = w.submit(2).await;
    play(w, &rack, before.jobs[0].id, &[("a", Expected)]).await;
    let cancel = store::Cancel::Job(before.jobs[1].id);
    w.store.cancel(w.now, &Scope::All, cancel).await.expect("the store works").expect("it waits");
    let made = rerun(w, before.run.id).await;
    assert_eq!((made.run.tests, made.run.carried), (counts(1, 0, 0, 0), counts(1, 0, 0, 0)));
    assert_eq!(made.jobs[0].spec.rerun, Some(Rerun { of: before.jobs[1].id, tests: vec![] }));
    play(w, &rack, made.jobs[0].id, &[("b", Expected), ("c", Unexpected)]).await;
    assert_eq!(w.run(made.run.id).await.tests, counts(2, 1, 0, 0));
    let again = rerun(w, made.run.id).await;
    assert_eq!(again.run.carried, counts(2, 0, 0, 0));
    play(w, &rack, again.jobs[0].id, &[("c", Expected)]).await;
    assert_eq!(w.run(again.run.id).await.tests, counts(3, 0, 0, 0));
}

pub async fn a_rerun_outlives_the_run_before(w: &mut World) {
    let rack = w.rack("rack", 1).await;
    let before = half_failed(w, &rack).await;
    let made = rerun(w, before.run.id).await;
    w.wait(30 * 24 * 3_600);
    let forgotten =
        w.store.forget(w.now, std::time::Duration::from_secs(1), 100).await.expect("the store works");
    assert_eq!(forgotten.runs, 1);
    w.heartbeat(&rack, false, &[]).await.expect("the agent is known");
    play(w, &rack, made.jobs[0].id, &[("c", Expected), ("d", Expected)]).await;
    let run = w.run(made.run.id).await;
    assert_eq!((run.rerun_of, run.tests), (Some(before.run.id), counts(3, 0, 1, 1)));
    assert_eq!(run.carried, counts(1, 0, 1, 1));
    assert!(w.store.unpassed(before.run.id).await.expect("the store works").is_empty());
}

/// The tests that a run tells of, as title, outcome and the run they are carried from; read in pages of two.
async fn told(w: &World, run: run::Id) -> Vec<(String, TestOutcome, Option<run::Id>)> {
    let (mut told, mut after) = (Vec::new(), None);
    loop {
        let page = w.store.run_tests(run, after, 2).await.expect("the store works");
        let Some(last) = page.last() else { break };
        after = Some((last.job_id, last.first_seq()));
        told.extend(page.into_iter().map(|test| (test.title.join("/"), test.outcome, test.carried_from)));
    }
    let whole = w.store.run_tests(run, None, 100).await.expect("the store works");
    assert_eq!(whole.len(), told.len(), "pages make a whole");
    told
}

pub async fn a_rerun_tells_of_all_tests_of_the_full_set(w: &mut World) {
    let rack = w.rack("rack", 1).await;
    let before = half_failed(w, &rack).await;
    let own = |title: &str, outcome| (title.to_owned(), outcome, None);
    let carried = |title: &str, outcome, from: &Accepted| (title.to_owned(), outcome, Some(from.run.id));
    let first = rerun(w, before.run.id).await;
    let all = [("a", Expected), ("b", Flaky), ("c", Expected), ("d", Unexpected), ("e", Skipped)];
    let all: Vec<_> = all.into_iter().map(|(title, outcome)| carried(title, outcome, &before)).collect();
    assert_eq!(told(w, first.run.id).await, all, "it has no result yet");
    // The runner ran more than the one: "c" fails now.
    play(w, &rack, first.jobs[0].id, &[("c", Unexpected), ("d", Expected)]).await;
    let rest =
        [carried("a", Expected, &before), carried("b", Flaky, &before), carried("e", Skipped, &before)];
    let mut wanted = vec![own("c", Unexpected), own("d", Expected)];
    wanted.extend(rest.clone());
    assert_eq!(told(w, first.run.id).await, wanted);
    let second = rerun(w, first.run.id).await;
    play(w, &rack, second.jobs[0].id, &[("c", Expected)]).await;
    let mut wanted = vec![own("c", Expected), carried("d", Expected, &first)];
    wanted.extend(rest);
    assert_eq!(told(w, second.run.id).await, wanted);
    let outcomes = wanted.iter().map(|test| test.1);
    assert_eq!(w.run(second.run.id).await.tests, Counts::of(outcomes), "as many as are counted");
    w.wait(30 * 24 * 3_600);
    let keep = std::time::Duration::from_secs(30 * 24 * 3_600 + 1);
    let forgotten = w.store.forget(w.now, keep, 100).await.expect("the store works");
    assert_eq!(forgotten.runs, 1, "the oldest alone");
    assert_eq!(told(w, second.run.id).await, wanted[..2]);
    assert_eq!(w.run(second.run.id).await.tests.total, 5);
}

pub async fn some_tests_of_a_file_are_no_record_of_it(w: &mut World) {
    let rack = w.rack("rack", 1).await;
    let before = half_failed(w, &rack).await;
    let made = rerun(w, before.run.id).await;
    play(w, &rack, made.jobs[0].id, &[("d", Expected)]).await;
    let tests = [before.jobs[1].spec.test.clone()];
    let recorded = w.store.recorded(&acme(), None, &tests).await.expect("the store works").remove(0);
    assert_eq!(recorded.len(), 3);
    let history = w.store.history(10).await.expect("the store works");
    assert_eq!(history.iter().map(|(_, took)| took.is_shard).collect::<Vec<_>>(), [false, false, true]);
}

pub async fn a_key_finds_its_run(w: &mut World) {
    let made = w.submit_keyed("ci-1", 1).await;
    w.submit_keyed("ci-2", 1).await;
    let found = async |w: &World, org: &str, text: &str| {
        let (key, _) = key(text, 1).expect("a good key");
        let filter = RunFilter { key: Some((super::world::org(org), key)), ..RunFilter::default() };
        let runs = w.store.runs(&Scope::All, &filter, None, 10).await.expect("the store works");
        runs.into_iter().map(|(run, _)| run.id).collect::<Vec<_>>()
    };
    assert_eq!(found(w, "acme", "ci-1").await, [made.run.id]);
    assert_eq!(found(w, "acme", "ci-3").await, []);
    assert_eq!(found(w, "other", "ci-1").await, []);
    let (cancelled, _) = key("ci-4", 1).expect("a good key");
    let cancel = store::Cancel::Key(acme(), cancelled);
    w.store.cancel(w.now, &Scope::All, cancel).await.expect("the store works").expect("a key is free");
    assert_eq!(found(w, "acme", "ci-4").await, [], "no run came of it");
}
