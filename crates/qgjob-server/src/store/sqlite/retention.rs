//! Forgetting what has been over for long.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use qgjob_core::model::{attempt, run};

use super::jobs::OF_RUN;
use super::rows::{At, Bin, bin};
use super::transaction::{Tx, Verb};
use crate::store::Forgotten;
use crate::store::alike::KEY_KEPT;

/// Deletes what goes with a run, children before their parents, and the run.
fn delete(tx: &Tx<'_>, id: run::Id) -> Verb<()> {
    let key = "DELETE FROM idempotency_keys WHERE (org_id, key) IN
        (SELECT org_id, idempotency_key FROM runs WHERE id = ?1)";
    let tries = format!("DELETE FROM tries WHERE attempt_id IN ({})", attempts());
    let artifacts = format!("DELETE FROM artifacts WHERE job_id IN (SELECT id FROM jobs WHERE {OF_RUN})");
    let attempts = format!("DELETE FROM attempts WHERE job_id IN (SELECT id FROM jobs WHERE {OF_RUN})");
    let jobs = format!("DELETE FROM jobs WHERE {OF_RUN}");
    let spec = "DELETE FROM run_specs WHERE run_id = ?1";
    let events = "DELETE FROM events WHERE run_id = ?1";
    let run = "DELETE FROM runs WHERE id = ?1";
    for sql in [key, &tries, &artifacts, &attempts, &jobs, spec, events, run] {
        tx.change(sql, [Bin(id.0)])?;
    }
    Ok(())
}

/// Selects the ids of a run's attempts.
fn attempts() -> String {
    format!("SELECT a.id FROM jobs j JOIN attempts a ON a.job_id = j.id WHERE {OF_RUN}")
}

pub(super) fn forget(tx: &mut Tx<'_>, now: Timestamp, keep: Duration, most: u32) -> Verb<Forgotten> {
    let mut forgotten = Forgotten::default();
    // A key must find its run for as long as the key is remembered.
    let keep = SignedDuration::try_from(keep).unwrap_or(SignedDuration::MAX).max(KEY_KEPT);
    let Ok(before) = now.checked_sub(keep) else { return Ok(forgotten) };
    // A run is made before it is over, and ids sort by when they were made: the oldest are looked at, and no index is
    // needed. An attempt may outlive its run for a while, when that was cancelled.
    let sql = "SELECT id, total FROM runs WHERE id < ?1 AND finished_at < ?2
        AND id NOT IN (SELECT run_id FROM attempts WHERE ended_at IS NULL) ORDER BY id LIMIT ?3";
    let oldest = Bin(run::Id::new(before, 0).0);
    let runs: Vec<(run::Id, u32)> =
        tx.all(sql, (oldest, At(before), most), |row| Ok((run::Id(bin(row, "id")?), row.get("total")?)))?;
    let mut jobs = 0;
    for (id, total) in runs {
        jobs += total;
        if jobs > most && forgotten.runs > 0 {
            break;
        }
        forgotten.attempts.extend(tx.all(&attempts(), [Bin(id.0)], |row| Ok(attempt::Id(bin(row, "id")?)))?);
        delete(tx, id)?;
        forgotten.runs += 1;
    }
    // Those of devices and agents.
    let sql = "DELETE FROM events WHERE seq IN
        (SELECT seq FROM events WHERE run_id IS NULL AND at < ?1 ORDER BY seq LIMIT ?2)";
    tx.change(sql, (At(before), most))?;
    Ok(forgotten)
}
