//! What a run's jobs left: their tests and their files, in pages.

mod carried;

use std::collections::{HashMap, VecDeque};

use deadpool_postgres::Object;
use qgjob_core::api::results::{Seen, TestView};
use qgjob_core::model::artifact::{self, Artifact};
use qgjob_core::model::job::Job;
use qgjob_core::model::test_result::Try;
use qgjob_core::model::{attempt, job, run};

use super::rows;
use super::transaction::{Verb, all};
use super::values::{Bin, bin, get, json, num, number, opt_bin, opt_json};
use crate::store::Unpassed;
use crate::store::carried::Source;

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
    let is_own = match after {
        Some((job, _)) => carried::is_of(c, job, run).await?,
        None => true,
    };
    let own = if is_own { attempts(c, run, after.map(|(job, _)| job)).await? } else { Vec::new() };
    let shown =
        |test: &TestView| after.is_some_and(|(job, seq)| test.job_id == job && test.first_seq() <= seq);
    let mut found = Vec::new();
    let mut sources: VecDeque<Source> = own.into_iter().map(Source::own).collect();
    let mut has_more = true;
    while found.len() < limit as usize {
        if sources.is_empty() {
            if !std::mem::take(&mut has_more) {
                break;
            }
            let from = after.filter(|_| !is_own).map(|(job, _)| job);
            sources.extend(carried::sources(c, run, from).await?);
            continue;
        }
        let some: Vec<Source> = sources.drain(..ATTEMPTS.min(sources.len())).collect();
        let needed: Vec<_> = some.iter().flat_map(Source::attempts).collect();
        let tries = tries(c, &needed).await?;
        for source in some {
            found.extend(source.tests(&tries).into_iter().filter(|test| !shown(test)));
        }
    }
    found.truncate(limit as usize);
    Ok(found)
}

/// The tries of attempts, in the order they ended.
async fn tries(c: &Object, attempts: &[attempt::Id]) -> Verb<HashMap<attempt::Id, Vec<Try>>> {
    let ids: Vec<Bin> = attempts.iter().map(|id| Bin(id.0)).collect();
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

/// What a rerun is made from.
pub(super) async fn unpassed(c: &Object, run: run::Id) -> Verb<Vec<Unpassed>> {
    let sql = format!(
        "{} WHERE j.run_id = $1 AND j.conclusion NOT IN ('passed', 'skipped') ORDER BY j.ordinal",
        rows::JOB
    );
    let jobs: Vec<(Job, _, Option<attempt::Id>)> = all(c, &sql, &[&Bin(run.0)], |row| {
        Ok((rows::job(row)?, opt_json(row, "rerun")?, opt_bin(row, "attempt_id")?.map(attempt::Id)))
    })
    .await?;
    let needed: Vec<attempt::Id> = jobs.iter().filter_map(|(_, _, attempt)| *attempt).collect();
    let mut tries = tries(c, &needed).await?;
    let with_tries = jobs.into_iter().map(|(job, kept, attempt)| {
        let tries = attempt.and_then(|attempt| tries.remove(&attempt)).unwrap_or_default();
        Unpassed { job, kept, tries }
    });
    Ok(with_tries.collect())
}
