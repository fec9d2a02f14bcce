//! What a pipeline's token may do: the one list of it. A route that is not here is not for pipelines.

use axum::http::Method;
use qgjob_core::model::ci::May;

/// What somebody reads of runs and of what belongs to them.
const READ: [&str; 6] = ["runs", "jobs", "artifacts", "app-versions", "queue", "events"];
const SUBMIT: [&str; 8] = [
    "/runs",
    "/runs/{id}/rerun-failed",
    "/jobs",
    "/jobs/{id}/retry",
    "/uploads",
    "/uploads/{id}",
    "/uploads/{id}/complete",
    "/app-versions",
];
const CANCEL: [&str; 3] = ["/runs/{id}/cancel", "/runs/cancel-by-key", "/jobs/{id}/cancel"];

/// What a token must allow for a request, by the method and the pattern of its path; none: no pipeline's token is enough.
pub fn needed(method: &Method, route: &str) -> Option<May> {
    let path = route.strip_prefix("/api/v1")?;
    let noun = path.strip_prefix('/')?.split('/').next()?;
    match *method {
        Method::GET if READ.contains(&noun) => Some(May::Read),
        Method::GET | Method::POST | Method::PATCH if noun == "uploads" && SUBMIT.contains(&path) => {
            Some(May::Submit)
        }
        Method::POST if SUBMIT.contains(&path) => Some(May::Submit),
        Method::POST if CANCEL.contains(&path) => Some(May::Cancel),
        _ => None,
    }
}
