//! The life of a job: `scheduled → queued → running → completed`, and back to `queued` for another attempt.

use jiff::Timestamp;

use super::retry::{self, Backoff, Budget, Next};
use super::verdict::Judgement;
use crate::model::device;
use crate::model::job::{Conclusion, Reason, Status};
use crate::model::refusal::Refusal;

/// What the rules need to know of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Where it is.
    pub status: Status,
    /// How it ended, if it did.
    pub conclusion: Option<Conclusion>,
    /// Its retries.
    pub budget: Budget,
}

/// What can happen to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command<'a> {
    /// Its `not_before` has come.
    Due,
    /// An agent takes it.
    Claim,
    /// Its attempt on `device` ended: finished by the agent, or expired by the server.
    End {
        /// What was concluded of the attempt.
        judgement: &'a Judgement,
        /// Where it ran.
        device: device::Id,
    },
    /// Somebody cancels it.
    Cancel,
    /// Its queue deadline has passed.
    GiveUpWaiting,
    /// Its build fails wherever it runs.
    GiveUpOnBuild,
}

/// What changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It waits for a device; `budget` is what is left of its retries.
    Queue {
        /// Not before.
        not_before: Option<Timestamp>,
        /// What is left of the retries.
        budget: Budget,
    },
    /// A new attempt holds it.
    Start,
    /// It is over.
    Complete {
        /// How.
        conclusion: Conclusion,
        /// Why.
        reason: Reason,
    },
    /// Nothing: the command had its effect before.
    Keep,
}

impl Command<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Due => "queue",
            Self::Claim => "claim",
            Self::End { .. } => "end an attempt of",
            Self::Cancel => "cancel",
            Self::GiveUpWaiting => "give up waiting for",
            Self::GiveUpOnBuild => "give up on the build of",
        }
    }
}

/// Answers `command` for a job in `state`. Every pair of status and command has an answer.
///
/// # Errors
/// [`Refusal::WrongStatus`] where the command does not fit.
pub fn answer(
    state: &State,
    command: Command<'_>,
    backoff: &Backoff,
    now: Timestamp,
    random: u128,
) -> Result<Change, Refusal> {
    use Status::{Completed, Queued, Running, Scheduled};
    let refused = Err(Refusal::WrongStatus { command: command.name(), status: state.status });
    let cancelled = Change::Complete { conclusion: Conclusion::Cancelled, reason: Reason::Cancelled };
    let gave_up = |reason| Change::Complete { conclusion: Conclusion::Errored, reason };
    match (state.status, command) {
        (Scheduled, Command::Due) => Ok(Change::Queue { not_before: None, budget: state.budget.clone() }),
        (Queued, Command::Claim) => Ok(Change::Start),
        (Running, Command::End { judgement, device }) => {
            match retry::after(judgement, &state.budget, device, backoff, now, random) {
                Next::Again { not_before, budget } => Ok(Change::Queue { not_before, budget }),
                Next::Conclude => {
                    Ok(Change::Complete { conclusion: judgement.conclusion(), reason: judgement.reason })
                }
            }
        }
        // Cancelled while it ran: the attempt ends later and changes nothing.
        (Completed, Command::End { .. }) => Ok(Change::Keep),
        (Scheduled | Queued | Running, Command::Cancel) => Ok(cancelled),
        (Completed, Command::Cancel) if state.conclusion == Some(Conclusion::Cancelled) => Ok(Change::Keep),
        (Scheduled | Queued, Command::GiveUpWaiting) => Ok(gave_up(Reason::QueueDeadline)),
        // The deadline limits the wait for a device, and this job has one.
        (Running | Completed, Command::GiveUpWaiting) => Ok(Change::Keep),
        (Queued, Command::GiveUpOnBuild) => Ok(gave_up(Reason::BrokenBuild)),
        // What is not due or runs may yet show that the build is better than thought.
        (Scheduled | Running | Completed, Command::GiveUpOnBuild) => Ok(Change::Keep),
        (Queued | Running | Completed, Command::Due)
        | (Scheduled | Running | Completed, Command::Claim)
        | (Scheduled | Queued, Command::End { .. })
        | (Completed, Command::Cancel) => refused,
    }
}

/// Whether a job in this status can be moved before others.
///
/// # Errors
/// [`Refusal::WrongStatus`] when it does not wait.
pub fn may_promote(status: Status) -> Result<(), Refusal> {
    match status {
        Status::Queued => Ok(()),
        Status::Scheduled | Status::Running | Status::Completed => {
            Err(Refusal::WrongStatus { command: "promote", status })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::attempt::Outcome;
    use crate::model::test_result::Counts;

    const STATUSES: [Status; 4] = [Status::Scheduled, Status::Queued, Status::Running, Status::Completed];

    fn state(status: Status, conclusion: Conclusion) -> State {
        let budget = Budget { infra_faults: 0, infra_retries: 2, avoid: vec![] };
        State { status, conclusion: (status == Status::Completed).then_some(conclusion), budget }
    }

    fn table(command: Command<'_>, conclusion: Conclusion) -> Vec<String> {
        let now = "2026-11-22T10:00:00Z".parse().unwrap();
        STATUSES
            .iter()
            .map(|&status| match answer(&state(status, conclusion), command, &Backoff::default(), now, 0) {
                Ok(Change::Queue { .. }) => "queue".to_owned(),
                Ok(Change::Start) => "start".to_owned(),
                Ok(Change::Complete { conclusion, .. }) => conclusion.to_string(),
                Ok(Change::Keep) => "keep".to_owned(),
                Err(Refusal::WrongStatus { status: named, .. }) if named == status => "refused".to_owned(),
                Err(other) => panic!("untyped refusal {other:?}"),
            })
            .collect()
    }

    #[test]
    fn every_status_answers_every_command() {
        let passed = Judgement {
            outcome: Outcome::Passed,
            reason: Reason::TestsPassed,
            detail: None,
            tests: Counts::default(),
        };
        let lost = Judgement::lost();
        let end = |judgement| Command::End { judgement, device: device::Id(1) };
        // Columns: scheduled, queued, running, completed.
        assert_eq!(table(Command::Due, Conclusion::Passed), ["queue", "refused", "refused", "refused"]);
        assert_eq!(table(Command::Claim, Conclusion::Passed), ["refused", "start", "refused", "refused"]);
        assert_eq!(table(end(&passed), Conclusion::Passed), ["refused", "refused", "passed", "keep"]);
        assert_eq!(table(end(&lost), Conclusion::Passed), ["refused", "refused", "queue", "keep"]);
        assert_eq!(
            table(Command::Cancel, Conclusion::Passed),
            ["cancelled", "cancelled", "cancelled", "refused"]
        );
        assert_eq!(
            table(Command::Cancel, Conclusion::Cancelled),
            ["cancelled", "cancelled", "cancelled", "keep"]
        );
        assert_eq!(table(Command::GiveUpWaiting, Conclusion::Passed), ["errored", "errored", "keep", "keep"]);
        assert_eq!(table(Command::GiveUpOnBuild, Conclusion::Passed), ["keep", "errored", "keep", "keep"]);
    }

    #[test]
    fn a_conclusion_never_changes() {
        let passed = Judgement {
            outcome: Outcome::Passed,
            reason: Reason::TestsPassed,
            detail: None,
            tests: Counts::default(),
        };
        let now = "2026-11-22T10:00:00Z".parse().unwrap();
        let done = state(Status::Completed, Conclusion::Cancelled);
        for command in [
            Command::Due,
            Command::Claim,
            Command::End { judgement: &passed, device: device::Id(1) },
            Command::Cancel,
            Command::GiveUpWaiting,
            Command::GiveUpOnBuild,
        ] {
            let answer = answer(&done, command, &Backoff::default(), now, 0);
            assert!(matches!(answer, Ok(Change::Keep) | Err(_)), "{command:?} gave {answer:?}");
        }
    }
}
