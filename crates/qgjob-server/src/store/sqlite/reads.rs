//! Reading beside the writer: a few read-only connections, each used by one blocking task at a time.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rusqlite::{Connection, OpenFlags};
use tokio::sync::Semaphore;

use crate::store::{Error, Result};

/// Reads that run at the same time.
const MOST: usize = 4;

/// The connections.
pub(super) struct Reads {
    path: PathBuf,
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
}

impl Reads {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), idle: Arc::default(), permits: Arc::new(Semaphore::new(MOST)) }
    }

    /// Runs `read` on a connection. What was committed before the call is seen.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.expect("the semaphore is never closed");
        let (idle, path) = (Arc::clone(&self.idle), self.path.clone());
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let kept = idle.lock().expect("no thread panics while holding the connections").pop();
            let connection = match kept {
                Some(connection) => connection,
                None => connect(&path)?,
            };
            let result = in_snapshot(&connection, read);
            idle.lock().expect("no thread panics while holding the connections").push(connection);
            result
        });
        match task.await {
            Ok(result) => result.map_err(Error::from),
            Err(error) => Err(Error::Unavailable(format!("a read of the store did not end: {error}"))),
        }
    }
}

/// Several statements of one read see the same state.
fn in_snapshot<T>(
    connection: &Connection,
    read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let execute = |sql| connection.prepare_cached(sql)?.execute([]).map(|_| ());
    execute("BEGIN")?;
    let result = read(connection);
    let ended = execute("COMMIT");
    let value = result?;
    ended.map(|()| value)
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection
        .execute_batch("PRAGMA busy_timeout = 5000; PRAGMA cache_size = -4000; PRAGMA temp_store = MEMORY")?;
    super::file::keep_plans(&connection)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}
