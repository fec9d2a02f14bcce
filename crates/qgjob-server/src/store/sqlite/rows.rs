//! Rows to models. Wrappers say how a value is stored; what cannot be read back is [`Error::Corrupt`].

use std::str::FromStr;

use jiff::Timestamp;
use qgjob_core::api::runs::Installs;
use qgjob_core::model::agent::{self, Agent};
use qgjob_core::model::artifact::Artifact;
use qgjob_core::model::attempt::{Attempt, Install};
use qgjob_core::model::device::{self, Device, Quarantine};
use qgjob_core::model::job::{Job, Spec};
use qgjob_core::model::name::TestPath;
use qgjob_core::model::run::{JobCounts, Run};
use qgjob_core::model::sha256::Sha256;
use qgjob_core::model::test_result::Counts;
use qgjob_core::model::token::Token;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, Value, ValueRef};
use rusqlite::{ErrorCode, Row};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::store::alike::{agent_state, device_state};
use crate::store::{Error, JobFacts};

/// The 128 bits of an id.
pub(super) struct Bin(pub u128);
/// Milliseconds since 1970.
pub(super) struct At(pub Timestamp);
/// A word or name by its text.
pub(super) struct Word<T>(pub T);
/// Anything as JSON.
pub(super) struct Json<T>(pub T);
/// A SHA-256.
pub(super) struct Digest(pub Sha256);
/// Several ids, one after the other; none is NULL.
pub(super) struct Ids(pub Vec<device::Id>);

impl ToSql for Bin {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Owned(Value::Blob(self.0.to_be_bytes().to_vec())))
    }
}

impl FromSql for Bin {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        <[u8; 16]>::column_result(value).map(|bytes| Self(u128::from_be_bytes(bytes)))
    }
}

impl ToSql for At {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Owned(Value::Integer(self.0.as_millisecond())))
    }
}

impl FromSql for At {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Timestamp::from_millisecond(value.as_i64()?)
            .map(Self)
            .map_err(|error| FromSqlError::Other(error.into()))
    }
}

impl<T: FromStr> FromSql for Word<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_str()?.parse().map(Self).map_err(|error: T::Err| FromSqlError::Other(error.into()))
    }
}

impl<T: std::fmt::Display> ToSql for Word<T> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Owned(Value::Text(self.0.to_string())))
    }
}

impl<T: DeserializeOwned> FromSql for Json<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        serde_json::from_str(value.as_str()?).map(Self).map_err(|error| FromSqlError::Other(error.into()))
    }
}

impl<T: Serialize> ToSql for Json<T> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let text = serde_json::to_string(&self.0)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        Ok(ToSqlOutput::Owned(Value::Text(text)))
    }
}

impl FromSql for Digest {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        <[u8; 32]>::column_result(value).map(|bytes| Self(Sha256(bytes)))
    }
}

impl ToSql for Digest {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Owned(Value::Blob(self.0.0.to_vec())))
    }
}

impl FromSql for Ids {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let Some(bytes) = value.as_blob_or_null()? else { return Ok(Self(Vec::new())) };
        let (ids, rest) = bytes.as_chunks::<16>();
        if !rest.is_empty() {
            return Err(FromSqlError::InvalidBlobSize { expected_size: 16, blob_size: rest.len() });
        }
        Ok(Self(ids.iter().map(|bytes| device::Id(u128::from_be_bytes(*bytes))).collect()))
    }
}

impl ToSql for Ids {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        if self.0.is_empty() {
            return Ok(ToSqlOutput::Owned(Value::Null));
        }
        let bytes = self.0.iter().flat_map(|id| id.0.to_be_bytes()).collect();
        Ok(ToSqlOutput::Owned(Value::Blob(bytes)))
    }
}

pub(super) fn bin(row: &Row<'_>, column: &str) -> rusqlite::Result<u128> {
    Ok(row.get::<_, Bin>(column)?.0)
}

pub(super) fn opt_bin(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<u128>> {
    Ok(row.get::<_, Option<Bin>>(column)?.map(|id| id.0))
}

pub(super) fn at(row: &Row<'_>, column: &str) -> rusqlite::Result<Timestamp> {
    Ok(row.get::<_, At>(column)?.0)
}

pub(super) fn opt_at(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<At>>(column)?.map(|at| at.0))
}

pub(super) fn word<T: FromStr>(row: &Row<'_>, column: &str) -> rusqlite::Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    Ok(row.get::<_, Word<T>>(column)?.0)
}

pub(super) fn opt_word<T: FromStr>(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<T>>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    Ok(row.get::<_, Option<Word<T>>>(column)?.map(|word| word.0))
}

pub(super) fn json<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    Ok(row.get::<_, Json<T>>(column)?.0)
}

pub(super) fn opt_json<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<T>> {
    Ok(row.get::<_, Option<Json<T>>>(column)?.map(|json| json.0))
}

pub(super) fn test_counts(row: &Row<'_>) -> rusqlite::Result<Counts> {
    let (passed, failed) = (row.get("passed")?, row.get("failed")?);
    let (flaky, skipped) = (row.get("flaky")?, row.get("skipped")?);
    Ok(Counts { total: passed + failed + flaky + skipped, passed, failed, flaky, skipped })
}

fn run_tests(row: &Row<'_>) -> rusqlite::Result<Counts> {
    let (passed, failed) = (row.get("tests_passed")?, row.get("tests_failed")?);
    let (flaky, skipped) = (row.get("tests_flaky")?, row.get("tests_skipped")?);
    Ok(Counts { total: passed + failed + flaky + skipped, passed, failed, flaky, skipped })
}

pub(super) fn job_counts(row: &Row<'_>) -> rusqlite::Result<JobCounts> {
    Ok(JobCounts {
        total: row.get("total")?,
        scheduled: row.get("scheduled")?,
        queued: row.get("queued")?,
        running: row.get("running")?,
        passed: row.get("passed")?,
        failed: row.get("failed")?,
        errored: row.get("errored")?,
        timed_out: row.get("timed_out")?,
        cancelled: row.get("cancelled")?,
        skipped: row.get("skipped")?,
        flaky: row.get("flaky")?,
    })
}

/// Selects what [`run`] reads.
pub(super) const RUN: &str =
    "SELECT r.*, s.name, s.labels, s.ci FROM runs r JOIN run_specs s ON s.run_id = r.id";

pub(super) fn run(row: &Row<'_>) -> rusqlite::Result<(Run, Installs)> {
    let run = Run {
        id: qgjob_core::model::run::Id(bin(row, "id")?),
        org_id: word(row, "org_id")?,
        app_version_id: word(row, "app_version_id")?,
        name: row.get("name")?,
        labels: json(row, "labels")?,
        idempotency_key: opt_word(row, "idempotency_key")?,
        retry_of: opt_bin(row, "retry_of")?.map(qgjob_core::model::job::Id),
        ci: opt_json(row, "ci")?,
        rerun_of: opt_bin(row, "rerun_of")?.map(qgjob_core::model::run::Id),
        status: word(row, "status")?,
        conclusion: opt_word(row, "conclusion")?,
        jobs: job_counts(row)?,
        tests: run_tests(row)?,
        carried: row.get::<_, Option<Json<_>>>("carried")?.map(|carried| carried.0).unwrap_or_default(),
        created_at: at(row, "created_at")?,
        finished_at: opt_at(row, "finished_at")?,
        version: row.get("version")?,
    };
    Ok((run, Installs { made: row.get("installs_made")?, avoided: row.get("installs_avoided")? }))
}

/// Selects what [`job`] and [`job_facts`] read.
pub(super) const JOB: &str =
    "SELECT j.*, r.app_version_id, s.spec, a.device_name, a.install_action, a.install_ms
    FROM jobs j JOIN runs r ON r.id = j.run_id JOIN run_specs s ON s.run_id = j.run_id
    LEFT JOIN attempts a ON a.id = j.attempt_id";

/// As [`JOB`], for several: from runs to their jobs.
pub(super) const JOBS: &str =
    "SELECT j.*, r.app_version_id, s.spec, a.device_name, a.install_action, a.install_ms
    FROM runs r CROSS JOIN jobs j ON j.ordinal >= r.first_job AND j.ordinal < r.first_job + r.total
    JOIN run_specs s ON s.run_id = r.id LEFT JOIN attempts a ON a.id = j.attempt_id";

pub(super) fn job(row: &Row<'_>) -> rusqlite::Result<Job> {
    let spec: Spec = json(row, "spec")?;
    let test: TestPath = word(row, "test")?;
    Ok(Job {
        id: qgjob_core::model::job::Id(bin(row, "id")?),
        run_id: qgjob_core::model::run::Id(bin(row, "run_id")?),
        org_id: word(row, "org_id")?,
        app_version_id: word(row, "app_version_id")?,
        spec: Spec {
            test,
            shard: row.get::<_, Option<Json<_>>>("shard")?.map(|shard| shard.0),
            rerun: row.get::<_, Option<Json<_>>>("rerun")?.map(|rerun| rerun.0),
            ..spec
        },
        status: word(row, "status")?,
        conclusion: opt_word(row, "conclusion")?,
        reason: opt_word(row, "reason")?,
        detail: row.get("detail")?,
        phase: opt_word(row, "phase")?,
        attempts: row.get("attempts")?,
        infra_faults: row.get("infra_faults")?,
        avoid: row.get::<_, Ids>("avoid")?.0,
        not_before: opt_at(row, "not_before")?,
        promoted_at: opt_at(row, "promoted_at")?,
        queue_deadline: at(row, "queue_deadline")?,
        predicted_ms: row.get("predicted_ms")?,
        device_id: opt_bin(row, "device_id")?.map(device::Id),
        tests: test_counts(row)?,
        created_at: at(row, "created_at")?,
        started_at: opt_at(row, "started_at")?,
        finished_at: opt_at(row, "finished_at")?,
        version: row.get("version")?,
    })
}

pub(super) fn install(row: &Row<'_>) -> rusqlite::Result<Option<Install>> {
    let action = opt_word(row, "install_action")?;
    let duration: Option<u64> = row.get("install_ms")?;
    Ok(action.map(|action| Install { action, duration_ms: duration.unwrap_or(0) }))
}

pub(super) fn job_facts(row: &Row<'_>) -> rusqlite::Result<JobFacts> {
    Ok(JobFacts { device_name: row.get("device_name")?, install: install(row)? })
}

pub(super) fn attempt(row: &Row<'_>) -> rusqlite::Result<Attempt> {
    Ok(Attempt {
        id: qgjob_core::model::attempt::Id(bin(row, "id")?),
        job_id: qgjob_core::model::job::Id(bin(row, "job_id")?),
        number: row.get("number")?,
        agent_id: agent::Id(bin(row, "agent_id")?),
        device_id: device::Id(bin(row, "device_id")?),
        epoch: row.get("epoch")?,
        phase: word(row, "phase")?,
        outcome: opt_word(row, "outcome")?,
        reason: opt_word(row, "reason")?,
        detail: row.get("detail")?,
        choice: row.get::<_, Option<Json<_>>>("choice")?.map(|choice| choice.0),
        install: install(row)?,
        started_at: at(row, "started_at")?,
        lease_until: at(row, "lease_until")?,
        ended_at: opt_at(row, "ended_at")?,
    })
}

/// Selects what [`device`] reads.
/// A draining agent's devices take no jobs either.
pub(super) const DEVICE: &str =
    "SELECT d.*, a.id AS attempt_id, g.draining, g.online AS agent_online FROM devices d
    JOIN agents g ON g.id = d.agent_id
    LEFT JOIN attempts a ON a.device_id = d.id AND a.ended_at IS NULL";

pub(super) fn device(row: &Row<'_>) -> rusqlite::Result<Device> {
    let attempt_id = opt_bin(row, "attempt_id")?.map(qgjob_core::model::attempt::Id);
    let online = row.get("online")?;
    let drained = row.get::<_, bool>("drained")? || row.get("draining")?;
    let quarantine = row.get::<_, Option<Json<Quarantine>>>("quarantine")?.map(|quarantine| quarantine.0);
    let is_quarantined = quarantine.as_ref().is_some_and(Quarantine::is_in_force);
    let state = device_state(online, drained, attempt_id.is_some(), is_quarantined);
    let name: String = row.get("name")?;
    let note = match quarantine.as_ref().filter(|_| state == device::State::Quarantined) {
        Some(quarantine) => Some(quarantine.note(&name)),
        None => row.get("note")?,
    };
    Ok(Device {
        id: device::Id(bin(row, "id")?),
        agent_id: agent::Id(bin(row, "agent_id")?),
        serves: opt_word(row, "serves")?,
        name,
        serial: row.get("serial")?,
        platform: word(row, "platform")?,
        kind: word(row, "kind")?,
        model: row.get("model")?,
        os_version: row.get("os_version")?,
        tags: json(row, "tags")?,
        state,
        note,
        ledger: json(row, "ledger")?,
        attempt_id,
        quarantine,
        seen_at: at(row, "seen_at")?,
    })
}

pub(super) fn agent(row: &Row<'_>) -> rusqlite::Result<Agent> {
    Ok(Agent {
        id: agent::Id(bin(row, "id")?),
        name: row.get("name")?,
        serves: opt_word(row, "serves")?,
        version: row.get("version")?,
        state: agent_state(row.get("online")?, row.get("draining")?),
        seen_at: at(row, "seen_at")?,
        created_at: at(row, "created_at")?,
    })
}

pub(super) fn token(row: &Row<'_>) -> rusqlite::Result<Token> {
    Ok(Token {
        id: qgjob_core::model::token::Id(bin(row, "id")?),
        kind: word(row, "kind")?,
        name: row.get("name")?,
        org_id: opt_word(row, "org_id")?,
        agent_id: opt_bin(row, "agent_id")?.map(agent::Id),
        created_at: at(row, "created_at")?,
        expires_at: opt_at(row, "expires_at")?,
        ci: opt_json(row, "ci")?,
    })
}

pub(super) fn artifact(row: &Row<'_>) -> rusqlite::Result<Artifact> {
    Ok(Artifact {
        id: qgjob_core::model::artifact::Id(bin(row, "id")?),
        job_id: qgjob_core::model::job::Id(bin(row, "job_id")?),
        attempt_id: qgjob_core::model::attempt::Id(bin(row, "attempt_id")?),
        name: row.get("name")?,
        media_type: row.get("media_type")?,
        size_bytes: row.get("size_bytes")?,
        sha256: row.get::<_, Digest>("sha256")?.0,
        created_at: at(row, "created_at")?,
    })
}

/// Whether the disk, not the data, failed: what was written may or may not be there.
pub(super) fn is_io_failure(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::SystemIoFailure))
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(
                ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::OutOfMemory
                | ErrorCode::ReadOnly,
            ) => Self::Unavailable(error.to_string()),
            _ => Self::Corrupt(error.to_string()),
        }
    }
}
