//! What follows the end of an attempt: another attempt, or a conclusion.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::verdict::Judgement;
use crate::model::attempt::Outcome;
use crate::model::device;

/// How long a job waits before it is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Longest wait before the first retry.
    pub first: Duration,
    /// Longest wait before any retry.
    pub most: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_secs(5), most: Duration::from_secs(300) }
    }
}

impl Backoff {
    /// The wait before retry number `retry` (from 1): uniformly between 0 and `first * 2^(retry-1)`, cut at `most`.
    /// This is "full jitter" (M. Brooker, "Exponential Backoff And Jitter", 2015): jobs that fail together do not
    /// come back together.
    pub fn wait(&self, retry: u32, random: u128) -> Duration {
        let doubled = self.first.saturating_mul(2u32.saturating_pow(retry.saturating_sub(1)));
        let ceiling = doubled.min(self.most).as_millis() as u64;
        Duration::from_millis(((random & u128::from(u64::MAX)) % (u128::from(ceiling) + 1)) as u64)
    }
}

/// What a job has spent and may spend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Attempts that ended for infrastructure reasons so far.
    pub infra_faults: u32,
    /// How many of those are followed by another attempt.
    pub infra_retries: u32,
    /// Devices to avoid so far.
    pub avoid: Vec<device::Id>,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// The job is queued again.
    Again {
        /// Not before.
        not_before: Option<Timestamp>,
        /// What is left of the budget.
        budget: Budget,
    },
    /// The judgement stands.
    Conclude,
}

/// Decides what follows `judgement` of an attempt on `device`. A failed test is never repeated here: test retries
/// happen inside the attempt. A released job costs nothing.
pub fn after(
    judgement: &Judgement,
    budget: &Budget,
    device: device::Id,
    backoff: &Backoff,
    now: Timestamp,
    random: u128,
) -> Next {
    if judgement.outcome == Outcome::Released {
        return Next::Again { not_before: None, budget: budget.clone() };
    }
    if !judgement.is_infrastructure() || budget.infra_faults >= budget.infra_retries {
        return Next::Conclude;
    }
    let mut budget = Budget { infra_faults: budget.infra_faults + 1, ..budget.clone() };
    if !budget.avoid.contains(&device) {
        budget.avoid.push(device);
    }
    let wait = backoff.wait(budget.infra_faults, random);
    let wait = SignedDuration::try_from(wait).expect("a backoff fits into a signed duration");
    Next::Again { not_before: Some(now + wait), budget }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::job::Reason;
    use crate::model::test_result::Counts;

    fn judged(outcome: Outcome, reason: Reason) -> Judgement {
        Judgement { outcome, reason, detail: None, tests: Counts::default() }
    }

    fn budget(infra_faults: u32) -> Budget {
        Budget { infra_faults, infra_retries: 2, avoid: vec![] }
    }

    const DEVICE: device::Id = device::Id(7);

    fn next(judgement: &Judgement, budget: &Budget) -> Next {
        after(judgement, budget, DEVICE, &Backoff::default(), "2026-11-22T10:00:00Z".parse().unwrap(), 0)
    }

    #[test]
    fn infrastructure_is_retried_elsewhere_until_the_budget_is_spent() {
        let lost = Judgement::lost();
        let Next::Again { budget: after_one, .. } = next(&lost, &budget(0)) else { panic!("not retried") };
        assert_eq!((after_one.infra_faults, after_one.avoid.as_slice()), (1, &[DEVICE][..]));
        let Next::Again { budget: after_two, .. } = next(&lost, &after_one) else { panic!("not retried") };
        assert_eq!((after_two.infra_faults, after_two.avoid.len()), (2, 1), "a device is listed once");
        assert_eq!(next(&lost, &after_two), Next::Conclude);
    }

    #[test]
    fn verdicts_on_tests_and_projects_are_final() {
        for (outcome, reason) in [
            (Outcome::Passed, Reason::TestsPassed),
            (Outcome::Failed, Reason::TestsFailed),
            (Outcome::Skipped, Reason::TestsSkipped),
            (Outcome::TimedOut, Reason::Timeout),
            (Outcome::Cancelled, Reason::Cancelled),
            (Outcome::Errored, Reason::NoTests),
            (Outcome::Errored, Reason::ProjectInvalid),
        ] {
            assert_eq!(next(&judged(outcome, reason), &budget(0)), Next::Conclude, "{outcome} {reason}");
        }
    }

    #[test]
    fn a_released_job_costs_nothing() {
        let released = judged(Outcome::Released, Reason::Released);
        assert_eq!(next(&released, &budget(2)), Next::Again { not_before: None, budget: budget(2) });
    }

    #[test]
    fn waits_double_up_to_the_cap_and_are_spread() {
        let backoff = Backoff::default();
        for (retry, ceiling) in [(1, 5_000), (2, 10_000), (3, 20_000), (7, 300_000), (40, 300_000)] {
            assert_eq!(backoff.wait(retry, ceiling).as_millis(), ceiling, "the ceiling itself can be drawn");
            assert_eq!(backoff.wait(retry, ceiling + 1).as_millis(), 0, "and nothing above it");
        }
    }
}
