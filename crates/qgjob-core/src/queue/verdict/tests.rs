//! Witnesses that agree, and every way in which they may not.

use std::sync::LazyLock;

use super::*;
use crate::model::evidence::Fault;

static FILE: LazyLock<TestPath> = LazyLock::new(|| "tests/a.spec.js".parse().unwrap());

fn file() -> &'static TestPath {
    &FILE
}

fn whole() -> Asked<'static> {
    Asked { test: file(), shard: None, only: &[] }
}

fn of_shard(shard: &Shard) -> Asked<'_> {
    Asked { shard: Some(shard), ..whole() }
}

fn live(id: &str, retry: u32, status: TryStatus, outcome: TestOutcome) -> Try {
    Try {
        seq: 1,
        test_id: id.to_owned(),
        title: vec![format!("test {id}")],
        unit: None,
        file: file().to_string(),
        line: 1,
        retry,
        status,
        by_suite: None,
        outcome,
        duration_ms: 1,
        error: (status == TryStatus::Failed).then(|| "expected 1\nreceived 2".to_owned()),
        files: Vec::new(),
    }
}

fn reported(id: &str, outcome: TestOutcome, tries: u32) -> ReportedTest {
    ReportedTest { test_id: id.to_owned(), file: file().to_string(), outcome, tries }
}

fn evidence(code: i32, tests: Vec<ReportedTest>) -> Evidence {
    let report = Report::Read { tests, errors: vec![] };
    Evidence { stopped: None, fault: None, exit: Some(Exit::Code(code)), selected: None, report }
}

fn passing() -> (Evidence, Vec<Try>) {
    let e = evidence(0, vec![reported("1", TestOutcome::Expected, 1)]);
    (e, vec![live("1", 0, TryStatus::Passed, TestOutcome::Expected)])
}

#[test]
fn three_witnesses_that_agree_make_a_pass() {
    let (e, seen) = passing();
    for selected in [None, Some(1)] {
        let judged = judge(whole(), &Evidence { selected, ..e.clone() }, &seen, false);
        assert_eq!((judged.outcome, judged.reason), (Outcome::Passed, Reason::TestsPassed));
        assert_eq!(judged.tests, Counts { total: 1, passed: 1, ..Counts::default() });
    }
}

#[test]
fn a_failure_is_a_failure_and_names_the_test() {
    let e = evidence(1, vec![reported("1", TestOutcome::Unexpected, 1)]);
    let judged = judge(whole(), &e, &[live("1", 0, TryStatus::Failed, TestOutcome::Unexpected)], false);
    assert_eq!((judged.outcome, judged.reason), (Outcome::Failed, Reason::TestsFailed));
    assert_eq!(judged.detail.as_deref(), Some("test 1: expected 1"));
}

#[test]
fn a_test_that_passes_on_a_retry_is_flaky_and_passes() {
    let e = evidence(0, vec![reported("1", TestOutcome::Flaky, 2)]);
    let seen = [
        live("1", 0, TryStatus::Failed, TestOutcome::Unexpected),
        live("1", 1, TryStatus::Passed, TestOutcome::Flaky),
    ];
    let judged = judge(whole(), &e, &seen, false);
    assert_eq!((judged.outcome, judged.tests.flaky), (Outcome::Passed, 1));
}

#[test]
fn a_file_that_skips_everything_is_skipped_not_passed() {
    let e = evidence(0, vec![reported("1", TestOutcome::Skipped, 1)]);
    let judged = judge(whole(), &e, &[live("1", 0, TryStatus::Skipped, TestOutcome::Skipped)], false);
    assert_eq!(judged.outcome, Outcome::Skipped);
}

/// Every way in which a runner or a report can lie; none may pass.
#[test]
fn nothing_that_contradicts_passes() {
    let (good, seen) = passing();
    let failed = |retry| live("1", retry, TryStatus::Failed, TestOutcome::Unexpected);
    let flaky = |tries| evidence(0, vec![reported("1", TestOutcome::Flaky, tries)]);
    let broken: Vec<(&str, Evidence, Vec<Try>, Reason)> = vec![
        (
            "exit 1 with all passed",
            Evidence { exit: Some(Exit::Code(1)), ..good.clone() },
            seen.clone(),
            Reason::ReportContradicts,
        ),
        (
            "killed",
            Evidence { exit: Some(Exit::Signal(9)), ..good.clone() },
            seen.clone(),
            Reason::RunnerCrashed,
        ),
        ("never started", Evidence { exit: None, ..good.clone() }, seen.clone(), Reason::RunnerCrashed),
        (
            "no report",
            Evidence { report: Report::Missing, ..good.clone() },
            seen.clone(),
            Reason::ReportUnreadable,
        ),
        (
            "truncated report",
            Evidence { report: Report::Unreadable { detail: "EOF".to_owned() }, ..good.clone() },
            seen.clone(),
            Reason::ReportUnreadable,
        ),
        ("empty report", evidence(0, vec![]), vec![], Reason::NoTests),
        ("not seen live", good.clone(), vec![], Reason::ReportContradicts),
        (
            "seen failing live",
            good.clone(),
            vec![live("1", 0, TryStatus::Failed, TestOutcome::Unexpected)],
            Reason::ReportContradicts,
        ),
        (
            "a test missing from the report",
            good.clone(),
            vec![seen[0].clone(), live("2", 0, TryStatus::Passed, TestOutcome::Expected)],
            Reason::ReportContradicts,
        ),
        (
            "a test that never ran",
            evidence(0, vec![reported("1", TestOutcome::Expected, 0)]),
            vec![],
            Reason::ReportContradicts,
        ),
        (
            "interrupted",
            good.clone(),
            vec![live("1", 0, TryStatus::Interrupted, TestOutcome::Expected)],
            Reason::ReportContradicts,
        ),
        (
            "called skipped, but ran",
            evidence(
                0,
                vec![reported("1", TestOutcome::Skipped, 1), reported("2", TestOutcome::Expected, 1)],
            ),
            vec![
                live("1", 0, TryStatus::Failed, TestOutcome::Unexpected),
                live("2", 0, TryStatus::Passed, TestOutcome::Expected),
            ],
            Reason::ReportContradicts,
        ),
        (
            "exit 0 with a failure",
            evidence(0, vec![reported("1", TestOutcome::Unexpected, 1)]),
            vec![live("1", 0, TryStatus::Failed, TestOutcome::Unexpected)],
            Reason::ReportContradicts,
        ),
        (
            "foreign file",
            evidence(
                0,
                vec![ReportedTest {
                    file: "tests/b.spec.js".to_owned(),
                    ..reported("1", TestOutcome::Expected, 1)
                }],
            ),
            seen.clone(),
            Reason::ReportContradicts,
        ),
        (
            "the same test twice",
            evidence(
                0,
                vec![reported("1", TestOutcome::Expected, 1), reported("1", TestOutcome::Expected, 1)],
            ),
            seen.clone(),
            Reason::ReportContradicts,
        ),
        (
            "fewer tests than were selected",
            Evidence { selected: Some(2), ..good.clone() },
            seen.clone(),
            Reason::ReportContradicts,
        ),
        (
            "more tests than were selected",
            Evidence { selected: Some(0), ..good.clone() },
            seen.clone(),
            Reason::ReportContradicts,
        ),
        (
            "a try that nobody saw",
            evidence(0, vec![reported("1", TestOutcome::Expected, 2)]),
            seen.clone(),
            Reason::ReportContradicts,
        ),
        (
            "a failed try left out",
            flaky(1),
            vec![failed(0), live("1", 1, TryStatus::Passed, TestOutcome::Flaky)],
            Reason::ReportContradicts,
        ),
        ("flaky, but every try failed", flaky(2), vec![failed(0), failed(1)], Reason::ReportContradicts),
        (
            "passed, and then failed",
            evidence(0, vec![reported("1", TestOutcome::Expected, 2)]),
            vec![seen[0].clone(), failed(1)],
            Reason::ReportContradicts,
        ),
        (
            "passed, and then failed, told in the wrong order",
            evidence(0, vec![reported("1", TestOutcome::Expected, 2)]),
            vec![failed(1), seen[0].clone()],
            Reason::ReportContradicts,
        ),
        (
            "another test's report",
            evidence(0, vec![reported("2", TestOutcome::Expected, 1)]),
            seen.clone(),
            Reason::ReportContradicts,
        ),
        (
            "a file of the same name elsewhere",
            evidence(
                0,
                vec![ReportedTest {
                    file: "/other/run/tests/a.spec.js".to_owned(),
                    ..reported("1", TestOutcome::Expected, 1)
                }],
            ),
            seen.clone(),
            Reason::ReportContradicts,
        ),
        (
            "an exit code beyond a byte",
            Evidence { exit: Some(Exit::Code(256)), ..good.clone() },
            seen.clone(),
            Reason::ReportContradicts,
        ),
        (
            "a negative exit code",
            Evidence { exit: Some(Exit::Code(-1)), ..good.clone() },
            seen.clone(),
            Reason::ReportContradicts,
        ),
        ("no test in the report, but one seen", evidence(0, vec![]), seen.clone(), Reason::NoTests),
        (
            "device lost",
            Evidence {
                fault: Some(Fault { reason: Reason::DeviceFault, detail: "gone".to_owned() }),
                ..good.clone()
            },
            seen.clone(),
            Reason::DeviceFault,
        ),
        (
            "an error outside tests, and exit 0",
            Evidence {
                report: Report::Read {
                    tests: vec![reported("1", TestOutcome::Expected, 1)],
                    errors: vec!["boom".to_owned()],
                },
                ..good.clone()
            },
            seen.clone(),
            Reason::ReportContradicts,
        ),
    ];
    assert!(broken.len() >= 27, "{}", broken.len());
    for (name, evidence, seen, reason) in broken {
        let judged = judge(whole(), &evidence, &seen, false);
        assert_eq!((judged.outcome, judged.reason), (Outcome::Errored, reason), "{name}: {judged:?}");
    }
}

#[test]
fn no_tests_and_load_errors_are_told_apart() {
    let with = |error: &str| Evidence {
        report: Report::Read { tests: vec![], errors: vec![error.to_owned()] },
        ..evidence(1, vec![])
    };
    let none = judge(whole(), &with("Error: No tests found"), &[], false);
    assert_eq!(
        (none.outcome, none.reason, none.is_infrastructure()),
        (Outcome::Errored, Reason::NoTests, false)
    );
    let both = ["Error: No tests found".to_owned(), "SyntaxError: Unexpected token".to_owned()];
    let syntax =
        Evidence { report: Report::Read { tests: vec![], errors: both.to_vec() }, ..evidence(1, vec![]) };
    let syntax = judge(whole(), &syntax, &[], false);
    assert_eq!((syntax.outcome, syntax.reason), (Outcome::Failed, Reason::LoadError));
    assert_eq!(syntax.detail.as_deref(), Some("SyntaxError: Unexpected token"));
}

#[test]
fn a_shard_whose_tests_are_gone_is_skipped_and_the_last_one_is_not() {
    let shard = |index| Shard { index, of: 2, tests: vec![vec!["test 1".to_owned()]] };
    let nothing = evidence(0, vec![]);
    let first = judge(of_shard(&shard(1)), &nothing, &[], false);
    assert_eq!((first.outcome, first.reason), (Outcome::Skipped, Reason::NoTests));
    assert!(!first.is_infrastructure() && first.tests == Counts::default());
    // Whatever else a runner without results says, it is no skip.
    let (_, seen) = passing();
    let crashed = Evidence { exit: Some(Exit::Signal(9)), ..nothing.clone() };
    for (shard, evidence, seen) in [
        (shard(2), &nothing, &[][..]),
        (shard(1), &evidence(1, vec![]), &[]),
        (shard(1), &nothing, &seen[..]),
        (shard(1), &crashed, &[]),
        (shard(1), &Evidence { selected: Some(2), ..nothing.clone() }, &[]),
        (shard(1), &Evidence { report: Report::Missing, ..nothing.clone() }, &[]),
    ] {
        let judged = judge(of_shard(&shard), evidence, seen, false);
        assert_eq!(judged.outcome, Outcome::Errored, "{shard} {evidence:?}: {judged:?}");
    }
    let (good, seen) = passing();
    assert_eq!(judge(of_shard(&shard(1)), &good, &seen, false).outcome, Outcome::Passed);
    let errors = Report::Read { tests: vec![], errors: vec!["SyntaxError: no".to_owned()] };
    let broken = Evidence { report: errors, ..evidence(1, vec![]) };
    assert_eq!(judge(of_shard(&shard(1)), &broken, &[], false).outcome, Outcome::Failed);
}

#[test]
fn a_repeat_passes_only_if_what_it_names_passes() {
    let named = |id: &str, failed| NamedTest {
        test_id: id.to_owned(),
        title: vec![format!("test {id}")],
        unit: Some(1),
        line: 1,
        failed,
    };
    let judged = |only: &[NamedTest], evidence: &Evidence, seen: &[Try]| {
        let judged = judge(Asked { only, ..whole() }, evidence, seen, false);
        (judged.outcome, judged.reason)
    };
    let (good, seen) = passing();
    let gone = (Outcome::Errored, Reason::TestsMissing);
    assert_eq!(judged(&[named("1", true)], &good, &seen), (Outcome::Passed, Reason::TestsPassed));
    assert_eq!(judged(&[named("2", true)], &good, &seen), gone);
    assert_eq!(judged(&[named("1", true), named("2", false)], &good, &seen), gone);
    let skipped = evidence(0, vec![reported("1", TestOutcome::Skipped, 1)]);
    let seen_skipped = [live("1", 0, TryStatus::Skipped, TestOutcome::Skipped)];
    assert_eq!(judged(&[named("1", true)], &skipped, &seen_skipped), gone);
    assert_eq!(
        judged(&[named("1", false)], &skipped, &seen_skipped),
        (Outcome::Skipped, Reason::TestsSkipped)
    );
    // One more that passes does not make up for it.
    let both =
        evidence(0, vec![reported("1", TestOutcome::Skipped, 1), reported("2", TestOutcome::Expected, 1)]);
    let seen_both = [seen_skipped[0].clone(), live("2", 0, TryStatus::Passed, TestOutcome::Expected)];
    assert_eq!(judged(&[named("1", true)], &both, &seen_both), gone);
    // What fails fails, whether it is named or not, and a report without tests is no pass.
    let bad = evidence(1, vec![reported("3", TestOutcome::Unexpected, 1)]);
    let seen_bad = [live("3", 0, TryStatus::Failed, TestOutcome::Unexpected)];
    assert_eq!(judged(&[named("1", true)], &bad, &seen_bad), (Outcome::Failed, Reason::TestsFailed));
    let shard = Shard { index: 1, of: 2, tests: vec![] };
    let only = [named("1", true)];
    let asked = Asked { only: &only, ..of_shard(&shard) };
    let none_found = Report::Read { tests: vec![], errors: vec!["Error: No tests found".to_owned()] };
    for report in [Report::Read { tests: vec![], errors: vec![] }, none_found] {
        for code in [0, 1] {
            let nothing =
                judge(asked, &Evidence { report: report.clone(), ..evidence(code, vec![]) }, &[], false);
            let is_told = code == 0 && matches!(&report, Report::Read { errors, .. } if !errors.is_empty());
            let reason = if is_told { Reason::ReportContradicts } else { Reason::TestsMissing };
            assert_eq!((nothing.outcome, nothing.reason), (Outcome::Errored, reason), "{code} {report:?}");
        }
    }
    let missing = judge(Asked { only: &only, ..whole() }, &both, &seen_both, false);
    assert!(!missing.is_infrastructure() && missing.tests == Counts::default(), "{missing:?}");
}

#[test]
fn cancel_wins_over_whatever_else_was_seen() {
    let (good, seen) = passing();
    let e = Evidence {
        stopped: Some(Stop::Cancelled),
        fault: Some(Fault { reason: Reason::DeviceFault, detail: "gone".to_owned() }),
        ..good
    };
    assert_eq!(judge(whole(), &e, &seen, true).outcome, Outcome::Cancelled);
}

#[test]
fn an_agent_cannot_cancel() {
    let (good, seen) = passing();
    let e = Evidence { stopped: Some(Stop::Cancelled), ..good };
    let judged = judge(whole(), &e, &seen, false);
    assert_eq!((judged.outcome, judged.reason), (Outcome::Errored, Reason::AgentFault));
    assert!(judged.is_infrastructure() && judged.tests == Counts::default());
}
