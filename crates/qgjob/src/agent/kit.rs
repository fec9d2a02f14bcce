//! What every attempt on this host needs: tools, caches, folders.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use qgjob_core::api::agents::Lease;
use qgjob_core::clock::Clock;
use qgjob_core::model::evidence::Fault;
use qgjob_core::model::id;
use qgjob_core::model::job::Reason;
use qgjob_core::model::sha256::Sha256;

use super::adb::Adb;
use super::appium::{self, Appium, home};
use super::files::Files;
use super::fleet::Phone;
use super::hold::Hold;
use super::link::{self, Link};
use super::sdk::Sdk;
use super::workspace;

/// Tools, caches and folders of an agent.
pub struct Kit {
    /// The host's adb server.
    pub adb: Adb,
    /// The Android SDK, the host's or one made of links.
    pub sdk: Sdk,
    /// Projects and their packages.
    pub workspaces: workspace::Cache,
    /// Builds and packed projects, by hash.
    pub files: Files,
    /// Appium and its packages.
    pub cache: PathBuf,
    /// A folder per attempt.
    pub attempts: PathBuf,
    /// Records of process groups, for a successor after a crash.
    pub records: PathBuf,
    /// Appium's logs.
    pub logs: PathBuf,
    /// Appium's temporary files.
    pub scratch: PathBuf,
    /// Time and randomness.
    pub clock: Arc<dyn Clock>,
}

impl Kit {
    /// An id that nobody else uses.
    pub fn new_id(&self) -> String {
        format!("{:032x}", id::bits(self.clock.now(), self.clock.random()))
    }

    /// The build's file, in the attempt's folder `dir`: fetched once per host, its bytes checked.
    ///
    /// # Errors
    /// A fault of the agent: the disk, or the server that does not give the file.
    pub async fn build(&self, link: &Link, lease: &Lease, hold: &Hold, dir: &Path) -> Result<PathBuf, Fault> {
        let file = dir.join("app.apk");
        self.fetch(link, lease, hold, ("app", lease.build.sha256), &file).await?;
        Ok(file)
    }

    /// The project bundle's file, in the attempt's folder `dir`: fetched once per host, its bytes checked.
    ///
    /// # Errors
    /// As [`Kit::build`].
    pub async fn bundle(
        &self,
        link: &Link,
        lease: &Lease,
        hold: &Hold,
        dir: &Path,
    ) -> Result<PathBuf, Fault> {
        let file = dir.join("project.tar.zst");
        self.fetch(link, lease, hold, ("bundle", lease.bundle_sha256), &file).await?;
        Ok(file)
    }

    async fn fetch(
        &self,
        link: &Link,
        lease: &Lease,
        hold: &Hold,
        (what, wanted): (&str, Sha256),
        to: &Path,
    ) -> Result<(), Fault> {
        let failed = |error: &dyn std::fmt::Display| Fault {
            reason: Reason::AgentFault,
            detail: format!("cannot fetch the {what}: {error}"),
        };
        if self.files.take(wanted, to).map_err(|error| failed(&error))? {
            return Ok(());
        }
        let call = || async {
            let half = self.files.half(&self.new_id());
            link.fetch_input(lease.attempt_id, what, wanted, half.path()).await?;
            self.files.put(&half, wanted).map_err(link::Error::from)
        };
        link::persist(&hold.over, call).await.map_err(|error| failed(&error))?;
        match self.files.take(wanted, to) {
            Ok(true) => Ok(()),
            Ok(false) => Err(failed(&"the cache's limit is too low for it")),
            Err(error) => Err(failed(&error)),
        }
    }

    /// The phone's Appium, warm and well: started when there is none.
    ///
    /// # Errors
    /// A fault of the agent.
    pub async fn appium(&self, phone: &Phone) -> Result<u16, Fault> {
        let failed =
            |error: &dyn std::fmt::Display| Fault { reason: Reason::AgentFault, detail: error.to_string() };
        let mut slot = phone.appium.lock().await;
        if let Some(appium) = slot.as_mut() {
            appium.ensure_ready().await.map_err(|error| failed(&error))?;
            return Ok(appium.port());
        }
        let home = home::ensure(&self.cache).await.map_err(|error| failed(&error))?;
        let options = appium::Options {
            home,
            sdk: self.sdk.clone(),
            adb_port: self.adb.port(),
            logs: self.logs.clone(),
            records: self.records.clone(),
            scratch: self.scratch.clone(),
        };
        let appium = Appium::start(&phone.serial, &options).await.map_err(|error| failed(&error))?;
        let port = appium.port();
        *slot = Some(appium);
        Ok(port)
    }
}
