//! A phone with an adb server of its own.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use simulated_android::{Config, Fault, Phone};
use tempfile::TempDir;

/// What slow machines may take for something that is quick.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub const APP: &str = "dev.qgjob.fixture";
pub const BASE_APK: &str = "/data/app/dev.qgjob.fixture/base.apk";

pub struct World {
    pub phone: Phone,
    pub adb: Adb,
}

/// A private adb server and the client for it.
pub struct Adb {
    pub port: u16,
    home: TempDir,
}

#[derive(Debug)]
pub struct Answer {
    pub code: i32,
    pub bytes: Vec<u8>,
    pub out: String,
    pub err: String,
}

impl Answer {
    /// Both streams: adb is not of one mind about which of them gets what.
    pub fn all(&self) -> String {
        format!("{}{}", self.out, self.err)
    }
}

pub fn fixture(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    path.to_str().unwrap().to_owned()
}

pub fn demo() -> String {
    fixture("demo-1.4.2.apk")
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Adb {
    pub fn start() -> Self {
        Self::start_on(free_port())
    }

    pub fn start_on(port: u16) -> Self {
        let adb = Self { port, home: tempfile::tempdir().unwrap() };
        let started = adb.plain(&["start-server"]);
        assert_eq!(started.code, 0, "{started:?}");
        adb
    }

    /// Runs adb without naming a phone. It blocks, which the test's other threads make up for.
    pub fn plain(&self, args: &[&str]) -> Answer {
        let output = Command::new("adb")
            .args(["-P", &self.port.to_string()])
            .args(args)
            .env("HOME", self.home.path())
            .env_remove("ANDROID_SERIAL")
            .stdin(Stdio::null())
            .output()
            .expect("these tests need adb");
        Answer {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).replace('\r', ""),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
            bytes: output.stdout,
        }
    }

    /// The state of a phone in `adb devices`, or `None` when it is not listed.
    pub fn state(&self, serial: &str) -> Option<String> {
        let listed = self.plain(&["devices"]).out;
        listed.lines().find_map(|line| Some(line.strip_prefix(serial)?.strip_prefix('\t')?.to_owned()))
    }
}

impl Drop for Adb {
    fn drop(&mut self) {
        self.plain(&["kill-server"]);
    }
}

impl World {
    pub async fn new() -> Self {
        Self::with(Config::default()).await
    }

    pub async fn with(config: Config) -> Self {
        let phone = Phone::start(config).await.unwrap();
        let world = Self { phone, adb: Adb::start() };
        world.connect();
        world
    }

    pub fn serial(&self) -> String {
        self.phone.address().to_string()
    }

    pub fn connect(&self) {
        let connected = || {
            self.adb.plain(&["connect", &self.serial()]);
            self.adb.state(&self.serial()).as_deref() == Some("device")
        };
        eventually("the phone is connected", connected);
    }

    pub fn adb(&self, args: &[&str]) -> Answer {
        self.adb.plain(&[&["-s", &self.serial()], args].concat())
    }

    pub fn shell(&self, command: &str) -> Answer {
        self.adb(&["shell", command])
    }

    pub fn install(&self, apk: &str) -> Answer {
        self.adb(&["install", "-r", apk])
    }

    pub fn fault(&self, fault: Fault) {
        self.phone.fault(fault);
    }

    /// The screen as XML.
    pub fn screen(&self) -> String {
        self.shell("uiautomator dump /dev/tty").out
    }

    pub fn launch(&self) {
        let started = self.shell("am start -W -n dev.qgjob.fixture/.MainActivity -S");
        assert!(started.out.contains("Status: ok"), "{started:?}");
    }
}

/// Waits for something to come true.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "still not so after {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
