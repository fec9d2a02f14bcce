//! The typed HTTP client of `/api/v1`. Follows no redirect with a token, retries what is safe to repeat, and says
//! what went wrong in words that lead to an exit code.

mod api;
mod log;
mod login;
mod sse;
mod upload;
pub mod watch;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use qgjob_core::api::problem::Problem;
use qgjob_core::model::exit::ExitCode;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue, RETRY_AFTER};
use reqwest::{Method, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use api::{Filter, LogQuery, server_time};
pub use log::Follow;
pub use login::{Login, Source};
pub use upload::{Upload, sha256_of_file};

/// How long a refused or broken connection is tried again before a plain command gives up.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);
/// How long "busy, come back later" is obeyed before a plain command gives up.
const BUSY_PATIENCE: Duration = Duration::from_secs(30);
/// The longest answer that is read into memory.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// A token. Its text appears in no debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps the text of a token.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the `authorization` header and the credentials file alone.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why a call has no good answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer at all, after retries.
    #[error("cannot reach the server at {server}: {cause}")]
    Unreachable {
        /// The server's origin.
        server: String,
        /// What the network said.
        cause: String,
    },
    /// The server said no, and why.
    #[error("{}", .0.detail)]
    Refused(Box<Problem>),
    /// An error status whose body is no problem that this version knows.
    #[error("the server at {server} answered {status}: {detail}")]
    Status {
        /// The server's origin.
        server: String,
        /// The HTTP status.
        status: u16,
        /// What the body said, shortened.
        detail: String,
        /// How long to wait, when the answer says so.
        retry_after: Option<Duration>,
    },
    /// An answer that cannot be understood: not a qgjob server, or a newer one.
    #[error("the answer of {server} cannot be understood: {detail}")]
    NotUnderstood {
        /// The server's origin.
        server: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The CI service gives no id-token.
    #[error("the CI service gives no id-token: {cause}")]
    IdToken {
        /// What it said.
        cause: String,
    },
    /// A local file could not be read or written.
    #[error("{path}: {cause}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        cause: std::io::Error,
    },
}

impl Error {
    /// The exit code of a command that ends with it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Unreachable { .. } => ExitCode::Unreachable,
            Self::Refused(problem) if problem.status == 429 => ExitCode::Quota,
            Self::Refused(problem) => problem.code.exit_code(),
            Self::Status { status, .. } => exit_code_of_status(*status),
            Self::IdToken { .. } => ExitCode::Auth,
            Self::NotUnderstood { .. } => ExitCode::Infra,
            Self::File { .. } => ExitCode::Usage,
        }
    }

    /// The HTTP status, when there was an answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(problem) => Some(problem.status),
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the same call may succeed later although nothing is changed.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            _ => self.status().is_some_and(|status| status == 429 || status >= 500 && status != 507),
        }
    }
}

fn exit_code_of_status(status: u16) -> ExitCode {
    match status {
        401 | 403 => ExitCode::Auth,
        404 => ExitCode::NotFound,
        409 | 412 => ExitCode::Conflict,
        429 => ExitCode::Quota,
        400..500 => ExitCode::Usage,
        502..=504 => ExitCode::Unreachable,
        _ => ExitCode::Infra,
    }
}

/// What every method answers.
pub type Result<T> = std::result::Result<T, Error>;

/// What is shown to the server.
#[derive(Clone)]
enum Credential {
    None,
    Token(Secret),
    Login(Arc<login::Session>),
}

/// A connection to one server with at most one token.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    credential: Credential,
    timeout: Duration,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.base)
    }
}

impl Client {
    /// A client of the server at `base`. `timeout` is for one call without streaming.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when TLS cannot be set up, for instance because the machine has no root certificates.
    pub fn new(base: &Url, token: Option<Secret>, timeout: Duration) -> Result<Self> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("qgjob/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(timeout.min(Duration::from_secs(10)))
            // A redirect to another host must not carry the token along.
            .redirect(reqwest::redirect::Policy::none());
        if is_loopback(base) {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| unreachable(base, &error))?;
        let mut base = base.clone();
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let credential = token.map_or(Credential::None, Credential::Token);
        Ok(Self { http, base, credential, timeout })
    }

    /// The same with a login instead of a token, made when it is first needed.
    #[must_use]
    pub fn with_login(self, login: Login) -> Self {
        self.with(Credential::Login(login::Session::new(login)))
    }

    fn with(&self, credential: Credential) -> Self {
        Self { credential, ..self.clone() }
    }

    /// `scheme://host:port` of the server.
    pub fn origin(&self) -> String {
        origin(&self.base)
    }

    /// The address of a run at the API.
    pub fn run_url(&self, id: &str) -> String {
        self.url(&format!("api/v1/runs/{}", part(id))).to_string()
    }

    /// Whether calls carry a token that somebody stored.
    pub fn has_token(&self) -> bool {
        matches!(self.credential, Credential::Token(_))
    }

    fn url(&self, path: &str) -> Url {
        let path = path.trim_start_matches('/');
        self.base.join(path).expect("paths are made of constants and of escaped ids")
    }

    /// A request for `path` that is not sent yet.
    fn call(&self, method: Method, path: impl AsRef<str>) -> Call<'_> {
        let url = self.url(path.as_ref());
        let repeatable = method == Method::GET || method == Method::DELETE;
        let request = self.http.request(method, url).timeout(self.timeout);
        Call { client: self, request, repeatable }
    }

    fn not_understood(&self, detail: impl Into<String>) -> Error {
        Error::NotUnderstood { server: self.origin(), detail: detail.into() }
    }
}

/// `scheme://host:port`, the key under which credentials are kept.
pub fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// Whether the server is this machine, so that plain HTTP shows the token to nobody else.
pub fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => {
            host.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
        }
        None => false,
    }
}

/// A request on its way.
struct Call<'a> {
    client: &'a Client,
    request: reqwest::RequestBuilder,
    repeatable: bool,
}

impl Call<'_> {
    fn query(mut self, query: &(impl Serialize + ?Sized)) -> Self {
        self.request = self.request.query(query);
        self
    }

    fn json(mut self, body: &impl Serialize) -> Self {
        self.request = self.request.json(body);
        self
    }

    fn body(mut self, bytes: impl Into<reqwest::Body>) -> Self {
        self.request = self.request.header("content-type", "application/octet-stream").body(bytes);
        self
    }

    fn header(mut self, name: &'static str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    fn accept(self, media_type: &str) -> Self {
        self.header(ACCEPT.as_str(), media_type)
    }

    fn timeout(mut self, timeout: Duration) -> Self {
        self.request = self.request.timeout(timeout);
        self
    }

    /// Repeating the call has no other effect than the first: it may be sent again after any cut.
    fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self
    }

    /// Sends, retries what may be retried, and turns error statuses into errors.
    async fn send(self) -> Result<reqwest::Response> {
        let started = Instant::now();
        let mut pause = Duration::from_millis(100);
        loop {
            // Bodies are bytes in memory, so a request can always be copied.
            let Some(request) = self.request.try_clone() else {
                return self.client.once(self.request).await;
            };
            let error = match self.client.once(request).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            let (again, patience) = match &error {
                Error::Unreachable { .. } => (self.repeatable, CONNECT_PATIENCE),
                _ if matches!(error.status(), Some(429 | 503)) => (true, BUSY_PATIENCE),
                _ if matches!(error.status(), Some(502 | 504)) => (self.repeatable, CONNECT_PATIENCE),
                _ => (false, Duration::ZERO),
            };
            let wait = asked_to_wait(&error).unwrap_or(pause);
            if !again || started.elapsed() + wait > patience {
                return Err(error);
            }
            tracing::debug!(%error, wait_ms = wait.as_millis() as u64, "trying again");
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }

    /// Sends and reads the JSON of the answer.
    async fn answer<T: DeserializeOwned>(self) -> Result<T> {
        let client = self.client;
        let response = self.accept("application/json").send().await?;
        client.read_json(response).await
    }

    /// Sends; the answer's body does not matter.
    async fn done(self) -> Result<()> {
        self.send().await.map(drop)
    }
}

impl Client {
    /// Sends once, with the token; with another one if a login has ended before its time.
    async fn once(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response> {
        let session = match &self.credential {
            Credential::None => return self.send(request, None).await,
            Credential::Token(token) => return self.send(request, Some(token)).await,
            Credential::Login(session) => session,
        };
        let again = request.try_clone();
        let token = session.token(self).await?;
        match (self.send(request, Some(&token)).await, again) {
            (Err(error), Some(again)) if error.status() == Some(401) => {
                session.forget(&token).await;
                self.send(again, Some(&session.token(self).await?)).await
            }
            (answer, _) => answer,
        }
    }

    async fn send(
        &self,
        mut request: reqwest::RequestBuilder,
        token: Option<&Secret>,
    ) -> Result<reqwest::Response> {
        if let Some(token) = token {
            let value = HeaderValue::try_from(format!("Bearer {}", token.expose()));
            let mut value = value.map_err(|_| self.not_understood("its token cannot be sent in a header"))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let started = Instant::now();
        let response = request.send().await.map_err(|error| unreachable(&self.base, &error))?;
        tracing::debug!(
            status = response.status().as_u16(),
            path = response.url().path(),
            elapsed_ms = started.elapsed().as_millis() as u64,
            "answered"
        );
        if response.status().is_success() || response.status() == StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        if response.status().is_redirection() {
            let to = response.headers().get("location").and_then(|to| to.to_str().ok()).unwrap_or("?");
            return Err(Error::Status {
                server: self.origin(),
                status: response.status().as_u16(),
                detail: format!("a redirect to {to}; give the server's own address"),
                retry_after: None,
            });
        }
        Err(self.read_problem(response).await)
    }

    async fn read_problem(&self, response: reqwest::Response) -> Error {
        let status = response.status().as_u16();
        let after = response.headers().get(RETRY_AFTER).and_then(|s| s.to_str().ok()?.parse::<u64>().ok());
        let body = response.bytes().await.unwrap_or_default();
        match serde_json::from_slice::<Problem>(&body) {
            Ok(mut problem) => {
                problem.status = status;
                problem.retry_after_ms = problem.retry_after_ms.or(after.map(|seconds| seconds * 1000));
                Error::Refused(Box::new(problem))
            }
            Err(_) => {
                // A newer server's code, or something between us and the server.
                let json: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
                let said = json["detail"].as_str().map(str::to_owned);
                let text =
                    || String::from_utf8_lossy(&body).chars().filter(|c| !c.is_control()).take(200).collect();
                Error::Status {
                    server: self.origin(),
                    status,
                    detail: said.unwrap_or_else(text),
                    retry_after: after.map(Duration::from_secs),
                }
            }
        }
    }

    async fn read_json<T: DeserializeOwned>(&self, response: reqwest::Response) -> Result<T> {
        let body = response.bytes().await.map_err(|error| unreachable(&self.base, &error))?;
        if body.len() > MAX_ANSWER_BYTES {
            return Err(self.not_understood("it is larger than 64 MiB"));
        }
        serde_json::from_slice(&body).map_err(|error| self.not_understood(error.to_string()))
    }
}

fn asked_to_wait(error: &Error) -> Option<Duration> {
    match error {
        Error::Refused(problem) => problem.retry_after_ms.map(Duration::from_millis),
        Error::Status { retry_after, .. } => *retry_after,
        _ => None,
    }
}

fn unreachable(base: &Url, error: &reqwest::Error) -> Error {
    Error::Unreachable { server: origin(base), cause: innermost(error) }
}

/// The outer messages repeat the URL; the innermost says what happened.
fn innermost(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// Makes a text fit to be one part of a path.
fn part(text: &str) -> String {
    text.bytes().fold(String::new(), |mut done, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => done.push(byte as char),
            // A dot alone would be a step up.
            b'.' if text != "." && text != ".." => done.push('.'),
            _ => done.push_str(&format!("%{byte:02X}")),
        }
        done
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_hides_in_debug_output() {
        let secret = Secret::new("qgj_pat_hidden");
        assert!(!format!("{secret:?}").contains("hidden"));
    }

    #[test]
    fn a_label_cannot_leave_its_place_in_the_path() {
        assert_eq!(part("release/1.2+3"), "release%2F1.2%2B3");
        assert_eq!(part(".."), "%2E%2E");
        assert_eq!(part("a?b#c"), "a%3Fb%23c");
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for (url, expected) in [
            ("http://127.0.0.1:8080", true),
            ("http://[::1]:8080", true),
            ("http://localhost", true),
            ("http://localhost.evil.example", false),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(is_loopback(&url.parse().unwrap()), expected, "{url}");
        }
    }

    #[test]
    fn statuses_without_a_problem_have_exit_codes_too() {
        assert_eq!(exit_code_of_status(401), ExitCode::Auth);
        assert_eq!(exit_code_of_status(429), ExitCode::Quota);
        assert_eq!(exit_code_of_status(502), ExitCode::Unreachable);
        assert_eq!(exit_code_of_status(500), ExitCode::Infra);
    }
}
