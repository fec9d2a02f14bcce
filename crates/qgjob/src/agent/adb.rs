//! The host's adb server, spoken to over its smart socket: which devices are there, what is on them.
//!
//! Every call opens one TCP connection, as the `adb` program does, without starting a process. If no server
//! listens, one is started. The protocol is described in AOSP `packages/modules/adb/SERVICES.TXT`.

mod facts;
mod install;
mod package;
mod shell;
mod socket;
mod track;

use std::path::PathBuf;
use std::time::Duration;

pub use facts::DeviceFacts;
pub use install::{Advice, InstallError, InstallFailure};
pub use package::Installed;
pub use shell::Output;
pub use track::{DeviceLists, Listed};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::process::{self, Launch};
use socket::Socket;

/// The port every adb server has unless told otherwise.
const DEFAULT_PORT: u16 = 5037;

/// The longest a short question to a device may take: `getprop`, `pm path`, `am force-stop`.
const SHORT: Duration = Duration::from_secs(15);

/// The longest a slow question may take: hashing or clearing a large app, a screenshot of a busy device.
const LONG: Duration = Duration::from_secs(60);

/// What can go wrong between the agent and a device.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no adb server on 127.0.0.1:{port}, and `{program} start-server` did not help: {reason}")]
    NoServer { port: u16, program: String, reason: String },
    #[error("device {serial} is gone: {reason}")]
    DeviceGone { serial: String, reason: String },
    #[error("the adb server refused `{service}`: {reason}")]
    Refused { service: String, reason: String },
    #[error("`{what}` took longer than {} s", after.as_secs())]
    Timeout { what: String, after: Duration },
    #[error("`{command}` failed on {serial} with code {code}: {output}")]
    Command { serial: String, command: String, code: u8, output: String },
    #[error("adb speaks in an unknown way: {0}")]
    Protocol(String),
    #[error("connection to the adb server: {0}")]
    Io(#[from] std::io::Error),
    #[error("`{0}` is not the name of an Android package")]
    PackageName(String),
}

impl Error {
    /// Whether the device has left, as opposed to being there and refusing.
    pub fn is_device_gone(&self) -> bool {
        matches!(self, Error::DeviceGone { .. })
    }
}

/// An adb server of this host. Cheap to clone; holds no connection.
#[derive(Debug, Clone)]
pub struct Adb {
    port: u16,
    program: PathBuf,
}

impl Adb {
    /// The server on `port`, to be started with `program` (a path, or a name on `PATH`) when it is not there.
    pub fn new(port: u16, program: impl Into<PathBuf>) -> Adb {
        Adb { port, program: program.into() }
    }

    /// The server that `adb` on this host would use: `ANDROID_ADB_SERVER_PORT`, or 5037.
    pub fn from_env() -> Adb {
        let port = std::env::var("ANDROID_ADB_SERVER_PORT").ok().and_then(|p| p.parse().ok());
        Adb::new(port.unwrap_or(DEFAULT_PORT), "adb")
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts the server unless one listens already.
    ///
    /// # Errors
    /// [`Error::NoServer`] with what the `adb` program said.
    pub async fn start_server(&self) -> Result<(), Error> {
        let failed = |reason: String| Error::NoServer {
            port: self.port,
            program: self.program.display().to_string(),
            reason,
        };
        let port = self.port.to_string();
        let out = Launch::new(&self.program)
            .args(["-P", &port, "start-server"])
            .finish(LONG)
            .await
            .map_err(|e: process::Error| failed(e.to_string()))?;
        // Whoever else starts it at the same moment makes ours fail, and that is as good.
        if out.status.success() || TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&out.stderr);
        let lines: Vec<&str> = said.lines().filter(|l| !l.trim().is_empty()).collect();
        Err(failed(lines[lines.len().saturating_sub(5)..].join("; ")))
    }

    /// The internal version of the server, 41 for every release since 2019.
    pub async fn version(&self) -> Result<u32, Error> {
        let text = self.ask("host:version").await?;
        u32::from_str_radix(&text, 16).map_err(|_| Error::Protocol(format!("version {text:?}")))
    }

    /// The devices as the server lists them now.
    pub async fn devices(&self) -> Result<Vec<Listed>, Error> {
        Ok(track::parse(&self.ask("host:devices").await?))
    }

    /// Follows the device list until dropped. Lost connections are taken up again.
    pub fn track_devices(&self) -> DeviceLists {
        DeviceLists::start(self.clone())
    }

    /// Connects the server to a device at `address` (`host:port`), which is then its serial.
    ///
    /// # Errors
    /// [`Error::Refused`] if nothing there answers as a device. The adb server reports that as success.
    pub async fn connect(&self, address: &str) -> Result<(), Error> {
        let service = format!("host:connect:{address}");
        let said = self.ask(&service).await?;
        if said.starts_with("connected to") || said.starts_with("already connected to") {
            return Ok(());
        }
        Err(Error::Refused { service, reason: said })
    }

    /// Forgets a device that [`Adb::connect`] brought in. Fails if the server does not know it.
    pub async fn disconnect(&self, address: &str) -> Result<(), Error> {
        self.ask(&format!("host:disconnect:{address}")).await.map(drop)
    }

    /// Waits until the device leaves, for at most `timeout`. Returns whether it left.
    pub async fn wait_until_gone(&self, serial: &str, timeout: Duration) -> Result<bool, Error> {
        let mut lists = self.track_devices();
        let gone = async {
            while let Some(list) = lists.next().await {
                if !list.iter().any(|d| d.serial == serial && d.ready()) {
                    return true;
                }
            }
            true
        };
        Ok(tokio::time::timeout(timeout, gone).await.unwrap_or(false))
    }

    /// The screen as a PNG.
    pub async fn screencap(&self, serial: &str) -> Result<Vec<u8>, Error> {
        let png = within("screencap", LONG, async {
            let mut png = Vec::new();
            self.exec(serial, "screencap -p").await?.read_to_end(&mut png).await?;
            Ok(png)
        })
        .await?;
        if !png.starts_with(b"\x89PNG\r\n\x1a\n") {
            let said = String::from_utf8_lossy(&png[..png.len().min(200)]).into_owned();
            return Err(Error::Protocol(format!("screencap answered {said:?}")));
        }
        Ok(png)
    }

    /// Starts a command on the device without a terminal and returns its raw stdin and stdout. It ends with
    /// the stream, which also ends when the device leaves. Reading has no limit of time: that is the caller's.
    pub async fn exec(&self, serial: &str, command: &str) -> Result<TcpStream, Error> {
        within(command, SHORT, async {
            let mut socket = Socket::to_device(self, serial).await?;
            socket.request(&format!("exec:{command}")).await?;
            Ok(socket.into_stream())
        })
        .await
    }

    /// One question to the server itself, one text back.
    async fn ask(&self, service: &str) -> Result<String, Error> {
        within(service, SHORT, async {
            let mut socket = Socket::open(self).await?;
            socket.request(service).await?;
            socket.read_text().await
        })
        .await
    }
}

/// Bounds a conversation: nothing that talks to a device may wait for ever.
async fn within<T>(
    what: &str,
    limit: Duration,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or_else(|_| Err(Error::Timeout { what: what.to_owned(), after: limit }))
}
