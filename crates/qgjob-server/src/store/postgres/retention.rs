//! Forgetting what has been over for long. One server at a time does it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use qgjob_core::model::{attempt, run};

use super::locks::FORGET;
use super::sweep::try_take;
use super::transaction::{Open, Verb, all, change};
use super::values::{At, Bin, bin, num, number};
use crate::store::Forgotten;
use crate::store::alike::KEY_KEPT;

/// What goes with runs, children before their parents.
const DELETE: [&str; 8] = [
    "DELETE FROM idempotency_keys WHERE (org_id, key) IN (SELECT org_id, idempotency_key FROM runs WHERE id = ANY($1))",
    "DELETE FROM tries WHERE attempt_id IN
        (SELECT a.id FROM jobs j JOIN attempts a ON a.job_id = j.id WHERE j.run_id = ANY($1))",
    "DELETE FROM artifacts WHERE job_id IN (SELECT id FROM jobs WHERE run_id = ANY($1))",
    "DELETE FROM attempts WHERE job_id IN (SELECT id FROM jobs WHERE run_id = ANY($1))",
    "DELETE FROM jobs WHERE run_id = ANY($1)",
    "DELETE FROM run_specs WHERE run_id = ANY($1)",
    "DELETE FROM events WHERE run_id = ANY($1)",
    "DELETE FROM runs WHERE id = ANY($1)",
];

pub(super) async fn forget(open: &Open, now: Timestamp, keep: Duration, most: u32) -> Verb<Forgotten> {
    let mut forgotten = Forgotten::default();
    // A key must find its run for as long as the key is remembered.
    let keep = SignedDuration::try_from(keep).unwrap_or(SignedDuration::MAX).max(KEY_KEPT);
    let Ok(before) = now.checked_sub(keep) else { return Ok(forgotten) };
    if !try_take(open, FORGET).await? {
        return Ok(forgotten);
    }
    let c = open.client()?;
    // A run is made before it is over, and ids sort by when they were made: the oldest are looked at, and no index is
    // needed. An attempt may outlive its run for a while, when that was cancelled.
    let sql = "SELECT id, total FROM runs WHERE id < $1 AND finished_at < $2
        AND id NOT IN (SELECT run_id FROM attempts WHERE ended_at IS NULL) ORDER BY id LIMIT $3";
    let oldest = Bin(run::Id::new(before, 0).0);
    let runs: Vec<(Bin, u32)> = all(c, sql, &[&oldest, &At(before), &num(most)], |row| {
        Ok((Bin(bin(row, "id")?), number(row, "total")?))
    })
    .await?;
    let mut ids = Vec::new();
    let mut jobs = 0;
    for (id, total) in runs {
        jobs += total;
        if jobs > most && !ids.is_empty() {
            break;
        }
        ids.push(id);
    }
    if !ids.is_empty() {
        let sql = "SELECT a.id FROM jobs j JOIN attempts a ON a.job_id = j.id WHERE j.run_id = ANY($1)";
        forgotten.attempts = all(c, sql, &[&ids], |row| Ok(attempt::Id(bin(row, "id")?))).await?;
        for sql in DELETE {
            change(c, sql, &[&ids]).await?;
        }
        forgotten.runs = ids.len() as u32;
    }
    // Those of devices and agents.
    let sql = "DELETE FROM events WHERE seq IN
        (SELECT seq FROM events WHERE run_id IS NULL AND at < $1 ORDER BY seq LIMIT $2)";
    change(c, sql, &[&At(before), &num(most)]).await?;
    Ok(forgotten)
}
