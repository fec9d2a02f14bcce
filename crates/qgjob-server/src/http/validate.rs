//! What the types alone cannot say about a run: every field that is out of bounds is named.

use jiff::Timestamp;
use qgjob_core::api::bounds;
use qgjob_core::api::problem::{Code, Problem};
use qgjob_core::api::runs::NewRun;

use super::problem::Rejection;

/// Checks a run.
///
/// # Errors
/// `invalid_request` that names every field that is wrong.
pub fn run(run: &NewRun, now: Timestamp) -> Result<(), Rejection> {
    let errors = bounds::exceeded(&run.tests, run.name.as_deref(), &run.labels, &run.options, now);
    if errors.is_empty() {
        return Ok(());
    }
    Err(Problem { errors, ..Problem::new(Code::InvalidRequest, "the run is not as described") }.into())
}
