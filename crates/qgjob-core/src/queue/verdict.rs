//! The verdict: from what the agent saw to what may be concluded.
//!
//! `passed` needs three witnesses that agree: the runner's exit code, the runner's report, and the tries that were
//! reported live. Whatever is missing or contradicts makes the attempt `errored`, never `passed`.

mod named;

use std::collections::HashMap;

use crate::model::attempt::Outcome;
use crate::model::evidence::{Evidence, Exit, Report, ReportedTest, Stop};
use crate::model::job::{Conclusion, Reason};
use crate::model::name::TestPath;
use crate::model::rerun::NamedTest;
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
        let final_reason =
            matches!(self.reason, Reason::NoTests | Reason::TestsMissing | Reason::ProjectInvalid);
        matches!(self.outcome, Outcome::Errored | Outcome::Lost) && !final_reason
    }
}

/// What an attempt was asked to run.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The test file.
    pub test: &'a TestPath,
    /// Which of its tests; none for all of them.
    pub shard: Option<&'a Shard>,
    /// Of those, the ones that each need a result of their own; empty when whatever there is counts.
    pub only: &'a [NamedTest],
}

/// Judges an attempt at what was `asked` by the agent's `evidence` and the `seen` tries, which the store received while the
/// runner ran. `cancelled` says whether somebody had cancelled the job: the agent's word alone is not enough.
pub fn judge(asked: Asked<'_>, evidence: &Evidence, seen: &[Try], cancelled: bool) -> Judgement {
    let Asked { test, shard, only } = asked;
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
    // Where tests are to be repeated their absence is no lack of tests, which a pipeline may allow.
    let nothing_there = |detail: &str| match only.first() {
        None => errored(Reason::NoTests, detail.to_owned()),
        Some(_) => errored(Reason::TestsMissing, format!("{detail}, but some were to be repeated")),
    };
    match errors.iter().find(|error| !no_tests(error)).or(errors.first()) {
        None => {}
        Some(error) if code == 0 => {
            return contradiction(format!("the runner ended with code 0 and reported: {error}"));
        }
        Some(error) if tests.is_empty() && no_tests(&error) => {
            return nothing_there("the runner found no test in the file");
        }
        Some(error) => return verdict(Outcome::Failed, Reason::LoadError, Some(error.clone()), counts),
    }
    if tests.is_empty() {
        let nothing = code == 0 && seen.is_empty() && evidence.selected.is_none_or(|selected| selected == 0);
        return match shard.filter(|_| only.is_empty()) {
            Some(shard) if !shard.is_last() && nothing => {
                let detail = "the runner could select none of the shard's tests: the file's last shard runs what there is of them";
                verdict(Outcome::Skipped, Reason::NoTests, Some(detail.to_owned()), none)
            }
            Some(shard) if shard.is_last() => errored(
                Reason::NoTests,
                "the runner found no test that is not left to the file's other shards".to_owned(),
            ),
            _ => nothing_there("the runner's report names no test"),
        };
    }
    if let Some(detail) = disagreement(test, tests, seen) {
        return contradiction(detail);
    }
    if let Some(selected) = evidence.selected.filter(|selected| *selected as usize != tests.len()) {
        return contradiction(format!(
            "{selected} tests were selected, but the report names {}",
            tests.len()
        ));
    }
    if counts.failed == 0
        && code == 0
        && let Some(detail) = named::missing(only, tests, seen)
    {
        return errored(Reason::TestsMissing, detail);
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
    let mut live: HashMap<&str, (u32, &Try)> = HashMap::new();
    for one in seen {
        let (count, last) = live.entry(&one.test_id).or_insert((0, one));
        *count += 1;
        if one.retry >= last.retry {
            *last = one;
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
        let seen = live.get(test.test_id.as_str());
        if test.outcome == TestOutcome::Skipped {
            if seen.is_some_and(|(_, last)| last.status != TryStatus::Skipped) {
                return Some(format!("the report calls test {} skipped, but it ran", test.test_id));
            }
            continue;
        }
        match seen {
            _ if test.tries == 0 => {
                return Some(format!("test {} was selected but did not run", test.test_id));
            }
            None => {
                return Some(format!(
                    "the report holds a result of test {} that was not seen live",
                    test.test_id
                ));
            }
            Some((_, last)) if last.status == TryStatus::Interrupted => {
                return Some(format!("test {} was interrupted", test.test_id));
            }
            Some((_, last)) if last.outcome != test.outcome => {
                let (said, saw) = (test.outcome, last.outcome);
                return Some(format!("the report calls test {} {said}, live it was {saw}", test.test_id));
            }
            Some((count, _)) if *count != test.tries => {
                let (id, tries) = (&test.test_id, test.tries);
                return Some(format!("the report holds {tries} tries of test {id}, live there were {count}"));
            }
            Some(_) => {}
        }
    }
    let missing = live.keys().find(|id| !reported.contains_key(*id))?;
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
mod tests;
