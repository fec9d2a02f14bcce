//! Runs: submit, list, show, cancel.

use std::sync::Arc;

use axum::Json;
use axum::extract::{OriginalUri, Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use qgjob_core::api::page::Page;
use qgjob_core::api::runs::{CancelByKey, NewJob, NewRun, RunView, RunWithJobs, Submitted, SubmittedJob};
use qgjob_core::model::job::{self, Conclusion, Job, Status};
use qgjob_core::model::name::{AppVersionId, IdempotencyKey, LabelKey, LabelValue, OrgId};
use qgjob_core::model::run;
use qgjob_core::model::sha256::Sha256;
use qgjob_core::queue::rollup;
use qgjob_core::queue::shards::Part;
use serde::Deserialize;
use sha2::Digest;
use utoipa::IntoParams;

use super::App;
use super::auth::Member;
use super::extract::{Body, Query};
use super::page::Window;
use super::problem::Rejection;
use super::wait::{self, Versioned, WaitQuery};
use super::{jobs, split, validate};
use crate::store::{Accepted, Cancel, JobFilter, Rerun, RunFilter, Scope, Submission};

/// Makes a repeated request one run.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Creates a run of 1 to 1,000 jobs.
///
/// With the header `Idempotency-Key` repeated requests make one run, ever: the repeat is answered with the run that
/// exists and `Idempotency-Replayed: true`; the same key with another body is refused with
/// `idempotency_key_reused`. Without the header each request makes a run of its own. The run survives any crash once
/// the answer is sent.
#[utoipa::path(post, path = "/runs", tag = "runs", request_body = NewRun,
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters")),
    responses((status = 201, body = Submitted)))]
pub async fn create(
    State(app): State<App>,
    member: Member,
    headers: HeaderMap,
    Body(run): Body<NewRun>,
) -> Result<Response, Rejection> {
    submit(&app, &member, &headers, run, None).await
}

/// Creates a run of one test file: one job, unless `shards` splits it. As `POST /runs` otherwise.
#[utoipa::path(post, path = "/jobs", tag = "jobs", request_body = NewJob,
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters")),
    responses((status = 201, body = Submitted)))]
pub async fn create_job(
    State(app): State<App>,
    member: Member,
    headers: HeaderMap,
    Body(job): Body<NewJob>,
) -> Result<Response, Rejection> {
    submit(&app, &member, &headers, job.into(), None).await
}

/// Submits `run`; `retried` is the job it repeats.
///
/// # Errors
/// What is wrong with it.
pub async fn submit(
    app: &App,
    member: &Member,
    headers: &HeaderMap,
    run: NewRun,
    retried: Option<&Job>,
) -> Result<Response, Rejection> {
    member.may_write(&run.org_id)?;
    member.may_ask_for(run.options.priority)?;
    validate::run(&run, app.clock.now())?;
    let retry_of = retried.map(|job| job.id);
    let digest = digest(&(&run, retry_of));
    // A key that is known leads to the run as it was split then: it stands for the request, not for what comes of it.
    let parts = split::parts(app, &run, retried).await?;
    let files = run.tests.iter().zip(parts);
    let jobs = files.flat_map(|(test, parts)| parts.into_iter().map(move |part| (test.clone(), part)));
    let (tests, parts) = jobs.unzip();
    let order = Order { run: NewRun { tests, ..run }, parts, retry_of, rerun: None, digest };
    make(app, member, headers, order).await
}

/// A run to be made, as it will be.
pub struct Order {
    /// What was asked for, validated, with a test for each job.
    pub run: NewRun,
    /// Each job's part of its test's file.
    pub parts: Vec<Part>,
    /// The job that it retries.
    pub retry_of: Option<job::Id>,
    /// What it is made from, if it is a rerun.
    pub rerun: Option<Rerun>,
    /// Of the request: the same for the same.
    pub digest: Sha256,
}

/// Makes a run for a member who may, under the key of the request if that has one.
///
/// # Errors
/// `idempotency_key_reused`, `not_uploaded`, or what is wrong with the key.
pub async fn make(
    app: &App,
    member: &Member,
    headers: &HeaderMap,
    order: Order,
) -> Result<Response, Rejection> {
    let now = app.clock.now();
    let key = match headers.get(&IDEMPOTENCY_KEY) {
        None => None,
        Some(key) => {
            let text = String::from_utf8_lossy(key.as_bytes());
            let key: IdempotencyKey =
                text.parse().map_err(|error| Rejection::field("Idempotency-Key", format!("{error}")))?;
            Some((key, order.digest))
        }
    };
    // Ids that count up sort in the order of submission.
    let first = job::Id::new(now, app.clock.random());
    let job_ids = (0..order.parts.len() as u128).map(|at| job::Id(first.0.wrapping_add(at))).collect();
    let (shards, predicted_ms) =
        order.parts.into_iter().map(|Part { shard, predicted_ms }| (shard, predicted_ms)).unzip();
    let submission = Submission {
        run_id: run::Id::new(now, app.clock.random()),
        job_ids,
        predicted_ms,
        shards,
        run: order.run,
        retry_of: order.retry_of,
        rerun: order.rerun,
        ci: member.token.ci.as_ref().map(|grant| (member.token.id, grant.run.clone())),
        key,
    };
    let accepted =
        app.store.submit(now, vec![submission]).await?.pop().expect("one answer for one submission")?;
    match (accepted.replayed, accepted.jobs.first()) {
        (true, _) => _ = app.metrics.idempotent_replays.inc(),
        (false, first) => {
            let target = first.map(|job| job.spec.target).unwrap_or_default();
            app.metrics.submitted(target, accepted.jobs.len());
        }
    }
    let location =
        HeaderValue::from_str(&format!("/api/v1/runs/{}", accepted.run.id)).expect("an id is visible ASCII");
    let mut extra = HeaderMap::from_iter([(header::LOCATION, location)]);
    if accepted.replayed {
        extra.insert("idempotency-replayed", HeaderValue::from_static("true"));
    }
    Ok((StatusCode::CREATED, extra, Json(submitted(accepted))).into_response())
}

/// The digest of a request.
pub fn digest(request: &impl serde::Serialize) -> Sha256 {
    let text = serde_json::to_vec(request).expect("a request is plain data");
    Sha256(sha2::Sha256::digest(text).into())
}

fn submitted(accepted: Accepted) -> Submitted {
    let Accepted { run, jobs, app_sha256, replayed } = accepted;
    Submitted {
        schema: "qgjob.submit/v1".to_owned(),
        run_id: run.id,
        job_id: jobs.first().filter(|_| jobs.len() == 1).map(|job| job.id),
        status: run.status,
        conclusion: run.conclusion,
        org_id: run.org_id,
        app_version_id: run.app_version_id,
        app_sha256,
        deduplicated: replayed,
        jobs: jobs
            .into_iter()
            .map(|job| SubmittedJob {
                job_id: job.id,
                test: job.spec.test,
                shard: job.spec.shard,
                status: job.status,
            })
            .collect(),
        created_at: run.created_at,
    }
}

/// Which runs to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields, default)]
pub struct RunsQuery {
    /// Only this org's.
    #[param(value_type = Option<String>)]
    pub org_id: Option<OrgId>,
    /// Only with this status.
    pub status: Option<Status>,
    /// Only with this conclusion.
    pub conclusion: Option<Conclusion>,
    /// Only for this app version.
    #[param(value_type = Option<String>)]
    pub app_version_id: Option<AppVersionId>,
    /// Only with this label: `branch=main`.
    pub label: Option<String>,
    /// Only the one that this idempotency key made, as long as the key is remembered (7 days). Needs `org_id`, unless the
    /// token is of one org.
    #[param(value_type = Option<String>)]
    pub idempotency_key: Option<IdempotencyKey>,
    /// Where the page before ended.
    pub cursor: Option<String>,
    /// Items per page: 1 to 200, 50 by default.
    pub limit: Option<u32>,
}

/// Runs, newest first.
#[utoipa::path(get, path = "/runs", tag = "runs", params(RunsQuery), responses((status = 200, body = Page<RunView>)))]
pub async fn list(
    State(app): State<App>,
    member: Member,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<RunsQuery>,
) -> Result<(HeaderMap, Json<Page<RunView>>), Rejection> {
    let label = query.label.as_deref().map(label).transpose()?;
    let key = match (query.idempotency_key, &query.org_id, &member.scope) {
        (None, ..) => None,
        (Some(key), Some(org), _) | (Some(key), None, Scope::Org(org)) => Some((org.clone(), key)),
        (Some(_), None, Scope::All) => {
            return Err(Rejection::field("org_id", "a key is one org's: say whose"));
        }
    };
    let filter = RunFilter {
        key,
        org_id: query.org_id,
        status: query.status,
        conclusion: query.conclusion,
        app_version_id: query.app_version_id,
        label,
    };
    let window = Window::read(query.cursor.as_deref(), query.limit, &format!("runs {filter:?}"))?;
    let found = app.store.runs(&member.scope, &filter, window.before, window.to_read()).await?;
    let (headers, page) = window.page(found, |(run, _)| run.id, &uri);
    let mut items = Vec::with_capacity(page.items.len());
    for (run, installs) in page.items {
        items.push(view(&app, run, installs).await?);
    }
    Ok((headers, Json(Page { items, next_cursor: page.next_cursor })))
}

fn label(text: &str) -> Result<(String, String), Rejection> {
    let wrong = |detail: String| Rejection::field("label", detail);
    let (key, value) = text.split_once('=').ok_or_else(|| wrong(format!("{text:?} is not key=value")))?;
    let key: LabelKey = key.parse().map_err(|error| wrong(format!("{error}")))?;
    let value: LabelValue = value.parse().map_err(|error| wrong(format!("{error}")))?;
    Ok((key.to_string(), value.to_string()))
}

async fn view(
    app: &App,
    run: run::Run,
    installs: qgjob_core::api::runs::Installs,
) -> Result<RunView, Rejection> {
    let exit_code = match run.status {
        Status::Completed => {
            let reasons = app.store.run_reasons(run.id).await?;
            Some(rollup::exit_code_of_run(reasons, run.tests.failed).into())
        }
        _ => None,
    };
    Ok(RunView { schema: "qgjob.run/v1".to_owned(), run, exit_code, installs })
}

/// A run with its jobs.
#[utoipa::path(get, path = "/runs/{id}", tag = "runs", params(WaitQuery),
    responses((status = 200, body = RunWithJobs), (status = 304, description = "It has not changed")))]
pub async fn show(
    State(app): State<App>,
    member: Member,
    Path(id): Path<String>,
    headers: HeaderMap,
    Query(query): Query<WaitQuery>,
) -> Result<Response, Rejection> {
    let id = parse(&id)?;
    let scope = Arc::new(member.scope);
    let read = {
        let app = App::clone(&app);
        move || read(App::clone(&app), Arc::clone(&scope), id).boxed()
    };
    wait::answer(&app, &query, &headers, |event| event.run_id == Some(id), read).await
}

async fn read(app: App, scope: Arc<Scope>, id: run::Id) -> Result<Versioned<RunWithJobs>, Rejection> {
    let (run, installs) = find(&app, &scope, id).await?;
    let filter = JobFilter { run_id: Some(id), ..JobFilter::default() };
    let found = app.store.jobs(&scope, &filter, None, 1_000).await?;
    let version = run.version;
    // A job can change while its run does not: the tag tells both.
    let etag = format!("{version}.{}", found.iter().map(|(job, _)| job.version).sum::<u64>());
    let job_list = found.into_iter().map(|(job, facts)| jobs::view(job, facts)).collect();
    Ok(Versioned { version, etag, body: RunWithJobs { run: view(&app, run, installs).await?, job_list } })
}

/// The run and what was done about its app.
///
/// # Errors
/// `not_found`.
pub async fn find(
    app: &App,
    scope: &Scope,
    id: run::Id,
) -> Result<(run::Run, qgjob_core::api::runs::Installs), Rejection> {
    app.store.run(scope, id).await?.ok_or_else(|| Rejection::not_found(format_args!("run {id}")))
}

/// The run that a path names.
///
/// # Errors
/// `not_found`.
pub fn parse(text: &str) -> Result<run::Id, Rejection> {
    text.parse().map_err(|_| Rejection::not_found("run"))
}

/// Refuses a run that is not visible.
///
/// # Errors
/// `not_found`.
pub async fn check(app: &App, scope: &Scope, id: run::Id) -> Result<Status, Rejection> {
    Ok(find(app, scope, id).await?.0.status)
}

/// Cancels the jobs of a run that are not over. Repeating it is harmless.
#[utoipa::path(post, path = "/runs/{id}/cancel", tag = "runs", responses((status = 200, body = RunWithJobs)))]
pub async fn cancel(
    State(app): State<App>,
    member: Member,
    Path(id): Path<String>,
) -> Result<Json<RunWithJobs>, Rejection> {
    let id = parse(&id)?;
    app.store.cancel(app.clock.now(), &member.scope, Cancel::Run(id)).await??;
    Ok(Json(read(App::clone(&app), Arc::new(member.scope), id).await?.body))
}

/// Cancels the run of an idempotency key; a submit with that key that is still on its way is born cancelled.
#[utoipa::path(post, path = "/runs/cancel-by-key", tag = "runs", request_body = CancelByKey, responses((status = 204)))]
pub async fn cancel_by_key(
    State(app): State<App>,
    member: Member,
    Body(body): Body<CancelByKey>,
) -> Result<StatusCode, Rejection> {
    member.may_write(&body.org_id)?;
    let what = Cancel::Key(body.org_id, body.idempotency_key);
    app.store.cancel(app.clock.now(), &member.scope, what).await??;
    Ok(StatusCode::NO_CONTENT)
}
