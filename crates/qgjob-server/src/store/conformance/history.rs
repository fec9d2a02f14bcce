//! The invariants over a store's events, and that its rows agree with them.

use std::collections::HashMap;

use qgjob_core::model::event::Fact;
use qgjob_core::model::job::{Conclusion, Status};
use qgjob_core::model::test_result::Counts;
use qgjob_core::model::{attempt, device, job, run};

use super::world::all_events;
use crate::store::{JobFilter, Scope, Store};

#[derive(Default)]
struct Told {
    holder: Option<attempt::Id>,
    conclusion: Option<Conclusion>,
    waits: bool,
}

/// Panics where the history breaks an invariant.
pub async fn check(store: &dyn Store) {
    let mut jobs: HashMap<job::Id, Told> = HashMap::new();
    let mut runs: HashMap<run::Id, Conclusion> = HashMap::new();
    let mut devices: HashMap<device::Id, attempt::Id> = HashMap::new();
    let mut live: HashMap<attempt::Id, job::Id> = HashMap::new();
    let mut last = 0;
    let mut newest_epoch = 0;
    for event in all_events(store).await {
        assert!(event.seq > last, "the numbers of events rise");
        last = event.seq;
        let told = event.job_id.map(|id| jobs.entry(id).or_default());
        match (event.fact, told) {
            (Fact::JobScheduled { .. }, Some(job)) => job.waits = true,
            (Fact::JobQueued { .. }, Some(job)) => {
                assert!(job.conclusion.is_none(), "I4: a job that is over is not queued again");
                job.waits = true;
            }
            (Fact::JobStarted { attempt_id, device_id, .. }, Some(job)) => {
                assert!(job.conclusion.is_none(), "I13: a job that is over does not start");
                assert_eq!(job.holder.replace(attempt_id), None, "I3: a job has one holder");
                assert_eq!(devices.insert(device_id, attempt_id), None, "I3: a device has one attempt");
                live.insert(attempt_id, event.job_id.expect("a start is about a job"));
                let (attempt, _) =
                    store.attempt(attempt_id).await.expect("the store works").expect("it is stored");
                assert!(attempt.epoch > newest_epoch, "I3: epochs rise");
                newest_epoch = attempt.epoch;
                job.waits = false;
            }
            (Fact::AttemptEnded { attempt_id, device_id, .. }, Some(job)) => {
                assert_eq!(
                    devices.remove(&device_id),
                    Some(attempt_id),
                    "an attempt ends once, on its device"
                );
                assert_eq!(job.holder.take(), Some(attempt_id), "an attempt ends for the job that it holds");
                live.remove(&attempt_id);
            }
            (Fact::JobCompleted { conclusion, .. }, Some(job)) => {
                assert_eq!(job.conclusion.replace(conclusion), None, "I4: a job has one conclusion");
                job.waits = false;
            }
            (Fact::RunCompleted { conclusion }, _) => {
                let id = event.run_id.expect("the event is about a run");
                assert_eq!(runs.insert(id, conclusion), None, "a run ends once");
            }
            _ => {}
        }
    }
    assert_eq!(store.last_seq().await.expect("the store works"), last);
    for (id, told) in &jobs {
        let (job, _) =
            store.job(&Scope::All, *id).await.expect("the store works").expect("I5: a job is never lost");
        assert_eq!(job.conclusion, told.conclusion, "events and rows agree on {id}");
        let waits = matches!(job.status, Status::Scheduled | Status::Queued);
        assert_eq!(waits, told.waits, "events and rows agree on {id}");
        assert!(
            told.conclusion.is_some() || told.waits || told.holder.is_some(),
            "I5: {id} ends, waits, or runs"
        );
    }
    check_runs(store, &runs).await;
    for device in store.devices(&Scope::All).await.expect("the store works") {
        let held = devices.get(&device.id).copied();
        assert_eq!(device.attempt_id, held, "I14: a device is busy while an attempt lives, and no longer");
    }
    let waiting = store.waiting_jobs().await.expect("the store works");
    let queued = jobs.values().filter(|told| told.waits).count();
    assert!(waiting.len() <= queued, "no job waits that was not queued");
}

/// The counts of each run are those of its jobs.
async fn check_runs(store: &dyn Store, ended: &HashMap<run::Id, Conclusion>) {
    let runs = store
        .runs(&Scope::All, &crate::store::RunFilter::default(), None, 10_000)
        .await
        .expect("the store works");
    for (run, _) in runs {
        let filter = JobFilter { run_id: Some(run.id), ..JobFilter::default() };
        let jobs = store.jobs(&Scope::All, &filter, None, 10_000).await.expect("the store works");
        let count =
            |wanted: &dyn Fn(&job::Job) -> bool| jobs.iter().filter(|(job, _)| wanted(job)).count() as u32;
        let status = |status| count(&|job| job.status == status);
        let conclusion = |conclusion| count(&|job| job.conclusion == Some(conclusion));
        let counts = run::JobCounts {
            total: jobs.len() as u32,
            scheduled: status(Status::Scheduled),
            queued: status(Status::Queued),
            running: status(Status::Running),
            passed: conclusion(Conclusion::Passed),
            failed: conclusion(Conclusion::Failed),
            errored: conclusion(Conclusion::Errored),
            timed_out: conclusion(Conclusion::TimedOut),
            cancelled: conclusion(Conclusion::Cancelled),
            skipped: conclusion(Conclusion::Skipped),
            flaky: count(&|job| job.conclusion == Some(Conclusion::Passed) && job.tests.flaky > 0),
        };
        assert_eq!(run.jobs, counts, "a run counts its jobs");
        let own = jobs.iter().fold(Counts::default(), |sum, (job, _)| sum.plus(job.tests));
        match run.rerun_of {
            None => assert_eq!((run.tests, run.carried), (own, Counts::default()), "a run counts its tests"),
            Some(_) => {
                let rest = run.tests.minus(run.carried);
                assert_eq!(
                    rest.plus(run.carried),
                    run.tests,
                    "what is carried is among the tests of a rerun"
                );
            }
        }
        assert_eq!(run.status, qgjob_core::queue::rollup::status(&counts));
        assert_eq!(run.conclusion, qgjob_core::queue::rollup::conclusion(&counts, run.tests.failed));
        assert_eq!(run.conclusion, ended.get(&run.id).copied(), "the end of a run is told");
        assert_eq!(run.finished_at.is_some(), run.conclusion.is_some());
    }
}
