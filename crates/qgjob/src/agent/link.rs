//! The agent's line to the server: typed calls of `/agent/v1`, and what to do when they fail.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use qgjob_core::api::agents::{
    ArtifactTicket, ClaimReply, ClaimRequest, FinishReply, FinishReport, Heartbeat, HeartbeatReply, LogReply,
    NewArtifact, PhaseReport, Registered, Registration, TestsReport,
};
use qgjob_core::api::problem::{Code, Problem};
use qgjob_core::model::event::LogStream;
use qgjob_core::model::sha256::Sha256;
use qgjob_core::model::{artifact, attempt};
use reqwest::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::Digest;
use tokio::io::AsyncWriteExt;
use tokio_util::io::ReaderStream;
use tokio_util::sync::CancellationToken;

/// How long one call without a body of files may take, beyond the time it asks the server to wait.
const CALL_LIMIT: Duration = Duration::from_secs(15);
/// How long a transfer may stand still.
const STALL_LIMIT: Duration = Duration::from_secs(60);
/// The pause before a call is repeated: doubled each time up to the second value.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Why a call had no success.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server answered, and the answer is no.
    #[error("the server refused: {}", .0.detail)]
    Refused(Box<Problem>),
    /// The server cannot be reached, or is in trouble itself: the call may succeed later.
    #[error("the server cannot be reached: {0}")]
    Unreachable(String),
    /// Whoever asked no longer needs the answer: the lease is over, or the agent is shutting down.
    #[error("given up: the attempt is over")]
    Over,
    /// A local file cannot be read or written.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The bytes are not those that were announced.
    #[error("received {got}, expected {wanted}")]
    WrongBytes {
        /// What was announced.
        wanted: Sha256,
        /// What came.
        got: Sha256,
    },
}

impl Error {
    /// The server's code, if it refused.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused(problem) => Some(problem.code),
            _ => None,
        }
    }

    fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::WrongBytes { .. })
    }
}

/// A line to one server with one token.
#[derive(Debug, Clone)]
pub struct Link {
    base: String,
    token: String,
    client: reqwest::Client,
}

impl Link {
    /// A line to the server at `base` (`http://127.0.0.1:8080`).
    ///
    /// # Errors
    /// When TLS cannot be set up on this host.
    pub fn new(base: &str, token: &str) -> reqwest::Result<Self> {
        let client = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .read_timeout(STALL_LIMIT)
            .user_agent(concat!("qgjob-agent/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { base: base.trim_end_matches('/').to_owned(), token: token.to_owned(), client })
    }

    /// The same line with another token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    /// Uses up the registration token that this line carries.
    pub async fn register(&self, body: &Registration) -> Result<Registered, Error> {
        self.post("/register", body, CALL_LIMIT).await
    }

    /// Reports devices and attempts, renews leases.
    pub async fn heartbeat(&self, body: &Heartbeat) -> Result<HeartbeatReply, Error> {
        self.post("/heartbeat", body, CALL_LIMIT).await
    }

    /// Asks for work and waits for it up to `wait`.
    pub async fn claim(&self, body: &ClaimRequest, wait: Duration) -> Result<ClaimReply, Error> {
        self.post(&format!("/claim?wait={}s", wait.as_secs()), body, wait + CALL_LIMIT).await
    }

    /// Reports an attempt's phase.
    pub async fn phase(&self, id: attempt::Id, body: &PhaseReport) -> Result<(), Error> {
        self.post_nothing(&format!("/attempts/{id}/phase"), body).await
    }

    /// Reports tries of tests.
    pub async fn tests(&self, id: attempt::Id, body: &TestsReport) -> Result<(), Error> {
        self.post_nothing(&format!("/attempts/{id}/tests"), body).await
    }

    /// Ends an attempt.
    pub async fn finish(&self, id: attempt::Id, body: &FinishReport) -> Result<FinishReply, Error> {
        self.post(&format!("/attempts/{id}/finish"), body, CALL_LIMIT).await
    }

    /// Appends bytes to a log at `offset`; answers where the server's copy ends now.
    pub async fn append_log(
        &self,
        id: attempt::Id,
        epoch: attempt::Epoch,
        stream: LogStream,
        offset: u64,
        bytes: Bytes,
    ) -> Result<u64, Error> {
        let request = self
            .request(Method::PATCH, &format!("/attempts/{id}/logs/{stream}?epoch={epoch}"))
            .header("upload-offset", offset)
            .header("content-type", "application/octet-stream")
            .timeout(CALL_LIMIT)
            .body(bytes);
        match read::<LogReply>(request).await {
            Ok(reply) => Ok(reply.offset),
            Err(Error::Refused(problem)) if problem.code == Code::OffsetMismatch => {
                problem.expected_offset.ok_or(Error::Refused(problem))
            }
            Err(error) => Err(error),
        }
    }

    /// Sends a file as an artifact of the attempt.
    pub async fn artifact(&self, id: attempt::Id, body: &NewArtifact, file: &Path) -> Result<(), Error> {
        let ticket: ArtifactTicket =
            self.post(&format!("/attempts/{id}/artifacts"), body, CALL_LIMIT).await?;
        if ticket.upload { self.send_artifact(id, ticket.artifact_id, body, file).await } else { Ok(()) }
    }

    async fn send_artifact(
        &self,
        id: attempt::Id,
        artifact: artifact::Id,
        body: &NewArtifact,
        file: &Path,
    ) -> Result<(), Error> {
        let stream = ReaderStream::new(tokio::fs::File::open(file).await?);
        let request = self
            .request(Method::PUT, &format!("/attempts/{id}/artifacts/{artifact}"))
            .header("content-length", body.size_bytes)
            .header("content-type", "application/octet-stream")
            .body(reqwest::Body::wrap_stream(stream));
        send(request).await.map(drop)
    }

    /// Fetches the attempt's `app` or `bundle` into `to`, a file that must not exist, and checks its bytes.
    pub async fn fetch_input(
        &self,
        id: attempt::Id,
        what: &str,
        wanted: Sha256,
        to: &Path,
    ) -> Result<(), Error> {
        let answer = send(self.request(Method::GET, &format!("/attempts/{id}/inputs/{what}"))).await?;
        // Made in this thread: an abandoned call's `create` could otherwise happen after its caller has tidied up.
        let mut file = tokio::fs::File::from_std(std::fs::File::create_new(to)?);
        let mut digest = sha2::Sha256::new();
        let mut body = answer.bytes_stream();
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|error| Error::Unreachable(because(&error)))?;
            digest.update(&piece);
            file.write_all(&piece).await?;
        }
        file.sync_all().await?;
        let got = Sha256(digest.finalize().into());
        if got == wanted { Ok(()) } else { Err(Error::WrongBytes { wanted, got }) }
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}/agent/v1{path}", self.base)).bearer_auth(&self.token)
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        limit: Duration,
    ) -> Result<T, Error> {
        read(self.request(Method::POST, path).json(body).timeout(limit)).await
    }

    async fn post_nothing(&self, path: &str, body: &impl Serialize) -> Result<(), Error> {
        send(self.request(Method::POST, path).json(body).timeout(CALL_LIMIT)).await.map(drop)
    }
}

/// Repeats `call` while the server cannot be reached, until `over`.
///
/// # Errors
/// The server's refusal, or [`Error::Over`].
pub async fn persist<T, F: Future<Output = Result<T, Error>>>(
    over: &CancellationToken,
    mut call: impl FnMut() -> F,
) -> Result<T, Error> {
    let mut pause = RETRY.0;
    loop {
        let answer = tokio::select! {
            answer = call() => answer,
            () = over.cancelled() => return Err(Error::Over),
        };
        match answer {
            Err(error) if error.may_pass() => tracing::debug!(%error, "will try again"),
            other => return other,
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = over.cancelled() => return Err(Error::Over),
        }
        pause = (pause * 2).min(RETRY.1);
    }
}

async fn read<T: DeserializeOwned>(request: reqwest::RequestBuilder) -> Result<T, Error> {
    let answer = send(request).await?;
    answer.json().await.map_err(|error| Error::Unreachable(because(&error)))
}

async fn send(request: reqwest::RequestBuilder) -> Result<reqwest::Response, Error> {
    let answer = request.send().await.map_err(|error| Error::Unreachable(because(&error)))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let passing = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
    match answer.json::<Problem>().await {
        Ok(problem) if passing => Err(Error::Unreachable(format!("{status}: {}", problem.detail))),
        Ok(problem) => Err(Error::Refused(Box::new(problem))),
        Err(_) => Err(Error::Unreachable(format!("{status} without an explanation"))),
    }
}

/// The innermost cause: reqwest's own text leaves it out.
fn because(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
