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
    /// The first byte.
    pub offset: u64,
}

impl Client {
    /// Calls `show` with each piece until the job, or the attempt that was asked for, is over.
    ///
    /// # Errors
    /// When the server is away for longer than `patience`, or `show` fails.
    pub async fn follow_log<E: From<Error>>(
        &self,
        mut follow: Follow,
        patience: Duration,
        mut show: impl FnMut(&LogPiece) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let mut failing: Option<Instant> = None;
        let mut current = follow.attempt;
        loop {
            let ended = self.pieces(&mut follow, &mut current, &mut failing, &mut show).await?;
            let error = match ended {
                Ok(true) if follow.attempt.is_some() || self.is_over(&follow.job).await? => return Ok(()),
                // The attempt ended, but the job will be tried again.
                Ok(_) => None,
                Err(error) if error.is_passing() => Some(error),
                Err(error) => return Err(error.into()),
            };
            if let Some(error) = error
                && failing.get_or_insert_with(Instant::now).elapsed() > patience
            {
                return Err(error.into());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn is_over(&self, job: &str) -> Result<bool> {
        Ok(self.job(job).await?.job.status == Status::Completed)
    }

    /// Shows what one connection brings. Answers whether the attempt has ended.
    async fn pieces<E>(
        &self,
        follow: &mut Follow,
        current: &mut Option<u32>,
        failing: &mut Option<Instant>,
        show: &mut impl FnMut(&LogPiece) -> std::result::Result<(), E>,
    ) -> std::result::Result<Result<bool>, E> {
        let mut filter: Filter =
            vec![("stream", follow.stream.to_string()), ("offset", follow.offset.to_string())];
        filter.extend(follow.attempt.map(|attempt| ("attempt", attempt.to_string())));
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
                Ok(None) => return Ok(Ok(current.is_none())),
                Err(_) => return Ok(Err(self.silent())),
            };
            *failing = None;
            let Ok(messages) = parser.push(&chunk) else {
                return Ok(Err(self.not_understood("a message of the log is too long")));
            };
            for message in messages {
                let Ok(piece) = serde_json::from_str::<LogPiece>(&message.data) else { continue };
                if current.is_some_and(|attempt| attempt < piece.attempt) && piece.offset > 0 {
                    // A new attempt has a log of its own, which this connection did not begin at its start.
                    *current = Some(piece.attempt);
                    follow.offset = 0;
                    return Ok(Ok(false));
                }
                *current = Some(piece.attempt);
                if message.event == "end" {
                    return Ok(Ok(true));
                }
                show(&piece)?;
                let next = message.id.as_deref().and_then(|id| id.parse().ok());
                follow.offset = next.unwrap_or(piece.offset + piece.text.len() as u64);
            }
        }
    }

    fn silent(&self) -> Error {
        Error::Unreachable { server: self.origin(), cause: "no answer in time".to_owned() }
    }
}
