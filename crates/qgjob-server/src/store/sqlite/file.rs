//! The database file: who owns it, making it, and opening it to write.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use rustix::fs::FlockOperation;

use super::{OpenError, migrate};

/// The path with more at its end.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Takes the lock that says that this process owns the database.
pub(super) fn lock(path: &Path) -> Result<File, OpenError> {
    let lock_path = beside(path, ".lock");
    let failed = |source| OpenError::Io { path: lock_path.clone(), source };
    let file = File::options().create(true).truncate(false).write(true).open(&lock_path).map_err(failed)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::InUse(path.to_owned())),
        Err(error) => Err(failed(error.into())),
    }
}

/// Opens the file to write, and brings it to this binary's schema. Makes it if it is not there.
pub(super) fn open(path: &Path) -> Result<Connection, OpenError> {
    if !path.exists() {
        make(path)?;
    }
    // Whoever made the file may have been cut off before its name was durable.
    sync_folder(path)?;
    let mut connection = Connection::open(path)?;
    connection.set_prepared_statement_cache_capacity(128);
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000;
         PRAGMA cache_size = -16000; PRAGMA temp_store = MEMORY; PRAGMA wal_autocheckpoint = 4000;
         PRAGMA journal_size_limit = 67108864",
    )?;
    keep_plans(&connection)?;
    // Looking up each row's parents would find bugs of this program only; tests look for those.
    connection.pragma_update(None, "foreign_keys", cfg!(debug_assertions))?;
    migrate::apply(&mut connection, migrate::ALL)?;
    Ok(connection)
}

/// Makes a database under another name and gives it its own when it is whole: that needs two fsyncs, where making it
/// in its place needs several more.
fn make(path: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::Io { path: path.to_owned(), source };
    let unfinished = beside(path, ".new");
    // A start that was cut off may have left one.
    File::create(&unfinished).map_err(failed)?;
    let mut connection = Connection::open(&unfinished)?;
    connection.execute_batch("PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY")?;
    migrate::apply(&mut connection, migrate::ALL)?;
    connection.execute_batch("PRAGMA journal_mode = WAL")?;
    connection.close().map_err(|(_, error)| error)?;
    File::open(&unfinished).and_then(|file| file.sync_all()).map_err(failed)?;
    // What a database that was deleted left behind would be taken for this one's.
    for left in ["-wal", "-shm"].map(|suffix| beside(path, suffix)) {
        match std::fs::remove_file(left) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    std::fs::rename(&unfinished, path).map_err(failed)
}

/// Makes SQLite choose a statement's plan once. By default it looks at the values when a partial index could serve,
/// and then prepares the statement anew for each execution.
pub(super) fn keep_plans(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(|_| ())
}

/// Makes the names in the file's folder durable.
fn sync_folder(path: &Path) -> Result<(), OpenError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|source| OpenError::Io { path: folder.to_owned(), source })
}
