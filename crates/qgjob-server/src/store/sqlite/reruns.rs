//! What a rerun is made from, and what becomes of it.

use qgjob_core::model::run;
use qgjob_core::model::test_result::{Counts, Try};
use rusqlite::Connection;

use super::rows::{self, Bin, Json, json};
use super::transaction::{Stop, Tx, Verb, all};
use crate::store::Unpassed;

pub(super) fn unpassed(c: &Connection, run: run::Id) -> rusqlite::Result<Vec<Unpassed>> {
    let sql = format!(
        "{} WHERE r.id = ?1 AND j.conclusion NOT IN ('passed', 'skipped') ORDER BY j.ordinal",
        rows::JOBS
    );
    let jobs = all(c, &sql, [Bin(run.0)], |row| {
        let kept = row.get::<_, Option<Json<_>>>("rerun")?.map(|kept| kept.0);
        Ok((rows::job(row)?, kept, row.get::<_, Option<Bin>>("attempt_id")?))
    })?;
    let with_tries = jobs.into_iter().map(|(job, kept, attempt)| {
        let sql = "SELECT body FROM tries WHERE attempt_id = ?1 ORDER BY seq";
        let tries = all(c, sql, [attempt], |row| json::<Try>(row, "body"))?;
        Ok(Unpassed { job, kept, tries })
    });
    with_tries.collect()
}

/// Tests of a rerun that were to be carried have results of their own.
pub(super) fn uncarry(tx: &Tx<'_>, run: run::Id, tests: Counts) -> Verb<()> {
    if tests.total == 0 {
        return Ok(());
    }
    let sql = "SELECT carried FROM runs WHERE id = ?1";
    let carried: Option<Counts> = tx.first(sql, [Bin(run.0)], |row| json(row, "carried"))?;
    let carried = carried.ok_or_else(|| Stop::Corrupt(format!("rerun {run} carries nothing")))?;
    let sql = "UPDATE runs SET carried = ?2 WHERE id = ?1";
    tx.change(sql, (Bin(run.0), Json(carried.minus(tests))))?;
    Ok(())
}
