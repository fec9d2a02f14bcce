//! What a submission becomes in every store.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use qgjob_core::model::job::{self, Status};
use qgjob_core::model::refusal::Refusal;
use qgjob_core::model::run::{JobCounts, Run};
use qgjob_core::model::test_result::Counts;
use qgjob_core::queue::rollup;

use super::Submission;

/// A run that is new, with its jobs in the order of submission.
pub(super) struct Made {
    pub run: Run,
    /// What the jobs have in common; its test is the first one's.
    pub spec: job::Spec,
    pub jobs: Vec<job::Job>,
}

/// Whether its lists are about the same jobs.
///
/// # Errors
/// [`Refusal::Invalid`] when they are not.
pub(super) fn check(submission: &Submission) -> Result<(), Refusal> {
    let Submission { job_ids, predicted_ms, shards, run, rerun, .. } = submission;
    if job_ids.is_empty() || [job_ids.len(), predicted_ms.len(), shards.len()] != [run.tests.len(); 3] {
        let (tests, ids) = (run.tests.len(), job_ids.len());
        let (predictions, shards) = (predicted_ms.len(), shards.len());
        let what = format!("{tests} tests, {ids} ids of jobs, {predictions} predictions and {shards} shards");
        return Err(Refusal::Invalid(what));
    }
    if rerun.as_ref().is_some_and(|rerun| rerun.jobs.len() != run.tests.len()) {
        return Err(Refusal::Invalid("a rerun says for each job what that repeats".to_owned()));
    }
    Ok(())
}

impl Made {
    /// Of a submission that was checked.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] when the queue timeout leaves the calendar.
    pub(super) fn of(submission: &Submission, now: Timestamp) -> Result<Self, Refusal> {
        let Submission { run_id, job_ids, predicted_ms, shards, run, retry_of, rerun, ci, key } = submission;
        let options = &run.options;
        let scheduled = options.not_before.filter(|at| *at > now);
        let queue_timeout = SignedDuration::try_from(Duration::from_millis(options.queue_timeout_ms));
        let queue_deadline =
            queue_timeout.ok().and_then(|wait| scheduled.unwrap_or(now).checked_add(wait).ok());
        let queue_deadline =
            queue_deadline.ok_or_else(|| Refusal::Invalid("the queue timeout is too long".to_owned()))?;
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
            id: *run_id,
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
        let jobs = job_ids.iter().zip(tests).zip(predicted_ms).enumerate().map(
            |(at, ((id, (test, shard)), predicted_ms))| {
                let repeats = rerun.as_ref().map(|rerun| rerun.jobs[at].rerun.clone());
                job::Job {
                    id: *id,
                    run_id: *run_id,
                    org_id: made.org_id.clone(),
                    app_version_id: made.app_version_id.clone(),
                    spec: job::Spec {
                        test: test.clone(),
                        shard: shard.clone(),
                        rerun: repeats,
                        ..spec.clone()
                    },
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
                }
            },
        );
        let jobs = jobs.collect();
        Ok(Self { run: made, spec, jobs })
    }
}
