//! The life of a session: created for one test, ended with it or by the gateway.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::capabilities::{self, Reset};
use super::proxy::{self, Answer, Command, error, over};
use super::{Book, Halt, Session, Shared};
use crate::agent::appium::free_port;

/// How long ending one session may take.
const END_LIMIT: Duration = Duration::from_secs(15);

/// How long the last look at the screen may delay the end of a session.
const SCREENSHOT_LIMIT: Duration = Duration::from_secs(5);

/// How long the device may take to say whether its automation server runs.
const PROBE_LIMIT: Duration = Duration::from_secs(5);

/// A command that waits longer than this for its answer hangs, if the end of its session is not answered either.
const HANGING: Duration = Duration::from_secs(4);

/// A session that was still in the making after this long was not the test's to wait for.
const SLOW_SESSION: Duration = Duration::from_secs(20);

/// What the UiAutomator2 driver says when its server on the device is gone. A test can bring about any text, so the
/// device is asked whether it is true.
const SERVER_GONE: &[&str] = &[
    "cannot be proxied to UiAutomator2 server because the instrumentation process is not running",
    "Could not proxy command to the remote server. Original error: ",
];

/// The process of that server.
const SERVER_PROCESS: &str = "io.appium.uiautomator2.server";

/// Reasons and screenshots beyond these numbers are not kept.
const MAX_REASONS: usize = 20;
const MAX_SCREENSHOTS: usize = 200;

impl Shared {
    pub(super) fn knows(&self, session: &str) -> bool {
        self.book().sessions.iter().any(|known| known.id == session)
    }
}

impl Book {
    fn failed(&mut self, reason: &str) {
        if self.facts.sessions_failed.len() < MAX_REASONS {
            self.facts.sessions_failed.push(reason.chars().take(2000).collect());
        }
    }

    /// Notes an Appium that does not answer, which is proof that it broke.
    pub(super) fn hung(&mut self, proof: &str) {
        self.facts.appium_hung = true;
        self.proven(proof);
    }

    /// Notes the first proof that something broke.
    fn proven(&mut self, proof: &str) {
        self.facts.broken.get_or_insert_with(|| proof.chars().take(2000).collect());
    }

    fn session(&mut self, id: &str) -> Option<&mut Session> {
        self.sessions.iter_mut().find(|session| session.id == id)
    }

    fn forget(&mut self, session: &str) {
        self.sessions.retain(|known| known.id != session);
    }

    /// The command of a session that has waited longest, if it hangs.
    fn hanging(&mut self, session: &str) -> Option<String> {
        let (name, since) = self.session(session)?.open.values().min_by_key(|(_, since)| *since)?;
        (since.elapsed() > HANGING).then(|| name.clone())
    }
}

/// Passes a command of a session on.
pub async fn use_it(shared: &Arc<Shared>, session: &str, command: Command) -> Response {
    let name = format!("{} {}", command.method, command.path);
    let open = Open::begin(shared, session, &name);
    let answer = proxy::forward(shared, command).await;
    drop(open);
    if let Some(message) = answer.failure
        && SERVER_GONE.iter().any(|sign| message.contains(sign))
        && server_is_gone(shared).await
    {
        let mut book = shared.book();
        if book.session(session).is_some_and(|session| !session.ending) {
            book.proven(&format!("{name}: {message}"));
        }
    }
    answer.response
}

/// A command on its way, until it is answered or its client leaves.
struct Open<'a> {
    shared: &'a Shared,
    session: &'a str,
    number: u64,
}

impl<'a> Open<'a> {
    fn begin(shared: &'a Shared, session: &'a str, name: &str) -> Self {
        let mut book = shared.book();
        book.commands += 1;
        let number = book.commands;
        if let Some(session) = book.session(session) {
            session.open.insert(number, (name.to_owned(), Instant::now()));
        }
        Self { shared, session, number }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.shared.book().session(self.session) {
            session.open.remove(&self.number);
        }
    }
}

/// Whether the automation server does not run on the device, by the device's own word; a device that does not answer has
/// none.
async fn server_is_gone(shared: &Shared) -> bool {
    let command = format!("pidof {SERVER_PROCESS}");
    let asked = shared.config.adb.shell(&shared.config.serial, &command);
    match tokio::time::timeout(PROBE_LIMIT, asked).await {
        Ok(Ok(answer)) => answer.stdout.trim().is_empty(),
        Ok(Err(_)) | Err(_) => true,
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
        let began = Instant::now();
        let (response, session) = create_now(&shared, command).await;
        if sender.send(response).is_ok() {
            return;
        }
        if began.elapsed() > SLOW_SESSION {
            let seconds = began.elapsed().as_secs();
            shared.book().proven(&format!("there was no session after {seconds} s, and the test gave up"));
        }
        if let Some(session) = session
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
    let system_port = match free_port() {
        Ok(port) => port,
        Err(failure) => {
            let reason = format!("the host has no free port for a session: {failure}");
            return fail(StatusCode::INTERNAL_SERVER_ERROR, "session not created", &reason);
        }
    };
    let Some(body) = rewritten(&command.body, &shared.config.serial, shared.config.reset, system_port) else {
        let reason = "the request for a session holds no W3C capabilities";
        return fail(StatusCode::BAD_REQUEST, "invalid argument", reason);
    };
    if shared.book().facts.appium_hung {
        let reason = "this device's Appium is hung";
        shared.book().failed(reason);
        return (over(reason), None);
    }
    // A worker that died has left its session, whose end would stop the app under the feet of this one.
    let left = ids(shared);
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
            let reason = format!("Appium does not answer: {}", proxy::reason(&cause));
            let mut book = shared.book();
            book.hung(&reason);
            book.failed(&reason);
            return (over(&reason), None);
        }
        Err(_) => {
            let seconds = shared.config.create_limit.as_secs();
            let reason = format!("Appium created no session within {seconds} s");
            let mut book = shared.book();
            book.hung(&reason);
            book.failed(&reason);
            return (over(&reason), None);
        }
    };
    let mut book = shared.book();
    book.facts.response_bytes += body.len() as u64;
    let session = session_id(&body).filter(|_| status.is_success());
    match &session {
        Some(id) => {
            book.sessions.push(Session { id: id.clone(), ending: false, open: BTreeMap::new() });
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
    let hanging = begin_end(shared, session);
    take_screenshot(shared).await;
    // Appium asks the device to let go and may wait for minutes; a test's teardown, or its whole worker, with it.
    let Ok(Answer { response, .. }) = tokio::time::timeout(END_LIMIT, proxy::forward(shared, command)).await
    else {
        let reason = not_ended(shared, session, hanging);
        return over(&reason);
    };
    if response.status().is_success() || response.status() == StatusCode::NOT_FOUND {
        shared.book().forget(session);
    }
    response
}

/// Marks a session as ending; answers the command of it that hangs.
fn begin_end(shared: &Shared, session: &str) -> Option<String> {
    let mut book = shared.book();
    let hanging = book.hanging(session);
    if let Some(session) = book.session(session) {
        session.ending = true;
    }
    hanging
}

/// Notes that a session did not end in time. With a command that hung before, that is proof.
fn not_ended(shared: &Shared, session: &str, hanging: Option<String>) -> String {
    let reason = format!("Appium did not end session {session} within {} s", END_LIMIT.as_secs());
    let mut book = shared.book();
    book.facts.appium_hung = true;
    if let Some(command) = hanging {
        book.proven(&format!("{command} was not answered, and {reason}"));
    }
    book.failed(&reason);
    reason
}

fn ids(shared: &Shared) -> Vec<String> {
    shared.book().sessions.iter().map(|session| session.id.clone()).collect()
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
    let left = ids(shared);
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
    let hanging = begin_end(shared, session);
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
        Err(_) => return Err(not_ended(shared, session, hanging)),
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

fn rewritten(body: &[u8], serial: &str, reset: Reset, system_port: u16) -> Option<Bytes> {
    let mut body: Value = serde_json::from_slice(body).ok()?;
    capabilities::rewrite(&mut body, serial, reset, system_port)
        .then(|| Bytes::from(serde_json::to_vec(&body).expect("what was parsed can be written")))
}

fn session_id(body: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    Some(answer.get("value")?.get("sessionId")?.as_str()?.to_owned())
}
