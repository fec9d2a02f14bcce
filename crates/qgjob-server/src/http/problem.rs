//! Every error leaves as `application/problem+json`: refusals, store errors, rejections of the framework, panics.

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use qgjob_core::api::about::ProblemKind;
use qgjob_core::api::problem::{Code, Problem};
use qgjob_core::model::refusal::Refusal;

use tracing::Instrument;

use super::App;
use crate::app::streams::Taken;
use crate::{blobs, logs, store};

/// The request's id, in and out.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The type of every error's body.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// Marks an answer whose body is right although its status says error.
#[derive(Debug, Clone, Copy)]
pub struct AsItIs;

/// An error on its way out.
#[derive(Debug)]
pub struct Rejection(Box<Problem>);

impl Rejection {
    /// A problem of kind `code`.
    pub fn new(code: Code, detail: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        Problem::new(code, detail).into()
    }

    /// One field is wrong.
    pub fn field(pointer: &str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Problem::new(Code::InvalidRequest, detail.clone()).field(pointer, detail).into()
    }

    /// No such thing, or not visible.
    pub fn not_found(what: impl std::fmt::Display) -> Self {
        Refusal::NotFound { what: what.to_string() }.into()
    }

    /// Larger than allowed.
    pub fn too_large(what: &'static str, limit: u64, given: u64) -> Self {
        Refusal::TooMany { what, limit, given }.into()
    }
}

impl From<Problem> for Rejection {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem))
    }
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        Problem::from(refusal).into()
    }
}

impl From<store::Error> for Rejection {
    fn from(error: store::Error) -> Self {
        tracing::error!(%error, "the store failed");
        match error {
            store::Error::Unavailable(_) => busy("the store is busy; try again"),
            store::Error::Full => Self::new(Code::StorageFull, "the disk of the store is full"),
            store::Error::Corrupt(_) => Self::new(Code::Internal, "the store holds something unexpected"),
        }
    }
}

impl From<blobs::Error> for Rejection {
    fn from(error: blobs::Error) -> Self {
        tracing::error!(%error, "the blob store failed");
        match error {
            blobs::Error::Full => {
                Self::new(Code::StorageFull, "no space is left for uploads, artifacts and logs")
            }
            blobs::Error::Io(_) => Self::new(Code::Internal, "bytes could not be read or written"),
        }
    }
}

impl From<logs::Error> for Rejection {
    fn from(error: logs::Error) -> Self {
        match error {
            logs::Error::Offset { expected } => Refusal::LogOffset { expected }.into(),
            logs::Error::TooFar => Self::field("upload-offset", error.to_string()),
            logs::Error::Io(error) => error.into(),
        }
    }
}

impl From<std::io::Error> for Rejection {
    fn from(error: std::io::Error) -> Self {
        blobs::Error::from(error).into()
    }
}

impl From<Taken> for Rejection {
    fn from(taken: Taken) -> Self {
        busy(taken)
    }
}

/// The server cannot take this now.
fn busy(detail: impl std::fmt::Display) -> Rejection {
    let problem = Problem { retry_after_ms: Some(1_000), ..Problem::new(Code::Busy, detail.to_string()) };
    problem.into()
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        // The body is written by `finish`, which knows the request's id.
        let status = StatusCode::from_u16(self.0.status).expect("every code has a valid status");
        let mut response = status.into_response();
        response.extensions_mut().insert(std::sync::Arc::new(*self.0));
        response
    }
}

/// Gives each request an id and each error its body.
pub async fn finish(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let given = request.headers().get(&REQUEST_ID).and_then(|id| id.to_str().ok());
    let fits = |id: &&str| !id.is_empty() && id.len() <= 128 && id.bytes().all(|b| b.is_ascii_graphic());
    let id = match given.filter(fits) {
        Some(id) => id.to_owned(),
        None => format!("req_{:032x}", app.clock.random()),
    };
    let header = HeaderValue::from_str(&id).expect("an id of visible characters is a header value");
    request.headers_mut().insert(REQUEST_ID, header.clone());
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let size: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let limit = app.config.limits.headers;
    let mut response = if size as u64 > limit {
        Rejection::too_large("bytes of headers", limit, size as u64).into_response()
    } else {
        let span = tracing::info_span!("request", request_id = id, %method, path);
        next.run(request).instrument(span).await
    };
    let status = response.status();
    let failed = status.is_client_error() || status.is_server_error();
    if failed && response.extensions().get::<AsItIs>().is_none() {
        let problem = match response.extensions_mut().remove::<std::sync::Arc<Problem>>() {
            Some(problem) => (*problem).clone(),
            None => Problem::new(code_of(status), format!("{method} {path}")),
        };
        if status.is_server_error() {
            tracing::warn!(request_id = id, %method, path, code = problem.code.as_str(), "a request failed");
        }
        response = body(Problem { request_id: Some(id), instance: Some(path), ..problem }, &response);
    }
    response.headers_mut().insert(REQUEST_ID, header);
    response
}

fn body(problem: Problem, original: &Response) -> Response {
    let status = StatusCode::from_u16(problem.status).expect("every code has a valid status");
    let text = serde_json::to_vec(&problem).expect("a problem is plain data");
    let mut response = (status, [(header::CONTENT_TYPE, MEDIA_TYPE)], text).into_response();
    for name in [header::ALLOW, header::CONTENT_RANGE] {
        if let Some(value) = original.headers().get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    if let Some(wait) = problem.retry_after_ms {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.div_ceil(1_000)));
    }
    if problem.code == Code::Unauthenticated {
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"qgjob\""));
    }
    response
}

/// The code of an error that the framework made.
fn code_of(status: StatusCode) -> Code {
    match status {
        StatusCode::NOT_FOUND => Code::NotFound,
        StatusCode::METHOD_NOT_ALLOWED => Code::MethodNotAllowed,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::UnsupportedMediaType,
        StatusCode::PAYLOAD_TOO_LARGE => Code::TooLarge,
        StatusCode::RANGE_NOT_SATISFIABLE => Code::RangeNotSatisfiable,
        StatusCode::BAD_REQUEST => Code::MalformedBody,
        status if status.is_client_error() => Code::InvalidRequest,
        _ => Code::Internal,
    }
}

/// Every kind of error.
#[utoipa::path(get, path = "/problems", tag = "about", security(()), responses((status = 200, body = Vec<ProblemKind>)))]
pub async fn list() -> Json<Vec<ProblemKind>> {
    Json(Code::ALL.iter().copied().map(ProblemKind::of).collect())
}

/// One kind of error: what it means and what to do about it.
#[utoipa::path(get, path = "/problems/{code}", tag = "about", security(()), responses((status = 200, body = ProblemKind)))]
pub async fn show(Path(word): Path<String>) -> Result<Json<ProblemKind>, Rejection> {
    let found = Code::ALL.iter().copied().find(|code| code.as_str() == word);
    found.map(|code| Json(ProblemKind::of(code))).ok_or_else(|| Rejection::not_found("problem"))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use qgjob_core::clock::SystemClock;
    use tower::ServiceExt;

    use super::*;
    use crate::app::Parts;
    use crate::app::streams::Streams;
    use crate::app::tickets::Tickets;
    use crate::store::{Store, sqlite::Sqlite};

    /// A site in which something is broken.
    async fn answer(folder: &std::path::Path, path: &'static str) -> Problem {
        let store = Sqlite::open(&folder.join("db"), store::Rules::default()).unwrap();
        let store: std::sync::Arc<dyn Store> = std::sync::Arc::new(store);
        let clock = std::sync::Arc::new(SystemClock);
        let config = crate::config::Config::default();
        let forecasts = crate::forecasts::Forecasts::start(store.clone()).await.unwrap();
        let app = std::sync::Arc::new(Parts {
            dispatch: crate::dispatch::Dispatch::start(
                store.clone(),
                clock.clone(),
                forecasts.clone(),
                config.lease,
                config.placement,
            )
            .await
            .unwrap(),
            forecasts,
            oidc: crate::oidc::Oidc::new(&[], "http://127.0.0.1"),
            blobs: std::sync::Arc::new(blobs::disk::Disk::open(folder).unwrap()),
            uploads: blobs::uploads::Uploads::open(folder).unwrap(),
            logs: logs::Logs::open(folder, 1).unwrap(),
            metrics: std::sync::Arc::default(),
            streams: Streams::new(&config.limits),
            tickets: Tickets::default(),
            tasks: tokio_util::task::TaskTracker::new(),
            draining: AtomicBool::new(false),
            stopping: tokio_util::sync::CancellationToken::new(),
            config,
            store,
            clock,
        });
        let full = async || {
            super::super::content::save(Body::from("x"), std::path::Path::new("/dev/full"), 1)
                .await
                .map(|_| ())
        };
        let busy =
            async || Err::<(), _>(Rejection::from(store::Error::Unavailable("secret detail".to_owned())));
        let broken = async || -> StatusCode { panic!("secret detail") };
        let routes =
            Router::new().route("/panic", get(broken)).route("/full", get(full)).route("/busy", get(busy));
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        let response = super::super::finish(routes, app).oneshot(request).await.unwrap();
        let status = response.status();
        let text = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        assert!(!String::from_utf8_lossy(&text).contains("secret"), "a problem never shows the inner cause");
        let problem: Problem = serde_json::from_slice(&text).unwrap();
        assert_eq!(problem.status, status.as_u16());
        problem
    }

    #[tokio::test]
    async fn a_panic_a_full_disk_and_a_busy_store_are_problems() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(answer(folder.path(), "/panic").await.code, Code::Internal);
        assert_eq!(answer(folder.path(), "/full").await.code, Code::StorageFull);
        let busy = answer(folder.path(), "/busy").await;
        assert_eq!((busy.code, busy.retry_after_ms), (Code::Busy, Some(1_000)));
    }
}
