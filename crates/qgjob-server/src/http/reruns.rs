//! Repeating what failed in a run.

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use qgjob_core::api::problem::Code;
use qgjob_core::api::runs::{NewRun, Submitted};
use qgjob_core::model::job::Status;
use qgjob_core::model::test_result::Counts;
use qgjob_core::queue::reruns;
use qgjob_core::queue::shards::Part;

use super::App;
use super::auth::Member;
use super::jobs::same_again;
use super::problem::Rejection;
use super::runs::{self, Order};
use crate::store::Rerun;

/// Repeats what failed in a completed run: a new run with a job for each that did not pass. Of a job whose tests failed it
/// runs those tests alone, with what must run as one with them and what did not run because of them; a job that came to no
/// verdict is repeated whole. Build, project and options are those of the run before, name and labels too.
///
/// The tests that are not repeated are carried: they keep the outcome that they had, and count in the new run's `tests`, so
/// that its totals are those of the full set. `rerun_of` names the run before. The new run's verdict is that of its own jobs.
#[utoipa::path(post, path = "/runs/{id}/rerun-failed", tag = "runs",
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters")),
    responses((status = 201, body = Submitted)))]
pub async fn rerun_failed(
    State(app): State<App>,
    member: Member,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Rejection> {
    let id = runs::parse(&id)?;
    let (run, _) = runs::find(&app, &member.scope, id).await?;
    member.may_write(&run.org_id)?;
    if run.status != Status::Completed {
        let detail = format!("cannot repeat the failures of a run that is {}", run.status);
        return Err(Rejection::new(Code::WrongStatus, detail));
    }
    let unpassed = app.store.unpassed(id).await?;
    let again = unpassed.into_iter().filter_map(|found| {
        let again = reruns::again(&found.job, found.kept.as_ref(), &found.tries)?;
        Some((found.job, again))
    });
    let again: Vec<_> = again.collect();
    let Some((first, _)) = again.first() else {
        let detail = format!("nothing failed in run {id}");
        return Err(Rejection::new(Code::NothingToRerun, detail));
    };
    let asked = same_again(first.clone(), run.name, run.labels);
    member.may_ask_for(asked.options.priority)?;
    let (mut tests, mut parts, mut jobs) = (Vec::new(), Vec::new(), Vec::new());
    let mut repeats = Counts::default();
    for (job, again) in again {
        tests.push(job.spec.test);
        parts.push(Part { shard: job.spec.shard, predicted_ms: again.predicted_ms });
        repeats = repeats.plus(again.repeats);
        jobs.push(again.kept);
    }
    let order = Order {
        run: NewRun { tests, ..asked },
        parts,
        retry_of: None,
        rerun: Some(Rerun { of: id, tests: run.tests, carried: run.tests.minus(repeats), jobs }),
        digest: runs::digest(&("rerun-failed", id)),
    };
    runs::make(&app, &member, &headers, order).await
}
