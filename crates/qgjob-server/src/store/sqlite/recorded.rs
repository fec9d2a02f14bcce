//! What the latest run of a test file recorded of its tests.

use std::collections::HashMap;

use qgjob_core::model::attempt::Outcome;
use qgjob_core::model::job::Reason;
use qgjob_core::model::name::{OrgId, TestPath};
use qgjob_core::model::shard::Shard;
use qgjob_core::model::test_result::Try;
use rusqlite::Connection;

use super::rows::{Bin, Json, Word, json};
use super::transaction::all;

/// Jobs that are looked through, the newest first: no index leads from a file to its jobs, as each job would pay for it.
const MOST_JOBS: u64 = 20_000;

/// A job of a file.
struct Ran {
    shard: Option<Shard>,
    /// Whether it ran tests of a rerun alone.
    is_part: bool,
    attempt_id: Option<Bin>,
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
pub(super) fn recorded(
    c: &Connection,
    org: &OrgId,
    app_id: Option<&str>,
    tests: &[TestPath],
) -> rusqlite::Result<Vec<Vec<Try>>> {
    let mut found = vec![Vec::new(); tests.len()];
    let mut missing: HashMap<&TestPath, usize> = tests.iter().zip(0..).collect();
    let sql = "SELECT r.first_job, r.total FROM runs r
        LEFT JOIN app_versions v ON v.org_id = r.org_id AND v.app_version_id = r.app_version_id
        WHERE r.org_id = ?1 AND (?2 IS NULL OR json_extract(v.build, '$.app_id') = ?2) ORDER BY r.id DESC";
    let mut runs = c.prepare_cached(sql)?;
    let mut runs = runs.query((Word(org), app_id))?;
    let mut looked_at = 0;
    while !missing.is_empty()
        && looked_at < MOST_JOBS
        && let Some(run) = runs.next()?
    {
        let (first, total): (u64, u64) = (run.get(0)?, run.get(1)?);
        looked_at += total;
        for (test, jobs) in jobs_of(c, first, total, &missing)? {
            let wanted = jobs.first().and_then(|job| job.shard.as_ref()).map_or(1, |shard| shard.of as usize);
            if jobs.len() != wanted || !jobs.iter().all(Ran::is_told) {
                continue;
            }
            let mut tries = Vec::new();
            for attempt in jobs.into_iter().filter_map(|job| job.attempt_id) {
                let sql = "SELECT body FROM tries WHERE attempt_id = ?1 ORDER BY seq";
                tries.extend(all(c, sql, [attempt], |row| json::<Try>(row, "body"))?);
            }
            if !tries.is_empty()
                && let Some(at) = missing.remove(&test)
            {
                found[at] = tries;
            }
        }
    }
    Ok(found)
}

/// The jobs of those files that are in a run.
fn jobs_of(
    c: &Connection,
    first: u64,
    total: u64,
    wanted: &HashMap<&TestPath, usize>,
) -> rusqlite::Result<HashMap<TestPath, Vec<Ran>>> {
    let sql = "SELECT j.test, j.shard, j.attempt_id, a.outcome, a.reason, json_extract(j.rerun, '$.tests') IS NOT NULL FROM jobs j
        LEFT JOIN attempts a ON a.id = j.attempt_id WHERE j.ordinal >= ?1 AND j.ordinal < ?1 + ?2";
    let mut statement = c.prepare_cached(sql)?;
    let mut rows = statement.query((first, total))?;
    let mut jobs: HashMap<TestPath, Vec<Ran>> = HashMap::new();
    while let Some(row) = rows.next()? {
        let test: TestPath = row.get::<_, Word<_>>(0)?.0;
        if !wanted.contains_key(&test) {
            continue;
        }
        let ran = Ran {
            shard: row.get::<_, Option<Json<_>>>(1)?.map(|shard| shard.0),
            is_part: row.get(5)?,
            attempt_id: row.get(2)?,
            outcome: row.get::<_, Option<Word<_>>>(3)?.map(|word| word.0),
            reason: row.get::<_, Option<Word<_>>>(4)?.map(|word| word.0),
        };
        jobs.entry(test).or_default().push(ran);
    }
    Ok(jobs)
}
