//! Making runs, and cancelling.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use qgjob_core::api::runs::Installs;
use qgjob_core::model::event::Fact;
use qgjob_core::model::group;
use qgjob_core::model::job::{self, Status};
use qgjob_core::model::refusal::Refusal;
use qgjob_core::model::run::{self, JobCounts, Run};
use qgjob_core::model::test_result::Counts;
use qgjob_core::queue::lifecycle::Command;
use qgjob_core::queue::reruns::Kept;
use qgjob_core::queue::rollup;

use super::jobs::{self, Because};
use super::needs::Needs;
use super::rows::{JobRow, missing};
use super::transaction::{Verb, not_found};
use super::work::{Key, RunRow, Work};
use crate::store::{Accepted, Cancel, Scope, Submission};

pub(super) fn submit_needs(submission: &Submission, needs: &mut Needs) {
    let Submission { run, key, .. } = submission;
    needs.keys.extend(key.as_ref().map(|(key, _)| (run.org_id.clone(), key.clone())));
    needs.blobs.insert((run.org_id.clone(), run.bundle_sha256));
    needs.groups.insert(run.options.group(&run.org_id, &run.app_version_id));
    needs.labels.insert((run.org_id.clone(), run.app_version_id.clone()));
}

pub(super) fn submit(work: &mut Work, now: Timestamp, submission: &Submission) -> Verb<Accepted> {
    let Submission { run_id, job_ids, predicted_ms, shards, run, retry_of, rerun, ci, key } = submission;
    let run_id = *run_id;
    if job_ids.is_empty() || [job_ids.len(), predicted_ms.len(), shards.len()] != [run.tests.len(); 3] {
        let (tests, ids) = (run.tests.len(), job_ids.len());
        let (predictions, shards) = (predicted_ms.len(), shards.len());
        let what = format!("{tests} tests, {ids} ids of jobs, {predictions} predictions and {shards} shards");
        return Err(Refusal::Invalid(what).into());
    }
    if rerun.as_ref().is_some_and(|rerun| rerun.jobs.len() != run.tests.len()) {
        return Err(Refusal::Invalid("a rerun says for each job what that repeats".to_owned()).into());
    }
    let known = key.as_ref().and_then(|(key, _)| work.keys.get(&(run.org_id.clone(), key.clone())).cloned());
    if let (Some(Key { fingerprint, run_id: Some(earlier), .. }), Some((_, fingerprint_now))) = (&known, key)
    {
        if fingerprint.as_ref() != Some(fingerprint_now) {
            return Err(Refusal::KeyReused.into());
        }
        return accepted(work, *earlier, true);
    }
    if !work.blobs.contains(&(run.org_id.clone(), run.bundle_sha256)) {
        return Err(Refusal::NotUploaded { what: "bundle", sha256: run.bundle_sha256 }.into());
    }
    let options = &run.options;
    let scheduled = options.not_before.filter(|at| *at > now);
    let queue_timeout = SignedDuration::try_from(Duration::from_millis(options.queue_timeout_ms));
    let queue_deadline = queue_timeout.ok().and_then(|wait| scheduled.unwrap_or(now).checked_add(wait).ok());
    let queue_deadline =
        queue_deadline.ok_or_else(|| Refusal::Invalid("the queue timeout is too long".to_owned()))?;
    let group_key = options.group(&run.org_id, &run.app_version_id);
    let group_id = *work.group_ids.get(&group_key).ok_or_else(|| missing("a group that was just made"))?;
    let spec = job::Spec {
        test: run.tests[0].clone(),
        shard: None,
        rerun: None,
        bundle_sha256: run.bundle_sha256,
        platform: options.platform,
        target: options.target,
        selector: options.selector.clone(),
        priority: options.priority,
        timeout_ms: options.timeout_ms,
        infra_retries: options.infra_retries,
        test_retries: options.test_retries,
        reset: options.reset,
        env: options.env.clone(),
        concurrency_group: options.concurrency_group.clone(),
    };
    let total = job_ids.len() as u32;
    let mut counts = JobCounts { total, ..JobCounts::default() };
    *(if scheduled.is_some() { &mut counts.scheduled } else { &mut counts.queued }) = total;
    let status = if scheduled.is_some() { Status::Scheduled } else { Status::Queued };
    let made = Run {
        id: run_id,
        org_id: run.org_id.clone(),
        app_version_id: run.app_version_id.clone(),
        name: run.name.clone(),
        labels: run.labels.clone(),
        idempotency_key: key.as_ref().map(|(key, _)| key.clone()),
        retry_of: *retry_of,
        ci: ci.as_ref().map(|(_, run)| Box::new(run.clone())),
        rerun_of: rerun.as_ref().map(|rerun| rerun.of),
        status: rollup::status(&counts),
        conclusion: None,
        jobs: counts,
        tests: rerun.as_ref().map_or_else(Counts::default, |rerun| rerun.tests),
        carried: rerun.as_ref().map_or_else(Counts::default, |rerun| rerun.carried),
        created_at: now,
        finished_at: None,
        version: 1,
    };
    let tests = run.tests.iter().zip(shards);
    for (at, ((id, (test, shard)), predicted_ms)) in job_ids.iter().zip(tests).zip(predicted_ms).enumerate() {
        let kept = rerun.as_ref().map(|rerun| rerun.jobs[at].clone());
        let repeats = kept.as_ref().map(|kept| kept.rerun.clone());
        let job = job::Job {
            id: *id,
            run_id,
            org_id: made.org_id.clone(),
            app_version_id: made.app_version_id.clone(),
            spec: job::Spec { test: test.clone(), shard: shard.clone(), rerun: repeats, ..spec.clone() },
            status,
            conclusion: None,
            reason: None,
            detail: None,
            phase: None,
            attempts: 0,
            infra_faults: 0,
            avoid: Vec::new(),
            not_before: scheduled,
            promoted_at: None,
            queue_deadline,
            predicted_ms: *predicted_ms,
            device_id: None,
            tests: Counts::default(),
            created_at: now,
            started_at: None,
            finished_at: None,
            version: 1,
        };
        add_job(work, now, group_id, job, kept);
    }
    let token_id = ci.as_ref().map(|(token, _)| *token);
    work.runs.add(run_id, RunRow { run: made, installs: Installs::default(), spec: Some(spec), token_id });
    if let Some((key, fingerprint)) = key {
        let created_at = known.as_ref().map_or(now, |known| known.created_at);
        let (org_id, fingerprint) = (run.org_id.clone(), Some(*fingerprint));
        let row =
            Key { org_id: org_id.clone(), key: key.clone(), fingerprint, run_id: Some(run_id), created_at };
        work.keys.add((org_id, key.clone()), row);
    }
    if known.is_some() {
        // The key was cancelled before its submission came.
        cancel_run(work, now, run_id)?;
    }
    accepted(work, run_id, false)
}

fn add_job(work: &mut Work, now: Timestamp, group_id: group::Id, job: job::Job, kept: Option<Kept>) {
    let queued_at = (job.status == Status::Queued).then_some(now);
    let row = JobRow { job, group_id, attempt_id: None, queued_at, kept, place: work.next_place() };
    let fact = match row.job.not_before {
        Some(not_before) => Fact::JobScheduled { not_before },
        None => Fact::JobQueued {
            group_id,
            priority: row.job.spec.priority.get(),
            not_before: None,
            reason: None,
            detail: None,
            avoid: Vec::new(),
            promoted_at: None,
            predicted_ms: row.job.predicted_ms,
        },
    };
    work.tell(now, row.about(), fact);
    work.jobs.add(row.job.id, row);
}

/// A run as the answer to a submission.
fn accepted(work: &Work, run_id: run::Id, replayed: bool) -> Verb<Accepted> {
    let run = work.runs.get(&run_id).ok_or_else(|| missing(format!("run {run_id}, which a key names,")))?;
    let run = run.run.clone();
    let mut rows: Vec<&JobRow> =
        work.jobs.iter().map(|(_, row)| row).filter(|row| row.job.run_id == run_id).collect();
    rows.sort_by_key(|row| row.place);
    let jobs = rows.into_iter().map(|row| row.job.clone()).collect();
    let app_sha256 = work.build_of(&run.org_id, &run.app_version_id).map(|build| build.sha256);
    Ok(Accepted { run, jobs, app_sha256, replayed })
}

pub(super) fn cancel_needs(what: &Cancel, needs: &mut Needs) {
    match what {
        Cancel::Job(id) => _ = needs.jobs.insert(*id),
        Cancel::Run(id) => _ = needs.runs.insert(*id),
        Cancel::Key(org, key) => _ = needs.keys.insert((org.clone(), key.clone())),
    }
}

pub(super) fn cancel(work: &mut Work, now: Timestamp, scope: &Scope, what: &Cancel) -> Verb<()> {
    match what {
        Cancel::Job(id) => {
            let row = jobs::load(work, *id)?;
            if !scope.sees(&row.job.org_id) {
                return Err(not_found(format!("job {id}")));
            }
            jobs::answer(work, now, &row, Command::Cancel, Because::default(), 0).map(|_| ())
        }
        Cancel::Run(id) => {
            if !work.runs.get(id).is_some_and(|row| scope.sees(&row.run.org_id)) {
                return Err(not_found(format!("run {id}")));
            }
            cancel_run(work, now, *id)
        }
        Cancel::Key(org, key) => {
            if !scope.sees(org) {
                return Err(not_found(format!("org {org}")));
            }
            let name = (org.clone(), key.clone());
            match work.keys.get(&name).map(|known| known.run_id) {
                Some(Some(run_id)) => cancel_run(work, now, run_id),
                Some(None) => Ok(()),
                None => {
                    let (org_id, key) = name.clone();
                    let row = Key { org_id, key, fingerprint: None, run_id: None, created_at: now };
                    work.keys.add(name, row);
                    Ok(())
                }
            }
        }
    }
}

fn cancel_run(work: &mut Work, now: Timestamp, run_id: run::Id) -> Verb<()> {
    let of_run = |row: &&JobRow| row.job.run_id == run_id && row.job.status != Status::Completed;
    let mut rows: Vec<JobRow> = work.jobs.iter().map(|(_, row)| row).filter(of_run).cloned().collect();
    rows.sort_by_key(|row| row.place);
    for row in rows {
        jobs::answer(work, now, &row, Command::Cancel, Because::default(), 0)?;
    }
    Ok(())
}
