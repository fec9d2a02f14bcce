//! `qgjob logs`.

use std::time::Duration;

use qgjob_core::api::logs::LogPiece;
use qgjob_core::model::event::LogStream;
use qgjob_core::model::exit::ExitCode;
use serde_json::json;

use super::Context;
use super::failure::{Failure, Result};
use super::value::{self, Which};
use crate::client::{Client, Follow, LogQuery};
use crate::output::{BOLD, Format, Object, compact, tame};

/// Print or follow the log of a job
///
/// On a terminal, control sequences other than colours are taken out. In a pipe the bytes come as they are. Of a run,
/// the logs of all its jobs are printed, each below its name.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  qgjob logs r0zcha -f\n  qgjob logs --job-id=<id> --stream=appium --attempt=1\n  qgjob logs r0zcha --tail=50"
)]
pub struct Logs {
    #[command(flatten)]
    which: Which,
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
        let (jobs, several) = self.which.jobs(&client).await?;
        match jobs.as_slice() {
            [job] if self.follow => self.follow(context, &client, job).await?,
            several if self.follow => {
                return Err(Failure::usage("only one log can be followed at a time")
                    .hint(format!("follow one of the jobs: {}", several.join(", "))));
            }
            jobs => self.show(context, &client, jobs, several).await?,
        }
        Ok(ExitCode::Ok)
    }

    /// Prints the logs as they are now.
    async fn show(&self, context: &Context, client: &Client, jobs: &[String], several: bool) -> Result<()> {
        let mut documents = Vec::new();
        for job in jobs {
            let view = client.job(job).await?;
            let (attempt, bytes) = self.all(client, job).await?;
            let bytes = tail(&bytes, self.tail);
            match context.output.format {
                Format::Text if several => {
                    let head = format!("==> {} ({job}) <==", view.job.spec.named());
                    context.output.line(context.output.paint(BOLD, &head))?;
                    self.print(context, bytes)?;
                }
                Format::Text => self.print(context, bytes)?,
                _ => {
                    let document = json!({
                        "schema": "qgjob.job_log/v1",
                        "job_id": job,
                        "attempt": attempt.unwrap_or_default(),
                        "stream": self.stream,
                        "text": String::from_utf8_lossy(bytes),
                    });
                    documents.push(Object::new(job, &document, ""));
                }
            }
        }
        if context.output.format != Format::Text {
            context.output.objects(&documents, several)?;
        }
        Ok(())
    }

    /// Prints the log until the job is over. As JSON, each piece is a line: a document that ends with the job
    /// would follow nothing.
    async fn follow(&self, context: &Context, client: &Client, job: &str) -> Result<()> {
        let json = matches!(context.output.format, Format::Json | Format::Jsonl);
        let mut seen = None;
        if self.tail.is_some() {
            let (attempt, bytes) = self.all(client, job).await?;
            let mut offset = bytes.len() as u64;
            let tail = tail(&bytes, self.tail);
            if json {
                // The pieces that follow start at an offset; so does the one that they follow.
                offset -= tail.len() as u64;
            } else {
                self.print(context, tail)?;
            }
            seen = attempt.map(|attempt| (attempt, offset));
        }
        let follow = Follow { job: job.to_owned(), stream: self.stream, attempt: self.attempt, seen };
        let show = |piece: &LogPiece| match context.output.format {
            Format::Json | Format::Jsonl => Ok(context.output.line(compact(piece))?),
            Format::Text => self.print(context, piece.text.as_bytes()),
            Format::Name | Format::None => Ok(()),
        };
        client.follow_log(follow, self.reconnect_timeout, show).await
    }

    /// The log as it is now, and the attempt it is of, if there is one.
    async fn all(&self, client: &Client, job: &str) -> Result<(Option<u32>, Vec<u8>)> {
        let (mut attempt, mut all) = (self.attempt, Vec::new());
        loop {
            let query = LogQuery { stream: self.stream, attempt, offset: all.len() as u64 };
            let (of, piece) = client.log(job, query).await?;
            // A retry meanwhile begins a log of its own: what follows must be of the same attempt.
            attempt = of;
            if piece.is_empty() {
                return Ok((attempt, all));
            }
            all.extend_from_slice(&piece);
        }
    }

    fn print(&self, context: &Context, bytes: &[u8]) -> Result<()> {
        use std::io::IsTerminal;
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
