//! The life of a session: created for one test, ended with it or by the gateway.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::capabilities::{self, Reset};
use super::proxy::{self, Command, error, over};
use super::{Book, Halt, Shared};

/// How long ending one session may take.
const END_LIMIT: Duration = Duration::from_secs(15);

/// How long the last look at the screen may delay the end of a session.
const SCREENSHOT_LIMIT: Duration = Duration::from_secs(5);

/// Reasons and screenshots beyond these numbers are not kept.
const MAX_REASONS: usize = 20;
const MAX_SCREENSHOTS: usize = 200;

impl Shared {
    pub(super) fn knows(&self, session: &str) -> bool {
        self.book().sessions.iter().any(|s| s == session)
    }
}

impl Book {
    fn failed(&mut self, reason: &str) {
        if self.facts.sessions_failed.len() < MAX_REASONS {
            self.facts.sessions_failed.push(reason.chars().take(2000).collect());
        }
    }

    fn forget(&mut self, session: &str) {
        self.sessions.retain(|s| s != session);
    }
}

/// Creates a session. The work goes on if the client hangs up meanwhile, for Appium would create the session
/// all the same; a session that nobody waits for any more is ended at once.
pub async fn create(shared: Arc<Shared>, command: Command) -> Response {
    let (sender, receiver) = oneshot::channel();
    tokio::spawn(async move {
        let _one_at_a_time = shared.creating.lock().await;
        if sender.is_closed() || shared.halted().is_some() {
            return;
        }
        let (response, session) = create_now(&shared, command).await;
        if sender.send(response).is_err()
            && let Some(session) = session
            && let Err(reason) = end_quietly(&shared, &session).await
        {
            tracing::warn!(session, reason, "a session that nobody waits for could not be ended");
        }
    });
    receiver.await.unwrap_or_else(|_| over("the attempt is over"))
}

async fn create_now(shared: &Arc<Shared>, mut command: Command) -> (Response, Option<String>) {
    let fail = |status, code: &str, reason: &str| {
        shared.book().failed(reason);
        (error(status, code, reason), None)
    };
    let Some(body) = rewritten(&command.body, &shared.config.serial, shared.config.reset) else {
        let reason = "the request for a session holds no W3C capabilities";
        return fail(StatusCode::BAD_REQUEST, "invalid argument", reason);
    };
    if shared.book().facts.appium_hung {
        let reason = "this device's Appium is hung";
        shared.book().failed(reason);
        return (over(reason), None);
    }
    // A worker that died has left its session, whose end would stop the app under the feet of this one.
    let left = shared.book().sessions.clone();
    for session in left {
        if let Err(reason) = end_quietly(shared, &session).await {
            return fail(StatusCode::INTERNAL_SERVER_ERROR, "session not created", &reason);
        }
    }
    command.body = body;
    let asked = async {
        let answer = proxy::send(shared, command).await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        Ok::<_, reqwest::Error>((status, headers, answer.bytes().await?))
    };
    let (status, headers, body) = match tokio::time::timeout(shared.config.create_limit, asked).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(cause)) => {
            shared.book().facts.appium_hung = true;
            let reason = format!("Appium does not answer: {}", proxy::reason(&cause));
            shared.book().failed(&reason);
            return (over(&reason), None);
        }
        Err(_) => {
            let seconds = shared.config.create_limit.as_secs();
            let reason = format!("Appium created no session within {seconds} s");
            let mut book = shared.book();
            book.facts.appium_hung = true;
            book.failed(&reason);
            return (over(&reason), None);
        }
    };
    let mut book = shared.book();
    book.facts.response_bytes += body.len() as u64;
    let session = session_id(&body).filter(|_| status.is_success());
    match &session {
        Some(id) => {
            book.sessions.push(id.clone());
            book.facts.sessions_created += 1;
        }
        None => {
            let reason = proxy::parse_error(&body)
                .map_or_else(|| format!("Appium answered with status {status}"), |failure| failure.message);
            book.failed(&reason);
        }
    }
    (proxy::respond(status, &headers, Body::from(body)), session)
}

/// Ends a session as its client wishes, after a last look at the screen.
pub async fn end(shared: &Arc<Shared>, session: &str, command: Command) -> Response {
    take_screenshot(shared).await;
    // Appium asks the device to let go and may wait for minutes; a test's teardown, or its whole worker, with it.
    let Ok(response) = tokio::time::timeout(END_LIMIT, proxy::forward(shared, command)).await else {
        shared.book().facts.appium_hung = true;
        return over(&format!("Appium did not end the session within {} s", END_LIMIT.as_secs()));
    };
    if response.status().is_success() || response.status() == StatusCode::NOT_FOUND {
        shared.book().forget(session);
    }
    response
}

/// Ends every session that is left, and waits for one that is being created, for `limit` altogether.
/// Returns how many were ended, and why others were not.
pub async fn end_all(shared: &Arc<Shared>, limit: Duration) -> (u32, Vec<String>) {
    let deadline = Instant::now() + limit;
    let (mut ended, mut failed) = (0, Vec::new());
    // The lock is kept to the end, so that nothing is created behind our back.
    let creating = tokio::time::timeout_at(deadline, shared.creating.lock()).await;
    if creating.is_err() {
        failed.push("a session was still being created".to_owned());
    }
    let left = shared.book().sessions.clone();
    for session in left {
        match tokio::time::timeout_at(deadline, end_quietly(shared, &session)).await {
            Ok(Ok(())) => ended += 1,
            Ok(Err(reason)) => failed.push(reason),
            Err(_) => failed.push(format!("session {session} was not ended in time")),
        }
    }
    (ended, failed)
}

/// Ends a session on the gateway's own account.
async fn end_quietly(shared: &Arc<Shared>, session: &str) -> Result<(), String> {
    take_screenshot(shared).await;
    let command = Command {
        method: Method::DELETE,
        path: format!("/session/{session}"),
        headers: HeaderMap::new(),
        body: Bytes::new(),
    };
    let status = match tokio::time::timeout(END_LIMIT, proxy::send(shared, command)).await {
        Ok(Ok(answer)) => answer.status(),
        Ok(Err(cause)) => {
            return Err(format!("session {session} could not be ended: {}", proxy::reason(&cause)));
        }
        Err(_) => return Err(format!("session {session} did not end within {} s", END_LIMIT.as_secs())),
    };
    if !status.is_success() && status != StatusCode::NOT_FOUND {
        return Err(format!("session {session} could not be ended: status {status}"));
    }
    shared.book().forget(session);
    Ok(())
}

/// Keeps the screen as a file. Taken by adb and not by WebDriver, so that it works when Appium does not.
async fn take_screenshot(shared: &Arc<Shared>) {
    let number = shared.book().facts.screenshots.len() + 1;
    if number > MAX_SCREENSHOTS || matches!(shared.halted(), Some(Halt::DeviceLost(_))) {
        return;
    }
    let path = shared.config.artifacts.join(format!("last-screen-{number}.png"));
    let (adb, serial) = (&shared.config.adb, &shared.config.serial);
    match tokio::time::timeout(SCREENSHOT_LIMIT, adb.screencap(serial)).await {
        Ok(Ok(png)) => match tokio::fs::write(&path, png).await {
            Ok(()) => shared.book().facts.screenshots.push(path),
            Err(error) => tracing::warn!(%error, "the last screen could not be kept"),
        },
        Ok(Err(error)) => tracing::warn!(%error, "no last screen"),
        Err(_) => tracing::warn!("no last screen: the device took too long"),
    }
}

fn rewritten(body: &[u8], serial: &str, reset: Reset) -> Option<Bytes> {
    let mut body: Value = serde_json::from_slice(body).ok()?;
    capabilities::rewrite(&mut body, serial, reset)
        .then(|| Bytes::from(serde_json::to_vec(&body).expect("what was parsed can be written")))
}

fn session_id(body: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    Some(answer.get("value")?.get("sessionId")?.as_str()?.to_owned())
}
