//! Exit codes of the command line: part of the contract with pipelines.

use serde::Serialize;

/// How a command ended. The numbers never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(into = "u8")]
#[repr(u8)]
pub enum ExitCode {
    /// Done; for watching commands: all required tests passed.
    Ok = 0,
    /// At least one required test failed.
    TestsFailed = 1,
    /// Bad flags, unknown file, a project or request that cannot work.
    Usage = 2,
    /// The selection matched no test.
    NoTests = 3,
    /// Not logged in, token expired, forbidden.
    Auth = 4,
    /// The id is unknown or not visible to you.
    NotFound = 5,
    /// Key reused with other content, label bound to another build, already finished.
    Conflict = 6,
    /// Device, agent, install or server fault after all retries: no verdict on the tests.
    Infra = 10,
    /// `--queue-timeout` passed before a device was free.
    QueueDeadline = 11,
    /// A job ran longer than `--timeout`.
    TimedOut = 12,
    /// Cancelled by somebody.
    Cancelled = 13,
    /// The server cannot be reached.
    Unreachable = 14,
    /// `--wait-timeout` passed; the job still goes on.
    WaitTimeout = 15,
    /// Over a quota or rate limit.
    Quota = 16,
    /// A bug.
    Internal = 70,
    /// Interrupted (SIGINT).
    Interrupted = 130,
    /// The reader of the output went away (SIGPIPE).
    BrokenPipe = 141,
    /// Terminated (SIGTERM).
    Terminated = 143,
}

impl ExitCode {
    /// Every code, in order.
    pub const ALL: [Self; 18] = [
        Self::Ok,
        Self::TestsFailed,
        Self::Usage,
        Self::NoTests,
        Self::Auth,
        Self::NotFound,
        Self::Conflict,
        Self::Infra,
        Self::QueueDeadline,
        Self::TimedOut,
        Self::Cancelled,
        Self::Unreachable,
        Self::WaitTimeout,
        Self::Quota,
        Self::Internal,
        Self::Interrupted,
        Self::BrokenPipe,
        Self::Terminated,
    ];

    /// What jobs can end with, in the order in which one hides another. What a test said comes first. A project that cannot
    /// run stands before the infrastructure, because no repeat helps it. A job that is over without a verdict, which is a
    /// bug, stands before the two that may be green.
    pub const WORST_FIRST: [Self; 9] = [
        Self::TestsFailed,
        Self::Usage,
        Self::Infra,
        Self::TimedOut,
        Self::QueueDeadline,
        Self::Cancelled,
        Self::Internal,
        Self::NoTests,
        Self::Ok,
    ];

    /// The code of several jobs: the worst of theirs; none of no job. What no job should end with counts as a bug.
    pub fn worst(codes: impl IntoIterator<Item = Self>) -> Option<Self> {
        let codes = codes.into_iter().map(|code| match Self::WORST_FIRST.contains(&code) {
            true => code,
            false => Self::Internal,
        });
        codes.min_by_key(|code| Self::WORST_FIRST.iter().position(|other| other == code))
    }

    /// [`Self::WORST_FIRST`] for people.
    pub fn worst_first() -> String {
        let numbers: Vec<String> = Self::WORST_FIRST.iter().map(|code| u8::from(*code).to_string()).collect();
        format!("Of several jobs the worst counts, in this order: {}.", numbers.join(", "))
    }

    /// Name, meaning, and what a pipeline should do about it.
    pub fn explain(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Ok => ("ok", "command done; for watching commands: all required tests passed", "pass"),
            Self::TestsFailed => (
                "tests_failed",
                "at least one required test failed, or had failed and was not run or was skipped in the rerun",
                "fail",
            ),
            Self::Usage => (
                "usage",
                "bad flags or configuration, unknown file, a project or request that cannot work",
                "fail, fix the input",
            ),
            Self::NoTests => (
                "no_tests",
                "no test ran: the selection matched nothing, a file held no test, or everything was skipped",
                "fail",
            ),
            Self::Auth => ("auth", "not logged in, token expired, or not allowed", "fail"),
            Self::NotFound => ("not_found", "the id is unknown or not visible to you", "fail"),
            Self::Conflict => (
                "conflict",
                "idempotency key reused with other content, label bound to another build, or already finished",
                "fail",
            ),
            Self::Infra => (
                "infra",
                "device, agent, install or server fault after all retries; no verdict on the tests",
                "retry allowed",
            ),
            Self::QueueDeadline => {
                ("queue_deadline", "--queue-timeout passed before a device was free", "retry later")
            }
            Self::TimedOut => ("timed_out", "a job ran longer than --timeout", "fail"),
            Self::Cancelled => ("cancelled", "cancelled by somebody", "fail"),
            Self::Unreachable => (
                "unreachable",
                "the server cannot be reached after retries; what was submitted goes on",
                "retry allowed",
            ),
            Self::WaitTimeout => ("wait_timeout", "--wait-timeout passed; the job goes on", "fail"),
            Self::Quota => ("quota", "over a quota or rate limit after retries", "retry later"),
            Self::Internal => ("internal", "a bug in qgjob", "fail"),
            Self::Interrupted => ("interrupted", "SIGINT (Ctrl-C)", "fail"),
            Self::BrokenPipe => ("broken_pipe", "SIGPIPE: the reader of the output went away", "fail"),
            Self::Terminated => ("terminated", "SIGTERM", "fail"),
        }
    }
}

impl From<ExitCode> for u8 {
    fn from(code: ExitCode) -> u8 {
        code as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_several_jobs_counts() {
        use ExitCode::{
            Cancelled, Infra, Internal, NoTests, Ok, QueueDeadline, TestsFailed, TimedOut, Usage,
        };
        for (codes, expected) in [
            (&[][..], None),
            (&[Ok, Ok], Some(Ok)),
            (&[Ok, NoTests], Some(NoTests)),
            (&[NoTests, Cancelled, Ok], Some(Cancelled)),
            (&[Cancelled, QueueDeadline], Some(QueueDeadline)),
            (&[QueueDeadline, TimedOut], Some(TimedOut)),
            (&[TimedOut, Infra], Some(Infra)),
            (&[Infra, Usage], Some(Usage)),
            (&[Usage, TestsFailed, Infra], Some(TestsFailed)),
            // Else a flag that forgives a run without tests would forgive a bug.
            (&[NoTests, Internal], Some(Internal)),
            (&[Ok, ExitCode::Auth], Some(Internal)),
        ] {
            assert_eq!(ExitCode::worst(codes.iter().copied()), expected, "{codes:?}");
        }
    }

    #[test]
    fn each_code_has_a_number_and_a_name_of_its_own() {
        let numbers: Vec<u8> = ExitCode::ALL.into_iter().map(u8::from).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 10, 11, 12, 13, 14, 15, 16, 70, 130, 141, 143]);
        let names: std::collections::BTreeSet<_> =
            ExitCode::ALL.iter().map(|code| code.explain().0).collect();
        assert_eq!(names.len(), 18);
    }
}
