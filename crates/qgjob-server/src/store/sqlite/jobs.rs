//! Jobs and runs as the rules see them, and the changes that the rules decide, with their events.

use jiff::Timestamp;
use qgjob_core::model::event::Fact;
use qgjob_core::model::job::{self, Conclusion, Reason, Status};
use qgjob_core::model::name::{OrgId, TestPath};
use qgjob_core::model::run::{self, JobCounts};
use qgjob_core::model::shard::Shard;
use qgjob_core::model::test_result::Counts;
use qgjob_core::model::{attempt, group};
use qgjob_core::queue::lifecycle::{self, Change, Command};
use qgjob_core::queue::reruns::{Kept, Settled};
use qgjob_core::queue::retry::Budget;
use qgjob_core::queue::rollup;
use rusqlite::Row;

use super::reruns;
use super::rows::{At, Bin, Ids, Json, Word};
use super::transaction::{About, Stop, Tx, Verb, not_found};

/// What the verbs need of a job.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub id: job::Id,
    pub run_id: run::Id,
    pub org_id: OrgId,
    pub group_id: group::Id,
    pub test: TestPath,
    pub shard: Option<Shard>,
    pub priority: u8,
    pub predicted_ms: u64,
    pub state: lifecycle::State,
    pub attempts: u32,
    pub attempt_id: Option<attempt::Id>,
    pub promoted_at: Option<Timestamp>,
    pub rerun: Option<Kept>,
}

/// Why a change happens, beyond what the rules say.
#[derive(Debug, Clone, Default)]
pub(super) struct Because {
    pub reason: Option<Reason>,
    pub detail: Option<String>,
    pub tests: Counts,
    /// What the tests of a job of a rerun have come to by this.
    pub settled: Option<Settled>,
}

impl Job {
    pub(super) fn about(&self) -> About<'_> {
        About { org_id: Some(&self.org_id), run_id: Some(self.run_id), job_id: Some(self.id) }
    }

    /// Whether `attempt` is the one that holds the job.
    pub(super) fn is_held_by(&self, attempt: attempt::Id) -> bool {
        self.state.status == Status::Running && self.attempt_id == Some(attempt)
    }

    /// Whether it runs all tests of its file, so that it tells of all.
    pub(super) fn is_whole(&self) -> bool {
        self.shard.is_none() && self.rerun.as_ref().is_none_or(|kept| kept.rerun.tests.is_empty())
    }
}

const COLUMNS: &str = "id, run_id, org_id, group_id, test, priority, status, conclusion, infra_faults, infra_retries, avoid, \
     attempts, attempt_id, predicted_ms, promoted_at, shard, rerun";

/// Reads [`COLUMNS`] by their place: looking up a name costs as much as reading the value.
pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Job> {
    Ok(Job {
        id: job::Id(row.get::<_, Bin>(0)?.0),
        run_id: run::Id(row.get::<_, Bin>(1)?.0),
        org_id: row.get::<_, Word<_>>(2)?.0,
        group_id: row.get(3)?,
        test: row.get::<_, Word<_>>(4)?.0,
        priority: row.get(5)?,
        state: lifecycle::State {
            status: row.get::<_, Word<_>>(6)?.0,
            conclusion: row.get::<_, Option<Word<_>>>(7)?.map(|word| word.0),
            budget: Budget {
                infra_faults: row.get(8)?,
                infra_retries: row.get(9)?,
                avoid: row.get::<_, Ids>(10)?.0,
            },
        },
        attempts: row.get(11)?,
        attempt_id: row.get::<_, Option<Bin>>(12)?.map(|id| attempt::Id(id.0)),
        predicted_ms: row.get(13)?,
        promoted_at: row.get::<_, Option<At>>(14)?.map(|at| at.0),
        shard: row.get::<_, Option<Json<_>>>(15)?.map(|shard| shard.0),
        rerun: row.get::<_, Option<Json<_>>>(16)?.map(|kept| kept.0),
    })
}

/// The condition for jobs of run `?1`: they were made together.
pub(super) const OF_RUN: &str = "ordinal >= (SELECT first_job FROM runs WHERE id = ?1)
    AND ordinal < (SELECT first_job + total FROM runs WHERE id = ?1)";

/// `SELECT … FROM jobs` of what [`read`] reads, and `rest`.
pub(super) fn select(rest: &str) -> String {
    format!("SELECT {COLUMNS} FROM jobs {rest}")
}

pub(super) fn load(tx: &Tx<'_>, id: job::Id) -> Verb<Job> {
    let found = tx.first(&select("WHERE id = ?1"), [Bin(id.0)], read)?;
    found.ok_or_else(|| not_found(format!("job {id}")))
}

/// Asks the rules what `command` does to the job, and does it. Answers the conclusion, if the job has one now.
pub(super) fn answer(
    tx: &mut Tx<'_>,
    now: Timestamp,
    job: &Job,
    command: Command<'_>,
    because: Because,
    random: u128,
) -> Verb<Option<Conclusion>> {
    let backoff = tx.rules.backoff;
    match lifecycle::answer(&job.state, command, &backoff, now, random)? {
        Change::Keep => Ok(job.state.conclusion),
        Change::Queue { not_before, budget } => {
            queue(tx, now, job, not_before, &budget, because)?;
            Ok(None)
        }
        Change::Complete { conclusion, reason } => {
            complete(tx, now, job, conclusion, reason, because)?;
            Ok(Some(conclusion))
        }
        Change::Start => Err(Stop::Corrupt("only a claim starts a job".to_owned())),
    }
}

/// Ends a job that waits for a build that is broken.
pub(super) fn give_up(tx: &mut Tx<'_>, now: Timestamp, id: job::Id, detail: &str) -> Verb<()> {
    let job = load(tx, id)?;
    let because = Because { detail: Some(detail.to_owned()), ..Because::default() };
    answer(tx, now, &job, Command::GiveUpOnBuild, because, 0)?;
    Ok(())
}

fn queue(
    tx: &mut Tx<'_>,
    now: Timestamp,
    job: &Job,
    not_before: Option<Timestamp>,
    budget: &Budget,
    because: Because,
) -> Verb<()> {
    let sql =
        "UPDATE jobs SET status = 'queued', queued_at = coalesce(queued_at, ?2), not_before = ?3, infra_faults = ?4, avoid = ?5,
        reason = ?6, detail = ?7, phase = NULL, version = version + 1 WHERE id = ?1";
    let (reason, detail) = (because.reason.map(Word), &because.detail);
    let avoid = Ids(budget.avoid.clone());
    tx.change(sql, (Bin(job.id.0), At(now), not_before.map(At), budget.infra_faults, avoid, reason, detail))?;
    let fact = Fact::JobQueued {
        group_id: job.group_id,
        priority: job.priority,
        not_before,
        reason: because.reason,
        detail: because.detail,
        avoid: budget.avoid.clone(),
        promoted_at: job.promoted_at,
        predicted_ms: job.predicted_ms,
    };
    tx.tell(now, job.about(), fact);
    count(tx, now, job, Totals::default(), |jobs| {
        *place(jobs, job.state.status) -= 1;
        jobs.queued += 1;
    })
}

fn complete(
    tx: &mut Tx<'_>,
    now: Timestamp,
    job: &Job,
    conclusion: Conclusion,
    reason: Reason,
    because: Because,
) -> Verb<()> {
    let sql = "UPDATE jobs SET status = 'completed', conclusion = ?2, reason = ?3, detail = ?4, phase = NULL,
        finished_at = ?5, passed = ?6, failed = ?7, flaky = ?8, skipped = ?9, version = version + 1 WHERE id = ?1";
    let Because { detail, tests, settled, .. } = because;
    let (id, at) = (Bin(job.id.0), At(now));
    let (ended, why) = (Word(conclusion), Word(reason));
    tx.change(sql, (id, ended, why, &detail, at, tests.passed, tests.failed, tests.flaky, tests.skipped))?;
    let from = job.state.status;
    let fact = Fact::JobCompleted { group_id: job.group_id, from, conclusion, reason, detail, tests };
    tx.tell(now, job.about(), fact);
    let totals = match (&job.rerun, settled) {
        (None, _) => Totals { more: tests, less: Counts::default() },
        (Some(_), None) => Totals::default(),
        (Some(before), Some(Settled { kept, uncarried })) => {
            tx.change("UPDATE jobs SET rerun = ?2 WHERE id = ?1", (Bin(job.id.0), Json(&kept)))?;
            reruns::uncarry(tx, job.run_id, uncarried)?;
            Totals { more: kept.had, less: before.had }
        }
    };
    count(tx, now, job, totals, |jobs| {
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
pub(super) fn count_start(tx: &mut Tx<'_>, now: Timestamp, job: &Job) -> Verb<()> {
    count(tx, now, job, Totals::default(), |jobs| {
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
    tx: &mut Tx<'_>,
    now: Timestamp,
    job: &Job,
    totals: Totals,
    change: impl FnOnce(&mut JobCounts),
) -> Verb<()> {
    let sql = "SELECT total, scheduled, queued, running, passed, failed, errored, timed_out, cancelled, skipped, flaky,
        tests_failed FROM runs WHERE id = ?1";
    let found = tx.first(sql, [Bin(job.run_id.0)], |row| {
        let jobs = JobCounts {
            total: row.get(0)?,
            scheduled: row.get(1)?,
            queued: row.get(2)?,
            running: row.get(3)?,
            passed: row.get(4)?,
            failed: row.get(5)?,
            errored: row.get(6)?,
            timed_out: row.get(7)?,
            cancelled: row.get(8)?,
            skipped: row.get(9)?,
            flaky: row.get(10)?,
        };
        Ok((jobs, row.get::<_, u32>(11)?))
    })?;
    let (mut jobs, tests_failed) =
        found.ok_or_else(|| Stop::Corrupt(format!("job {} has no run", job.id)))?;
    change(&mut jobs);
    let Totals { more, less } = totals;
    let tests_failed = (tests_failed + more.failed).saturating_sub(less.failed);
    let (status, conclusion) = (rollup::status(&jobs), rollup::conclusion(&jobs, tests_failed));
    let sql = "UPDATE runs SET status = ?2, conclusion = ?3, finished_at = ?4, scheduled = ?5, queued = ?6, running = ?7,
        passed = ?8, failed = ?9, errored = ?10, timed_out = ?11, cancelled = ?12, skipped = ?13, flaky = ?14,
        tests_passed = tests_passed + ?15, tests_failed = tests_failed + ?16, tests_flaky = tests_flaky + ?17,
        tests_skipped = tests_skipped + ?18, version = version + 1 WHERE id = ?1";
    let gained = |more: u32, less: u32| i64::from(more) - i64::from(less);
    let finished = conclusion.map(|_| At(now));
    tx.change(
        sql,
        rusqlite::params![
            Bin(job.run_id.0),
            Word(status),
            conclusion.map(Word),
            finished,
            jobs.scheduled,
            jobs.queued,
            jobs.running,
            jobs.passed,
            jobs.failed,
            jobs.errored,
            jobs.timed_out,
            jobs.cancelled,
            jobs.skipped,
            jobs.flaky,
            gained(more.passed, less.passed),
            gained(more.failed, less.failed),
            gained(more.flaky, less.flaky),
            gained(more.skipped, less.skipped),
        ],
    )?;
    let Some(conclusion) = conclusion else { return Ok(()) };
    let about = About { org_id: Some(&job.org_id), run_id: Some(job.run_id), job_id: None };
    tx.tell(now, about, Fact::RunCompleted { conclusion });
    Ok(())
}

/// Raises the versions of a job and its run: something that they show has changed.
pub(super) fn touch(tx: &Tx<'_>, job: job::Id, run: run::Id) -> Verb<()> {
    tx.change("UPDATE jobs SET version = version + 1 WHERE id = ?1", [Bin(job.0)])?;
    tx.change("UPDATE runs SET version = version + 1 WHERE id = ?1", [Bin(run.0)])?;
    Ok(())
}
