//! What the latest run of a test file recorded of its tests.

use std::collections::HashMap;

use deadpool_postgres::Object;
use qgjob_core::model::attempt::{self, Outcome};
use qgjob_core::model::job::Reason;
use qgjob_core::model::name::{OrgId, TestPath};
use qgjob_core::model::run;
use qgjob_core::model::shard::Shard;
use qgjob_core::model::test_result::Try;

use super::transaction::{Verb, all};
use super::values::{Bin, Text, Word, bin, get, json, num, number, opt_bin, opt_json, opt_word, word};

/// Jobs that are looked through, the newest first: no index leads from a file to its jobs, as each job would pay for it.
const MOST_JOBS: u64 = 20_000;
/// Runs that are looked through at once.
const RUNS: usize = 50;

/// A job of a file.
struct Ran {
    shard: Option<Shard>,
    /// Whether it ran tests of a rerun alone.
    is_part: bool,
    attempt_id: Option<attempt::Id>,
    outcome: Option<Outcome>,
    reason: Option<Reason>,
}

impl Ran {
    /// Whether its tries are those of all its tests.
    fn is_told(&self) -> bool {
        !self.is_part
            && match self.outcome {
                Some(Outcome::Passed | Outcome::Failed | Outcome::Skipped) => true,
                Some(Outcome::Errored) => self.reason == Some(Reason::NoTests),
                _ => false,
            }
    }
}

/// In the order of `tests`. Shards count only together: one alone does not tell of the file.
pub(super) async fn recorded(
    c: &Object,
    org: &OrgId,
    app_id: Option<&str>,
    tests: &[TestPath],
) -> Verb<Vec<Vec<Try>>> {
    let mut found = vec![Vec::new(); tests.len()];
    let mut missing: HashMap<&TestPath, usize> = tests.iter().zip(0..).collect();
    let mut looked_at = 0;
    let mut before = Bin(u128::MAX);
    while !missing.is_empty() && looked_at < MOST_JOBS {
        let sql = "SELECT r.id, r.total FROM runs r
            LEFT JOIN app_versions v ON v.org_id = r.org_id AND v.app_version_id = r.app_version_id
            WHERE r.org_id = $1 AND ($2::text IS NULL OR v.app_id = $2) AND r.id < $3
            ORDER BY r.id DESC LIMIT $4";
        let app = app_id.map(Text);
        let runs: Vec<(Bin, u64)> = all(c, sql, &[&Word(org), &app, &before, &num(RUNS)], |row| {
            Ok((Bin(bin(row, "id")?), number(row, "total")?))
        })
        .await?;
        let Some((oldest, _)) = runs.last() else { break };
        before = *oldest;
        let mut jobs = jobs_of(c, &runs, &missing).await?;
        for (id, total) in runs {
            if missing.is_empty() || looked_at >= MOST_JOBS {
                break;
            }
            looked_at += total;
            for (test, jobs) in jobs.remove(&run::Id(id.0)).unwrap_or_default() {
                let wanted =
                    jobs.first().and_then(|job| job.shard.as_ref()).map_or(1, |shard| shard.of as usize);
                if jobs.len() != wanted || !jobs.iter().all(Ran::is_told) {
                    continue;
                }
                let tries = tries_of(c, jobs.iter().filter_map(|job| job.attempt_id)).await?;
                if !tries.is_empty()
                    && let Some(at) = missing.remove(&test)
                {
                    found[at] = tries;
                }
            }
        }
    }
    Ok(found)
}

/// The jobs of those files that are in the runs, in the order of submission.
async fn jobs_of(
    c: &Object,
    runs: &[(Bin, u64)],
    wanted: &HashMap<&TestPath, usize>,
) -> Verb<HashMap<run::Id, HashMap<TestPath, Vec<Ran>>>> {
    let ids: Vec<Bin> = runs.iter().map(|(id, _)| *id).collect();
    let tests: Vec<Word<TestPath>> = wanted.keys().map(|test| Word((*test).clone())).collect();
    let sql = "SELECT j.run_id, j.test, j.shard, j.is_part, j.attempt_id, a.outcome, a.reason FROM jobs j
        LEFT JOIN attempts a ON a.id = j.attempt_id WHERE j.run_id = ANY($1) AND j.test = ANY($2) ORDER BY j.ordinal";
    let rows = all(c, sql, &[&ids, &tests], |row| {
        let ran = Ran {
            shard: opt_json(row, "shard")?,
            is_part: get(row, "is_part")?,
            attempt_id: opt_bin(row, "attempt_id")?.map(attempt::Id),
            outcome: opt_word(row, "outcome")?,
            reason: opt_word(row, "reason")?,
        };
        Ok((run::Id(bin(row, "run_id")?), word(row, "test")?, ran))
    })
    .await?;
    let mut jobs: HashMap<run::Id, HashMap<TestPath, Vec<Ran>>> = HashMap::new();
    for (run, test, ran) in rows {
        jobs.entry(run).or_default().entry(test).or_default().push(ran);
    }
    Ok(jobs)
}

/// The tries of attempts, one attempt's after the other's.
async fn tries_of(c: &Object, attempts: impl Iterator<Item = attempt::Id>) -> Verb<Vec<Try>> {
    let ids: Vec<Bin> = attempts.map(|id| Bin(id.0)).collect();
    let sql = "SELECT t.body FROM UNNEST($1::uuid[]) WITH ORDINALITY AS u(id, place)
        JOIN tries t ON t.attempt_id = u.id ORDER BY u.place, t.seq";
    all(c, sql, &[&ids], |row| json(row, "body")).await
}
