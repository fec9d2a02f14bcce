//! Leasing jobs: the one place where a job gets a holder.

use std::time::Duration;

use jiff::Timestamp;
use qgjob_core::api::agents::Lease;
use qgjob_core::model::attempt::{self, Attempt, Phase};
use qgjob_core::model::build::Build;
use qgjob_core::model::event::Fact;
use qgjob_core::model::job::{Spec, Status};
use qgjob_core::model::rerun::Rerun;
use qgjob_core::model::run;
use qgjob_core::model::test_result::Counts;
use qgjob_core::model::{agent, device, group, job};
use qgjob_core::queue::lifecycle::{self, Change, Command};
use tokio_postgres::Row;

use super::jobs;
use super::limits;
use super::needs::Needs;
use super::rows::{AttemptRow, JobRow, missing};
use super::transaction::{Param, Stop, Verb, all, not_found};
use super::values::{Bin, Text, bin, json, number, opt_json, word};
use super::work::{Work, settle};
use crate::store::alike::after;
use crate::store::{Answer, Claim};

pub(super) fn needs(claim: &Claim, needs: &mut Needs) {
    needs.claims.insert((claim.agent_id, claim.device_id, claim.job_id));
}

/// Puts in the epochs, which are known after the commit.
pub(super) fn settle_leases(answers: &mut [Answer<Option<Lease>>], before: u64) {
    for lease in answers.iter_mut().filter_map(|answer| answer.as_mut().ok()).flatten() {
        lease.epoch = settle(lease.epoch, before);
    }
}

/// A foreign or unknown device is not found; a device that is not free gets no lease.
pub(super) fn claim(work: &mut Work, now: Timestamp, claim: &Claim) -> Verb<Option<Lease>> {
    let found = work.devices.get(&claim.device_id).filter(|row| row.device.agent_id == claim.agent_id);
    let row = found.ok_or_else(|| not_found(format!("device {}", claim.device_id)))?;
    let device = work.shown(row);
    if let Some(held) = device.attempt_id {
        return claimed_before(work, now, claim, held);
    }
    // The agent of a device in these states is not draining: that would show as drained.
    let is_free = match device.state {
        device::State::Idle => true,
        device::State::Quarantined => !device.quarantine.as_ref().is_some_and(|own| own.keeps_out(now)),
        device::State::Busy | device::State::Offline | device::State::Drained => false,
    };
    if !is_free || !work.agents.get(&claim.agent_id).is_some_and(|agent| agent.online) {
        return Ok(None);
    }
    let is_due = |row: &&JobRow| {
        row.job.status == Status::Queued && row.job.not_before.is_none_or(|not_before| not_before <= now)
    };
    let Some(row) = work.jobs.get(&claim.job_id).filter(is_due).cloned() else { return Ok(None) };
    let Some((key, Some(build))) = work.groups.get(&row.group_id).cloned() else { return Ok(None) };
    if !key.accepts(&device, Some(build.platform)) || !limits::may_start(work, &key) {
        return Ok(None);
    }
    match lifecycle::answer(&row.state(), Command::Claim, &work.rules.backoff, now, 0)? {
        Change::Start => {}
        other => return Err(Stop::Corrupt(format!("a claim made {other:?} of job {}", row.job.id))),
    }
    let attempt = start(work, now, claim, &device, &row, &key)?;
    limits::started(work, &key);
    Ok(Some(lease(&attempt, &row.job, build, claim.lease)))
}

/// The same claim again: the agent did not see the answer. Its lease starts anew.
fn claimed_before(work: &mut Work, now: Timestamp, claim: &Claim, held: attempt::Id) -> Verb<Option<Lease>> {
    let is_the_same = |row: &&AttemptRow| {
        row.attempt.agent_id == claim.agent_id && row.claim_id == claim.claim_id && row.is_live()
    };
    let Some(row) = work.attempts.get(&held).filter(is_the_same).cloned() else { return Ok(None) };
    let until = after(now, claim.lease)?;
    if until > row.attempt.lease_until
        && let Some(own) = work.attempts.change(&held)
    {
        own.attempt.lease_until = until;
    }
    if let Some(known) = work.leases.get(&held) {
        return Ok(Some(Lease { lease_ms: claim.lease.as_millis() as u64, ..known.clone() }));
    }
    // It was given in this very transaction.
    let job = jobs::load(work, row.attempt.job_id)?;
    let build = work.groups.get(&job.group_id).and_then(|(_, build)| build.clone());
    let build = build.ok_or_else(|| missing(format!("the build of job {}", job.job.id)))?;
    Ok(Some(lease(&row.attempt, &job.job, build, claim.lease)))
}

/// Gives the job to the device.
fn start(
    work: &mut Work,
    now: Timestamp,
    claim: &Claim,
    device: &device::Device,
    row: &JobRow,
    key: &group::Key,
) -> Verb<Attempt> {
    let number = row.job.attempts + 1;
    let attempt = Attempt {
        id: claim.attempt_id,
        job_id: row.job.id,
        number,
        agent_id: claim.agent_id,
        device_id: device.id,
        // Of the event that follows.
        epoch: work.epoch(),
        phase: Phase::Preparing,
        outcome: None,
        reason: None,
        detail: None,
        choice: Some(claim.choice),
        install: None,
        started_at: now,
        lease_until: after(now, claim.lease)?,
        ended_at: None,
    };
    let fact = Fact::JobStarted {
        group_id: row.group_id,
        attempt_id: claim.attempt_id,
        number,
        agent_id: claim.agent_id,
        device_id: device.id,
        device_name: device.name.clone(),
    };
    work.tell(now, row.about(), fact);
    let made = AttemptRow {
        attempt: attempt.clone(),
        run_id: row.job.run_id,
        org_id: row.job.org_id.clone(),
        concurrency_group: key.concurrency_group.clone(),
        device_name: device.name.clone(),
        claim_id: claim.claim_id.clone(),
        timeout_at: after(now, Duration::from_millis(row.job.spec.timeout_ms))?,
        tests: Counts::default(),
        concluded: None,
        agent_finished: false,
    };
    work.attempts.add(attempt.id, made);
    let own = jobs::change(work, row.job.id)?;
    own.attempt_id = Some(attempt.id);
    own.job.status = Status::Running;
    own.job.phase = Some(Phase::Preparing);
    own.job.attempts = number;
    own.job.device_id = Some(device.id);
    own.job.started_at = own.job.started_at.or(Some(now));
    own.job.version += 1;
    jobs::count_start(work, now, row)?;
    Ok(attempt)
}

fn lease(attempt: &Attempt, job: &job::Job, build: Build, lease: Duration) -> Lease {
    let spec = &job.spec;
    Lease {
        attempt_id: attempt.id,
        epoch: attempt.epoch,
        lease_ms: lease.as_millis() as u64,
        device_id: attempt.device_id,
        number: attempt.number,
        job_id: job.id,
        run_id: job.run_id,
        org_id: job.org_id.clone(),
        app_version_id: job.app_version_id.clone(),
        build,
        bundle_sha256: spec.bundle_sha256,
        test: spec.test.clone(),
        shard: spec.shard.clone(),
        timeout_ms: spec.timeout_ms,
        test_retries: spec.test_retries,
        reset: spec.reset,
        env: spec.env.clone(),
        only: spec.rerun.as_ref().map(|rerun| rerun.tests.clone()).unwrap_or_default(),
    }
}

const LEASE: &str =
    "SELECT a.id, a.epoch, a.device_id, a.number, a.job_id, a.run_id, r.org_id, r.app_version_id, v.build,
    s.spec, j.test, j.shard, j.rerun FROM attempts a JOIN jobs j ON j.id = a.job_id JOIN runs r ON r.id = a.run_id
    JOIN run_specs s ON s.run_id = a.run_id
    JOIN app_versions v ON v.org_id = r.org_id AND v.app_version_id = r.app_version_id";

/// The leases of attempts.
pub(super) async fn leases(c: &deadpool_postgres::Object, ids: &[Bin]) -> Verb<Vec<Lease>> {
    read(c, "WHERE a.id = ANY($1)", &[&ids], Duration::ZERO).await
}

/// The live leases that were given for a claim id.
pub(super) async fn leases_of_claim(
    c: &deadpool_postgres::Object,
    agent_id: agent::Id,
    claim_id: &str,
    lease: Duration,
) -> Verb<Vec<Lease>> {
    let rest = "WHERE a.agent_id = $1 AND a.claim_id = $2 AND a.ended_at IS NULL ORDER BY a.epoch";
    read(c, rest, &[&Bin(agent_id.0), &Text(claim_id)], lease).await
}

async fn read(
    c: &deadpool_postgres::Object,
    rest: &str,
    params: &[Param<'_>],
    lease: Duration,
) -> Verb<Vec<Lease>> {
    all(c, &format!("{LEASE} {rest}"), params, |row| read_lease(row, lease)).await
}

fn read_lease(row: &Row, lease: Duration) -> Verb<Lease> {
    let spec: Spec = json(row, "spec")?;
    Ok(Lease {
        attempt_id: attempt::Id(bin(row, "id")?),
        epoch: number(row, "epoch")?,
        lease_ms: lease.as_millis() as u64,
        device_id: device::Id(bin(row, "device_id")?),
        number: number(row, "number")?,
        job_id: job::Id(bin(row, "job_id")?),
        run_id: run::Id(bin(row, "run_id")?),
        org_id: word(row, "org_id")?,
        app_version_id: word(row, "app_version_id")?,
        build: json(row, "build")?,
        bundle_sha256: spec.bundle_sha256,
        test: word(row, "test")?,
        shard: opt_json(row, "shard")?,
        timeout_ms: spec.timeout_ms,
        test_retries: spec.test_retries,
        reset: spec.reset,
        env: spec.env,
        only: opt_json::<Rerun>(row, "rerun")?.map(|rerun| rerun.tests).unwrap_or_default(),
    })
}
