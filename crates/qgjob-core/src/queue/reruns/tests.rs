use super::*;
use crate::model::attempt::Outcome;
use crate::model::job::{self, Reset, Spec, Status};
use crate::model::selector::{Selector, Target};
use crate::model::sha256::Sha256;
use crate::model::test_result::TryStatus;
use crate::model::{run, test_result};
use TestOutcome::{Expected, Flaky, Skipped, Unexpected};

/// A completed job whose attempt told these outcomes.
fn job(conclusion: Conclusion, reason: Reason, outcomes: &[TestOutcome]) -> Job {
    let now = "2026-11-28T10:00:00Z".parse().unwrap();
    Job {
        id: job::Id(1),
        run_id: run::Id(1),
        org_id: "acme".parse().unwrap(),
        app_version_id: "v1".parse().unwrap(),
        spec: Spec {
            test: "a.spec.js".parse().unwrap(),
            shard: None,
            rerun: None,
            bundle_sha256: Sha256([1; 32]),
            platform: None,
            target: Target::Any,
            selector: Selector::default(),
            priority: Default::default(),
            timeout_ms: 1,
            infra_retries: 0,
            test_retries: 0,
            reset: Reset::None,
            env: Default::default(),
            concurrency_group: None,
        },
        status: Status::Completed,
        conclusion: Some(conclusion),
        reason: Some(reason),
        detail: None,
        phase: None,
        attempts: 1,
        infra_faults: 0,
        avoid: vec![],
        not_before: None,
        promoted_at: None,
        queue_deadline: now,
        predicted_ms: 1_000,
        device_id: None,
        tests: Counts::of(outcomes.iter().copied()),
        created_at: now,
        started_at: None,
        finished_at: Some(now),
        version: 1,
    }
}

fn failed(outcomes: &[TestOutcome]) -> Job {
    job(Conclusion::Failed, Reason::TestsFailed, outcomes)
}

/// A test: its titles, joined by `/`, how many of them are its unit, what it came to.
type Test = (&'static str, u32, TestOutcome);

fn tries(tests: &[Test]) -> Vec<Try> {
    (1..)
        .zip(tests)
        .map(|(seq, (title, unit, outcome))| Try {
            seq,
            test_id: format!("id of {title}"),
            title: title.split('/').map(str::to_owned).collect(),
            unit: Some(*unit),
            file: "a.spec.js".to_owned(),
            line: seq,
            retry: 0,
            status: if *outcome == Skipped { TryStatus::Skipped } else { TryStatus::Passed },
            by_suite: (*outcome == Skipped).then_some(true),
            outcome: *outcome,
            duration_ms: 100,
            error: None,
            files: Vec::new(),
        })
        .collect()
}

fn outcomes(tests: &[Test]) -> Vec<TestOutcome> {
    tests.iter().map(|test| test.2).collect()
}

fn made(tests: &[Test]) -> Again {
    again(&failed(&outcomes(tests)), None, &tries(tests)).unwrap()
}

fn names(again: &Again) -> Vec<(String, bool)> {
    again.kept.rerun.tests.iter().map(|test| (test.title.join("/"), test.failed)).collect()
}

fn judged(reason: Reason, tests: &[Test]) -> Judgement {
    let outcome = if reason == Reason::TestsPassed { Outcome::Passed } else { Outcome::Failed };
    Judgement { outcome, reason, detail: None, tests: Counts::of(outcomes(tests)) }
}

fn settled(kept: &Kept, reason: Reason, tests: &[Test]) -> Option<Settled> {
    let reported: Vec<ReportedTest> = tests
        .iter()
        .map(|(title, _, outcome)| ReportedTest {
            test_id: format!("id of {title}"),
            file: "a.spec.js".to_owned(),
            outcome: *outcome,
            tries: 1,
        })
        .collect();
    settle(kept, &judged(reason, tests), &reported, &tries(tests))
}

fn counts(passed: u32, failed: u32, flaky: u32, skipped: u32) -> Counts {
    test_result::Counts { total: passed + failed + flaky + skipped, passed, failed, flaky, skipped }
}

#[test]
fn only_what_failed_is_repeated_and_flaky_tests_passed() {
    let tests = [("a", 1, Expected), ("b", 1, Unexpected), ("c", 1, Flaky), ("d", 1, Skipped)];
    let again = made(&tests);
    assert_eq!(names(&again), [("b".to_owned(), true)]);
    assert_eq!((again.kept.had, again.repeats), (counts(1, 1, 1, 1), counts(0, 1, 0, 0)));
    assert_eq!(again.predicted_ms, 250, "a quarter of what the file takes");
    assert_eq!(again.kept.rerun.of, job::Id(1));
}

#[test]
fn a_serial_suite_is_repeated_whole_and_nothing_beside_it() {
    let tests = [
        ("s/pays", 1, Expected),
        ("s/arrives", 1, Unexpected),
        ("s/thanks", 1, Skipped),
        ("other/pays", 2, Expected),
    ];
    let of_suite = |title: &str, failed| (title.to_owned(), failed);
    let wanted = [of_suite("s/pays", false), of_suite("s/arrives", true), of_suite("s/thanks", false)];
    assert_eq!(names(&made(&tests)), wanted);
    let file = [("a", 0, Expected), ("b", 0, Unexpected)];
    assert_eq!(names(&made(&file)).len(), 2, "a file that is one");
}

#[test]
fn what_did_not_run_because_of_a_failure_is_repeated() {
    let tests = [("a", 1, Unexpected), ("b", 1, Skipped), ("c", 1, Skipped), ("d", 1, Expected)];
    let mut seen = tries(&tests);
    seen[1].by_suite = Some(false);
    let again = again(&failed(&outcomes(&tests)), None, &seen).unwrap();
    assert_eq!(names(&again), [("a".to_owned(), true), ("b".to_owned(), false)]);
    // Where the runner did not say why, it may be so.
    seen[2].by_suite = None;
    let again = super::again(&failed(&outcomes(&tests)), None, &seen).unwrap();
    assert_eq!(again.kept.rerun.tests.len(), 3);
}

#[test]
fn a_job_with_a_test_that_nobody_saw_is_repeated_whole() {
    let tests = [("a", 1, Unexpected), ("b", 1, Expected)];
    let again = again(&failed(&[Unexpected, Expected, Skipped]), None, &tries(&tests)).unwrap();
    assert_eq!((names(&again), again.repeats), (vec![], counts(1, 1, 0, 1)));
    assert_eq!(again.predicted_ms, 1_000);
}

#[test]
fn a_job_without_a_verdict_on_its_tests_is_repeated_whole() {
    let tests = [("a", 1, Unexpected), ("b", 1, Expected)];
    for (conclusion, reason) in [
        (Conclusion::Errored, Reason::DeviceFault),
        (Conclusion::Errored, Reason::NoTests),
        (Conclusion::Errored, Reason::TestsMissing),
        (Conclusion::TimedOut, Reason::Timeout),
        (Conclusion::Cancelled, Reason::Cancelled),
        (Conclusion::Failed, Reason::LoadError),
    ] {
        let again = again(&job(conclusion, reason, &[]), None, &tries(&tests)).unwrap();
        assert_eq!((names(&again), again.repeats), (vec![], Counts::default()), "{reason}");
    }
    for (conclusion, reason) in
        [(Conclusion::Passed, Reason::TestsPassed), (Conclusion::Skipped, Reason::TestsSkipped)]
    {
        assert_eq!(again(&job(conclusion, reason, &[]), None, &[]), None, "{reason}");
    }
}

#[test]
fn too_many_failures_to_name_are_repeated_with_all_others() {
    let many: Vec<Test> = (0..=MOST_NAMED)
        .map(|number| (&*Box::leak(number.to_string().into_boxed_str()), 1, Unexpected))
        .collect();
    assert_eq!(owed(&made(&many)).len(), many.len());
    assert_eq!(names(&made(&many[1..])).len(), MOST_NAMED);
}

#[test]
fn a_new_result_takes_the_place_of_the_old_one() {
    let tests = [("a", 1, Expected), ("b", 1, Unexpected), ("c", 1, Skipped)];
    let kept = made(&tests).kept;
    let fixed = settled(&kept, Reason::TestsPassed, &[("b", 1, Expected)]).unwrap();
    assert_eq!((fixed.kept.had, fixed.uncarried), (counts(2, 0, 0, 1), Counts::default()));
    let again = settled(&kept, Reason::TestsFailed, &[("b", 1, Unexpected)]).unwrap();
    assert_eq!(again.kept.had, kept.had);
    // A runner that could not run it alone: what had passed may fail now.
    let more = [("a", 1, Unexpected), ("b", 1, Expected), ("c", 1, Skipped), ("new", 1, Expected)];
    let more = settled(&kept, Reason::TestsFailed, &more).unwrap();
    assert_eq!((more.kept.had, more.uncarried), (counts(2, 1, 0, 1), counts(1, 0, 0, 1)));
    for none in [Reason::DeviceFault, Reason::TestsMissing, Reason::LoadError, Reason::ReportContradicts] {
        assert_eq!(settled(&kept, none, &[]), None, "{none}");
    }
}

#[test]
fn on_another_kind_of_device_a_test_is_known_by_its_titles() {
    let kept = made(&[("a", 1, Expected), ("b", 1, Unexpected)]).kept;
    let mut seen = tries(&[("b", 1, Expected)]);
    seen[0].test_id = "other".to_owned();
    let reported = ReportedTest {
        test_id: "other".to_owned(),
        file: "a.spec.js".to_owned(),
        outcome: Expected,
        tries: 1,
    };
    let judgement = judged(Reason::TestsPassed, &[("b", 1, Expected)]);
    let settled = settle(&kept, &judgement, &[reported], &seen).unwrap();
    assert_eq!((settled.kept.had, settled.uncarried), (counts(2, 0, 0, 0), Counts::default()));
}

#[test]
fn a_job_that_is_repeated_whole_counts_for_what_it_came_to() {
    let kept = again(&job(Conclusion::Errored, Reason::DeviceFault, &[]), None, &[]).unwrap().kept;
    let all = [("a", 1, Expected), ("b", 1, Unexpected)];
    assert_eq!(settled(&kept, Reason::TestsFailed, &all).unwrap().kept.had, counts(1, 1, 0, 0));
    let half = again(&job(Conclusion::Failed, Reason::LoadError, &[Expected; 3]), None, &[]).unwrap().kept;
    assert_eq!(half.had, counts(3, 0, 0, 0));
    assert_eq!(settled(&half, Reason::LoadError, &all), None, "it told of more tests before");
    assert_eq!(settled(&half, Reason::TestsFailed, &all).unwrap().kept.had, counts(1, 1, 0, 0));
}

#[test]
fn a_rerun_of_a_rerun_repeats_what_still_fails() {
    let tests = [("a", 1, Expected), ("b", 1, Unexpected), ("c", 1, Unexpected)];
    let kept = made(&tests).kept;
    let second = [("b", 1, Expected), ("c", 1, Unexpected)];
    let kept = settled(&kept, Reason::TestsFailed, &second).unwrap().kept;
    let third = again(&failed(&outcomes(&second)), Some(&kept), &tries(&second)).unwrap();
    assert_eq!(names(&third), [("c".to_owned(), true)]);
    assert_eq!((third.kept.had, third.repeats), (counts(2, 1, 0, 0), counts(0, 1, 0, 0)));
    // One that came to nothing leaves all that it was to repeat.
    let lost = job(Conclusion::Errored, Reason::DeviceFault, &[]);
    let fourth = again(&lost, Some(&third.kept), &[]).unwrap();
    assert_eq!((names(&fourth), fourth.repeats), (names(&third), third.repeats));
    assert_eq!(fourth.kept.known, third.kept.known);
    let fixed = settled(&fourth.kept, Reason::TestsPassed, &[("c", 1, Expected)]).unwrap();
    assert_eq!(fixed.kept.had, counts(3, 0, 0, 0));
}

#[test]
fn what_failed_is_repeated_until_it_passes() {
    let tests = [("a", 1, Expected), ("b", 1, Unexpected), ("c", 1, Unexpected)];
    let kept = made(&tests).kept;
    let both = [("b".to_owned(), true), ("c".to_owned(), true)];
    let only_b = [("b", 1, Unexpected)];
    let skipped = [("b", 1, Unexpected), ("c", 1, Skipped)];
    let mut not_run = tries(&skipped);
    not_run[1].by_suite = Some(false);
    for (case, second, seen, had) in [
        ("absent", &only_b[..], tries(&only_b), counts(1, 2, 0, 0)),
        ("skipped by the suite", &skipped, tries(&skipped), counts(1, 1, 0, 1)),
        ("not run", &skipped, not_run, counts(1, 1, 0, 1)),
    ] {
        let kept = settled(&kept, Reason::TestsFailed, second).unwrap().kept;
        let third = again(&failed(&outcomes(second)), Some(&kept), &seen).unwrap();
        assert_eq!((names(&third), third.kept.had), (both.to_vec(), had), "{case}");
        assert_eq!(third.repeats, counts(0, had.failed, 0, had.skipped), "{case}");
        let fixed = settled(&third.kept, Reason::TestsPassed, &[("b", 1, Expected), ("c", 1, Expected)]);
        assert_eq!(fixed.unwrap().kept.had, counts(3, 0, 0, 0), "{case}");
    }
}

#[test]
fn what_was_to_be_repeated_and_has_no_result_is_repeated_with_its_suite() {
    let tests = [("s/pays", 1, Expected), ("s/arrives", 1, Unexpected), ("b", 1, Unexpected)];
    let kept = made(&tests).kept;
    let second = [("s/pays", 1, Expected), ("b", 1, Unexpected)];
    let kept = settled(&kept, Reason::TestsFailed, &second).unwrap().kept;
    let third = again(&failed(&outcomes(&second)), Some(&kept), &tries(&second)).unwrap();
    let named = |title: &str, failed| (title.to_owned(), failed);
    assert_eq!(names(&third), [named("s/pays", false), named("b", true), named("s/arrives", true)]);
}

/// The titles of the tests that must pass although none is named.
fn owed(again: &Again) -> Vec<String> {
    assert!(again.kept.rerun.tests.is_empty() && again.kept.owed().iter().all(|test| test.failed));
    again.kept.owed().iter().map(|test| test.title.join("/")).collect()
}

#[test]
fn what_failed_must_pass_also_where_all_is_repeated() {
    // One was skipped that nobody saw.
    let tests = [("a", 1, Expected), ("b", 1, Unexpected), ("c", 1, Unexpected)];
    let with_unseen = [Expected, Unexpected, Unexpected, Skipped];
    let second = again(&failed(&with_unseen), None, &tries(&tests)).unwrap();
    assert_eq!(owed(&second), ["b", "c"]);
    for lost in [Reason::DeviceFault, Reason::TestsMissing] {
        let lost = again(&job(Conclusion::Errored, lost, &[]), Some(&second.kept), &[]).unwrap();
        assert_eq!(owed(&lost), ["b", "c"]);
    }
    let broken = job(Conclusion::Failed, Reason::LoadError, &outcomes(&tests));
    assert_eq!(owed(&again(&broken, None, &tries(&tests)).unwrap()), ["b", "c"]);
    let b_passed = tries(&[("b", 1, Expected)]);
    assert_eq!(owed(&again(&broken, Some(&second.kept), &b_passed).unwrap()), ["c"]);
    // What was skipped beside a failure still has to pass, whether it can be named or not.
    let third = [("a", 1, Expected), ("b", 1, Unexpected), ("c", 1, Skipped)];
    let kept = settled(&second.kept, Reason::TestsFailed, &third).unwrap().kept;
    let named = again(&failed(&outcomes(&third)), Some(&kept), &tries(&third)).unwrap();
    assert_eq!(names(&named), [("b".to_owned(), true), ("c".to_owned(), true)]);
    assert_eq!(named.kept.failed, []);
    let whole = again(&failed(&with_unseen), Some(&kept), &tries(&third)).unwrap();
    assert_eq!(owed(&whole), ["b", "c"]);
    let text = serde_json::to_string(&whole.kept).unwrap();
    assert_eq!(serde_json::from_str::<Kept>(&text).unwrap(), whole.kept);
}

#[test]
fn on_another_kind_of_device_what_passed_there_is_not_repeated() {
    let tests = [("a", 1, Expected), ("b", 1, Unexpected), ("c", 1, Unexpected), ("d", 1, Unexpected)];
    let kept = made(&tests).kept;
    let second = [("b", 1, Unexpected), ("c", 1, Expected), ("d", 1, Skipped)];
    let mut seen = tries(&second);
    seen.iter_mut().for_each(|one| one.test_id = format!("other {}", one.test_id));
    let third = again(&failed(&outcomes(&second)), Some(&kept), &seen).unwrap();
    assert_eq!(names(&third), [("b".to_owned(), true), ("d".to_owned(), true)]);
    assert_eq!(third.kept.rerun.tests[0].test_id, "other id of b");
}

#[test]
fn what_is_kept_reads_back() {
    let kept = made(&[("a", 1, Expected), ("b", 1, Unexpected)]).kept;
    let text = serde_json::to_string(&kept).unwrap();
    assert_eq!(serde_json::from_str::<Kept>(&text).unwrap(), kept);
}
