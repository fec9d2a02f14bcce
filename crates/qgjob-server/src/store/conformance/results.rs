//! What a store tells of a run's tests and files.

use qgjob_core::model::artifact::{self, Artifact};
use qgjob_core::model::sha256::Sha256;
use qgjob_core::model::test_result::{TestOutcome, Try, TryStatus};

use super::world::{World, a_try, broken};

pub async fn a_run_tells_the_tests_of_the_attempts_that_count(w: &mut World) {
    let run = w.submit(4).await;
    let rack = w.rack("rack", 2).await;
    let id = run.run.id;
    assert!(w.store.run_tests(id, None, 10).await.unwrap().is_empty(), "nothing ran yet");

    // The first job has two tests; one of them is repeated.
    let lease = w.claim_job(&rack, 0, run.jobs[0].id).await.unwrap();
    let first = a_try(&lease, TryStatus::Failed, TestOutcome::Unexpected);
    let other = Try { seq: 2, test_id: "t2".to_owned(), title: vec!["another".to_owned()], ..first.clone() };
    let again =
        Try { seq: 3, retry: 1, status: TryStatus::Passed, outcome: TestOutcome::Flaky, ..first.clone() };
    let tries = w.report(&rack, &lease, vec![first, other, again]);
    w.store.add_tries(w.now, vec![tries]).await.unwrap().remove(0).unwrap();

    // The second job's first attempt saw a test and was lost; nothing of it is a result.
    let lost = w.claim_job(&rack, 1, run.jobs[1].id).await.unwrap();
    let seen = w.report(&rack, &lost, vec![a_try(&lost, TryStatus::Passed, TestOutcome::Expected)]);
    w.store.add_tries(w.now, vec![seen]).await.unwrap().remove(0).unwrap();
    assert_eq!(w.store.run_tests(id, None, 10).await.unwrap().len(), 3, "it runs yet");
    w.finish(&rack, &lost, broken()).await;
    let tests = w.store.run_tests(id, None, 10).await.unwrap();
    let told: Vec<_> = tests
        .iter()
        .map(|test| (test.job_id, test.attempt, test.test_id.as_str(), test.outcome, test.tries.len()))
        .collect();
    let job = run.jobs[0].id;
    assert_eq!(told, [(job, 1, "t1", TestOutcome::Flaky, 2), (job, 1, "t2", TestOutcome::Unexpected, 1)]);

    // Its second attempt counts, and the last job's, which is judged to be no verdict.
    w.wait(600);
    w.heartbeat(&rack, false, &[]).await.unwrap();
    let second = w.claim_job(&rack, 1, run.jobs[1].id).await.unwrap();
    w.pass(&rack, &second).await;
    w.heartbeat(&rack, false, &[]).await.unwrap();
    for _ in 0..3 {
        w.wait(600);
        w.heartbeat(&rack, false, &[&lease]).await.unwrap();
        let lease = w.claim_job(&rack, 1, run.jobs[3].id).await.unwrap();
        let seen = w.report(&rack, &lease, vec![a_try(&lease, TryStatus::Passed, TestOutcome::Expected)]);
        w.store.add_tries(w.now, vec![seen]).await.unwrap().remove(0).unwrap();
        w.finish(&rack, &lease, broken()).await;
    }
    let whole = w.store.run_tests(id, None, 10).await.unwrap();
    let told: Vec<_> = whole.iter().map(|test| (test.job_id, test.attempt)).collect();
    assert_eq!(told, [(job, 1), (job, 1), (run.jobs[1].id, 2), (run.jobs[3].id, 3)]);
    let (mut paged, mut after) = (Vec::new(), None);
    while let Some(test) = w.store.run_tests(id, after, 1).await.unwrap().pop() {
        after = Some((test.job_id, test.first_seq()));
        paged.push(test);
    }
    assert_eq!(paged, whole);
    let other = w.submit(1).await;
    assert!(w.store.run_tests(other.run.id, None, 10).await.unwrap().is_empty(), "a run's own");
}

pub async fn a_run_tells_its_files_in_pages(w: &mut World) {
    let run = w.submit(2).await;
    let rack = w.rack("rack", 2).await;
    let mut kept = Vec::new();
    for at in 0..2 {
        let lease = w.claim_job(&rack, at, run.jobs[at].id).await.unwrap();
        for name in ["report.json", "results/a.png"] {
            w.wait(1);
            let artifact = Artifact {
                id: artifact::Id::new(w.now, w.draw()),
                job_id: lease.job_id,
                attempt_id: lease.attempt_id,
                name: name.to_owned(),
                media_type: "image/png".to_owned(),
                size_bytes: 1,
                sha256: Sha256([1; 32]),
                created_at: w.now,
            };
            let report = w.report(&rack, &lease, artifact.clone());
            w.store.add_artifact(w.now, report).await.unwrap().unwrap();
            kept.push(artifact);
        }
    }
    let other = w.submit(1).await;
    assert!(w.store.run_artifacts(other.run.id, None, 10).await.unwrap().is_empty(), "a run's own");
    assert_eq!(w.store.run_artifacts(run.run.id, None, 10).await.unwrap(), kept);
    let rest = w.store.run_artifacts(run.run.id, Some(kept[0].id), 2).await.unwrap();
    assert_eq!(rest, kept[1..3]);
}
