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
/// nor red, but a run in which nothing passed is `skipped`, not `passed`. A rerun counts `tests_failed` of the full set:
/// while there are any it is not green, whatever its own jobs say.
pub fn conclusion(jobs: &JobCounts, tests_failed: u32) -> Option<Conclusion> {
    if status(jobs) != Status::Completed {
        return None;
    }
    let worst_first = [
        (jobs.failed, Conclusion::Failed),
        (jobs.errored, Conclusion::Errored),
        (jobs.timed_out, Conclusion::TimedOut),
        (jobs.cancelled, Conclusion::Cancelled),
        (tests_failed, Conclusion::Failed),
        (jobs.passed, Conclusion::Passed),
    ];
    let worst = worst_first.into_iter().find(|(count, _)| *count > 0).map(|(_, conclusion)| conclusion);
    Some(worst.unwrap_or(Conclusion::Skipped))
}

/// The exit code of one completed job.
pub fn exit_code(conclusion: Conclusion, reason: Option<Reason>) -> ExitCode {
    match (conclusion, reason) {
        (Conclusion::Passed, _) => ExitCode::Ok,
        // A test that failed and has not passed since is no less than a failed one.
        (Conclusion::Failed, _) | (Conclusion::Errored, Some(Reason::TestsMissing)) => ExitCode::TestsFailed,
        (Conclusion::TimedOut, _) => ExitCode::TimedOut,
        (Conclusion::Cancelled, _) => ExitCode::Cancelled,
        (Conclusion::Skipped, _) | (Conclusion::Errored, Some(Reason::NoTests)) => ExitCode::NoTests,
        (Conclusion::Errored, Some(Reason::QueueDeadline)) => ExitCode::QueueDeadline,
        (Conclusion::Errored, Some(Reason::ProjectInvalid)) => ExitCode::Usage,
        (Conclusion::Errored, _) => ExitCode::Infra,
    }
}

/// The exit code of a run's completed jobs: the worst first. Jobs that the suite skipped count only when nothing
/// passed. With `tests_failed` of the full set a rerun ends neither well nor as one without tests.
pub fn exit_code_of_run(
    jobs: impl IntoIterator<Item = (Conclusion, Option<Reason>)>,
    tests_failed: u32,
) -> ExitCode {
    let jobs: Vec<_> = jobs.into_iter().collect();
    let passed = jobs.iter().any(|(conclusion, _)| *conclusion == Conclusion::Passed);
    let counts = jobs.into_iter().filter(|(conclusion, _)| !(passed && *conclusion == Conclusion::Skipped));
    let own = counts.map(|(conclusion, reason)| exit_code(conclusion, reason));
    let carried = (tests_failed > 0).then_some(ExitCode::TestsFailed);
    match ExitCode::worst(own).unwrap_or(ExitCode::NoTests) {
        code @ (ExitCode::Ok | ExitCode::NoTests) => carried.unwrap_or(code),
        code => code,
    }
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
        assert_eq!(conclusion(&counts(|c| (c.passed, c.failed) = (2, 1)), 0), Some(Conclusion::Failed));
        assert_eq!(conclusion(&counts(|c| (c.errored, c.failed) = (2, 1)), 0), Some(Conclusion::Failed));
        assert_eq!(conclusion(&counts(|c| (c.passed, c.cancelled) = (2, 1)), 0), Some(Conclusion::Cancelled));
        assert_eq!(conclusion(&counts(|c| (c.passed, c.skipped) = (2, 1)), 0), Some(Conclusion::Passed));
        assert_eq!(conclusion(&counts(|c| (c.passed, c.queued) = (2, 1)), 0), None);
    }

    #[test]
    fn a_run_that_skipped_everything_is_not_green() {
        assert_eq!(conclusion(&counts(|c| c.skipped = 3), 0), Some(Conclusion::Skipped));
        let skipped = (Conclusion::Skipped, Some(Reason::TestsSkipped));
        assert_eq!(exit_code_of_run([skipped, skipped], 0), ExitCode::NoTests);
        assert_eq!(exit_code_of_run([skipped, (Conclusion::Passed, None)], 0), ExitCode::Ok);
        assert_eq!(exit_code_of_run([], 0), ExitCode::NoTests);
    }

    #[test]
    fn a_file_without_tests_is_not_green_beside_others() {
        let empty = (Conclusion::Errored, Some(Reason::NoTests));
        assert_eq!(exit_code_of_run([empty, (Conclusion::Passed, None)], 0), ExitCode::NoTests);
    }

    #[test]
    fn a_rerun_is_not_green_while_a_test_of_the_full_set_has_failed() {
        for jobs in [counts(|c| c.passed = 3), counts(|c| c.skipped = 3)] {
            assert_eq!(conclusion(&jobs, 1), Some(Conclusion::Failed));
        }
        assert_eq!(conclusion(&counts(|c| (c.passed, c.errored) = (2, 1)), 1), Some(Conclusion::Errored));
        assert_eq!(conclusion(&counts(|c| (c.passed, c.queued) = (2, 1)), 1), None);
        let passed = (Conclusion::Passed, Some(Reason::TestsPassed));
        let skipped = (Conclusion::Skipped, Some(Reason::TestsSkipped));
        let empty = (Conclusion::Errored, Some(Reason::NoTests));
        for jobs in [vec![passed], vec![skipped], vec![passed, empty]] {
            assert_eq!(exit_code_of_run(jobs, 1), ExitCode::TestsFailed);
        }
        assert_eq!(exit_code_of_run([(Conclusion::Cancelled, None)], 1), ExitCode::Cancelled);
    }

    #[test]
    fn a_test_that_was_to_be_repeated_and_was_not_is_no_lack_of_tests() {
        let missing = (Conclusion::Errored, Some(Reason::TestsMissing));
        assert_eq!(exit_code_of_run([missing, (Conclusion::Passed, None)], 0), ExitCode::TestsFailed);
    }

    #[test]
    fn a_failed_test_outranks_infrastructure() {
        let infra = (Conclusion::Errored, Some(Reason::DeviceFault));
        let late = (Conclusion::Errored, Some(Reason::QueueDeadline));
        assert_eq!(exit_code_of_run([infra, (Conclusion::Failed, None)], 0), ExitCode::TestsFailed);
        assert_eq!(exit_code_of_run([late, infra], 0), ExitCode::Infra);
        assert_eq!(exit_code_of_run([late, (Conclusion::Cancelled, None)], 0), ExitCode::QueueDeadline);
    }
}
