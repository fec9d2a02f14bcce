//! Events as they happen (SSE). A stream first replays what the caller has missed from the store, then follows what is
//! committed; both are joined by the events' numbers, so there is no gap and no duplicate. A caller that has seen an
//! event which is not there, as after a backup was put back, is told to read everything anew (`resync`).

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use qgjob_core::api::jobs::{EventView, Resync};
use qgjob_core::clock::Clock;
use qgjob_core::model::event::{Event, Fact, Seq};
use qgjob_core::model::job::Status;
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use utoipa::IntoParams;

use super::App;
use super::auth::Member;
use super::extract::Query;
use super::problem::Rejection;
use super::{jobs, runs};
use crate::app::streams::Place;
use crate::store::{EventFilter, Scope};

/// Events read from the store at once.
const PAGE: u32 = 500;
/// How often a silent stream says that it lives.
pub const PING: Duration = Duration::from_secs(15);

/// Where a stream begins.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields, default)]
pub struct EventsQuery {
    /// The last event that the caller has; the header `Last-Event-ID` wins.
    pub last_event_id: Option<Seq>,
}

/// Events of everything the caller sees, from now on or after `last_event_id`.
///
/// An event `resync` says that the caller's last event is not known: what was read before may be wrong, and events
/// follow after the number that it carries.
#[utoipa::path(get, path = "/events", tag = "events",
    params(EventsQuery, ("Last-Event-ID" = Option<u64>, Header, description = "The last event that the caller has")),
    responses((status = 200, body = EventView, content_type = "text/event-stream")))]
pub async fn all(
    State(app): State<App>,
    member: Member,
    headers: HeaderMap,
    Query(query): Query<EventsQuery>,
) -> Result<Response, Rejection> {
    let after = match after(&headers, &query)? {
        Some(seq) => seq,
        None => app.store.last_seq().await?,
    };
    stream(&app, member, EventFilter::All, after)
}

/// Events of a run, its jobs and attempts, from the first or after `last_event_id`; ends when the run is completed.
#[utoipa::path(get, path = "/runs/{id}/events", tag = "events",
    params(EventsQuery, ("Last-Event-ID" = Option<u64>, Header, description = "The last event that the caller has")),
    responses((status = 200, body = EventView, content_type = "text/event-stream")))]
pub async fn of_run(
    State(app): State<App>,
    member: Member,
    Path(id): Path<String>,
    headers: HeaderMap,
    Query(query): Query<EventsQuery>,
) -> Result<Response, Rejection> {
    let id = runs::parse(&id)?;
    runs::check(&app, &member.scope, id).await?;
    let after = after(&headers, &query)?.unwrap_or(0);
    stream(&app, member, EventFilter::Run(id), after)
}

/// Events of a job and its attempts, from the first or after `last_event_id`; ends when the job is completed.
#[utoipa::path(get, path = "/jobs/{id}/events", tag = "events",
    params(EventsQuery, ("Last-Event-ID" = Option<u64>, Header, description = "The last event that the caller has")),
    responses((status = 200, body = EventView, content_type = "text/event-stream")))]
pub async fn of_job(
    State(app): State<App>,
    member: Member,
    Path(id): Path<String>,
    headers: HeaderMap,
    Query(query): Query<EventsQuery>,
) -> Result<Response, Rejection> {
    let id = jobs::find(&app, &member.scope, &id).await?.0.id;
    let after = after(&headers, &query)?.unwrap_or(0);
    stream(&app, member, EventFilter::Job(id), after)
}

fn after(headers: &HeaderMap, query: &EventsQuery) -> Result<Option<Seq>, Rejection> {
    match headers.get("last-event-id") {
        None => Ok(query.last_event_id),
        Some(value) => {
            let seq = value.to_str().ok().and_then(|text| text.parse().ok());
            seq.map(Some).ok_or_else(|| Rejection::field("Last-Event-ID", "must be the number of an event"))
        }
    }
}

fn stream(app: &App, member: Member, filter: EventFilter, after: Seq) -> Result<Response, Rejection> {
    let place = app.streams.take(member.token.id)?;
    let (out, body) = mpsc::channel(64);
    let feed = Feed { app: App::clone(app), scope: member.scope, filter, sent: after, out };
    app.tasks.spawn(feed.run(place));
    Ok(response(body))
}

/// The answer that sends what comes through `body`.
pub fn response(body: mpsc::Receiver<Result<sse::Event, Infallible>>) -> Response {
    let keep_alive = KeepAlive::new().interval(PING).text("ping");
    let mut response = Sse::new(ReceiverStream::new(body)).keep_alive(keep_alive).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// When the client should come back, spread so that clients of a restarted server do not come all at once.
pub fn retry(clock: &dyn Clock) -> sse::Event {
    let jitter = u64::try_from(clock.random() % 2_000).expect("a number below 2,000 fits");
    sse::Event::default().retry(Duration::from_millis(1_000 + jitter))
}

/// A stream being sent.
struct Feed {
    app: App,
    scope: Scope,
    filter: EventFilter,
    sent: Seq,
    out: mpsc::Sender<Result<sse::Event, Infallible>>,
}

/// The stream is over.
struct Over;

impl Feed {
    async fn run(mut self, _place: Place) {
        // Subscribed before the store is read, so that no event falls between the two.
        let mut events = self.app.store.subscribe();
        let begun = self.out.send(Ok(retry(&*self.app.clock))).await.is_ok()
            && self.resync().await.is_ok()
            && self.replay().await.is_ok();
        if !begun {
            return;
        }
        loop {
            let received = tokio::select! {
                received = events.recv() => received,
                () = self.out.closed() => return,
                () = self.app.stopping.cancelled() => return,
            };
            let went_on = match received {
                Ok(batch) => self.send(&batch).await,
                Err(RecvError::Lagged(_)) => {
                    self.app.metrics.sse_lagged.inc();
                    self.replay().await
                }
                Err(RecvError::Closed) => return,
            };
            if went_on.is_err() {
                return;
            }
        }
    }

    /// Tells a caller that is ahead of the store where the events end. Without that word the stream would stay silent
    /// until their numbers reach those that the caller has seen.
    async fn resync(&mut self) -> Result<(), Over> {
        let newest = self.app.store.last_seq().await.map_err(|error| {
            tracing::warn!(%error, "an event stream ends: the store cannot be read");
            Over
        })?;
        if self.sent <= newest {
            return Ok(());
        }
        self.sent = newest;
        let resync = Resync { schema: "qgjob.resync/v1".to_owned(), seq: newest };
        let text = serde_json::to_string(&resync).expect("a number is plain data");
        let frame = sse::Event::default().id(newest.to_string()).event("resync").data(text);
        self.out.send(Ok(frame)).await.map_err(|_| Over)
    }

    /// Sends what the store has after the last event that was sent.
    async fn replay(&mut self) -> Result<(), Over> {
        // Asked first: when it is over and everything is sent, nothing will follow.
        let over = self.is_over().await?;
        loop {
            let page = self.app.store.events_after(&self.scope, self.filter, self.sent, PAGE).await;
            let page = page.map_err(|error| {
                tracing::warn!(%error, "an event stream ends: the store cannot be read");
                Over
            })?;
            let full = page.len() == PAGE as usize;
            self.send(&page).await?;
            if !full {
                return if over { Err(Over) } else { Ok(()) };
            }
        }
    }

    async fn is_over(&self) -> Result<bool, Over> {
        let status = match self.filter {
            EventFilter::All => return Ok(false),
            EventFilter::Run(id) => {
                self.app.store.run(&self.scope, id).await.map(|run| run.map(|run| run.0.status))
            }
            EventFilter::Job(id) => {
                self.app.store.job(&self.scope, id).await.map(|job| job.map(|job| job.0.status))
            }
        };
        Ok(status.map_err(|_| Over)? == Some(Status::Completed))
    }

    async fn send(&mut self, events: &[Event]) -> Result<(), Over> {
        for event in events {
            if event.seq <= self.sent || !self.wants(event) {
                continue;
            }
            let view = EventView { schema: "qgjob.event/v1".to_owned(), event: event.clone() };
            let text = serde_json::to_string(&view).expect("an event is plain data");
            let frame = sse::Event::default().id(event.seq.to_string()).event(event.fact.name()).data(text);
            self.out.send(Ok(frame)).await.map_err(|_| Over)?;
            self.sent = event.seq;
            match (&event.fact, self.filter) {
                (Fact::JobCompleted { .. }, EventFilter::Job(_))
                | (Fact::RunCompleted { .. }, EventFilter::Run(_)) => {
                    return Err(Over);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn wants(&self, event: &Event) -> bool {
        let visible = match &self.scope {
            Scope::All => true,
            Scope::Org(own) => event.org_id.as_ref() == Some(own),
        };
        visible
            && match self.filter {
                EventFilter::All => true,
                EventFilter::Run(id) => event.run_id == Some(id),
                EventFilter::Job(id) => event.job_id == Some(id),
            }
    }
}
