//! Labels of builds.

use std::fmt;
use std::str::FromStr;

use axum::Json;
use axum::extract::{OriginalUri, Path, State};
use axum::http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use qgjob_core::api::app_versions::{AppVersionView, NewAppVersion};
use qgjob_core::api::page::Page;
use qgjob_core::model::build::AppVersion;
use qgjob_core::model::name::{AppVersionId, OrgId};
use qgjob_core::model::refusal::Refusal;
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::auth::Member;
use super::extract::{Body, Query};
use super::page::{PageQuery, Window};
use super::problem::Rejection;
use crate::store::Listed;

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

/// Where a list of app versions goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place(Listed);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Listed { created_at, org_id, app_version_id } = &self.0;
        write!(f, "{}/{org_id}/{app_version_id}", created_at.as_millisecond())
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.splitn(3, '/');
        let mut next = || parts.next().ok_or(());
        let created_at = next()?.parse().map_err(drop)?;
        let created_at = Timestamp::from_millisecond(created_at).map_err(drop)?;
        let org_id = next()?.parse().map_err(drop)?;
        let app_version_id = next()?.parse().map_err(drop)?;
        Ok(Self(Listed { created_at, org_id, app_version_id }))
    }
}

/// App versions, newest first.
#[utoipa::path(get, path = "/app-versions", tag = "app versions", params(PageQuery),
    responses((status = 200, body = Page<AppVersionView>)))]
pub async fn list(
    State(app): State<App>,
    member: Member,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<PageQuery>,
) -> Result<(HeaderMap, Json<Page<AppVersionView>>), Rejection> {
    let window = Window::<Place>::read(query.cursor.as_deref(), query.limit, uri.path())?;
    let before = window.before.as_ref().map(|place| place.0.clone());
    let found = app.store.app_versions(&member.scope, before, window.to_read()).await?;
    let place = |version: &AppVersion| {
        let AppVersion { created_at, org_id, app_version_id, .. } = version.clone();
        Place(Listed { created_at, org_id, app_version_id })
    };
    let (headers, page) = window.page(found, place, &uri);
    let items = page.items.into_iter().map(view).collect();
    Ok((headers, Json(Page { items, next_cursor: page.next_cursor })))
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
