//! HTTP: the router, which is the API's description too. Knows the store, blobs, logs and dispatch; nothing knows it.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

mod accept;
mod agents_admin;
mod app_versions;
mod artifacts;
pub mod auth;
mod content;
mod devices;
mod events;
mod extract;
mod health;
mod jobs;
mod logins;
mod logs;
mod oidc_policies;
pub mod openapi;
mod orgs;
mod page;
mod permit;
mod problem;
mod queue;
mod reruns;
mod results;
mod runs;
mod split;
mod tokens;
mod uploads;
mod validate;
mod wait;
mod work;

/// The whole site: public API, agent protocol, health.
pub fn router(app: App) -> Router {
    let (router, description) = describe();
    let description = Arc::new(description);
    let served = move || {
        let description = Arc::clone(&description);
        async move { Json(description.as_ref().clone()) }
    };
    let router = router.route("/api/v1/openapi.json", get(served));
    finish(router.route("/healthz", get(health::readyz)), app)
}

/// Health and numbers without a token, for the listener `metrics_listen`.
pub fn metrics_router(app: App) -> Router {
    let router = Router::new()
        .route("/metrics", get(health::open_metrics))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/healthz", get(health::readyz));
    finish(router, app)
}

/// The routes and their description: one list for both.
pub fn describe() -> (Router<App>, OpenApi) {
    let public = OpenApiRouter::new()
        .routes(routes!(runs::create, runs::list))
        .routes(routes!(runs::cancel_by_key))
        .routes(routes!(runs::show))
        .routes(routes!(runs::cancel))
        .routes(routes!(results::tests))
        .routes(routes!(results::artifacts))
        .routes(routes!(reruns::rerun_failed))
        .routes(routes!(events::of_run))
        .routes(routes!(runs::create_job, jobs::list))
        .routes(routes!(jobs::show))
        .routes(routes!(jobs::cancel))
        .routes(routes!(jobs::retry))
        .routes(routes!(jobs::promote))
        .routes(routes!(jobs::attempts))
        .routes(routes!(jobs::tests))
        .routes(routes!(jobs::artifacts))
        .routes(routes!(jobs::explain))
        .routes(routes!(logs::read))
        .routes(routes!(events::of_job))
        .routes(routes!(events::all))
        .routes(routes!(artifacts::read))
        .routes(routes!(uploads::begin))
        .routes(routes!(uploads::show, uploads::send))
        .routes(routes!(uploads::complete))
        .routes(routes!(app_versions::create, app_versions::list))
        .routes(routes!(app_versions::show))
        .routes(routes!(queue::list))
        .routes(routes!(queue::show))
        .routes(routes!(queue::pause))
        .routes(routes!(queue::resume))
        .routes(routes!(orgs::show, orgs::change))
        .routes(routes!(orgs::pause))
        .routes(routes!(orgs::resume))
        .routes(routes!(orgs::concurrency_groups))
        .routes(routes!(orgs::set_concurrency_limit))
        .routes(routes!(logins::log_in))
        .routes(routes!(logins::renew))
        .routes(routes!(oidc_policies::list, oidc_policies::add))
        .routes(routes!(oidc_policies::remove))
        .routes(routes!(oidc_policies::test))
        .routes(routes!(devices::list))
        .routes(routes!(devices::show))
        .routes(routes!(devices::drain))
        .routes(routes!(devices::enable))
        .routes(routes!(agents_admin::list))
        .routes(routes!(agents_admin::show, agents_admin::remove))
        .routes(routes!(agents_admin::drain))
        .routes(routes!(agents_admin::enable))
        .routes(routes!(tokens::create, tokens::list))
        .routes(routes!(tokens::remove))
        .routes(routes!(tokens::whoami))
        .routes(routes!(health::version))
        .routes(routes!(problem::list))
        .routes(routes!(problem::show));
    let agent = OpenApiRouter::new()
        .routes(routes!(work::register))
        .routes(routes!(work::heartbeat))
        .routes(routes!(work::claim))
        .routes(routes!(work::renew))
        .routes(routes!(work::phase))
        .routes(routes!(work::tests))
        .routes(routes!(work::finish))
        .routes(routes!(work::bytes::log))
        .routes(routes!(work::bytes::announce))
        .routes(routes!(work::bytes::send))
        .routes(routes!(work::bytes::input));
    let (router, mut description) = OpenApiRouter::with_openapi(openapi::base())
        .nest("/api/v1", public)
        .nest("/agent/v1", agent)
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
        .split_for_parts();
    openapi::complete(&mut description);
    (router, description)
}

fn finish(router: Router<App>, app: App) -> Router {
    // In one stack: each layer of its own would box every request's way through it once more.
    let layers = ServiceBuilder::new()
        .layer(from_fn_with_state(Arc::clone(&app), problem::finish))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(Arc::clone(&app), count));
    router.fallback(nothing_here).layer(layers).with_state(app)
}

async fn nothing_here() -> StatusCode {
    StatusCode::NOT_FOUND
}

fn panicked(cause: Box<dyn std::any::Any + Send>) -> Response {
    let text =
        cause.downcast_ref::<String>().map(String::as_str).or_else(|| cause.downcast_ref::<&str>().copied());
    tracing::error!(panic = text.unwrap_or("unknown"), "a request panicked");
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}

/// Counts requests by the pattern of their path, and refuses those whose caller could not read the answer.
async fn count(State(app): State<App>, path: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let began = std::time::Instant::now();
    // Anybody may send any word as a method, and each would be kept for ever.
    const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    let method = METHODS.into_iter().find(|known| *known == request.method().as_str()).unwrap_or("other");
    let route = path.as_ref().map_or("none", |path| path.as_str());
    let response = {
        let _waiting = app.metrics.waiting(route, method);
        match accept::check(route, request.headers()) {
            Ok(()) => next.run(request).await,
            Err(rejection) => rejection.into_response(),
        }
    };
    app.metrics.answered(route, method, response.status().as_u16(), began.elapsed());
    response
}
