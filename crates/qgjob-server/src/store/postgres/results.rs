//! What a run's jobs left: their tests and their files, in pages.

use std::collections::HashMap;

use deadpool_postgres::Object;
use qgjob_core::api::results::{Seen, TestView};
use qgjob_core::model::artifact::{self, Artifact};
use qgjob_core::model::test_result::Try;
use qgjob_core::model::{attempt, job, run};

use super::rows;
use super::transaction::{Verb, all};
use super::values::{Bin, bin, get, json, num, number};

/// Attempts whose tries are read at once.
const ATTEMPTS: usize = 50;

/// The attempts that count, from the job `from` on. An attempt that ended without its job was lost or failed for reasons of
/// the infrastructure: another is to come.
async fn attempts(c: &Object, run: run::Id, from: Option<job::Id>) -> Verb<Vec<Seen>> {
    let sql = "SELECT j.id AS job_id, a.id, a.number, a.device_name FROM jobs j JOIN attempts a ON a.id = j.attempt_id
        WHERE j.run_id = $1 AND (a.ended_at IS NULL OR j.status = 'completed')
        AND ($2::uuid IS NULL OR j.ordinal >= (SELECT ordinal FROM jobs WHERE id = $2)) ORDER BY j.ordinal";
    let from = from.map(|id| Bin(id.0));
    all(c, sql, &[&Bin(run.0), &from], |row| {
        Ok(Seen {
            job_id: job::Id(bin(row, "job_id")?),
            attempt_id: attempt::Id(bin(row, "id")?),
            attempt: number(row, "number")?,
            device_name: get(row, "device_name")?,
        })
    })
    .await
}

/// Reads the tries of few more attempts than the page needs.
pub(super) async fn tests(
    c: &Object,
    run: run::Id,
    after: Option<(job::Id, u32)>,
    limit: u32,
) -> Verb<Vec<TestView>> {
    let shown =
        |test: &TestView| after.is_some_and(|(job, seq)| test.job_id == job && test.first_seq() <= seq);
    let mut found = Vec::new();
    for some in attempts(c, run, after.map(|(job, _)| job)).await?.chunks(ATTEMPTS) {
        let mut tries = tries(c, some).await?;
        for seen in some {
            let tries = tries.remove(&seen.attempt_id).unwrap_or_default();
            found.extend(TestView::of_attempt(seen, tries).into_iter().filter(|test| !shown(test)));
        }
        if found.len() >= limit as usize {
            found.truncate(limit as usize);
            break;
        }
    }
    Ok(found)
}

async fn tries(c: &Object, attempts: &[Seen]) -> Verb<HashMap<attempt::Id, Vec<Try>>> {
    let ids: Vec<Bin> = attempts.iter().map(|seen| Bin(seen.attempt_id.0)).collect();
    let sql = "SELECT attempt_id, body FROM tries WHERE attempt_id = ANY($1) ORDER BY attempt_id, seq";
    let rows =
        all(c, sql, &[&ids], |row| Ok((attempt::Id(bin(row, "attempt_id")?), json(row, "body")?))).await?;
    let mut tries: HashMap<attempt::Id, Vec<Try>> = HashMap::new();
    for (attempt, one) in rows {
        tries.entry(attempt).or_default().push(one);
    }
    Ok(tries)
}

pub(super) async fn artifacts(
    c: &Object,
    run: run::Id,
    after: Option<artifact::Id>,
    limit: u32,
) -> Verb<Vec<Artifact>> {
    let sql = "SELECT * FROM artifacts WHERE job_id IN (SELECT id FROM jobs WHERE run_id = $1)
        AND ($2::uuid IS NULL OR id > $2) ORDER BY id LIMIT $3";
    let after = after.map(|id| Bin(id.0));
    all(c, sql, &[&Bin(run.0), &after, &num(limit)], rows::artifact).await
}
