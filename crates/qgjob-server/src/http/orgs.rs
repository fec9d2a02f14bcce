//! What an org may hold of the devices: its weight, its cap, its pause, and its concurrency groups.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{OriginalUri, Path, State};
use axum::http::HeaderMap;
use qgjob_core::api::orgs::{ConcurrencyLimit, ConcurrencyView, OrgView, QuotaChange};
use qgjob_core::api::page::Page;
use qgjob_core::api::problem::{Code, FieldError, Problem};
use qgjob_core::model::limits::{OrgChange, OrgLimits};
use qgjob_core::model::name::{ConcurrencyGroup, OrgId};

use super::App;
use super::auth::{Admin, Member};
use super::extract::{Body, Query};
use super::page::{self, PageQuery};
use super::problem::Rejection;

/// An org's limits, and how many of its jobs wait and run.
#[utoipa::path(get, path = "/orgs/{org_id}/quotas", tag = "orgs", responses((status = 200, body = OrgView)))]
pub async fn show(
    State(app): State<App>,
    member: Member,
    Path(org): Path<String>,
) -> Result<Json<OrgView>, Rejection> {
    let org = visible(&member, &org)?;
    let limits = app.store.limits().await?.org(&org);
    Ok(Json(view(&app, org, limits).await?))
}

/// Changes an org's weight and its cap on running jobs: what is not given stays. Under a lowered cap what runs goes on.
#[utoipa::path(patch, path = "/orgs/{org_id}/quotas", tag = "orgs", request_body = QuotaChange,
    responses((status = 200, body = OrgView)))]
pub async fn change(
    State(app): State<App>,
    _: Admin,
    Path(org): Path<String>,
    Body(change): Body<QuotaChange>,
) -> Result<Json<OrgView>, Rejection> {
    refuse(change.exceeded())?;
    set(&app, &org, change.into()).await
}

/// Lets all waiting jobs of an org rest, those that come later too; what runs goes on. While they rest their queue deadline
/// does not pass. Repeating it is harmless.
#[utoipa::path(post, path = "/orgs/{org_id}/pause", tag = "orgs", responses((status = 200, body = OrgView)))]
pub async fn pause(
    State(app): State<App>,
    _: Admin,
    Path(org): Path<String>,
) -> Result<Json<OrgView>, Rejection> {
    set(&app, &org, OrgChange { paused: Some(true), ..OrgChange::default() }).await
}

/// Lets the waiting jobs of an org go on, but those of app versions that are paused; the time that they rested is added to
/// their queue deadlines. Repeating it is harmless.
#[utoipa::path(post, path = "/orgs/{org_id}/resume", tag = "orgs", responses((status = 200, body = OrgView)))]
pub async fn resume(
    State(app): State<App>,
    _: Admin,
    Path(org): Path<String>,
) -> Result<Json<OrgView>, Rejection> {
    set(&app, &org, OrgChange { paused: Some(false), ..OrgChange::default() }).await
}

async fn set(app: &App, org: &str, change: OrgChange) -> Result<Json<OrgView>, Rejection> {
    let org: OrgId = org.parse().map_err(|bad| Rejection::field("org_id", format!("{bad}")))?;
    let limits = app.store.change_org(app.clock.now(), &org, change).await?;
    Ok(Json(view(app, org, limits).await?))
}

async fn view(app: &App, org_id: OrgId, limits: OrgLimits) -> Result<OrgView, Rejection> {
    let counts = app.dispatch.counts(&org_id);
    Ok(OrgView {
        schema: "qgjob.org/v1".to_owned(),
        org_id,
        limits,
        queued: counts.iter().map(|(_, queued, _)| queued).sum(),
        running: counts.iter().map(|(_, _, running)| running).sum(),
    })
}

/// The org's concurrency groups that have a limit of their own, or jobs that wait or run, by name.
#[utoipa::path(get, path = "/orgs/{org_id}/concurrency-groups", tag = "orgs", params(PageQuery),
    responses((status = 200, body = Page<ConcurrencyView>)))]
pub async fn concurrency_groups(
    State(app): State<App>,
    member: Member,
    Path(org): Path<String>,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<PageQuery>,
) -> Result<(HeaderMap, Json<Page<ConcurrencyView>>), Rejection> {
    let found = concurrency(&app, &visible(&member, &org)?).await?;
    page::of(found.into_values().collect(), |view| view.concurrency_group.clone(), &query, &uri)
}

/// Sets how many jobs of a concurrency group run at a time. Under a lowered limit what runs goes on.
#[utoipa::path(put, path = "/orgs/{org_id}/concurrency-groups/{name}", tag = "orgs", request_body = ConcurrencyLimit,
    responses((status = 200, body = ConcurrencyView)))]
pub async fn set_concurrency_limit(
    State(app): State<App>,
    member: Member,
    Path((org, name)): Path<(String, String)>,
    Body(body): Body<ConcurrencyLimit>,
) -> Result<Json<ConcurrencyView>, Rejection> {
    let org = visible(&member, &org)?;
    let name: ConcurrencyGroup = name.parse().map_err(|bad| Rejection::field("name", format!("{bad}")))?;
    refuse(body.exceeded())?;
    app.store.set_concurrency_limit(app.clock.now(), &org, &name, body.limit).await?;
    let known = concurrency(&app, &org).await?.remove(&name);
    Ok(Json(known.unwrap_or_else(|| empty(&org, &name, body.limit))))
}

async fn concurrency(
    app: &App,
    org: &OrgId,
) -> Result<BTreeMap<ConcurrencyGroup, ConcurrencyView>, Rejection> {
    let limits = app.store.limits().await?;
    let set = limits.orgs.get(org).into_iter().flat_map(|limited| &limited.concurrency);
    let mut views: BTreeMap<_, _> =
        set.map(|(name, limit)| (name.clone(), empty(org, name, *limit))).collect();
    for (key, queued, running) in app.dispatch.counts(org) {
        let Some(name) = key.concurrency_group else { continue };
        let limit = limits.concurrency(org, &name);
        let view = views.entry(name.clone()).or_insert_with(|| empty(org, &name, limit));
        view.queued += queued;
        view.running += running;
    }
    Ok(views)
}

fn empty(org: &OrgId, name: &ConcurrencyGroup, limit: u32) -> ConcurrencyView {
    ConcurrencyView {
        schema: "qgjob.concurrency_group/v1".to_owned(),
        org_id: org.clone(),
        concurrency_group: name.clone(),
        limit,
        queued: 0,
        running: 0,
    }
}

/// The org of a path, if the caller sees it.
///
/// # Errors
/// `not_found`.
pub fn visible(member: &Member, org: &str) -> Result<OrgId, Rejection> {
    let parsed = org.parse().ok().filter(|org| member.scope.sees(org));
    parsed.ok_or_else(|| Rejection::not_found(format_args!("org {org}")))
}

fn refuse(exceeded: Vec<FieldError>) -> Result<(), Rejection> {
    if exceeded.is_empty() {
        return Ok(());
    }
    let problem = Problem::new(Code::InvalidRequest, "a limit is out of bounds");
    Err(Problem { errors: exceeded, ..problem }.into())
}
