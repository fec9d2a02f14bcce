//! Making runs, and cancelling.

use jiff::Timestamp;
use qgjob_core::api::runs::Installs;
use qgjob_core::model::event::Fact;
use qgjob_core::model::group;
use qgjob_core::model::job::{self, Status};
use qgjob_core::model::refusal::Refusal;
use qgjob_core::model::run;
use qgjob_core::queue::lifecycle::Command;
use qgjob_core::queue::reruns::Kept;

use super::jobs::{self, Because};
use super::needs::Needs;
use super::rows::{JobRow, missing};
use super::transaction::{Verb, not_found};
use super::work::{Key, RunRow, Work};
use crate::store::made::{self, Made};
use crate::store::{Accepted, Cancel, Scope, Submission};

pub(super) fn submit_needs(submission: &Submission, needs: &mut Needs) {
    let Submission { run, key, .. } = submission;
    needs.keys.extend(key.as_ref().map(|(key, _)| (run.org_id.clone(), key.clone())));
    needs.blobs.insert((run.org_id.clone(), run.bundle_sha256));
    needs.groups.insert(run.options.group(&run.org_id, &run.app_version_id));
    needs.labels.insert((run.org_id.clone(), run.app_version_id.clone()));
}

pub(super) fn submit(work: &mut Work, now: Timestamp, submission: &Submission) -> Verb<Accepted> {
    made::check(submission)?;
    let Submission { run_id, run, rerun, ci, key, .. } = submission;
    let run_id = *run_id;
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
    let Made { run: made, spec, jobs } = Made::of(submission, now)?;
    let group_key = run.options.group(&run.org_id, &run.app_version_id);
    let group_id = *work.group_ids.get(&group_key).ok_or_else(|| missing("a group that was just made"))?;
    for (at, job) in jobs.into_iter().enumerate() {
        let kept = rerun.as_ref().map(|rerun| rerun.jobs[at].clone());
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
