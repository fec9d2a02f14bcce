//! The tests that a rerun has no result of: those of the runs before it, as far as these are kept.

use deadpool_postgres::Object;
use qgjob_core::api::results::Seen;
use qgjob_core::model::{attempt, job, run};

use crate::store::carried::{Descent, Ran, Source};
use crate::store::postgres::rows::test_counts;
use crate::store::postgres::transaction::{Verb, all, first};
use crate::store::postgres::values::{Bin, bin, get, number, opt_bin, opt_json, opt_word};

pub(super) async fn is_of(c: &Object, job: job::Id, run: run::Id) -> Verb<bool> {
    let found =
        first(c, "SELECT run_id FROM jobs WHERE id = $1", &[&Bin(job.0)], |row| bin(row, "run_id")).await?;
    Ok(found.is_none_or(|id| id == run.0))
}

/// From the job `from` on: the nearest run first, and in each the jobs in the order of submission.
pub(super) async fn sources(c: &Object, run: run::Id, from: Option<job::Id>) -> Verb<Vec<Source>> {
    let mut descent = Descent::default();
    let mut at = run;
    loop {
        descent.pass(at, jobs_of(c, at).await?);
        let sql = "SELECT rerun_of FROM runs WHERE id = $1";
        match first(c, sql, &[&Bin(at.0)], |row| opt_bin(row, "rerun_of")).await?.flatten() {
            Some(before) => at = run::Id(before),
            None => break,
        }
    }
    Ok(descent.sources(from))
}

async fn jobs_of(c: &Object, run: run::Id) -> Verb<Vec<Ran>> {
    let sql =
        "SELECT j.id AS job_id, j.conclusion, j.reason, j.passed, j.failed, j.flaky, j.skipped, j.rerun,
        a.id, a.number, a.device_name FROM jobs j LEFT JOIN attempts a ON a.id = j.attempt_id
        WHERE j.run_id = $1 ORDER BY j.ordinal";
    all(c, sql, &[&Bin(run.0)], |row| {
        let id = job::Id(bin(row, "job_id")?);
        let seen = match opt_bin(row, "id")? {
            None => None,
            Some(attempt) => Some(Seen {
                job_id: id,
                attempt_id: attempt::Id(attempt),
                attempt: number(row, "number")?,
                device_name: get(row, "device_name")?,
            }),
        };
        Ok(Ran {
            seen,
            id,
            conclusion: opt_word(row, "conclusion")?,
            reason: opt_word(row, "reason")?,
            tests: test_counts(row)?,
            kept: opt_json(row, "rerun")?,
        })
    })
    .await
}
