//! The tests that a rerun has no result of: those of the runs before it, as far as these are kept.

use qgjob_core::api::results::Seen;
use qgjob_core::model::{attempt, job, run};
use rusqlite::Connection;

use crate::store::carried::{Descent, Ran, Source};
use crate::store::sqlite::jobs::OF_RUN;
use crate::store::sqlite::rows::{Bin, Json, bin, opt_bin, opt_word, test_counts};
use crate::store::sqlite::transaction::{all, first};

pub(super) fn is_of(c: &Connection, job: job::Id, run: run::Id) -> rusqlite::Result<bool> {
    let found = first(c, "SELECT run_id FROM jobs WHERE id = ?1", [Bin(job.0)], |row| bin(row, "run_id"))?;
    Ok(found.is_none_or(|id| id == run.0))
}

/// From the job `from` on: the nearest run first, and in each the jobs in the order of submission.
pub(super) fn sources(c: &Connection, run: run::Id, from: Option<job::Id>) -> rusqlite::Result<Vec<Source>> {
    let mut descent = Descent::default();
    let mut at = run;
    loop {
        descent.pass(at, jobs_of(c, at)?);
        let sql = "SELECT rerun_of FROM runs WHERE id = ?1";
        match first(c, sql, [Bin(at.0)], |row| opt_bin(row, "rerun_of"))?.flatten() {
            Some(before) => at = run::Id(before),
            None => break,
        }
    }
    Ok(descent.sources(from))
}

fn jobs_of(c: &Connection, run: run::Id) -> rusqlite::Result<Vec<Ran>> {
    let sql = format!(
        "SELECT j.id AS job_id, j.conclusion, j.reason, j.passed, j.failed, j.flaky, j.skipped, j.rerun,
        a.id, a.number, a.device_name FROM jobs j LEFT JOIN attempts a ON a.id = j.attempt_id
        WHERE {OF_RUN} ORDER BY j.ordinal"
    );
    all(c, &sql, [Bin(run.0)], |row| {
        let id = job::Id(bin(row, "job_id")?);
        let seen = match opt_bin(row, "id")? {
            None => None,
            Some(attempt) => Some(Seen {
                job_id: id,
                attempt_id: attempt::Id(attempt),
                attempt: row.get("number")?,
                device_name: row.get("device_name")?,
            }),
        };
        Ok(Ran {
            seen,
            id,
            conclusion: opt_word(row, "conclusion")?,
            reason: opt_word(row, "reason")?,
            tests: test_counts(row)?,
            kept: row.get::<_, Option<Json<_>>>("rerun")?.map(|kept| kept.0),
        })
    })
}
