//! The phone's insides: what is installed, what runs, what files it holds, and which faults it has.

mod apps;
mod clock;
mod packages;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::app::{App, Variables};
use crate::blob::Blob;
use crate::fault::Fault;
use crate::phone::Config;
use crate::truth::{Clear, Truth};
use crate::uia2::Automation;
pub(crate) use packages::{Attempt, InstallSession, Package};

/// Lines that `logcat -d` can still show.
const LOG_LINES: usize = 500;
/// Unknown commands kept for the truth; more than this says nothing new.
const UNKNOWN_LINES: usize = 200;
/// How long a reboot asked for through adb takes.
const ORDINARY_REBOOT: Duration = Duration::from_secs(2);

/// The state of the cable, so to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    Online,
    Offline,
    Unauthorized,
    Unplugged,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LinkState {
    pub(crate) link: Link,
    /// Rises whenever all connections must drop.
    pub(crate) generation: u64,
}

#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) config: Config,
    pub(crate) address: SocketAddr,
    pub(crate) link: watch::Sender<LinkState>,
    pub(crate) log: broadcast::Sender<String>,
    state: Mutex<State>,
}

/// A file outside of packages.
#[derive(Debug, Clone)]
pub(crate) struct File {
    pub(crate) content: Blob,
    pub(crate) mode: u32,
    /// Seconds since 1970.
    pub(crate) modified: u32,
}

/// Faults that stay until they are used up or healed.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    pub(crate) reject: Option<(String, u32)>,
    pub(crate) slow_install: Duration,
    pub(crate) slow_command: Duration,
    pub(crate) corrupt: u32,
    pub(crate) storage_full: bool,
    pub(crate) hang: bool,
    pub(crate) lies: BTreeMap<String, u64>,
}

/// An automation server that runs.
#[derive(Debug)]
pub(crate) struct Instrumentation {
    pub(crate) running: CancellationToken,
    /// The process it runs in, which is that of the package it is aimed at: name and pid.
    pub(crate) process: (String, u32),
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) turned_on: Instant,
    pub(crate) packages: BTreeMap<String, Package>,
    /// Data of packages uninstalled with `-k`.
    kept_data: BTreeMap<String, Variables>,
    pub(crate) files: BTreeMap<String, File>,
    pub(crate) directories: Vec<String>,
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) properties: BTreeMap<String, String>,
    /// Processes that are no app under test: package to pid.
    pub(crate) services: BTreeMap<String, u32>,
    /// Running apps under test, by package.
    pub(crate) apps: BTreeMap<String, App>,
    /// The package on the screen; `None` is the launcher.
    pub(crate) front: Option<String>,
    pub(crate) instrumentation: Option<Instrumentation>,
    pub(crate) automation: Automation,
    pub(crate) install_sessions: BTreeMap<u64, InstallSession>,
    pub(crate) clipboard: String,
    pub(crate) standing: Standing,
    pub(crate) truth: Truth,
    pub(crate) log_lines: VecDeque<String>,
    log: broadcast::Sender<String>,
    booted_at: Instant,
    next_pid: u32,
}

impl Device {
    pub(crate) fn new(config: Config, address: SocketAddr) -> Self {
        let (link, _) = watch::channel(LinkState { link: Link::Online, generation: 0 });
        let (log, _) = broadcast::channel(LOG_LINES);
        let state = Mutex::new(State::new(config.clone(), log.clone()));
        Self { config, address, link, log, state }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds the phone's state")
    }

    /// What the phone says about itself when an adb server connects. The features decide which variants of the
    /// services that server uses.
    pub(crate) fn banner(&self) -> String {
        let state = self.state();
        let property = |name: &str| state.properties.get(name).cloned().unwrap_or_default();
        format!(
            "device::ro.product.name={};ro.product.model={};ro.product.device={};features=shell_v2,cmd,fixed_push_mkdir",
            property("ro.product.name"),
            self.config.model,
            property("ro.product.device"),
        )
    }

    pub(crate) fn drop_connections(&self) {
        self.link.send_modify(|state| state.generation += 1);
    }

    fn set_link(&self, link: Link) {
        self.link.send_if_modified(|state| {
            let changed = state.link != link;
            if changed {
                *state = LinkState { link, generation: state.generation + 1 };
            }
            changed
        });
    }

    pub(crate) fn reboot_as_asked(&self) {
        self.reboot(ORDINARY_REBOOT);
    }

    fn reboot(&self, time: Duration) {
        self.state().reboot(time);
        self.drop_connections();
    }

    pub(crate) fn fault(&self, fault: Fault) {
        tracing::info!(phone = %self.config.name, ?fault, "fault");
        match fault {
            Fault::Unplug => self.set_link(Link::Unplugged),
            Fault::Replug => self.set_link(Link::Online),
            Fault::Offline => self.set_link(Link::Offline),
            Fault::Unauthorized => self.set_link(Link::Unauthorized),
            Fault::Reboot { ms } => self.reboot(Duration::from_millis(ms)),
            Fault::Crash => self.state().crash_front(),
            Fault::KillInstrumentation => self.state().end_instrumentation(),
            Fault::Heal => {
                self.state().standing = Standing::default();
                self.set_link(Link::Online);
            }
            standing => self.state().standing.add(standing),
        }
    }
}

impl Standing {
    fn add(&mut self, fault: Fault) {
        match fault {
            Fault::RejectInstall { message, times } => self.reject = (times > 0).then_some((message, times)),
            Fault::SlowInstall { ms } => self.slow_install = Duration::from_millis(ms),
            Fault::Slow { ms } => self.slow_command = Duration::from_millis(ms),
            Fault::LieAboutVersion { package, version_code: Some(version_code) } => {
                self.lies.insert(package, version_code);
            }
            Fault::LieAboutVersion { package, version_code: None } => {
                self.lies.remove(&package);
            }
            Fault::CorruptInstall { times } => self.corrupt = times,
            Fault::StorageFull => self.storage_full = true,
            Fault::HangInstrumentation => self.hang = true,
            Fault::Unplug
            | Fault::Replug
            | Fault::Offline
            | Fault::Unauthorized
            | Fault::Reboot { .. }
            | Fault::Crash
            | Fault::KillInstrumentation
            | Fault::Heal => unreachable!("handled where they happen"),
        }
    }
}

impl State {
    fn new(config: Config, log: broadcast::Sender<String>) -> Self {
        let now = Instant::now();
        Self {
            properties: properties(&config),
            config,
            turned_on: now,
            booted_at: now,
            packages: BTreeMap::new(),
            kept_data: BTreeMap::new(),
            files: BTreeMap::new(),
            directories: ["", "/data", "/data/local", "/data/local/tmp", "/sdcard", "/sdcard/Download"]
                .map(str::to_owned)
                .to_vec(),
            settings: BTreeMap::new(),
            services: BTreeMap::new(),
            apps: BTreeMap::new(),
            front: None,
            instrumentation: None,
            automation: Automation::default(),
            install_sessions: BTreeMap::new(),
            clipboard: String::new(),
            standing: Standing::default(),
            truth: Truth::default(),
            log_lines: VecDeque::new(),
            log,
            next_pid: 2000,
        }
    }

    pub(crate) fn truth_now(&self) -> Truth {
        let installed = self.packages.values().map(Package::as_installed).collect();
        Truth { installed, ..self.truth.clone() }
    }

    pub(crate) fn booting(&self) -> bool {
        Instant::now() < self.booted_at
    }

    pub(crate) fn property(&self, name: &str) -> String {
        let boot_flag = matches!(name, "sys.boot_completed" | "dev.bootcomplete");
        match name {
            _ if boot_flag && self.booting() => String::new(),
            "init.svc.bootanim" if self.booting() => "running".to_owned(),
            _ => self.properties.get(name).cloned().unwrap_or_default(),
        }
    }

    fn reboot(&mut self, time: Duration) {
        self.end_instrumentation();
        self.apps.clear();
        self.services.clear();
        self.front = None;
        self.install_sessions.clear();
        self.log_lines.clear();
        self.booted_at = Instant::now() + time;
        self.truth.reboots += 1;
    }

    fn crash_front(&mut self) {
        if let Some(package) = self.front.clone() {
            self.crash(&package);
        }
    }

    pub(crate) fn crash(&mut self, package: &str) {
        if self.apps.remove(package).is_some() {
            let order = self.truth.next();
            self.truth.crashes.push(Clear { order, package: package.to_owned() });
            self.note('E', "AndroidRuntime", &format!("FATAL EXCEPTION: main Process: {package}"));
        }
        self.leave(package);
    }

    pub(crate) fn end_instrumentation(&mut self) {
        if let Some(ended) = self.instrumentation.take() {
            ended.running.cancel();
        }
        self.automation = Automation::default();
    }

    pub(crate) fn pid(&mut self) -> u32 {
        self.next_pid += 1;
        self.next_pid
    }

    /// Writes a line to the phone's log.
    pub(crate) fn note(&mut self, level: char, tag: &str, text: &str) {
        let line = format!("{} 1000 1000 {level} {tag}: {text}", clock::log_stamp(self.now()));
        tracing::debug!(phone = %self.config.name, "{line}");
        if self.log_lines.len() == LOG_LINES {
            self.log_lines.pop_front();
        }
        self.log_lines.push_back(line.clone());
        // Nobody need be watching.
        self.log.send(line).ok();
    }

    pub(crate) fn unknown(&mut self, what: &str) {
        tracing::warn!(phone = %self.config.name, "not simulated: {what}");
        if self.truth.unknown.len() < UNKNOWN_LINES {
            self.truth.unknown.push(what.to_owned());
        }
    }

    /// Time on the phone's clock, since 1970.
    pub(crate) fn now(&self) -> Duration {
        Duration::from_secs(self.config.clock_starts_at) + self.turned_on.elapsed()
    }

    pub(crate) fn date_time(&self, at: Duration) -> String {
        clock::date_time(at)
    }

    pub(crate) fn now_seconds(&self) -> u32 {
        u32::try_from(self.now().as_secs()).unwrap_or(u32::MAX)
    }

    /// The file at a path; the APKs of packages are files too.
    pub(crate) fn file(&self, path: &str) -> Option<File> {
        if let Some(file) = self.files.get(path) {
            return Some(file.clone());
        }
        let package = self.packages.values().find(|package| package.paths().any(|known| known.0 == path))?;
        let content = package.paths().find(|known| known.0 == path)?.1.clone();
        let modified = u32::try_from(package.updated.as_secs()).unwrap_or(u32::MAX);
        Some(File { content, mode: 0o644, modified })
    }

    pub(crate) fn is_directory(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let below = format!("{path}/");
        self.directories.iter().any(|known| known == path)
            || self.files.keys().any(|file| file.starts_with(&below))
    }

    /// Names directly inside a directory, with the file for those that are files.
    pub(crate) fn list(&self, directory: &str) -> BTreeMap<String, Option<File>> {
        let below = format!("{}/", directory.trim_end_matches('/'));
        let mut names = BTreeMap::new();
        for (path, file) in &self.files {
            match path.strip_prefix(&below).map(|rest| rest.split_once('/')) {
                Some(Some((name, _))) => names.insert(name.to_owned(), None),
                Some(None) => names.insert(path[below.len()..].to_owned(), Some(file.clone())),
                None => continue,
            };
        }
        for path in &self.directories {
            if let Some(name) =
                path.strip_prefix(&below).filter(|name| !name.is_empty() && !name.contains('/'))
            {
                names.insert(name.to_owned(), None);
            }
        }
        names
    }
}

fn properties(config: &Config) -> BTreeMap<String, String> {
    let sdk = config.sdk.to_string();
    let brand = config.manufacturer.to_lowercase();
    [
        ("ro.product.model", config.model.as_str()),
        ("ro.product.manufacturer", &config.manufacturer),
        ("ro.product.brand", &brand),
        ("ro.product.name", "simulated_phone"),
        ("ro.product.device", "simulated"),
        ("ro.product.cpu.abi", "x86_64"),
        ("ro.product.cpu.abilist", "x86_64,arm64-v8a"),
        ("ro.product.locale", "en-US"),
        ("ro.build.version.sdk", &sdk),
        ("ro.build.version.release", &config.release),
        ("ro.build.version.preview_sdk", "0"),
        ("ro.build.characteristics", "emulator"),
        ("ro.build.type", "userdebug"),
        ("ro.debuggable", "1"),
        ("ro.serialno", &config.serial),
        ("ro.kernel.qemu", "1"),
        ("ro.boot.qemu", "1"),
        ("ro.boot.qemu.avd_name", &config.name),
        ("ro.sf.lcd_density", "420"),
        ("persist.sys.locale", "en-US"),
        ("persist.sys.timezone", "UTC"),
        ("sys.boot_completed", "1"),
        ("dev.bootcomplete", "1"),
        ("init.svc.bootanim", "stopped"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}
