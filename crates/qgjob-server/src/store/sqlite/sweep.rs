//! What happens because time passes.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use qgjob_core::queue::lifecycle::Command;
use qgjob_core::queue::verdict::Judgement;

use super::jobs::{self, Because};
use super::rows::At;
use super::transaction::{Stop, Tx, Verb};
use super::{agents, attempts, logins};
use crate::store::Swept;
use crate::store::alike::KEY_KEPT;

/// Most rows of a kind in one sweep, so that others do not wait for long; the next sweep takes the rest.
const MOST: u32 = 1000;

pub(super) fn sweep(
    tx: &mut Tx<'_>,
    now: Timestamp,
    grace: Duration,
    silent: Duration,
    random: u128,
) -> Verb<Swept> {
    let sql = attempts::select("WHERE ended_at IS NULL AND lease_until <= ?1 ORDER BY lease_until LIMIT ?2");
    let expired = tx.all(&sql, (At(now), MOST), attempts::read)?;
    let leases_expired = attempts::end_all(tx, now, expired, &Judgement::lost(), random)?;

    let sql = attempts::select("WHERE ended_at IS NULL AND timeout_at <= ?1 ORDER BY timeout_at LIMIT ?2");
    let overdue = tx.all(&sql, (At(before(now, grace)?), MOST), attempts::read)?;
    attempts::end_all(tx, now, overdue, &Judgement::overdue(), random)?;

    // The deadline of what is paused is moved when it is resumed.
    let rests = match tx.gate().limits.pauses_something() {
        true => {
            "AND NOT (status = 'queued' AND EXISTS (SELECT 1 FROM groups g
                LEFT JOIN org_limits o ON o.org_id = g.org_id
                LEFT JOIN paused_app_versions p ON p.org_id = g.org_id AND p.app_version_id = g.app_version_id
                WHERE g.id = group_id AND (o.paused_at IS NOT NULL OR p.paused_at IS NOT NULL)))"
        }
        false => "",
    };
    let sql = jobs::select(&format!(
        "WHERE started_at IS NULL AND finished_at IS NULL AND queue_deadline <= ?1 {rests}
            ORDER BY queue_deadline LIMIT ?2"
    ));
    let late = tx.all(&sql, (At(now), MOST), jobs::read)?;
    for job in &late {
        jobs::answer(tx, now, job, Command::GiveUpWaiting, Because::default(), random)?;
    }

    let sql =
        jobs::select("WHERE status = 'scheduled' AND not_before <= ?1 ORDER BY not_before, ordinal LIMIT ?2");
    let due = tx.all(&sql, (At(now), MOST), jobs::read)?;
    for job in &due {
        jobs::answer(tx, now, job, Command::Due, Because::default(), random)?;
    }

    let agents_gone = agents::silence(tx, now, before(now, silent)?)?;
    let sql = "DELETE FROM idempotency_keys WHERE (org_id, key) IN
        (SELECT org_id, key FROM idempotency_keys WHERE created_at <= ?1 ORDER BY created_at LIMIT ?2)";
    tx.change(sql, (At(now - KEY_KEPT), MOST))?;
    logins::forget(tx, now, MOST)?;
    Ok(Swept {
        leases_expired,
        deadlines_missed: late.len() as u32,
        became_due: due.len() as u32,
        agents_gone,
    })
}

fn before(now: Timestamp, while_ago: Duration) -> Verb<Timestamp> {
    let at = SignedDuration::try_from(while_ago).ok().and_then(|while_ago| now.checked_sub(while_ago).ok());
    at.ok_or_else(|| Stop::Corrupt("a time before the calendar's begin".to_owned()))
}
