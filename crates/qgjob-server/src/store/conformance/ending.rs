//! How attempts and jobs end.

use qgjob_core::model::artifact::{self, Artifact};
use qgjob_core::model::attempt::{Install, InstallAction, Outcome, Phase};
use qgjob_core::model::evidence::Stop;
use qgjob_core::model::job;
use qgjob_core::model::job::{Conclusion, Reason, Status};
use qgjob_core::model::refusal::Refusal;
use qgjob_core::model::sha256::Sha256;
use qgjob_core::model::test_result::{TestOutcome, TryStatus};

use super::world::{World, a_try, broken, ran, stopped};
use crate::store::{PhaseChange, Report, Scope};

pub async fn a_pass_needs_its_tries(w: &mut World) {
    let accepted = w.submit(2).await;
    let group = w.group(&accepted).await;
    let rack = w.rack("rack", 2).await;
    let honest = w.claim(&rack, 0, group).await.unwrap();
    let finished = w.pass(&rack, &honest).await;
    assert_eq!(
        (finished.judgement.outcome, finished.conclusion),
        (Outcome::Passed, Some(Conclusion::Passed))
    );
    let job = w.job(honest.job_id).await;
    assert_eq!((job.status, job.reason, job.tests.passed), (Status::Completed, Some(Reason::TestsPassed), 1));
    assert_eq!((job.finished_at, job.phase), (Some(w.now), None));
    let unseen = w.claim(&rack, 1, group).await.unwrap();
    let finished = w.finish(&rack, &unseen, ran(&unseen, TestOutcome::Expected, 0)).await;
    assert_eq!(finished.judgement.reason, Reason::ReportContradicts, "nobody saw the test pass");
    assert_eq!(finished.conclusion, None);
}

pub async fn a_failed_test_is_final(w: &mut World) {
    let accepted = w.submit(1).await;
    let group = w.group(&accepted).await;
    let rack = w.rack("rack", 1).await;
    let lease = w.claim(&rack, 0, group).await.unwrap();
    let finished = w.fail(&rack, &lease).await;
    assert_eq!(
        (finished.judgement.outcome, finished.conclusion),
        (Outcome::Failed, Some(Conclusion::Failed))
    );
    let tries = w.store.tries(lease.job_id).await.unwrap();
    assert_eq!(tries, [(lease.attempt_id, a_try(&lease, TryStatus::Failed, TestOutcome::Unexpected))]);
    let reasons = w.store.run_reasons(accepted.run.id).await.unwrap();
    assert_eq!(reasons, [(Conclusion::Failed, Some(Reason::TestsFailed))]);
}

pub async fn infrastructure_is_tried_again_elsewhere(w: &mut World) {
    let accepted = w.submit(1).await;
    let group = w.group(&accepted).await;
    let rack = w.rack("rack", 3).await;
    for device in 0..3 {
        w.wait(600);
        w.heartbeat(&rack, false, &[]).await.unwrap();
        let lease = w.claim(&rack, device, group).await.unwrap();
        assert_eq!(lease.number as usize, device + 1);
        let finished = w.finish(&rack, &lease, broken()).await;
        let job = w.job(lease.job_id).await;
        if device < 2 {
            assert_eq!((finished.conclusion, job.status), (None, Status::Queued));
            assert_eq!((job.infra_faults as usize, &job.avoid[..]), (device + 1, &rack.devices[..=device]));
            assert_eq!((job.reason, job.detail.as_deref()), (Some(Reason::DeviceFault), Some("unplugged")));
            let waiting = w.store.waiting_jobs().await.unwrap();
            assert_eq!((waiting[0].not_before, &waiting[0].avoid), (job.not_before, &job.avoid));
            assert!(job.not_before.unwrap() >= w.now);
        } else {
            assert_eq!(finished.conclusion, Some(Conclusion::Errored), "the budget is 2 retries");
            assert_eq!(job.reason, Some(Reason::DeviceFault));
        }
    }
    assert_eq!(w.store.attempts(accepted.jobs[0].id).await.unwrap().len(), 3);
}

pub async fn a_repeated_finish_answers_alike(w: &mut World) {
    let accepted = w.submit(2).await;
    let group = w.group(&accepted).await;
    let rack = w.rack("rack", 2).await;
    let lease = w.claim(&rack, 0, group).await.unwrap();
    let first = w.pass(&rack, &lease).await;
    let told = w.events().await.len();
    // The second report says otherwise: what counts is the first.
    let again = w.finish(&rack, &lease, broken()).await;
    assert_eq!((again.judgement, again.conclusion), (first.judgement, first.conclusion));
    let lease = w.claim(&rack, 1, group).await.unwrap();
    let first = w.finish(&rack, &lease, broken()).await;
    let again = w.finish(&rack, &lease, broken()).await;
    assert_eq!((again.judgement, again.conclusion), (first.judgement, None));
    assert_eq!(w.job(lease.job_id).await.infra_faults, 1, "one fault, told twice, costs once");
    assert_eq!(w.events().await.len(), told + 3, "started, ended, queued: nothing for the repeats");
}

pub async fn a_late_finish_changes_nothing(w: &mut World) {
    let accepted = w.submit(1).await;
    let group = w.group(&accepted).await;
    let rack = w.rack("rack", 2).await;
    let zombie = w.claim(&rack, 0, group).await.unwrap();
    let tries = vec![a_try(&zombie, TryStatus::Passed, TestOutcome::Expected)];
    w.store.add_tries(w.now, vec![w.report(&rack, &zombie, tries)]).await.unwrap().remove(0).unwrap();
    w.wait(40);
    assert_eq!(w.sweep().await.leases_expired, 1);
    let before = w.job(zombie.job_id).await;
    let late = w.try_finish(&rack, &zombie, ran(&zombie, TestOutcome::Expected, 0)).await;
    assert_eq!(late.unwrap_err(), Refusal::LeaseLost { epoch: zombie.epoch });
    assert_eq!(w.job(zombie.job_id).await, before);
    assert_eq!(w.told("attempt.stale_report").await, 1, "it is kept as evidence");
    w.wait(10);
    let lease = w.claim(&rack, 1, group).await.unwrap();
    w.try_finish(&rack, &zombie, ran(&zombie, TestOutcome::Expected, 0)).await.unwrap_err();
    assert_eq!(w.job(zombie.job_id).await.status, Status::Running);
    // An epoch that is wrong while the attempt lives is no better.
    let mut wrong = lease.clone();
    wrong.epoch += 1;
    w.try_finish(&rack, &wrong, broken()).await.unwrap_err();
    assert_eq!(w.pass(&rack, &lease).await.conclusion, Some(Conclusion::Passed));
    let stranger = w.rack("stranger", 1).await;
    let foreign = w.try_finish(&stranger, &lease, broken()).await.unwrap_err();
    assert!(matches!(foreign, Refusal::NotFound { .. }), "an agent sees only its own attempts");
}

pub async fn a_released_job_costs_nothing(w: &mut World) {
    let accepted = w.submit(1).await;
    let group = w.group(&accepted).await;
    let rack = w.rack("rack", 1).await;
    for _ in 0..5 {
        let lease = w.claim(&rack, 0, group).await.unwrap();
        let finished = w.finish(&rack, &lease, stopped(Stop::Shutdown)).await;
        assert_eq!((finished.judgement.outcome, finished.conclusion), (Outcome::Released, None));
    }
    let job = w.job(accepted.jobs[0].id).await;
    assert_eq!((job.status, job.attempts, job.infra_faults, job.not_before), (Status::Queued, 5, 0, None));
}

pub async fn a_run_ends_with_its_last_job(w: &mut World) {
    let accepted = w.submit(2).await;
    let group = w.group(&accepted).await;
    let rack = w.rack("rack", 1).await;
    let version = w.run(accepted.run.id).await.version;
    let lease = w.claim(&rack, 0, group).await.unwrap();
    w.pass(&rack, &lease).await;
    let run = w.run(accepted.run.id).await;
    assert_eq!((run.status, run.conclusion, run.jobs.passed), (Status::Running, None, 1));
    assert!(run.version > version);
    assert_eq!(w.told("run.completed").await, 0);
    let lease = w.claim(&rack, 0, group).await.unwrap();
    w.fail(&rack, &lease).await;
    let run = w.run(accepted.run.id).await;
    assert_eq!(
        (run.status, run.conclusion, run.finished_at),
        (Status::Completed, Some(Conclusion::Failed), Some(w.now))
    );
    assert_eq!(w.told("run.completed").await, 1);
}

pub async fn installs_are_counted_once(w: &mut World) {
    let accepted = w.submit(2).await;
    let group = w.group(&accepted).await;
    let rack = w.rack("rack", 2).await;
    for (device, action) in [(0, InstallAction::Cold), (1, InstallAction::Avoided)] {
        let lease = w.claim(&rack, device, group).await.unwrap();
        let install = Some(Install { action, duration_ms: 12 });
        let version = w.job(lease.job_id).await.version;
        for _ in 0..2 {
            let change = w.report(&rack, &lease, PhaseChange { phase: Phase::Testing, install });
            w.store.set_phase(w.now, vec![change]).await.unwrap().remove(0).unwrap();
        }
        let (job, facts) = w.store.job(&Scope::All, lease.job_id).await.unwrap().unwrap();
        assert_eq!((job.phase, facts.install), (Some(Phase::Testing), install));
        assert_eq!(facts.device_name.as_deref(), Some(format!("rack-{device}").as_str()));
        assert_eq!(job.version, version + 1, "the repeat changed nothing");
    }
    let (_, installs) = w.store.run(&Scope::All, accepted.run.id).await.unwrap().unwrap();
    assert_eq!((installs.made, installs.avoided), (1, 1));
    assert_eq!(w.told("job.phase").await, 2);
}

pub async fn an_install_is_in_the_ledger_at_once(w: &mut World) {
    let accepted = w.submit(2).await;
    let group = w.group(&accepted).await;
    let rack = w.rack("rack", 1).await;
    assert!(w.device(rack.devices[0]).await.ledger.is_empty());
    for action in [InstallAction::Cold, InstallAction::Avoided] {
        let lease = w.claim(&rack, 0, group).await.unwrap();
        let before = w.told("device.changed").await;
        w.wait(1);
        let install = Some(Install { action, duration_ms: 12 });
        for _ in 0..2 {
            let change = w.report(&rack, &lease, PhaseChange { phase: Phase::Testing, install });
            w.store.set_phase(w.now, vec![change]).await.unwrap().remove(0).unwrap();
        }
        let ledger = w.device(lease.device_id).await.ledger;
        let found: Vec<_> =
            ledger.iter().map(|one| (one.app_id.as_str(), one.sha256, one.verified_at)).collect();
        assert_eq!(
            found,
            [(lease.build.app_id.as_str(), lease.build.sha256, w.now)],
            "without any heartbeat"
        );
        let news = usize::from(action == InstallAction::Cold);
        assert_eq!(
            w.told("device.changed").await,
            before + news,
            "told once, and only when the build is new"
        );
        w.pass(&rack, &lease).await;
    }
}

pub async fn reports_need_the_lease(w: &mut World) {
    let accepted = w.submit(1).await;
    let group = w.group(&accepted).await;
    let rack = w.rack("rack", 1).await;
    let lease = w.claim(&rack, 0, group).await.unwrap();
    let tries = vec![a_try(&lease, TryStatus::Passed, TestOutcome::Expected)];
    for _ in 0..2 {
        let report = w.report(&rack, &lease, tries.clone());
        w.store.add_tries(w.now, vec![report]).await.unwrap().remove(0).unwrap();
    }
    assert_eq!(w.told("test.finished").await, 1, "a try that is known is ignored");
    let old = Report { epoch: lease.epoch - 1, ..w.report(&rack, &lease, tries.clone()) };
    let refusal = w.store.add_tries(w.now, vec![old]).await.unwrap().remove(0).unwrap_err();
    assert_eq!(refusal, Refusal::LeaseLost { epoch: lease.epoch - 1 });
    w.pass(&rack, &lease).await;
    let before = w.events().await.len();
    let late = w.report(&rack, &lease, tries);
    w.store.add_tries(w.now, vec![late]).await.unwrap().remove(0).unwrap_err();
    let phase = w.report(&rack, &lease, PhaseChange { phase: Phase::Testing, install: None });
    w.store.set_phase(w.now, vec![phase]).await.unwrap().remove(0).unwrap_err();
    assert_eq!(w.renew(&rack, &lease).await, qgjob_core::api::agents::Order::Abandon);
    assert_eq!(w.events().await.len(), before);
}

pub async fn artifacts_are_kept_once(w: &mut World) {
    let accepted = w.submit(1).await;
    let group = w.group(&accepted).await;
    let rack = w.rack("rack", 1).await;
    let lease = w.claim(&rack, 0, group).await.unwrap();
    let artifact = Artifact {
        id: artifact::Id::new(w.now, w.draw()),
        job_id: lease.job_id,
        attempt_id: lease.attempt_id,
        name: "onboarding/trace.zip".to_owned(),
        media_type: "application/zip".to_owned(),
        size_bytes: 5,
        sha256: Sha256([5; 32]),
        created_at: w.now,
    };
    let again = Artifact { id: artifact::Id::new(w.now, w.draw()), ..artifact.clone() };
    let other = Artifact { sha256: Sha256([6; 32]), ..again.clone() };
    for (given, accepted) in [(&artifact, true), (&again, true), (&other, false)] {
        let answer = w.store.add_artifact(w.now, w.report(&rack, &lease, given.clone())).await.unwrap();
        assert_eq!(answer.is_ok(), accepted, "{answer:?}");
    }
    assert_eq!(w.store.artifacts(lease.job_id).await.unwrap(), std::slice::from_ref(&artifact));
    let (found, owner) = w.store.artifact(&Scope::All, artifact.id).await.unwrap().unwrap();
    assert_eq!((found, owner), (artifact.clone(), accepted.run.org_id.clone()));
    w.pass(&rack, &lease).await;
    let late = Artifact { name: "late".to_owned(), ..again };
    w.store.add_artifact(w.now, w.report(&rack, &lease, late)).await.unwrap().unwrap_err();
}

pub async fn jobs_of_a_broken_build_end_while_they_wait(w: &mut World) {
    let accepted = w.submit(3).await;
    let due = w.now + jiff::SignedDuration::from_hours(1);
    let later = w.submit_with(1, |run| run.options.not_before = Some(due)).await;
    let ids: Vec<job::Id> = accepted.jobs.iter().chain(&later.jobs).map(|job| job.id).collect();
    let rack = w.rack("rack", 1).await;
    let lease = w.claim_job(&rack, 0, ids[0]).await.unwrap();
    for _ in 0..2 {
        let answers = w.store.give_up(w.now, ids.clone(), "it failed on 4 of 4 devices").await.unwrap();
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    }
    assert_eq!(w.job(ids[0]).await.status, Status::Running, "it may yet pass");
    assert_eq!(w.job(ids[3]).await.status, Status::Scheduled);
    for id in &ids[1..3] {
        let job = w.job(*id).await;
        assert_eq!((job.conclusion, job.reason), (Some(Conclusion::Errored), Some(Reason::BrokenBuild)));
        assert_eq!(job.detail.as_deref(), Some("it failed on 4 of 4 devices"));
    }
    w.pass(&rack, &lease).await;
    assert_eq!(w.run(accepted.run.id).await.conclusion, Some(Conclusion::Errored));
    let unknown = w.store.give_up(w.now, vec![job::Id(1)], "").await.unwrap();
    assert!(matches!(unknown[0], Err(Refusal::NotFound { .. })));
}
