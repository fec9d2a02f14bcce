//! The bounds of a run: what exceeds them is refused by the server, and by the CLI before it sends anything.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::problem::FieldError;
use super::runs::JobOptions;
use crate::model::name::TestPath;
use crate::model::run::Labels;

/// The most jobs of a run, and so the most test files.
pub const MOST_JOBS: usize = 1_000;

const SECOND: u64 = 1_000;
const HOUR: u64 = 3_600 * SECOND;

/// Every field of a run that is out of bounds.
pub fn exceeded(
    tests: &[TestPath],
    name: Option<&str>,
    labels: &Labels,
    options: &JobOptions,
    now: Timestamp,
) -> Vec<FieldError> {
    let mut found = of_tests(tests);
    let mut wrong = |pointer: &str, detail: &str| found.push(field(pointer, detail));
    if name.is_some_and(|name| name.len() > 256 || name.chars().any(char::is_control)) {
        wrong("/name", "must be at most 256 bytes without control characters");
    }
    if labels.len() > 32 {
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
    let mut words = selector.model.iter().chain(&selector.os_at_least).chain(&selector.tags);
    if words.clone().count() > 32 || words.any(|word| word.is_empty() || word.len() > 128) {
        wrong("/selector", "must hold at most 32 words of 1 to 128 bytes");
    }
    found
}

fn of_tests(tests: &[TestPath]) -> Vec<FieldError> {
    if !(1..=MOST_JOBS).contains(&tests.len()) {
        return vec![field("/tests", "must name 1 to 1,000 test files")];
    }
    let mut seen = BTreeSet::new();
    let twice = tests.iter().enumerate().filter(|(_, test)| !seen.insert(*test));
    twice.map(|(at, _)| field(&format!("/tests/{at}"), "is there twice")).collect()
}

fn field(pointer: &str, detail: &str) -> FieldError {
    FieldError { pointer: pointer.to_owned(), detail: detail.to_owned() }
}
