//! Making runs, and cancelling.

use jiff::Timestamp;
use qgjob_core::model::build::Build;
use qgjob_core::model::event::Fact;
use qgjob_core::model::group;
use qgjob_core::model::job::{self, Status};
use qgjob_core::model::name::{AppVersionId, IdempotencyKey, OrgId};
use qgjob_core::model::refusal::Refusal;
use qgjob_core::model::run::{self, Run};
use qgjob_core::model::sha256::Sha256;
use qgjob_core::model::token;
use qgjob_core::queue::lifecycle::Command;
use qgjob_core::queue::reruns::Kept;

use super::jobs::{self, Because};
use super::rows::{self, At, Bin, Digest, Json, Word, json};
use super::transaction::{About, Stop, Tx, Verb, not_found};
use crate::store::made::{self, Made};
use crate::store::{Accepted, Cancel, Scope, Submission};

/// What is known of an idempotency key.
struct Known {
    fingerprint: Option<Sha256>,
    run_id: Option<run::Id>,
}

pub(super) fn submit(tx: &mut Tx<'_>, now: Timestamp, submission: &Submission) -> Verb<Accepted> {
    made::check(submission)?;
    let Submission { run_id, run, rerun, ci, key, .. } = submission;
    let run_id = *run_id;
    let known = match key {
        Some((key, _)) => known_key(tx, &run.org_id, key)?,
        None => None,
    };
    if let (Some(Known { fingerprint, run_id: Some(earlier) }), Some((_, fingerprint_now))) = (&known, key) {
        if fingerprint.as_ref() != Some(fingerprint_now) {
            return Err(Refusal::KeyReused.into());
        }
        return accepted(tx, *earlier, true);
    }
    if !has_blob(tx, &run.org_id, run.bundle_sha256)? {
        return Err(Refusal::NotUploaded { what: "bundle", sha256: run.bundle_sha256 }.into());
    }
    let Made { run: made, spec, jobs } = Made::of(submission, now)?;
    let group_key = run.options.group(&run.org_id, &run.app_version_id);
    let group_id = group_of(tx, &group_key)?;
    let first_job = tx.next_ordinals(jobs.len() as u64);
    insert_run(tx, &made, &spec, first_job, ci.as_ref().map(|(token, _)| *token))?;
    for (at, (job, ordinal)) in jobs.iter().zip(first_job..).enumerate() {
        let kept = rerun.as_ref().map(|rerun| &rerun.jobs[at]);
        insert_job(tx, now, group_id, ordinal, job, kept)?;
    }
    if let Some((key, fingerprint)) = key {
        let sql = "INSERT INTO idempotency_keys (org_id, key, fingerprint, run_id, created_at) VALUES (?1, ?2, ?3, ?4, ?5)
            ON CONFLICT (org_id, key) DO UPDATE SET fingerprint = excluded.fingerprint, run_id = excluded.run_id";
        tx.change(sql, (Word(&made.org_id), Word(key), Digest(*fingerprint), Bin(run_id.0), At(now)))?;
    }
    if known.is_some() {
        // The key was cancelled before its submission came.
        cancel_run(tx, now, run_id)?;
        return accepted(tx, run_id, false);
    }
    let app_sha256 = build_of(tx, group_key.org_id, group_key.app_version_id)?.map(|build| build.sha256);
    Ok(Accepted { run: made, jobs, app_sha256, replayed: false })
}

fn known_key(tx: &Tx<'_>, org: &OrgId, key: &IdempotencyKey) -> Verb<Option<Known>> {
    let sql = "SELECT fingerprint, run_id FROM idempotency_keys WHERE org_id = ?1 AND key = ?2";
    let known = tx.first(sql, (Word(org), Word(key)), |row| {
        let fingerprint = row.get::<_, Option<Digest>>(0)?.map(|digest| digest.0);
        Ok(Known { fingerprint, run_id: row.get::<_, Option<Bin>>(1)?.map(|id| run::Id(id.0)) })
    })?;
    Ok(known)
}

fn has_blob(tx: &mut Tx<'_>, org: &OrgId, sha256: Sha256) -> Verb<bool> {
    let blob = (org.clone(), sha256);
    if tx.known.blobs.get(&blob).is_some() {
        return Ok(true);
    }
    let sql = "SELECT 1 FROM blobs WHERE org_id = ?1 AND sha256 = ?2";
    let found = tx.first(sql, (Word(org), Digest(sha256)), |_| Ok(()))?.is_some();
    if found {
        tx.known.blobs.add(blob, ());
    }
    Ok(found)
}

fn group_of(tx: &mut Tx<'_>, key: &group::Key) -> Verb<group::Id> {
    if let Some(id) = tx.known.groups.get(key) {
        return Ok(id);
    }
    let found = tx.first("SELECT id FROM groups WHERE key = ?1", [Json(key)], |row| row.get(0))?;
    let id = match found {
        Some(id) => id,
        None => {
            let sql = "INSERT INTO groups (key, org_id, app_version_id) VALUES (?1, ?2, ?3)";
            tx.change(sql, (Json(key), Word(&key.org_id), Word(&key.app_version_id)))?;
            tx.connection().last_insert_rowid()
        }
    };
    tx.known.groups.add(key.clone(), id);
    Ok(id)
}

/// The build that the label names, once it is bound.
fn build_of(tx: &mut Tx<'_>, org: OrgId, label: AppVersionId) -> Verb<Option<Build>> {
    let label = (org, label);
    if let Some(build) = tx.known.builds.get(&label) {
        return Ok(Some(build));
    }
    let sql = "SELECT build FROM app_versions WHERE org_id = ?1 AND app_version_id = ?2";
    let found: Option<Build> = tx.first(sql, (Word(&label.0), Word(&label.1)), |row| json(row, "build"))?;
    if let Some(build) = &found {
        tx.known.builds.add(label, build.clone());
    }
    Ok(found)
}

fn insert_run(
    tx: &Tx<'_>,
    run: &Run,
    spec: &job::Spec,
    first_job: u64,
    token: Option<token::Id>,
) -> Verb<()> {
    let sql = "INSERT INTO runs (id, org_id, app_version_id, idempotency_key, retry_of, status, total, scheduled, queued,
        created_at, first_job, token_id, rerun_of, carried, tests_passed, tests_failed, tests_flaky, tests_skipped)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)";
    let key = run.idempotency_key.as_ref().map(Word);
    let retry_of = run.retry_of.map(|id| Bin(id.0));
    let names = (Word(&run.org_id), Word(&run.app_version_id));
    let counts = (run.jobs.total, run.jobs.scheduled, run.jobs.queued);
    tx.change(
        sql,
        rusqlite::params![
            Bin(run.id.0),
            names.0,
            names.1,
            key,
            retry_of,
            Word(run.status),
            counts.0,
            counts.1,
            counts.2,
            At(run.created_at),
            first_job,
            token.map(|id| Bin(id.0)),
            run.rerun_of.map(|id| Bin(id.0)),
            run.rerun_of.map(|_| Json(run.carried)),
            run.tests.passed,
            run.tests.failed,
            run.tests.flaky,
            run.tests.skipped
        ],
    )?;
    let sql = "INSERT INTO run_specs (run_id, name, labels, spec, ci) VALUES (?1, ?2, ?3, ?4, ?5)";
    let ci = run.ci.as_ref().map(Json);
    tx.change(sql, (Bin(run.id.0), &run.name, Json(&run.labels), Json(spec), ci))?;
    Ok(())
}

fn insert_job(
    tx: &mut Tx<'_>,
    now: Timestamp,
    group_id: group::Id,
    ordinal: u64,
    job: &job::Job,
    kept: Option<&Kept>,
) -> Verb<()> {
    let sql = "INSERT INTO jobs (id, run_id, org_id, group_id, test, priority, infra_retries, status, not_before, queued_at,
        queue_deadline, created_at, predicted_ms, ordinal, shard, rerun)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)";
    let queued_at = (job.status == Status::Queued).then_some(At(now));
    tx.change(
        sql,
        rusqlite::params![
            Bin(job.id.0),
            Bin(job.run_id.0),
            Word(&job.org_id),
            group_id,
            Word(&job.spec.test),
            job.spec.priority.get(),
            job.spec.infra_retries,
            Word(job.status),
            job.not_before.map(At),
            queued_at,
            At(job.queue_deadline),
            At(now),
            job.predicted_ms,
            ordinal,
            job.spec.shard.as_ref().map(Json),
            kept.map(Json)
        ],
    )?;
    let about = About { org_id: Some(&job.org_id), run_id: Some(job.run_id), job_id: Some(job.id) };
    let fact = match job.not_before {
        Some(not_before) => Fact::JobScheduled { not_before },
        None => Fact::JobQueued {
            group_id,
            priority: job.spec.priority.get(),
            not_before: None,
            reason: None,
            detail: None,
            avoid: Vec::new(),
            promoted_at: None,
            predicted_ms: job.predicted_ms,
        },
    };
    tx.tell(now, about, fact);
    Ok(())
}

/// A run that is in the store, as the answer to a submission.
fn accepted(tx: &mut Tx<'_>, run_id: run::Id, replayed: bool) -> Verb<Accepted> {
    let sql = format!("{} WHERE r.id = ?1", rows::RUN);
    let found = tx.first(&sql, [Bin(run_id.0)], rows::run)?;
    let (run, _) =
        found.ok_or_else(|| Stop::Corrupt(format!("a key names run {run_id}, which is missing")))?;
    let sql = format!("{} WHERE r.id = ?1 ORDER BY j.ordinal", rows::JOBS);
    let jobs = tx.all(&sql, [Bin(run_id.0)], rows::job)?;
    let build = build_of(tx, run.org_id.clone(), run.app_version_id.clone())?;
    Ok(Accepted { run, jobs, app_sha256: build.map(|build| build.sha256), replayed })
}

pub(super) fn cancel(tx: &mut Tx<'_>, now: Timestamp, scope: &Scope, what: &Cancel) -> Verb<()> {
    match what {
        Cancel::Job(id) => {
            let job = jobs::load(tx, *id)?;
            if !scope.sees(&job.org_id) {
                return Err(not_found(format!("job {id}")));
            }
            jobs::answer(tx, now, &job, Command::Cancel, Because::default(), 0).map(|_| ())
        }
        Cancel::Run(id) => {
            let org = tx.first("SELECT org_id FROM runs WHERE id = ?1", [Bin(id.0)], |row| {
                rows::word(row, "org_id")
            })?;
            if !org.is_some_and(|org| scope.sees(&org)) {
                return Err(not_found(format!("run {id}")));
            }
            cancel_run(tx, now, *id)
        }
        Cancel::Key(org, key) => {
            if !scope.sees(org) {
                return Err(not_found(format!("org {org}")));
            }
            match known_key(tx, org, key)? {
                Some(Known { run_id: Some(run_id), .. }) => cancel_run(tx, now, run_id),
                Some(Known { run_id: None, .. }) => Ok(()),
                None => {
                    let sql = "INSERT INTO idempotency_keys (org_id, key, created_at) VALUES (?1, ?2, ?3)";
                    tx.change(sql, (Word(org), Word(key), At(now)))?;
                    Ok(())
                }
            }
        }
    }
}

fn cancel_run(tx: &mut Tx<'_>, now: Timestamp, run_id: run::Id) -> Verb<()> {
    let sql = format!("WHERE {} AND status <> 'completed' ORDER BY ordinal", jobs::OF_RUN);
    for job in tx.all(&jobs::select(&sql), [Bin(run_id.0)], jobs::read)? {
        jobs::answer(tx, now, &job, Command::Cancel, Because::default(), 0)?;
    }
    Ok(())
}
