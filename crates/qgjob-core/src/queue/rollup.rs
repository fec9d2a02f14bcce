//! From jobs to the run: status, conclusion, and the exit code that a pipeline sees.

use crate::model::exit::ExitCode;
use crate::model::job::{Conclusion, Reason, Status};
use crate::model::run::JobCounts;

/// The status of a run with these jobs.
pub fn status(jobs: &JobCounts) -> Status {
    let unfinished = jobs.scheduled + jobs.queued + jobs.running;
    if unfinished == 0 {
        Status::Completed
    } else if jobs.running > 0 || unfinished < jobs.total {
        Status::Running
    } else if jobs.queued > 0 {
        Status::Queued
    } else {
        Status::Scheduled
    }
}

/// The conclusion of a run whose jobs are all completed: the worst of theirs. Skipped jobs make a run neither green
/// nor red, but a run in which nothing passed is `skipped`, not `passed`.
pub fn conclusion(jobs: &JobCounts) -> Option<Conclusion> {
    if status(jobs) != Status::Completed {
        return None;
    }
    let worst_first = [
        (jobs.failed, Conclusion::Failed),
        (jobs.errored, Conclusion::Errored),
        (jobs.timed_out, Conclusion::TimedOut),
        (jobs.cancelled, Conclusion::Cancelled),
        (jobs.passed, Conclusion::Passed),
    ];
    let worst = worst_first.into_iter().find(|(count, _)| *count > 0).map(|(_, conclusion)| conclusion);
    Some(worst.unwrap_or(Conclusion::Skipped))
}

/// The exit code of one completed job.
pub fn exit_code(conclusion: Conclusion, reason: Option<Reason>) -> ExitCode {
    match (conclusion, reason) {
        (Conclusion::Passed, _) => ExitCode::Ok,
        (Conclusion::Failed, _) => ExitCode::TestsFailed,
        (Conclusion::TimedOut, _) => ExitCode::TimedOut,
        (Conclusion::Cancelled, _) => ExitCode::Cancelled,
        (Conclusion::Skipped, _) | (Conclusion::Errored, Some(Reason::NoTests | Reason::TestsMissing)) => {
            ExitCode::NoTests
        }
        (Conclusion::Errored, Some(Reason::QueueDeadline)) => ExitCode::QueueDeadline,
        (Conclusion::Errored, Some(Reason::ProjectInvalid)) => ExitCode::Usage,
        (Conclusion::Errored, _) => ExitCode::Infra,
    }
}

/// The exit code of several completed jobs: the worst first. Jobs that the suite skipped count only when nothing
/// passed.
pub fn exit_code_of_all(jobs: impl IntoIterator<Item = (Conclusion, Option<Reason>)>) -> ExitCode {
    let jobs: Vec<_> = jobs.into_iter().collect();
    let passed = jobs.iter().any(|(conclusion, _)| *conclusion == Conclusion::Passed);
    let counts = jobs.into_iter().filter(|(conclusion, _)| !(passed && *conclusion == Conclusion::Skipped));
    ExitCode::worst(counts.map(|(conclusion, reason)| exit_code(conclusion, reason)))
        .unwrap_or(ExitCode::NoTests)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(set: impl FnOnce(&mut JobCounts)) -> JobCounts {
        let mut counts = JobCounts { total: 3, ..JobCounts::default() };
        set(&mut counts);
        counts
    }

    #[test]
    fn a_run_is_running_from_its_first_start_to_its_last_end() {
        assert_eq!(status(&counts(|c| c.scheduled = 3)), Status::Scheduled);
        assert_eq!(status(&counts(|c| c.queued = 3)), Status::Queued);
        assert_eq!(status(&counts(|c| (c.queued, c.passed) = (2, 1))), Status::Running);
        assert_eq!(status(&counts(|c| c.passed = 3)), Status::Completed);
    }

    #[test]
    fn one_bad_job_makes_a_bad_run() {
        assert_eq!(conclusion(&counts(|c| (c.passed, c.failed) = (2, 1))), Some(Conclusion::Failed));
        assert_eq!(conclusion(&counts(|c| (c.errored, c.failed) = (2, 1))), Some(Conclusion::Failed));
        assert_eq!(conclusion(&counts(|c| (c.passed, c.cancelled) = (2, 1))), Some(Conclusion::Cancelled));
        assert_eq!(conclusion(&counts(|c| (c.passed, c.skipped) = (2, 1))), Some(Conclusion::Passed));
        assert_eq!(conclusion(&counts(|c| (c.passed, c.queued) = (2, 1))), None);
    }

    #[test]
    fn a_run_that_skipped_everything_is_not_green() {
        assert_eq!(conclusion(&counts(|c| c.skipped = 3)), Some(Conclusion::Skipped));
        let skipped = (Conclusion::Skipped, Some(Reason::TestsSkipped));
        assert_eq!(exit_code_of_all([skipped, skipped]), ExitCode::NoTests);
        assert_eq!(exit_code_of_all([skipped, (Conclusion::Passed, None)]), ExitCode::Ok);
        assert_eq!(exit_code_of_all([]), ExitCode::NoTests);
    }

    #[test]
    fn a_file_without_tests_is_not_green_beside_others() {
        let empty = (Conclusion::Errored, Some(Reason::NoTests));
        assert_eq!(exit_code_of_all([empty, (Conclusion::Passed, None)]), ExitCode::NoTests);
    }

    #[test]
    fn a_failed_test_outranks_infrastructure() {
        let infra = (Conclusion::Errored, Some(Reason::DeviceFault));
        let late = (Conclusion::Errored, Some(Reason::QueueDeadline));
        assert_eq!(exit_code_of_all([infra, (Conclusion::Failed, None)]), ExitCode::TestsFailed);
        assert_eq!(exit_code_of_all([late, infra]), ExitCode::Infra);
        assert_eq!(exit_code_of_all([late, (Conclusion::Cancelled, None)]), ExitCode::QueueDeadline);
    }
}
