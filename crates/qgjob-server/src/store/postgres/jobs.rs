//! What the rules decide about jobs and runs, with the events that tell of it.

use jiff::Timestamp;
use qgjob_core::model::event::Fact;
use qgjob_core::model::job::{self, Conclusion, Reason, Status};
use qgjob_core::model::run::JobCounts;
use qgjob_core::model::test_result::Counts;
use qgjob_core::model::{attempt, run};
use qgjob_core::queue::lifecycle::{self, Change, Command};
use qgjob_core::queue::reruns::Settled;
use qgjob_core::queue::retry::Budget;
use qgjob_core::queue::rollup;

use super::rows::{JobRow, missing};
use super::transaction::{Stop, Verb, not_found};
use super::work::{About, Work};

/// Why a change happens, beyond what the rules say.
#[derive(Debug, Clone, Default)]
pub(super) struct Because {
    pub reason: Option<Reason>,
    pub detail: Option<String>,
    pub tests: Counts,
    /// What the tests of a job of a rerun have come to by this.
    pub settled: Option<Settled>,
}

impl JobRow {
    pub(super) fn about(&self) -> About<'_> {
        About { org_id: Some(&self.job.org_id), run_id: Some(self.job.run_id), job_id: Some(self.job.id) }
    }

    /// Whether `attempt` is the one that holds the job.
    pub(super) fn is_held_by(&self, attempt: attempt::Id) -> bool {
        self.job.status == Status::Running && self.attempt_id == Some(attempt)
    }

    /// Whether it repeats some tests of its file alone.
    pub(super) fn is_part(&self) -> bool {
        self.kept.as_ref().is_some_and(|kept| !kept.rerun.tests.is_empty())
    }

    /// Whether it runs all tests of its file, so that it tells of all.
    pub(super) fn is_whole(&self) -> bool {
        self.job.spec.shard.is_none() && !self.is_part()
    }

    /// The job as the rules see it.
    pub(super) fn state(&self) -> lifecycle::State {
        let budget = Budget {
            infra_faults: self.job.infra_faults,
            infra_retries: self.job.spec.infra_retries,
            avoid: self.job.avoid.clone(),
        };
        lifecycle::State { status: self.job.status, conclusion: self.job.conclusion, budget }
    }
}

pub(super) fn load(work: &Work, id: job::Id) -> Verb<JobRow> {
    work.jobs.get(&id).cloned().ok_or_else(|| not_found(format!("job {id}")))
}

pub(super) fn change(work: &mut Work, id: job::Id) -> Verb<&mut JobRow> {
    work.jobs.change(&id).ok_or_else(|| missing(format!("job {id}")))
}

/// Asks the rules what `command` does to the job, and does it. Answers the conclusion, if the job has one now.
pub(super) fn answer(
    work: &mut Work,
    now: Timestamp,
    row: &JobRow,
    command: Command<'_>,
    because: Because,
    random: u128,
) -> Verb<Option<Conclusion>> {
    let backoff = work.rules.backoff;
    match lifecycle::answer(&row.state(), command, &backoff, now, random)? {
        Change::Keep => Ok(row.job.conclusion),
        Change::Queue { not_before, budget } => {
            queue(work, now, row, not_before, budget, because)?;
            Ok(None)
        }
        Change::Complete { conclusion, reason } => {
            complete(work, now, row, conclusion, reason, because)?;
            Ok(Some(conclusion))
        }
        Change::Start => Err(Stop::Corrupt("only a claim starts a job".to_owned())),
    }
}

/// Ends a job that waits for a build that is broken.
pub(super) fn give_up(work: &mut Work, now: Timestamp, id: job::Id, detail: &str) -> Verb<()> {
    let row = load(work, id)?;
    let because = Because { detail: Some(detail.to_owned()), ..Because::default() };
    answer(work, now, &row, Command::GiveUpOnBuild, because, 0)?;
    Ok(())
}

fn queue(
    work: &mut Work,
    now: Timestamp,
    row: &JobRow,
    not_before: Option<Timestamp>,
    budget: Budget,
    because: Because,
) -> Verb<()> {
    let Because { reason, detail, .. } = because;
    let own = change(work, row.job.id)?;
    own.queued_at = own.queued_at.or(Some(now));
    own.job.status = Status::Queued;
    own.job.not_before = not_before;
    own.job.infra_faults = budget.infra_faults;
    own.job.avoid.clone_from(&budget.avoid);
    own.job.reason = reason;
    own.job.detail.clone_from(&detail);
    own.job.phase = None;
    own.job.version += 1;
    let fact = Fact::JobQueued {
        group_id: row.group_id,
        priority: row.job.spec.priority.get(),
        not_before,
        reason,
        detail,
        avoid: budget.avoid,
        promoted_at: row.job.promoted_at,
        predicted_ms: row.job.predicted_ms,
    };
    work.tell(now, row.about(), fact);
    count(work, now, row, Totals::default(), |jobs| {
        *place(jobs, row.job.status) -= 1;
        jobs.queued += 1;
    })
}

fn complete(
    work: &mut Work,
    now: Timestamp,
    row: &JobRow,
    conclusion: Conclusion,
    reason: Reason,
    because: Because,
) -> Verb<()> {
    let Because { detail, tests, settled, .. } = because;
    let totals = match (&row.kept, settled) {
        (None, _) => Totals { more: tests, less: Counts::default() },
        (Some(_), None) => Totals::default(),
        (Some(before), Some(Settled { kept, uncarried })) => {
            let totals = Totals { more: kept.had, less: before.had };
            change(work, row.job.id)?.kept = Some(kept);
            // Tests that were to be carried have results of their own.
            let run = work
                .runs
                .change(&row.job.run_id)
                .ok_or_else(|| missing(format!("run {}", row.job.run_id)))?;
            run.run.carried = run.run.carried.minus(uncarried);
            totals
        }
    };
    let own = &mut change(work, row.job.id)?.job;
    own.status = Status::Completed;
    own.conclusion = Some(conclusion);
    own.reason = Some(reason);
    own.detail.clone_from(&detail);
    own.phase = None;
    own.finished_at = Some(now);
    own.tests = tests;
    own.version += 1;
    let from = row.job.status;
    let fact = Fact::JobCompleted { group_id: row.group_id, from, conclusion, reason, detail, tests };
    work.tell(now, row.about(), fact);
    count(work, now, row, totals, |jobs| {
        *place(jobs, from) -= 1;
        *match conclusion {
            Conclusion::Passed => &mut jobs.passed,
            Conclusion::Failed => &mut jobs.failed,
            Conclusion::Errored => &mut jobs.errored,
            Conclusion::TimedOut => &mut jobs.timed_out,
            Conclusion::Cancelled => &mut jobs.cancelled,
            Conclusion::Skipped => &mut jobs.skipped,
        } += 1;
        if conclusion == Conclusion::Passed && tests.flaky > 0 {
            jobs.flaky += 1;
        }
    })
}

/// Where a run counts its jobs that are not over.
fn place(jobs: &mut JobCounts, status: Status) -> &mut u32 {
    match status {
        Status::Scheduled => &mut jobs.scheduled,
        Status::Queued => &mut jobs.queued,
        Status::Running => &mut jobs.running,
        Status::Completed => unreachable!("a job that is over does not change"),
    }
}

/// A claim: the job moves from queued to running.
pub(super) fn count_start(work: &mut Work, now: Timestamp, row: &JobRow) -> Verb<()> {
    count(work, now, row, Totals::default(), |jobs| {
        jobs.queued -= 1;
        jobs.running += 1;
    })
}

/// What changes in the totals of a run's tests.
#[derive(Debug, Default)]
struct Totals {
    more: Counts,
    less: Counts,
}

/// Changes the run's counts, and concludes the run when its last job is over.
fn count(
    work: &mut Work,
    now: Timestamp,
    row: &JobRow,
    totals: Totals,
    change: impl FnOnce(&mut JobCounts),
) -> Verb<()> {
    let run_id = row.job.run_id;
    let run = &mut work.runs.change(&run_id).ok_or_else(|| missing(format!("run {run_id}")))?.run;
    change(&mut run.jobs);
    run.tests = run.tests.plus(totals.more).minus(totals.less);
    run.status = rollup::status(&run.jobs);
    run.conclusion = rollup::conclusion(&run.jobs, run.tests.failed);
    run.finished_at = run.conclusion.map(|_| now);
    run.version += 1;
    let Some(conclusion) = run.conclusion else { return Ok(()) };
    let about = About { job_id: None, ..row.about() };
    work.tell(now, about, Fact::RunCompleted { conclusion });
    Ok(())
}

/// Raises the versions of a job and its run: something that they show has changed.
pub(super) fn touch(work: &mut Work, job: job::Id, run: run::Id) -> Verb<()> {
    change(work, job)?.job.version += 1;
    work.runs.change(&run).ok_or_else(|| missing(format!("run {run}")))?.run.version += 1;
    Ok(())
}
