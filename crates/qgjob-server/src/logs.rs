//! Logs of attempts: `<root>/<attempt>/<stream>.log`, append-only. A byte's offset never changes. What exceeds the
//! limit is dropped, and a marker at the end says so.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use qgjob_core::model::attempt;
use qgjob_core::model::event::LogStream;
use tokio::fs;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::sync::watch;

/// What stands at the end of a log that was cut.
const MARKER: &[u8] = b"\n[qgjob: the log is cut here: it is larger than the server keeps]\n";

/// Why bytes were not appended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// They do not continue the server's copy.
    #[error("log bytes must continue at offset {expected}")]
    Offset {
        /// Where it ends.
        expected: u64,
    },
    /// They would end beyond the largest offset.
    #[error("the offset is too large")]
    TooFar,
    /// They could not be written.
    #[error("the log cannot be written: {0}")]
    Io(#[from] std::io::Error),
}

/// Logs of attempts.
#[derive(Debug)]
pub struct Logs {
    root: PathBuf,
    limit: u64,
    open: Mutex<HashMap<(attempt::Id, LogStream), Arc<Open>>>,
}

/// A log that somebody writes or follows.
#[derive(Debug, Default)]
struct Open {
    writing: tokio::sync::Mutex<()>,
    appended: watch::Sender<()>,
}

impl Logs {
    /// Logs in the folder `root`, each stream of an attempt cut at `limit` bytes.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(root: &Path, limit: u64) -> std::io::Result<Self> {
        std::fs::create_dir_all(root)?;
        Ok(Self { root: root.to_owned(), limit, open: Mutex::default() })
    }

    fn path(&self, attempt: attempt::Id, stream: LogStream) -> PathBuf {
        self.root.join(attempt.to_string()).join(format!("{stream}.log"))
    }

    fn shared(&self, attempt: attempt::Id, stream: LogStream) -> Arc<Open> {
        let mut open = self.open.lock().expect("no thread panics while holding the logs");
        // Whoever writes or follows holds its own reference; the rest can be made anew at any time.
        open.retain(|_, log| Arc::strong_count(log) > 1);
        Arc::clone(open.entry((attempt, stream)).or_default())
    }

    /// Appends `bytes` that begin at `offset`, and answers where the next ones begin. Bytes that the server has
    /// already are accepted when they are the same.
    ///
    /// # Errors
    /// [`Error::Offset`] when `offset` is beyond the end or known bytes differ, [`Error::TooFar`] when no number can
    /// say where they end; nothing is written then.
    pub async fn append(
        &self,
        attempt: attempt::Id,
        stream: LogStream,
        offset: u64,
        bytes: &[u8],
    ) -> Result<u64, Error> {
        let next = offset.checked_add(bytes.len() as u64).ok_or(Error::TooFar)?;
        let open = self.shared(attempt, stream);
        let _writing = open.writing.lock().await;
        let path = self.path(attempt, stream);
        fs::create_dir_all(path.parent().expect("a log lies in a folder")).await?;
        let mut file = fs::OpenOptions::new().create(true).read(true).append(true).open(&path).await?;
        let length = file.metadata().await?.len();
        let cut = length > self.limit;
        let end = length.min(self.limit);
        if offset > end && !cut {
            return Err(Error::Offset { expected: end });
        }
        let known = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX).min(bytes.len());
        if known > 0 {
            let mut stored = vec![0; known];
            file.seek(std::io::SeekFrom::Start(offset)).await?;
            file.read_exact(&mut stored).await?;
            if stored != bytes[..known] {
                return Err(Error::Offset { expected: end });
            }
        }
        if !cut && next > end {
            let room = usize::try_from(self.limit - end).unwrap_or(usize::MAX);
            let new = &bytes[known..];
            // One write: a crash leaves a prefix, never a hole.
            let kept = &new[..new.len().min(room)];
            let marker = if new.len() > room { MARKER } else { &[] };
            file.write_all(&[kept, marker].concat()).await?;
            file.flush().await?;
            open.appended.send_replace(());
        }
        Ok(next.max(end))
    }

    /// At most `most` bytes from `offset` on; empty at the end.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn read(
        &self,
        attempt: attempt::Id,
        stream: LogStream,
        offset: u64,
        most: u64,
    ) -> std::io::Result<Vec<u8>> {
        let mut file = match fs::File::open(self.path(attempt, stream)).await {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        // The system refuses to seek to offsets that no file can have.
        if offset >= file.metadata().await?.len() {
            return Ok(Vec::new());
        }
        file.seek(std::io::SeekFrom::Start(offset)).await?;
        let mut bytes = Vec::new();
        file.take(most).read_to_end(&mut bytes).await?;
        Ok(bytes)
    }

    /// Makes what has arrived survive a power failure: called when the attempt ends. Costs one look at a folder's name
    /// when nothing has arrived.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn seal(&self, attempt: attempt::Id) -> std::io::Result<()> {
        let folder = self.root.join(attempt.to_string());
        // Not handed to another thread: that would take longer than the look.
        if !std::fs::exists(&folder)? {
            return Ok(());
        }
        for stream in [LogStream::Agent, LogStream::Test, LogStream::Appium] {
            match fs::File::open(self.path(attempt, stream)).await {
                Ok(file) => file.sync_all().await?,
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Removes all logs of an attempt; harmless when there are none.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn remove(&self, attempt: attempt::Id) -> std::io::Result<()> {
        match fs::remove_dir_all(self.root.join(attempt.to_string())).await {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Tells when something is appended.
    pub fn follow(&self, attempt: attempt::Id, stream: LogStream) -> Follow {
        let open = self.shared(attempt, stream);
        Follow { appended: open.appended.subscribe(), _open: open }
    }
}

/// Tells when something is appended to a log.
#[derive(Debug)]
pub struct Follow {
    appended: watch::Receiver<()>,
    _open: Arc<Open>,
}

impl Follow {
    /// Waits until something was appended since the last call.
    pub async fn changed(&mut self) {
        // The sender lives as long as `_open`, so this cannot fail.
        _ = self.appended.changed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ATTEMPT: attempt::Id = attempt::Id(7);
    const TEST: LogStream = LogStream::Test;

    async fn text(logs: &Logs) -> String {
        String::from_utf8(logs.read(ATTEMPT, TEST, 0, 1000).await.unwrap()).unwrap()
    }

    #[tokio::test]
    async fn bytes_continue_repeat_or_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::open(folder.path(), 100).unwrap();
        assert_eq!(logs.append(ATTEMPT, TEST, 0, b"hello").await.unwrap(), 5);
        assert_eq!(logs.append(ATTEMPT, TEST, 0, b"hello").await.unwrap(), 5, "a repeat is harmless");
        assert_eq!(logs.append(ATTEMPT, TEST, 3, b"lo world").await.unwrap(), 11, "an overlap is joined");
        for (offset, bytes) in [(12, &b"x"[..]), (0, b"HELLO"), (9, b"LD!")] {
            let refused = logs.append(ATTEMPT, TEST, offset, bytes).await;
            assert!(matches!(refused, Err(Error::Offset { expected: 11 })), "{offset}: {refused:?}");
        }
        assert_eq!(text(&logs).await, "hello world");
        assert_eq!(logs.read(ATTEMPT, TEST, 6, 3).await.unwrap(), b"wor");
        for offset in [50, u64::MAX] {
            assert!(logs.read(ATTEMPT, TEST, offset, 3).await.unwrap().is_empty(), "{offset}");
        }
    }

    #[tokio::test]
    async fn a_log_is_cut_after_its_limit_and_the_agent_may_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::open(folder.path(), 10).unwrap();
        assert_eq!(logs.append(ATTEMPT, TEST, 0, b"0123456789").await.unwrap(), 10);
        assert_eq!(text(&logs).await, "0123456789", "as much as is allowed is not cut");
        assert_eq!(logs.append(ATTEMPT, TEST, 10, b"abc").await.unwrap(), 13);
        assert_eq!(logs.append(ATTEMPT, TEST, 13, b"def").await.unwrap(), 16);
        assert_eq!(text(&logs).await, format!("0123456789{}", std::str::from_utf8(MARKER).unwrap()));
        let reopened = Logs::open(folder.path(), 10).unwrap();
        assert_eq!(reopened.append(ATTEMPT, TEST, 16, b"ghi").await.unwrap(), 19, "also after a restart");
        let beyond = reopened.append(ATTEMPT, TEST, u64::MAX - 1, b"ghi").await;
        assert!(matches!(beyond, Err(Error::TooFar)), "{beyond:?}");
    }

    #[tokio::test]
    async fn removed_logs_are_gone() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::open(folder.path(), 10).unwrap();
        logs.append(ATTEMPT, TEST, 0, b"x").await.unwrap();
        logs.remove(ATTEMPT).await.unwrap();
        logs.remove(ATTEMPT).await.unwrap();
        assert_eq!(text(&logs).await, "");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_follower_wakes_on_append() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::open(folder.path(), 10).unwrap();
        let mut follow = logs.follow(ATTEMPT, TEST);
        logs.append(ATTEMPT, TEST, 0, b"x").await.unwrap();
        tokio::time::timeout(std::time::Duration::from_secs(5), follow.changed()).await.unwrap();
    }
}
