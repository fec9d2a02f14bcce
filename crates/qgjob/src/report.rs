//! The report of a run or of one of its jobs: read from the server once, then rendered without it. Totals are the server's;
//! a job that came to no verdict is told as such and never missing.

mod allure;
pub mod blob;
mod comparison;
mod html;
mod junit;
mod load;
mod markdown;
#[cfg(test)]
mod scene;

use jiff::Timestamp;
use qgjob_core::api::jobs::JobView;
use qgjob_core::api::results::TestView;
use qgjob_core::api::runs::RunView;
use qgjob_core::model::artifact::Artifact;
use qgjob_core::model::job::{self, Conclusion, Status};
use qgjob_core::model::test_result::{Counts, TestOutcome};
use serde::{Deserialize, Serialize};

use crate::text::{between, count};

pub use allure::allure;
pub use comparison::{Compared, Comparison, Side};
pub use html::html;
pub use junit::junit;
pub use markdown::{SMALLEST_BUDGET, SUMMARY_BUDGET, markdown};

/// The schema of a report as JSON.
pub const SCHEMA: &str = "qgjob.report/v1";

/// All that is told of a run, or of one of its jobs. As JSON it is what `qgjob report json` writes and `--from` reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// When it was read from the server.
    pub made_at: Timestamp,
    /// The run.
    pub run: RunView,
    /// The job, when the report is of that alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only_job: Option<job::Id>,
    /// Tests by outcome, as the server counted them in the jobs that came to a verdict.
    pub totals: Counts,
    /// The jobs, in the order of submission.
    pub jobs: Vec<JobReport>,
    /// Tests of an earlier run that this run did not repeat.
    #[serde(default)]
    pub carried: Vec<TestView>,
}

/// A job with its tests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobReport {
    /// The job, without the variables for its tests: they may be secret.
    pub job: JobView,
    /// Its tests in the attempt that counts.
    pub results: Vec<TestView>,
    /// The files kept from its attempts.
    pub artifacts: Vec<Artifact>,
}

/// What there is to say of a job itself, because its tests do not say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remark {
    /// It is not over.
    NotOver,
    /// It ended without a verdict on its tests: errored, timed out, or cancelled.
    NoVerdict,
    /// It failed, but no test did: the test file could not be loaded.
    FailedItself,
    /// It was skipped and names no test.
    Skipped,
}

impl Remark {
    /// Whether it is a reason not to be content.
    pub fn is_trouble(self) -> bool {
        self != Self::Skipped
    }
}

impl JobReport {
    /// Whether its tests count: the server concluded something from them.
    pub fn counts(&self) -> bool {
        matches!(self.job.job.conclusion, Some(Conclusion::Passed | Conclusion::Failed | Conclusion::Skipped))
    }

    /// What there is to say of the job itself.
    pub fn remark(&self) -> Option<Remark> {
        let has = |outcome| self.results.iter().any(|test| test.outcome == outcome);
        match self.job.job.conclusion {
            None => Some(Remark::NotOver),
            Some(Conclusion::Errored | Conclusion::TimedOut | Conclusion::Cancelled) => {
                Some(Remark::NoVerdict)
            }
            Some(Conclusion::Failed) if !has(TestOutcome::Unexpected) => Some(Remark::FailedItself),
            Some(Conclusion::Skipped) if self.job.job.tests.total == 0 => Some(Remark::Skipped),
            Some(Conclusion::Passed | Conclusion::Failed | Conclusion::Skipped) => None,
        }
    }

    /// How it ended, or where it is: `errored (device_fault): unplugged`, `queued`.
    pub fn ending(&self) -> String {
        let job = &self.job.job;
        let mut text = job.conclusion.map_or(job.status.as_str(), Conclusion::as_str).to_owned();
        if let Some(reason) = job.reason {
            text.push_str(&format!(" ({reason})"));
        }
        if let Some(detail) = &job.detail {
            text.push_str(&format!(": {detail}"));
        }
        text
    }

    /// Tests that the server counted without having seen a try of them: the runner's report alone names them, as skipped.
    pub fn untold(&self) -> u32 {
        let told = if self.counts() { self.results.len() as u32 } else { 0 };
        self.job.job.tests.total.saturating_sub(told)
    }

    /// How long it took, from its first start to its end, in ms.
    pub fn took_ms(&self) -> Option<u64> {
        self.job.job.started_at.zip(self.job.job.finished_at).map(|(from, to)| between(from, to))
    }
}

impl Report {
    /// How the run ended, or the job when the report is of that alone.
    pub fn conclusion(&self) -> Option<Conclusion> {
        match self.only_job {
            Some(_) => self.jobs.first().and_then(|job| job.job.job.conclusion),
            None => self.run.run.conclusion,
        }
    }

    /// Where the run is, or the job when the report is of that alone.
    pub fn status(&self) -> Status {
        match (self.only_job, self.jobs.first()) {
            (Some(_), Some(job)) => job.job.job.status,
            _ => self.run.run.status,
        }
    }

    /// The verdict in one word.
    pub fn word(&self) -> &'static str {
        self.conclusion().map_or(self.status().as_str(), Conclusion::as_str)
    }

    /// Whether every test that was selected passed, in a run that is over.
    pub fn is_green(&self) -> bool {
        self.conclusion() == Some(Conclusion::Passed)
    }

    /// How long it took, in ms, once it is over.
    pub fn took_ms(&self) -> Option<u64> {
        match (self.only_job, self.jobs.first()) {
            (Some(_), Some(job)) => job.took_ms(),
            _ => self.run.run.finished_at.map(|end| between(self.run.run.created_at, end)),
        }
    }

    /// Jobs of which something is to be said themselves, those in trouble first.
    pub fn remarks(&self) -> Vec<(&JobReport, Remark)> {
        let mut found: Vec<_> =
            self.jobs.iter().filter_map(|job| job.remark().map(|remark| (job, remark))).collect();
        found.sort_by_key(|(_, remark)| !remark.is_trouble());
        found
    }

    /// The tests that count, with the job that ran them; none for those that an earlier run did.
    pub fn tests(&self) -> impl Iterator<Item = (Option<&JobReport>, &TestView)> {
        let own = self.jobs.iter().filter(|job| job.counts());
        let own = own.flat_map(|job| job.results.iter().map(move |test| (Some(job), test)));
        own.chain(self.carried.iter().map(|test| (None, test)))
    }

    /// The tests that count and had this outcome.
    pub fn tests_that(&self, outcome: TestOutcome) -> impl Iterator<Item = (Option<&JobReport>, &TestView)> {
        self.tests().filter(move |(_, test)| test.outcome == outcome)
    }

    /// `3 of 12 tests failed, 1 flaky; 1 job without a verdict`.
    pub fn headline(&self) -> String {
        let Counts { total, passed, failed, flaky, skipped } = self.totals;
        let mut parts = Vec::new();
        if failed > 0 {
            parts.push(format!("{failed} of {} failed", count(total, "test")));
        } else if total > 0 {
            parts.push(format!("{} of {} passed", passed + flaky, count(total, "test")));
        } else {
            parts.push("no test counts".to_owned());
        }
        if flaky > 0 {
            parts.push(format!("{flaky} flaky"));
        }
        if skipped > 0 {
            parts.push(format!("{skipped} skipped"));
        }
        for (remark, words) in [
            (Remark::NoVerdict, "without a verdict"),
            (Remark::FailedItself, "failed to load"),
            (Remark::NotOver, "not over"),
        ] {
            let jobs = self.jobs.iter().filter(|job| job.remark() == Some(remark)).count();
            if jobs > 0 {
                parts.push(format!("{} {words}", count(jobs as u64, "job")));
            }
        }
        parts.join(", ")
    }
}

/// The error that tells most of a test: of its last try that has one.
pub fn error_of(test: &TestView) -> Option<&str> {
    test.tries.iter().rev().find_map(|one| one.error.as_deref())
}

/// Titles from the outermost `describe` to the test, on one line.
pub fn titled(test: &TestView) -> String {
    crate::text::plain(&test.title.join(" › "))
}

/// The first line that says something, without control characters, at most 300 characters of it.
fn first_line(text: &str) -> String {
    let text = crate::text::tame(text, false);
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    match line.char_indices().nth(300) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// The files that the tries of a test left, as far as they were kept.
pub fn files_of<'a>(job: &'a JobReport, test: &'a TestView) -> impl Iterator<Item = &'a Artifact> {
    let names = test.tries.iter().flat_map(|one| &one.files);
    names.filter_map(|name| {
        let is = |artifact: &&Artifact| artifact.attempt_id == test.attempt_id && artifact.name == *name;
        job.artifacts.iter().find(is)
    })
}

/// Where a file of the job is put, below the folder for all files: that of an attempt before the last has its attempt's id in
/// its path. Whoever writes there must check it: names come from tests.
pub fn place(job: &JobReport, artifact: &Artifact) -> String {
    // Ids sort by the time they were made.
    let last = job.artifacts.iter().map(|other| other.attempt_id).max();
    if last == Some(artifact.attempt_id) {
        format!("{}/{}", artifact.job_id, artifact.name)
    } else {
        format!("{}/{}/{}", artifact.job_id, artifact.attempt_id, artifact.name)
    }
}
