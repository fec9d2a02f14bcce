//! What a run's jobs left: the results of their tests, and their files.

use std::fmt;
use std::str::FromStr;

use axum::Json;
use axum::extract::{OriginalUri, Path, State};
use axum::http::HeaderMap;
use qgjob_core::api::page::Page;
use qgjob_core::api::results::TestView;
use qgjob_core::model::artifact::Artifact;
use qgjob_core::model::{artifact, job};

use super::App;
use super::auth::Member;
use super::extract::Query;
use super::page::{PageQuery, Window};
use super::problem::Rejection;
use super::runs;

/// A test's place in the list of its run.
struct Place {
    job: job::Id,
    first_seq: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.job, self.first_seq)
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (job, seq) = text.split_once('-').ok_or(())?;
        Ok(Self { job: job.parse().map_err(drop)?, first_seq: seq.parse().map_err(drop)? })
    }
}

/// The tests of a run, one item each, by job in the order of submission. A test's tries are those of its job's last attempt:
/// what an attempt saw that was lost is no result. A job that came to no verdict has the tests that were seen before it ended,
/// which count nowhere, or none at all.
///
/// A rerun tells of all tests of the full set: after its own come those that it has no result of, from the nearest run before
/// it that has one, with `carried_from`. A run that was forgotten tells of none; its numbers stay in `tests` and `carried`.
#[utoipa::path(get, path = "/runs/{id}/tests", tag = "runs", params(PageQuery),
    responses((status = 200, body = Page<TestView>)))]
pub async fn tests(
    State(app): State<App>,
    member: Member,
    Path(id): Path<String>,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<PageQuery>,
) -> Result<(HeaderMap, Json<Page<TestView>>), Rejection> {
    let run = runs::parse(&id)?;
    runs::check(&app, &member.scope, run).await?;
    let window = Window::<Place>::read(query.cursor.as_deref(), query.limit, uri.path())?;
    let after = window.before.as_ref().map(|place| (place.job, place.first_seq));
    let found = app.store.run_tests(run, after, window.to_read()).await?;
    let place = |test: &TestView| Place { job: test.job_id, first_seq: test.first_seq() };
    let (headers, page) = window.page(found, place, &uri);
    Ok((headers, Json(page)))
}

/// The files kept from all attempts of a run's jobs, oldest first.
#[utoipa::path(get, path = "/runs/{id}/artifacts", tag = "runs", params(PageQuery),
    responses((status = 200, body = Page<Artifact>)))]
pub async fn artifacts(
    State(app): State<App>,
    member: Member,
    Path(id): Path<String>,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<PageQuery>,
) -> Result<(HeaderMap, Json<Page<Artifact>>), Rejection> {
    let run = runs::parse(&id)?;
    runs::check(&app, &member.scope, run).await?;
    let window = Window::<artifact::Id>::read(query.cursor.as_deref(), query.limit, uri.path())?;
    let found = app.store.run_artifacts(run, window.before, window.to_read()).await?;
    let (headers, page) = window.page(found, |artifact| artifact.id, &uri);
    Ok((headers, Json(page)))
}
