//! Two runs side by side: what changed from the one to the other, test by test.

use std::collections::BTreeMap;

use qgjob_core::model::exit::ExitCode;
use qgjob_core::model::job::Conclusion;
use qgjob_core::model::run;
use qgjob_core::model::test_result::{Counts, TestOutcome};
use serde::Serialize;

use super::{JobReport, Report};

/// The schema of a comparison as JSON.
pub const SCHEMA: &str = "qgjob.comparison/v1";

/// What changed from one run to another. Tests are the same when file and titles are; each is in one of the lists at most, and
/// in none when it did the same in both and is not flaky.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// The run that is looked at first.
    pub before: Side,
    /// The run that is held against it.
    pub after: Side,
    /// Fail after, and did not before: they did something else, or were not there.
    pub new_failures: Vec<Compared>,
    /// Failed before, and pass after, if only on a retry.
    pub fixed: Vec<Compared>,
    /// Fail in both.
    pub still_failing: Vec<Compared>,
    /// Pass after only on a retry, and had not failed before.
    pub flaky: Vec<Compared>,
    /// Have a result before alone.
    pub only_before: Vec<Compared>,
    /// Have a result after alone, and no failure.
    pub only_after: Vec<Compared>,
}

/// One of the two runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Side {
    /// The run.
    pub run_id: run::Id,
    /// How it ended.
    pub conclusion: Option<Conclusion>,
    /// Its tests by outcome.
    pub tests: Counts,
    /// Its jobs that came to no verdict on their tests.
    pub without_verdict: Vec<String>,
}

/// A test in both runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// Its file inside the project.
    pub file: String,
    /// Titles from the outermost `describe` to the test.
    pub title: Vec<String>,
    /// Its line, where it is now.
    pub line: u32,
    /// What it did before; none without a result.
    pub before: Option<TestOutcome>,
    /// What it does after.
    pub after: Option<TestOutcome>,
}

impl Comparison {
    /// Compares two runs by what counts in them.
    pub fn of(before: &Report, after: &Report) -> Self {
        let mut tests: BTreeMap<(String, Vec<String>), Compared> = BTreeMap::new();
        for (report, is_after) in [(before, false), (after, true)] {
            for (_, test) in report.tests() {
                let key = (test.file.clone(), test.title.clone());
                let compared = tests.entry(key).or_insert_with(|| Compared {
                    file: test.file.clone(),
                    title: test.title.clone(),
                    line: test.line,
                    before: None,
                    after: None,
                });
                compared.line = test.line;
                let outcome = if is_after { &mut compared.after } else { &mut compared.before };
                // A test that is repeated under its titles is as bad as the worst of them.
                *outcome = Some(worse(*outcome, test.outcome));
            }
        }
        let mut made = Self {
            schema: SCHEMA,
            before: Side::of(before),
            after: Side::of(after),
            new_failures: Vec::new(),
            fixed: Vec::new(),
            still_failing: Vec::new(),
            flaky: Vec::new(),
            only_before: Vec::new(),
            only_after: Vec::new(),
        };
        use TestOutcome::{Expected, Flaky, Skipped, Unexpected};
        for test in tests.into_values() {
            let list = match (test.before, test.after) {
                (Some(Unexpected), Some(Unexpected)) => &mut made.still_failing,
                (_, Some(Unexpected)) => &mut made.new_failures,
                (Some(Unexpected), Some(Expected | Flaky)) => &mut made.fixed,
                (_, Some(Flaky)) => &mut made.flaky,
                (Some(_), None) => &mut made.only_before,
                (None, Some(_)) => &mut made.only_after,
                (Some(_), Some(Expected | Skipped)) | (None, None) => continue,
            };
            list.push(test);
        }
        made
    }

    /// 1 with a new failure; else 10 when a job of the run after came to no verdict, because its tests may fail; else 0.
    pub fn exit_code(&self) -> ExitCode {
        match (self.new_failures.is_empty(), self.after.without_verdict.is_empty()) {
            (false, _) => ExitCode::TestsFailed,
            (true, false) => ExitCode::Infra,
            (true, true) => ExitCode::Ok,
        }
    }
}

impl Side {
    fn of(report: &Report) -> Self {
        let silent = report.jobs.iter().filter(|job| !job.counts());
        let named = |job: &JobReport| job.job.job.spec.named();
        Self {
            run_id: report.run.run.id,
            conclusion: report.run.run.conclusion,
            tests: report.totals,
            without_verdict: silent.map(named).collect(),
        }
    }
}

/// The worse of what the tests with the same titles did.
fn worse(one: Option<TestOutcome>, other: TestOutcome) -> TestOutcome {
    let badness = |outcome: TestOutcome| match outcome {
        TestOutcome::Skipped => 0,
        TestOutcome::Expected => 1,
        TestOutcome::Flaky => 2,
        TestOutcome::Unexpected => 3,
    };
    one.filter(|one| badness(*one) >= badness(other)).unwrap_or(other)
}

#[cfg(test)]
mod tests {
    use super::super::scene::{Job, report, test};
    use super::*;

    /// A run of one file with these tests, and whether its job came to a verdict.
    fn run(tests: &[(&str, &str)], conclusion: &'static str) -> Report {
        let tests = tests.iter().map(|(title, outcome)| test(&[title], 3, outcome, &[("passed", None)]));
        report(Some(conclusion), vec![Job::new("tests/a.spec.js", conclusion, tests.collect())])
    }

    fn titles(list: &[Compared]) -> Vec<String> {
        list.iter().map(|test| test.title.join("/")).collect()
    }

    #[test]
    fn each_change_is_told_once() {
        let before = [
            ("same", "expected"),
            ("breaks", "expected"),
            ("is fixed", "unexpected"),
            ("is fixed on a retry", "unexpected"),
            ("fails", "unexpected"),
            ("is unsteady", "expected"),
            ("goes", "expected"),
            ("is left out", "unexpected"),
        ];
        let after = [
            ("same", "expected"),
            ("breaks", "unexpected"),
            ("is fixed", "expected"),
            ("is fixed on a retry", "flaky"),
            ("fails", "unexpected"),
            ("is unsteady", "flaky"),
            ("comes", "expected"),
            ("comes and fails", "unexpected"),
            ("is left out", "skipped"),
        ];
        let made = Comparison::of(&run(&before, "failed"), &run(&after, "failed"));
        assert_eq!(titles(&made.new_failures), ["breaks", "comes and fails"]);
        assert_eq!(titles(&made.fixed), ["is fixed", "is fixed on a retry"]);
        assert_eq!(titles(&made.still_failing), ["fails"]);
        assert_eq!(titles(&made.flaky), ["is unsteady"]);
        assert_eq!(
            (titles(&made.only_before), titles(&made.only_after)),
            (vec!["goes".into()], vec!["comes".into()])
        );
        assert_eq!(made.exit_code(), ExitCode::TestsFailed);
    }

    #[test]
    fn tests_that_share_their_titles_are_as_bad_as_the_worst() {
        let before = run(&[("a", "expected"), ("a", "expected")], "passed");
        let after = run(&[("a", "unexpected"), ("a", "expected")], "failed");
        assert_eq!(Comparison::of(&before, &after).new_failures.len(), 1);
    }

    #[test]
    fn a_run_without_a_verdict_is_not_taken_for_one_without_failures() {
        let good = run(&[("a", "expected")], "passed");
        let lost = run(&[("a", "expected")], "errored");
        let made = Comparison::of(&good, &lost);
        assert_eq!((titles(&made.only_before), made.exit_code()), (vec!["a".to_owned()], ExitCode::Infra));
        assert_eq!(made.after.without_verdict, ["tests/a.spec.js"]);
        assert_eq!(Comparison::of(&lost, &good).exit_code(), ExitCode::Ok);
    }
}
