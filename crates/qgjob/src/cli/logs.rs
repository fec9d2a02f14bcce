//! `qgjob logs`.

use std::time::Duration;

use qgjob_core::model::event::LogStream;
use qgjob_core::model::exit::ExitCode;

use super::Context;
use super::failure::{Failure, Result};
use super::value::{self, job_subject};
use crate::client::{Client, Follow, LogQuery};
use crate::output::{Format, compact, tame};

/// Print or follow the log of a job
///
/// On a terminal, control sequences other than colours are taken out. In a pipe the bytes come as they are.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  qgjob logs r0zcha -f\n  qgjob logs --job-id=<id> --stream=appium --attempt=1\n  qgjob logs r0zcha --tail=50"
)]
pub struct Logs {
    /// Id of the job, or its last 6 characters or more
    #[arg(value_name = "ID", required_unless_present = "job_id")]
    id: Option<String>,
    /// Id of the job
    #[arg(long, value_name = "ID", conflicts_with = "id")]
    job_id: Option<String>,
    /// Go on until the job is over
    #[arg(short, long)]
    follow: bool,
    /// Number of the attempt [default: the latest]
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
    /// Whose log: test (what the runner and the tests print), agent or appium
    #[arg(long, default_value = "test", value_name = "STREAM")]
    stream: LogStream,
    /// Only the last lines
    #[arg(long, value_name = "LINES")]
    tail: Option<usize>,
    /// How long the server may be away while following
    #[arg(long, value_name = "SPAN", value_parser = value::span, default_value = "10m")]
    reconnect_timeout: Duration,
}

impl Logs {
    pub async fn run(self, context: &Context) -> Result {
        let client = context.client()?;
        let id = self.id.as_deref().or(self.job_id.as_deref()).unwrap_or_default();
        let job = client.job(job_subject(id)?.id()).await?.job.id.to_string();
        let mut offset = 0;
        if self.tail.is_some() || !self.follow {
            let bytes = self.all(&client, &job).await?;
            offset = bytes.len() as u64;
            self.print(context, tail(&bytes, self.tail))?;
        }
        if self.follow {
            let follow = Follow { job, stream: self.stream, attempt: self.attempt, offset };
            client
                .follow_log(follow, self.reconnect_timeout, |piece| match context.output.format {
                    Format::Jsonl | Format::Json => Ok(context.output.line(compact(piece))?),
                    _ => self.print(context, piece.text.as_bytes()),
                })
                .await?;
        }
        Ok(ExitCode::Ok)
    }

    async fn all(&self, client: &Client, job: &str) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            let query = LogQuery { stream: self.stream, attempt: self.attempt, offset: all.len() as u64 };
            let piece = client.log(job, query).await?;
            if piece.is_empty() {
                return Ok(all);
            }
            all.extend_from_slice(&piece);
        }
    }

    fn print(&self, context: &Context, bytes: &[u8]) -> Result<()> {
        use std::io::IsTerminal;
        if context.output.format == Format::None {
            return Ok(());
        }
        if std::io::stdout().is_terminal() {
            let text = tame(&String::from_utf8_lossy(bytes), context.output.color);
            return context.output.raw(text.as_bytes()).map_err(Failure::from);
        }
        Ok(context.output.raw(bytes)?)
    }
}

fn tail(bytes: &[u8], lines: Option<usize>) -> &[u8] {
    let Some(lines) = lines else { return bytes };
    // The newline at the very end closes the last line and begins none.
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let ends = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    match lines {
        0 => &[],
        _ => &bytes[ends.into_iter().nth(lines - 1).unwrap_or(0)..],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_counts_lines() {
        assert_eq!(tail(b"a\nb\nc\n", Some(2)), b"b\nc\n");
        assert_eq!(tail(b"a\nb\nc", Some(1)), b"c");
        assert_eq!(tail(b"a\n", Some(5)), b"a\n");
        assert_eq!(tail(b"a\n", Some(0)), b"");
        assert_eq!(tail(b"", Some(3)), b"");
        assert_eq!(tail(b"a\nb", None), b"a\nb");
    }
}
