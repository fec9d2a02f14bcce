//! Reading: what is outside the scope is not found.

use deadpool_postgres::Object;
use jiff::Timestamp;
use qgjob_core::api::runs::Installs;
use qgjob_core::model::agent::Agent;
use qgjob_core::model::artifact::{self, Artifact};
use qgjob_core::model::attempt::{self, Attempt, Install, InstallAction, Outcome, Took};
use qgjob_core::model::build::AppVersion;
use qgjob_core::model::device::Device;
use qgjob_core::model::event::{Event, Seq};
use qgjob_core::model::job::{self, Conclusion, Job, Reason};
use qgjob_core::model::name::OrgId;
use qgjob_core::model::run::{self, Run};
use qgjob_core::model::selector::Target;
use qgjob_core::model::test_result::Try;
use qgjob_core::model::token::Token;
use qgjob_core::model::{device, group};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::rows;
use super::transaction::{Param, Verb, all, first};
use super::values::{
    At, Bin, Ids, Word, at, bin, get, json, num, number, opt_at, opt_json, opt_number, opt_word, word,
};
use crate::store::alike::between_ms;
use crate::store::{
    EventFilter, Gauges, GroupRow, JobFacts, JobFilter, Listed, RunFilter, RunningJob, Scope, WaitingJob,
};

/// Conditions that must all hold, with their parameters in order.
#[derive(Default)]
struct Where<'a> {
    conditions: Vec<String>,
    params: Vec<Box<dyn ToSql + Sync + Send + 'a>>,
}

impl<'a> Where<'a> {
    /// Adds a parameter; answers how it is written.
    fn param(&mut self, param: impl ToSql + Sync + Send + 'a) -> String {
        self.params.push(Box::new(param));
        format!("${}", self.params.len())
    }

    /// Adds a condition; its parameter is written as `?`.
    fn and(&mut self, condition: &str, param: impl ToSql + Sync + Send + 'a) {
        let param = self.param(param);
        self.conditions.push(condition.replace('?', &param));
    }

    fn and_if(&mut self, condition: &str, param: Option<impl ToSql + Sync + Send + 'a>) {
        if let Some(param) = param {
            self.and(condition, param);
        }
    }

    fn and_seen(&mut self, condition: &str, scope: &'a Scope) {
        match scope {
            Scope::All => {}
            Scope::Org(org) => self.and(condition, Word(org)),
        }
    }

    async fn query<T>(
        self,
        c: &Object,
        select: &str,
        rest: &str,
        read: impl FnMut(&Row) -> Verb<T>,
    ) -> Verb<Vec<T>> {
        let conditions =
            if self.conditions.is_empty() { "true".to_owned() } else { self.conditions.join(" AND ") };
        let params: Vec<Param<'_>> = self.params.iter().map(|param| &**param as Param<'_>).collect();
        all(c, &format!("{select} WHERE {conditions} {rest}"), &params, read).await
    }
}

pub(super) async fn run(c: &Object, scope: &Scope, id: run::Id) -> Verb<Option<(Run, Installs)>> {
    let found = first(c, &format!("{} WHERE r.id = $1", rows::RUN), &[&Bin(id.0)], rows::run).await?;
    Ok(found.filter(|(run, _)| scope.sees(&run.org_id)))
}

pub(super) async fn runs(
    c: &Object,
    scope: &Scope,
    filter: &RunFilter,
    before: Option<run::Id>,
    limit: u32,
) -> Verb<Vec<(Run, Installs)>> {
    let mut wanted = Where::default();
    wanted.and_seen("r.org_id = ?", scope);
    wanted.and_if("r.org_id = ?", filter.org_id.as_ref().map(Word));
    wanted.and_if("r.status = ?", filter.status.map(Word));
    wanted.and_if("r.conclusion = ?", filter.conclusion.map(Word));
    wanted.and_if("r.app_version_id = ?", filter.app_version_id.as_ref().map(Word));
    if let Some((key, value)) = &filter.label {
        let value = wanted.param(value);
        wanted.and(&format!("s.labels::json ->> ? = {value}"), key);
    }
    if let Some((org, key)) = &filter.key {
        let org = wanted.param(Word(org));
        wanted.and(
            &format!("r.id = (SELECT run_id FROM idempotency_keys WHERE org_id = {org} AND key = ?)"),
            Word(key),
        );
    }
    wanted.and_if("r.id < ?", before.map(|id| Bin(id.0)));
    let limit = wanted.param(num(limit));
    wanted.query(c, rows::RUN, &format!("ORDER BY r.id DESC LIMIT {limit}"), rows::run).await
}

pub(super) async fn run_reasons(c: &Object, id: run::Id) -> Verb<Vec<(Conclusion, Option<Reason>)>> {
    let sql =
        "SELECT conclusion, reason FROM jobs WHERE run_id = $1 AND status = 'completed' ORDER BY ordinal";
    all(c, sql, &[&Bin(id.0)], |row| Ok((word(row, "conclusion")?, opt_word(row, "reason")?))).await
}

fn job_with_facts(row: &Row) -> Verb<(Job, JobFacts)> {
    Ok((rows::job(row)?, rows::job_facts(row)?))
}

pub(super) async fn job(c: &Object, scope: &Scope, id: job::Id) -> Verb<Option<(Job, JobFacts)>> {
    let sql = format!("{} WHERE j.id = $1", rows::JOB_WITH_FACTS);
    let found = first(c, &sql, &[&Bin(id.0)], job_with_facts).await?;
    Ok(found.filter(|(job, _)| scope.sees(&job.org_id)))
}

pub(super) async fn jobs(
    c: &Object,
    scope: &Scope,
    filter: &JobFilter,
    before: Option<job::Id>,
    limit: u32,
) -> Verb<Vec<(Job, JobFacts)>> {
    let mut wanted = Where::default();
    wanted.and_seen("r.org_id = ?", scope);
    wanted.and_if("r.org_id = ?", filter.org_id.as_ref().map(Word));
    wanted.and_if("j.run_id = ?", filter.run_id.map(|id| Bin(id.0)));
    wanted.and_if("j.status = ?", filter.status.map(Word));
    wanted.and_if("j.conclusion = ?", filter.conclusion.map(Word));
    wanted.and_if("r.app_version_id = ?", filter.app_version_id.as_ref().map(Word));
    let before = before.map(|id| Bin(id.0));
    let order = if filter.run_id.is_some() {
        wanted.and_if("j.ordinal > (SELECT ordinal FROM jobs WHERE id = ?)", before);
        "j.ordinal"
    } else {
        wanted.and_if("(j.run_id, j.ordinal) < (SELECT run_id, ordinal FROM jobs WHERE id = ?)", before);
        "j.run_id DESC, j.ordinal DESC"
    };
    let limit = wanted.param(num(limit));
    let rest = format!("ORDER BY {order} LIMIT {limit}");
    wanted.query(c, rows::JOB_WITH_FACTS, &rest, job_with_facts).await
}

/// Ids that PostgreSQL looks through at once for a suffix.
const LOOKED_THROUGH: usize = 10_000;

/// Reads ids only, newest first, and stops at 3.
pub(super) async fn jobs_by_suffix(c: &Object, scope: &Scope, suffix: &str) -> Verb<Vec<job::Id>> {
    let suffix = suffix.to_ascii_lowercase();
    let mut found = Vec::new();
    let mut before: Option<(Bin, i64)> = None;
    while !suffix.is_empty() && found.len() < 3 {
        let mut wanted = Where::default();
        wanted.and_seen("org_id = ?", scope);
        if let Some((run, ordinal)) = before {
            let ordinal = wanted.param(ordinal);
            wanted.and(&format!("(run_id, ordinal) < (?, {ordinal})"), run);
        }
        let limit = wanted.param(num(LOOKED_THROUGH));
        let rest = format!("ORDER BY run_id DESC, ordinal DESC LIMIT {limit}");
        let ids = wanted.query(c, "SELECT id, run_id, ordinal FROM jobs", &rest, |row| {
            Ok((job::Id(bin(row, "id")?), Bin(bin(row, "run_id")?), get(row, "ordinal")?))
        });
        let ids = ids.await?;
        found.extend(ids.iter().map(|(id, ..)| *id).filter(|id| id.to_string().ends_with(&suffix)));
        match ids.last() {
            Some((_, run, ordinal)) if ids.len() == LOOKED_THROUGH => before = Some((*run, *ordinal)),
            _ => break,
        }
    }
    found.truncate(3);
    Ok(found)
}

pub(super) async fn attempts(c: &Object, job: job::Id) -> Verb<Vec<(Attempt, String)>> {
    let sql = "SELECT * FROM attempts WHERE job_id = $1 ORDER BY number";
    all(c, sql, &[&Bin(job.0)], |row| Ok((rows::attempt(row)?, get(row, "device_name")?))).await
}

/// In two statements; whoever needs both at one moment asks in a snapshot.
pub(super) async fn attempt(c: &Object, id: attempt::Id) -> Verb<Option<(Attempt, Job)>> {
    let attempt = first(c, "SELECT * FROM attempts WHERE id = $1", &[&Bin(id.0)], rows::attempt).await?;
    let Some(attempt) = attempt else { return Ok(None) };
    let sql = format!("{} WHERE j.id = $1", rows::JOB);
    let job = first(c, &sql, &[&Bin(attempt.job_id.0)], rows::job).await?;
    Ok(job.map(|job| (attempt, job)))
}

pub(super) async fn tries(c: &Object, job: job::Id) -> Verb<Vec<(attempt::Id, Try)>> {
    let sql = "SELECT t.attempt_id, t.body FROM attempts a JOIN tries t ON t.attempt_id = a.id
        WHERE a.job_id = $1 ORDER BY a.number, t.seq";
    all(c, sql, &[&Bin(job.0)], |row| Ok((attempt::Id(bin(row, "attempt_id")?), json(row, "body")?))).await
}

pub(super) async fn artifacts(c: &Object, job: job::Id) -> Verb<Vec<Artifact>> {
    let sql = "SELECT * FROM artifacts WHERE job_id = $1 ORDER BY id";
    all(c, sql, &[&Bin(job.0)], rows::artifact).await
}

pub(super) async fn artifact(c: &Object, scope: &Scope, id: artifact::Id) -> Verb<Option<(Artifact, OrgId)>> {
    let sql = "SELECT * FROM artifacts WHERE id = $1";
    let found =
        first(c, sql, &[&Bin(id.0)], |row| Ok((rows::artifact(row)?, word::<OrgId>(row, "org_id")?))).await?;
    Ok(found.filter(|(_, org)| scope.sees(org)))
}

pub(super) async fn events_after(
    c: &Object,
    scope: &Scope,
    filter: EventFilter,
    after: Seq,
    limit: u32,
) -> Verb<Vec<Event>> {
    let mut wanted = Where::default();
    match filter {
        EventFilter::All => {}
        EventFilter::Run(id) => wanted.and("run_id = ?", Bin(id.0)),
        EventFilter::Job(id) => {
            wanted.and("run_id = (SELECT run_id FROM jobs WHERE id = ?)", Bin(id.0));
            wanted.and("job_id = ?", Bin(id.0));
        }
    }
    wanted.and_seen("org_id = ?", scope);
    wanted.and("seq > ?", num(after));
    let limit = wanted.param(num(limit));
    wanted.query(c, "SELECT * FROM events", &format!("ORDER BY seq LIMIT {limit}"), rows::event).await
}

const GROUP: &str = "SELECT g.id, g.key, v.build
    FROM groups g LEFT JOIN app_versions v ON v.org_id = g.org_id AND v.app_version_id = g.app_version_id";

fn group_row(row: &Row) -> Verb<GroupRow> {
    Ok(GroupRow { id: get(row, "id")?, key: json(row, "key")?, build: opt_json(row, "build")? })
}

pub(super) async fn groups(c: &Object) -> Verb<Vec<GroupRow>> {
    // The last are the groups of jobs that are over while their attempts are not.
    let sql = format!(
        "{GROUP} WHERE g.id IN (SELECT group_id FROM jobs WHERE finished_at IS NULL
            UNION SELECT j.group_id FROM attempts a JOIN jobs j ON j.id = a.job_id
                WHERE a.ended_at IS NULL) ORDER BY g.id"
    );
    all(c, &sql, &[], group_row).await
}

pub(super) async fn group(c: &Object, id: group::Id) -> Verb<Option<GroupRow>> {
    first(c, &format!("{GROUP} WHERE g.id = $1"), &[&id], group_row).await
}

const WAITING: &str =
    "j.id, j.group_id, j.priority, j.queued_at, j.not_before, j.avoid, j.predicted_ms, j.promoted_at";

pub(super) async fn waiting_jobs(c: &Object) -> Verb<Vec<WaitingJob>> {
    let sql = format!(
        "SELECT {WAITING} FROM jobs j WHERE finished_at IS NULL AND status = 'queued' ORDER BY queued_at, ordinal"
    );
    all(c, &sql, &[], waiting_job).await
}

fn waiting_job(row: &Row) -> Verb<WaitingJob> {
    Ok(WaitingJob {
        id: job::Id(bin(row, "id")?),
        group_id: get(row, "group_id")?,
        priority: number(row, "priority")?,
        queued_at: at(row, "queued_at")?,
        not_before: opt_at(row, "not_before")?,
        avoid: get::<Ids>(row, "avoid")?.0,
        promoted_at: opt_at(row, "promoted_at")?,
        predicted_ms: number(row, "predicted_ms")?,
    })
}

pub(super) async fn running_jobs(c: &Object) -> Verb<Vec<RunningJob>> {
    let sql = format!(
        "SELECT {WAITING}, a.device_id, a.started_at, j.status <> 'running' AS over
        FROM attempts a JOIN jobs j ON j.id = a.job_id WHERE a.ended_at IS NULL ORDER BY a.epoch"
    );
    let running = all(c, &sql, &[], |row| {
        Ok(RunningJob {
            job: waiting_job(row)?,
            device_id: device::Id(bin(row, "device_id")?),
            started_at: at(row, "started_at")?,
            over: get(row, "over")?,
        })
    });
    running.await
}

/// The newest attempts are looked at, and no more than those, however few of them came to a verdict.
pub(super) async fn history(c: &Object, newest: u32) -> Verb<Vec<(OrgId, Took)>> {
    let sql = "SELECT j.org_id, j.group_id, j.test, a.outcome, a.started_at, a.ended_at, a.install_action, a.install_ms,
        d.kind, (j.shard IS NOT NULL OR j.is_part) AS is_shard FROM attempts a JOIN jobs j ON j.id = a.job_id
        LEFT JOIN devices d ON d.id = a.device_id AND a.install_action <> 'avoided' ORDER BY a.id DESC LIMIT $1";
    let found = all(c, sql, &[&num(newest)], |row| {
        let outcome: Option<Outcome> = opt_word(row, "outcome")?;
        if !outcome.is_some_and(Outcome::is_verdict) {
            return Ok(None);
        }
        let whole_ms = between_ms(at(row, "started_at")?, at(row, "ended_at")?);
        let action: Option<InstallAction> = opt_word(row, "install_action")?;
        let kind: Option<Target> = opt_word(row, "kind")?;
        let duration_ms = opt_number(row, "install_ms")?.unwrap_or(0);
        let install = action.map(|action| Install { action, duration_ms });
        let (group, is_shard) = (get(row, "group_id")?, get(row, "is_shard")?);
        let took = Took::new(group, word(row, "test")?, is_shard, whole_ms, install, kind);
        Ok(Some((word(row, "org_id")?, took)))
    })
    .await?;
    Ok(found.into_iter().rev().flatten().collect())
}

pub(super) async fn gauges(c: &Object) -> Verb<Gauges> {
    let sql = "SELECT count(*) FILTER (WHERE status = 'scheduled') AS scheduled,
        count(*) FILTER (WHERE status = 'queued') AS queued, count(*) FILTER (WHERE status = 'running') AS running,
        min(queued_at) FILTER (WHERE status = 'queued') AS oldest,
        (SELECT count(*) FROM org_limits WHERE paused_at IS NOT NULL) AS paused_orgs,
        (SELECT count(*) FROM paused_app_versions) AS paused_app_versions
        FROM jobs WHERE finished_at IS NULL";
    let gauges = first(c, sql, &[], |row| {
        let jobs = vec![
            (job::Status::Scheduled, number(row, "scheduled")?),
            (job::Status::Queued, number(row, "queued")?),
            (job::Status::Running, number(row, "running")?),
        ];
        Ok(Gauges {
            jobs,
            oldest_queued_at: opt_at(row, "oldest")?,
            paused_orgs: number(row, "paused_orgs")?,
            paused_app_versions: number(row, "paused_app_versions")?,
            ..Gauges::default()
        })
    })
    .await?;
    let mut gauges = gauges.unwrap_or_default();
    for device in devices(c, &Scope::All).await? {
        let kind = (device.state, device.platform);
        match gauges.devices.iter_mut().find(|(state, platform, _)| (*state, *platform) == kind) {
            Some((_, _, count)) => *count += 1,
            None => gauges.devices.push((kind.0, kind.1, 1)),
        }
    }
    for agent in agents(c).await? {
        match gauges.agents.iter_mut().find(|(state, _)| *state == agent.state) {
            Some((_, count)) => *count += 1,
            None => gauges.agents.push((agent.state, 1)),
        }
    }
    Ok(gauges)
}

/// In the order of bytes, whatever the database's language: so are all lists of names.
pub(super) async fn agents(c: &Object) -> Verb<Vec<Agent>> {
    let sql = r#"SELECT * FROM agents ORDER BY name COLLATE "C""#;
    all(c, sql, &[], |row| Ok(rows::agent_row(row)?.shown())).await
}

pub(super) async fn devices(c: &Object, scope: &Scope) -> Verb<Vec<Device>> {
    let mut wanted = Where::default();
    wanted.and_seen("(d.serves IS NULL OR d.serves = ?)", scope);
    wanted.query(c, rows::DEVICE, r#"ORDER BY d.name COLLATE "C", d.id"#, rows::device).await
}

pub(super) async fn tokens(c: &Object) -> Verb<Vec<Token>> {
    all(c, "SELECT * FROM tokens ORDER BY id DESC", &[], rows::token).await
}

pub(super) async fn app_versions(
    c: &Object,
    scope: &Scope,
    before: Option<Listed>,
    limit: u32,
) -> Verb<Vec<AppVersion>> {
    let mut wanted = Where::default();
    wanted.and_seen("org_id = ?", scope);
    if let Some(Listed { created_at, org_id, app_version_id }) = before {
        let (org, label) = (wanted.param(Word(org_id)), wanted.param(Word(app_version_id)));
        let names = r#"org_id COLLATE "C", app_version_id COLLATE "C""#;
        wanted.and(&format!("(created_at, {names}) < (?, {org}, {label})"), At(created_at));
    }
    let limit = wanted.param(num(limit));
    let rest = format!(
        r#"ORDER BY created_at DESC, org_id COLLATE "C" DESC, app_version_id COLLATE "C" DESC LIMIT {limit}"#
    );
    wanted.query(c, "SELECT * FROM app_versions", &rest, rows::app_version).await
}

pub(super) async fn app_version(
    c: &Object,
    org: &OrgId,
    id: &qgjob_core::model::name::AppVersionId,
) -> Verb<Option<AppVersion>> {
    let sql = "SELECT * FROM app_versions WHERE org_id = $1 AND app_version_id = $2";
    first(c, sql, &[&Word(org), &Word(id)], rows::app_version).await
}

/// Writes and reads a row.
pub(super) async fn probe(c: &Object, now: Timestamp) -> Verb<()> {
    let sql = "UPDATE counters SET value = $1 WHERE name = 'probe' RETURNING value";
    // Another probe may have written a later time since.
    let read = first(c, sql, &[&At(now)], |row| at(row, "value")).await?;
    read.map(|_| ()).ok_or_else(|| rows::missing("the probe's row"))
}
