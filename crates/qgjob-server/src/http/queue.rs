//! The queue: what waits, by group; pausing an app version and letting it go on.

use axum::Json;
use axum::extract::{Path, State};
use qgjob_core::api::queue::{GroupView, QueueView};
use qgjob_core::model::name::{AppVersionId, OrgId};

use super::App;
use super::app_versions::OrgQuery;
use super::auth::Member;
use super::extract::Query;
use super::problem::Rejection;
use crate::store::Scope;

/// Groups of jobs that wait or run, with the devices that have their build.
#[utoipa::path(get, path = "/queue", tag = "queue", responses((status = 200, body = Vec<GroupView>)))]
pub async fn list(State(app): State<App>, member: Member) -> Result<Json<Vec<GroupView>>, Rejection> {
    Ok(Json(app.dispatch.queue(&member.scope, None, &app.store.limits().await?)))
}

/// The queue of an app version: its label, percent-encoded. A label that is not bound, not paused, and has no jobs is not
/// found.
#[utoipa::path(get, path = "/queue/{app_version_id}", tag = "queue", params(OrgQuery),
    responses((status = 200, body = QueueView)))]
pub async fn show(
    State(app): State<App>,
    member: Member,
    Path(label): Path<String>,
    Query(query): Query<OrgQuery>,
) -> Result<Json<QueueView>, Rejection> {
    let not_found = || Rejection::not_found(format_args!("app version {label}"));
    let org = member.org(query.org_id)?;
    let id: AppVersionId = label.parse().map_err(|_| not_found())?;
    let view = view(&app, org, id).await?;
    let is_known = view.paused
        || !view.groups.is_empty()
        || app.store.app_version(&view.org_id, &view.app_version_id).await?.is_some();
    if is_known { Ok(Json(view)) } else { Err(not_found()) }
}

/// Lets the waiting jobs of an app version rest, those that come later too; what runs goes on. While they rest their queue
/// deadline does not pass. Repeating it is harmless, and the label need not be bound yet.
#[utoipa::path(post, path = "/queue/{app_version_id}/pause", tag = "queue", params(OrgQuery),
    responses((status = 200, body = QueueView)))]
pub async fn pause(
    State(app): State<App>,
    member: Member,
    Path(label): Path<String>,
    Query(query): Query<OrgQuery>,
) -> Result<Json<QueueView>, Rejection> {
    set_paused(&app, &member, &label, query, true).await
}

/// Lets the waiting jobs of an app version go on; the time that they rested is added to their queue deadlines. Repeating it
/// is harmless.
#[utoipa::path(post, path = "/queue/{app_version_id}/resume", tag = "queue", params(OrgQuery),
    responses((status = 200, body = QueueView)))]
pub async fn resume(
    State(app): State<App>,
    member: Member,
    Path(label): Path<String>,
    Query(query): Query<OrgQuery>,
) -> Result<Json<QueueView>, Rejection> {
    set_paused(&app, &member, &label, query, false).await
}

async fn set_paused(
    app: &App,
    member: &Member,
    label: &str,
    query: OrgQuery,
    paused: bool,
) -> Result<Json<QueueView>, Rejection> {
    let org = member.org(query.org_id)?;
    let id: AppVersionId =
        label.parse().map_err(|bad| Rejection::field("app_version_id", format!("{bad}")))?;
    app.store.set_app_version_paused(app.clock.now(), &org, &id, paused).await?;
    Ok(Json(view(app, org, id).await?))
}

async fn view(app: &App, org_id: OrgId, app_version_id: AppVersionId) -> Result<QueueView, Rejection> {
    let limits = app.store.limits().await?;
    let groups = app.dispatch.queue(&Scope::Org(org_id.clone()), Some(&app_version_id), &limits);
    Ok(QueueView {
        schema: "qgjob.queue/v1".to_owned(),
        paused: limits.is_paused(&org_id, &app_version_id),
        org_paused: limits.org(&org_id).paused,
        queued: groups.iter().map(|group| group.queued).sum(),
        running: groups.iter().map(|group| group.running).sum(),
        groups,
        org_id,
        app_version_id,
    })
}
