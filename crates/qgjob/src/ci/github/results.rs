//! Every test's result as one JSON document that fits an output.

use serde_json::{Value, json};

use crate::report::{Report, error_of};
use qgjob_core::model::test_result::TestOutcome;

/// Of the error of a test.
const MOST_ERROR_CHARS: usize = 300;

/// At most `most` bytes: failed tests first, then flaky ones; what does not fit is counted.
pub fn results(report: &Report, most: usize) -> String {
    let mut tests: Vec<_> = report.tests().collect();
    tests.sort_by_key(|(_, test)| match test.outcome {
        TestOutcome::Unexpected => 0,
        TestOutcome::Flaky => 1,
        TestOutcome::Expected => 2,
        TestOutcome::Skipped => 3,
    });
    let total = tests.len();
    // What stands around the list, with room for its numbers.
    let mut room = most.saturating_sub(200);
    let mut listed: Vec<Value> = Vec::new();
    for (job, test) in tests {
        let mut one = json!({
            "file": test.file,
            "line": test.line,
            "title": test.title,
            "outcome": test.outcome,
            "tries": test.tries.len(),
            "duration_ms": test.tries.last().map_or(0, |one| one.duration_ms),
            "job_id": test.job_id,
            "device": test.device_name,
            "carried": job.is_none(),
        });
        if matches!(test.outcome, TestOutcome::Unexpected | TestOutcome::Flaky) {
            let error = error_of(test).unwrap_or_default();
            one["error"] = error.chars().take(MOST_ERROR_CHARS).collect::<String>().into();
        }
        let size = one.to_string().len() + 1;
        if size > room {
            break;
        }
        room -= size;
        listed.push(one);
    }
    let left_out = total - listed.len();
    json!({ "schema": "qgjob.results/v1", "tests": listed, "left_out": left_out }).to_string()
}
