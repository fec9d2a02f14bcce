//! The tests that a rerun has no result of: those of the runs before it, as far as these are kept.

use std::collections::HashMap;

use deadpool_postgres::Object;
use qgjob_core::api::results::Seen;
use qgjob_core::model::job::{Conclusion, Reason};
use qgjob_core::model::test_result::Counts;
use qgjob_core::model::{attempt, job, run};
use qgjob_core::queue::reruns::Kept;

use super::Source;
use crate::store::postgres::rows::test_counts;
use crate::store::postgres::transaction::{Verb, all, first};
use crate::store::postgres::values::{Bin, bin, get, number, opt_bin, opt_json, opt_word};

/// A job of one of the runs.
struct Ran {
    seen: Option<Seen>,
    id: job::Id,
    conclusion: Option<Conclusion>,
    reason: Option<Reason>,
    tests: Counts,
    kept: Option<Kept>,
}

/// What stands above a job's results.
#[derive(Clone, Default)]
struct Newer {
    attempts: Vec<attempt::Id>,
    /// Whether all of them have results of their own.
    all: bool,
}

impl Ran {
    fn counts(&self) -> bool {
        matches!(self.conclusion, Some(Conclusion::Passed | Conclusion::Failed | Conclusion::Skipped))
    }

    /// Whether its results took the place of older ones.
    fn is_settled(&self) -> bool {
        let is_verdict =
            matches!(self.reason, Some(Reason::TestsPassed | Reason::TestsFailed | Reason::TestsSkipped));
        self.counts() && (is_verdict || self.kept.as_ref().is_some_and(|kept| kept.had == self.tests))
    }
}

pub(super) async fn is_of(c: &Object, job: job::Id, run: run::Id) -> Verb<bool> {
    let found =
        first(c, "SELECT run_id FROM jobs WHERE id = $1", &[&Bin(job.0)], |row| bin(row, "run_id")).await?;
    Ok(found.is_none_or(|id| id == run.0))
}

/// From the job `from` on: the nearest run first, and in each the jobs in the order of submission.
pub(super) async fn sources(c: &Object, run: run::Id, from: Option<job::Id>) -> Verb<Vec<Source>> {
    let mut found = Vec::new();
    let mut newer: HashMap<job::Id, Newer> = HashMap::new();
    let (mut at, mut is_own) = (run, true);
    loop {
        let jobs = jobs_of(c, at).await?;
        for ran in &jobs {
            let above = newer.remove(&ran.id).unwrap_or_default();
            if let Some(kept) = &ran.kept {
                let mut below = above.clone();
                if ran.is_settled() {
                    below.all |= kept.rerun.tests.is_empty();
                    below.attempts.extend(ran.seen.as_ref().map(|seen| seen.attempt_id));
                }
                newer.insert(kept.rerun.of, below);
            }
            let Some(seen) = ran.seen.clone().filter(|_| ran.counts() && !is_own && !above.all) else {
                continue;
            };
            found.push(Source { seen, carried_from: Some(at), overruled_by: above.attempts });
        }
        let sql = "SELECT rerun_of FROM runs WHERE id = $1";
        match first(c, sql, &[&Bin(at.0)], |row| opt_bin(row, "rerun_of")).await?.flatten() {
            Some(before) => (at, is_own) = (run::Id(before), false),
            None => break,
        }
    }
    let begin = from.and_then(|from| found.iter().position(|source| source.seen.job_id == from)).unwrap_or(0);
    found.drain(..begin);
    Ok(found)
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
