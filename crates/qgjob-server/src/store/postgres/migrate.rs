//! Brings a database to the schema of this binary: numbered SQL files, each applied once, by one server at a time.

use deadpool_postgres::Object;
use sha2::{Digest, Sha256};

use super::OpenError;
use super::locks::MIGRATION;
use super::transaction::{Open, Stop, Verb, all, change, first};
use super::values::{Num, get, num, number};

/// A step of the schema.
#[derive(Debug, Clone, Copy)]
pub(super) struct Migration {
    pub sql: &'static str,
    /// The oldest step that a binary may end with and still work after this one: what only adds can be ignored by
    /// servers that do not know it, so that they can be replaced one by one.
    pub works_with: u32,
}

/// The migrations in order; number 1 comes first. A file that was released never changes.
pub(super) const ALL: &[Migration] =
    &[Migration { sql: include_str!("../../../migrations/postgres/0001_initial.sql"), works_with: 1 }];

/// Applies those of `migrations` that the database does not have, all or none.
///
/// # Errors
/// [`OpenError::Newer`] when the database has more than `migrations` and does not work with those;
/// [`OpenError::MigrationChanged`] when one was applied in another form.
pub(super) async fn apply(connection: Object, migrations: &[Migration]) -> Result<(), OpenError> {
    let open = Open::begin(connection).await?;
    let c = open.client()?;
    // Others wait here until the first of them is done, however long that takes.
    c.batch_execute(
        "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0;
        SET LOCAL client_min_messages = warning",
    )
    .await
    .map_err(Stop::from)?;
    change(c, "SELECT pg_advisory_xact_lock($1)", &[&Num(MIGRATION)]).await?;
    c.batch_execute(
        "CREATE TABLE IF NOT EXISTS migrations
            (number bigint PRIMARY KEY, checksum bytea NOT NULL, works_with bigint NOT NULL)",
    )
    .await
    .map_err(Stop::from)?;
    is_known(c, migrations).await?;
    let applied: Vec<(u32, Vec<u8>)> =
        all(c, "SELECT number, checksum FROM migrations ORDER BY number", &[], |row| {
            Ok((number(row, "number")?, get(row, "checksum")?))
        })
        .await?;
    for (number, migration) in (1u32..).zip(migrations) {
        let checksum = Sha256::digest(migration.sql.as_bytes()).to_vec();
        match applied.iter().find(|(known, _)| *known == number) {
            Some((_, applied)) if *applied == checksum => {}
            Some(_) => return Err(OpenError::MigrationChanged { number }),
            None => {
                c.batch_execute(migration.sql).await.map_err(Stop::from)?;
                let sql = "INSERT INTO migrations (number, checksum, works_with) VALUES ($1, $2, $3)";
                change(c, sql, &[&num(number), &checksum, &num(migration.works_with)]).await?;
            }
        }
    }
    c.batch_execute("COMMIT").await.map_err(Stop::from)?;
    open.finished();
    Ok(())
}

/// Whether the schema works with the newest of `migrations`, although it may be newer.
async fn is_known(c: &Object, migrations: &[Migration]) -> Result<(), OpenError> {
    let (found, needed) = newest(c).await?;
    let known = migrations.len() as u32;
    match needed > known {
        true => Err(OpenError::Newer { found, known }),
        false => Ok(()),
    }
}

/// The newest step, and the oldest with which it works.
async fn newest(c: &Object) -> Verb<(u32, u32)> {
    let sql =
        "SELECT coalesce(max(number), 0) AS found, coalesce(max(works_with), 0) AS needed FROM migrations";
    let found = first(c, sql, &[], |row| Ok((number(row, "found")?, number(row, "needed")?))).await?;
    Ok(found.unwrap_or_default())
}

/// Whether another server has brought the schema to where this binary does not work any more.
pub(super) async fn check(c: &Object) -> Verb<()> {
    let (found, needed) = newest(c).await?;
    match needed as usize > ALL.len() {
        true => Err(Stop::Unreachable(format!("the schema is at version {found} now: use a newer qgjob"))),
        false => Ok(()),
    }
}
