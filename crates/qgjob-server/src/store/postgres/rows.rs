//! Rows to models, and the rows that transactions change.

use jiff::Timestamp;
use qgjob_core::api::runs::Installs;
use qgjob_core::model::agent::{self, Agent};
use qgjob_core::model::artifact::Artifact;
use qgjob_core::model::attempt::{self, Attempt, Install};
use qgjob_core::model::build::AppVersion;
use qgjob_core::model::device::{self, Device, Quarantine};
use qgjob_core::model::event::Event;
use qgjob_core::model::job::{self, Conclusion, Job, Spec};
use qgjob_core::model::name::{ConcurrencyGroup, OrgId, TestPath};
use qgjob_core::model::run::{self, JobCounts, Run};
use qgjob_core::model::sha256::Sha256;
use qgjob_core::model::test_result::Counts;
use qgjob_core::model::token::{self, Token};
use qgjob_core::model::{artifact, group};
use qgjob_core::queue::reruns::Kept;
use qgjob_core::queue::verdict::Judgement;
use tokio_postgres::Row;

use super::transaction::{Stop, Verb};
use super::values::{
    Ids, at, bin, digest, get, json, number, opt_at, opt_bin, opt_json, opt_number, opt_word, word,
};
use crate::store::JobFacts;
use crate::store::alike::{agent_state, device_state};

pub(super) fn test_counts(row: &Row) -> Verb<Counts> {
    let (passed, failed) = (number(row, "passed")?, number(row, "failed")?);
    let (flaky, skipped) = (number(row, "flaky")?, number(row, "skipped")?);
    Ok(Counts { total: passed + failed + flaky + skipped, passed, failed, flaky, skipped })
}

fn run_tests(row: &Row) -> Verb<Counts> {
    let (passed, failed) = (number(row, "tests_passed")?, number(row, "tests_failed")?);
    let (flaky, skipped) = (number(row, "tests_flaky")?, number(row, "tests_skipped")?);
    Ok(Counts { total: passed + failed + flaky + skipped, passed, failed, flaky, skipped })
}

fn job_counts(row: &Row) -> Verb<JobCounts> {
    Ok(JobCounts {
        total: number(row, "total")?,
        scheduled: number(row, "scheduled")?,
        queued: number(row, "queued")?,
        running: number(row, "running")?,
        passed: number(row, "passed")?,
        failed: number(row, "failed")?,
        errored: number(row, "errored")?,
        timed_out: number(row, "timed_out")?,
        cancelled: number(row, "cancelled")?,
        skipped: number(row, "skipped")?,
        flaky: number(row, "flaky")?,
    })
}

/// Selects what [`run`] reads.
pub(super) const RUN: &str =
    "SELECT r.*, s.name, s.labels, s.ci FROM runs r JOIN run_specs s ON s.run_id = r.id";

pub(super) fn run(row: &Row) -> Verb<(Run, Installs)> {
    let run = Run {
        id: run::Id(bin(row, "id")?),
        org_id: word(row, "org_id")?,
        app_version_id: word(row, "app_version_id")?,
        name: get(row, "name")?,
        labels: json(row, "labels")?,
        idempotency_key: opt_word(row, "idempotency_key")?,
        retry_of: opt_bin(row, "retry_of")?.map(job::Id),
        ci: opt_json(row, "ci")?,
        rerun_of: opt_bin(row, "rerun_of")?.map(run::Id),
        status: word(row, "status")?,
        conclusion: opt_word(row, "conclusion")?,
        jobs: job_counts(row)?,
        tests: run_tests(row)?,
        carried: opt_json(row, "carried")?.unwrap_or_default(),
        created_at: at(row, "created_at")?,
        finished_at: opt_at(row, "finished_at")?,
        version: number(row, "version")?,
    };
    Ok((run, Installs { made: number(row, "installs_made")?, avoided: number(row, "installs_avoided")? }))
}

/// Selects what [`job`] reads.
pub(super) const JOB: &str = "SELECT j.*, r.app_version_id, s.spec
    FROM jobs j JOIN runs r ON r.id = j.run_id JOIN run_specs s ON s.run_id = j.run_id";

/// Selects what [`job`] and [`job_facts`] read.
pub(super) const JOB_WITH_FACTS: &str =
    "SELECT j.*, r.app_version_id, s.spec, a.device_name, a.install_action, a.install_ms
    FROM jobs j JOIN runs r ON r.id = j.run_id JOIN run_specs s ON s.run_id = j.run_id
    LEFT JOIN attempts a ON a.id = j.attempt_id";

pub(super) fn job(row: &Row) -> Verb<Job> {
    let spec: Spec = json(row, "spec")?;
    let test: TestPath = word(row, "test")?;
    Ok(Job {
        id: job::Id(bin(row, "id")?),
        run_id: run::Id(bin(row, "run_id")?),
        org_id: word(row, "org_id")?,
        app_version_id: word(row, "app_version_id")?,
        spec: Spec { test, shard: opt_json(row, "shard")?, rerun: opt_json(row, "rerun")?, ..spec },
        status: word(row, "status")?,
        conclusion: opt_word(row, "conclusion")?,
        reason: opt_word(row, "reason")?,
        detail: get(row, "detail")?,
        phase: opt_word(row, "phase")?,
        attempts: number(row, "attempts")?,
        infra_faults: number(row, "infra_faults")?,
        avoid: get::<Ids>(row, "avoid")?.0,
        not_before: opt_at(row, "not_before")?,
        promoted_at: opt_at(row, "promoted_at")?,
        queue_deadline: at(row, "queue_deadline")?,
        predicted_ms: number(row, "predicted_ms")?,
        device_id: opt_bin(row, "device_id")?.map(device::Id),
        tests: test_counts(row)?,
        created_at: at(row, "created_at")?,
        started_at: opt_at(row, "started_at")?,
        finished_at: opt_at(row, "finished_at")?,
        version: number(row, "version")?,
    })
}

pub(super) fn job_facts(row: &Row) -> Verb<JobFacts> {
    Ok(JobFacts { device_name: get(row, "device_name")?, install: install(row)? })
}

/// A job as transactions change it.
#[derive(Debug, Clone)]
pub(super) struct JobRow {
    pub job: Job,
    pub group_id: group::Id,
    pub attempt_id: Option<attempt::Id>,
    pub queued_at: Option<Timestamp>,
    /// What is kept with a job of a rerun.
    pub kept: Option<Kept>,
    /// The order of submission; of one that the transaction makes, its place among those.
    pub place: u64,
}

/// Reads what [`JOB`] selects.
pub(super) fn job_row(row: &Row) -> Verb<JobRow> {
    Ok(JobRow {
        job: job(row)?,
        group_id: get(row, "group_id")?,
        attempt_id: opt_bin(row, "attempt_id")?.map(attempt::Id),
        queued_at: opt_at(row, "queued_at")?,
        kept: opt_json(row, "rerun")?,
        place: number(row, "ordinal")?,
    })
}

fn install(row: &Row) -> Verb<Option<Install>> {
    let action = opt_word(row, "install_action")?;
    let duration: Option<u64> = opt_number(row, "install_ms")?;
    Ok(action.map(|action| Install { action, duration_ms: duration.unwrap_or(0) }))
}

pub(super) fn attempt(row: &Row) -> Verb<Attempt> {
    Ok(Attempt {
        id: attempt::Id(bin(row, "id")?),
        job_id: job::Id(bin(row, "job_id")?),
        number: number(row, "number")?,
        agent_id: agent::Id(bin(row, "agent_id")?),
        device_id: device::Id(bin(row, "device_id")?),
        epoch: number(row, "epoch")?,
        phase: word(row, "phase")?,
        outcome: opt_word(row, "outcome")?,
        reason: opt_word(row, "reason")?,
        detail: get(row, "detail")?,
        choice: opt_json(row, "choice")?,
        install: install(row)?,
        started_at: at(row, "started_at")?,
        lease_until: at(row, "lease_until")?,
        ended_at: opt_at(row, "ended_at")?,
    })
}

/// An attempt as transactions change it.
#[derive(Debug, Clone)]
pub(super) struct AttemptRow {
    pub attempt: Attempt,
    pub run_id: run::Id,
    pub org_id: OrgId,
    pub concurrency_group: Option<ConcurrencyGroup>,
    pub device_name: String,
    pub claim_id: String,
    pub timeout_at: Timestamp,
    /// The tests that were counted when it ended.
    pub tests: Counts,
    /// The job's conclusion when it ended.
    pub concluded: Option<Conclusion>,
    pub agent_finished: bool,
}

impl AttemptRow {
    pub(super) fn is_live(&self) -> bool {
        self.attempt.ended_at.is_none()
    }

    /// What was concluded; none while it lives.
    pub(super) fn judgement(&self) -> Option<Judgement> {
        let (outcome, reason) = (self.attempt.outcome?, self.attempt.reason?);
        Some(Judgement { outcome, reason, detail: self.attempt.detail.clone(), tests: self.tests })
    }
}

pub(super) fn attempt_row(row: &Row) -> Verb<AttemptRow> {
    Ok(AttemptRow {
        attempt: attempt(row)?,
        run_id: run::Id(bin(row, "run_id")?),
        org_id: word(row, "org_id")?,
        concurrency_group: opt_word(row, "concurrency_group")?,
        device_name: get(row, "device_name")?,
        claim_id: get(row, "claim_id")?,
        timeout_at: at(row, "timeout_at")?,
        tests: test_counts(row)?,
        concluded: opt_word(row, "concluded")?,
        agent_finished: get(row, "agent_finished")?,
    })
}

/// A device as it is stored. What it is doing follows from that, from its agent and from what it runs.
#[derive(Debug, Clone)]
pub(super) struct DeviceRow {
    /// Without what follows from elsewhere: `state` and `attempt_id` mean nothing here, `note` is the agent's.
    pub device: Device,
    pub online: bool,
    pub drained: bool,
}

impl DeviceRow {
    /// The device, of an agent that drains or not, held by an attempt or not. A draining agent's devices take no jobs
    /// either.
    pub(super) fn shown(&self, draining: bool, attempt_id: Option<attempt::Id>) -> Device {
        let Self { device, online, drained } = self;
        let quarantine = device.quarantine.as_ref();
        let is_quarantined = quarantine.is_some_and(Quarantine::is_in_force);
        let state = device_state(*online, *drained || draining, attempt_id.is_some(), is_quarantined);
        let note = match quarantine.filter(|_| state == device::State::Quarantined) {
            Some(quarantine) => Some(quarantine.note(&device.name)),
            None => device.note.clone(),
        };
        Device { state, note, attempt_id, ..device.clone() }
    }
}

pub(super) fn device_row(row: &Row) -> Verb<DeviceRow> {
    let device = Device {
        id: device::Id(bin(row, "id")?),
        agent_id: agent::Id(bin(row, "agent_id")?),
        serves: opt_word(row, "serves")?,
        name: get(row, "name")?,
        serial: get(row, "serial")?,
        platform: word(row, "platform")?,
        kind: word(row, "kind")?,
        model: get(row, "model")?,
        os_version: get(row, "os_version")?,
        tags: json(row, "tags")?,
        state: device::State::Offline,
        note: get(row, "note")?,
        ledger: json(row, "ledger")?,
        attempt_id: None,
        quarantine: opt_json(row, "quarantine")?,
        seen_at: at(row, "seen_at")?,
    };
    Ok(DeviceRow { device, online: get(row, "online")?, drained: get(row, "drained")? })
}

/// Selects what [`device`] reads.
pub(super) const DEVICE: &str = "SELECT d.*, a.id AS attempt_id, g.draining FROM devices d
    JOIN agents g ON g.id = d.agent_id LEFT JOIN attempts a ON a.device_id = d.id AND a.ended_at IS NULL";

pub(super) fn device(row: &Row) -> Verb<Device> {
    let attempt_id = opt_bin(row, "attempt_id")?.map(attempt::Id);
    Ok(device_row(row)?.shown(get(row, "draining")?, attempt_id))
}

/// An agent as it is stored.
#[derive(Debug, Clone)]
pub(super) struct AgentRow {
    /// Its state means nothing here.
    pub agent: Agent,
    pub online: bool,
    pub draining: bool,
}

impl AgentRow {
    pub(super) fn state(&self) -> agent::State {
        agent_state(self.online, self.draining)
    }

    pub(super) fn shown(&self) -> Agent {
        Agent { state: self.state(), ..self.agent.clone() }
    }
}

pub(super) fn agent_row(row: &Row) -> Verb<AgentRow> {
    let agent = Agent {
        id: agent::Id(bin(row, "id")?),
        name: get(row, "name")?,
        serves: opt_word(row, "serves")?,
        version: get(row, "version")?,
        state: agent::State::Offline,
        seen_at: at(row, "seen_at")?,
        created_at: at(row, "created_at")?,
    };
    Ok(AgentRow { agent, online: get(row, "online")?, draining: get(row, "draining")? })
}

pub(super) fn token(row: &Row) -> Verb<Token> {
    Ok(Token {
        id: token::Id(bin(row, "id")?),
        kind: word(row, "kind")?,
        name: get(row, "name")?,
        org_id: opt_word(row, "org_id")?,
        agent_id: opt_bin(row, "agent_id")?.map(agent::Id),
        created_at: at(row, "created_at")?,
        expires_at: opt_at(row, "expires_at")?,
        ci: opt_json(row, "ci")?,
    })
}

/// A token and the hash of its secret.
pub(super) fn token_row(row: &Row) -> Verb<(Token, Sha256)> {
    Ok((token(row)?, digest(row, "hash")?))
}

pub(super) fn artifact(row: &Row) -> Verb<Artifact> {
    Ok(Artifact {
        id: artifact::Id(bin(row, "id")?),
        job_id: job::Id(bin(row, "job_id")?),
        attempt_id: attempt::Id(bin(row, "attempt_id")?),
        name: get(row, "name")?,
        media_type: get(row, "media_type")?,
        size_bytes: number(row, "size_bytes")?,
        sha256: digest(row, "sha256")?,
        created_at: at(row, "created_at")?,
    })
}

pub(super) fn app_version(row: &Row) -> Verb<AppVersion> {
    Ok(AppVersion {
        org_id: word(row, "org_id")?,
        app_version_id: word(row, "app_version_id")?,
        build: json(row, "build")?,
        created_at: at(row, "created_at")?,
    })
}

pub(super) fn event(row: &Row) -> Verb<Event> {
    Ok(Event {
        seq: number(row, "seq")?,
        at: at(row, "at")?,
        org_id: opt_word(row, "org_id")?,
        run_id: opt_bin(row, "run_id")?.map(run::Id),
        job_id: opt_bin(row, "job_id")?.map(job::Id),
        fact: json(row, "fact")?,
    })
}

/// A thing that another row names and that is not there.
pub(super) fn missing(what: impl std::fmt::Display) -> Stop {
    Stop::Corrupt(format!("{what} is missing"))
}
