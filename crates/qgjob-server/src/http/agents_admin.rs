//! Agents, as an admin sees them.

use axum::Json;
use axum::extract::{OriginalUri, Path, State};
use axum::http::{HeaderMap, StatusCode};
use qgjob_core::api::page::Page;
use qgjob_core::model::agent::{self, Agent};

use super::App;
use super::auth::Admin;
use super::extract::Query;
use super::page::{self, PageQuery};
use super::problem::Rejection;

/// Agents, oldest first.
#[utoipa::path(get, path = "/agents", tag = "agents", params(PageQuery),
    responses((status = 200, body = Page<Agent>)))]
pub async fn list(
    State(app): State<App>,
    _: Admin,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<PageQuery>,
) -> Result<(HeaderMap, Json<Page<Agent>>), Rejection> {
    page::of(app.store.agents().await?, |agent| agent.id, &query, &uri)
}

/// An agent.
#[utoipa::path(get, path = "/agents/{id}", tag = "agents", responses((status = 200, body = Agent)))]
pub async fn show(
    State(app): State<App>,
    _: Admin,
    Path(id): Path<String>,
) -> Result<Json<Agent>, Rejection> {
    let id = parse(&id)?;
    let found = app.store.agents().await?.into_iter().find(|agent| agent.id == id);
    found.map(Json).ok_or_else(|| Rejection::not_found(format_args!("agent {id}")))
}

fn parse(text: &str) -> Result<agent::Id, Rejection> {
    text.parse().map_err(|_| Rejection::not_found(format_args!("agent {text}")))
}

/// Lets an agent finish what it runs and take no new job.
#[utoipa::path(post, path = "/agents/{id}/drain", tag = "agents", responses((status = 200, body = Agent)))]
pub async fn drain(
    State(app): State<App>,
    _: Admin,
    Path(id): Path<String>,
) -> Result<Json<Agent>, Rejection> {
    Ok(Json(app.store.set_agent_draining(app.clock.now(), parse(&id)?, true).await??))
}

/// Lets an agent take jobs again.
#[utoipa::path(post, path = "/agents/{id}/enable", tag = "agents", responses((status = 200, body = Agent)))]
pub async fn enable(
    State(app): State<App>,
    _: Admin,
    Path(id): Path<String>,
) -> Result<Json<Agent>, Rejection> {
    Ok(Json(app.store.set_agent_draining(app.clock.now(), parse(&id)?, false).await??))
}

/// Forgets an agent and its devices. What it runs is lost and runs elsewhere; its session ends.
#[utoipa::path(delete, path = "/agents/{id}", tag = "agents", responses((status = 204)))]
pub async fn remove(
    State(app): State<App>,
    _: Admin,
    Path(id): Path<String>,
) -> Result<StatusCode, Rejection> {
    app.store.remove_agent(app.clock.now(), parse(&id)?, app.clock.random()).await??;
    Ok(StatusCode::NO_CONTENT)
}
