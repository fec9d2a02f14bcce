//! What verbs see of a transaction: statements, events, and a way out that undoes one item only.

use jiff::Timestamp;
use qgjob_core::model::event::{Event, Fact};
use qgjob_core::model::name::OrgId;
use qgjob_core::model::refusal::Refusal;
use qgjob_core::model::{job, run};
use rusqlite::{Connection, Params, Row};

use super::rows::{At, Bin, Json, Word};
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

/// An open transaction.
pub(super) struct Tx<'c> {
    connection: &'c Connection,
    pub(super) rules: Rules,
    pub(super) events: Vec<Event>,
}

impl<'c> Tx<'c> {
    pub(super) fn new(connection: &'c Connection, rules: Rules) -> Self {
        Self { connection, rules, events: Vec::new() }
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

    /// Appends an event.
    pub(super) fn tell(&mut self, at: Timestamp, about: About<'_>, fact: Fact) -> Verb<()> {
        let (run, job) = (about.run_id.map(|id| Bin(id.0)), about.job_id.map(|id| Bin(id.0)));
        let sql = "INSERT INTO events (at, org_id, run_id, job_id, fact) VALUES (?1, ?2, ?3, ?4, ?5)";
        let changed = self.change(sql, (At(at), about.org_id.map(Word), run, job, Json(&fact)));
        changed?;
        let seq = self.connection.last_insert_rowid() as u64;
        let (run_id, job_id) = (about.run_id, about.job_id);
        self.events.push(Event { seq, at, org_id: about.org_id.cloned(), run_id, job_id, fact });
        Ok(())
    }

    /// Runs `step` so that its failure leaves no trace of it, in the database or among the events.
    pub(super) fn undoable<T>(&mut self, step: impl FnOnce(&mut Self) -> Verb<T>) -> Verb<T> {
        let told = self.events.len();
        self.change("SAVEPOINT step", [])?;
        let result = step(self);
        if result.is_err() {
            self.events.truncate(told);
            // SQLite itself ends the transaction after some failures, for one when the disk is full.
            if self.connection.is_autocommit() {
                return result;
            }
            self.change("ROLLBACK TO step", [])?;
        }
        self.change("RELEASE step", [])?;
        result
    }

    /// Answers each item of a batch; what is refused has changed nothing.
    pub(super) fn each<I, T>(
        &mut self,
        batch: Vec<I>,
        mut verb: impl FnMut(&mut Self, I) -> Verb<T>,
    ) -> Verb<Vec<Answer<T>>> {
        batch.into_iter().map(|item| self.one(|tx| verb(tx, item))).collect()
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
