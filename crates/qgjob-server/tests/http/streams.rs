//! Event streams: no gap and no duplicate, whatever happens to the connection.

use std::time::Duration;

use futures_util::StreamExt;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::{Caller, Expect, World};

/// What a client knows after some frames: the numbers, and the last of them.
#[derive(Default)]
pub struct Seen {
    pub events: Vec<Value>,
}

impl Seen {
    fn last(&self) -> Option<u64> {
        self.events.last().map(|event| event["seq"].as_u64().unwrap())
    }

    pub fn seqs(&self) -> Vec<u64> {
        self.events.iter().map(|event| event["seq"].as_u64().unwrap()).collect()
    }

    /// Reads frames until the stream ends or `cut` bytes have come; an unfinished frame is lost, as in a client.
    pub async fn read(&mut self, caller: &Caller, path: &str, cut: usize) -> bool {
        let mut request = caller.request(Method::GET, path);
        if let Some(last) = self.last() {
            request = request.header("last-event-id", last);
        }
        let reply = request.send().await.unwrap();
        assert_eq!(reply.status(), StatusCode::OK);
        let (mut body, mut bytes) = (reply.bytes_stream(), Vec::new());
        let mut ended = false;
        while bytes.len() < cut {
            match tokio::time::timeout(Duration::from_secs(20), body.next())
                .await
                .expect("the stream goes on or ends")
            {
                Some(piece) => bytes.extend_from_slice(&piece.unwrap()),
                None => {
                    ended = true;
                    break;
                }
            }
        }
        let cut = cut.min(bytes.len());
        let text = String::from_utf8_lossy(&bytes[..cut]).into_owned();
        let whole = text.rfind("\n\n").map_or("", |end| &text[..end + 2]);
        for frame in whole.split("\n\n") {
            let field = |name: &str| frame.lines().find_map(|line| line.strip_prefix(name));
            let Some(data) = field("data: ") else { continue };
            let event: Value = serde_json::from_str(data).unwrap();
            assert_eq!(field("id: ").unwrap(), event["seq"].to_string());
            assert_eq!(field("event: "), event["type"].as_str());
            self.events.push(event);
        }
        ended && cut == bytes.len()
    }
}

/// Numbers that look random and are the same in every run.
fn cuts(seed: u64) -> impl Iterator<Item = usize> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % 2_500
    })
}

#[tokio::test]
async fn a_stream_cut_anywhere_resumes_without_gap_or_duplicate() {
    let world = World::new().await;
    let member = world.member("own").await;
    let names: Vec<String> = (0..150).map(|at| format!("{at}.spec.js")).collect();
    let made = member.submit("own", &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let run = made["run_id"].as_str().unwrap().to_owned();
    let jobs: Vec<String> = made["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["job_id"].as_str().unwrap().to_owned())
        .collect();
    let cancelling = tokio::spawn({
        let member = member.clone();
        async move {
            for job in jobs {
                let path = format!("/api/v1/jobs/{job}/cancel");
                member.post(&path, &Value::Null).await.status_is(StatusCode::OK).await;
            }
        }
    });
    let (mut seen, mut connections, path) = (Seen::default(), 0, format!("/api/v1/runs/{run}/events"));
    let mut cuts = cuts(7);
    while !seen.read(&member, &path, cuts.next().unwrap()).await {
        connections += 1;
        assert!(connections < 5_000, "the stream never ends");
    }
    cancelling.await.unwrap();
    assert!(connections >= 20, "{connections} cuts prove little");
    let mut whole = Seen::default();
    assert!(whole.read(&member, &path, usize::MAX).await);
    assert_eq!(seen.seqs(), whole.seqs());
    assert_eq!(whole.events.len(), 150 + 150 + 1, "queued and completed each, and the run's end");
    assert_eq!(whole.events.last().unwrap()["type"], "run.completed");
    assert!(whole.seqs().is_sorted_by(|one, next| one < next));
}

#[tokio::test]
async fn a_stream_of_a_job_ends_with_it_and_tells_what_an_agent_reports() {
    let world = World::new().await;
    let running = world.running("own").await;
    let path = format!("/api/v1/jobs/{}/events", running.job);
    let watching = tokio::spawn({
        let (member, path) = (running.member.clone(), path.clone());
        async move {
            let mut seen = Seen::default();
            assert!(seen.read(&member, &path, usize::MAX).await);
            seen.events.iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        }
    });
    let phase = json!({"epoch": running.lease.epoch, "phase": "testing"});
    running
        .agent
        .caller
        .post(&running.attempt("/phase"), &phase)
        .await
        .status_is(StatusCode::NO_CONTENT)
        .await;
    running.finish().await.status_is(StatusCode::OK).await;
    let types = tokio::time::timeout(Duration::from_secs(10), watching).await.expect("it ends").unwrap();
    let order = ["job.queued", "job.started", "job.phase", "test.finished", "job.completed"];
    let mut rest = types.iter();
    assert!(order.iter().all(|wanted| rest.any(|found| found == wanted)), "{types:?}");
    assert_eq!(types.last().unwrap(), "job.completed");
    // Whoever has seen the end gets an empty stream that ends, not one that hangs.
    let mut seen = Seen::default();
    let after = format!("{path}?last_event_id={}", world.store.last_seq().await.unwrap());
    assert!(seen.read(&running.member, &after, usize::MAX).await && seen.events.is_empty());
}

#[tokio::test]
async fn a_caller_that_is_ahead_is_told_where_the_events_end() {
    let world = World::new().await;
    let member = world.member("own").await;
    let made = member.submit("own", &["a.spec.js"]).await;
    let run = format!("/api/v1/runs/{}", made["run_id"].as_str().unwrap());
    let newest = world.store.last_seq().await.unwrap();
    let follow = async |path: &str, after: u64| {
        let request = member.request(Method::GET, path).header("last-event-id", after);
        request.send().await.unwrap().bytes_stream()
    };
    let resync =
        format!("id: {newest}\nevent: resync\ndata: {{\"schema\":\"qgjob.resync/v1\",\"seq\":{newest}}}\n\n");
    for path in ["/api/v1/events", &format!("{run}/events")] {
        let mut body = follow(path, newest + 1_000).await;
        read_until(&mut body, &resync).await;
    }
    // What follows is sent, although its number is lower than the one the caller came with.
    let mut body = follow(&format!("{run}/events"), newest + 1_000).await;
    read_until(&mut body, &resync).await;
    member.post(&format!("{run}/cancel"), &Value::Null).await.status_is(StatusCode::OK).await;
    let text = read_until(&mut body, "event: run.completed").await;
    assert!(!text.contains("resync") && text.contains("event: job.completed"), "{text}");
    let mut body = follow(&format!("{run}/events"), newest).await;
    let text = read_until(&mut body, "event: run.completed").await;
    assert!(!text.contains("resync"), "who is not ahead needs no such word: {text}");
}

/// Reads a stream until a text has come.
async fn read_until(
    body: &mut (impl futures_util::Stream<Item = reqwest::Result<bytes::Bytes>> + Unpin),
    wanted: &str,
) -> String {
    let mut text = String::new();
    while !text.contains(wanted) {
        let piece = tokio::time::timeout(Duration::from_secs(10), body.next()).await;
        let piece = piece.unwrap_or_else(|_| panic!("{wanted:?} does not come after {text:?}"));
        text.push_str(std::str::from_utf8(&piece.expect("the stream goes on").unwrap()).unwrap());
    }
    text
}

#[tokio::test]
async fn the_stream_of_everything_begins_now_or_where_it_is_told_and_shows_the_own_org() {
    let world = World::new().await;
    let (own, other) = (world.member("own").await, world.member("other").await);
    own.submit("own", &["before.spec.js"]).await;
    let reply = own.get("/api/v1/events").await;
    let headers = reply.headers().clone();
    let mut body = reply.bytes_stream();
    other.submit("other", &["theirs.spec.js"]).await;
    let made = own.submit("own", &["a.spec.js"]).await;
    let mut text = String::new();
    while !text.contains("job.queued") {
        let piece = tokio::time::timeout(Duration::from_secs(10), body.next())
            .await
            .expect("an event")
            .unwrap()
            .unwrap();
        text.push_str(std::str::from_utf8(&piece).unwrap());
    }
    assert!(text.starts_with("retry: ") && text.contains(made["job_id"].as_str().unwrap()), "{text}");
    assert_eq!(text.matches("data: ").count(), 1, "neither what was before nor what is others': {text}");
    assert_eq!(headers["x-accel-buffering"], "no");
    assert_eq!(headers["cache-control"], "no-store, no-transform");
    assert_eq!(headers["content-type"], "text/event-stream");
    let mut body = own.get("/api/v1/events?last_event_id=0").await.bytes_stream();
    let mut text = String::new();
    while text.matches("event: job.queued").count() < 2 {
        let piece = tokio::time::timeout(Duration::from_secs(10), body.next())
            .await
            .expect("an event")
            .unwrap()
            .unwrap();
        text.push_str(std::str::from_utf8(&piece).unwrap());
    }
    assert!(!text.contains("\"other\""));
    let bad = own.request(Method::GET, "/api/v1/events").header("last-event-id", "x").send().await.unwrap();
    bad.problem("invalid_request").await;
}
