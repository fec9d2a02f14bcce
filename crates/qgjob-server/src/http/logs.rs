//! Reading and following logs of jobs.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::sse;
use axum::response::{IntoResponse, Response};
use qgjob_core::api::logs::LogPiece;
use qgjob_core::model::attempt::Attempt;
use qgjob_core::model::event::{Fact, LogStream};
use qgjob_core::model::job::{self, Status};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use utoipa::IntoParams;

use super::App;
use super::auth::Member;
use super::extract::Query;
use super::problem::Rejection;
use super::{events, jobs};
use crate::app::streams::Place;
use crate::store;

/// The largest piece that is sent at once, and the most that one read answers.
const PIECE: u64 = 64 * 1024;
const MOST: u64 = 8 * 1024 * 1024;
/// How long a follower sleeps at most before it looks at the attempt again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Which bytes to read.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields, default)]
pub struct LogsQuery {
    /// Whose output: `test` by default.
    pub stream: Option<LogStream>,
    /// Number of the attempt; the latest by default.
    pub attempt: Option<u32>,
    /// From this byte on.
    pub offset: Option<u64>,
    /// At most so many bytes; 8 MiB by default and at most.
    pub limit: Option<u64>,
    /// Goes on until the attempt has ended; waits for the first attempt if there is none yet.
    pub follow: Option<bool>,
}

/// The log of an attempt: bytes as they came. A byte's offset never changes.
///
/// With `follow=true` the answer goes on until the attempt has ended. With `Accept: text/event-stream` it follows as
/// server-sent events `log` whose `id` is `<attempt>:<offset after the piece>`, so `Last-Event-ID` resumes; `end` is
/// the last. When another attempt is sent than the one in `Last-Event-ID`, it is sent from its first byte.
#[utoipa::path(get, path = "/jobs/{id}/logs", tag = "jobs",
    params(LogsQuery, ("Last-Event-ID" = Option<String>, Header, description = "The id of the last piece that the caller has")),
    responses((status = 200, content_type = "text/plain")))]
pub async fn read(
    State(app): State<App>,
    member: Member,
    Path(id): Path<String>,
    headers: HeaderMap,
    Query(query): Query<LogsQuery>,
) -> Result<Response, Rejection> {
    let (job, _) = jobs::find(&app, &member.scope, &id).await?;
    let stream = query.stream.unwrap_or(LogStream::Test);
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    let sse = accept.contains("text/event-stream");
    let attempt = attempt(&app, job.id, query.attempt).await?;
    if query.attempt.is_some() && attempt.is_none() {
        return Err(Rejection::not_found("attempt"));
    }
    let start = Start { seen: seen(&headers)?, offset: query.offset.unwrap_or(0) };
    if sse || query.follow == Some(true) {
        let place = app.streams.take(member.token.id)?;
        let follower = Follower { app: App::clone(&app), job: job.id, number: query.attempt, stream, start };
        return Ok(if sse { follower.events(place) } else { follower.bytes(place) });
    }
    let limit = query.limit.unwrap_or(MOST).min(MOST);
    let bytes = match &attempt {
        Some(attempt) => app.logs.read(attempt.id, stream, start.of(attempt.number), limit).await?,
        None => Vec::new(),
    };
    let mut response = plain(Body::from(bytes));
    if let Some(attempt) = attempt {
        response.headers_mut().insert("qgjob-attempt", HeaderValue::from(attempt.number));
    }
    Ok(response)
}

/// Where a reader begins.
#[derive(Clone, Copy)]
struct Start {
    /// The attempt that the caller has read, and up to where.
    seen: Option<(u32, u64)>,
    /// Where to begin otherwise.
    offset: u64,
}

impl Start {
    /// The first byte to send of this attempt.
    fn of(self, attempt: u32) -> u64 {
        match self.seen {
            Some((seen, offset)) if seen == attempt => offset,
            // Another attempt has a log of its own: nothing of it was seen.
            Some(_) => 0,
            None => self.offset,
        }
    }
}

fn seen(headers: &HeaderMap) -> Result<Option<(u32, u64)>, Rejection> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let parts = value.to_str().ok().and_then(|text| text.split_once(':'));
    let seen = parts.and_then(|(attempt, offset)| Some((attempt.parse().ok()?, offset.parse().ok()?)));
    seen.map(Some).ok_or_else(|| Rejection::field("Last-Event-ID", "must be the id of a piece of a log"))
}

fn plain(body: Body) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store, no-transform"),
    ];
    (headers, body).into_response()
}

/// The attempt that is meant, if there is one.
async fn attempt(app: &App, job: job::Id, number: Option<u32>) -> store::Result<Option<Attempt>> {
    let mut attempts = app.store.attempts(job).await?.into_iter().map(|(attempt, _)| attempt);
    Ok(match number {
        None => attempts.next_back(),
        Some(number) => attempts.find(|attempt| attempt.number == number),
    })
}

/// Sends a log as it grows.
struct Follower {
    app: App,
    job: job::Id,
    number: Option<u32>,
    stream: LogStream,
    start: Start,
}

impl Follower {
    fn bytes(self, place: Place) -> Response {
        let (out, body) = mpsc::channel::<Result<Bytes, Infallible>>(4);
        let tasks = self.app.tasks.clone();
        tasks.spawn(async move {
            let _place = place;
            self.run(&out, |_, _, bytes| vec![Ok(Bytes::from(bytes))], |_, _| None).await;
        });
        plain(Body::from_stream(ReceiverStream::new(body)))
    }

    fn events(self, place: Place) -> Response {
        let (out, body) = mpsc::channel(4);
        let tasks = self.app.tasks.clone();
        let stream = self.stream;
        tasks.spawn(async move {
            let _place = place;
            if out.send(Ok(events::retry(&*self.app.clock))).await.is_err() {
                return;
            }
            let frame = move |name: &str, number: u32, offset: u64, bytes: &[u8]| {
                let text = String::from_utf8_lossy(bytes).into_owned();
                let piece =
                    LogPiece { schema: "qgjob.log/v1".to_owned(), attempt: number, stream, offset, text };
                let data = serde_json::to_string(&piece).expect("a piece of a log is plain data");
                let next = offset + bytes.len() as u64;
                Ok(sse::Event::default().event(name).id(format!("{number}:{next}")).data(data))
            };
            let piece = move |number, offset, bytes: Vec<u8>| vec![frame("log", number, offset, &bytes)];
            let end = move |number, offset| Some(frame("end", number, offset, &[]));
            self.run(&out, piece, end).await;
        });
        events::response(body)
    }

    /// Sends pieces to `out` until the attempt has ended or the reader has gone. Pieces end between characters, so
    /// that each can be shown as text.
    async fn run<T>(
        self,
        out: &mpsc::Sender<T>,
        piece: impl Fn(u32, u64, Vec<u8>) -> Vec<T>,
        end: impl Fn(u32, u64) -> Option<T>,
    ) {
        let mut events = self.app.store.subscribe();
        let Ok(Some(attempt)) = self.wait_for_attempt(out).await else { return };
        let mut next = self.start.of(attempt.number);
        let mut follow = self.app.logs.follow(attempt.id, self.stream);
        loop {
            // Asked before the bytes: what came before the end is read after it.
            let ended = match self.app.store.attempt(attempt.id).await {
                Ok(found) => found.is_none_or(|(attempt, _)| attempt.outcome.is_some()),
                Err(_) => return,
            };
            loop {
                let Ok(mut bytes) = self.app.logs.read(attempt.id, self.stream, next, PIECE).await else {
                    return;
                };
                let last = ended && (bytes.len() as u64) < PIECE;
                if !last {
                    bytes.truncate(whole_characters(&bytes));
                }
                if bytes.is_empty() {
                    break;
                }
                let offset = next;
                next += bytes.len() as u64;
                for item in piece(attempt.number, offset, bytes) {
                    if out.send(item).await.is_err() {
                        return;
                    }
                }
            }
            if ended {
                if let Some(item) = end(attempt.number, next) {
                    _ = out.send(item).await;
                }
                return;
            }
            let ended = async {
                loop {
                    let Ok(batch) = events.recv().await else { return };
                    let is_end = |fact: &Fact| matches!(fact, Fact::AttemptEnded { attempt_id, .. } if *attempt_id == attempt.id);
                    if batch.iter().any(|event| is_end(&event.fact)) {
                        return;
                    }
                }
            };
            tokio::select! {
                () = follow.changed() => {}
                () = ended => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                () = out.closed() => return,
                () = self.app.stopping.cancelled() => return,
            }
        }
    }

    /// Waits until there is an attempt; none when the job ended without one or the reader has gone.
    async fn wait_for_attempt<T>(&self, out: &mpsc::Sender<T>) -> store::Result<Option<Attempt>> {
        let mut events = self.app.store.subscribe();
        loop {
            if let Some(found) = attempt(&self.app, self.job, self.number).await? {
                return Ok(Some(found));
            }
            let job = self.app.store.job(&store::Scope::All, self.job).await?;
            if job.is_none_or(|(job, _)| job.status == Status::Completed) {
                return Ok(None);
            }
            let changed = async {
                loop {
                    match events.recv().await {
                        Ok(batch) if !batch.iter().any(|event| event.job_id == Some(self.job)) => {}
                        _ => return,
                    }
                }
            };
            tokio::select! {
                () = changed => {}
                () = out.closed() => return Ok(None),
                () = self.app.stopping.cancelled() => return Ok(None),
            }
        }
    }
}

/// How many of these bytes end with a whole character: at most 3 are held back.
fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        // Elsewhere bytes are simply no text; only an unfinished end is worth waiting for.
        Err(_) => {
            let tail = bytes.len().saturating_sub(3);
            let start = (tail..bytes.len()).rev().find(|&at| bytes[at] >= 0xC0);
            match start {
                Some(at) if matches!(std::str::from_utf8(&bytes[at..]), Err(error) if error.error_len().is_none()) => {
                    at
                }
                _ => bytes.len(),
            }
        }
        Ok(_) => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unfinished_character_is_held_back() {
        let text = "aß€😀".as_bytes();
        for end in 0..=text.len() {
            let whole = whole_characters(&text[..end]);
            assert!(end - whole <= 3 && std::str::from_utf8(&text[..whole]).is_ok(), "{end}");
        }
        assert_eq!(whole_characters(b"\xff\xfe"), 2, "what is no text is sent as it is");
        assert_eq!(whole_characters(b"\xffa\xe2\x82"), 2);
    }
}
