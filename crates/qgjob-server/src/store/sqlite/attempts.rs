//! Attempts while they live and as they end. Every report is checked against the lease's epoch first.

use std::time::Duration;

use jiff::Timestamp;
use qgjob_core::api::agents::{Held, HeldReply, Order};
use qgjob_core::model::artifact::Artifact;
use qgjob_core::model::attempt::{self, Epoch, InstallAction, Phase, Took};
use qgjob_core::model::event::Fact;
use qgjob_core::model::evidence;
use qgjob_core::model::job::{self, Conclusion, Status};
use qgjob_core::model::refusal::Refusal;
use qgjob_core::model::test_result::{Counts, Try};
use qgjob_core::model::{agent, device, run};
use qgjob_core::queue::lifecycle::Command;
use qgjob_core::queue::reruns::{self, Kept, Settled};
use qgjob_core::queue::verdict::{self, Asked, Judgement};
use rusqlite::Row;

use super::agents;
use super::jobs::{self, Because, Job};
use super::limits;
use super::rows::{At, Bin, Digest, Json, Word, json, word};
use super::transaction::{Stop, Tx, Verb, not_found};
use crate::store::alike::{after, between_ms};
use crate::store::{Answer, Finish, Finished, PhaseChange, Report};

/// What the verbs need of an attempt.
#[derive(Debug)]
pub(super) struct Attempt {
    pub id: attempt::Id,
    pub job_id: job::Id,
    run_id: run::Id,
    agent_id: agent::Id,
    device_id: device::Id,
    epoch: Epoch,
    phase: Phase,
    install: Option<attempt::Install>,
    /// What was concluded; none while it lives.
    ended: Option<Judgement>,
    /// The job's conclusion when the attempt ended.
    concluded: Option<Conclusion>,
    agent_finished: bool,
    started_at: Timestamp,
}

/// `SELECT … FROM attempts` of what [`read`] reads, and `rest`.
pub(super) fn select(rest: &str) -> String {
    format!(
        "SELECT id, job_id, run_id, agent_id, device_id, epoch, phase, install_action, install_ms, concluded, agent_finished,
        outcome, reason, detail, passed, failed, flaky, skipped, started_at FROM attempts {rest}"
    )
}

/// Reads what [`select`] selects, by its place: looking up a name costs as much as reading the value.
pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Attempt> {
    let install = row.get::<_, Option<Word<InstallAction>>>(7)?;
    let duration_ms = row.get::<_, Option<u64>>(8)?.unwrap_or(0);
    let ended = match row.get::<_, Option<Word<_>>>(11)? {
        None => None,
        Some(Word(outcome)) => {
            let (passed, failed, flaky, skipped) = (row.get(14)?, row.get(15)?, row.get(16)?, row.get(17)?);
            let tests = Counts { total: passed + failed + flaky + skipped, passed, failed, flaky, skipped };
            Some(Judgement { outcome, reason: row.get::<_, Word<_>>(12)?.0, detail: row.get(13)?, tests })
        }
    };
    Ok(Attempt {
        id: attempt::Id(row.get::<_, Bin>(0)?.0),
        job_id: job::Id(row.get::<_, Bin>(1)?.0),
        run_id: run::Id(row.get::<_, Bin>(2)?.0),
        agent_id: agent::Id(row.get::<_, Bin>(3)?.0),
        device_id: device::Id(row.get::<_, Bin>(4)?.0),
        epoch: row.get(5)?,
        phase: row.get::<_, Word<_>>(6)?.0,
        install: install.map(|Word(action)| attempt::Install { action, duration_ms }),
        ended,
        concluded: row.get::<_, Option<Word<_>>>(9)?.map(|word| word.0),
        agent_finished: row.get(10)?,
        started_at: row.get::<_, At>(18)?.0,
    })
}

/// The attempt, if the agent has or had it.
fn load(tx: &Tx<'_>, agent_id: agent::Id, id: attempt::Id) -> Verb<Attempt> {
    let found = tx.first(&select("WHERE id = ?1"), [Bin(id.0)], read)?;
    found.filter(|attempt| attempt.agent_id == agent_id).ok_or_else(|| not_found(format!("attempt {id}")))
}

/// The attempt, if the report's lease holds it.
fn held<T>(tx: &Tx<'_>, report: &Report<T>) -> Verb<Attempt> {
    let attempt = load(tx, report.agent_id, report.attempt_id)?;
    if attempt.ended.is_some() || attempt.epoch != report.epoch {
        return Err(Refusal::LeaseLost { epoch: report.epoch }.into());
    }
    Ok(attempt)
}

/// Extends the lease and says what to do. A lease that ran out but was not expired yet is still its holder's.
pub(super) fn renew(
    tx: &Tx<'_>,
    now: Timestamp,
    lease: Duration,
    agent_id: agent::Id,
    held: Held,
) -> Verb<HeldReply> {
    let Held { attempt_id, epoch } = held;
    let sql = "UPDATE attempts SET lease_until = max(lease_until, ?4)
        WHERE id = ?1 AND agent_id = ?2 AND epoch = ?3 AND ended_at IS NULL
        RETURNING (SELECT status FROM jobs WHERE id = job_id) AS status";
    let until = At(after(now, lease)?);
    let status: Option<Status> =
        tx.first(sql, (Bin(attempt_id.0), Bin(agent_id.0), epoch, until), |row| word(row, "status"))?;
    let order = match status {
        None => Order::Abandon,
        // The job ended before its attempt: only a cancel does that.
        Some(Status::Completed) => Order::Cancel,
        Some(_) => Order::GoOn { lease_ms: lease.as_millis() as u64 },
    };
    Ok(HeldReply { attempt_id, order })
}

pub(super) fn set_phase(tx: &mut Tx<'_>, now: Timestamp, report: &Report<PhaseChange>) -> Verb<()> {
    let attempt = held(tx, report)?;
    let PhaseChange { phase, install } = report.what;
    let install = install.filter(|_| attempt.install.is_none());
    if phase == attempt.phase && install.is_none() {
        return Ok(());
    }
    tx.change("UPDATE attempts SET phase = ?2 WHERE id = ?1", (Bin(attempt.id.0), Word(phase)))?;
    if let Some(install) = install {
        let sql = "UPDATE attempts SET install_action = ?2, install_ms = ?3 WHERE id = ?1";
        tx.change(sql, (Bin(attempt.id.0), Word(install.action), install.duration_ms))?;
        let sql = match install.action {
            InstallAction::Avoided => "UPDATE runs SET installs_avoided = installs_avoided + 1 WHERE id = ?1",
            InstallAction::Cold | InstallAction::VersionChange | InstallAction::Reset => {
                "UPDATE runs SET installs_made = installs_made + 1 WHERE id = ?1"
            }
        };
        tx.change(sql, [Bin(attempt.run_id.0)])?;
        agents::note_install(tx, now, attempt.device_id, attempt.run_id)?;
    }
    let job = jobs::load(tx, attempt.job_id)?;
    if job.is_held_by(attempt.id) {
        tx.change("UPDATE jobs SET phase = ?2 WHERE id = ?1", (Bin(job.id.0), Word(phase)))?;
    }
    jobs::touch(tx, job.id, job.run_id)?;
    tx.tell(now, job.about(), Fact::JobPhase { attempt_id: attempt.id, phase, install });
    Ok(())
}

pub(super) fn add_tries(tx: &mut Tx<'_>, now: Timestamp, report: &Report<Vec<Try>>) -> Verb<()> {
    let attempt = held(tx, report)?;
    let job = jobs::load(tx, attempt.job_id)?;
    for result in &report.what {
        let sql = "INSERT INTO tries (attempt_id, seq, body) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
        if tx.change(sql, (Bin(attempt.id.0), result.seq, Json(result)))? == 1 {
            let fact = Fact::TestFinished { attempt_id: attempt.id, result: Box::new(result.clone()) };
            tx.tell(now, job.about(), fact);
        }
    }
    Ok(())
}

/// The same file again is harmless; other bytes under its name are refused.
pub(super) fn add_artifact(tx: &Tx<'_>, report: &Report<Artifact>) -> Verb<()> {
    let attempt = held(tx, report)?;
    let artifact = &report.what;
    if artifact.attempt_id != attempt.id || artifact.job_id != attempt.job_id {
        return Err(Refusal::Invalid(format!("artifact {} belongs to another attempt", artifact.id)).into());
    }
    let sql = "SELECT sha256 FROM artifacts WHERE attempt_id = ?1 AND name = ?2";
    let kept = tx.first(sql, (Bin(attempt.id.0), &artifact.name), |row| row.get::<_, Digest>(0))?;
    match kept {
        Some(Digest(kept)) if kept == artifact.sha256 => return Ok(()),
        Some(_) => {
            let what = format!("the attempt has an artifact {:?} with other bytes", artifact.name);
            return Err(Refusal::Invalid(what).into());
        }
        None => {}
    }
    let sql = "INSERT INTO artifacts (id, org_id, job_id, attempt_id, name, media_type, size_bytes, sha256, created_at)
        SELECT ?1, org_id, id, ?3, ?4, ?5, ?6, ?7, ?8 FROM jobs WHERE id = ?2";
    let (id, job, attempt) = (Bin(artifact.id.0), Bin(attempt.job_id.0), Bin(attempt.id.0));
    let (name, media_type) = (&artifact.name, &artifact.media_type);
    let (size, sha256, created_at) = (artifact.size_bytes, Digest(artifact.sha256), At(artifact.created_at));
    tx.change(sql, (id, job, attempt, name, media_type, size, sha256, created_at))?;
    Ok(())
}

/// The outer failure undoes; the inner refusal keeps the event that tells of a late report.
pub(super) fn finish(tx: &mut Tx<'_>, now: Timestamp, report: &Report<Finish>) -> Verb<Answer<Finished>> {
    let attempt = load(tx, report.agent_id, report.attempt_id)?;
    let job = jobs::load(tx, attempt.job_id)?;
    let Finish { evidence, random } = &report.what;
    if let (Some(judgement), true, true) =
        (&attempt.ended, attempt.agent_finished, attempt.epoch == report.epoch)
    {
        return Ok(Ok(Finished { judgement: judgement.clone(), conclusion: attempt.concluded }));
    }
    let sql = "SELECT body FROM tries WHERE attempt_id = ?1 ORDER BY seq";
    let seen: Vec<Try> = tx.all(sql, [Bin(attempt.id.0)], |row| json(row, "body"))?;
    let cancelled = job.state.conclusion == Some(Conclusion::Cancelled);
    let only = job.rerun.as_ref().map_or(&[][..], Kept::owed);
    let asked = Asked { test: &job.test, shard: job.shard.as_ref(), only };
    let judgement = verdict::judge(asked, evidence, &seen, cancelled);
    if attempt.ended.is_some() || attempt.epoch != report.epoch {
        let fact = Fact::StaleReport { attempt_id: attempt.id, claimed: judgement.outcome };
        tx.tell(now, job.about(), fact);
        return Ok(Err(Refusal::LeaseLost { epoch: report.epoch }));
    }
    let settled = match (&job.rerun, &evidence.report) {
        (Some(kept), evidence::Report::Read { tests, .. }) => reruns::settle(kept, &judgement, tests, &seen),
        _ => None,
    };
    let how = How { judgement: &judgement, settled, by: Some(report.agent_id) };
    let conclusion = end(tx, now, &attempt, &job, how, *random)?;
    Ok(Ok(Finished { judgement, conclusion }))
}

/// How an attempt ends.
struct How<'a> {
    judgement: &'a Judgement,
    /// What the tests of a job of a rerun have come to.
    settled: Option<Settled>,
    /// The agent, if that ended it, and not the server.
    by: Option<agent::Id>,
}

/// Ends a live attempt, which frees its device, and lets the rules decide about the job if the attempt holds it.
/// Answers the job's conclusion, if it has one now.
fn end(
    tx: &mut Tx<'_>,
    now: Timestamp,
    attempt: &Attempt,
    job: &Job,
    how: How<'_>,
    random: u128,
) -> Verb<Option<Conclusion>> {
    let How { judgement, settled, by } = how;
    let Judgement { outcome, reason, detail, tests } = judgement;
    let fact = Fact::AttemptEnded {
        attempt_id: attempt.id,
        device_id: attempt.device_id,
        outcome: *outcome,
        reason: Some(*reason),
        detail: detail.clone(),
        took: if outcome.is_verdict() { Some(took(tx, now, attempt, job)?) } else { None },
    };
    tx.tell(now, job.about(), fact);
    let concluded = if job.is_held_by(attempt.id) {
        let because = Because { reason: Some(*reason), detail: detail.clone(), tests: *tests, settled };
        let command = Command::End { judgement, device: attempt.device_id };
        jobs::answer(tx, now, job, command, because, random)?
    } else {
        job.state.conclusion
    };
    let sql =
        "UPDATE attempts SET ended_at = ?2, outcome = ?3, reason = ?4, detail = ?5, passed = ?6, failed = ?7,
        flaky = ?8, skipped = ?9, concluded = ?10, agent_finished = ?11 WHERE id = ?1 AND ended_at IS NULL";
    let changed = tx.change(
        sql,
        rusqlite::params![
            Bin(attempt.id.0),
            At(now),
            Word(*outcome),
            Word(*reason),
            detail,
            tests.passed,
            tests.failed,
            tests.flaky,
            tests.skipped,
            concluded.map(Word),
            by.is_some()
        ],
    )?;
    if changed != 1 {
        return Err(Stop::Corrupt(format!("attempt {} ended twice", attempt.id)));
    }
    limits::ended(tx, job.group_id)?;
    Ok(concluded)
}

fn took(tx: &Tx<'_>, now: Timestamp, attempt: &Attempt, job: &Job) -> Verb<Took> {
    let kind = match attempt.install {
        Some(install) if install.action.is_switch() => {
            let sql = "SELECT kind FROM devices WHERE id = ?1";
            tx.first(sql, [Bin(attempt.device_id.0)], |row| word(row, "kind"))?
        }
        _ => None,
    };
    let whole_ms = between_ms(attempt.started_at, now);
    Ok(Took::new(job.group_id, job.test.clone(), !job.is_whole(), whole_ms, attempt.install, kind))
}

/// Ends live attempts by the server's own judgement. Each draws its own wait from `random`.
pub(super) fn end_all(
    tx: &mut Tx<'_>,
    now: Timestamp,
    attempts: Vec<Attempt>,
    judgement: &Judgement,
    random: u128,
) -> Verb<u32> {
    let mut ended = 0;
    for attempt in attempts {
        let job = jobs::load(tx, attempt.job_id)?;
        let how = How { judgement, settled: None, by: None };
        end(tx, now, &attempt, &job, how, random ^ attempt.id.0)?;
        ended += 1;
    }
    Ok(ended)
}
