//! One warm Appium server per device.
//!
//! AppWright would start its own server for every test, on one fixed port. Here each device has a server on
//! a port of its own, bound to that device, that lives as long as the agent and serves one attempt after
//! the other. It is replaced when it dies, stops answering, or cannot end its sessions.

pub mod home;

use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::process::{self, Ladder, Launch, Output, Process};
use super::sdk::Sdk;
use home::AppiumHome;

/// How long a server may take to answer for the first time. 3 s on an idle machine, 10 s on a busy one.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long a running server may take to say that it is well.
const HEALTH_LIMIT: Duration = Duration::from_secs(5);

/// A log larger than this is emptied between attempts; a day of tests writes more.
const MAX_LOG: u64 = 32 << 20;

const STOP: Ladder = Ladder { interrupt: None, terminate: Duration::from_secs(5) };

/// Why there is no Appium for a device.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("Appium for {serial}: {source}")]
    Process { serial: String, source: process::Error },
    #[error("Appium for {serial} ended before it was ready ({status}); the end of its log: {log}")]
    Died { serial: String, status: String, log: String },
    #[error("Appium for {serial} was not ready after {} s; the end of its log: {log}", after.as_secs())]
    NotReady { serial: String, after: Duration, log: String },
    #[error("Appium for {serial}: {source}")]
    Io { serial: String, source: io::Error },
}

/// What the servers of all devices have in common.
#[derive(Debug, Clone)]
pub struct Options {
    pub home: AppiumHome,
    pub sdk: Sdk,
    /// The adb server that serves the device. Appium insists on being told.
    pub adb_port: u16,
    /// A folder for log files, which must exist.
    pub logs: PathBuf,
    /// The folder of [`process::end_leftovers`], which must exist.
    pub records: PathBuf,
    /// A folder for temporary files, which must exist. Each server has one of its own in it, removed when it stops; what
    /// a crashed agent left is removed by its successor.
    pub scratch: PathBuf,
}

/// The Appium server of one device.
#[derive(Debug)]
pub struct Appium {
    serial: String,
    options: Options,
    log: PathBuf,
    running: Running,
    client: reqwest::Client,
    restarts: u32,
}

#[derive(Debug)]
struct Running {
    process: Process,
    port: u16,
    /// The server leaves folders behind with every start. Declared after the process, so removed after its end.
    _temporary: TempDir,
}

impl Appium {
    /// Starts a server for the device `serial` and waits until it answers.
    pub async fn start(serial: &str, options: &Options) -> Result<Appium, Error> {
        let file = serial.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        let log = options.logs.join(format!("{file}.log"));
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(HEALTH_LIMIT)
            .build()
            .expect("a client without proxy and certificates of its own can always be built");
        let running = launch(serial, options, &log, &client).await?;
        Ok(Appium { serial: serial.to_owned(), options: options.clone(), log, running, client, restarts: 0 })
    }

    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// Changes with every restart.
    pub fn port(&self) -> u16 {
        self.running.port
    }

    /// How often the server had to be replaced.
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    pub fn process_id(&self) -> u32 {
        self.running.process.id()
    }

    /// Whether it runs and answers within 5 s.
    pub async fn healthy(&mut self) -> bool {
        matches!(self.running.process.exited(), Ok(None)) && answers(&self.client, self.running.port).await
    }

    /// To be called before each attempt: replaces a server that is not well, and empties a log that has
    /// grown too large.
    pub async fn ensure_ready(&mut self) -> Result<(), Error> {
        if !self.healthy().await {
            tracing::warn!(serial = self.serial, "Appium does not answer and is replaced");
            return self.restart().await;
        }
        let trim = || -> io::Result<()> {
            if fs::metadata(&self.log)?.len() > MAX_LOG {
                // The server appends, so it goes on at the new end.
                fs::OpenOptions::new().write(true).open(&self.log)?.set_len(0)?;
            }
            Ok(())
        };
        trim().map_err(|source| Error::Io { serial: self.serial.clone(), source })
    }

    /// Ends the server, with the sessions it could not end itself, and starts another.
    pub async fn restart(&mut self) -> Result<(), Error> {
        self.running
            .process
            .stop(STOP)
            .await
            .map_err(|source| Error::Io { serial: self.serial.clone(), source })?;
        self.running = launch(&self.serial, &self.options, &self.log, &self.client).await?;
        self.restarts += 1;
        Ok(())
    }

    pub async fn stop(mut self) -> Result<(), Error> {
        let stopped = self.running.process.stop(STOP).await;
        stopped.map(drop).map_err(|source| Error::Io { serial: self.serial, source })
    }

    /// Where the log ends now, for [`Appium::log_since`].
    pub fn log_position(&self) -> u64 {
        fs::metadata(&self.log).map_or(0, |m| m.len())
    }

    /// The log from `position` on, at most its last `limit` bytes: what belongs to one attempt.
    pub fn log_since(&self, position: u64, limit: u64) -> io::Result<Vec<u8>> {
        read_tail(&self.log, position, limit)
    }
}

async fn launch(
    serial: &str,
    options: &Options,
    log: &Path,
    client: &reqwest::Client,
) -> Result<Running, Error> {
    let io = |source| Error::Io { serial: serial.to_owned(), source };
    let began = fs::metadata(log).map_or(0, |m| m.len());
    let tail = || {
        let bytes = read_tail(log, began, 2000).unwrap_or_default();
        String::from_utf8_lossy(&bytes).trim().to_owned()
    };
    // Asked for and given back: another program may take the port in between, hence the second try.
    let mut tries = 0;
    loop {
        tries += 1;
        let port = free_port().map_err(io)?;
        let capabilities = serde_json::json!({ "appium:udid": serial, "appium:adbPort": options.adb_port });
        // The name must not contain the server's own: projects of some AppWright versions kill by that word.
        let temporary =
            tempfile::Builder::new().prefix("device-").tempdir_in(&options.scratch).map_err(io)?;
        let mut process = Launch::new("node")
            .args([options.home.server().into_os_string()])
            .args(["server", "--address", "127.0.0.1", "--port", &port.to_string(), "--log-no-colors"])
            .args(["--default-capabilities", &capabilities.to_string()])
            .dir(options.home.dir())
            .envs(options.sdk.env())
            .env("APPIUM_HOME", options.home.dir().display().to_string())
            .env("ANDROID_ADB_SERVER_PORT", options.adb_port.to_string())
            .env("TMPDIR", temporary.path().display().to_string())
            .output(Output::File(log.to_path_buf()))
            .recorded_in(&options.records)
            .spawn()
            .map_err(|source| Error::Process { serial: serial.to_owned(), source })?;
        let deadline = Instant::now() + START_LIMIT;
        let status = loop {
            if let Some(status) = process.exited().map_err(io)? {
                break status;
            }
            if answers(client, port).await {
                return Ok(Running { process, port, _temporary: temporary });
            }
            if Instant::now() > deadline {
                process.stop(STOP).await.map_err(io)?;
                return Err(Error::NotReady { serial: serial.to_owned(), after: START_LIMIT, log: tail() });
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let log = tail();
        if tries < 3 && log.contains("EADDRINUSE") {
            continue;
        }
        return Err(Error::Died { serial: serial.to_owned(), status: status.to_string(), log });
    }
}

async fn answers(client: &reqwest::Client, port: u16) -> bool {
    let answer = client.get(format!("http://127.0.0.1:{port}/status")).send().await;
    answer.is_ok_and(|a| a.status().is_success())
}

/// A TCP port that nobody listens on at this moment.
pub(super) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn read_tail(path: &Path, position: u64, limit: u64) -> io::Result<Vec<u8>> {
    let mut file = fs::File::open(path)?;
    let end = file.metadata()?.len();
    // A log that was emptied since is read from its beginning.
    let from = if position > end { 0 } else { position };
    file.seek(SeekFrom::Start(from.max(end.saturating_sub(limit))))?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}
