//! What the types alone cannot say about a run: every field that is out of bounds is named.

use jiff::{SignedDuration, Timestamp};
use qgjob_core::api::problem::{Code, Problem};
use qgjob_core::api::runs::NewRun;

use super::problem::Rejection;

const SECOND: u64 = 1_000;
const HOUR: u64 = 3_600 * SECOND;

/// Checks a run.
///
/// # Errors
/// `invalid_request` that names every field that is wrong.
pub fn run(run: &NewRun, now: Timestamp) -> Result<(), Rejection> {
    let mut problem = Problem::new(Code::InvalidRequest, "the run is not as described");
    let mut wrong = |pointer: &str, detail: &str| problem.errors.push(field(pointer, detail));
    let options = &run.options;
    if !(1..=1_000).contains(&run.tests.len()) {
        wrong("/tests", "must name 1 to 1,000 test files");
    }
    if run.name.as_ref().is_some_and(|name| name.len() > 256 || name.chars().any(char::is_control)) {
        wrong("/name", "must be at most 256 bytes without control characters");
    }
    if run.labels.len() > 32 {
        wrong("/labels", "at most 32 are allowed");
    }
    if !(SECOND..=24 * HOUR).contains(&options.timeout_ms) {
        wrong("/timeout_ms", "must be 1 s to 24 h");
    }
    if !(SECOND..=30 * 24 * HOUR).contains(&options.queue_timeout_ms) {
        wrong("/queue_timeout_ms", "must be 1 s to 30 days");
    }
    if options.infra_retries > 10 {
        wrong("/infra_retries", "must be 0 to 10");
    }
    if options.test_retries > 10 {
        wrong("/test_retries", "must be 0 to 10");
    }
    if options.env.len() > 64 {
        wrong("/env", "at most 64 are allowed");
    }
    for (name, _) in options.env.iter().filter(|(_, value)| value.len() > 4096 || value.contains('\0')) {
        wrong(&format!("/env/{name}"), "must be at most 4 KiB without NUL");
    }
    if options.not_before.is_some_and(|at| at > now + SignedDuration::from_hours(30 * 24)) {
        wrong("/not_before", "must be at most 30 days ahead");
    }
    let selector = &options.selector;
    let words = selector.model.iter().chain(&selector.os_at_least).chain(&selector.tags);
    if words.clone().count() > 32 || words.clone().any(|word| word.is_empty() || word.len() > 128) {
        wrong("/selector", "must hold at most 32 words of 1 to 128 bytes");
    }
    if problem.errors.is_empty() { Ok(()) } else { Err(problem.into()) }
}

fn field(pointer: &str, detail: &str) -> qgjob_core::api::problem::FieldError {
    qgjob_core::api::problem::FieldError { pointer: pointer.to_owned(), detail: detail.to_owned() }
}
