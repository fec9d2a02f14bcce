//! The control API: a small HTTP service to look at phones and to break them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use serde_json::{Value, json};

use crate::fault::Fault;
use crate::phone::Phone;
use crate::truth::Truth;

type Phones = Arc<BTreeMap<String, Arc<Phone>>>;
type NotFound = (StatusCode, Json<Value>);

/// Routes for the phones, found by their names:
///
/// - `GET /phones`
/// - `GET /phones/{name}`: what really happened to it, see [`Truth`]
/// - `POST /phones/{name}/faults` with a [`Fault`]
/// - `POST /phones/{name}/reset-truth`
pub fn router(phones: impl IntoIterator<Item = Arc<Phone>>) -> Router {
    let phones: Phones =
        Arc::new(phones.into_iter().map(|phone| (phone.config().name.clone(), phone)).collect());
    Router::new()
        .route("/phones", get(list))
        .route("/phones/{name}", get(truth))
        .route("/phones/{name}/faults", post(fault))
        .route("/phones/{name}/reset-truth", post(reset))
        .with_state(phones)
}

fn find<'a>(phones: &'a Phones, name: &str) -> Result<&'a Arc<Phone>, NotFound> {
    phones.get(name).ok_or_else(|| {
        let known: Vec<&String> = phones.keys().collect();
        (StatusCode::NOT_FOUND, Json(json!({"error": format!("no phone is called {name}"), "phones": known})))
    })
}

async fn list(State(phones): State<Phones>) -> Json<Value> {
    let phone = |phone: &Arc<Phone>| {
        let config = phone.config();
        json!({
            "name": config.name,
            "address": phone.address().to_string(),
            "serial": config.serial,
            "model": config.model,
            "release": config.release,
            "sdk": config.sdk,
            "plugged": phone.is_plugged(),
        })
    };
    Json(phones.values().map(phone).collect())
}

async fn truth(State(phones): State<Phones>, Path(name): Path<String>) -> Result<Json<Truth>, NotFound> {
    Ok(Json(find(&phones, &name)?.truth()))
}

async fn fault(
    State(phones): State<Phones>,
    Path(name): Path<String>,
    Json(fault): Json<Fault>,
) -> Result<StatusCode, NotFound> {
    find(&phones, &name)?.fault(fault);
    Ok(StatusCode::NO_CONTENT)
}

async fn reset(State(phones): State<Phones>, Path(name): Path<String>) -> Result<StatusCode, NotFound> {
    find(&phones, &name)?.reset_truth();
    Ok(StatusCode::NO_CONTENT)
}
