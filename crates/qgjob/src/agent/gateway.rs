//! The WebDriver gateway of one attempt: what AppWright takes for its Appium server.
//!
//! It stands between the runner and the device's Appium, and decides what the runner cannot be trusted to
//! know: which device is used, whether the app is installed, and that no session outlives the attempt.
//! AppWright asks for a full reset with every test, which reinstalls the app each time; the gateway rewrites
//! that to the reset the job asked for. Everything else passes unchanged.
//!
//! A killed runner leaves its session behind. Appium would end it a minute later, in the middle of the next
//! job. Therefore [`Gateway::close`] ends what is left, and says if it could not.

mod capabilities;
mod proxy;
mod sessions;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use capabilities::Reset;

use super::adb::Adb;

/// What a gateway must know.
#[derive(Debug, Clone)]
pub struct Config {
    pub adb: Adb,
    pub serial: String,
    /// Where the device's Appium listens on 127.0.0.1.
    pub appium_port: u16,
    pub reset: Reset,
    /// Where last screenshots are put. Must exist.
    pub artifacts: PathBuf,
    /// How long Appium may take to create a session. Afterwards the device's Appium counts as hung: the
    /// client is told not to try again. Must be below the client's own 120 s, after which it tries again
    /// three times.
    pub create_limit: Duration,
}

/// What has gone through a gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    pub sessions_created: u32,
    /// Why sessions could not be created; the first 20 reasons.
    pub sessions_failed: Vec<String>,
    pub requests: u64,
    pub request_bytes: u64,
    pub response_bytes: u64,
    /// The screens before the end of each session, oldest first.
    pub screenshots: Vec<PathBuf>,
    /// Set once Appium took longer than [`Config::create_limit`], or did not answer at all.
    pub appium_hung: bool,
    /// Proof that the device, its automation server or its Appium broke under a test that still used it. What a test
    /// brings about itself, or what is only the echo of a session that is being ended, is no proof.
    pub broken: Option<String>,
    /// Why the device was given up, if it was.
    pub device_lost: Option<String>,
}

/// How a gateway was closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    pub facts: Facts,
    /// Sessions the runner had left and the gateway ended.
    pub ended: u32,
    /// Sessions that could not be ended, with reasons.
    pub failed: Vec<String>,
}

impl Closing {
    /// Whether the device's Appium must be restarted before the device is used again: a session may live
    /// on in it, and would interfere with the next attempt when it ends.
    pub fn needs_new_appium(&self) -> bool {
        !self.failed.is_empty() || self.facts.appium_hung
    }
}

/// A running gateway. Dropping it closes the port but leaves sessions: call [`Gateway::close`].
#[derive(Debug)]
pub struct Gateway {
    shared: Arc<Shared>,
    address: SocketAddr,
    server: JoinHandle<()>,
}

/// Why commands are no longer passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Halt {
    DeviceLost(String),
    Closed,
}

impl Halt {
    fn reason(&self) -> String {
        match self {
            Halt::DeviceLost(reason) => format!("the device was lost: {reason}"),
            Halt::Closed => "the attempt is over".to_owned(),
        }
    }
}

#[derive(Debug)]
struct Shared {
    config: Config,
    client: reqwest::Client,
    book: Mutex<Book>,
    halt: watch::Sender<Option<Halt>>,
    /// Held while a session is created: a device has room for one.
    creating: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Book {
    sessions: Vec<Session>,
    facts: Facts,
    commands: u64,
}

#[derive(Debug)]
struct Session {
    id: String,
    /// Its end was asked for: what its commands are answered from then on says nothing about the device.
    ending: bool,
    /// Commands that are not answered yet, and since when.
    open: BTreeMap<u64, (String, Instant)>,
}

impl Gateway {
    /// Opens a gateway on a free port of 127.0.0.1.
    pub async fn open(config: Config) -> std::io::Result<Gateway> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let client = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(Duration::from_secs(5))
            .build()
            .map_err(std::io::Error::other)?;
        let shared = Arc::new(Shared {
            config,
            client,
            book: Mutex::default(),
            halt: watch::Sender::new(None),
            creating: tokio::sync::Mutex::new(()),
        });
        let router = axum::Router::new().fallback(proxy::handle).with_state(shared.clone());
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the WebDriver gateway ended");
            }
        });
        Ok(Gateway { shared, address, server })
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// A copy of what has been counted so far.
    pub fn facts(&self) -> Facts {
        self.shared.book().facts.clone()
    }

    /// Whether a session is open, so that the device is in the hands of a test.
    pub fn in_session(&self) -> bool {
        !self.shared.book().sessions.is_empty()
    }

    /// To be called when the device has left the host. Commands under way and all later ones are answered at
    /// once with an error that the client does not try again.
    pub fn device_lost(&self, reason: &str) {
        self.shared.book().facts.device_lost.get_or_insert_with(|| reason.to_owned());
        self.shared.halt.send_if_modified(|halt| {
            let first = halt.is_none();
            if first {
                *halt = Some(Halt::DeviceLost(reason.to_owned()));
            }
            first
        });
    }

    /// Refuses whatever comes from now on and ends the sessions that are left, within `limit` altogether.
    pub async fn close(self, limit: Duration) -> Closing {
        self.shared.halt.send_replace(Some(Halt::Closed));
        let (ended, failed) = sessions::end_all(&self.shared, limit).await;
        let facts = self.facts();
        Closing { facts, ended, failed }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.shared.halt.send_replace(Some(Halt::Closed));
        self.server.abort();
    }
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("nothing panics while the book is open")
    }

    fn upstream(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.config.appium_port)
    }

    fn halted(&self) -> Option<Halt> {
        self.halt.borrow().clone()
    }

    /// Resolves as soon as commands are no longer to be passed on.
    async fn until_halted(&self) -> Halt {
        let mut halt = self.halt.subscribe();
        let reason = halt.wait_for(Option::is_some).await.expect("the sender is kept beside the receiver");
        reason.clone().expect("waited for")
    }
}
