//! The one thread that writes. It takes all commands that wait, runs each so that its failure undoes only itself,
//! and commits them together: one fsync for all.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use qgjob_core::model::event::Event;
use rusqlite::Connection;
use tokio::sync::{broadcast, mpsc, oneshot};

use super::rows::is_io_failure;
use super::transaction::{Stop, Tx, Verb};
use crate::store::{Error, Result, Rules};

/// Most commands in one transaction, so that the first of them does not wait for long.
const MOST: usize = 512;

/// How a command went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ran {
    /// Its changes wait for the commit.
    Done,
    /// It is undone.
    Failed,
    /// It is undone because the disk failed.
    DiskFailed,
}

/// A command on its way to the writer and its answer back.
pub(super) trait Command: Send {
    /// Runs the verb and keeps its result.
    fn run(&mut self, tx: &mut Tx<'_>) -> Ran;
    /// Sends the result, or `failure` if what it did was not committed.
    fn answer(self: Box<Self>, failure: Option<Failure>);
}

/// Why nothing of a transaction was kept.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    Full,
    Unavailable(String),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Full => Self::Full,
            Failure::Unavailable(why) => Self::Unavailable(why),
        }
    }
}

impl From<&rusqlite::Error> for Failure {
    fn from(error: &rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::Full,
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

struct Typed<T, F> {
    verb: Option<F>,
    result: Option<Verb<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, F> Command for Typed<T, F>
where
    T: Send,
    F: FnOnce(&mut Tx<'_>) -> Verb<T> + Send,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> Ran {
        let Some(verb) = self.verb.take() else { return Ran::Failed };
        let result = within_savepoint(tx, verb);
        let ran = match &result {
            Ok(_) => Ran::Done,
            Err(Stop::Sql(error)) if is_io_failure(error) => Ran::DiskFailed,
            Err(_) => Ran::Failed,
        };
        self.result = Some(result);
        ran
    }

    fn answer(self: Box<Self>, failure: Option<Failure>) {
        let result = match (self.result, failure) {
            (Some(Err(stop)), _) => Err(stop.into()),
            (_, Some(failure)) => Err(failure.into()),
            (Some(Ok(value)), None) => Ok(value),
            (None, None) => Err(Error::Unavailable("the command did not run".to_owned())),
        };
        // Whoever asked may have left; what was committed stays.
        _ = self.reply.send(result);
    }
}

/// Runs `verb` so that its failure, or its panic, undoes only itself: a bug in one verb must not end the writer.
fn within_savepoint<T>(tx: &mut Tx<'_>, verb: impl FnOnce(&mut Tx<'_>) -> Verb<T>) -> Verb<T> {
    let told = tx.events.len();
    tx.change("SAVEPOINT command", [])?;
    let result = catch_unwind(AssertUnwindSafe(|| verb(tx)))
        .unwrap_or_else(|_| Err(Stop::Corrupt("a verb of the store panicked".to_owned())));
    if result.is_err() {
        tx.events.truncate(told);
        if tx.connection().is_autocommit() {
            return result;
        }
        tx.change("ROLLBACK TO command", [])?;
    }
    tx.change("RELEASE command", [])?;
    result
}

/// A command of `verb`, and where its answer arrives.
pub(super) fn command<T, F>(verb: F) -> (Box<dyn Command>, oneshot::Receiver<Result<T>>)
where
    T: Send + 'static,
    F: FnOnce(&mut Tx<'_>) -> Verb<T> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    (Box::new(Typed { verb: Some(verb), result: None, reply }), answer)
}

/// The writer's own things.
pub(super) struct Writer {
    pub connection: Connection,
    pub rules: Rules,
    pub commands: mpsc::Receiver<Box<dyn Command>>,
    pub events: broadcast::Sender<Arc<Vec<Event>>>,
    /// Set when the disk failed: what is on it is not known any more, so nothing is written until a restart.
    pub broken: Arc<AtomicBool>,
}

impl Writer {
    /// Works until nobody can send commands any more.
    pub(super) fn work(mut self) {
        let mut waiting = VecDeque::new();
        while let Some(first) = self.commands.blocking_recv() {
            waiting.push_back(first);
            while waiting.len() < MOST
                && let Ok(next) = self.commands.try_recv()
            {
                waiting.push_back(next);
            }
            while !waiting.is_empty() {
                self.transaction(&mut waiting);
            }
        }
    }

    /// Runs commands from the front of `waiting` and commits them; leaves the rest when SQLite gave up halfway.
    fn transaction(&self, waiting: &mut VecDeque<Box<dyn Command>>) {
        let mut done = Vec::with_capacity(waiting.len());
        let failure = match self.run(waiting, &mut done) {
            Ok(events) => {
                if !events.is_empty() {
                    // Nobody may be listening.
                    _ = self.events.send(Arc::new(events));
                }
                None
            }
            Err(failure) => Some(failure),
        };
        for command in done {
            command.answer(failure.clone());
        }
    }

    fn run(
        &self,
        waiting: &mut VecDeque<Box<dyn Command>>,
        done: &mut Vec<Box<dyn Command>>,
    ) -> std::result::Result<Vec<Event>, Failure> {
        if self.broken.load(Ordering::Acquire) {
            done.extend(waiting.drain(..));
            return Err(broken());
        }
        if let Err(error) = self.connection.execute_batch("BEGIN IMMEDIATE") {
            done.extend(waiting.drain(..));
            return Err(self.failed(&error));
        }
        let mut tx = Tx::new(&self.connection, self.rules);
        while let Some(mut command) = waiting.pop_front() {
            let ran = command.run(&mut tx);
            done.push(command);
            if ran == Ran::DiskFailed {
                self.broken.store(true, Ordering::Release);
                self.roll_back();
                return Err(broken());
            }
            if self.connection.is_autocommit() {
                // SQLite ended the transaction, and with it what the commands before this one did.
                return Err(Failure::Full);
            }
        }
        let events = std::mem::take(&mut tx.events);
        if let Err(error) = self.connection.execute_batch("COMMIT") {
            self.roll_back();
            return Err(self.failed(&error));
        }
        Ok(events)
    }

    fn failed(&self, error: &rusqlite::Error) -> Failure {
        if is_io_failure(error) {
            tracing::error!(%error, "the disk of the store failed; the store takes no more changes until a restart");
            self.broken.store(true, Ordering::Release);
        }
        error.into()
    }

    fn roll_back(&self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "the store could not undo a transaction");
            self.broken.store(true, Ordering::Release);
        }
    }
}

fn broken() -> Failure {
    Failure::Unavailable(
        "the disk failed; the store takes no more changes until the server is restarted".to_owned(),
    )
}
