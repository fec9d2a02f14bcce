//! What a run's jobs left: their tests and their files, in pages.

mod carried;

use std::collections::{HashMap, VecDeque};

use qgjob_core::api::results::{Seen, TestView};
use qgjob_core::model::artifact::{self, Artifact};
use qgjob_core::model::test_result::Try;
use qgjob_core::model::{attempt, job, run};
use rusqlite::Connection;

use super::jobs::OF_RUN;
use super::rows::{self, Bin, bin, json};
use super::transaction::all;
use crate::store::carried::Source;

/// The attempts that count, from the job `from` on. An attempt that ended without its job was lost or failed for reasons of
/// the infrastructure: another is to come.
fn attempts(c: &Connection, run: run::Id, from: Option<job::Id>) -> rusqlite::Result<Vec<Seen>> {
    let sql = format!(
        "SELECT j.id AS job_id, a.id, a.number, a.device_name FROM jobs j JOIN attempts a ON a.id = j.attempt_id
        WHERE {OF_RUN} AND (a.ended_at IS NULL OR j.status = 'completed')
        AND (?2 IS NULL OR j.ordinal >= (SELECT ordinal FROM jobs WHERE id = ?2)) ORDER BY j.ordinal"
    );
    all(c, &sql, (Bin(run.0), from.map(|id| Bin(id.0))), |row| {
        Ok(Seen {
            job_id: job::Id(bin(row, "job_id")?),
            attempt_id: attempt::Id(bin(row, "id")?),
            attempt: row.get("number")?,
            device_name: row.get("device_name")?,
        })
    })
}

/// Reads the tries of no more attempts than the page needs.
pub(super) fn tests(
    c: &Connection,
    run: run::Id,
    after: Option<(job::Id, u32)>,
    limit: u32,
) -> rusqlite::Result<Vec<TestView>> {
    let mut found = Vec::new();
    let is_own = match after {
        Some((job, _)) => carried::is_of(c, job, run)?,
        None => true,
    };
    let own = if is_own { attempts(c, run, after.map(|(job, _)| job))? } else { Vec::new() };
    let mut sources: VecDeque<Source> = own.into_iter().map(Source::own).collect();
    let mut has_more = true;
    while found.len() < limit as usize {
        let Some(source) = sources.pop_front() else {
            if !std::mem::take(&mut has_more) {
                break;
            }
            sources.extend(carried::sources(c, run, after.filter(|_| !is_own).map(|(job, _)| job))?);
            continue;
        };
        let tries: rusqlite::Result<HashMap<_, _>> =
            source.attempts().map(|attempt| Ok((attempt, tries(c, attempt)?))).collect();
        let tests = source.tests(&tries?);
        let shown =
            |test: &TestView| after.is_some_and(|(job, seq)| test.job_id == job && test.first_seq() <= seq);
        found.extend(tests.into_iter().filter(|test| !shown(test)));
    }
    found.truncate(limit as usize);
    Ok(found)
}

fn tries(c: &Connection, attempt: attempt::Id) -> rusqlite::Result<Vec<Try>> {
    let sql = "SELECT body FROM tries WHERE attempt_id = ?1 ORDER BY seq";
    all(c, sql, [Bin(attempt.0)], |row| json(row, "body"))
}

pub(super) fn artifacts(
    c: &Connection,
    run: run::Id,
    after: Option<artifact::Id>,
    limit: u32,
) -> rusqlite::Result<Vec<Artifact>> {
    let sql = format!(
        "SELECT * FROM artifacts WHERE job_id IN (SELECT id FROM jobs WHERE {OF_RUN}) AND (?2 IS NULL OR id > ?2)
        ORDER BY id LIMIT ?3"
    );
    all(c, &sql, (Bin(run.0), after.map(|id| Bin(id.0)), limit), rows::artifact)
}
