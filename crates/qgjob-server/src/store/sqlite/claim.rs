//! Leasing jobs: the one place where a job gets a holder.

use std::time::Duration;

use jiff::Timestamp;
use qgjob_core::api::agents::Lease;
use qgjob_core::model::attempt::Epoch;
use qgjob_core::model::build::Build;
use qgjob_core::model::event::Fact;
use qgjob_core::model::job::{self, Spec};
use qgjob_core::model::rerun::Rerun;
use qgjob_core::model::{agent, attempt, device, group};
use qgjob_core::queue::lifecycle::{self, Change, Command};
use rusqlite::{Connection, Row};

use super::jobs::{self, Job};
use super::limits;
use super::rows::{self, At, Bin, Json, bin, json, word};
use super::transaction::{Stop, Tx, Verb, first, not_found};
use crate::store::Claim;
use crate::store::alike::after;

/// A foreign or unknown device is not found; a device that is not free gets no lease.
pub(super) fn claim(tx: &mut Tx<'_>, now: Timestamp, claim: &Claim) -> Verb<Option<Lease>> {
    let sql = format!("{} WHERE d.id = ?1 AND d.agent_id = ?2", rows::DEVICE);
    let found = tx.first(&sql, (Bin(claim.device_id.0), Bin(claim.agent_id.0)), |row| {
        Ok((rows::device(row)?, row.get::<_, bool>("agent_online")?))
    })?;
    let (device, agent_online) = found.ok_or_else(|| not_found(format!("device {}", claim.device_id)))?;
    if let Some(held) = device.attempt_id {
        return claimed_before(tx, now, claim, held);
    }
    // The agent of a device in these states is not draining: that would show as drained.
    let is_free = match device.state {
        device::State::Idle => true,
        device::State::Quarantined => !device.quarantine.as_ref().is_some_and(|own| own.keeps_out(now)),
        device::State::Busy | device::State::Offline | device::State::Drained => false,
    };
    if !is_free || !agent_online {
        return Ok(None);
    }
    let Some(job) = due_job(tx, now, claim.job_id)? else { return Ok(None) };
    let Some((key, build)) = group_with_build(tx, job.group_id)? else { return Ok(None) };
    if !key.accepts(&device, Some(build.platform)) {
        return Ok(None);
    }
    if !limits::may_start(tx, &key)? {
        return Ok(None);
    }
    match lifecycle::answer(&job.state, Command::Claim, &tx.rules.backoff, now, 0)? {
        Change::Start => {}
        other => return Err(Stop::Corrupt(format!("a claim made {other:?} of job {}", job.id))),
    }
    let sql = "SELECT spec FROM run_specs WHERE run_id = ?1";
    let spec: Option<Spec> = tx.first(sql, [Bin(job.run_id.0)], |row| json(row, "spec"))?;
    let spec = spec.ok_or_else(|| Stop::Corrupt(format!("run {} has no spec", job.run_id)))?;
    let epoch = start(tx, now, claim, &device, &job, spec.timeout_ms)?;
    limits::started(tx, &key);
    Ok(Some(Lease {
        attempt_id: claim.attempt_id,
        epoch,
        lease_ms: claim.lease.as_millis() as u64,
        device_id: device.id,
        number: job.attempts + 1,
        job_id: job.id,
        run_id: job.run_id,
        org_id: job.org_id,
        app_version_id: key.app_version_id,
        build,
        bundle_sha256: spec.bundle_sha256,
        test: job.test,
        shard: job.shard,
        only: job.rerun.map(|kept| kept.rerun.tests).unwrap_or_default(),
        timeout_ms: spec.timeout_ms,
        test_retries: spec.test_retries,
        reset: spec.reset,
        env: spec.env,
    }))
}

/// The group, if its label is bound.
fn group_with_build(tx: &Tx<'_>, id: group::Id) -> Verb<Option<(group::Key, Build)>> {
    let sql = "SELECT g.key, v.build FROM groups g
        JOIN app_versions v ON v.org_id = g.org_id AND v.app_version_id = g.app_version_id WHERE g.id = ?1";
    Ok(tx.first(sql, [id], |row| Ok((json(row, "key")?, json(row, "build")?)))?)
}

/// The same claim again: the agent did not see the answer. Its lease starts anew.
fn claimed_before(tx: &Tx<'_>, now: Timestamp, claim: &Claim, held: attempt::Id) -> Verb<Option<Lease>> {
    let sql = "UPDATE attempts SET lease_until = max(lease_until, ?4)
        WHERE id = ?1 AND agent_id = ?2 AND claim_id = ?3 AND ended_at IS NULL";
    let until = after(now, claim.lease)?;
    if tx.change(sql, (Bin(held.0), Bin(claim.agent_id.0), &claim.claim_id, At(until)))? == 0 {
        return Ok(None);
    }
    Ok(lease(tx.connection(), held, claim.lease)?)
}

/// The job, if it waits and is due.
fn due_job(tx: &Tx<'_>, now: Timestamp, id: job::Id) -> rusqlite::Result<Option<Job>> {
    let sql =
        jobs::select("WHERE id = ?1 AND status = 'queued' AND (not_before IS NULL OR not_before <= ?2)");
    tx.first(&sql, (Bin(id.0), At(now)), jobs::read)
}

/// Gives the job to the device; answers the lease's epoch.
fn start(
    tx: &mut Tx<'_>,
    now: Timestamp,
    claim: &Claim,
    device: &device::Device,
    job: &Job,
    timeout_ms: u64,
) -> Verb<Epoch> {
    let (epoch, number) = (tx.next_epoch(), job.attempts + 1);
    let (lease_until, timeout_at) =
        (after(now, claim.lease)?, after(now, Duration::from_millis(timeout_ms))?);
    let sql = "INSERT INTO attempts (id, job_id, run_id, number, agent_id, device_id, device_name, claim_id, epoch, phase,
        started_at, lease_until, timeout_at, choice) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'preparing', ?10, ?11, ?12, ?13)";
    tx.change(
        sql,
        rusqlite::params![
            Bin(claim.attempt_id.0),
            Bin(job.id.0),
            Bin(job.run_id.0),
            number,
            Bin(claim.agent_id.0),
            Bin(device.id.0),
            device.name,
            claim.claim_id,
            epoch,
            At(now),
            At(lease_until),
            At(timeout_at),
            Json(&claim.choice)
        ],
    )?;
    let sql = "UPDATE jobs SET status = 'running', phase = 'preparing', attempts = ?2, attempt_id = ?3, device_id = ?4,
        started_at = coalesce(started_at, ?5), version = version + 1 WHERE id = ?1";
    tx.change(sql, (Bin(job.id.0), number, Bin(claim.attempt_id.0), Bin(device.id.0), At(now)))?;
    let fact = Fact::JobStarted {
        group_id: job.group_id,
        attempt_id: claim.attempt_id,
        number,
        agent_id: claim.agent_id,
        device_id: device.id,
        device_name: device.name.clone(),
    };
    tx.tell(now, job.about(), fact);
    jobs::count_start(tx, now, job)?;
    Ok(epoch)
}

/// Selects what [`read_lease`] reads, by an index of the attempts' if one is named.
fn select_lease(indexed_by: &str, rest: &str) -> String {
    format!(
        "SELECT a.id, a.epoch, a.device_id, a.number, a.job_id, a.run_id, r.org_id, r.app_version_id, v.build,
        s.spec, j.test, j.shard, j.rerun FROM attempts a {indexed_by} JOIN jobs j ON j.id = a.job_id JOIN runs r ON r.id = a.run_id
        JOIN run_specs s ON s.run_id = a.run_id
        JOIN app_versions v ON v.org_id = r.org_id AND v.app_version_id = r.app_version_id {rest}"
    )
}

fn lease(connection: &Connection, id: attempt::Id, lease: Duration) -> rusqlite::Result<Option<Lease>> {
    let sql = select_lease("", "WHERE a.id = ?1");
    first(connection, &sql, [Bin(id.0)], |row| read_lease(row, lease))
}

/// The live leases that were given for a claim id.
pub(super) fn leases_of_claim(
    connection: &Connection,
    agent_id: agent::Id,
    claim_id: &str,
    lease: Duration,
) -> rusqlite::Result<Vec<Lease>> {
    // Without a word SQLite walks all attempts by their epochs.
    let sql = select_lease(
        "INDEXED BY attempts_live_device",
        "WHERE a.agent_id = ?1 AND a.claim_id = ?2 AND a.ended_at IS NULL ORDER BY a.epoch",
    );
    super::transaction::all(connection, &sql, (Bin(agent_id.0), claim_id), |row| read_lease(row, lease))
}

fn read_lease(row: &Row<'_>, lease: Duration) -> rusqlite::Result<Lease> {
    let spec: Spec = json(row, "spec")?;
    Ok(Lease {
        attempt_id: attempt::Id(bin(row, "id")?),
        epoch: row.get("epoch")?,
        lease_ms: lease.as_millis() as u64,
        device_id: device::Id(bin(row, "device_id")?),
        number: row.get("number")?,
        job_id: job::Id(bin(row, "job_id")?),
        run_id: qgjob_core::model::run::Id(bin(row, "run_id")?),
        org_id: word(row, "org_id")?,
        app_version_id: word(row, "app_version_id")?,
        build: json(row, "build")?,
        bundle_sha256: spec.bundle_sha256,
        test: word(row, "test")?,
        shard: row.get::<_, Option<Json<_>>>("shard")?.map(|shard| shard.0),
        only: row.get::<_, Option<Json<Rerun>>>("rerun")?.map(|rerun| rerun.0.tests).unwrap_or_default(),
        timeout_ms: spec.timeout_ms,
        test_retries: spec.test_retries,
        reset: spec.reset,
        env: spec.env,
    })
}
