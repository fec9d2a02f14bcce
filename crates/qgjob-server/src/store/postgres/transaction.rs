//! Statements, what stops a verb, and transactions on a connection of their own.

use std::future::Future;
use std::time::Duration;

use deadpool_postgres::Object;
use qgjob_core::model::refusal::Refusal;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use crate::store::Error;

/// A parameter of a statement.
pub(super) type Param<'a> = &'a (dyn ToSql + Sync);

/// How long a call may take before its connection counts as dead. PostgreSQL ends statements before that
/// (`connect::STATEMENT`): this is for networks that say nothing any more.
const SILENCE: Duration = Duration::from_secs(20);

/// Why a verb stops.
#[derive(Debug)]
pub(super) enum Stop {
    /// A rule said no.
    Refused(Refusal),
    /// PostgreSQL said no.
    Sql(tokio_postgres::Error),
    /// No connection could be had, or it said nothing for too long.
    Unreachable(String),
    /// What is stored makes no sense.
    Corrupt(String),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<tokio_postgres::Error> for Stop {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<deadpool_postgres::PoolError> for Stop {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        // The pool's words leave the cause to its source.
        let cause = std::error::Error::source(&error).map(said);
        Self::Unreachable(cause.unwrap_or_else(|| error.to_string()))
    }
}

/// What an error says, with its causes.
pub(super) fn said(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

impl Stop {
    /// Whether the same transaction may succeed when it is run again: it met another one.
    pub(super) fn is_clash(&self) -> bool {
        let Self::Sql(error) = self else { return false };
        error.code().is_some_and(|code| {
            [&SqlState::T_R_DEADLOCK_DETECTED, &SqlState::T_R_SERIALIZATION_FAILURE].contains(&code)
        })
    }

    /// Whether the connection ended.
    pub(super) fn is_lost(&self) -> bool {
        match self {
            Self::Sql(error) => {
                error.is_closed() || error.code().is_some_and(ends_connection) || is_io(error)
            }
            Self::Unreachable(_) => true,
            Self::Refused(_) | Self::Corrupt(_) => false,
        }
    }

    /// Whether the statement, not the database, is at fault.
    pub(super) fn is_of_the_data(&self) -> bool {
        match self {
            Self::Sql(error) => !self.is_lost() && matches!(Error::from_sql(error), Error::Corrupt(_)),
            Self::Corrupt(_) => true,
            Self::Refused(_) | Self::Unreachable(_) => false,
        }
    }
}

fn ends_connection(code: &SqlState) -> bool {
    code.code().starts_with("08") || code.code().starts_with("57P")
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>())
}

impl From<Stop> for Error {
    fn from(stop: Stop) -> Self {
        match stop {
            // A verb that cannot refuse met a rule that did.
            Stop::Refused(refusal) => Self::Corrupt(refusal.to_string()),
            Stop::Sql(error) => Self::from_sql(&error),
            Stop::Unreachable(why) => Self::Unavailable(why),
            Stop::Corrupt(what) => Self::Corrupt(what),
        }
    }
}

impl Error {
    pub(super) fn from_sql(error: &tokio_postgres::Error) -> Self {
        let text = said(error);
        let Some(code) = error.code() else {
            return if error.is_closed() || is_io(error) {
                Self::Unavailable(text)
            } else {
                Self::Corrupt(text)
            };
        };
        if *code == SqlState::DISK_FULL {
            return Self::Full;
        }
        // Connections; transactions that met another one; resources; an operator; time that ran out; a standby.
        let passes = ["08", "40", "53", "55", "57", "58", "25006", "25P03", "25P04", "28"];
        match passes.iter().any(|class| code.code().starts_with(class)) {
            true => Self::Unavailable(text),
            false => Self::Corrupt(text),
        }
    }
}

/// What a step of a verb answers.
pub(super) type Verb<T> = Result<T, Stop>;

/// The refusal for a thing that does not exist or is not visible.
pub(super) fn not_found(what: impl Into<String>) -> Stop {
    Stop::Refused(Refusal::NotFound { what: what.into() })
}

/// Waits for a call's answer, but not for ever.
pub(super) async fn bounded<T>(call: impl Future<Output = Verb<T>>) -> Verb<T> {
    let silent = || Stop::Unreachable(format!("PostgreSQL has not answered for {} s", SILENCE.as_secs()));
    tokio::time::timeout(SILENCE, call).await.unwrap_or_else(|_| Err(silent()))
}

/// The first row, if there is one.
pub(super) async fn first<T>(
    c: &Object,
    sql: &str,
    params: &[Param<'_>],
    read: impl FnOnce(&Row) -> Verb<T>,
) -> Verb<Option<T>> {
    let statement = c.prepare_cached(sql).await?;
    c.query_opt(&statement, params).await?.as_ref().map(read).transpose()
}

/// All rows.
pub(super) async fn all<T>(
    c: &Object,
    sql: &str,
    params: &[Param<'_>],
    read: impl FnMut(&Row) -> Verb<T>,
) -> Verb<Vec<T>> {
    let statement = c.prepare_cached(sql).await?;
    c.query(&statement, params).await?.iter().map(read).collect()
}

/// Executes a statement; answers how many rows changed.
pub(super) async fn change(c: &Object, sql: &str, params: &[Param<'_>]) -> Verb<u64> {
    let statement = c.prepare_cached(sql).await?;
    Ok(c.execute(&statement, params).await?)
}

/// A transaction. Whoever drops it unfinished ends its connection and so undoes it.
pub(super) struct Open {
    /// None once it is finished.
    connection: Option<Object>,
}

impl Open {
    /// Begins one, together with its first statement.
    pub(super) async fn begin(connection: Object) -> Verb<Self> {
        let open = Self { connection: Some(connection) };
        open.client()?.batch_execute("BEGIN").await?;
        Ok(open)
    }

    pub(super) fn client(&self) -> Verb<&Object> {
        self.connection
            .as_ref()
            .ok_or_else(|| Stop::Corrupt("a transaction was used after its end".to_owned()))
    }

    /// Gives the connection back after the commit.
    pub(super) fn finished(mut self) {
        self.connection = None;
    }

    /// Undoes all, at the price of a round trip instead of a connection.
    pub(super) async fn roll_back(self) -> Verb<()> {
        self.client()?.batch_execute("ROLLBACK").await?;
        self.finished();
        Ok(())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            drop(Object::take(connection));
        }
    }
}

/// Several statements that see the same state.
pub(super) async fn snapshot(connection: Object) -> Verb<Open> {
    let open = Open { connection: Some(connection) };
    open.client()?.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
    Ok(open)
}
