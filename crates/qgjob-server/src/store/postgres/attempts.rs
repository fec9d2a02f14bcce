//! Attempts while they live and as they end. Every report is checked against the lease's epoch first.

use std::time::Duration;

use jiff::Timestamp;
use qgjob_core::api::agents::{Held, HeldReply, Order};
use qgjob_core::model::agent;
use qgjob_core::model::artifact::Artifact;
use qgjob_core::model::attempt::{self, InstallAction, Took};
use qgjob_core::model::event::Fact;
use qgjob_core::model::evidence;
use qgjob_core::model::job::{Conclusion, Status};
use qgjob_core::model::refusal::Refusal;
use qgjob_core::model::test_result::Try;
use qgjob_core::queue::lifecycle::Command;
use qgjob_core::queue::reruns::{self, Kept, Settled};
use qgjob_core::queue::verdict::{self, Asked, Judgement};

use super::agents;
use super::jobs::{self, Because};
use super::limits;
use super::needs::Needs;
use super::rows::{AttemptRow, JobRow, missing};
use super::transaction::{Stop, Verb, not_found};
use super::work::{About, TryRow, Work};
use crate::store::alike::{after, between_ms};
use crate::store::{Answer, Finish, Finished, PhaseChange, Report};

/// The attempt, if the agent has or had it.
fn load(work: &Work, agent_id: agent::Id, id: attempt::Id) -> Verb<AttemptRow> {
    let found = work.attempts.get(&id).filter(|row| row.attempt.agent_id == agent_id);
    found.cloned().ok_or_else(|| not_found(format!("attempt {id}")))
}

/// The attempt, if the report's lease holds it.
fn held<T>(work: &Work, report: &Report<T>) -> Verb<AttemptRow> {
    let row = load(work, report.agent_id, report.attempt_id)?;
    if !row.is_live() || row.attempt.epoch != report.epoch {
        return Err(Refusal::LeaseLost { epoch: report.epoch }.into());
    }
    Ok(row)
}

fn change(work: &mut Work, id: attempt::Id) -> Verb<&mut AttemptRow> {
    work.attempts.change(&id).ok_or_else(|| missing(format!("attempt {id}")))
}

/// Extends the lease and says what to do. A lease that ran out but was not expired yet is still its holder's.
pub(super) fn renew(
    work: &mut Work,
    now: Timestamp,
    lease: Duration,
    agent_id: agent::Id,
    held: Held,
) -> Verb<HeldReply> {
    let Held { attempt_id, epoch } = held;
    let until = after(now, lease)?;
    let is_held =
        |row: &&AttemptRow| row.attempt.agent_id == agent_id && row.attempt.epoch == epoch && row.is_live();
    let row = work.attempts.get(&attempt_id).filter(is_held);
    let Some((job_id, known_until)) = row.map(|row| (row.attempt.job_id, row.attempt.lease_until)) else {
        return Ok(HeldReply { attempt_id, order: Order::Abandon });
    };
    if until > known_until {
        change(work, attempt_id)?.attempt.lease_until = until;
    }
    let status = work.jobs.get(&job_id).map(|row| row.job.status);
    let order = match status.or_else(|| work.statuses.get(&job_id).copied()) {
        None => return Err(missing(format!("job {job_id}"))),
        // The job ended before its attempt: only a cancel does that.
        Some(Status::Completed) => Order::Cancel,
        Some(_) => Order::GoOn { lease_ms: lease.as_millis() as u64 },
    };
    Ok(HeldReply { attempt_id, order })
}

pub(super) fn phase_needs(report: &Report<PhaseChange>, needs: &mut Needs) {
    needs.worked.insert(report.attempt_id);
    if report.what.install.is_some() {
        needs.installing.insert(report.attempt_id);
    }
}

pub(super) fn set_phase(work: &mut Work, now: Timestamp, report: &Report<PhaseChange>) -> Verb<()> {
    let row = held(work, report)?;
    let (id, job_id, run_id) = (row.attempt.id, row.attempt.job_id, row.run_id);
    let PhaseChange { phase, install } = report.what;
    let install = install.filter(|_| row.attempt.install.is_none());
    if phase == row.attempt.phase && install.is_none() {
        return Ok(());
    }
    let own = change(work, id)?;
    own.attempt.phase = phase;
    own.attempt.install = own.attempt.install.or(install);
    if let Some(install) = install {
        let run = work.runs.change(&run_id).ok_or_else(|| missing(format!("run {run_id}")))?;
        match install.action {
            InstallAction::Avoided => run.installs.avoided += 1,
            InstallAction::Cold | InstallAction::VersionChange | InstallAction::Reset => {
                run.installs.made += 1
            }
        }
        let (org, label) = (run.run.org_id.clone(), run.run.app_version_id.clone());
        let build = work.build_of(&org, &label).cloned();
        let build = build.ok_or_else(|| missing(format!("the build with which run {run_id} was started")))?;
        agents::note_install(work, now, row.attempt.device_id, &build)?;
    }
    let job = jobs::load(work, job_id)?;
    if job.is_held_by(id) {
        jobs::change(work, job_id)?.job.phase = Some(phase);
    }
    jobs::touch(work, job_id, run_id)?;
    work.tell(now, job.about(), Fact::JobPhase { attempt_id: id, phase, install });
    Ok(())
}

pub(super) fn tries_needs(report: &Report<Vec<Try>>, needs: &mut Needs) {
    needs.held.insert(report.attempt_id);
    needs.tries.extend(report.what.iter().map(|result| (report.attempt_id, result.seq)));
}

pub(super) fn add_tries(work: &mut Work, now: Timestamp, report: &Report<Vec<Try>>) -> Verb<()> {
    let row = held(work, report)?;
    let attempt_id = row.attempt.id;
    let about =
        About { org_id: Some(&row.org_id), run_id: Some(row.run_id), job_id: Some(row.attempt.job_id) };
    for result in &report.what {
        let key = (attempt_id, result.seq);
        if work.tries.get(&key).is_none() {
            let body = Some(result.clone());
            work.tries.add(key, TryRow { attempt_id, seq: result.seq, body });
            work.tell(now, about, Fact::TestFinished { attempt_id, result: Box::new(result.clone()) });
        }
    }
    Ok(())
}

pub(super) fn artifact_needs(report: &Report<Artifact>, needs: &mut Needs) {
    needs.held.insert(report.attempt_id);
    needs.artifacts_of.insert(report.attempt_id);
}

/// The same file again is harmless; other bytes under its name are refused.
pub(super) fn add_artifact(work: &mut Work, report: &Report<Artifact>) -> Verb<()> {
    let row = held(work, report)?;
    let artifact = &report.what;
    if artifact.attempt_id != row.attempt.id || artifact.job_id != row.attempt.job_id {
        return Err(Refusal::Invalid(format!("artifact {} belongs to another attempt", artifact.id)).into());
    }
    let key = (row.attempt.id, artifact.name.clone());
    match work.artifacts.get(&key) {
        Some((kept, _)) if kept.sha256 == artifact.sha256 => {}
        Some(_) => {
            let what = format!("the attempt has an artifact {:?} with other bytes", artifact.name);
            return Err(Refusal::Invalid(what).into());
        }
        None => work.artifacts.add(key, (artifact.clone(), row.org_id)),
    }
    Ok(())
}

pub(super) fn finish_needs(report: &Report<Finish>, needs: &mut Needs) {
    needs.worked.insert(report.attempt_id);
    needs.judged.insert(report.attempt_id);
}

/// The outer failure undoes; the inner refusal keeps the event that tells of a late report.
pub(super) fn finish(work: &mut Work, now: Timestamp, report: &Report<Finish>) -> Verb<Answer<Finished>> {
    let row = load(work, report.agent_id, report.attempt_id)?;
    let job = jobs::load(work, row.attempt.job_id)?;
    let Finish { evidence, random } = &report.what;
    let is_its_own = row.attempt.epoch == report.epoch;
    if let (Some(judgement), true, true) = (row.judgement(), row.agent_finished, is_its_own) {
        return Ok(Ok(Finished { judgement, conclusion: row.concluded }));
    }
    let id = row.attempt.id;
    // By their keys, so by their numbers.
    let seen = work.tries.iter().filter(|((attempt, _), _)| *attempt == id);
    let seen: Vec<Try> = seen.filter_map(|(_, row)| row.body.clone()).collect();
    let cancelled = job.job.conclusion == Some(Conclusion::Cancelled);
    let only = job.kept.as_ref().map_or(&[][..], Kept::owed);
    let asked = Asked { test: &job.job.spec.test, shard: job.job.spec.shard.as_ref(), only };
    let judgement = verdict::judge(asked, evidence, &seen, cancelled);
    if !row.is_live() || !is_its_own {
        let fact = Fact::StaleReport { attempt_id: id, claimed: judgement.outcome };
        work.tell(now, job.about(), fact);
        return Ok(Err(Refusal::LeaseLost { epoch: report.epoch }));
    }
    let settled = match (&job.kept, &evidence.report) {
        (Some(kept), evidence::Report::Read { tests, .. }) => reruns::settle(kept, &judgement, tests, &seen),
        _ => None,
    };
    let how = How { judgement: &judgement, settled, by: Some(report.agent_id) };
    let conclusion = end(work, now, &row, &job, how, *random)?;
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
    work: &mut Work,
    now: Timestamp,
    row: &AttemptRow,
    job: &JobRow,
    how: How<'_>,
    random: u128,
) -> Verb<Option<Conclusion>> {
    let How { judgement, settled, by } = how;
    let Judgement { outcome, reason, detail, tests } = judgement;
    let fact = Fact::AttemptEnded {
        attempt_id: row.attempt.id,
        device_id: row.attempt.device_id,
        outcome: *outcome,
        reason: Some(*reason),
        detail: detail.clone(),
        took: outcome.is_verdict().then(|| took(work, now, row, job)),
    };
    work.tell(now, job.about(), fact);
    let concluded = if job.is_held_by(row.attempt.id) {
        let because = Because { reason: Some(*reason), detail: detail.clone(), tests: *tests, settled };
        let command = Command::End { judgement, device: row.attempt.device_id };
        jobs::answer(work, now, job, command, because, random)?
    } else {
        job.job.conclusion
    };
    let own = change(work, row.attempt.id)?;
    if !own.is_live() {
        return Err(Stop::Corrupt(format!("attempt {} ended twice", row.attempt.id)));
    }
    own.attempt.ended_at = Some(now);
    own.attempt.outcome = Some(*outcome);
    own.attempt.reason = Some(*reason);
    own.attempt.detail.clone_from(detail);
    own.tests = *tests;
    own.concluded = concluded;
    own.agent_finished = by.is_some();
    limits::ended(work, row);
    Ok(concluded)
}

fn took(work: &Work, now: Timestamp, row: &AttemptRow, job: &JobRow) -> Took {
    let kind = match row.attempt.install {
        Some(install) if install.action.is_switch() => work.kinds.get(&row.attempt.device_id).copied(),
        _ => None,
    };
    let whole_ms = between_ms(row.attempt.started_at, now);
    let spec = &job.job.spec;
    Took::new(job.group_id, spec.test.clone(), !job.is_whole(), whole_ms, row.attempt.install, kind)
}

/// Ends those of the attempts that live, by the server's own judgement. Each draws its own wait from `random`.
pub(super) fn end_all(
    work: &mut Work,
    now: Timestamp,
    ids: &[attempt::Id],
    judgement: &Judgement,
    random: u128,
) -> Verb<u32> {
    let mut ended = 0;
    for id in ids {
        let Some(row) = work.attempts.get(id).filter(|row| row.is_live()).cloned() else { continue };
        let job = jobs::load(work, row.attempt.job_id)?;
        let how = How { judgement, settled: None, by: None };
        end(work, now, &row, &job, how, random ^ id.0)?;
        ended += 1;
    }
    Ok(ended)
}
