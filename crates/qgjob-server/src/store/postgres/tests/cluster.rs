//! A PostgreSQL of the tests' own: Debian's programs, a folder that goes away, a socket in it and no port. Tests of one
//! process share it, each with a database of its own; it ends with the last of them.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};
use tokio_postgres::{Client, NoTls};

/// The running server.
pub struct Cluster {
    folder: PathBuf,
    databases: AtomicU32,
    /// Each message kills the server and starts it anew, and is answered then; dropped to end it.
    crash: Option<mpsc::Sender<mpsc::Sender<()>>>,
    keeper: Option<JoinHandle<()>>,
}

/// A database for one test.
pub struct Database {
    pub name: String,
    cluster: Arc<Cluster>,
}

static RUNNING: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());

/// The newest PostgreSQL that is installed.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest =
        versions.max_by_key(|version| version.file_name().to_string_lossy().parse::<u32>().unwrap_or(0));
    let found = newest.map(|version| version.path().join("bin")).filter(|bin| bin.join("initdb").exists());
    found.expect("PostgreSQL is not installed: run `make install`, or `apt-get install postgresql`")
}

/// A command as a user that PostgreSQL accepts: it refuses root. It ends when the thread that starts it ends.
fn command(program: &Path, user: Option<&User>) -> Command {
    let mut command = Command::new("setpriv");
    if let Some(user) = user {
        command
            .arg(format!("--reuid={}", user.uid))
            .arg(format!("--regid={}", user.gid))
            .arg("--clear-groups");
    }
    command.arg("--pdeathsig=QUIT").arg("--").arg(program).stdin(Stdio::null());
    command
}

/// Makes the data folder.
fn make(folder: &Path, user: Option<&User>) {
    let data = folder.join("data");
    let made = command(&programs().join("initdb"), user)
        .args(["-U", "qgjob", "-A", "trust", "-N", "--no-locale", "-E", "UTF8", "--no-instructions", "-D"])
        .arg(&data)
        .current_dir(folder)
        .output()
        .expect("setpriv of util-linux runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

fn start(folder: &Path, user: Option<&User>, durable: bool) -> Child {
    let fsync = if durable { "fsync=on" } else { "fsync=off" };
    let log = fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
    command(&programs().join("postgres"), user)
        .arg("-D")
        .arg(folder.join("data"))
        .arg("-k")
        .arg(folder)
        .args([
            "-c",
            "listen_addresses=",
            "-c",
            fsync,
            "-c",
            "shared_buffers=32MB",
            "-c",
            "max_connections=200",
        ])
        .args(["-c", "deadlock_timeout=200ms"])
        .current_dir(folder)
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// Whom PostgreSQL runs as: not root.
fn user(folder: &Path) -> Option<User> {
    let user = Uid::effective().is_root().then(|| {
        let named = |name| User::from_name(name).ok().flatten();
        named("postgres").or_else(|| named("nobody")).expect("root needs a user for PostgreSQL")
    });
    if let Some(user) = &user {
        chown(folder, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
    }
    user
}

impl Cluster {
    /// The one of this process.
    pub fn shared() -> Arc<Self> {
        let mut running = RUNNING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        running.upgrade().unwrap_or_else(|| {
            let cluster = Arc::new(Self::new(false));
            *running = Arc::downgrade(&cluster);
            cluster
        })
    }

    /// Another one, which syncs what it commits if it is to be `durable`.
    pub fn new(durable: bool) -> Self {
        let folder = tempfile::tempdir().unwrap().keep();
        let (crash, stopped) = mpsc::channel::<mpsc::Sender<()>>();
        let (started, ready) = mpsc::channel();
        let place = folder.clone();
        // The server ends with the thread that started it, however that ends.
        let keeper = std::thread::spawn(move || {
            let user = user(&place);
            make(&place, user.as_ref());
            let mut server = start(&place, user.as_ref(), durable);
            started.send(()).unwrap();
            let end = |server: &mut Child| {
                // It tells its processes to end at once, and leaves everything as it is.
                _ = kill(Pid::from_raw(server.id() as i32), Signal::SIGQUIT);
                _ = server.wait();
            };
            while let Ok(done) = stopped.recv() {
                end(&mut server);
                server = start(&place, user.as_ref(), durable);
                _ = done.send(());
            }
            end(&mut server);
            _ = fs::remove_dir_all(&place);
        });
        if ready.recv().is_err() {
            let panic = keeper.join().unwrap_err();
            std::panic::resume_unwind(panic);
        }
        Self { folder, databases: AtomicU32::new(0), crash: Some(crash), keeper: Some(keeper) }
    }

    /// Kills the server with all its processes, and starts it anew on what it left.
    pub fn crash(&self) {
        let (done, crashed) = mpsc::channel();
        self.crash.as_ref().unwrap().send(done).unwrap();
        crashed.recv().unwrap();
    }

    /// The URL of a database.
    pub fn url(&self, database: &str) -> String {
        let host = self.folder.to_string_lossy().replace('/', "%2F");
        format!("postgres://qgjob@{host}/{database}")
    }

    /// Connects beside the store, as soon as the server answers.
    pub async fn connect(&self, database: &str) -> Client {
        loop {
            match tokio_postgres::connect(&self.url(database), NoTls).await {
                Ok((client, connection)) => {
                    tokio::spawn(connection);
                    return client;
                }
                Err(error) if error.as_db_error().is_none_or(|error| error.code().code() == "57P03") => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(error) => panic!("{error:?}"),
            }
        }
    }

    /// A fresh database.
    pub async fn database(self: &Arc<Self>) -> Database {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.connect("postgres").await.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        Database { name, cluster: Arc::clone(self) }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.crash.take());
        if let Some(keeper) = self.keeper.take() {
            _ = keeper.join();
        }
    }
}

impl Database {
    pub fn url(&self) -> String {
        self.cluster.url(&self.name)
    }

    pub async fn connect(&self) -> Client {
        self.cluster.connect(&self.name).await
    }
}
