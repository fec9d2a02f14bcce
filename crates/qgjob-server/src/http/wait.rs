//! Conditional reads: ETag, `If-None-Match`, and `?wait=30s&since=<version>`, which answers early when the thing
//! changes and 304 when the time is over.

use axum::Json;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::future::BoxFuture;
use qgjob_core::model::event::Event;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::RecvError;
use utoipa::IntoParams;

use super::problem::Rejection;
use super::{App, extract};

/// Parameters of a read that can wait.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields, default)]
pub struct WaitQuery {
    /// How long to wait for a change: `30s`. At most 60 s.
    pub wait: Option<String>,
    /// The version that the caller has; or send `If-None-Match`.
    pub since: Option<u64>,
}

/// Something with a version.
pub struct Versioned<T> {
    /// Its version.
    pub version: u64,
    /// Its ETag, without quotes.
    pub etag: String,
    /// It.
    pub body: T,
}

/// Answers with what `read` gives, or with 304 when that is what the caller has. Waits for a change if asked to;
/// `about` tells which events may mean one.
///
/// # Errors
/// Those of `read`, and of a bad `wait`.
pub async fn answer<T: Serialize>(
    app: &App,
    query: &WaitQuery,
    headers: &HeaderMap,
    about: impl Fn(&Event) -> bool,
    read: impl Fn() -> BoxFuture<'static, Result<Versioned<T>, Rejection>>,
) -> Result<Response, Rejection> {
    let until = tokio::time::Instant::now() + extract::wait(query.wait.as_deref(), app.config.limits.wait)?;
    // Subscribed before the first read, so that no change falls between.
    let mut events = app.store.subscribe();
    loop {
        let found = read().await?;
        let known = match query.since {
            Some(version) => version == found.version,
            None => matches(headers, &found.etag),
        };
        if !known {
            let tag = [(header::ETAG, format!("\"{}\"", found.etag))];
            return Ok((tag, Json(found.body)).into_response());
        }
        let change = async {
            loop {
                match events.recv().await {
                    Ok(batch) if batch.iter().any(&about) => return true,
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => return true,
                    Err(RecvError::Closed) => return false,
                }
            }
        };
        let changed = tokio::select! {
            changed = change => changed,
            () = tokio::time::sleep_until(until) => false,
            () = app.stopping.cancelled() => false,
        };
        if !changed {
            let tag =
                HeaderValue::from_str(&format!("\"{}\"", found.etag)).expect("an ETag is visible ASCII");
            return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
        }
    }
}

fn matches(headers: &HeaderMap, etag: &str) -> bool {
    let given = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = given
        .flat_map(|value| value.split(','))
        .map(|tag| tag.trim().trim_start_matches("W/").trim_matches('"'));
    tags.any(|tag| tag == "*" || tag == etag)
}
