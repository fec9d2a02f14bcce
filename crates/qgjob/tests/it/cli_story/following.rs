//! The client that follows a job, with constants that tests can wait for: what a server or a network says too late,
//! twice, or not at all.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::routing::get;
use futures_util::{Stream, StreamExt};
use qgjob::client::watch::{Options, Subject, Update, follow};
use qgjob::client::{self, Client, Secret};
use serde_json::{Value, json};

use super::agent::{FakeAgent, Play};
use super::desk::{Desk, SEEDS_SUBMIT};
use crate::device_bench::eventually;
use crate::proxy::{Fate, Proxy};

const SECOND: Duration = Duration::from_secs(1);

/// What a follower told.
#[derive(Debug, Default)]
struct Told {
    events: Vec<u64>,
    /// How long it said that it would wait, for each try that failed.
    lost: Vec<Duration>,
    back: usize,
    /// How it ended: the conclusion, or the error.
    end: Option<Result<Value, client::Error>>,
}

async fn told(url: &str, token: Option<String>, job: &str, options: Options) -> Told {
    let client = Client::new(&url.parse().unwrap(), token.map(Secret::new), 5 * SECOND).unwrap();
    let (to, mut updates) = tokio::sync::mpsc::channel(64);
    let following = tokio::spawn(follow(client, Subject::Job(job.to_owned()), options, (), to));
    let mut told = Told::default();
    let listening = async {
        while let Some(((), update)) = updates.recv().await {
            match update {
                Ok(Update::Begin(_) | Update::Now(_)) => {}
                Ok(Update::Event { json, .. }) => {
                    told.events.push(serde_json::from_str::<Value>(&json).unwrap()["seq"].as_u64().unwrap());
                }
                Ok(Update::Lost { next, .. }) => told.lost.push(next),
                Ok(Update::Back) => told.back += 1,
                Ok(Update::End(view)) => told.end = Some(Ok(view.json()["conclusion"].clone())),
                Err(error) => told.end = Some(Err(error)),
            }
        }
    };
    tokio::time::timeout(60 * SECOND, listening).await.expect("it ends");
    following.await.unwrap();
    told
}

/// A server of one job, of which `events` tells what comes after an event; over once it said so.
struct Stage {
    url: String,
    job: String,
    /// After which event each connection asked.
    asked: Arc<Mutex<Vec<u64>>>,
}

impl Stage {
    async fn new<S>(events: impl Fn(u64) -> S + Clone + Send + Sync + 'static) -> Self
    where
        S: Stream<Item = String> + Send + 'static,
    {
        // A true document, so that the client understands it.
        let desk = Desk::new().await;
        let job = desk.qgjob(&[SEEDS_SUBMIT, &["-o", "name"]].concat()).await.out.trim().to_owned();
        let waiting = desk.qgjob(&["status", &job, "-o", "json"]).await.json();
        let mut over = waiting.clone();
        over["status"] = json!("completed");
        over["conclusion"] = json!("passed");
        over["exit_code"] = json!(0);
        let asked: Arc<Mutex<Vec<u64>>> = Arc::default();
        let (asking, said) = (Arc::clone(&asked), Arc::new(Mutex::new(false)));
        let is_over = Arc::clone(&said);
        let view = get(move || async move {
            axum::Json(if *is_over.lock().unwrap() { over.clone() } else { waiting.clone() })
        });
        let stream = get(move |headers: HeaderMap| async move {
            let after = headers["last-event-id"].to_str().unwrap().parse().unwrap();
            asking.lock().unwrap().push(after);
            let pieces = events(after).map(move |piece| {
                *said.lock().unwrap() |= piece.contains("job.completed");
                Ok::<_, io::Error>(piece)
            });
            ([("content-type", "text/event-stream")], Body::from_stream(pieces)).into_response()
        });
        let app = Router::new()
            .route(&format!("/api/v1/jobs/{job}"), view)
            .route(&format!("/api/v1/jobs/{job}/events"), stream);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, job, asked }
    }
}

fn event(seq: u64, kind: &str) -> String {
    format!("id: {seq}\nevent: {kind}\ndata: {{\"seq\":{seq}}}\n\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_only_shows_life_is_not_given_up() {
    // Longer without an event than a stream may be silent, but never silent.
    let stage = Stage::new(|_| {
        let begin = futures_util::stream::once(async { event(1, "job.phase") });
        let life = futures_util::stream::iter(0..24).then(|_| async {
            tokio::time::sleep(SECOND / 5).await;
            ": ping\n\n".to_owned()
        });
        let end = futures_util::stream::once(async { event(2, "job.completed") });
        begin.chain(life).chain(end)
    })
    .await;
    let options = Options { silence: 3 * SECOND, ..Options::default() };
    let told = told(&stage.url, None, &stage.job, options).await;
    assert_eq!((&told.events[..], told.lost.len()), (&[1, 2][..], 0), "{told:?}");
    assert_eq!(*stage.asked.lock().unwrap(), [0], "one connection is enough");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_come_twice_or_late_are_told_once_and_in_order() {
    let stage = Stage::new(|_| {
        let events = [(1, "job.queued"), (2, "job.started"), (2, "job.started"), (1, "job.queued")];
        let events = events.into_iter().chain([(4, "job.phase"), (3, "job.phase"), (4, "job.phase")]);
        let events = events.chain([(5, "job.completed")]);
        futures_util::stream::iter(events.map(|(seq, kind)| event(seq, kind)).collect::<Vec<_>>())
    })
    .await;
    let told = told(&stage.url, None, &stage.job, Options::default()).await;
    assert_eq!(told.events, [1, 2, 4, 5]);
    assert_eq!(told.end.unwrap().unwrap(), "passed");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_fall_silent_anywhere_lose_and_repeat_nothing() {
    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    let streams = AtomicUsize::new(0);
    let proxy = Proxy::start(&desk.address, move |call| match call.path.ends_with("/events") {
        // Within the first event, within a later one, and between two.
        true => match streams.fetch_add(1, Ordering::SeqCst) {
            0 => Fate::Stalls(70),
            1 => Fate::Stalls(1_000),
            2 => Fate::Stalls(1_700),
            _ => Fate::Passes,
        },
        false => Fate::Passes,
    })
    .await;
    let whole = Proxy::start(&desk.address, |_| Fate::Passes).await;
    let job = desk.qgjob(&[SEEDS_SUBMIT, &["-o", "name"]].concat()).await.out.trim().to_owned();
    let token = Some(desk.admin_token());
    let options = Options { silence: SECOND / 2, ..Options::default() };
    let agent = async {
        // Both follow before anything happens.
        whole.is_asked_for("/events").await;
        proxy.is_asked_for("/events").await;
        FakeAgent::start(&desk, &["p1"], |_| Play::Lasts(2_000)).await
    };
    let through = told(&proxy.url, token.clone(), &job, options);
    let direct = told(&whole.url, token, &job, Options::default());
    let (through, direct, agent) = tokio::join!(through, direct, agent);
    assert!(direct.events.len() > 5, "{direct:?}");
    assert_eq!(through.events, direct.events);
    assert_eq!(through.end.unwrap().unwrap(), "passed");
    assert!(proxy.seen().iter().filter(|call| call.ends_with("/events")).count() > 3);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_asked_to_wait_waits_and_who_is_away_too_long_is_given_up() {
    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    let job = desk.qgjob(&[SEEDS_SUBMIT, &["-o", "name"]].concat()).await.out.trim().to_owned();
    let token = Some(desk.admin_token());
    let streams = AtomicUsize::new(0);
    let proxy = Proxy::start(&desk.address, move |call| match call.path.ends_with("/events") {
        true => match streams.fetch_add(1, Ordering::SeqCst) {
            0 => Fate::Refused(429, Some(1)),
            1 => Fate::Refused(503, Some(2)),
            2 => Fate::Refused(502, None),
            _ => Fate::Passes,
        },
        false => Fate::Passes,
    })
    .await;
    let agent = async {
        let streams = || proxy.seen().iter().filter(|call| call.ends_with("/events")).count();
        eventually("the stream is let through", async || streams() == 4).await;
        FakeAgent::start(&desk, &["p1"], |_| Play::Passes).await
    };
    let (told_of, agent) = tokio::join!(told(&proxy.url, token.clone(), &job, Options::default()), agent);
    assert_eq!(told_of.lost, [SECOND, 2 * SECOND, SECOND / 2]);
    assert_eq!((told_of.back, told_of.end.unwrap().unwrap()), (3, json!("passed")));
    agent.stop().await;

    let options = Options { reconnect_timeout: SECOND / 10, ..Options::default() };
    for (status, retry_after, code) in [(429, Some(3_600), 16), (502, None, 14), (503, Some(3_600), 14)] {
        let away = Proxy::start(&desk.address, move |_| Fate::Refused(status, retry_after)).await;
        let told = told(&away.url, token.clone(), &job, options).await;
        assert_eq!(u8::from(told.end.unwrap().unwrap_err().exit_code()), code, "{status}");
    }
}
