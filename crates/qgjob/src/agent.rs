//! The agent: owns devices and runs attempts on them.
//!
//! The story, file by file: [`fleet`] finds devices, [`worker`] reports them and claims work, [`attempt`] runs one
//! attempt: it fetches and proves the build ([`install`]), prepares the project ([`workspace`]), opens a [`gateway`]
//! to the device's warm [`appium`], lets the [`runner`] work, and tells the server through [`link`].

pub mod adb;
pub mod apk;
pub mod appium;
mod attempt;
mod files;
mod fleet;
pub mod gateway;
mod hold;
mod install;
mod kit;
pub mod link;
mod log;
mod ownership;
pub mod process;
pub mod runner;
pub mod sdk;
pub mod shims;
mod upload;
mod worker;
pub mod workspace;

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use qgjob_core::api::agents::Registration;
use qgjob_core::clock::Clock;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

pub use fleet::Choice;

use adb::Adb;
use fleet::Fleet;
use kit::Kit;
use link::Link;
use ownership::Ownership;
use worker::{End, Worker};

/// What an agent needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its name: one agent of a name at a time.
    pub name: String,
    /// The server.
    pub server: String,
    /// A registration token, for the first start.
    pub registration_token: Option<String>,
    /// What must survive a restart: the session, what to verify, records of processes. One agent at a time.
    pub state_dir: PathBuf,
    /// What can be made again: builds, projects, npm packages, Appium.
    pub cache_dir: PathBuf,
    /// Port of the adb server.
    pub adb_port: u16,
    /// Addresses for `adb connect`, tried again whenever one is missing from the list of devices.
    pub connect: Vec<String>,
    /// Which devices to offer.
    pub choice: Choice,
    /// How often to call the server.
    pub heartbeat: Duration,
    /// Beyond this, cached files that were used longest ago are removed: once for projects and their packages, once for
    /// builds and bundles.
    pub cache_bytes: u64,
}

/// Two ways to stop.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Finish what runs, take nothing new.
    pub drain: CancellationToken,
    /// Give back what runs, now.
    pub stop: CancellationToken,
}

/// The session of a registered agent, kept in the state folder.
#[derive(Serialize, Deserialize)]
struct Session {
    server: String,
    token: String,
}

/// Runs an agent until it is shut down.
///
/// # Errors
/// When tools are missing, the state folder is in use, or the server does not register the agent.
pub async fn run(config: Config, clock: Arc<dyn Clock>, shutdown: Shutdown) -> anyhow::Result<()> {
    process::adopt_orphans();
    let state = State::open(&config.state_dir)?;
    state.clean()?;
    let kit = Arc::new(open_kit(&config, &state, clock.clone()).await?);
    let ownership = Ownership::open(config.adb_port).context("cannot make sure of owning devices alone")?;
    let notebook = state.dir.join("ledger.json");
    let fleet = Fleet::new(kit.adb.clone(), ownership, config.choice.clone(), notebook, clock);
    let following = [
        tokio::spawn(fleet.clone().follow()),
        tokio::spawn(keep_connected(kit.adb.clone(), config.connect.clone())),
        tokio::spawn(list_emulators(fleet.clone(), kit.sdk.clone())),
    ];
    let end = work(&config, &state, &kit, &fleet, &shutdown).await;
    for task in following {
        task.abort();
    }
    for phone in fleet.all() {
        if let Some(appium) = phone.appium.lock().await.take()
            && let Err(error) = appium.stop().await
        {
            tracing::warn!(%error, serial = phone.serial, "cannot stop Appium");
        }
    }
    end
}

async fn work(
    config: &Config,
    state: &State,
    kit: &Arc<Kit>,
    fleet: &Arc<Fleet>,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let mut registration = config.registration_token.clone();
    loop {
        let link = match state.session(&config.server)? {
            Some(session) => Link::new(&config.server, &session.token)?,
            None => match registration.take() {
                Some(token) => register(config, state, &token, &shutdown.drain).await?,
                None => bail!(
                    "this agent is not registered with {}: make a token with `qgjob agent token create` and pass it \
                     with --registration-token-file",
                    config.server
                ),
            },
        };
        let worker = Worker::new(link, fleet.clone(), kit.clone(), shutdown.stop.clone());
        match worker.run(config.heartbeat, shutdown.drain.clone()).await {
            End::Left => return Ok(()),
            End::Unknown => state.forget_session()?,
        }
    }
}

async fn register(
    config: &Config,
    state: &State,
    token: &str,
    over: &CancellationToken,
) -> anyhow::Result<Link> {
    let link = Link::new(&config.server, token)?;
    let body = Registration { name: config.name.clone(), version: env!("CARGO_PKG_VERSION").to_owned() };
    let registered =
        link::persist(over, || link.register(&body)).await.context("cannot register this agent")?;
    state.keep_session(&Session { server: config.server.clone(), token: registered.token.clone() })?;
    tracing::info!(agent = %registered.agent_id, name = config.name, "registered");
    Ok(link.with_token(&registered.token))
}

async fn open_kit(config: &Config, state: &State, clock: Arc<dyn Clock>) -> anyhow::Result<Kit> {
    let sdk = sdk::Sdk::find(&sdk::Host::from_env(), &state.dir.join("android-sdk"))?;
    let adb = Adb::new(config.adb_port, &sdk.adb);
    adb.start_server().await?;
    let settings = workspace::Settings { most_bytes: config.cache_bytes, ..workspace::Settings::default() };
    let workspaces = workspace::Cache::open(&config.cache_dir.join("projects"), settings).await?;
    Ok(Kit {
        adb,
        sdk,
        workspaces,
        files: files::Files::open(config.cache_dir.join("files"), config.cache_bytes)?,
        cache: config.cache_dir.clone(),
        attempts: state.attempts.clone(),
        records: state.records.clone(),
        logs: state.logs.clone(),
        scratch: state.scratch.clone(),
        clock,
    })
}

/// Repeats `adb connect` for addresses that are not in the list.
async fn keep_connected(adb: Adb, addresses: Vec<String>) {
    if addresses.is_empty() {
        return;
    }
    loop {
        let listed = adb.devices().await.unwrap_or_default();
        for address in &addresses {
            let there = listed.iter().any(|listed| listed.serial == *address && listed.ready());
            if !there && let Err(error) = adb.connect(address).await {
                tracing::debug!(%error, address, "cannot connect to a device");
            }
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

async fn list_emulators(fleet: Arc<Fleet>, sdk: sdk::Sdk) {
    let mut changes = fleet.changes();
    let mut listed = Vec::new();
    loop {
        let names = fleet.emulators();
        if names != listed {
            match sdk.list_avds(&names) {
                Ok(()) => listed = names,
                Err(error) => tracing::warn!(%error, "cannot list the emulators for AppWright"),
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// The folder of what must survive a restart.
struct State {
    dir: PathBuf,
    attempts: PathBuf,
    records: PathBuf,
    logs: PathBuf,
    scratch: PathBuf,
    _lock: std::fs::File,
}

impl State {
    fn open(dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let dir = dir.canonicalize()?;
        let lock = std::fs::File::create(dir.join("agent.lock"))?;
        if lock.try_lock().is_err() {
            bail!("another agent uses {}: give this one its own --state-dir", dir.display());
        }
        let folder = |name: &str| -> anyhow::Result<PathBuf> {
            let folder = dir.join(name);
            std::fs::create_dir_all(&folder)?;
            Ok(folder)
        };
        let (attempts, records, logs) = (folder("attempts")?, folder("processes")?, folder("logs")?);
        let scratch = folder("scratch")?;
        Ok(Self { dir, attempts, records, logs, scratch, _lock: lock })
    }

    /// Ends and removes what a crashed predecessor left: processes first, since they may still write.
    fn clean(&self) -> anyhow::Result<()> {
        let ended =
            process::end_leftovers(&self.records).context("cannot end what an agent left behind here")?;
        if ended > 0 {
            tracing::warn!(ended, "ended process groups that a crashed agent had left behind");
        }
        for left in [&self.attempts, &self.scratch] {
            std::fs::remove_dir_all(left).with_context(|| format!("cannot empty {}", left.display()))?;
            std::fs::create_dir(left)?;
        }
        Ok(())
    }

    fn session(&self, server: &str) -> anyhow::Result<Option<Session>> {
        let Ok(text) = std::fs::read(self.session_file()) else { return Ok(None) };
        let session: Session =
            serde_json::from_slice(&text).context("session.json cannot be read: remove it")?;
        // A token is sent only to the server that gave it.
        Ok(Some(session).filter(|session| session.server == server))
    }

    fn keep_session(&self, session: &Session) -> anyhow::Result<()> {
        let half = self.session_file().with_extension("half");
        let file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&half)?;
        serde_json::to_writer(&file, session)?;
        file.sync_all()?;
        std::fs::rename(half, self.session_file())?;
        Ok(())
    }

    fn forget_session(&self) -> anyhow::Result<()> {
        std::fs::remove_file(self.session_file()).context("cannot remove the old session")
    }

    fn session_file(&self) -> PathBuf {
        self.dir.join("session.json")
    }
}
