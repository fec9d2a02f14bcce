//! Devices.

use axum::Json;
use axum::extract::{OriginalUri, Path, State};
use axum::http::HeaderMap;
use qgjob_core::api::page::Page;
use qgjob_core::model::device::{self, Device};

use super::App;
use super::auth::{Admin, Member};
use super::extract::Query;
use super::page::{self, PageQuery};
use super::problem::Rejection;
use crate::store::Scope;

/// Devices that the caller's jobs can use, oldest first.
#[utoipa::path(get, path = "/devices", tag = "devices", params(PageQuery),
    responses((status = 200, body = Page<Device>)))]
pub async fn list(
    State(app): State<App>,
    member: Member,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<PageQuery>,
) -> Result<(HeaderMap, Json<Page<Device>>), Rejection> {
    page::of(visible(&app, &member.scope).await?, |device| device.id, &query, &uri)
}

/// A device.
#[utoipa::path(get, path = "/devices/{id}", tag = "devices", responses((status = 200, body = Device)))]
pub async fn show(
    State(app): State<App>,
    member: Member,
    Path(id): Path<String>,
) -> Result<Json<Device>, Rejection> {
    let id = parse(&id)?;
    let found = visible(&app, &member.scope).await?.into_iter().find(|device| device.id == id);
    found.map(Json).ok_or_else(|| Rejection::not_found(format_args!("device {id}")))
}

/// The devices that `scope` sees. A shared device does not tell an org what others have installed.
async fn visible(app: &App, scope: &Scope) -> Result<Vec<Device>, Rejection> {
    let mut devices = app.store.devices(scope).await?;
    if let Scope::Org(org) = scope {
        for device in &mut devices {
            let mut own = Vec::new();
            for line in std::mem::take(&mut device.ledger) {
                if app.store.blob(org, line.sha256).await?.is_some() {
                    own.push(line);
                }
            }
            device.ledger = own;
        }
    }
    Ok(devices)
}

fn parse(text: &str) -> Result<device::Id, Rejection> {
    text.parse().map_err(|_| Rejection::not_found(format_args!("device {text}")))
}

/// Takes a device out: it finishes what it runs and gets no new job.
#[utoipa::path(post, path = "/devices/{id}/drain", tag = "devices", responses((status = 200, body = Device)))]
pub async fn drain(
    State(app): State<App>,
    _: Admin,
    Path(id): Path<String>,
) -> Result<Json<Device>, Rejection> {
    set_drained(&app, &id, true).await
}

/// Brings a device back that was drained or is quarantined.
#[utoipa::path(post, path = "/devices/{id}/enable", tag = "devices", responses((status = 200, body = Device)))]
pub async fn enable(
    State(app): State<App>,
    _: Admin,
    Path(id): Path<String>,
) -> Result<Json<Device>, Rejection> {
    set_drained(&app, &id, false).await
}

async fn set_drained(app: &App, id: &str, drained: bool) -> Result<Json<Device>, Rejection> {
    Ok(Json(app.store.set_device_drained(app.clock.now(), parse(id)?, drained).await??))
}
