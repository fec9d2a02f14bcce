//! Health, version and numbers of the server itself.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use qgjob_core::api::about::{Check, Readiness, Version};
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::auth::Admin;
use super::extract::Query;
use super::problem::Rejection;
use crate::metrics::Now;

/// How long the store may take to prove that it works.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether the process lives. Looks at nothing else.
#[utoipa::path(get, path = "/livez", tag = "health", security(()), responses((status = 200, body = String)))]
pub async fn livez() -> &'static str {
    "ok\n"
}

/// How much to tell.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub struct ReadyQuery {
    /// Tells each check; no value needed.
    pub verbose: Option<String>,
}

/// Whether the server can do its work: the store writes and reads, the disk has space, and it is not stopping.
#[utoipa::path(get, path = "/readyz", tag = "health", security(()), params(ReadyQuery),
    responses((status = 200, body = Readiness), (status = 503, body = Readiness)))]
pub async fn readyz(State(app): State<App>, Query(query): Query<ReadyQuery>) -> Response {
    let probe = tokio::time::timeout(PATIENCE, app.store.probe(app.clock.now())).await;
    let store = match probe {
        Ok(Ok(())) => (true, "writes and reads".to_owned()),
        Ok(Err(error)) => {
            tracing::warn!(%error, "the store is not ready");
            (false, "does not work".to_owned())
        }
        Err(_) => (false, format!("did not answer within {} s", PATIENCE.as_secs())),
    };
    let (free, floor) = (free(&app), app.config.limits.disk_free);
    let disk = (free >= floor, format!("{free} bytes free, {floor} needed"));
    let draining = app.draining.load(Ordering::Relaxed);
    let drain = (
        !draining,
        if draining { "the server is stopping" } else { "the server is not stopping" }.to_owned(),
    );
    let checks: Vec<Check> = [("store", store), ("disk", disk), ("draining", drain)]
        .into_iter()
        .map(|(name, (ok, detail))| Check { name: name.to_owned(), ok, detail })
        .collect();
    let ready = checks.iter().all(|check| check.ok);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let text = if ready { "ok\n" } else { "not ready\n" };
    let mut response = if query.verbose.is_some() {
        Json(Readiness { ready, checks }).into_response()
    } else {
        text.into_response()
    };
    *response.status_mut() = status;
    // The answer is no problem but a report: it is sent as it is.
    response.extensions_mut().insert(super::problem::AsItIs);
    response
}

/// Bytes free on the data folder's disk; 0 when that cannot be known.
fn free(app: &App) -> u64 {
    let facts = rustix::fs::statvfs(&app.config.data_dir);
    facts.map_or(0, |facts| facts.f_bavail.saturating_mul(facts.f_frsize))
}

/// The server's version and what it speaks.
#[utoipa::path(get, path = "/version", tag = "about", security(()), responses((status = 200, body = Version)))]
pub async fn version() -> Json<Version> {
    Json(Version {
        schema: "qgjob.version/v1".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        api: vec!["v1".to_owned()],
        agent: vec!["v1".to_owned()],
    })
}

/// Numbers for Prometheus. Needs an admin token here; the listener `metrics_listen` serves them without.
#[utoipa::path(get, path = "/metrics", tag = "health", responses((status = 200, body = String, content_type = "text/plain")))]
pub async fn metrics(State(app): State<App>, _: Admin) -> Result<Response, Rejection> {
    numbers(&app).await
}

/// As [`metrics`], for the listener of its own.
///
/// # Errors
/// When the store cannot be read.
pub async fn open_metrics(State(app): State<App>) -> Result<Response, Rejection> {
    numbers(&app).await
}

async fn numbers(app: &App) -> Result<Response, Rejection> {
    let gauges = app.store.gauges().await?;
    let now = Now { gauges, streams: app.streams.count(), free: free(app), at: app.clock.now() };
    let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, media_type)], app.metrics.text(&now)).into_response())
}
