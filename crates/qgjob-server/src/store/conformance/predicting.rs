//! What a store keeps and tells so that durations can be predicted.

use qgjob_core::api::agents::Lease;
use qgjob_core::model::attempt::{Install, InstallAction, Phase, Took, TookInstall};
use qgjob_core::model::event::Fact;
use qgjob_core::model::evidence::Stop;
use qgjob_core::model::group;
use qgjob_core::model::name::OrgId;
use qgjob_core::model::refusal::Refusal;
use qgjob_core::model::selector::Target;

use super::world::{Rack, World, acme, broken, stopped};
use crate::store::{PhaseChange, Submission};

pub async fn a_prediction_stays_with_its_job(w: &mut World) {
    let submission = Submission { predicted_ms: vec![7_000, 90_000], ..w.submission(2, |_| ()) };
    let accepted = w.try_submit(submission).await.unwrap();
    let made: Vec<u64> = accepted.jobs.iter().map(|job| job.predicted_ms).collect();
    assert_eq!(made, [7_000, 90_000]);
    assert_eq!(w.job(accepted.jobs[1].id).await.predicted_ms, 90_000);
    let waiting = w.store.waiting_jobs().await.unwrap();
    assert_eq!(waiting.iter().map(|job| job.predicted_ms).collect::<Vec<_>>(), [7_000, 90_000]);
    let group = w.group(&accepted).await;
    let rack = w.rack("rack", 1).await;
    let lease = w.claim(&rack, 0, group).await.unwrap();
    w.finish(&rack, &lease, broken()).await;
    let due = w.now + jiff::SignedDuration::from_mins(10);
    let later = w.submission(1, |run| run.options.not_before = Some(due));
    w.try_submit(Submission { predicted_ms: vec![5], ..later }).await.unwrap();
    w.wait(600);
    w.sweep().await;
    let told = w.events().await.into_iter().filter_map(|event| match event.fact {
        Fact::JobQueued { predicted_ms, .. } => Some(predicted_ms),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), [7_000, 90_000, 7_000, 5], "also when it waits again, or is due");
}

pub async fn each_job_has_a_prediction(w: &mut World) {
    let short = Submission { predicted_ms: vec![7_000], ..w.submission(2, |_| ()) };
    assert!(matches!(w.try_submit(short).await.unwrap_err(), Refusal::Invalid(_)));
    assert_eq!(w.told("job.queued").await, 0);
}

/// What was told of attempts that took a minute and a half each, in order.
async fn told(w: &World) -> Vec<Option<Took>> {
    let events = w.events().await.into_iter();
    let told = events.filter_map(|event| match event.fact {
        Fact::AttemptEnded { took, .. } => Some(took),
        _ => None,
    });
    told.collect()
}

/// A job of the group starts; after a minute and a half it is about to end.
async fn run(w: &mut World, rack: &Rack, group: group::Id, install: Option<(InstallAction, u64)>) -> Lease {
    w.wait(1);
    let lease = w.claim(rack, 0, group).await.unwrap();
    let install = install.map(|(action, duration_ms)| Install { action, duration_ms });
    let change = w.report(rack, &lease, PhaseChange { phase: Phase::Testing, install });
    w.store.set_phase(w.now, vec![change]).await.unwrap().remove(0).unwrap();
    w.wait(90);
    lease
}

/// Runs one job of each kind, and answers what is to be told of those that came to a verdict.
async fn run_all(w: &mut World) -> Vec<(OrgId, Took)> {
    let accepted = w.submit(5).await;
    let group = w.group(&accepted).await;
    let rack = w.rack("rack", 1).await;
    let cold = run(w, &rack, group, Some((InstallAction::Cold, 20_000))).await;
    w.pass(&rack, &cold).await;
    let warm = run(w, &rack, group, Some((InstallAction::Avoided, 2_000))).await;
    w.fail(&rack, &warm).await;
    let reset = run(w, &rack, group, Some((InstallAction::Reset, 20_000))).await;
    w.finish(&rack, &reset, stopped(Stop::TimedOut)).await;
    let released = run(w, &rack, group, Some((InstallAction::VersionChange, 20_000))).await;
    w.finish(&rack, &released, stopped(Stop::Shutdown)).await;
    let unplugged = run(w, &rack, group, None).await;
    w.finish(&rack, &unplugged, broken()).await;
    let took = |lease: &Lease, held_ms, install| {
        (acme(), Took { group_id: group, test: lease.test.clone(), is_shard: false, held_ms, install })
    };
    let install = TookInstall { kind: Target::Emulator, duration_ms: 20_000 };
    vec![took(&cold, 70_000, Some(install)), took(&warm, 90_000, None), took(&reset, 90_000, None)]
}

pub async fn an_attempt_tells_what_it_took(w: &mut World) {
    let mut wanted: Vec<_> = run_all(w).await.into_iter().map(|(_, took)| Some(took)).collect();
    wanted.extend([None, None]);
    assert_eq!(told(w).await, wanted, "without a verdict there is nothing to learn");
}

pub async fn the_history_is_what_was_told(w: &mut World) {
    assert_eq!(w.store.history(100).await.unwrap(), []);
    let wanted = run_all(w).await;
    let next = w.submit(1).await;
    let group = w.group(&next).await;
    let rack = w.rack("next", 1).await;
    w.wait(1);
    w.claim(&rack, 0, group).await.expect("what still runs took nothing yet");
    assert_eq!(w.store.history(100).await.unwrap(), wanted);
    assert_eq!(w.store.history(4).await.unwrap(), wanted[2..], "three of the newest four came to no verdict");
}
