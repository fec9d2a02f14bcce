//! A bench with simulated phones and an adb server of its own, for tests of the agent's hold on devices.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use qgjob::agent::adb::Adb;
use qgjob::agent::appium::{Appium, Options, home};
use qgjob::agent::sdk::{Host, Sdk};
use simulated_android::{Config, Phone};

/// The package of the fixture.
pub const DEMO: &str = "dev.qgjob.demo";

pub struct Bench {
    pub adb: Adb,
    /// For whatever a test writes.
    pub dir: tempfile::TempDir,
}

/// A phone that the bench's adb server knows.
pub struct Plugged {
    pub phone: Phone,
    pub serial: String,
}

impl Bench {
    pub fn new() -> Bench {
        let dir = tempfile::Builder::new().prefix("bench-").tempdir().unwrap();
        for sub in ["logs", "records", "scratch", "artifacts"] {
            std::fs::create_dir(dir.path().join(sub)).unwrap();
        }
        Bench { adb: Adb::new(free_port(), "adb"), dir }
    }

    /// Switches a phone on and waits until adb can use it.
    pub async fn plug_in(&self, name: &str) -> Plugged {
        let config = Config { name: name.to_owned(), serial: name.to_uppercase(), ..Config::default() };
        let phone = Phone::start(config).await.unwrap();
        let serial = phone.address().to_string();
        self.adb.connect(&serial).await.unwrap();
        self.wait_for(&serial).await;
        Plugged { phone, serial }
    }

    pub async fn wait_for(&self, serial: &str) {
        eventually("the phone is listed as ready", async || {
            self.adb.devices().await.unwrap().iter().any(|d| d.serial == serial && d.ready())
        })
        .await;
    }

    /// What Appium needs, installed on first use and kept for all tests.
    pub async fn appium_options(&self) -> Options {
        Options {
            home: home::ensure(&test_cache()).await.unwrap(),
            sdk: Sdk::find(&Host::from_env(), &self.path("sdk")).unwrap(),
            adb_port: self.adb.port(),
            logs: self.path("logs"),
            records: self.path("records"),
            scratch: self.path("scratch"),
        }
    }

    pub async fn appium(&self, serial: &str) -> Appium {
        Appium::start(serial, &self.appium_options().await).await.unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let port = self.adb.port().to_string();
        // Without a server this starts none, it only fails.
        let _ = std::process::Command::new("adb").args(["-P", &port, "kill-server"]).output();
    }
}

pub fn demo_apk() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/demo.apk")
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Where `npm ci` results are kept between test runs.
pub fn test_cache() -> PathBuf {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-cache");
    std::env::var_os("QGJOB_TEST_CACHE").map_or_else(default, PathBuf::from)
}

/// Waits for something that takes its time, for at most 20 s.
pub async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !check().await {
        assert!(Instant::now() < deadline, "{what}: not within 20 s");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
