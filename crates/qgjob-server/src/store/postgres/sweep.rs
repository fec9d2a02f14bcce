//! What happens because time passes. One server at a time does it; the others find the lock taken and leave it to that
//! one. What another transaction holds at the moment is left for the next sweep.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use qgjob_core::model::{agent, attempt, job};
use qgjob_core::queue::lifecycle::Command;
use qgjob_core::queue::verdict::Judgement;

use super::agents;
use super::attempts;
use super::jobs::{self, Because};
use super::lanes::Lanes;
use super::locks::{Lock, SWEEP};
use super::logins;
use super::needs::Needs;
use super::transaction::{Open, Param, Stop, Verb, all, change, first};
use super::values::{At, Num, bin, get};
use super::work::Work;
use crate::store::alike::KEY_KEPT;
use crate::store::{Result, Swept};

/// Most rows of a kind in one sweep, so that others do not wait for long; the next sweep takes the rest.
const MOST: Num = Num(1000);

/// Takes a lock for the transaction, unless another server has it.
pub(super) async fn try_take(open: &Open, lock: Lock) -> Verb<bool> {
    let sql = "SELECT pg_try_advisory_xact_lock($1) AS taken";
    let taken = first(open.client()?, sql, &[&Num(lock)], |row| get(row, "taken")).await?;
    Ok(taken.unwrap_or(false))
}

pub(super) async fn sweep(
    lanes: &Lanes,
    now: Timestamp,
    grace: Duration,
    silent: Duration,
    random: u128,
) -> Result<Swept> {
    let (grace, silent) = (before(now, grace)?, before(now, silent)?);
    // Each kind in a transaction of its own: what they lock, they lock in the order that all keep to.
    let leases_expired =
        lanes.alone(move |open, work| Box::pin(end_attempts(open, work, now, grace, random))).await?;
    let (deadlines_missed, became_due) =
        lanes.alone(move |open, work| Box::pin(move_jobs(open, work, now, random))).await?;
    let agents_gone = lanes.alone(move |open, work| Box::pin(silence(open, work, now, silent))).await?;
    lanes.alone(move |open, _| Box::pin(forget_used(open, now))).await?;
    Ok(Swept { leases_expired, deadlines_missed, became_due, agents_gone })
}

/// Ids that a statement finds, which locks what is free.
async fn found(open: &Open, sql: &str, params: &[Param<'_>]) -> Verb<Vec<u128>> {
    all(open.client()?, &format!("{sql} FOR UPDATE SKIP LOCKED"), params, |row| bin(row, "id")).await
}

/// Leases that ran out, and attempts that outlived their timeout.
async fn end_attempts(
    open: &Open,
    work: &mut Work,
    now: Timestamp,
    overdue: Timestamp,
    random: u128,
) -> Verb<u32> {
    if !try_take(open, SWEEP).await? {
        return Ok(0);
    }
    let sql =
        "SELECT id FROM attempts WHERE ended_at IS NULL AND lease_until <= $1 ORDER BY lease_until LIMIT $2";
    let expired: Vec<_> = found(open, sql, &[&At(now), &MOST]).await?.into_iter().map(attempt::Id).collect();
    let sql =
        "SELECT id FROM attempts WHERE ended_at IS NULL AND timeout_at <= $1 ORDER BY timeout_at LIMIT $2";
    let overdue: Vec<_> =
        found(open, sql, &[&At(overdue), &MOST]).await?.into_iter().map(attempt::Id).collect();
    let worked = expired.iter().chain(&overdue).copied().collect();
    Needs { worked, ..Needs::default() }.load(open.client()?, work).await?;
    let leases_expired = attempts::end_all(work, now, &expired, &Judgement::lost(), random)?;
    attempts::end_all(work, now, &overdue, &Judgement::overdue(), random)?;
    Ok(leases_expired)
}

/// Jobs that gave up waiting, and those that became due.
async fn move_jobs(open: &Open, work: &mut Work, now: Timestamp, random: u128) -> Verb<(u32, u32)> {
    if !try_take(open, SWEEP).await? {
        return Ok((0, 0));
    }
    // The deadline of what is paused is moved when it is resumed.
    let sql = "SELECT id FROM jobs WHERE started_at IS NULL AND finished_at IS NULL AND queue_deadline <= $1
        AND NOT (status = 'queued' AND EXISTS (SELECT 1 FROM groups g
            LEFT JOIN org_limits o ON o.org_id = g.org_id
            LEFT JOIN paused_app_versions p ON p.org_id = g.org_id AND p.app_version_id = g.app_version_id
            WHERE g.id = group_id AND (o.paused_at IS NOT NULL OR p.paused_at IS NOT NULL)))
        ORDER BY queue_deadline LIMIT $2";
    let late: Vec<_> = found(open, sql, &[&At(now), &MOST]).await?.into_iter().map(job::Id).collect();
    let sql = "SELECT id FROM jobs WHERE status = 'scheduled' AND not_before <= $1
        ORDER BY not_before, ordinal LIMIT $2";
    let due: Vec<_> = found(open, sql, &[&At(now), &MOST]).await?.into_iter().map(job::Id).collect();
    let jobs = late.iter().chain(&due).copied().collect();
    Needs { jobs, ..Needs::default() }.load(open.client()?, work).await?;
    for id in &late {
        let row = jobs::load(work, *id)?;
        jobs::answer(work, now, &row, Command::GiveUpWaiting, Because::default(), random)?;
    }
    let mut became_due = 0;
    for id in due.iter().filter(|id| !late.contains(id)) {
        let row = jobs::load(work, *id)?;
        jobs::answer(work, now, &row, Command::Due, Because::default(), random)?;
        became_due += 1;
    }
    Ok((late.len() as u32, became_due))
}

async fn silence(open: &Open, work: &mut Work, now: Timestamp, since: Timestamp) -> Verb<u32> {
    if !try_take(open, SWEEP).await? {
        return Ok(0);
    }
    let sql = "SELECT id FROM agents WHERE online AND seen_at < $1 ORDER BY id LIMIT $2";
    let silent = found(open, sql, &[&At(since), &MOST]).await?;
    let mut needs = Needs::default();
    agents::silent_needs(silent.into_iter().map(agent::Id), &mut needs);
    needs.load(open.client()?, work).await?;
    agents::silence(work, now, since)
}

async fn forget_used(open: &Open, now: Timestamp) -> Verb<()> {
    if !try_take(open, SWEEP).await? {
        return Ok(());
    }
    let sql = "DELETE FROM idempotency_keys WHERE (org_id, key) IN
        (SELECT org_id, key FROM idempotency_keys WHERE created_at <= $1 ORDER BY created_at LIMIT $2)";
    change(open.client()?, sql, &[&At(now - KEY_KEPT), &MOST]).await?;
    logins::forget(open.client()?, now, MOST).await
}

fn before(now: Timestamp, while_ago: Duration) -> Verb<Timestamp> {
    let at = SignedDuration::try_from(while_ago).ok().and_then(|while_ago| now.checked_sub(while_ago).ok());
    at.ok_or_else(|| Stop::Corrupt("a time before the calendar's begin".to_owned()))
}
