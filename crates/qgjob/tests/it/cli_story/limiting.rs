//! Holding jobs back and moving them forward, as an operator does it and as a team sees it.

use std::time::Duration;

use super::agent::{FakeAgent, Play};
use super::desk::{Desk, SEEDS_SUBMIT, redact};

const ORG: &str = "--org-id=qualgent";

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_queue_starts_nothing_until_it_is_resumed() {
    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    let paused = desk.qgjob(&["queue", "pause", "xyz123", ORG]).await;
    insta::assert_snapshot!(paused.out, @"✓ Paused xyz123 of qualgent: 0 jobs waiting, 0 running");
    let agent = FakeAgent::start(&desk, &["p1"], |_| Play::Passes).await;
    let job = desk.qgjob(&[SEEDS_SUBMIT, &["-o", "name"]].concat()).await.out.trim().to_owned();
    // Another app version is run meanwhile.
    desk.bind_app("other").await;
    let other = ["submit", ORG, "--app-version-id=other", "--test=tests/cart.spec.js", "--wait"];
    assert_eq!(desk.qgjob(&other).await.code, 0);
    let view = desk.qgjob(&["queue", "view", "xyz123", ORG]).await;
    insta::assert_snapshot!(redact(&view.out), @r"
    xyz123 of qualgent: 1 job waiting, 0 running, paused

    APP VERSION  ORG       PLATFORM  TARGET  DEVICE  CONCURRENCY  QUEUED  RUNNING  PRIORITY  OLDEST  STATE   WARM DEVICES
    xyz123       qualgent            any                          1       0        5         SPAN  paused  p1
    ");
    insta::assert_snapshot!(redact(&desk.qgjob(&["queue", "list"]).await.out), @r"
    APP VERSION  ORG       PLATFORM  TARGET  DEVICE  CONCURRENCY  QUEUED  RUNNING  PRIORITY  OLDEST  STATE   WARM DEVICES
    xyz123       qualgent            any                          1       0        5         SPAN  paused  p1
    ");
    let waits = desk.qgjob(&["wait", &job, "--wait-timeout=200ms"]).await;
    assert_eq!(waits.code, 15, "{waits:?}");
    let resumed = desk.qgjob(&["queue", "resume", "xyz123", ORG]).await;
    // The waiting phone may have the job before the answer counts.
    assert!(resumed.out.starts_with("✓ Resumed xyz123 of qualgent: "), "{resumed:?}");
    assert_eq!(desk.qgjob(&["wait", &job]).await.code, 0);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_pauses_an_org_and_changes_what_it_may_hold() {
    let desk = Desk::new().await;
    let done = async |args: &[&str]| {
        let done = desk.qgjob(&[args, &[ORG]].concat()).await;
        assert_eq!(done.code, 0, "{args:?}: {done:?}");
        done.out
    };
    insta::assert_snapshot!(done(&["org", "quota", "view"]).await, @r"
    qualgent
      weight       1
      max running  no limit
      paused       no
      queued       0
      running      0
    ");
    insta::assert_snapshot!(done(&["org", "quota", "set", "--weight=3", "--max-running=20"]).await, @r"
    ✓ Changed qualgent
      weight       3
      max running  20
      paused       no
      queued       0
      running      0
    ");
    insta::assert_snapshot!(done(&["org", "quota", "set", "--max-running=none"]).await, @r"
    ✓ Changed qualgent
      weight       3
      max running  no limit
      paused       no
      queued       0
      running      0
    ");
    insta::assert_snapshot!(done(&["org", "pause"]).await, @"✓ Paused qualgent: 0 jobs waiting, 0 running");
    insta::assert_snapshot!(done(&["queue", "resume", "xyz123"]).await, @"✓ Resumed xyz123 of qualgent: 0 jobs waiting, 0 running; its org is still paused");
    insta::assert_snapshot!(done(&["org", "resume"]).await, @"✓ Resumed qualgent: 0 jobs waiting, 0 running");
    insta::assert_snapshot!(done(&["org", "concurrency", "set", "staging", "--limit=2"]).await, @"✓ Of staging, 2 jobs may run at a time");
    insta::assert_snapshot!(done(&["org", "concurrency", "list"]).await, @r"
    CONCURRENCY GROUP  LIMIT  QUEUED  RUNNING
    staging            2      0       0
    ");
    assert_eq!(done(&["org", "concurrency", "list", "-o", "name"]).await, "staging\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orgs_token_pauses_its_queue_and_leaves_its_quota_alone() {
    let desk = Desk::new().await;
    let token = desk.qgjob(&["token", "create", ORG, "--name=ci", "-q"]).await.out.trim().to_owned();
    for (args, code) in [
        (&["queue", "pause", "xyz123"][..], 0),
        (&["queue", "resume", "xyz123"], 0),
        (&["org", "quota", "view", ORG], 0),
        (&["org", "concurrency", "set", "staging", "--limit=2", ORG], 0),
        (&["org", "quota", "set", "--weight=9", ORG], 4),
        (&["org", "pause", ORG], 4),
        (&["org", "quota", "view", "--org-id=other"], 5),
        (&["queue", "pause", "xyz123", "--org-id=other"], 5),
    ] {
        let done = desk.qgjob_with(&[("QGJOB_TOKEN", &token)], args).await;
        assert_eq!(done.code, code, "{args:?}: {done:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_cannot_be_is_refused_with_a_way_out() {
    let desk = Desk::new().await;
    let job = desk.qgjob(&[SEEDS_SUBMIT, &["-o", "name"]].concat()).await.out.trim().to_owned();
    assert_eq!(desk.qgjob(&["cancel", &job]).await.code, 0);
    for (args, code, says) in [
        (&["org", "quota", "view"][..], 2, "--org-id"),
        (&["org", "quota", "set", ORG], 2, "--weight"),
        (&["org", "quota", "set", ORG, "--weight=0"], 2, "1..=1000"),
        (&["org", "quota", "set", ORG, "--max-running=0"], 2, "qgjob org pause"),
        (&["org", "concurrency", "set", "two words", "--limit=1", ORG], 2, "must be 1 to 64 of"),
        (&["queue", "view", "typo", ORG], 5, "typo"),
        (&["queue", "promote"], 2, "JOB"),
        (&["queue", "promote", &job], 6, "cannot promote a job that is completed"),
        (&[SEEDS_SUBMIT, &["--concurrency-group=-x"]].concat(), 2, "must be 1 to 64 of"),
    ] {
        let done = desk.qgjob(args).await;
        assert_eq!(done.code, code, "{args:?}: {done:?}");
        assert!(done.err.contains(says), "{args:?} should say {says}: {done:?}");
    }
}

/// Two phones, and jobs that use one backend: they take turns.
#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_name_a_concurrency_group_take_turns() {
    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    desk.bind_app("other").await;
    let agent = FakeAgent::start(&desk, &["p1", "p2"], |_| Play::Lasts(150)).await;
    let mut runs = Vec::new();
    for label in ["--app-version-id=xyz123", "--app-version-id=other"] {
        let submit = ["submit", ORG, label, "--test=tests", "--concurrency-group=staging", "-o", "json"];
        let submitted = desk.qgjob(&submit).await.json();
        runs.push(submitted["run_id"].as_str().unwrap().to_owned());
    }
    for run in &runs {
        assert_eq!(desk.qgjob(&["wait", run]).await.code, 0);
    }
    let listed = desk.qgjob(&["list", "-o", "json"]).await.json();
    let span = |job: &serde_json::Value| {
        assert_eq!(job["concurrency_group"], "staging");
        let at = |field: &str| job[field].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        (at("started_at"), at("finished_at"))
    };
    let mut spans: Vec<_> = listed["items"].as_array().unwrap().iter().map(span).collect();
    spans.sort();
    assert_eq!(spans.len(), 6);
    assert!(spans.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{spans:?}");
    assert!(
        spans
            .iter()
            .all(|(from, to)| to.duration_since(*from) >= Duration::from_millis(150).try_into().unwrap())
    );
    agent.stop().await;
}
