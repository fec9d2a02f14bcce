//! What the tests of a run did.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::test_result::{TestOutcome, Try, TryStatus};
use crate::model::{attempt, job, run};

/// A test of a run, with its tries in the attempt that counts: its job's last one. What an earlier attempt saw before its
/// device was lost is no result. The tests of a job that came to no verdict are told too, but count nowhere. A rerun tells of all tests of the
/// full set: of those that its own jobs have no result of as well, as long as the run that they come from is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TestView {
    /// The job that ran it.
    pub job_id: job::Id,
    /// The attempt.
    pub attempt_id: attempt::Id,
    /// The attempt's number, from 1.
    pub attempt: u32,
    /// The name of the attempt's device.
    pub device_name: String,
    /// The run that the result is of, when this run has none of its own: it does not repeat the test, or came to no verdict
    /// on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried_from: Option<run::Id>,
    /// The runner's id of the test, stable for file and title.
    pub test_id: String,
    /// Titles from the outermost `describe` to the test.
    pub title: Vec<String>,
    /// The test's file inside the project.
    pub file: String,
    /// The test's line in its file, from 1.
    pub line: u32,
    /// What the runner makes of the test after its last try.
    pub outcome: TestOutcome,
    /// In the order in which they ended; at least one.
    pub tries: Vec<TestTry>,
}

/// One try of a test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TestTry {
    /// Number within the attempt, from 1, in the order in which the tries of all tests ended.
    pub seq: u32,
    /// 0 for the first try, then counted up by the runner's retries.
    pub retry: u32,
    /// What this try did.
    pub status: TryStatus,
    /// How long the try took.
    pub duration_ms: u64,
    /// The first error, without colour codes, at most 16 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Names of the attempt's artifacts that the try left: screenshots, videos, traces. One that was not kept in the end has
    /// no artifact.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
}

/// Where the tries that become tests were seen.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The job.
    pub job_id: job::Id,
    /// The attempt.
    pub attempt_id: attempt::Id,
    /// Its number.
    pub attempt: u32,
    /// Its device.
    pub device_name: String,
}

impl TestView {
    /// The tests of an attempt from its `tries`, which are in the order in which they ended: in the order of their first
    /// tries.
    pub fn of_attempt(seen: &Seen, tries: Vec<Try>) -> Vec<Self> {
        let mut tests: Vec<Self> = Vec::new();
        let mut places = std::collections::HashMap::new();
        for one in tries {
            let Try {
                seq,
                test_id,
                title,
                file,
                line,
                retry,
                status,
                outcome,
                duration_ms,
                error,
                files,
                ..
            } = one;
            let place = *places.entry(test_id.clone()).or_insert(tests.len());
            if place == tests.len() {
                let Seen { job_id, attempt_id, attempt, ref device_name } = *seen;
                tests.push(Self {
                    job_id,
                    attempt_id,
                    attempt,
                    device_name: device_name.clone(),
                    carried_from: None,
                    test_id,
                    title,
                    file,
                    line,
                    outcome,
                    tries: Vec::new(),
                });
            }
            let test = &mut tests[place];
            test.outcome = outcome;
            test.tries.push(TestTry { seq, retry, status, duration_ms, error, files });
        }
        tests
    }

    /// The number of its first try, which no other test of the attempt has.
    pub fn first_seq(&self) -> u32 {
        self.tries.first().map_or(0, |one| one.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_of_one_test_are_one_test_wherever_they_stand() {
        let one = |seq, test_id: &str, retry, status, outcome| Try {
            seq,
            test_id: test_id.to_owned(),
            title: vec![test_id.to_owned()],
            unit: None,
            file: "a.spec.js".to_owned(),
            line: 1,
            retry,
            status,
            by_suite: None,
            outcome,
            duration_ms: 1,
            error: None,
            files: Vec::new(),
        };
        let seen = Seen {
            job_id: job::Id(1),
            attempt_id: attempt::Id(2),
            attempt: 1,
            device_name: "phone".to_owned(),
        };
        // A serial suite is repeated as a whole: the tries of its tests take turns.
        let tries = vec![
            one(1, "a", 0, TryStatus::Passed, TestOutcome::Expected),
            one(2, "b", 0, TryStatus::Failed, TestOutcome::Unexpected),
            one(3, "a", 1, TryStatus::Passed, TestOutcome::Expected),
            one(4, "b", 1, TryStatus::Passed, TestOutcome::Flaky),
        ];
        let tests = TestView::of_attempt(&seen, tries);
        let told: Vec<_> = tests
            .iter()
            .map(|test| {
                let seqs: Vec<_> = test.tries.iter().map(|one| one.seq).collect();
                (test.test_id.as_str(), test.outcome, seqs)
            })
            .collect();
        assert_eq!(told, [("a", TestOutcome::Expected, vec![1, 3]), ("b", TestOutcome::Flaky, vec![2, 4])]);
    }
}
