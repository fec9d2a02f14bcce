//! Requests, one by one: which are passed on, and what is noted about them.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::json;

use super::{Shared, sessions};

/// The largest body of a command. Pushing a file to a device is the only large one, and is Base64.
const MAX_BODY: usize = 256 << 20;

/// The largest error that is looked into.
const MAX_ERROR: usize = 1 << 20;

/// Headers that concern one connection, not the message.
const PER_CONNECTION: &[header::HeaderName] = &[
    header::CONNECTION,
    header::HOST,
    header::TRANSFER_ENCODING,
    header::CONTENT_LENGTH,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
];

pub async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, MAX_BODY).await else {
        return error(StatusCode::PAYLOAD_TOO_LARGE, "invalid argument", "the body is larger than 256 MiB");
    };
    {
        let facts = &mut shared.book().facts;
        facts.requests += 1;
        facts.request_bytes += body.len() as u64;
    }
    if let Some(halt) = shared.halted() {
        return over(&halt.reason());
    }
    let path = parts.uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
    let command = Command { method: parts.method, path, headers: parts.headers, body };
    let work = async {
        match command.target() {
            Target::NewSession => sessions::create(shared.clone(), command).await,
            Target::EndSession(id) if shared.knows(&id) => sessions::end(&shared, &id, command).await,
            Target::InSession(id) if shared.knows(&id) => sessions::use_it(&shared, &id, command).await,
            Target::Server => forward(&shared, command).await.response,
            Target::EndSession(id) | Target::InSession(id) => {
                over(&format!("session {id} does not belong to this attempt, or has ended"))
            }
        }
    };
    tokio::select! {
        // A device that has left does not answer: nobody shall wait for it.
        halt = shared.until_halted() => over(&halt.reason()),
        response = work => response,
    }
}

/// A request, read whole.
#[derive(Debug)]
pub struct Command {
    pub method: Method,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

#[derive(Debug, PartialEq, Eq)]
enum Target {
    NewSession,
    EndSession(String),
    InSession(String),
    /// The server itself: `/status` and the like.
    Server,
}

impl Command {
    fn target(&self) -> Target {
        let path = self.path.split('?').next().unwrap_or_default().trim_end_matches('/');
        let Some(rest) = path.strip_prefix("/session") else { return Target::Server };
        match rest.strip_prefix('/') {
            None if rest.is_empty() && self.method == Method::POST => Target::NewSession,
            None => Target::Server,
            Some(rest) => match rest.split_once('/') {
                None if self.method == Method::DELETE => Target::EndSession(rest.to_owned()),
                None => Target::InSession(rest.to_owned()),
                Some((id, _)) => Target::InSession(id.to_owned()),
            },
        }
    }
}

/// What Appium made of a command.
pub struct Answer {
    pub response: Response,
    /// Its message, when it is an error.
    pub failure: Option<String>,
}

/// Passes a command to Appium and its answer back, as it comes.
pub async fn forward(shared: &Arc<Shared>, command: Command) -> Answer {
    let answer = match send(shared, command).await {
        Ok(answer) => answer,
        Err(cause) => {
            let message = format!("Appium does not answer: {}", reason(&cause));
            // One broken connection is no proof, a closed port is.
            if cause.is_connect() {
                shared.book().hung(&message);
            }
            let response = error(StatusCode::INTERNAL_SERVER_ERROR, "unknown error", &message);
            return Answer { response, failure: Some(message) };
        }
    };
    let mut failure = None;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let body = if status.is_success() {
        let counted = shared.clone();
        Body::from_stream(answer.bytes_stream().inspect(move |chunk| {
            if let Ok(bytes) = chunk {
                counted.book().facts.response_bytes += bytes.len() as u64;
            }
        }))
    } else {
        let bytes = answer.bytes().await.unwrap_or_default();
        shared.book().facts.response_bytes += bytes.len() as u64;
        failure = parse_error(&bytes).map(|failure| failure.message);
        Body::from(bytes)
    };
    Answer { response: respond(status, &headers, body), failure }
}

/// Sends a command to Appium. The answer's body has not been read yet.
pub async fn send(shared: &Shared, command: Command) -> Result<reqwest::Response, reqwest::Error> {
    let mut headers = command.headers;
    for name in PER_CONNECTION {
        headers.remove(name);
    }
    shared
        .client
        .request(command.method, shared.upstream(&command.path))
        .headers(headers)
        .body(command.body)
        .send()
        .await
}

pub fn respond(status: StatusCode, headers: &HeaderMap, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers.clone();
    for name in PER_CONNECTION {
        response.headers_mut().remove(name);
    }
    response
}

/// An error in WebDriver's form.
pub fn error(status: StatusCode, code: &str, message: &str) -> Response {
    let value =
        json!({ "value": { "error": code, "message": format!("qgjob: {message}"), "stacktrace": "" } });
    (status, axum::Json(value)).into_response()
}

/// An error that the client does not answer by trying again three times: it looks for these very words.
pub fn over(reason: &str) -> Response {
    error(StatusCode::NOT_FOUND, "invalid session id", &format!("invalid session id: {reason}"))
}

#[derive(Debug, Deserialize)]
pub struct Failure {
    #[serde(default)]
    pub message: String,
}

/// Reads `{"value": {"message"}}`.
pub fn parse_error(body: &[u8]) -> Option<Failure> {
    #[derive(Deserialize)]
    struct Envelope {
        value: Failure,
    }
    if body.len() > MAX_ERROR {
        return None;
    }
    serde_json::from_slice::<Envelope>(body).ok().map(|e| e.value)
}

/// A cause with the causes behind it: reqwest's own text says only that sending failed.
pub fn reason(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_has_its_target() {
        let target = |method: Method, path: &str| {
            Command { method, path: path.to_owned(), headers: HeaderMap::new(), body: Bytes::new() }.target()
        };
        assert_eq!(target(Method::POST, "/session"), Target::NewSession);
        assert_eq!(target(Method::POST, "/session/?a=b"), Target::NewSession);
        assert_eq!(target(Method::DELETE, "/session/abc"), Target::EndSession("abc".into()));
        assert_eq!(target(Method::GET, "/session/abc"), Target::InSession("abc".into()));
        assert_eq!(target(Method::DELETE, "/session/abc/cookie"), Target::InSession("abc".into()));
        assert_eq!(target(Method::GET, "/status"), Target::Server);
        assert_eq!(target(Method::GET, "/sessions"), Target::Server);
    }
}
