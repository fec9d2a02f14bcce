//! The folder with the pinned Appium and driver, installed once per machine and lockfile.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::agent::process::{self, Launch};

const PACKAGE: &str = include_str!("../../../appium-home/package.json");
const LOCKFILE: &str = include_str!("../../../appium-home/package-lock.json");

/// A slow network needs minutes for the 80 MB.
const INSTALL_LIMIT: Duration = Duration::from_secs(15 * 60);

/// The entry point of the server within the folder.
const SERVER: &str = "node_modules/appium/index.js";

/// Why Appium is not installed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot prepare Appium in {dir}: {source}")]
    Io { dir: PathBuf, source: io::Error },
    #[error("cannot install Appium: {0}")]
    Npm(#[from] process::Error),
    #[error("`npm ci` could not install Appium ({status}):\n{log}")]
    NpmFailed { status: String, log: String },
}

/// An installed Appium with its UiAutomator2 driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppiumHome(PathBuf);

impl AppiumHome {
    /// What `APPIUM_HOME` is to say.
    pub fn dir(&self) -> &Path {
        &self.0
    }

    pub fn server(&self) -> PathBuf {
        self.0.join(SERVER)
    }
}

/// The folder for the embedded lockfile below `cache`; `npm ci` is run if it is not there yet.
///
/// Any number of processes may call this at once: one installs, the others wait. A folder appears under its
/// name only when it is complete, so an installation that was interrupted leaves nothing to trip over.
pub async fn ensure(cache: &Path) -> Result<AppiumHome, Error> {
    let key = hex(&Sha256::digest(LOCKFILE));
    // No "appium" in the path: AppWright ends processes by that word.
    let done = cache.join(format!("webdriver-{}", &key[..16]));
    let failed = |source| Error::Io { dir: cache.to_path_buf(), source };
    if done.join(SERVER).is_file() {
        return Ok(AppiumHome(done));
    }
    fs::create_dir_all(cache).map_err(failed)?;
    let lock = fs::File::create(cache.join("webdriver.lock")).map_err(failed)?;
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock))
        .await
        .expect("taking a file lock does not panic")
        .map_err(failed)?;
    if !done.join(SERVER).is_file() {
        let half = tempfile::Builder::new().prefix(".half-").tempdir_in(cache).map_err(failed)?;
        install(half.path(), PACKAGE, LOCKFILE).await?;
        fs::rename(half.keep(), &done).map_err(failed)?;
    }
    drop(lock);
    Ok(AppiumHome(done))
}

async fn install(dir: &Path, package: &str, lockfile: &str) -> Result<(), Error> {
    let failed = |source| Error::Io { dir: dir.to_path_buf(), source };
    fs::write(dir.join("package.json"), package).map_err(failed)?;
    fs::write(dir.join("package-lock.json"), lockfile).map_err(failed)?;
    let out = Launch::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=warn"])
        .dir(dir)
        .finish(INSTALL_LIMIT)
        .await?;
    if out.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&out.stderr);
    let mut lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    // The cause comes first, the path of the full log last, and pages of usage may lie between.
    if lines.len() > 20 {
        lines.splice(10..lines.len() - 10, ["…"]);
    }
    let log = lines.join("\n");
    Err(Error::NpmFailed { status: out.status.to_string(), log })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failed_installation_shows_what_npm_said() {
        let dir = tempfile::tempdir().unwrap();
        // The lockfile lacks what the package asks for, which npm notices before it asks any registry.
        let lockfile = r#"{"name":"x","lockfileVersion":3,"packages":{"":{"name":"x"}}}"#;
        match install(dir.path(), PACKAGE, lockfile).await {
            Err(Error::NpmFailed { log, .. }) => assert!(log.contains("in sync"), "{log}"),
            other => panic!("{other:?}"),
        }
    }
}
