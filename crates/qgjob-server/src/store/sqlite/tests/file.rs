//! The file as other starts and older versions left it.

use qgjob_core::model::event::Fact;

use super::*;
use crate::store::{JobFilter, Scope};

#[tokio::test]
async fn what_a_start_that_was_cut_off_left_is_not_in_the_way() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in [("qgjob.db.new", "half a file"), ("qgjob.db-wal", "of a file that is gone")] {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let mut world = World::new(Arc::new(fresh(&folder))).await;
    assert_eq!(world.submit(1).await.jobs.len(), 1);
    assert!(!folder.path().join("qgjob.db.new").exists());
}

#[tokio::test]
async fn what_an_older_version_stored_is_read() {
    let folder = tempfile::tempdir().unwrap();
    {
        let mut old = Connection::open(folder.path().join("qgjob.db")).unwrap();
        migrate::apply(&mut old, &migrate::ALL[..2]).unwrap();
        old.execute_batch(
            r#"INSERT INTO groups (id, key, org_id, app_version_id) VALUES (1, '{}', 'acme', 'v1');
            INSERT INTO runs (id, org_id, app_version_id, status, total, queued, created_at)
                SELECT unhex(printf('%032x', value)), 'acme', 'v1', 'queued', 2, 2, 1000 FROM json_each('[1,2]');
            INSERT INTO run_specs (run_id, labels, spec) SELECT id, '{}', '{"test":"a.js","bundle_sha256":"' ||
                printf('%064x', 7) || '","platform":null,"target":"any","selector":{},"priority":5,
                "timeout_ms":1000,"infra_retries":1,"test_retries":0,"reset":"none","env":{}}' FROM runs;
            INSERT INTO jobs (id, run_id, org_id, group_id, test, priority, infra_retries, status, queued_at,
                queue_deadline, created_at)
                SELECT unhex(printf('%032x', 10 * r.value + j.value)), unhex(printf('%032x', r.value)), 'acme', 1,
                'test-' || j.value || '.js', 5, 1, 'queued', 1000, 9000, 1000
                FROM json_each('[1,2]') r, json_each('[1,2]') j ORDER BY r.value, j.value;
            INSERT INTO events (seq, at, org_id, run_id, job_id, fact)
                SELECT 100 + ordinal, 1000, org_id, run_id, id, '{"type":"job.scheduled","data":{"not_before":"2026-01-01T00:00:00Z"}}'
                FROM jobs;
            INSERT INTO events (seq, at, org_id, run_id, fact)
                SELECT 200, 1000, org_id, id, '{"type":"run.completed","data":{"conclusion":"passed"}}' FROM runs LIMIT 1;
            UPDATE counters SET value = 200 WHERE name = 'event';"#,
        )
        .unwrap();
    }
    let store = fresh(&folder);
    for run in [1, 2] {
        let filter = JobFilter { run_id: Some(run::Id(run)), ..JobFilter::default() };
        let jobs = store.jobs(&Scope::All, &filter, None, 10).await.unwrap();
        let jobs: Vec<_> = jobs.into_iter().map(|(job, _)| (job.id.0, job.spec.test.to_string())).collect();
        let expected = [1, 2].map(|job| (10 * run + job, format!("test-{job}.js")));
        assert_eq!(jobs, expected);
    }
    let events = store.events_after(&Scope::All, EventFilter::All, 101, 10).await.unwrap();
    let numbers: Vec<_> = events.iter().map(|event| (event.seq, event.job_id.map(|id| id.0))).collect();
    assert_eq!(numbers, [(102, Some(12)), (103, Some(21)), (104, Some(22)), (200, None)]);
    assert!(matches!(events[3].fact, Fact::RunCompleted { .. }));
    assert_eq!(store.last_seq().await.unwrap(), 200);
}
