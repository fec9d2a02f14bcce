//! The verdict: from what the agent saw to what may be concluded.
//!
//! `passed` needs three witnesses that agree: the runner's exit code, the runner's report, and the tries that were
//! reported live. Whatever is missing or contradicts makes the attempt `errored`, never `passed`.

use std::collections::HashMap;

use crate::model::attempt::Outcome;
use crate::model::evidence::{Evidence, Exit, Report, ReportedTest, Stop};
use crate::model::job::{Conclusion, Reason};
use crate::model::name::TestPath;
use crate::model::shard::Shard;
use crate::model::test_result::{Counts, TestOutcome, Try, TryStatus};

/// What is concluded of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// How the attempt ended.
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
    /// The same for people.
    pub detail: Option<String>,
    /// Tests by outcome, as far as the report is to be trusted.
    pub tests: Counts,
}

impl Judgement {
    /// The judgement of an attempt whose lease ran out.
    pub fn lost() -> Self {
        let detail = "the agent did not renew its lease in time".to_owned();
        Self {
            outcome: Outcome::Lost,
            reason: Reason::LeaseLost,
            detail: Some(detail),
            tests: Counts::default(),
        }
    }

    /// The judgement of an attempt that its agent did not end in time itself.
    pub fn overdue() -> Self {
        let detail = "the attempt outlived its timeout and its agent did not stop it".to_owned();
        Self {
            outcome: Outcome::TimedOut,
            reason: Reason::Timeout,
            detail: Some(detail),
            tests: Counts::default(),
        }
    }

    /// The judgement of an attempt whose agent stopped it as cancelled although nobody had cancelled its job. Only users
    /// cancel: this is the agent's fault, and paid from the infra budget, so that it cannot go on forever.
    fn not_cancelled() -> Self {
        let detail = "the agent reported a cancel that nobody had asked for".to_owned();
        Self {
            outcome: Outcome::Errored,
            reason: Reason::AgentFault,
            detail: Some(detail),
            tests: Counts::default(),
        }
    }

    /// The conclusion of a job whose last attempt was judged so.
    pub fn conclusion(&self) -> Conclusion {
        match self.outcome {
            Outcome::Passed => Conclusion::Passed,
            Outcome::Failed => Conclusion::Failed,
            Outcome::TimedOut => Conclusion::TimedOut,
            Outcome::Cancelled => Conclusion::Cancelled,
            Outcome::Skipped => Conclusion::Skipped,
            Outcome::Errored | Outcome::Lost | Outcome::Released => Conclusion::Errored,
        }
    }

    /// Whether another attempt could end otherwise: infrastructure, not tests or project.
    pub fn is_infrastructure(&self) -> bool {
        let final_reason = matches!(self.reason, Reason::NoTests | Reason::ProjectInvalid);
        matches!(self.outcome, Outcome::Errored | Outcome::Lost) && !final_reason
    }
}

/// Judges an attempt of `test`, or of a shard of it, by the agent's `evidence` and the `seen` tries, which the store received while the
/// runner ran. `cancelled` says whether somebody had cancelled the job: the agent's word alone is not enough.
pub fn judge(
    test: &TestPath,
    shard: Option<&Shard>,
    evidence: &Evidence,
    seen: &[Try],
    cancelled: bool,
) -> Judgement {
    let verdict =
        |outcome, reason, detail: Option<String>, tests| Judgement { outcome, reason, detail, tests };
    let none = Counts::default();
    match evidence.stopped {
        Some(Stop::Cancelled) if !cancelled => return Judgement::not_cancelled(),
        Some(Stop::Cancelled) => return verdict(Outcome::Cancelled, Reason::Cancelled, None, none),
        Some(Stop::LeaseLost) => return verdict(Outcome::Lost, Reason::LeaseLost, None, none),
        Some(Stop::Shutdown) => return verdict(Outcome::Released, Reason::Released, None, none),
        Some(Stop::TimedOut) | None => {}
    }
    if let Some(fault) = &evidence.fault {
        return verdict(Outcome::Errored, fault.reason, Some(fault.detail.clone()), none);
    }
    if evidence.stopped == Some(Stop::TimedOut) {
        return verdict(
            Outcome::TimedOut,
            Reason::Timeout,
            Some("the attempt took longer than its timeout".to_owned()),
            none,
        );
    }
    let errored = |reason, detail: String| verdict(Outcome::Errored, reason, Some(detail), none);
    let code = match evidence.exit {
        Some(Exit::Code(code)) => code,
        Some(Exit::Signal(signal)) => {
            return errored(Reason::RunnerCrashed, format!("the runner was ended by signal {signal}"));
        }
        None => return errored(Reason::RunnerCrashed, "the runner was never started".to_owned()),
    };
    let (tests, errors) = match &evidence.report {
        Report::Missing => {
            return errored(
                Reason::ReportUnreadable,
                format!("the runner ended with code {code} and left no report"),
            );
        }
        Report::Unreadable { detail } => return errored(Reason::ReportUnreadable, detail.clone()),
        Report::Read { tests, errors } => (tests, errors),
    };
    let counts = Counts::of(tests.iter().map(|test| test.outcome));
    // A file that cannot be loaded is reported twice: why, and that no test was found in it.
    let no_tests = |error: &&String| error.contains("No tests found");
    match errors.iter().find(|error| !no_tests(error)).or(errors.first()) {
        None => {}
        Some(error) if code == 0 => {
            return contradiction(format!("the runner ended with code 0 and reported: {error}"));
        }
        Some(error) if tests.is_empty() && no_tests(&error) => {
            return errored(Reason::NoTests, "the runner found no test in the file".to_owned());
        }
        Some(error) => return verdict(Outcome::Failed, Reason::LoadError, Some(error.clone()), counts),
    }
    if tests.is_empty() {
        return match shard {
            Some(shard) if !shard.is_last() && code == 0 && seen.is_empty() => {
                let detail = "the runner could select none of the shard's tests: the file's last shard runs what there is of them";
                verdict(Outcome::Skipped, Reason::NoTests, Some(detail.to_owned()), none)
            }
            Some(shard) if shard.is_last() => {
                let detail = "the runner found no test that is not left to the file's other shards";
                errored(Reason::NoTests, detail.to_owned())
            }
            _ => errored(Reason::NoTests, "the runner's report names no test".to_owned()),
        };
    }
    if let Some(detail) = disagreement(test, tests, seen) {
        return contradiction(detail);
    }
    match (counts.failed, code) {
        (0, 0) if counts.passed + counts.flaky == 0 => verdict(
            Outcome::Skipped,
            Reason::TestsSkipped,
            Some("the suite skipped every test".to_owned()),
            counts,
        ),
        (0, 0) => verdict(Outcome::Passed, Reason::TestsPassed, None, counts),
        (0, code) => contradiction(format!("no test failed, but the runner ended with code {code}")),
        (failed, 0) => contradiction(format!("{failed} tests failed, but the runner ended with code 0")),
        (failed, _) => {
            verdict(Outcome::Failed, Reason::TestsFailed, Some(first_failure(seen, failed)), counts)
        }
    }
}

fn contradiction(detail: String) -> Judgement {
    Judgement {
        outcome: Outcome::Errored,
        reason: Reason::ReportContradicts,
        detail: Some(detail),
        tests: Counts::default(),
    }
}

/// What the report says that the live tries do not bear out, if anything.
fn disagreement(file: &TestPath, tests: &[ReportedTest], seen: &[Try]) -> Option<String> {
    let mut last: HashMap<&str, &Try> = HashMap::new();
    for one in seen {
        let kept = last.entry(&one.test_id).or_insert(one);
        if one.retry >= kept.retry {
            *kept = one;
        }
    }
    let mut reported = HashMap::new();
    for test in tests {
        if test.file != file.as_str() {
            return Some(format!("the report holds a test of {}, not of {file}", test.file));
        }
        if reported.insert(test.test_id.as_str(), test).is_some() {
            return Some(format!("the report names test {} twice", test.test_id));
        }
        let live = last.get(test.test_id.as_str());
        if test.outcome == TestOutcome::Skipped {
            if live.is_some_and(|live| live.status != TryStatus::Skipped) {
                return Some(format!("the report calls test {} skipped, but it ran", test.test_id));
            }
            continue;
        }
        match live {
            _ if test.tries == 0 => {
                return Some(format!("test {} was selected but did not run", test.test_id));
            }
            None => {
                return Some(format!(
                    "the report holds a result of test {} that was not seen live",
                    test.test_id
                ));
            }
            Some(live) if live.status == TryStatus::Interrupted => {
                return Some(format!("test {} was interrupted", test.test_id));
            }
            Some(live) if live.outcome != test.outcome => {
                let (said, saw) = (test.outcome, live.outcome);
                return Some(format!("the report calls test {} {said}, live it was {saw}", test.test_id));
            }
            Some(_) => {}
        }
    }
    let missing = last.keys().find(|id| !reported.contains_key(*id))?;
    Some(format!("test {missing} ran, but the report does not name it"))
}

fn first_failure(seen: &[Try], failed: u32) -> String {
    let failure = seen.iter().find(|one| one.outcome == TestOutcome::Unexpected);
    let text = failure.and_then(|one| {
        Some(format!("{}: {}", one.title.join(" › "), one.error.as_deref()?.lines().next()?))
    });
    match text {
        Some(text) if failed == 1 => text,
        Some(text) => format!("{failed} tests failed, first {text}"),
        None => format!("{failed} tests failed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::evidence::Fault;

    fn file() -> TestPath {
        "tests/a.spec.js".parse().unwrap()
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
            outcome,
            duration_ms: 1,
            error: (status == TryStatus::Failed).then(|| "expected 1\nreceived 2".to_owned()),
        }
    }

    fn reported(id: &str, outcome: TestOutcome, tries: u32) -> ReportedTest {
        ReportedTest { test_id: id.to_owned(), file: file().to_string(), outcome, tries }
    }

    fn evidence(code: i32, tests: Vec<ReportedTest>) -> Evidence {
        let report = Report::Read { tests, errors: vec![] };
        Evidence { stopped: None, fault: None, exit: Some(Exit::Code(code)), report }
    }

    fn passing() -> (Evidence, Vec<Try>) {
        let e = evidence(0, vec![reported("1", TestOutcome::Expected, 1)]);
        (e, vec![live("1", 0, TryStatus::Passed, TestOutcome::Expected)])
    }

    #[test]
    fn three_witnesses_that_agree_make_a_pass() {
        let (e, seen) = passing();
        let judged = judge(&file(), None, &e, &seen, false);
        assert_eq!((judged.outcome, judged.reason), (Outcome::Passed, Reason::TestsPassed));
        assert_eq!(judged.tests, Counts { total: 1, passed: 1, ..Counts::default() });
    }

    #[test]
    fn a_failure_is_a_failure_and_names_the_test() {
        let e = evidence(1, vec![reported("1", TestOutcome::Unexpected, 1)]);
        let judged =
            judge(&file(), None, &e, &[live("1", 0, TryStatus::Failed, TestOutcome::Unexpected)], false);
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
        let judged = judge(&file(), None, &e, &seen, false);
        assert_eq!((judged.outcome, judged.tests.flaky), (Outcome::Passed, 1));
    }

    #[test]
    fn a_file_that_skips_everything_is_skipped_not_passed() {
        let e = evidence(0, vec![reported("1", TestOutcome::Skipped, 1)]);
        let judged =
            judge(&file(), None, &e, &[live("1", 0, TryStatus::Skipped, TestOutcome::Skipped)], false);
        assert_eq!(judged.outcome, Outcome::Skipped);
    }

    /// Every way in which a runner or a report can lie; none may pass.
    #[test]
    fn nothing_that_contradicts_passes() {
        let (good, seen) = passing();
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
        for (name, evidence, seen, reason) in broken {
            let judged = judge(&file(), None, &evidence, &seen, false);
            assert_eq!((judged.outcome, judged.reason), (Outcome::Errored, reason), "{name}: {judged:?}");
        }
    }

    #[test]
    fn no_tests_and_load_errors_are_told_apart() {
        let with = |error: &str| Evidence {
            report: Report::Read { tests: vec![], errors: vec![error.to_owned()] },
            ..evidence(1, vec![])
        };
        let none = judge(&file(), None, &with("Error: No tests found"), &[], false);
        assert_eq!(
            (none.outcome, none.reason, none.is_infrastructure()),
            (Outcome::Errored, Reason::NoTests, false)
        );
        let both = ["Error: No tests found".to_owned(), "SyntaxError: Unexpected token".to_owned()];
        let syntax =
            Evidence { report: Report::Read { tests: vec![], errors: both.to_vec() }, ..evidence(1, vec![]) };
        let syntax = judge(&file(), None, &syntax, &[], false);
        assert_eq!((syntax.outcome, syntax.reason), (Outcome::Failed, Reason::LoadError));
        assert_eq!(syntax.detail.as_deref(), Some("SyntaxError: Unexpected token"));
    }

    #[test]
    fn a_shard_whose_tests_are_gone_is_skipped_and_the_last_one_is_not() {
        let shard = |index| Shard { index, of: 2, tests: vec![vec!["test 1".to_owned()]] };
        let nothing = evidence(0, vec![]);
        let first = judge(&file(), Some(&shard(1)), &nothing, &[], false);
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
            (shard(1), &Evidence { report: Report::Missing, ..nothing.clone() }, &[]),
        ] {
            let judged = judge(&file(), Some(&shard), evidence, seen, false);
            assert_eq!(judged.outcome, Outcome::Errored, "{shard} {evidence:?}: {judged:?}");
        }
        let (good, seen) = passing();
        assert_eq!(judge(&file(), Some(&shard(1)), &good, &seen, false).outcome, Outcome::Passed);
        let errors = Report::Read { tests: vec![], errors: vec!["SyntaxError: no".to_owned()] };
        let broken = Evidence { report: errors, ..evidence(1, vec![]) };
        assert_eq!(judge(&file(), Some(&shard(1)), &broken, &[], false).outcome, Outcome::Failed);
    }

    #[test]
    fn cancel_wins_over_whatever_else_was_seen() {
        let (good, seen) = passing();
        let e = Evidence {
            stopped: Some(Stop::Cancelled),
            fault: Some(Fault { reason: Reason::DeviceFault, detail: "gone".to_owned() }),
            ..good
        };
        assert_eq!(judge(&file(), None, &e, &seen, true).outcome, Outcome::Cancelled);
    }

    #[test]
    fn an_agent_cannot_cancel() {
        let (good, seen) = passing();
        let e = Evidence { stopped: Some(Stop::Cancelled), ..good };
        let judged = judge(&file(), None, &e, &seen, false);
        assert_eq!((judged.outcome, judged.reason), (Outcome::Errored, Reason::AgentFault));
        assert!(judged.is_infrastructure() && judged.tests == Counts::default());
    }
}
