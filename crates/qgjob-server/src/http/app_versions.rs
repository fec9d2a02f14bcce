//! Labels of builds.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use qgjob_core::api::app_versions::{AppVersionView, NewAppVersion};
use qgjob_core::model::build::AppVersion;
use qgjob_core::model::name::{AppVersionId, OrgId};
use qgjob_core::model::refusal::Refusal;
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::auth::Member;
use super::extract::{Body, Query};
use super::problem::Rejection;

fn view(app_version: AppVersion) -> AppVersionView {
    AppVersionView { schema: "qgjob.app_version/v1".to_owned(), app_version }
}

/// Binds a label to an uploaded build. Repeating it is harmless; another build is refused with
/// `app_version_conflict`.
#[utoipa::path(post, path = "/app-versions", tag = "app versions", request_body = NewAppVersion,
    responses((status = 200, body = AppVersionView, description = "It was bound before"), (status = 201, body = AppVersionView)))]
pub async fn create(
    State(app): State<App>,
    member: Member,
    Body(body): Body<NewAppVersion>,
) -> Result<(StatusCode, Json<AppVersionView>), Rejection> {
    let NewAppVersion { org_id, app_version_id, build } = body;
    member.may_write(&org_id)?;
    let Some(size) = app.store.blob(&org_id, build.sha256).await? else {
        return Err(Refusal::NotUploaded { what: "app", sha256: build.sha256 }.into());
    };
    if size != build.size_bytes {
        return Err(Rejection::field("/build/size_bytes", format!("the app has {size} bytes")));
    }
    let words = [&build.app_id, &build.version_name, &build.version_code];
    if words
        .into_iter()
        .chain(&build.launch_activity)
        .any(|word| word.len() > 256 || word.chars().any(char::is_control))
    {
        return Err(Rejection::field(
            "/build",
            "each text must be at most 256 bytes without control characters",
        ));
    }
    let existed = app.store.app_version(&org_id, &app_version_id).await?.is_some();
    let wanted = AppVersion { org_id, app_version_id, build, created_at: app.clock.now() };
    let bound = app.store.bind_app_version(wanted).await??;
    Ok((if existed { StatusCode::OK } else { StatusCode::CREATED }, Json(view(bound))))
}

/// Which app versions to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields, default)]
pub struct ListQuery {
    /// At most so many, 50 by default.
    pub limit: Option<u32>,
}

/// App versions, newest first.
#[utoipa::path(get, path = "/app-versions", tag = "app versions", params(ListQuery),
    responses((status = 200, body = Vec<AppVersionView>)))]
pub async fn list(
    State(app): State<App>,
    member: Member,
    Query(query): Query<ListQuery>,
) -> Result<Json<Vec<AppVersionView>>, Rejection> {
    use qgjob_core::api::page::{DEFAULT_LIMIT, MAX_LIMIT};
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Rejection::field("limit", format!("the limit must be 1 to {MAX_LIMIT}")));
    }
    let found = app.store.app_versions(&member.scope, limit).await?;
    Ok(Json(found.into_iter().map(view).collect()))
}

/// Whose label is meant.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields, default)]
pub struct OrgQuery {
    /// The org; an org's token need not name it.
    #[param(value_type = Option<String>)]
    pub org_id: Option<OrgId>,
}

/// An app version. The label may hold `/`, as it is or percent-encoded.
#[utoipa::path(get, path = "/app-versions/{*app_version_id}", tag = "app versions", params(OrgQuery),
    responses((status = 200, body = AppVersionView)))]
pub async fn show(
    State(app): State<App>,
    member: Member,
    Path(label): Path<String>,
    Query(query): Query<OrgQuery>,
) -> Result<Json<AppVersionView>, Rejection> {
    let not_found = || Rejection::not_found(format_args!("app version {label}"));
    let org = member.org(query.org_id)?;
    let id: AppVersionId = label.parse().map_err(|_| not_found())?;
    app.store.app_version(&org, &id).await?.map(|found| Json(view(found))).ok_or_else(not_found)
}
