//! Limits: keeping them, and holding to them what starts. They are in memory beside the writer, and so is what runs, once
//! a limit asks for it: a claim without any limit pays for one look into a map.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::Arc;

use jiff::Timestamp;
use qgjob_core::model::event::Fact;
use qgjob_core::model::limits::{Limits, OrgChange, OrgLimits, USUAL_CONCURRENCY};
use qgjob_core::model::name::{AppVersionId, ConcurrencyGroup, OrgId};
use qgjob_core::model::{group, job};
use qgjob_core::queue::lifecycle;
use rusqlite::Connection;

use super::jobs;
use super::rows::{At, Bin, Word, json, opt_at, word};
use super::transaction::{About, Stop, Tx, Verb, all, not_found};
use crate::store::Scope;

/// What a claim must pass.
#[derive(Debug, Default)]
pub(super) struct Gate {
    pub limits: Arc<Limits>,
    running: Option<Running>,
}

/// Live attempts. A cancelled job counts until its device is clean, because until then its test may still run.
#[derive(Debug, Default)]
struct Running {
    of_org: HashMap<OrgId, u32>,
    of_name: HashMap<(OrgId, ConcurrencyGroup), u32>,
}

impl Running {
    fn count(&mut self, key: &group::Key, change: i32) {
        add(&mut self.of_org, key.org_id.clone(), change);
        if let Some(name) = &key.concurrency_group {
            add(&mut self.of_name, (key.org_id.clone(), name.clone()), change);
        }
    }
}

fn add<K: Eq + Hash>(counts: &mut HashMap<K, u32>, key: K, change: i32) {
    match counts.entry(key) {
        Entry::Vacant(count) => _ = count.insert(u32::try_from(change).unwrap_or(0)),
        Entry::Occupied(mut count) => {
            *count.get_mut() = count.get().saturating_add_signed(change);
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

impl Gate {
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        Ok(Self { limits: Arc::new(read(connection)?), running: None })
    }

    /// For one transaction, which gives it back when it is committed. What is left here holds if it is not.
    pub(super) fn lend(&mut self) -> Self {
        Self { limits: Arc::clone(&self.limits), running: self.running.take() }
    }

    /// Back to `limits`, after what was done since is undone.
    pub(super) fn go_back(&mut self, limits: Arc<Limits>) {
        *self = Self { limits, running: None };
    }
}

/// All limits.
pub(super) fn read(c: &Connection) -> rusqlite::Result<Limits> {
    let mut limits = Limits::default();
    let sql = "SELECT org_id, weight, max_running, paused_at FROM org_limits";
    for (org, own) in all(c, sql, [], |row| {
        let (weight, max_running) = (row.get("weight")?, row.get("max_running")?);
        let paused = opt_at(row, "paused_at")?.is_some();
        Ok((word::<OrgId>(row, "org_id")?, OrgLimits { weight, max_running, paused }))
    })? {
        limits.orgs.entry(org).or_default().org = own;
    }
    let sql = "SELECT org_id, app_version_id FROM paused_app_versions";
    for (org, app_version) in
        all(c, sql, [], |row| Ok((word::<OrgId>(row, "org_id")?, word(row, "app_version_id")?)))?
    {
        limits.orgs.entry(org).or_default().paused.insert(app_version);
    }
    let sql = "SELECT org_id, concurrency_group, most FROM concurrency_limits";
    for (org, name, most) in all(c, sql, [], |row| {
        Ok((word::<OrgId>(row, "org_id")?, word(row, "concurrency_group")?, row.get("most")?))
    })? {
        limits.orgs.entry(org).or_default().concurrency.insert(name, most);
    }
    Ok(limits)
}

/// Whether one more job of a group may start.
pub(super) fn may_start(tx: &mut Tx<'_>, key: &group::Key) -> Verb<bool> {
    let limits = Arc::clone(&tx.gate().limits);
    let org = limits.org(&key.org_id);
    if org.paused || limits.is_paused(&key.org_id, &key.app_version_id) {
        return Ok(false);
    }
    if org.max_running.is_none() && key.concurrency_group.is_none() {
        return Ok(true);
    }
    let running = running(tx)?;
    let of_org = running.of_org.get(&key.org_id).copied().unwrap_or(0);
    if org.max_running.is_some_and(|most| of_org >= most) {
        return Ok(false);
    }
    Ok(key.concurrency_group.as_ref().is_none_or(|name| {
        let of_name = running.of_name.get(&(key.org_id.clone(), name.clone())).copied().unwrap_or(0);
        of_name < limits.concurrency(&key.org_id, name)
    }))
}

fn running<'t>(tx: &'t mut Tx<'_>) -> Verb<&'t Running> {
    let connection = tx.connection();
    let running = &mut tx.gate().running;
    if running.is_none() {
        let sql =
            "SELECT g.key FROM attempts a JOIN jobs j ON j.id = a.job_id JOIN groups g ON g.id = j.group_id
            WHERE a.ended_at IS NULL";
        let mut counted = Running::default();
        for key in all(connection, sql, [], |row| json::<group::Key>(row, "key"))? {
            counted.count(&key, 1);
        }
        *running = Some(counted);
    }
    Ok(running.get_or_insert_default())
}

/// Notes that an attempt of a group began.
pub(super) fn started(tx: &mut Tx<'_>, key: &group::Key) {
    if let Some(running) = &mut tx.gate().running {
        running.count(key, 1);
    }
}

/// Notes that an attempt of a group ended.
pub(super) fn ended(tx: &mut Tx<'_>, group_id: group::Id) -> Verb<()> {
    if tx.gate().running.is_none() {
        return Ok(());
    }
    let key: Option<group::Key> =
        tx.first("SELECT key FROM groups WHERE id = ?1", [group_id], |row| json(row, "key"))?;
    let key = key.ok_or_else(|| Stop::Corrupt(format!("group {group_id} is missing")))?;
    if let Some(running) = &mut tx.gate().running {
        running.count(&key, -1);
    }
    Ok(())
}

/// Reads the limits anew after a change of theirs.
fn changed(tx: &mut Tx<'_>) -> Verb<()> {
    tx.gate().limits = Arc::new(read(tx.connection())?);
    Ok(())
}

fn about(org: &OrgId) -> About<'_> {
    About { org_id: Some(org), run_id: None, job_id: None }
}

pub(super) fn change_org(tx: &mut Tx<'_>, now: Timestamp, org: &OrgId, change: OrgChange) -> Verb<OrgLimits> {
    let before = tx.gate().limits.org(org);
    let limits = before.with(change);
    if limits == before {
        return Ok(limits);
    }
    if before.paused && !limits.paused {
        resume_org(tx, now, org)?;
    }
    if limits == OrgLimits::default() {
        tx.change("DELETE FROM org_limits WHERE org_id = ?1", [Word(org)])?;
    } else {
        let sql = "INSERT INTO org_limits (org_id, weight, max_running, paused_at) VALUES (?1, ?2, ?3, iif(?5, ?4, NULL))
            ON CONFLICT (org_id) DO UPDATE SET weight = excluded.weight, max_running = excluded.max_running,
            paused_at = iif(?5, coalesce(paused_at, ?4), NULL)";
        tx.change(sql, (Word(org), limits.weight, limits.max_running, At(now), limits.paused))?;
    }
    changed(tx)?;
    tx.tell(now, about(org), Fact::OrgChanged { limits });
    Ok(limits)
}

/// What a job waits for while it is paused is not a device, so that time is added to its deadline. Of two pauses at the
/// same time, the org's and an app version's, the one that ends first leaves what came before the other, or hands its
/// beginning over.
fn resume_org(tx: &Tx<'_>, now: Timestamp, org: &OrgId) -> Verb<()> {
    let sql = "UPDATE jobs SET queue_deadline = queue_deadline + ?2 - max(o.paused_at, queued_at), version = version + 1
        FROM org_limits o WHERE o.org_id = ?1 AND jobs.finished_at IS NULL AND jobs.status = 'queued' AND jobs.started_at IS NULL
        AND jobs.group_id IN (SELECT g.id FROM groups g WHERE g.org_id = ?1 AND NOT EXISTS
            (SELECT 1 FROM paused_app_versions p WHERE p.org_id = ?1 AND p.app_version_id = g.app_version_id))";
    tx.change(sql, (Word(org), At(now)))?;
    let sql = "UPDATE paused_app_versions SET paused_at = min(paused_app_versions.paused_at, o.paused_at) FROM org_limits o
        WHERE o.org_id = ?1 AND paused_app_versions.org_id = ?1";
    tx.change(sql, [Word(org)])?;
    Ok(())
}

fn resume_app_version(tx: &Tx<'_>, now: Timestamp, org: &OrgId, app_version: &AppVersionId) -> Verb<()> {
    let sql = "UPDATE jobs SET queue_deadline = queue_deadline + w.until - max(w.since, queued_at), version = version + 1
        FROM (SELECT p.paused_at AS since, coalesce(o.paused_at, ?3) AS until FROM paused_app_versions p
            LEFT JOIN org_limits o ON o.org_id = p.org_id WHERE p.org_id = ?1 AND p.app_version_id = ?2) w
        WHERE jobs.finished_at IS NULL AND jobs.status = 'queued' AND jobs.started_at IS NULL AND w.until > max(w.since, jobs.queued_at)
        AND jobs.group_id IN (SELECT id FROM groups WHERE org_id = ?1 AND app_version_id = ?2)";
    tx.change(sql, (Word(org), Word(app_version), At(now)))?;
    Ok(())
}

pub(super) fn set_app_version_paused(
    tx: &mut Tx<'_>,
    now: Timestamp,
    org: &OrgId,
    app_version: &AppVersionId,
    paused: bool,
) -> Verb<()> {
    if tx.gate().limits.is_paused(org, app_version) == paused {
        return Ok(());
    }
    let names = (Word(org), Word(app_version));
    if paused {
        let sql = "INSERT INTO paused_app_versions (org_id, app_version_id, paused_at) VALUES (?1, ?2, ?3)";
        tx.change(sql, (names.0, names.1, At(now)))?;
    } else {
        resume_app_version(tx, now, org, app_version)?;
        tx.change("DELETE FROM paused_app_versions WHERE org_id = ?1 AND app_version_id = ?2", names)?;
    }
    changed(tx)?;
    tx.tell(now, about(org), Fact::QueueChanged { app_version_id: app_version.clone(), paused });
    Ok(())
}

pub(super) fn set_concurrency_limit(
    tx: &mut Tx<'_>,
    now: Timestamp,
    org: &OrgId,
    name: &ConcurrencyGroup,
    limit: u32,
) -> Verb<()> {
    if tx.gate().limits.concurrency(org, name) == limit {
        return Ok(());
    }
    if limit == USUAL_CONCURRENCY {
        let sql = "DELETE FROM concurrency_limits WHERE org_id = ?1 AND concurrency_group = ?2";
        tx.change(sql, (Word(org), Word(name)))?;
    } else {
        let sql = "INSERT INTO concurrency_limits (org_id, concurrency_group, most) VALUES (?1, ?2, ?3)
            ON CONFLICT (org_id, concurrency_group) DO UPDATE SET most = excluded.most";
        tx.change(sql, (Word(org), Word(name), limit))?;
    }
    changed(tx)?;
    tx.tell(now, about(org), Fact::ConcurrencyChanged { concurrency_group: name.clone(), limit });
    Ok(())
}

pub(super) fn promote(tx: &mut Tx<'_>, now: Timestamp, scope: &Scope, id: job::Id) -> Verb<()> {
    let job = jobs::load(tx, id)?;
    if !scope.sees(&job.org_id) {
        return Err(not_found(format!("job {id}")));
    }
    lifecycle::may_promote(job.state.status)?;
    let sql = "UPDATE jobs SET promoted_at = ?2 WHERE id = ?1 AND promoted_at IS NULL";
    if tx.change(sql, (Bin(id.0), At(now)))? == 0 {
        return Ok(());
    }
    jobs::touch(tx, id, job.run_id)?;
    tx.tell(now, job.about(), Fact::JobPromoted { group_id: job.group_id });
    Ok(())
}
