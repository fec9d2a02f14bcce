//! A signal while something is made or watched: in CI what was made is cancelled, also what nobody has answered yet;
//! on a desk it goes on.

use nix::sys::signal::Signal;
use serde_json::Value;

use super::agent::{FakeAgent, Play};
use super::desk::{Desk, Done, SEEDS_SUBMIT, Started};
use crate::device_bench::eventually;
use crate::proxy::{Fate, Proxy};

const CI: (&str, &str) = ("CI", "true");

impl Desk {
    /// Starts a command against `server`, in CI.
    fn start_in_ci(&self, server: &str, args: &[&str]) -> Started {
        let token = self.admin_token();
        self.start_with(&[CI, ("QGJOB_SERVER", server), ("QGJOB_TOKEN", &token)], args)
    }

    async fn runs(&self) -> Vec<Value> {
        self.qgjob(&["run", "list", "-o", "json"]).await.json()["items"].as_array().unwrap().clone()
    }

    /// The conclusions of all runs; null for one that goes on.
    async fn conclusions(&self) -> Vec<Value> {
        self.runs().await.iter().map(|run| run["conclusion"].clone()).collect()
    }
}

fn count(proxy: &Proxy, end: &str) -> usize {
    proxy.seen().iter().filter(|call| call.ends_with(end)).count()
}

/// Ends the command with a signal and checks how it ended.
async fn ended_by(started: Started, signal: Signal) -> Done {
    started.signal(signal);
    let done = started.done().await;
    let code = if signal == Signal::SIGINT { 130 } else { 143 };
    assert_eq!(done.code, code, "{done:?}");
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_creation_was_never_answered_is_cancelled_by_its_key() {
    let desk = Desk::new().await;
    for (signal, watch) in [(Signal::SIGINT, "--watch"), (Signal::SIGTERM, "--wait"), (Signal::SIGINT, "-q")]
    {
        let before = desk.runs().await.len();
        let proxy = Proxy::start(&desk.address, |call| match call.path {
            "/api/v1/runs" => Fate::Unanswered,
            _ => Fate::Passes,
        })
        .await;
        let key = format!("key-{watch}");
        let submit = [SEEDS_SUBMIT, &["--idempotency-key", &key, watch]].concat();
        let submitting = desk.start_in_ci(&proxy.url, &submit);
        proxy.has_answered("/runs").await;
        let done = ended_by(submitting, signal).await;
        assert!(
            done.err.contains(&format!("cancelled what is being submitted with the key {key}")),
            "{done:?}"
        );
        let conclusions = desk.conclusions().await;
        assert_eq!((conclusions.len(), &conclusions[0]), (before + 1, &"cancelled".into()), "{done:?}");
        assert_eq!((count(&proxy, "/runs"), count(&proxy, "/cancel-by-key")), (1, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submit_that_its_cancel_overtakes_is_born_cancelled() {
    let desk = Desk::new().await;
    let proxy = Proxy::start(&desk.address, |call| match call.path {
        "/api/v1/runs" => Fate::Overtaken("/cancel-by-key"),
        _ => Fate::Passes,
    })
    .await;
    let submitting = desk.start_in_ci(&proxy.url, SEEDS_SUBMIT);
    proxy.is_asked_for("/runs").await;
    ended_by(submitting, Signal::SIGINT).await;
    proxy.has_answered("/runs").await;
    assert_eq!(desk.conclusions().await, ["cancelled"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_creation_there_is_nothing_to_cancel() {
    let desk = Desk::new().await;
    for (end, signal) in [("/uploads", Signal::SIGINT), ("/complete", Signal::SIGTERM)] {
        let proxy = Proxy::start(&desk.address, move |call| match call.path.ends_with(end) {
            true => Fate::Unanswered,
            false => Fate::Passes,
        })
        .await;
        let submitting = desk.start_in_ci(&proxy.url, &[SEEDS_SUBMIT, &["--watch"]].concat());
        proxy.is_asked_for(end).await;
        let done = ended_by(submitting, signal).await;
        assert!(done.err.contains("nothing was submitted"), "{done:?}");
        assert_eq!((count(&proxy, "/runs"), count(&proxy, "/cancel-by-key")), (0, 0));
    }
    assert!(desk.runs().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_watched_is_cancelled_in_ci_and_goes_on_at_a_desk() {
    let desk = Desk::new().await;
    let watch = [SEEDS_SUBMIT, &["--watch"]].concat();
    let cancel = [&watch[..], &["--cancel-on-interrupt"]].concat();
    let detach = [&watch[..], &["--detach-on-interrupt"]].concat();
    for (env, args, signal, cancelled) in [
        (&[CI][..], &watch, Signal::SIGINT, true),
        (&[("CI", "false")], &watch, Signal::SIGINT, false),
        (&[], &watch, Signal::SIGINT, false),
        (&[], &cancel, Signal::SIGTERM, true),
        (&[CI], &detach, Signal::SIGTERM, false),
    ] {
        let watching = desk.start_with(env, args).has_begun().await;
        let done = ended_by(watching, signal).await;
        let run = desk.runs().await[0].clone();
        let id = run["id"].as_str().unwrap();
        let (conclusion, said) = match cancelled {
            true => (Value::from("cancelled"), format!("cancelled {id}")),
            false => {
                (Value::Null, format!("qgjob status --run-id={id} --watch; to end it: qgjob cancel {id}"))
            }
        };
        assert_eq!(run["conclusion"], conclusion, "{env:?} {args:?}: {done:?}");
        assert!(done.err.contains(&said), "{env:?} {args:?}: {done:?}");
    }
    let both = desk.qgjob(&[&cancel[..], &["--detach-on-interrupt"]].concat()).await;
    assert!(both.code == 2 && both.err.contains("cannot be used with"), "{both:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_are_told_as_json() {
    let desk = Desk::new().await;
    let proxy = Proxy::start(&desk.address, |_| Fate::Passes).await;
    let submit = [SEEDS_SUBMIT, &["--wait", "-o", "json"]].concat();
    let waiting = desk.start_in_ci(&proxy.url, &submit);
    proxy.is_asked_for("/events").await;
    let done = ended_by(waiting, Signal::SIGTERM).await;
    let error: Value = serde_json::from_str(done.err.lines().last().unwrap()).unwrap();
    assert_eq!((&error["error"]["code"], &error["error"]["exit_code"]), (&"terminated".into(), &143.into()));
    assert!(error["error"]["detail"].as_str().unwrap().contains("cancelled run_"), "{done:?}");
    assert_eq!((done.out.as_str(), desk.conclusions().await), ("", vec!["cancelled".into()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_test_is_stopped_and_its_device_is_free_again() {
    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    let agent = FakeAgent::start(&desk, &["p1"], |_| Play::Lasts(2_000)).await;
    let watching = desk.start_with(&[CI], &[SEEDS_SUBMIT, &["--watch"]].concat()).has_begun().await;
    eventually("the job runs", async || desk.runs().await.iter().any(|run| run["status"] == "running")).await;
    ended_by(watching, Signal::SIGINT).await;
    assert_eq!(desk.conclusions().await, ["cancelled"]);
    eventually("the device is idle", async || {
        desk.qgjob(&["device", "list", "-o", "json"]).await.json()["items"][0]["state"] == "idle"
    })
    .await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_a_retry_made_is_cancelled_and_what_it_was_making_too() {
    let desk = Desk::new().await;
    let submit = ["submit", "--org-id=qualgent", "--app-version-id=xyz123", "--test=tests", "-o", "json"];
    let run = desk.qgjob(&submit).await.json()["run_id"].as_str().unwrap().to_owned();
    assert_eq!(desk.qgjob(&["cancel", &run]).await.code, 0);
    // Two of three are answered.
    let retries = std::sync::atomic::AtomicUsize::new(0);
    let proxy = Proxy::start(&desk.address, move |call| {
        let again = call.path.ends_with("/retry");
        match again && retries.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 2 {
            true => Fate::Unanswered,
            false => Fate::Passes,
        }
    })
    .await;
    let retrying = desk.start_in_ci(&proxy.url, &["retry", &run, "--watch"]);
    eventually("three are made", async || desk.runs().await.len() == 4).await;
    let done = ended_by(retrying, Signal::SIGINT).await;
    assert_eq!(desk.conclusions().await, ["cancelled"; 4], "{done:?}");
    assert_eq!((count(&proxy, "/cancel"), count(&proxy, "/cancel-by-key")), (2, 1), "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_only_watches_ends_nothing_unasked() {
    let desk = Desk::new().await;
    let job = desk.qgjob(&[SEEDS_SUBMIT, &["-o", "name"]].concat()).await.out.trim().to_owned();
    let watching = desk.start_with(&[CI], &["status", &job, "--watch"]).has_begun().await;
    let done = ended_by(watching, Signal::SIGINT).await;
    assert!(done.err.contains(&format!("qgjob status --job-id={job} --watch")), "{done:?}");
    assert_eq!(desk.conclusions().await, [Value::Null]);

    let proxy = Proxy::start(&desk.address, |_| Fate::Passes).await;
    let waiting = desk.start_in_ci(&proxy.url, &["wait", &job, "--cancel-on-interrupt"]);
    proxy.is_asked_for("/events").await;
    let done = ended_by(waiting, Signal::SIGTERM).await;
    assert!(done.err.contains(&format!("cancelled {job}")), "{done:?}");
    assert_eq!(desk.conclusions().await, ["cancelled"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_is_repeated_until_it_is_confirmed() {
    let desk = Desk::new().await;
    let cancels = std::sync::atomic::AtomicUsize::new(0);
    // The first is swallowed, the second refused: the one after them arrives.
    let proxy = Proxy::start(&desk.address, move |call| {
        let number =
            call.path.ends_with("/cancel").then(|| cancels.fetch_add(1, std::sync::atomic::Ordering::SeqCst));
        match number {
            Some(0) => Fate::Lost,
            Some(1) => Fate::Refused(500, None),
            _ => Fate::Passes,
        }
    })
    .await;
    let watching = desk.start_in_ci(&proxy.url, &[SEEDS_SUBMIT, &["--watch"]].concat()).has_begun().await;
    let done = ended_by(watching, Signal::SIGINT).await;
    assert!(done.err.contains("cancelled run_"), "{done:?}");
    assert_eq!((desk.conclusions().await, count(&proxy, "/cancel")), (vec!["cancelled".into()], 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_that_nobody_confirms_is_given_up_in_time_or_at_a_second_signal() {
    let desk = Desk::new().await;
    let proxy = Proxy::start(&desk.address, |call| match call.path.ends_with("/cancel") {
        true => Fate::Lost,
        false => Fate::Passes,
    })
    .await;
    let submit = [SEEDS_SUBMIT, &["--watch"]].concat();
    let watching = desk.start_in_ci(&proxy.url, &submit).has_begun().await;
    let done = ended_by(watching, Signal::SIGINT).await;
    assert!(done.err.contains("was not confirmed") && done.err.contains("qgjob cancel run_"), "{done:?}");
    assert!(done.err.contains("no answer within 5 s"), "{done:?}");

    let before = count(&proxy, "/cancel");
    let watching = desk.start_in_ci(&proxy.url, &submit).has_begun().await;
    watching.signal(Signal::SIGINT);
    eventually("the cancel is sent", async || count(&proxy, "/cancel") > before).await;
    watching.signal(Signal::SIGTERM);
    let done = watching.done().await;
    assert_eq!(done.code, 130, "{done:?}");
    assert!(
        done.err.contains("a second signal came before") && done.err.contains("qgjob cancel run_"),
        "{done:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_can_be_cancelled_before_its_submit_comes() {
    let desk = Desk::new().await;
    let cancelled = desk.qgjob(&["cancel", "--org-id=qualgent", "--idempotency-key=later"]).await;
    assert_eq!(cancelled.code, 0, "{cancelled:?}");
    let submit = [SEEDS_SUBMIT, &["--idempotency-key=later", "--watch"]].concat();
    let submitted = desk.qgjob(&submit).await;
    assert_eq!(submitted.code, 13, "{submitted:?}");
    let no_org = desk.qgjob(&["cancel", "--idempotency-key=later"]).await;
    assert!(no_org.code == 2 && no_org.err.contains("--org-id"), "{no_org:?}");
}
