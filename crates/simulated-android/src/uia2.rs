//! UiAutomator2's server: the REST service on the phone that Appium's driver proxies to.

mod commands;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::DuplexStream;

use crate::device::Device;

/// The largest request body, in bytes.
const MAX_BODY: usize = 4 * 1024 * 1024;
/// How often a hanging server looks whether it has been healed.
const HANG_POLL: Duration = Duration::from_millis(50);

/// What the server knows about its one session.
#[derive(Debug, Default)]
pub(crate) struct Automation {
    pub(crate) session: Option<String>,
    /// Keys of nodes that were handed out as elements; an element's id holds its place in this list.
    pub(crate) elements: Vec<String>,
}

/// An error in WebDriver's words.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    error: &'static str,
    message: String,
}

impl Failure {
    fn new(status: StatusCode, error: &'static str, message: impl Into<String>) -> Self {
        Self { status, error, message: message.into() }
    }
}

/// Answers one connection until either side ends it or the instrumentation does.
pub(crate) async fn serve(device: Arc<Device>, stream: DuplexStream) {
    let instrumentation = device.state().instrumentation.as_ref().map(|now| now.running.clone());
    let Some(running) = instrumentation else { return };
    let service = hyper::service::service_fn(|request| answer(device.clone(), request));
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        () = running.cancelled() => {}
        result = connection => {
            if let Err(error) = result {
                tracing::debug!(phone = %device.config.name, %error, "automation connection ended");
            }
        }
    }
}

async fn answer(
    device: Arc<Device>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let method = request.method().clone();
    let path = request.uri().path().trim_start_matches("/wd/hub").to_owned();
    let body = Limited::new(request.into_body(), MAX_BODY).collect().await;
    while device.state().standing.hang {
        tokio::time::sleep(HANG_POLL).await;
    }
    let configured = Duration::from_millis(device.config.command_ms);
    let pause = device.state().standing.slow_command.max(configured);
    tokio::time::sleep(pause).await;
    let arguments = match body {
        Ok(body) => parse(&body.to_bytes()),
        Err(_) => {
            Err(Failure::new(StatusCode::BAD_REQUEST, "invalid argument", "the body could not be read"))
        }
    };
    let mut state = device.state();
    let result =
        arguments.and_then(|arguments| commands::run(&mut state, method.as_str(), &path, &arguments));
    let (status, value) = match result {
        Ok(value) => (StatusCode::OK, value),
        Err(failure) => {
            if failure.error == "unknown command" {
                state.unknown(&failure.message);
            }
            let Failure { status, error, message } = failure;
            (status, json!({"error": error, "message": message, "stacktrace": ""}))
        }
    };
    let body = json!({"sessionId": state.automation.session, "value": value}).to_string();
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, kind);
    Ok(response)
}

fn parse(body: &Bytes) -> Result<Value, Failure> {
    if body.is_empty() {
        return Ok(json!({}));
    }
    serde_json::from_slice(body)
        .map_err(|error| Failure::new(StatusCode::BAD_REQUEST, "invalid argument", error.to_string()))
}
