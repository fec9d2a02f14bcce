//! Jobs: list, show, cancel, retry, and what they left: attempts, tests, artifacts, reasons.

use std::sync::Arc;

use axum::Json;
use axum::extract::{OriginalUri, Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use futures_util::FutureExt;
use qgjob_core::api::explain::{Explanation, Why, WhyCode};
use qgjob_core::api::jobs::{AttemptView, JobView, TryView};
use qgjob_core::api::page::Page;
use qgjob_core::api::problem::Code;
use qgjob_core::api::runs::{JobOptions, NewRun, Submitted};
use qgjob_core::model::artifact::Artifact;
use qgjob_core::model::job::{self, Conclusion, Job, Status};
use qgjob_core::model::name::{AppVersionId, OrgId};
use qgjob_core::model::run;
use qgjob_core::queue::rollup;
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::auth::Member;
use super::extract::Query;
use super::page::{self, PageQuery, Window};
use super::problem::Rejection;
use super::runs;
use super::wait::{self, Versioned, WaitQuery};
use crate::store::{Cancel, JobFacts, JobFilter, Scope};

/// The fewest characters of an id's end that stand for it.
const SHORTEST_SUFFIX: usize = 6;

/// How a job is shown.
pub fn view(job: Job, facts: JobFacts) -> JobView {
    let exit_code = job.conclusion.map(|conclusion| rollup::exit_code(conclusion, job.reason).into());
    let JobFacts { device_name, install } = facts;
    JobView { schema: "qgjob.job/v1".to_owned(), job, device_name, install, exit_code }
}

/// The job that a path names: by its id, or by the end of it when that is unique.
///
/// # Errors
/// `not_found`, or `invalid_request` when several jobs are meant.
pub async fn find(app: &App, scope: &Scope, text: &str) -> Result<(Job, JobFacts), Rejection> {
    let not_found = || Rejection::not_found(format_args!("job {text}"));
    let id = match text.parse::<job::Id>() {
        Ok(id) => id,
        Err(_) => {
            let suffix = text.to_ascii_lowercase();
            let fits = (SHORTEST_SUFFIX..=26).contains(&suffix.len())
                && suffix.bytes().all(|b| b.is_ascii_alphanumeric());
            let found = if fits { app.store.jobs_by_suffix(scope, &suffix).await? } else { Vec::new() };
            match found.as_slice() {
                [] => return Err(not_found()),
                [id] => *id,
                _ => {
                    return Err(Rejection::field(
                        "id",
                        format!("several jobs end with {text}: give more characters"),
                    ));
                }
            }
        }
    };
    app.store.job(scope, id).await?.ok_or_else(not_found)
}

/// Which jobs to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields, default)]
pub struct JobsQuery {
    /// Only this org's.
    #[param(value_type = Option<String>)]
    pub org_id: Option<OrgId>,
    /// Only this run's, in the order of submission.
    #[param(value_type = Option<String>)]
    pub run_id: Option<run::Id>,
    /// Only with this status.
    pub status: Option<Status>,
    /// Only with this conclusion.
    pub conclusion: Option<Conclusion>,
    /// Only for this app version.
    #[param(value_type = Option<String>)]
    pub app_version_id: Option<AppVersionId>,
    /// Where the page before ended.
    pub cursor: Option<String>,
    /// Items per page: 1 to 200, 50 by default.
    pub limit: Option<u32>,
}

/// Jobs, newest first; those of one run in the order of submission.
#[utoipa::path(get, path = "/jobs", tag = "jobs", params(JobsQuery), responses((status = 200, body = Page<JobView>)))]
pub async fn list(
    State(app): State<App>,
    member: Member,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<JobsQuery>,
) -> Result<(HeaderMap, Json<Page<JobView>>), Rejection> {
    let filter = JobFilter {
        org_id: query.org_id,
        run_id: query.run_id,
        status: query.status,
        conclusion: query.conclusion,
        app_version_id: query.app_version_id,
    };
    let window = Window::read(query.cursor.as_deref(), query.limit, &format!("jobs {filter:?}"))?;
    let found = app.store.jobs(&member.scope, &filter, window.before, window.to_read()).await?;
    let (headers, page) = window.page(found, |(job, _)| job.id, &uri);
    let items = page.items.into_iter().map(|(job, facts)| view(job, facts)).collect();
    Ok((headers, Json(Page { items, next_cursor: page.next_cursor })))
}

/// A job. Its id may be shortened to its last characters, at least 6, when they are unique.
#[utoipa::path(get, path = "/jobs/{id}", tag = "jobs", params(WaitQuery),
    responses((status = 200, body = JobView), (status = 304, description = "It has not changed")))]
pub async fn show(
    State(app): State<App>,
    member: Member,
    Path(id): Path<String>,
    headers: HeaderMap,
    Query(query): Query<WaitQuery>,
) -> Result<Response, Rejection> {
    let id = find(&app, &member.scope, &id).await?.0.id;
    let scope = Arc::new(member.scope);
    let read = {
        let app = App::clone(&app);
        move || read(App::clone(&app), Arc::clone(&scope), id).boxed()
    };
    wait::answer(&app, &query, &headers, |event| event.job_id == Some(id), read).await
}

async fn read(app: App, scope: Arc<Scope>, id: job::Id) -> Result<Versioned<JobView>, Rejection> {
    let (job, facts) =
        app.store.job(&scope, id).await?.ok_or_else(|| Rejection::not_found(format_args!("job {id}")))?;
    Ok(Versioned { version: job.version, etag: job.version.to_string(), body: view(job, facts) })
}

/// Cancels a job. Repeating it is harmless; a job that ended otherwise is refused with `wrong_status`.
#[utoipa::path(post, path = "/jobs/{id}/cancel", tag = "jobs", responses((status = 200, body = JobView)))]
pub async fn cancel(
    State(app): State<App>,
    member: Member,
    Path(id): Path<String>,
) -> Result<Json<JobView>, Rejection> {
    let id = find(&app, &member.scope, &id).await?.0.id;
    app.store.cancel(app.clock.now(), &member.scope, Cancel::Job(id)).await??;
    Ok(Json(read(App::clone(&app), Arc::new(member.scope), id).await?.body))
}

/// Moves a waiting job before all that were not promoted. Repeating it is harmless; a job that does not wait is refused with
/// `wrong_status`.
#[utoipa::path(post, path = "/jobs/{id}/promote", tag = "jobs", responses((status = 200, body = JobView)))]
pub async fn promote(
    State(app): State<App>,
    member: Member,
    Path(id): Path<String>,
) -> Result<Json<JobView>, Rejection> {
    let id = find(&app, &member.scope, &id).await?.0.id;
    app.store.promote(app.clock.now(), &member.scope, id).await??;
    Ok(Json(read(App::clone(&app), Arc::new(member.scope), id).await?.body))
}

/// Runs a completed job again: a new run with the same test or shard, options, name and labels.
#[utoipa::path(post, path = "/jobs/{id}/retry", tag = "jobs",
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters")),
    responses((status = 201, body = Submitted)))]
pub async fn retry(
    State(app): State<App>,
    member: Member,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Rejection> {
    let (job, _) = find(&app, &member.scope, &id).await?;
    if job.status != Status::Completed {
        return Err(Rejection::new(Code::WrongStatus, format!("cannot retry a job that is {}", job.status)));
    }
    let run = app.store.run(&member.scope, job.run_id).await?;
    let (name, labels) = run.map(|(run, _)| (run.name, run.labels)).unwrap_or_default();
    runs::submit(&app, &member, &headers, same_again(job.clone(), name, labels), Some(&job)).await
}

/// What was asked of a job, to be asked again.
pub fn same_again(job: Job, name: Option<String>, labels: run::Labels) -> NewRun {
    // The wait that was granted is kept as the deadline; what was asked for cannot be more than 30 days.
    let granted = job.queue_deadline.duration_since(job.created_at).as_millis();
    let queue_timeout_ms = u64::try_from(granted).unwrap_or(0).clamp(1_000, 30 * 24 * 3_600 * 1_000);
    let spec = job.spec;
    NewRun {
        org_id: job.org_id,
        app_version_id: job.app_version_id,
        bundle_sha256: spec.bundle_sha256,
        tests: vec![spec.test],
        name,
        labels,
        options: JobOptions {
            platform: spec.platform,
            target: spec.target,
            selector: spec.selector,
            priority: spec.priority,
            timeout_ms: spec.timeout_ms,
            queue_timeout_ms,
            infra_retries: spec.infra_retries,
            test_retries: spec.test_retries,
            reset: spec.reset,
            env: spec.env,
            not_before: None,
            concurrency_group: spec.concurrency_group,
            // A shard is repeated as it was.
            shards: None,
        },
    }
}

/// The job's attempts, oldest first.
#[utoipa::path(get, path = "/jobs/{id}/attempts", tag = "jobs", params(PageQuery),
    responses((status = 200, body = Page<AttemptView>)))]
pub async fn attempts(
    State(app): State<App>,
    member: Member,
    Path(id): Path<String>,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<PageQuery>,
) -> Result<(HeaderMap, Json<Page<AttemptView>>), Rejection> {
    let (job, _) = find(&app, &member.scope, &id).await?;
    let found = app.store.attempts(job.id).await?;
    let views = found.into_iter().map(|(attempt, device_name)| AttemptView { attempt, device_name });
    page::of(views.collect(), |view| view.attempt.id, &query, &uri)
}

/// The tries of the job's tests, in the order they ended.
#[utoipa::path(get, path = "/jobs/{id}/tests", tag = "jobs", params(PageQuery),
    responses((status = 200, body = Page<TryView>)))]
pub async fn tests(
    State(app): State<App>,
    member: Member,
    Path(id): Path<String>,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<PageQuery>,
) -> Result<(HeaderMap, Json<Page<TryView>>), Rejection> {
    let (job, _) = find(&app, &member.scope, &id).await?;
    let found = app.store.tries(job.id).await?;
    let views = found.into_iter().map(|(attempt_id, result)| TryView { attempt_id, result });
    page::of(views.collect(), |view| format!("{}-{:010}", view.attempt_id, view.result.seq), &query, &uri)
}

/// The files kept from the job's attempts.
#[utoipa::path(get, path = "/jobs/{id}/artifacts", tag = "jobs", params(PageQuery),
    responses((status = 200, body = Page<Artifact>)))]
pub async fn artifacts(
    State(app): State<App>,
    member: Member,
    Path(id): Path<String>,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<PageQuery>,
) -> Result<(HeaderMap, Json<Page<Artifact>>), Rejection> {
    let (job, _) = find(&app, &member.scope, &id).await?;
    page::of(app.store.artifacts(job.id).await?, |artifact| artifact.id, &query, &uri)
}

/// Why the job waits, or why it ended as it did.
#[utoipa::path(get, path = "/jobs/{id}/explain", tag = "jobs", responses((status = 200, body = Explanation)))]
pub async fn explain(
    State(app): State<App>,
    member: Member,
    Path(id): Path<String>,
) -> Result<Json<Explanation>, Rejection> {
    let (job, facts) = find(&app, &member.scope, &id).await?;
    let latest = app.store.attempts(job.id).await?.pop();
    let choice = latest.and_then(|(attempt, _)| attempt.choice);
    let told = |code, detail| (vec![Why { code, detail }], Vec::new(), None);
    let (reasons, ahead, expected_start) = match job.status {
        Status::Scheduled | Status::Queued => app.dispatch.explain(&member.scope, &job).await,
        Status::Running => told(WhyCode::Running, runs_where(&job, &facts)),
        Status::Completed => told(WhyCode::Ended, ended_how(&job)),
    };
    let Job { id: job_id, status, conclusion, reason, .. } = job;
    Ok(Json(Explanation {
        schema: "qgjob.explanation/v1".to_owned(),
        job_id,
        status,
        conclusion,
        reason,
        reasons,
        ahead,
        expected_start,
        choice,
    }))
}

fn runs_where(job: &Job, facts: &JobFacts) -> String {
    let device = facts.device_name.as_deref().unwrap_or("a device");
    let phase = job.phase.map_or("", |phase| phase.as_str());
    format!("attempt {} runs on {device} ({phase})", job.attempts)
}

fn ended_how(job: &Job) -> String {
    let conclusion = job.conclusion.map_or("ended", |conclusion| conclusion.as_str());
    let reason = job.reason.map_or("", |reason| reason.as_str());
    match &job.detail {
        Some(detail) => format!("{conclusion} ({reason}): {detail}"),
        None => format!("{conclusion} ({reason})"),
    }
}
