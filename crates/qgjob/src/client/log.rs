//! Following the log of a job: every byte once, over as many connections as it takes.

use std::time::{Duration, Instant};

use qgjob_core::api::logs::LogPiece;
use qgjob_core::model::event::LogStream;
use qgjob_core::model::job::Status;
use reqwest::Method;
use tokio_stream::StreamExt;

use super::{Client, Error, Filter, Result, part, sse};

const SILENCE: Duration = Duration::from_secs(45);
const PAUSE: Duration = Duration::from_secs(1);

/// Which log to follow.
#[derive(Debug, Clone)]
pub struct Follow {
    /// The job.
    pub job: String,
    /// Which log.
    pub stream: LogStream,
    /// Which attempt, counted from 1; none: the latest, and those that follow it.
    pub attempt: Option<u32>,
    /// What was read before: of which attempt, and up to which byte.
    pub seen: Option<(u32, u64)>,
}

impl Client {
    /// Calls `show` with each piece until the job, or the attempt that was asked for, is over.
    ///
    /// # Errors
    /// When the server is away for longer than `patience`, or `show` fails.
    pub async fn follow_log<E: From<Error>>(
        &self,
        follow: Follow,
        patience: Duration,
        mut show: impl FnMut(&LogPiece) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let mut failing: Option<Instant> = None;
        let mut seen = follow.seen.or(follow.attempt.map(|attempt| (attempt, 0)));
        loop {
            let job = match self.pieces(&follow, &mut seen, &mut failing, &mut show).await? {
                Ok(true) if follow.attempt.is_some() => return Ok(()),
                Ok(true) => self.job(&follow.job).await.map(Some),
                Ok(false) => Ok(None),
                Err(error) => Err(error),
            };
            match (job, seen) {
                // Each attempt has a log of its own. One that is over already is read too.
                (Ok(Some(view)), Some((attempt, _))) if view.job.attempts > attempt => {
                    seen = Some((attempt + 1, 0));
                    continue;
                }
                (Ok(Some(view)), _) if view.job.status == Status::Completed => return Ok(()),
                (Ok(_), _) => {}
                (Err(error), _) => {
                    let since = failing.get_or_insert_with(Instant::now);
                    if !error.is_passing() || since.elapsed() > patience {
                        return Err(error.into());
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Shows what one connection brings. Answers whether the attempt has ended.
    async fn pieces<E>(
        &self,
        follow: &Follow,
        seen: &mut Option<(u32, u64)>,
        failing: &mut Option<Instant>,
        show: &mut impl FnMut(&LogPiece) -> std::result::Result<(), E>,
    ) -> std::result::Result<Result<bool>, E> {
        let mut filter: Filter = vec![("stream", follow.stream.to_string())];
        if let Some((attempt, offset)) = *seen {
            // Named, so that a retry meanwhile does not hide how the attempt ended.
            filter.extend([("attempt", attempt.to_string()), ("offset", offset.to_string())]);
        }
        let call = self.call(Method::GET, format!("api/v1/jobs/{}/logs", part(&follow.job))).query(&filter);
        let call = call.accept("text/event-stream").timeout(Duration::from_secs(24 * 3600));
        let response = match tokio::time::timeout(self.timeout, call.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Ok(Err(error)),
            Err(_) => return Ok(Err(self.silent())),
        };
        let (mut bytes, mut parser) = (response.bytes_stream(), sse::Parser::default());
        loop {
            let chunk = match tokio::time::timeout(SILENCE, bytes.next()).await {
                Ok(Some(Ok(chunk))) => chunk,
                Ok(Some(Err(error))) => return Ok(Err(super::unreachable(&self.base, &error))),
                // The job ended without an attempt, or the server stops.
                Ok(None) => return Ok(Ok(seen.is_none())),
                Err(_) => return Ok(Err(self.silent())),
            };
            *failing = None;
            let Ok(messages) = parser.push(&chunk) else {
                return Ok(Err(self.not_understood("a message of the log is too long")));
            };
            for message in messages {
                let Ok(piece) = serde_json::from_str::<LogPiece>(&message.data) else { continue };
                let ended = message.event == "end";
                if !ended {
                    show(&piece)?;
                }
                *seen = Some(position(message.id.as_deref(), &piece));
                if ended {
                    return Ok(Ok(true));
                }
            }
        }
    }

    fn silent(&self) -> Error {
        Error::Unreachable { server: self.origin(), cause: "no answer in time".to_owned() }
    }
}

/// The attempt of a piece and where the next one begins. The id knows it best: in the text, bytes may be replaced by
/// characters of another length.
fn position(id: Option<&str>, piece: &LogPiece) -> (u32, u64) {
    let parts = id.and_then(|id| id.split_once(':'));
    let known = parts.and_then(|(attempt, offset)| Some((attempt.parse().ok()?, offset.parse().ok()?)));
    known.unwrap_or((piece.attempt, piece.offset + piece.text.len() as u64))
}
