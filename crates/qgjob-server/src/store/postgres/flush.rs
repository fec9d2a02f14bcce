//! Writing what a transaction has changed: a statement for each table and kind of change, sent together with the commit.

use qgjob_core::model::artifact::Artifact;
use qgjob_core::model::build::AppVersion;
use qgjob_core::model::name::OrgId;
use qgjob_core::model::sha256::Sha256;
use qgjob_core::model::token::Token;
use tokio_postgres::types::ToSql;

use super::columns::{Columns, Statement};
use super::rows::{AgentRow, AttemptRow, DeviceRow, JobRow};
use super::values::{At, Bin, Digest, Ids, Json, Num, Text, Word, num};
use super::work::{Key, RunRow, TryRow, Work, place};

/// All statements that write `work`, in their order, its events excepted. None names a row twice.
pub(super) fn statements(work: &Work) -> Vec<Statement> {
    let mut made_jobs = work.jobs.made();
    made_jobs.sort_by_key(|row| row.place);
    let (app_versions, keys) = (work.app_versions.made(), [work.keys.made(), work.keys.changed()].concat());
    let statements = [
        delete("tokens", &work.tokens.removed(), |id| Bin(id.0)),
        delete("devices", &work.devices.removed(), |id| Bin(id.0)),
        delete("agents", &work.agents.removed(), |id| Bin(id.0)),
        agents(&work.agents.made()).insert(""),
        agents(&work.agents.changed()).update("id"),
        devices(&work.devices.made()).insert(""),
        devices(&work.devices.changed()).update("id"),
        tokens(&work.tokens.made()).insert(""),
        app_versions_of(&app_versions).insert(""),
        keys_of(&keys).insert(
            "ON CONFLICT (org_id, key) DO UPDATE SET fingerprint = excluded.fingerprint, run_id = excluded.run_id",
        ),
        made_runs(&work.runs.made()).insert(""),
        specs(&work.runs.made()).insert(""),
        changed_runs(&work.runs.changed()).update("id"),
        made(jobs(&made_jobs)).insert(""),
        jobs(&work.jobs.changed()).update("id"),
        // Its epoch is the number of the event that tells of it.
        started(attempts(&work.attempts.made())).insert_with(
            &[("epoch", "u.epoch + (SELECT before FROM counters WHERE name = 'event')")],
            "",
        ),
        attempts(&work.attempts.changed()).update("id"),
        tries(&work.tries.made()).insert(""),
        artifacts(&work.artifacts.made()).insert(""),
    ];
    statements.into_iter().flatten().collect()
}

/// The statement that appends the events, once `counters` has their numbers.
pub(super) fn events(work: &Work) -> Option<Statement> {
    let events: Vec<_> = work.events().iter().collect();
    let columns = Columns::of("events", &events)
        .add("seq", "bigint", |event| num(place(event.seq).unwrap_or(0)))
        .add("at", "bigint", |event| At(event.at))
        .add("org_id", "text", |event| event.org_id.clone().map(Word))
        .add("run_id", "uuid", |event| event.run_id.map(|id| Bin(id.0)))
        .add("job_id", "uuid", |event| event.job_id.map(|id| Bin(id.0)))
        .add("fact", "text", |event| Json(event.fact.clone()));
    columns.insert_with(&[("seq", "u.seq + (SELECT before FROM counters WHERE name = 'event')")], "")
}

fn delete<K, V: ToSql + Sync + Send + 'static>(
    table: &'static str,
    ids: &[&K],
    value: impl Fn(&K) -> V,
) -> Option<Statement> {
    Columns::of(table, ids).add("id", "uuid", value).delete()
}

fn agents<'r>(rows: &'r [&'r AgentRow]) -> Columns<'r, AgentRow> {
    Columns::of("agents", rows)
        .add("id", "uuid", |row| Bin(row.agent.id.0))
        .add("name", "text", |row| Text(row.agent.name.clone()))
        .add("serves", "text", |row| row.agent.serves.clone().map(Word))
        .add("version", "text", |row| Text(row.agent.version.clone()))
        .add("online", "boolean", |row| row.online)
        .add("draining", "boolean", |row| row.draining)
        .add("seen_at", "bigint", |row| At(row.agent.seen_at))
        .add("created_at", "bigint", |row| At(row.agent.created_at))
}

fn devices<'r>(rows: &'r [&'r DeviceRow]) -> Columns<'r, DeviceRow> {
    Columns::of("devices", rows)
        .add("id", "uuid", |row| Bin(row.device.id.0))
        .add("agent_id", "uuid", |row| Bin(row.device.agent_id.0))
        .add("serves", "text", |row| row.device.serves.clone().map(Word))
        .add("serial", "text", |row| Text(row.device.serial.clone()))
        .add("name", "text", |row| Text(row.device.name.clone()))
        .add("platform", "text", |row| Word(row.device.platform))
        .add("kind", "text", |row| Word(row.device.kind))
        .add("model", "text", |row| Text(row.device.model.clone()))
        .add("os_version", "text", |row| Text(row.device.os_version.clone()))
        .add("tags", "text", |row| Json(row.device.tags.clone()))
        .add("note", "text", |row| row.device.note.clone().map(Text))
        .add("ledger", "text", |row| Json(row.device.ledger.clone()))
        .add("online", "boolean", |row| row.online)
        .add("drained", "boolean", |row| row.drained)
        .add("quarantine", "text", |row| row.device.quarantine.clone().map(Json))
        .add("seen_at", "bigint", |row| At(row.device.seen_at))
}

fn tokens<'r>(rows: &'r [&'r (Token, Sha256)]) -> Columns<'r, (Token, Sha256)> {
    Columns::of("tokens", rows)
        .add("id", "uuid", |(token, _)| Bin(token.id.0))
        .add("hash", "bytea", |(_, hash)| Digest(*hash))
        .add("kind", "text", |(token, _)| Word(token.kind))
        .add("name", "text", |(token, _)| Text(token.name.clone()))
        .add("org_id", "text", |(token, _)| token.org_id.clone().map(Word))
        .add("agent_id", "uuid", |(token, _)| token.agent_id.map(|id| Bin(id.0)))
        .add("created_at", "bigint", |(token, _)| At(token.created_at))
        .add("expires_at", "bigint", |(token, _)| token.expires_at.map(At))
        .add("policy_id", "uuid", |(token, _)| token.ci.as_ref().map(|grant| Bin(grant.policy_id.0)))
        .add("ci", "text", |(token, _)| token.ci.clone().map(Json))
}

/// Adds a token, whatever else happens.
pub(super) fn token(token: &(Token, Sha256)) -> Option<Statement> {
    tokens(&[token]).insert("")
}

fn app_versions_of<'r>(rows: &'r [&'r AppVersion]) -> Columns<'r, AppVersion> {
    Columns::of("app_versions", rows)
        .add("org_id", "text", |row| Word(row.org_id.clone()))
        .add("app_version_id", "text", |row| Word(row.app_version_id.clone()))
        .add("build", "text", |row| Json(row.build.clone()))
        .add("app_id", "text", |row| Text(row.build.app_id.clone()))
        .add("created_at", "bigint", |row| At(row.created_at))
}

fn keys_of<'r>(rows: &'r [&'r Key]) -> Columns<'r, Key> {
    Columns::of("idempotency_keys", rows)
        .add("org_id", "text", |row| Word(row.org_id.clone()))
        .add("key", "text", |row| Word(row.key.clone()))
        .add("fingerprint", "bytea", |row| row.fingerprint.map(Digest))
        .add("run_id", "uuid", |row| row.run_id.map(|id| Bin(id.0)))
        .add("created_at", "bigint", |row| At(row.created_at))
}

fn changed_runs<'r>(rows: &'r [&'r RunRow]) -> Columns<'r, RunRow> {
    Columns::of("runs", rows)
        .add("id", "uuid", |row| Bin(row.run.id.0))
        .add("status", "text", |row| Word(row.run.status))
        .add("conclusion", "text", |row| row.run.conclusion.map(Word))
        .add("scheduled", "bigint", |row| num(row.run.jobs.scheduled))
        .add("queued", "bigint", |row| num(row.run.jobs.queued))
        .add("running", "bigint", |row| num(row.run.jobs.running))
        .add("passed", "bigint", |row| num(row.run.jobs.passed))
        .add("failed", "bigint", |row| num(row.run.jobs.failed))
        .add("errored", "bigint", |row| num(row.run.jobs.errored))
        .add("timed_out", "bigint", |row| num(row.run.jobs.timed_out))
        .add("cancelled", "bigint", |row| num(row.run.jobs.cancelled))
        .add("skipped", "bigint", |row| num(row.run.jobs.skipped))
        .add("flaky", "bigint", |row| num(row.run.jobs.flaky))
        .add("installs_made", "bigint", |row| num(row.installs.made))
        .add("installs_avoided", "bigint", |row| num(row.installs.avoided))
        .add("tests_passed", "bigint", |row| num(row.run.tests.passed))
        .add("tests_failed", "bigint", |row| num(row.run.tests.failed))
        .add("tests_flaky", "bigint", |row| num(row.run.tests.flaky))
        .add("tests_skipped", "bigint", |row| num(row.run.tests.skipped))
        .add("carried", "text", |row| row.run.rerun_of.map(|_| Json(row.run.carried)))
        .add("finished_at", "bigint", |row| row.run.finished_at.map(At))
        .add("version", "bigint", |row| num(row.run.version))
}

fn made_runs<'r>(rows: &'r [&'r RunRow]) -> Columns<'r, RunRow> {
    changed_runs(rows)
        .add("org_id", "text", |row| Word(row.run.org_id.clone()))
        .add("app_version_id", "text", |row| Word(row.run.app_version_id.clone()))
        .add("idempotency_key", "text", |row| row.run.idempotency_key.clone().map(Word))
        .add("retry_of", "uuid", |row| row.run.retry_of.map(|id| Bin(id.0)))
        .add("rerun_of", "uuid", |row| row.run.rerun_of.map(|id| Bin(id.0)))
        .add("token_id", "uuid", |row| row.token_id.map(|id| Bin(id.0)))
        .add("total", "bigint", |row| num(row.run.jobs.total))
        .add("created_at", "bigint", |row| At(row.run.created_at))
}

fn specs<'r>(rows: &'r [&'r RunRow]) -> Columns<'r, RunRow> {
    Columns::of("run_specs", rows)
        .add("run_id", "uuid", |row| Bin(row.run.id.0))
        .add("name", "text", |row| row.run.name.clone().map(Text))
        .add("labels", "text", |row| Json(row.run.labels.clone()))
        .add("spec", "text", |row| row.spec.clone().map(Json))
        .add("ci", "text", |row| row.run.ci.clone().map(Json))
}

fn jobs<'r>(rows: &'r [&'r JobRow]) -> Columns<'r, JobRow> {
    Columns::of("jobs", rows)
        .add("id", "uuid", |row| Bin(row.job.id.0))
        .add("status", "text", |row| Word(row.job.status))
        .add("conclusion", "text", |row| row.job.conclusion.map(Word))
        .add("reason", "text", |row| row.job.reason.map(Word))
        .add("detail", "text", |row| row.job.detail.clone().map(Text))
        .add("phase", "text", |row| row.job.phase.map(Word))
        .add("attempts", "bigint", |row| num(row.job.attempts))
        .add("infra_faults", "bigint", |row| num(row.job.infra_faults))
        .add("avoid", "bytea", |row| Ids(row.job.avoid.clone()))
        .add("attempt_id", "uuid", |row| row.attempt_id.map(|id| Bin(id.0)))
        .add("device_id", "uuid", |row| row.job.device_id.map(|id| Bin(id.0)))
        .add("passed", "bigint", |row| num(row.job.tests.passed))
        .add("failed", "bigint", |row| num(row.job.tests.failed))
        .add("flaky", "bigint", |row| num(row.job.tests.flaky))
        .add("skipped", "bigint", |row| num(row.job.tests.skipped))
        .add("not_before", "bigint", |row| row.job.not_before.map(At))
        .add("promoted_at", "bigint", |row| row.job.promoted_at.map(At))
        .add("queued_at", "bigint", |row| row.queued_at.map(At))
        .add("started_at", "bigint", |row| row.job.started_at.map(At))
        .add("finished_at", "bigint", |row| row.job.finished_at.map(At))
        .add("rerun", "text", |row| row.kept.clone().map(Json))
        .add("version", "bigint", |row| num(row.job.version))
}

/// What never changes of a job.
fn made<'r>(jobs: Columns<'r, JobRow>) -> Columns<'r, JobRow> {
    jobs.add("run_id", "uuid", |row| Bin(row.job.run_id.0))
        .add("org_id", "text", |row| Word(row.job.org_id.clone()))
        .add("group_id", "bigint", |row| Num(row.group_id))
        .add("test", "text", |row| Word(row.job.spec.test.clone()))
        .add("shard", "text", |row| row.job.spec.shard.clone().map(Json))
        .add("is_part", "boolean", JobRow::is_part)
        .add("priority", "bigint", |row| num(row.job.spec.priority.get()))
        .add("infra_retries", "bigint", |row| num(row.job.spec.infra_retries))
        .add("predicted_ms", "bigint", |row| num(row.job.predicted_ms))
        .add("queue_deadline", "bigint", |row| At(row.job.queue_deadline))
        .add("created_at", "bigint", |row| At(row.job.created_at))
}

fn attempts<'r>(rows: &'r [&'r AttemptRow]) -> Columns<'r, AttemptRow> {
    Columns::of("attempts", rows)
        .add("id", "uuid", |row| Bin(row.attempt.id.0))
        .add("phase", "text", |row| Word(row.attempt.phase))
        .add("outcome", "text", |row| row.attempt.outcome.map(Word))
        .add("reason", "text", |row| row.attempt.reason.map(Word))
        .add("detail", "text", |row| row.attempt.detail.clone().map(Text))
        .add("concluded", "text", |row| row.concluded.map(Word))
        .add("agent_finished", "boolean", |row| row.agent_finished)
        .add("passed", "bigint", |row| num(row.tests.passed))
        .add("failed", "bigint", |row| num(row.tests.failed))
        .add("flaky", "bigint", |row| num(row.tests.flaky))
        .add("skipped", "bigint", |row| num(row.tests.skipped))
        .add("install_action", "text", |row| row.attempt.install.map(|install| Word(install.action)))
        .add("install_ms", "bigint", |row| row.attempt.install.map(|install| num(install.duration_ms)))
        .add("lease_until", "bigint", |row| At(row.attempt.lease_until))
        .add("ended_at", "bigint", |row| row.attempt.ended_at.map(At))
}

/// What never changes of an attempt.
fn started<'r>(attempts: Columns<'r, AttemptRow>) -> Columns<'r, AttemptRow> {
    attempts
        .add("job_id", "uuid", |row| Bin(row.attempt.job_id.0))
        .add("run_id", "uuid", |row| Bin(row.run_id.0))
        .add("org_id", "text", |row| Word(row.org_id.clone()))
        .add("concurrency_group", "text", |row| row.concurrency_group.clone().map(Word))
        .add("number", "bigint", |row| num(row.attempt.number))
        .add("agent_id", "uuid", |row| Bin(row.attempt.agent_id.0))
        .add("device_id", "uuid", |row| Bin(row.attempt.device_id.0))
        .add("device_name", "text", |row| Text(row.device_name.clone()))
        .add("claim_id", "text", |row| Text(row.claim_id.clone()))
        .add("epoch", "bigint", |row| num(place(row.attempt.epoch).unwrap_or(0)))
        .add("choice", "text", |row| row.attempt.choice.map(Json))
        .add("started_at", "bigint", |row| At(row.attempt.started_at))
        .add("timeout_at", "bigint", |row| At(row.timeout_at))
}

fn tries<'r>(rows: &'r [&'r TryRow]) -> Columns<'r, TryRow> {
    Columns::of("tries", rows)
        .add("attempt_id", "uuid", |row| Bin(row.attempt_id.0))
        .add("seq", "bigint", |row| num(row.seq))
        .add("body", "text", |row| row.body.clone().map(Json))
}

fn artifacts<'r>(rows: &'r [&'r (Artifact, OrgId)]) -> Columns<'r, (Artifact, OrgId)> {
    Columns::of("artifacts", rows)
        .add("id", "uuid", |(artifact, _)| Bin(artifact.id.0))
        .add("org_id", "text", |(_, org)| Word(org.clone()))
        .add("job_id", "uuid", |(artifact, _)| Bin(artifact.job_id.0))
        .add("attempt_id", "uuid", |(artifact, _)| Bin(artifact.attempt_id.0))
        .add("name", "text", |(artifact, _)| Text(artifact.name.clone()))
        .add("media_type", "text", |(artifact, _)| Text(artifact.media_type.clone()))
        .add("size_bytes", "bigint", |(artifact, _)| num(artifact.size_bytes))
        .add("sha256", "bytea", |(artifact, _)| Digest(artifact.sha256))
        .add("created_at", "bigint", |(artifact, _)| At(artifact.created_at))
}
