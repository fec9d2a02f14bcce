//! Results of single tests.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::selector::words;

/// One try of one test, reported while the runner runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Try {
    /// Number within the attempt, from 1, in the order in which tries ended; makes a repeated report harmless.
    pub seq: u32,
    /// The runner's id of the test, stable for file and title.
    pub test_id: String,
    /// Titles from the outermost `describe` to the test.
    pub title: Vec<String>,
    /// How many titles of its `title` name what must run as one with the test: all of them for a test that runs alone as
    /// well as beside others, fewer inside a serial suite, 0 for a file that is one. None where the runner does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<u32>,
    /// The test's file inside the project.
    pub file: String,
    /// The test's line in its file, from 1.
    pub line: u32,
    /// 0 for the first try, then counted up by the runner's retries.
    pub retry: u32,
    /// What this try did.
    pub status: TryStatus,
    /// Of a try that was skipped: whether the suite skips the test. Not so for one that did not run because another failed,
    /// in a serial suite or in a hook. None where the runner does not say, and of other tries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_suite: Option<bool>,
    /// What the runner makes of the test after this try.
    pub outcome: TestOutcome,
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

/// What one try of a test did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TryStatus {
    /// It ran to its end without error.
    Passed,
    /// It threw.
    Failed,
    /// It ran longer than the test may.
    TimedOut,
    /// The suite skipped it.
    Skipped,
    /// The runner was stopped.
    Interrupted,
}
words!(TryStatus, "try status", Passed => "passed", Failed => "failed", TimedOut => "timed_out",
    Skipped => "skipped", Interrupted => "interrupted");

/// What the runner makes of a test over all its tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TestOutcome {
    /// As wanted: passed, or failed where `test.fail()` says so.
    Expected,
    /// Not as wanted in every try.
    Unexpected,
    /// As wanted only on a retry.
    Flaky,
    /// Skipped by the suite.
    Skipped,
}
words!(TestOutcome, "test outcome", Expected => "expected", Unexpected => "unexpected", Flaky => "flaky", Skipped => "skipped");

/// Tests by outcome. `total` is the sum of the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Counts {
    /// All selected tests.
    pub total: u32,
    /// As wanted at the first try.
    pub passed: u32,
    /// Not as wanted.
    pub failed: u32,
    /// As wanted only on a retry.
    pub flaky: u32,
    /// Skipped by the suite.
    pub skipped: u32,
}

impl Counts {
    /// These and others.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.each(other, u32::saturating_add)
    }

    /// These without others that are among them.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        self.each(other, u32::saturating_sub)
    }

    fn each(self, other: Self, of: impl Fn(u32, u32) -> u32) -> Self {
        let (passed, failed) = (of(self.passed, other.passed), of(self.failed, other.failed));
        let (flaky, skipped) = (of(self.flaky, other.flaky), of(self.skipped, other.skipped));
        Self { total: passed + failed + flaky + skipped, passed, failed, flaky, skipped }
    }

    /// Counts outcomes.
    pub fn of(outcomes: impl IntoIterator<Item = TestOutcome>) -> Self {
        let mut counts = Self::default();
        for outcome in outcomes {
            counts.total += 1;
            match outcome {
                TestOutcome::Expected => counts.passed += 1,
                TestOutcome::Unexpected => counts.failed += 1,
                TestOutcome::Flaky => counts.flaky += 1,
                TestOutcome::Skipped => counts.skipped += 1,
            }
        }
        counts
    }
}
