//! Limits: keeping them, and holding to them what starts. Claims hold the lock of their org's limits together, whoever
//! changes them holds it alone; a claim that counts what runs holds what it counts alone.

use std::collections::BTreeSet;

use deadpool_postgres::Object;
use jiff::Timestamp;
use qgjob_core::model::event::Fact;
use qgjob_core::model::limits::{Limits, OrgChange, OrgLimits, USUAL_CONCURRENCY};
use qgjob_core::model::name::{AppVersionId, ConcurrencyGroup, OrgId};
use qgjob_core::model::{group, job};
use qgjob_core::queue::lifecycle;

use super::jobs;
use super::locks;
use super::needs::take;
use super::rows::AttemptRow;
use super::transaction::{Open, Param, Verb, all, change, not_found};
use super::values::{At, Word, num, number, opt_at, opt_number, word};
use super::work::{About, Work};
use crate::store::Scope;

/// The limits of these orgs, or of all.
pub(super) async fn read_of(c: &Object, orgs: Option<&Vec<Word<OrgId>>>) -> Verb<Limits> {
    let mut limits = Limits::default();
    let (wanted, params): (_, Vec<Param<'_>>) = match &orgs {
        Some(orgs) => ("WHERE org_id = ANY($1)", vec![*orgs]),
        None => ("", vec![]),
    };
    let sql = format!("SELECT org_id, weight, max_running, paused_at FROM org_limits {wanted}");
    let found = all(c, &sql, &params, |row| {
        let paused = opt_at(row, "paused_at")?.is_some();
        let own = OrgLimits {
            weight: number(row, "weight")?,
            max_running: opt_number(row, "max_running")?,
            paused,
        };
        Ok((word::<OrgId>(row, "org_id")?, own))
    })
    .await?;
    for (org, own) in found {
        limits.orgs.entry(org).or_default().org = own;
    }
    let sql = format!("SELECT org_id, app_version_id FROM paused_app_versions {wanted}");
    let found =
        all(c, &sql, &params, |row| Ok((word::<OrgId>(row, "org_id")?, word(row, "app_version_id")?)))
            .await?;
    for (org, app_version) in found {
        limits.orgs.entry(org).or_default().paused.insert(app_version);
    }
    let sql = format!("SELECT org_id, concurrency_group, most FROM concurrency_limits {wanted}");
    let found = all(c, &sql, &params, |row| {
        Ok((word::<OrgId>(row, "org_id")?, word(row, "concurrency_group")?, number(row, "most")?))
    })
    .await?;
    for (org, name, most) in found {
        limits.orgs.entry(org).or_default().concurrency.insert(name, most);
    }
    Ok(limits)
}

/// Whether one more job of a group may start.
pub(super) fn may_start(work: &Work, key: &group::Key) -> bool {
    let org = work.limits.org(&key.org_id);
    if org.paused || work.limits.is_paused(&key.org_id, &key.app_version_id) {
        return false;
    }
    let of_org: u32 =
        work.running.iter().filter(|((own, _), _)| *own == key.org_id).map(|(_, live)| *live).sum();
    if org.max_running.is_some_and(|most| of_org >= most) {
        return false;
    }
    key.concurrency_group.as_ref().is_none_or(|name| {
        let of_name = work.running.get(&(key.org_id.clone(), Some(name.clone()))).copied().unwrap_or(0);
        of_name < work.limits.concurrency(&key.org_id, name)
    })
}

/// Notes that an attempt of a group began.
pub(super) fn started(work: &mut Work, key: &group::Key) {
    let key = (key.org_id.clone(), key.concurrency_group.clone());
    match work.running.change(&key) {
        Some(live) => *live += 1,
        None => work.running.add(key, 1),
    }
}

/// Notes that an attempt ended.
pub(super) fn ended(work: &mut Work, row: &AttemptRow) {
    if let Some(live) = work.running.change(&(row.org_id.clone(), row.concurrency_group.clone())) {
        *live = live.saturating_sub(1);
    }
}

/// Locks an org's limits alone, and reads them.
async fn own(open: &Open, org: &OrgId) -> Verb<Limits> {
    let c = open.client()?;
    take(c, &BTreeSet::from([(locks::limits(org), false)])).await?;
    read_of(c, Some(&vec![Word(org.clone())])).await
}

pub(super) async fn change_org(
    open: &Open,
    work: &mut Work,
    now: Timestamp,
    org: &OrgId,
    asked: OrgChange,
) -> Verb<OrgLimits> {
    let before = own(open, org).await?.org(org);
    let limits = before.with(asked);
    if limits == before {
        return Ok(limits);
    }
    let c = open.client()?;
    if before.paused && !limits.paused {
        resume_org(c, now, org).await?;
    }
    if limits == OrgLimits::default() {
        change(c, "DELETE FROM org_limits WHERE org_id = $1", &[&Word(org)]).await?;
    } else {
        let sql = "INSERT INTO org_limits AS o (org_id, weight, max_running, paused_at) VALUES ($1, $2, $3, $4)
            ON CONFLICT (org_id) DO UPDATE SET weight = excluded.weight, max_running = excluded.max_running,
            paused_at = CASE WHEN excluded.paused_at IS NULL THEN NULL ELSE coalesce(o.paused_at, excluded.paused_at) END";
        let (max_running, paused_at) = (limits.max_running.map(num), limits.paused.then_some(At(now)));
        change(c, sql, &[&Word(org), &num(limits.weight), &max_running, &paused_at]).await?;
    }
    work.tell(now, About::org(Some(org)), Fact::OrgChanged { limits });
    Ok(limits)
}

/// The waiting jobs of an org, of one of its app versions or of those that are not paused, locked in the order of their
/// ids.
const WAITING: &str =
    "SELECT id FROM jobs WHERE finished_at IS NULL AND status = 'queued' AND started_at IS NULL";

/// What a job waits for while it is paused is not a device, so that time is added to its deadline. Of two pauses at the
/// same time, the org's and an app version's, the one that ends first leaves what came before the other, or hands its
/// beginning over.
async fn resume_org(c: &Object, now: Timestamp, org: &OrgId) -> Verb<()> {
    let sql = format!(
        "WITH own AS ({WAITING} AND group_id IN (SELECT g.id FROM groups g WHERE g.org_id = $1 AND NOT EXISTS
            (SELECT 1 FROM paused_app_versions p WHERE p.org_id = $1 AND p.app_version_id = g.app_version_id))
            ORDER BY id FOR UPDATE)
        UPDATE jobs SET queue_deadline = queue_deadline + $2 - greatest(o.paused_at, queued_at), version = version + 1
        FROM org_limits o WHERE o.org_id = $1 AND jobs.id IN (SELECT id FROM own)"
    );
    change(c, &sql, &[&Word(org), &At(now)]).await?;
    let sql = "UPDATE paused_app_versions p SET paused_at = least(p.paused_at, o.paused_at) FROM org_limits o
        WHERE o.org_id = $1 AND p.org_id = $1";
    change(c, sql, &[&Word(org)]).await.map(|_| ())
}

async fn resume_app_version(c: &Object, now: Timestamp, org: &OrgId, app_version: &AppVersionId) -> Verb<()> {
    let sql = format!(
        "WITH own AS ({WAITING} AND group_id IN (SELECT id FROM groups WHERE org_id = $1 AND app_version_id = $2)
            ORDER BY id FOR UPDATE)
        UPDATE jobs SET queue_deadline = queue_deadline + w.until - greatest(w.since, queued_at), version = version + 1
        FROM (SELECT p.paused_at AS since, coalesce(o.paused_at, $3) AS until FROM paused_app_versions p
            LEFT JOIN org_limits o ON o.org_id = p.org_id WHERE p.org_id = $1 AND p.app_version_id = $2) w
        WHERE jobs.id IN (SELECT id FROM own) AND w.until > greatest(w.since, jobs.queued_at)"
    );
    change(c, &sql, &[&Word(org), &Word(app_version), &At(now)]).await.map(|_| ())
}

pub(super) async fn set_app_version_paused(
    open: &Open,
    work: &mut Work,
    now: Timestamp,
    org: &OrgId,
    app_version: &AppVersionId,
    paused: bool,
) -> Verb<()> {
    if own(open, org).await?.is_paused(org, app_version) == paused {
        return Ok(());
    }
    let c = open.client()?;
    if paused {
        let sql = "INSERT INTO paused_app_versions (org_id, app_version_id, paused_at) VALUES ($1, $2, $3)";
        change(c, sql, &[&Word(org), &Word(app_version), &At(now)]).await?;
    } else {
        resume_app_version(c, now, org, app_version).await?;
        let sql = "DELETE FROM paused_app_versions WHERE org_id = $1 AND app_version_id = $2";
        change(c, sql, &[&Word(org), &Word(app_version)]).await?;
    }
    let fact = Fact::QueueChanged { app_version_id: app_version.clone(), paused };
    work.tell(now, About::org(Some(org)), fact);
    Ok(())
}

pub(super) async fn set_concurrency_limit(
    open: &Open,
    work: &mut Work,
    now: Timestamp,
    org: &OrgId,
    name: &ConcurrencyGroup,
    limit: u32,
) -> Verb<()> {
    if own(open, org).await?.concurrency(org, name) == limit {
        return Ok(());
    }
    let c = open.client()?;
    if limit == USUAL_CONCURRENCY {
        let sql = "DELETE FROM concurrency_limits WHERE org_id = $1 AND concurrency_group = $2";
        change(c, sql, &[&Word(org), &Word(name)]).await?;
    } else {
        let sql = "INSERT INTO concurrency_limits (org_id, concurrency_group, most) VALUES ($1, $2, $3)
            ON CONFLICT (org_id, concurrency_group) DO UPDATE SET most = excluded.most";
        change(c, sql, &[&Word(org), &Word(name), &num(limit)]).await?;
    }
    let fact = Fact::ConcurrencyChanged { concurrency_group: name.clone(), limit };
    work.tell(now, About::org(Some(org)), fact);
    Ok(())
}

pub(super) fn promote(work: &mut Work, now: Timestamp, scope: &Scope, id: job::Id) -> Verb<()> {
    let row = jobs::load(work, id)?;
    if !scope.sees(&row.job.org_id) {
        return Err(not_found(format!("job {id}")));
    }
    lifecycle::may_promote(row.job.status)?;
    if row.job.promoted_at.is_some() {
        return Ok(());
    }
    jobs::change(work, id)?.job.promoted_at = Some(now);
    jobs::touch(work, id, row.job.run_id)?;
    work.tell(now, row.about(), Fact::JobPromoted { group_id: row.group_id });
    Ok(())
}
