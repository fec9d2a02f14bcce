//! What verbs see of a transaction: statements, events, and a way out that undoes one item only.

use std::sync::Arc;

use jiff::Timestamp;
use qgjob_core::model::event::{Event, Fact};
use qgjob_core::model::name::OrgId;
use qgjob_core::model::refusal::Refusal;
use qgjob_core::model::{job, run};
use rusqlite::{Connection, Params, Row};

use super::known::Known;
use super::limits::Gate;
use super::rows::{At, Bin, Json, Word, is_io_failure};
use crate::store::{Answer, Error, Rules};

/// Why a verb stops.
#[derive(Debug)]
pub(super) enum Stop {
    /// A rule said no; the item is undone.
    Refused(Refusal),
    /// SQLite said no; the whole command is undone.
    Sql(rusqlite::Error),
    /// What is stored makes no sense; the whole command is undone.
    Corrupt(String),
    /// It failed after it had changed something, in a transaction that has no savepoint to go back to.
    Halfway,
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<Stop> for Error {
    fn from(stop: Stop) -> Self {
        match stop {
            // A verb that cannot refuse met a rule that did.
            Stop::Refused(refusal) => Self::Corrupt(refusal.to_string()),
            Stop::Sql(error) => error.into(),
            Stop::Corrupt(what) => Self::Corrupt(what),
            Stop::Halfway => Self::Unavailable("the store could not undo a change".to_owned()),
        }
    }
}

/// What a step of a verb answers.
pub(super) type Verb<T> = Result<T, Stop>;

/// Whom an event is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct About<'a> {
    pub org_id: Option<&'a OrgId>,
    pub run_id: Option<run::Id>,
    pub job_id: Option<job::Id>,
}

/// Numbers that are given once each. They are kept in memory, and written with the transaction that gave some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Numbers {
    /// The newest event's.
    pub event: u64,
    /// The newest lease's.
    pub epoch: u64,
    /// The newest job's ordinal. What was written last is in the jobs themselves.
    pub job: u64,
}

impl Numbers {
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let read = |name: &str| {
            let sql = "SELECT value FROM counters WHERE name = ?1";
            connection.query_row(sql, [name], |row| row.get(0))
        };
        let job = connection.query_row("SELECT coalesce(max(ordinal), 0) FROM jobs", [], |row| row.get(0))?;
        Ok(Self { event: read("event")?, epoch: read("epoch")?, job })
    }
}

/// What is left of a transaction.
pub(super) struct Outcome {
    pub events: Vec<Event>,
    pub numbers: Numbers,
    /// Whether tokens were removed.
    pub tokens_ended: bool,
    pub gate: Gate,
}

/// An open transaction.
pub(super) struct Tx<'c> {
    connection: &'c Connection,
    pub(super) known: &'c mut Known,
    pub(super) rules: Rules,
    /// Whether each step has a savepoint.
    careful: bool,
    kept: Numbers,
    now: Outcome,
    /// How many of the events are in their table.
    written: usize,
}

impl<'c> Tx<'c> {
    pub(super) fn new(
        connection: &'c Connection,
        known: &'c mut Known,
        rules: Rules,
        numbers: Numbers,
        gate: Gate,
        careful: bool,
    ) -> Self {
        let now = Outcome { events: Vec::new(), numbers, tokens_ended: false, gate };
        Self { connection, known, rules, careful, kept: numbers, now, written: 0 }
    }

    /// Writes the numbers that were given; to be called before the commit.
    pub(super) fn keep_numbers(&self) -> rusqlite::Result<()> {
        let sql = "UPDATE counters SET value = ?2 WHERE name = ?1";
        let Numbers { event, epoch, .. } = self.now.numbers;
        if event != self.kept.event {
            self.change(sql, ("event", event))?;
        }
        if epoch != self.kept.epoch {
            self.change(sql, ("epoch", epoch))?;
        }
        Ok(())
    }

    pub(super) fn outcome(self) -> Outcome {
        self.now
    }

    /// A number for a lease: higher than all before.
    pub(super) fn next_epoch(&mut self) -> u64 {
        self.now.numbers.epoch += 1;
        self.now.numbers.epoch
    }

    /// Ordinals for `count` jobs, one after the other: higher than all before. Answers the first.
    pub(super) fn next_ordinals(&mut self, count: u64) -> u64 {
        let first = self.now.numbers.job + 1;
        self.now.numbers.job += count;
        first
    }

    /// Notes that a token is no good any more.
    pub(super) fn end_tokens(&mut self) {
        self.now.tokens_ended = true;
    }

    /// What claims must pass.
    pub(super) fn gate(&mut self) -> &mut Gate {
        &mut self.now.gate
    }

    pub(super) fn connection(&self) -> &'c Connection {
        self.connection
    }

    /// Executes a statement; answers how many rows changed.
    pub(super) fn change(&self, sql: &str, params: impl Params) -> rusqlite::Result<usize> {
        self.connection.prepare_cached(sql)?.execute(params)
    }

    /// The first row, if there is one.
    pub(super) fn first<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Option<T>> {
        first(self.connection, sql, params, read)
    }

    /// All rows.
    pub(super) fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Vec<T>> {
        all(self.connection, sql, params, read)
    }

    /// Appends an event, to be written at the end of its command.
    pub(super) fn tell(&mut self, at: Timestamp, about: About<'_>, fact: Fact) {
        self.now.numbers.event += 1;
        self.now.events.push(Event {
            seq: self.now.numbers.event,
            at,
            org_id: about.org_id.cloned(),
            run_id: about.run_id,
            job_id: about.job_id,
            fact,
        });
    }

    /// Writes the events that were told since the last call. Those that follow each other about one run share a row.
    pub(super) fn write_events(&mut self) -> Verb<()> {
        let sql =
            "INSERT INTO events (seq, at, org_id, run_id, job_ids, facts) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let share_a_row = |one: &Event, next: &Event| {
            let about = |event: &Event| (event.at, event.run_id);
            next.seq == one.seq + 1 && about(one) == about(next) && one.org_id == next.org_id
        };
        for row in self.now.events[self.written..].chunk_by(share_a_row) {
            let Event { seq, at, org_id, run_id, .. } = &row[0];
            let jobs: Vec<u8> =
                row.iter().flat_map(|event| event.job_id.map_or(0, |id| id.0).to_be_bytes()).collect();
            let facts: Vec<&Fact> = row.iter().map(|event| &event.fact).collect();
            let run = run_id.map(|id| Bin(id.0));
            self.change(sql, (seq, At(*at), org_id.as_ref().map(Word), run, jobs, Json(facts)))?;
        }
        self.written = self.now.events.len();
        Ok(())
    }

    /// Runs `step` so that its failure leaves no trace of it, in the database or among the events. Numbers that it
    /// took stay taken.
    ///
    /// # Errors
    /// The step's, or [`Stop::Halfway`] in place of it when there is a trace and no savepoint.
    pub(super) fn undoable<T>(&mut self, step: impl FnOnce(&mut Self) -> Verb<T>) -> Verb<T> {
        let (told, changed) = (self.now.events.len(), self.connection.total_changes());
        let limits = Arc::clone(&self.now.gate.limits);
        if self.careful {
            self.change("SAVEPOINT step", [])?;
        }
        let result = step(self);
        // SQLite itself ends the transaction after some failures, for one when the disk is full.
        if self.connection.is_autocommit() {
            return result;
        }
        if result.is_err() {
            self.now.events.truncate(told);
            if self.connection.total_changes() != changed {
                self.now.gate.go_back(limits);
                self.known.forget();
            }
            if self.careful {
                self.change("ROLLBACK TO step", [])?;
            } else if self.connection.total_changes() != changed {
                return match result {
                    // Nothing more is written to a disk that failed, so nothing needs to be undone alone.
                    Err(Stop::Sql(error)) if is_io_failure(&error) => Err(Stop::Sql(error)),
                    _ => Err(Stop::Halfway),
                };
            }
        }
        if self.careful {
            self.change("RELEASE step", [])?;
        }
        result
    }

    /// Answers each item of a batch; what is refused has changed nothing.
    pub(super) fn each<I, T>(
        &mut self,
        batch: &[I],
        mut verb: impl FnMut(&mut Self, &I) -> Verb<T>,
    ) -> Verb<Vec<Answer<T>>> {
        batch.iter().map(|item| self.one(|tx| verb(tx, item))).collect()
    }

    /// Answers one item, as [`Tx::each`].
    pub(super) fn one<T>(&mut self, verb: impl FnOnce(&mut Self) -> Verb<T>) -> Verb<Answer<T>> {
        match self.undoable(verb) {
            Ok(answer) => Ok(Ok(answer)),
            Err(Stop::Refused(refusal)) => Ok(Err(refusal)),
            Err(stop) => Err(stop),
        }
    }
}

/// The first row, if there is one.
pub(super) fn first<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Option<T>> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    rows.next()?.map(read).transpose()
}

/// All rows.
pub(super) fn all<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    connection.prepare_cached(sql)?.query_map(params, read)?.collect()
}

/// The refusal for a thing that does not exist or is not visible.
pub(super) fn not_found(what: impl Into<String>) -> Stop {
    Stop::Refused(Refusal::NotFound { what: what.into() })
}
