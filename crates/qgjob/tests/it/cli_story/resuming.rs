//! Going on where it stopped when what follows is not what was expected: another attempt, a server that lost events.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::routing::get;
use futures_util::StreamExt;
use qgjob::client::watch::{Options, Subject, Update, follow};
use qgjob::client::{self, Client, Follow, Secret};
use qgjob_core::model::event::LogStream;
use serde_json::json;

use super::agent::{FakeAgent, Play};
use super::desk::{Desk, SEEDS_SUBMIT};
use crate::proxy::{Fate, Proxy};

const LOG: &str = "line 1\nline 2 é\nline 3\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_followed_through_a_retry_and_no_byte_of_either_attempt_is_lost() {
    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    let job = desk.qgjob(&[SEEDS_SUBMIT, &["-o", "name"]].concat()).await.out.trim().to_owned();
    let (attempts, connections) = (Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0));
    let made = Arc::clone(&attempts);
    // The follower is cut off amid the first attempt and comes back when the second one has begun.
    let proxy = Proxy::start(&desk.address, move |call| {
        if !call.path.ends_with("/logs") {
            return Fate::Passes;
        }
        match (connections.fetch_add(1, Ordering::SeqCst), made.load(Ordering::SeqCst)) {
            (0, _) => Fate::Cut(180),
            (_, 0 | 1) => Fate::Refused(503, None),
            _ => Fate::Passes,
        }
    })
    .await;
    let token = desk.admin_token();
    let env = [("QGJOB_SERVER", proxy.url.as_str()), ("QGJOB_TOKEN", &token)];
    let args = ["logs", &job, "-f"];
    let following = desk.qgjob_with(&env, &args);
    let agent = async {
        proxy.is_asked_for("/logs").await;
        let play = move |_: &str| match attempts.fetch_add(1, Ordering::SeqCst) {
            0 => Play::Faults("device_fault"),
            _ => Play::Passes,
        };
        FakeAgent::start(&desk, &["p1", "p2"], play).await
    };
    let (followed, agent) = tokio::join!(following, agent);
    assert_eq!((followed.code, followed.out), (0, [LOG, LOG].concat()), "{}", followed.err);
    assert_eq!(desk.qgjob(&["logs", &job, "-f", "--tail=1"]).await.out, "line 3\n");

    // Whoever has read a part of the first attempt gets its rest, and the whole second one.
    let client = Client::new(&proxy.url.parse().unwrap(), Some(Secret::new(token)), Duration::from_secs(5));
    let client = client.unwrap();
    for (seen, expected) in [
        (Some((1, 17)), [&LOG[17..], LOG].concat()),
        (Some((1, LOG.len() as u64)), LOG.to_owned()),
        (Some((2, 17)), LOG[17..].to_owned()),
        (None, LOG.to_owned()),
    ] {
        let wanted = Follow { job: job.clone(), stream: LogStream::Test, attempt: None, seen };
        let mut text = String::new();
        let show = |piece: &qgjob_core::api::logs::LogPiece| {
            text.push_str(&piece.text);
            Ok::<_, client::Error>(())
        };
        client.follow_log(wanted, Duration::from_secs(5), show).await.unwrap();
        assert_eq!(text, expected, "{seen:?}");
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lost_events_is_asked_how_things_stand_and_followed_from_there() {
    // A true document, so that the client understands it.
    let desk = Desk::new().await;
    let job = desk.qgjob(&[SEEDS_SUBMIT, &["-o", "name"]].concat()).await.out.trim().to_owned();
    let waiting = desk.qgjob(&["status", &job, "-o", "json"]).await.json();
    let mut over = waiting.clone();
    over["status"] = json!("completed");
    over["conclusion"] = json!("passed");
    over["exit_code"] = json!(0);

    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let (looks, streams) = (Arc::clone(&asked), Arc::clone(&asked));
    let view = get(move || async move {
        let mut asked = looks.lock().unwrap();
        asked.push("look".to_owned());
        let is_over = asked.iter().any(|call| call == "after 5");
        axum::Json(if is_over { over.clone() } else { waiting.clone() })
    });
    let events = get(move |headers: HeaderMap| async move {
        let after = headers["last-event-id"].to_str().unwrap().to_owned();
        streams.lock().unwrap().push(format!("after {after}"));
        let text = match after.as_str() {
            "0" => "id: 900\nevent: job.phase\ndata: {}\n\n",
            "900" => "id: 5\nevent: resync\ndata: {\"schema\":\"qgjob.resync/v1\",\"seq\":5}\n\n",
            "5" => "id: 6\nevent: job.completed\ndata: {}\n\n",
            _ => "",
        };
        let said = futures_util::stream::iter([Ok::<_, std::io::Error>(text)]);
        // The first connection is lost; the others would stay open.
        let body = match after.as_str() {
            "0" => Body::from_stream(said),
            _ => Body::from_stream(said.chain(futures_util::stream::pending())),
        };
        ([("content-type", "text/event-stream")], body).into_response()
    });
    let app = Router::new()
        .route(&format!("/api/v1/jobs/{job}"), view)
        .route(&format!("/api/v1/jobs/{job}/events"), events);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });

    let client = Client::new(&url, None, Duration::from_secs(5)).unwrap();
    let (to, mut updates) = tokio::sync::mpsc::channel(64);
    let following = tokio::spawn(follow(client, Subject::Job(job), Options::default(), (), to));
    let mut told = Vec::new();
    let listening = async {
        while let Some(((), update)) = updates.recv().await {
            told.push(match update.unwrap() {
                Update::Begin(_) => "begin",
                Update::Event { .. } => "event",
                Update::Now(_) => "now",
                Update::Lost { .. } => "lost",
                Update::Back => "back",
                Update::End(_) => "end",
            });
        }
    };
    tokio::time::timeout(Duration::from_secs(20), listening).await.expect("it ends");
    assert_eq!(told, ["begin", "event", "now", "event", "end"]);
    let asked = asked.lock().unwrap().clone();
    assert_eq!(asked, ["look", "after 0", "look", "after 900", "look", "after 5", "look"]);
    following.await.unwrap();
    serving.abort();
}
