//! Brings a database file to the schema of this binary: numbered SQL files, each applied once, in one transaction.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use sha2::{Digest, Sha256};

use super::OpenError;

/// The migrations in order; number 1 comes first. A file that was released never changes.
pub(super) const ALL: &[&str] = &[
    include_str!("../../../migrations/sqlite/0001_initial.sql"),
    include_str!("../../../migrations/sqlite/0002_lean_writes.sql"),
    include_str!("../../../migrations/sqlite/0003_predictions.sql"),
    include_str!("../../../migrations/sqlite/0004_limits.sql"),
    include_str!("../../../migrations/sqlite/0005_fewer_trees.sql"),
    include_str!("../../../migrations/sqlite/0006_choices.sql"),
    include_str!("../../../migrations/sqlite/0007_quarantines.sql"),
    include_str!("../../../migrations/sqlite/0008_shards.sql"),
    include_str!("../../../migrations/sqlite/0009_logins.sql"),
    include_str!("../../../migrations/sqlite/0010_reruns.sql"),
];

/// Applies those of `migrations` that the database does not have.
///
/// # Errors
/// [`OpenError::Newer`] when the database has more than `migrations`; [`OpenError::MigrationChanged`] when one was
/// applied in another form.
pub(super) fn apply(connection: &mut Connection, migrations: &[&str]) -> Result<(), OpenError> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, checksum BLOB NOT NULL) STRICT",
    )?;
    let found: u32 =
        connection.query_row("SELECT coalesce(max(number), 0) FROM migrations", [], |row| row.get(0))?;
    if found as usize > migrations.len() {
        return Err(OpenError::Newer { found, known: migrations.len() as u32 });
    }
    for (number, sql) in (1u32..).zip(migrations) {
        let checksum = Sha256::digest(sql.as_bytes()).to_vec();
        let applied: Option<Vec<u8>> = connection
            .query_row("SELECT checksum FROM migrations WHERE number = ?1", [number], |row| row.get(0))
            .optional()?;
        match applied {
            Some(applied) if applied == checksum => {}
            Some(_) => return Err(OpenError::MigrationChanged { number }),
            None => {
                let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                transaction.execute_batch(sql)?;
                transaction.execute(
                    "INSERT INTO migrations (number, checksum) VALUES (?1, ?2)",
                    (number, checksum),
                )?;
                transaction.commit()?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT;";
    const SECOND: &str = "ALTER TABLE things ADD COLUMN size INTEGER NOT NULL DEFAULT 7;";

    #[test]
    fn a_migration_keeps_what_is_there_and_runs_once() {
        let mut connection = Connection::open_in_memory().unwrap();
        apply(&mut connection, &[FIRST]).unwrap();
        connection.execute("INSERT INTO things (name) VALUES ('kept')", []).unwrap();
        apply(&mut connection, &[FIRST, SECOND]).unwrap();
        apply(&mut connection, &[FIRST, SECOND]).unwrap();
        let row = connection.query_row("SELECT name, size FROM things", [], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
        });
        assert_eq!(row.unwrap(), ("kept".to_owned(), 7));
    }

    #[test]
    fn a_migration_that_fails_leaves_nothing_behind() {
        let mut connection = Connection::open_in_memory().unwrap();
        let broken = "CREATE TABLE half (id INTEGER) STRICT; CREATE TABLE things (broken";
        apply(&mut connection, &[FIRST]).unwrap();
        apply(&mut connection, &[FIRST, broken]).unwrap_err();
        let half =
            connection
                .query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'half'", [], |row| row.get(0));
        assert_eq!(half, Ok(0));
        apply(&mut connection, &[FIRST, SECOND]).unwrap();
    }

    #[test]
    fn a_newer_or_changed_schema_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        apply(&mut connection, &[FIRST, SECOND]).unwrap();
        let newer = apply(&mut connection, &[FIRST]).unwrap_err();
        assert!(matches!(newer, OpenError::Newer { found: 2, known: 1 }), "{newer}");
        let changed = apply(&mut connection, &[FIRST, FIRST]).unwrap_err();
        assert!(matches!(changed, OpenError::MigrationChanged { number: 2 }), "{changed}");
    }

    #[test]
    fn every_migration_of_this_binary_applies() {
        let mut connection = Connection::open_in_memory().unwrap();
        apply(&mut connection, ALL).unwrap();
        let check: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(check, "ok");
    }
}
