//! The one thread that writes. It takes all commands that wait, runs them, and commits them together: one fsync for
//! all. The failure of one undoes only itself. Savepoints would do that at the price of a copy of each page that a
//! command touches, so the commands first run without: most that fail have changed nothing. Only when one fails
//! halfway is the transaction undone and run again with a savepoint for each.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use qgjob_core::model::event::Event;
use rusqlite::Connection;
use tokio::sync::{broadcast, mpsc, oneshot};

use super::known::Known;
use super::limits::Gate;
use super::rows::is_io_failure;
use super::tokens::Tokens;
use super::transaction::{Numbers, Outcome, Stop, Tx, Verb};
use crate::store::{Error, Result, Rules};

/// Most commands in one transaction, so that the first of them does not wait for long.
const MOST: usize = 512;

/// How a command went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ran {
    /// Its changes wait for the commit.
    Done,
    /// It is undone, or has changed nothing.
    Failed,
    /// It failed halfway; only a careful transaction can undo it alone.
    Halfway,
    /// It is undone because the disk failed.
    DiskFailed,
}

/// A command on its way to the writer and its answer back.
pub(super) trait Command: Send {
    /// Runs the verb and keeps its result. It may be run again once what it did is undone.
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

/// Why a transaction was not committed.
enum End {
    /// A command failed halfway: the whole is undone and must be run again, carefully.
    Halfway,
    /// Nothing of it was kept.
    Failed(Failure),
}

struct Typed<T, F> {
    verb: F,
    result: Option<Verb<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, F> Command for Typed<T, F>
where
    T: Send,
    F: FnMut(&mut Tx<'_>) -> Verb<T> + Send,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> Ran {
        // A bug in one verb must not end the writer.
        let verb = |tx: &mut Tx<'_>| {
            let value = catch_unwind(AssertUnwindSafe(|| (self.verb)(tx)))
                .unwrap_or_else(|_| Err(Stop::Corrupt("a verb of the store panicked".to_owned())))?;
            tx.write_events()?;
            Ok(value)
        };
        let result = tx.undoable(verb);
        let ran = match &result {
            Ok(_) => Ran::Done,
            Err(Stop::Sql(error)) if is_io_failure(error) => Ran::DiskFailed,
            Err(Stop::Halfway) => Ran::Halfway,
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

/// A command of `verb`, and where its answer arrives.
pub(super) fn command<T, F>(verb: F) -> (Box<dyn Command>, oneshot::Receiver<Result<T>>)
where
    T: Send + 'static,
    F: FnMut(&mut Tx<'_>) -> Verb<T> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    (Box::new(Typed { verb, result: None, reply }), answer)
}

/// The writer's own things.
pub(super) struct Writer {
    pub connection: Connection,
    pub rules: Rules,
    pub commands: mpsc::Receiver<Box<dyn Command>>,
    pub events: broadcast::Sender<Arc<Vec<Event>>>,
    /// The highest numbers that were given and committed.
    pub numbers: Numbers,
    /// What claims must pass, by what was committed.
    pub gate: Gate,
    pub known: Known,
    /// Where token lookups are answered from.
    pub tokens: Arc<Tokens>,
    /// Set when the disk failed: what is on it is not known any more, so nothing is written until a restart.
    pub broken: bool,
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
    fn transaction(&mut self, waiting: &mut VecDeque<Box<dyn Command>>) {
        let mut done = Vec::with_capacity(waiting.len());
        let mut ended = self.run(waiting, &mut done, false);
        if let Err(End::Halfway) = ended {
            self.known.forget();
            // In the order in which they came.
            done.drain(..).rev().for_each(|command| waiting.push_front(command));
            ended = self.run(waiting, &mut done, true);
        }
        if ended.is_err() {
            self.known.forget();
        }
        let failure = match ended {
            Ok(events) => {
                if !events.is_empty() {
                    // Nobody may be listening.
                    _ = self.events.send(Arc::new(events));
                }
                None
            }
            Err(End::Failed(failure)) => Some(failure),
            Err(End::Halfway) => {
                tracing::error!("a careful transaction could not undo a command");
                Some(Failure::Unavailable("the store could not undo a change".to_owned()))
            }
        };
        for command in done {
            command.answer(failure.clone());
        }
    }

    fn run(
        &mut self,
        waiting: &mut VecDeque<Box<dyn Command>>,
        done: &mut Vec<Box<dyn Command>>,
        careful: bool,
    ) -> std::result::Result<Vec<Event>, End> {
        if self.broken {
            done.extend(waiting.drain(..));
            return Err(broken());
        }
        if let Err(error) = execute(&self.connection, "BEGIN IMMEDIATE") {
            done.extend(waiting.drain(..));
            return Err(self.failed(&error));
        }
        let mut tx =
            Tx::new(&self.connection, &mut self.known, self.rules, self.numbers, self.gate.lend(), careful);
        while let Some(mut command) = waiting.pop_front() {
            let ran = command.run(&mut tx);
            done.push(command);
            if ran == Ran::DiskFailed {
                self.broken = true;
                self.roll_back();
                return Err(broken());
            }
            if self.connection.is_autocommit() {
                // SQLite ended the transaction, and with it what the commands before this one did.
                return Err(End::Failed(Failure::Full));
            }
            if ran == Ran::Halfway {
                self.roll_back();
                return Err(End::Halfway);
            }
        }
        let kept = tx.keep_numbers().and_then(|()| execute(&self.connection, "COMMIT"));
        let Outcome { events, numbers, tokens_ended, gate } = tx.outcome();
        if let Err(error) = kept {
            self.roll_back();
            return Err(self.failed(&error));
        }
        self.numbers = numbers;
        self.gate = gate;
        if tokens_ended {
            self.tokens.forget();
        }
        Ok(events)
    }

    fn failed(&mut self, error: &rusqlite::Error) -> End {
        if is_io_failure(error) {
            tracing::error!(%error, "the disk of the store failed; the store takes no more changes until a restart");
            self.broken = true;
        }
        End::Failed(error.into())
    }

    fn roll_back(&mut self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "the store could not undo a transaction");
            self.broken = true;
        }
    }
}

fn execute(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(|_| ())
}

fn broken() -> End {
    End::Failed(Failure::Unavailable(
        "the disk failed; the store takes no more changes until the server is restarted".to_owned(),
    ))
}
