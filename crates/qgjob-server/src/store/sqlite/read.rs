//! Reading: what is outside the scope is not found.

use qgjob_core::api::runs::Installs;
use qgjob_core::model::attempt::{self, Attempt, Install, InstallAction, Outcome, Took};
use qgjob_core::model::event::{Event, Fact, Seq};
use qgjob_core::model::job::{self, Job};
use qgjob_core::model::name::OrgId;
use qgjob_core::model::run::{self, Run};
use qgjob_core::model::selector::Target;
use qgjob_core::model::test_result::Try;
use qgjob_core::model::{agent, device, group};
use rusqlite::types::ToSql;
use rusqlite::{Connection, Row, params_from_iter};

use super::rows::{self, At, Bin, Ids, Word, at, bin, json, opt_at, opt_bin, opt_word, word};
use super::transaction::{all, first};
use crate::store::alike::between_ms;
use crate::store::{
    EventFilter, Gauges, GroupRow, JobFacts, JobFilter, Listed, RunFilter, RunningJob, Scope, WaitingJob,
};

/// Conditions that must all hold, with their parameters in order.
#[derive(Default)]
struct Where<'a> {
    conditions: Vec<&'static str>,
    params: Vec<Box<dyn ToSql + 'a>>,
}

impl<'a> Where<'a> {
    /// Adds a condition; its parameter is written as `?`.
    fn and(&mut self, condition: &'static str, param: impl ToSql + 'a) {
        self.conditions.push(condition);
        self.params.push(Box::new(param));
    }

    fn and_if(&mut self, condition: &'static str, param: Option<impl ToSql + 'a>) {
        if let Some(param) = param {
            self.and(condition, param);
        }
    }

    fn and_seen(&mut self, condition: &'static str, scope: &'a Scope) {
        match scope {
            Scope::All => {}
            Scope::Org(org) => self.and(condition, Word(org)),
        }
    }

    fn query<T>(
        self,
        connection: &Connection,
        select: &str,
        rest: &str,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Vec<T>> {
        all(connection, &self.sql(select, rest), params_from_iter(self.params), read)
    }

    fn sql(&self, select: &str, rest: &str) -> String {
        let conditions =
            if self.conditions.is_empty() { "1".to_owned() } else { self.conditions.join(" AND ") };
        format!("{select} WHERE {conditions} {rest}")
    }
}

pub(super) fn run(c: &Connection, scope: &Scope, id: run::Id) -> rusqlite::Result<Option<(Run, Installs)>> {
    let found = first(c, &format!("{} WHERE r.id = ?1", rows::RUN), [Bin(id.0)], rows::run)?;
    Ok(found.filter(|(run, _)| scope.sees(&run.org_id)))
}

pub(super) fn runs(
    c: &Connection,
    scope: &Scope,
    filter: &RunFilter,
    before: Option<run::Id>,
    limit: u32,
) -> rusqlite::Result<Vec<(Run, Installs)>> {
    let mut wanted = Where::default();
    wanted.and_seen("r.org_id = ?", scope);
    wanted.and_if("r.org_id = ?", filter.org_id.as_ref().map(Word));
    wanted.and_if("r.status = ?", filter.status.map(Word));
    wanted.and_if("r.conclusion = ?", filter.conclusion.map(Word));
    wanted.and_if("r.app_version_id = ?", filter.app_version_id.as_ref().map(Word));
    if let Some((key, value)) = &filter.label {
        let label = serde_json::json!([key, value]).to_string();
        wanted
            .and("EXISTS (SELECT 1 FROM json_each(s.labels) l WHERE json_array(l.key, l.value) = ?)", label);
    }
    if let Some((org, key)) = &filter.key {
        let one = "r.id = (SELECT run_id FROM idempotency_keys WHERE org_id = ? AND key = ?)";
        wanted.and(one, Word(org));
        wanted.params.push(Box::new(Word(key)));
    }
    wanted.and_if("r.id < ?", before.map(|id| Bin(id.0)));
    wanted.query(c, rows::RUN, &format!("ORDER BY r.id DESC LIMIT {limit}"), rows::run)
}

pub(super) fn job(c: &Connection, scope: &Scope, id: job::Id) -> rusqlite::Result<Option<(Job, JobFacts)>> {
    let found = first(c, &format!("{} WHERE j.id = ?1", rows::JOB), [Bin(id.0)], job_with_facts)?;
    Ok(found.filter(|(job, _)| scope.sees(&job.org_id)))
}

fn job_with_facts(row: &Row<'_>) -> rusqlite::Result<(Job, JobFacts)> {
    Ok((rows::job(row)?, rows::job_facts(row)?))
}

pub(super) fn jobs(
    c: &Connection,
    scope: &Scope,
    filter: &JobFilter,
    before: Option<job::Id>,
    limit: u32,
) -> rusqlite::Result<Vec<(Job, JobFacts)>> {
    let mut wanted = Where::default();
    wanted.and_seen("r.org_id = ?", scope);
    wanted.and_if("r.org_id = ?", filter.org_id.as_ref().map(Word));
    wanted.and_if("r.id = ?", filter.run_id.map(|id| Bin(id.0)));
    wanted.and_if("j.status = ?", filter.status.map(Word));
    wanted.and_if("j.conclusion = ?", filter.conclusion.map(Word));
    wanted.and_if("r.app_version_id = ?", filter.app_version_id.as_ref().map(Word));
    let before = before.map(|id| Bin(id.0));
    let order = if filter.run_id.is_some() {
        wanted.and_if("j.ordinal > (SELECT ordinal FROM jobs WHERE id = ?)", before);
        "j.ordinal"
    } else {
        wanted.and_if("(r.id, j.ordinal) < (SELECT run_id, ordinal FROM jobs WHERE id = ?)", before);
        "r.id DESC, j.ordinal DESC"
    };
    wanted.query(c, rows::JOBS, &format!("ORDER BY {order} LIMIT {limit}"), job_with_facts)
}

/// Reads ids only, newest first, and stops at 3.
pub(super) fn jobs_by_suffix(c: &Connection, scope: &Scope, suffix: &str) -> rusqlite::Result<Vec<job::Id>> {
    let suffix = suffix.to_ascii_lowercase();
    let (sql, params) = match scope {
        Scope::All => ("SELECT id FROM jobs ORDER BY id DESC", vec![]),
        Scope::Org(org) => {
            let sql = "SELECT j.id FROM runs r CROSS JOIN jobs j
                ON j.ordinal >= r.first_job AND j.ordinal < r.first_job + r.total
                WHERE r.org_id = ? ORDER BY r.id DESC, j.ordinal DESC";
            (sql, vec![org.to_string()])
        }
    };
    let mut statement = c.prepare_cached(sql)?;
    let mut rows = statement.query(params_from_iter(params))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()?
        && found.len() < 3
    {
        let id = job::Id(bin(row, "id")?);
        if !suffix.is_empty() && id.to_string().ends_with(&suffix) {
            found.push(id);
        }
    }
    Ok(found)
}

pub(super) fn attempts(c: &Connection, job: job::Id) -> rusqlite::Result<Vec<(Attempt, String)>> {
    let sql = "SELECT * FROM attempts WHERE job_id = ?1 ORDER BY number";
    all(c, sql, [Bin(job.0)], |row| Ok((rows::attempt(row)?, row.get("device_name")?)))
}

pub(super) fn attempt(c: &Connection, id: attempt::Id) -> rusqlite::Result<Option<(Attempt, Job)>> {
    let attempt = first(c, "SELECT * FROM attempts WHERE id = ?1", [Bin(id.0)], rows::attempt)?;
    let Some(attempt) = attempt else { return Ok(None) };
    let job = first(c, &format!("{} WHERE j.id = ?1", rows::JOB), [Bin(attempt.job_id.0)], rows::job)?;
    Ok(job.map(|job| (attempt, job)))
}

pub(super) fn tries(c: &Connection, job: job::Id) -> rusqlite::Result<Vec<(attempt::Id, Try)>> {
    let sql = "SELECT t.attempt_id, t.body FROM attempts a JOIN tries t ON t.attempt_id = a.id
        WHERE a.job_id = ?1 ORDER BY a.number, t.seq";
    all(c, sql, [Bin(job.0)], |row| Ok((attempt::Id(bin(row, "attempt_id")?), json(row, "body")?)))
}

pub(super) fn events_after(
    c: &Connection,
    scope: &Scope,
    filter: EventFilter,
    after: Seq,
    limit: u32,
) -> rusqlite::Result<Vec<Event>> {
    let mut wanted = Where::default();
    match filter {
        EventFilter::All => {}
        EventFilter::Run(id) => wanted.and("run_id = ?", Bin(id.0)),
        EventFilter::Job(id) => wanted.and("run_id = (SELECT run_id FROM jobs WHERE id = ?)", Bin(id.0)),
    }
    wanted.and_seen("org_id = ?", scope);
    // A row holds several: the one that begins at or before the first wanted may hold it.
    let first = after.min(i64::MAX as u64 - 1) + 1;
    wanted.and("seq >= (SELECT coalesce(max(seq), 0) FROM events WHERE seq <= ?)", first);
    let mut statement = c.prepare_cached(&wanted.sql("SELECT * FROM events", "ORDER BY seq"))?;
    let mut rows = statement.query(params_from_iter(wanted.params))?;
    let mut found = Vec::new();
    while found.len() < limit as usize
        && let Some(row) = rows.next()?
    {
        let asked = |event: &Event| {
            let about = !matches!(filter, EventFilter::Job(id) if event.job_id != Some(id));
            about && event.seq > after
        };
        found.extend(events_of(row)?.filter(asked));
    }
    found.truncate(limit as usize);
    Ok(found)
}

/// The events that share a row.
fn events_of(row: &Row<'_>) -> rusqlite::Result<impl Iterator<Item = Event>> {
    let (first, at, org_id): (Seq, _, Option<OrgId>) =
        (row.get("seq")?, at(row, "at")?, opt_word(row, "org_id")?);
    let run_id = opt_bin(row, "run_id")?.map(run::Id);
    let jobs = row.get::<_, Ids>("job_ids")?.0;
    let facts: Vec<Fact> = json(row, "facts")?;
    Ok((first..).zip(jobs).zip(facts).map(move |((seq, job), fact)| Event {
        seq,
        at,
        org_id: org_id.clone(),
        run_id,
        job_id: Some(job::Id(job.0)).filter(|id| id.0 != 0),
        fact,
    }))
}

pub(super) fn last_seq(c: &Connection) -> rusqlite::Result<Seq> {
    // Not the newest row: that one may have been deleted.
    let seq = first(c, "SELECT value FROM counters WHERE name = 'event'", [], |row| row.get(0))?;
    Ok(seq.unwrap_or(0))
}

const GROUP: &str = "SELECT g.id, g.key, v.build
    FROM groups g LEFT JOIN app_versions v ON v.org_id = g.org_id AND v.app_version_id = g.app_version_id";

fn group_row(row: &Row<'_>) -> rusqlite::Result<GroupRow> {
    let build = row.get::<_, Option<rows::Json<_>>>("build")?.map(|build| build.0);
    Ok(GroupRow { id: row.get("id")?, key: json(row, "key")?, build })
}

pub(super) fn groups(c: &Connection) -> rusqlite::Result<Vec<GroupRow>> {
    // The last are the groups of jobs that are over while their attempts are not.
    let sql = format!(
        "{GROUP} WHERE g.id IN (SELECT group_id FROM jobs INDEXED BY jobs_live WHERE finished_at IS NULL
            UNION SELECT j.group_id FROM attempts a INDEXED BY attempts_live_device JOIN jobs j ON j.id = a.job_id
                WHERE a.ended_at IS NULL) ORDER BY g.id"
    );
    all(c, &sql, [], group_row)
}

pub(super) fn group(c: &Connection, id: group::Id) -> rusqlite::Result<Option<GroupRow>> {
    first(c, &format!("{GROUP} WHERE g.id = ?1"), [id], group_row)
}

pub(super) fn waiting_jobs(c: &Connection) -> rusqlite::Result<Vec<WaitingJob>> {
    let sql = "SELECT id, group_id, priority, queued_at, not_before, avoid, predicted_ms, promoted_at
        FROM jobs INDEXED BY jobs_live WHERE finished_at IS NULL AND status = 'queued'
        ORDER BY queued_at, ordinal";
    all(c, sql, [], waiting_job)
}

fn waiting_job(row: &Row<'_>) -> rusqlite::Result<WaitingJob> {
    Ok(WaitingJob {
        id: job::Id(bin(row, "id")?),
        group_id: row.get("group_id")?,
        priority: row.get("priority")?,
        queued_at: at(row, "queued_at")?,
        not_before: opt_at(row, "not_before")?,
        avoid: row.get::<_, Ids>("avoid")?.0,
        promoted_at: opt_at(row, "promoted_at")?,
        predicted_ms: row.get("predicted_ms")?,
    })
}

pub(super) fn running_jobs(c: &Connection) -> rusqlite::Result<Vec<RunningJob>> {
    let sql = "SELECT j.id, j.group_id, j.priority, j.queued_at, j.not_before, j.avoid, j.predicted_ms,
        j.promoted_at, a.device_id,
        a.started_at, j.status <> 'running' AS over FROM attempts a INDEXED BY attempts_live_device
        JOIN jobs j ON j.id = a.job_id WHERE a.ended_at IS NULL ORDER BY a.epoch";
    all(c, sql, [], |row| {
        Ok(RunningJob {
            job: waiting_job(row)?,
            device_id: device::Id(bin(row, "device_id")?),
            started_at: at(row, "started_at")?,
            over: row.get("over")?,
        })
    })
}

/// The newest attempts are looked at, and no more than those, however few of them came to a verdict.
pub(super) fn history(c: &Connection, newest: u32) -> rusqlite::Result<Vec<(OrgId, Took)>> {
    let sql = "SELECT j.org_id, j.group_id, j.test, a.outcome, a.started_at, a.ended_at, a.install_action, a.install_ms,
        d.kind, j.shard IS NOT NULL OR json_extract(j.rerun, '$.tests') IS NOT NULL FROM attempts a CROSS JOIN jobs j ON j.id = a.job_id
        LEFT JOIN devices d ON d.id = a.device_id AND a.install_action <> 'avoided' ORDER BY a.id DESC LIMIT ?1";
    let found = all(c, sql, [newest], |row| {
        let outcome: Option<Word<Outcome>> = row.get(3)?;
        if !outcome.is_some_and(|Word(outcome)| outcome.is_verdict()) {
            return Ok(None);
        }
        let (At(started_at), At(ended_at)) = (row.get(4)?, row.get(5)?);
        let action: Option<Word<InstallAction>> = row.get(6)?;
        let kind: Option<Word<Target>> = row.get(8)?;
        let duration_ms = row.get::<_, Option<u64>>(7)?.unwrap_or(0);
        let install = action.map(|Word(action)| Install { action, duration_ms });
        let (whole_ms, kind) = (between_ms(started_at, ended_at), kind.map(|Word(kind)| kind));
        let took = Took::new(row.get(1)?, row.get::<_, Word<_>>(2)?.0, row.get(9)?, whole_ms, install, kind);
        Ok(Some((row.get::<_, Word<_>>(0)?.0, took)))
    })?;
    Ok(found.into_iter().rev().flatten().collect())
}

pub(super) fn gauges(c: &Connection) -> rusqlite::Result<Gauges> {
    let sql =
        "SELECT count(*) FILTER (WHERE status = 'scheduled'), count(*) FILTER (WHERE status = 'queued'),
        count(*) FILTER (WHERE status = 'running'), min(queued_at) FILTER (WHERE status = 'queued')
        FROM jobs INDEXED BY jobs_live WHERE finished_at IS NULL";
    let count = |sql: &str| c.prepare_cached(sql)?.query_row([], |row| row.get::<_, u64>(0));
    let mut gauges = c.prepare_cached(sql)?.query_row([], |row| {
        let of = |status, at: usize| row.get(at).map(|count: u64| (status, count));
        let jobs =
            vec![of(job::Status::Scheduled, 0)?, of(job::Status::Queued, 1)?, of(job::Status::Running, 2)?];
        Ok(Gauges {
            jobs,
            oldest_queued_at: row.get::<_, Option<At>>(3)?.map(|at| at.0),
            paused_orgs: count("SELECT count(*) FROM org_limits WHERE paused_at IS NOT NULL")?,
            paused_app_versions: count("SELECT count(*) FROM paused_app_versions")?,
            ..Gauges::default()
        })
    })?;
    for device in all(c, rows::DEVICE, [], rows::device)? {
        let kind = (device.state, device.platform);
        match gauges.devices.iter_mut().find(|(state, platform, _)| (*state, *platform) == kind) {
            Some((_, _, count)) => *count += 1,
            None => gauges.devices.push((kind.0, kind.1, 1)),
        }
    }
    for agent in agents(c)? {
        match gauges.agents.iter_mut().find(|(state, _)| *state == agent.state) {
            Some((_, count)) => *count += 1,
            None => gauges.agents.push((agent.state, 1)),
        }
    }
    Ok(gauges)
}

pub(super) fn agents(c: &Connection) -> rusqlite::Result<Vec<agent::Agent>> {
    all(c, "SELECT * FROM agents ORDER BY name", [], rows::agent)
}

pub(super) fn devices(c: &Connection, scope: &Scope) -> rusqlite::Result<Vec<device::Device>> {
    let mut wanted = Where::default();
    wanted.and_seen("(d.serves IS NULL OR d.serves = ?)", scope);
    wanted.query(c, rows::DEVICE, "ORDER BY d.name, d.id", rows::device)
}

pub(super) fn app_versions(
    c: &Connection,
    scope: &Scope,
    before: Option<Listed>,
    limit: u32,
) -> rusqlite::Result<Vec<qgjob_core::model::build::AppVersion>> {
    let mut wanted = Where::default();
    wanted.and_seen("org_id = ?", scope);
    if let Some(Listed { created_at, org_id, app_version_id }) = before {
        wanted.and("(created_at, org_id, app_version_id) < (?, ?, ?)", At(created_at));
        wanted.params.push(Box::new(Word(org_id)));
        wanted.params.push(Box::new(Word(app_version_id)));
    }
    let rest = format!("ORDER BY created_at DESC, org_id DESC, app_version_id DESC LIMIT {limit}");
    wanted.query(c, "SELECT * FROM app_versions", &rest, super::library::app_version)
}

pub(super) fn artifact(
    c: &Connection,
    scope: &Scope,
    id: qgjob_core::model::artifact::Id,
) -> rusqlite::Result<Option<(qgjob_core::model::artifact::Artifact, OrgId)>> {
    let found = first(c, "SELECT * FROM artifacts WHERE id = ?1", [Bin(id.0)], |row| {
        Ok((rows::artifact(row)?, word::<OrgId>(row, "org_id")?))
    })?;
    Ok(found.filter(|(_, org)| scope.sees(org)))
}
