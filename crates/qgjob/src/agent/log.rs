//! Logs of an attempt: written to a file first, sent from there, so that no line is lost or sent twice when the
//! server is away for a while.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use qgjob_core::model::event::LogStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::hold::Hold;
use super::link::{self, Link};

/// The most that one call carries.
const PIECE: usize = 256 * 1024;
/// How long lines are gathered before they are sent.
const GATHER: Duration = Duration::from_millis(200);

/// A log that can be written to.
#[derive(Debug, Clone)]
pub struct Log {
    file: Arc<Mutex<File>>,
    news: Arc<Notify>,
}

/// The task that sends a log.
#[derive(Debug)]
pub struct Sending {
    log: Log,
    closed: CancellationToken,
    task: JoinHandle<()>,
}

impl Log {
    /// Adds bytes.
    ///
    /// # Errors
    /// When the file cannot be written: the disk is full.
    pub fn write(&self, bytes: &[u8]) -> io::Result<()> {
        self.file.lock().expect("no thread panics while writing a log").write_all(bytes)?;
        self.news.notify_one();
        Ok(())
    }

    /// Adds a line that the agent itself says. A log that cannot be written does not stop an attempt.
    pub fn say(&self, line: &str) {
        if let Err(error) = self.write(format!("{line}\n").as_bytes()) {
            tracing::warn!(%error, "cannot write the attempt's log");
        }
    }
}

impl Sending {
    /// Starts to send what is written to `dir/<stream>.log`, which is made.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn start(link: Link, hold: Arc<Hold>, stream: LogStream, dir: &Path) -> io::Result<Self> {
        let path = dir.join(format!("{stream}.log"));
        let file = Arc::new(Mutex::new(File::create(&path)?));
        let log = Log { file, news: Arc::new(Notify::new()) };
        let closed = CancellationToken::new();
        let task = tokio::spawn(send(link, hold, stream, path, log.news.clone(), closed.clone()));
        Ok(Self { log, closed, task })
    }

    /// The log to write to.
    pub fn log(&self) -> Log {
        self.log.clone()
    }

    /// Sends what is left and ends. Returns early only when the lease is over.
    pub async fn close(self) {
        self.closed.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "sending a log ended badly");
        }
    }
}

async fn send(
    link: Link,
    hold: Arc<Hold>,
    stream: LogStream,
    path: PathBuf,
    news: Arc<Notify>,
    closed: CancellationToken,
) {
    let mut offset = 0;
    loop {
        let last_round = closed.is_cancelled();
        loop {
            let piece = match read_at(&path, offset) {
                Ok(piece) if piece.is_empty() => break,
                Ok(piece) => piece,
                Err(error) => {
                    tracing::warn!(%error, %stream, "cannot read the attempt's log");
                    return;
                }
            };
            let call =
                || link.append_log(hold.held.attempt_id, hold.held.epoch, stream, offset, piece.clone());
            match link::persist(&hold.over, call).await {
                // The server's end wins: it may know more than this process, or have cut the log at its limit.
                Ok(end) if end != offset => offset = end,
                Ok(_) => return,
                Err(link::Error::Over) => return,
                Err(error) => {
                    tracing::warn!(%error, %stream, "the server does not take the attempt's log");
                    return;
                }
            }
        }
        if last_round {
            return;
        }
        tokio::select! {
            () = news.notified() => tokio::select! {
                () = tokio::time::sleep(GATHER) => {}
                () = closed.cancelled() => {}
            },
            () = closed.cancelled() => {}
        }
    }
}

fn read_at(path: &Path, offset: u64) -> io::Result<Bytes> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut piece = Vec::new();
    file.take(PIECE as u64).read_to_end(&mut piece)?;
    Ok(piece.into())
}
