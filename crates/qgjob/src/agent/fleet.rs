//! The devices of this host: found through adb, followed as they come and go, with a ledger of what is installed
//! that is verified on each arrival.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use qgjob_core::api::agents::ReportedDevice;
use qgjob_core::clock::Clock;
use qgjob_core::model::build::Build;
use qgjob_core::model::device::{self, Installed, Proof};
use qgjob_core::model::name::OrgId;
use qgjob_core::model::selector::{Platform, Target};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::adb::{Adb, DeviceFacts, Listed};
use super::appium::Appium;
use super::ownership::{Owned, Ownership};

/// How often a device that is booting is asked whether it is up.
const BOOT_POLL: Duration = Duration::from_millis(500);
/// How often it is looked whether another agent has left a device.
const OWNER_POLL: Duration = Duration::from_secs(1);

/// Which devices to offer and what to call them.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// Only these serials; empty: all that adb lists.
    pub serials: BTreeSet<String>,
    /// Names for people, by serial.
    pub names: BTreeMap<String, String>,
    /// Labels that all devices of this agent carry.
    pub tags: BTreeSet<String>,
}

/// All devices of the host, also those that have left.
pub struct Fleet {
    adb: Adb,
    ownership: Ownership,
    choice: Choice,
    notebook: PathBuf,
    clock: Arc<dyn Clock>,
    phones: Mutex<BTreeMap<String, Arc<Phone>>>,
    changed: watch::Sender<u64>,
}

/// One device.
pub struct Phone {
    /// What adb calls it.
    pub serial: String,
    presence: watch::Sender<Presence>,
    state: Mutex<State>,
    /// Its Appium, once one was needed.
    pub appium: tokio::sync::Mutex<Option<Appium>>,
}

/// Whether a device is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Presence {
    /// It can run a job.
    pub online: bool,
    /// How often it has left, so that a device that came back at once is seen to have been away.
    pub departures: u32,
    /// Why it cannot run a job.
    pub note: Option<String>,
}

impl Presence {
    /// Adb lists it, and it is not yet online.
    fn arriving(&self) -> bool {
        [VERIFYING, ELSEWHERE].map(Some).contains(&self.note.as_deref())
    }
}

#[derive(Debug, Default)]
struct State {
    /// Kept from the arrival until the device has left and no attempt is busy with it any more.
    owned: Option<Owned>,
    facts: Option<DeviceFacts>,
    id: Option<device::Id>,
    ledger: Vec<Installed>,
    /// Whose app data may lie on the device.
    last_org: Option<OrgId>,
    busy: bool,
}

/// What is remembered over a restart: what to verify, not what to believe.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Notebook {
    apps: BTreeMap<String, BTreeSet<String>>,
}

/// A phone that is taken for an attempt; free again when it is dropped.
pub struct Taken {
    /// The phone.
    pub phone: Arc<Phone>,
    fleet: Arc<Fleet>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut state = self.phone.lock();
        state.busy = false;
        let presence = self.phone.presence.borrow().clone();
        if !presence.online && !presence.arriving() {
            state.owned = None;
        }
        drop(state);
        self.fleet.note_change();
    }
}

impl Fleet {
    /// A fleet that is empty until [`Fleet::follow`] runs. `notebook` is a file that survives restarts.
    pub fn new(
        adb: Adb,
        ownership: Ownership,
        choice: Choice,
        notebook: PathBuf,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        let changed = watch::Sender::new(0);
        Arc::new(Self { adb, ownership, choice, notebook, clock, phones: Mutex::default(), changed })
    }

    /// Follows adb's list of devices for ever.
    pub async fn follow(self: Arc<Self>) {
        let mut lists = self.adb.track_devices();
        while let Some(list) = lists.next().await {
            self.update(&list);
        }
    }

    /// Changes whenever a device comes, goes, becomes free, or has another app installed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// What to tell the server.
    pub fn report(&self) -> Vec<ReportedDevice> {
        self.phones().values().filter_map(|phone| phone.report(&self.choice)).collect()
    }

    /// Remembers the ids that the server gave.
    pub fn learn_ids(&self, ids: &BTreeMap<String, device::Id>) {
        for (serial, id) in ids {
            if let Some(phone) = self.phones().get(serial) {
                phone.lock().id = Some(*id);
            }
        }
    }

    /// Ids of the devices that can take a job now.
    pub fn free(&self) -> Vec<device::Id> {
        let free = |phone: &Arc<Phone>| {
            let state = phone.lock();
            state.id.filter(|_| !state.busy && phone.presence.borrow().online)
        };
        self.phones().values().filter_map(free).collect()
    }

    /// Takes the phone with this id for an attempt, if it is free.
    pub fn take(self: &Arc<Self>, id: device::Id) -> Option<Taken> {
        let phone = self.phones().values().find(|phone| phone.lock().id == Some(id)).cloned()?;
        if std::mem::replace(&mut phone.lock().busy, true) {
            return None;
        }
        Some(Taken { phone, fleet: self.clone() })
    }

    /// Every phone that ever was here.
    pub fn all(&self) -> Vec<Arc<Phone>> {
        self.phones().values().cloned().collect()
    }

    /// Names of the emulators that run.
    pub fn emulators(&self) -> Vec<String> {
        let name = |phone: &Arc<Phone>| {
            let facts = phone.lock().facts.clone()?;
            facts.is_emulator.then(|| facts.avd.unwrap_or(facts.model))
        };
        self.phones().values().filter_map(name).collect()
    }

    /// Enters into the ledger that `build` is proven to be on the phone.
    pub fn enter(&self, phone: &Phone, build: &Build) {
        let entry = Installed {
            app_id: build.app_id.clone(),
            sha256: build.sha256,
            proof: Proof::DeviceHash,
            verified_at: self.clock.now(),
        };
        let mut state = phone.lock();
        state.ledger.retain(|installed| installed.app_id != build.app_id);
        state.ledger.push(entry);
        drop(state);
        self.write_down(&phone.serial, &build.app_id);
        self.note_change();
    }

    /// Strikes an app from the phone's ledger: it is not known what is installed.
    pub fn strike(&self, phone: &Phone, app_id: &str) {
        phone.lock().ledger.retain(|installed| installed.app_id != app_id);
        self.note_change();
    }

    fn update(self: &Arc<Self>, list: &[Listed]) {
        let wanted =
            |listed: &&Listed| self.choice.serials.is_empty() || self.choice.serials.contains(&listed.serial);
        let listed: BTreeMap<&str, &Listed> =
            list.iter().filter(wanted).map(|listed| (listed.serial.as_str(), listed)).collect();
        for phone in self.all() {
            if !listed.get(phone.serial.as_str()).is_some_and(|listed| listed.ready()) {
                let note = listed.get(phone.serial.as_str()).map_or("left the host", |listed| &listed.state);
                self.depart(&phone, note);
            }
        }
        for (serial, entry) in listed {
            let phone = self.phones().entry(serial.to_owned()).or_insert_with(|| Phone::new(serial)).clone();
            let arrives = entry.ready() && !phone.presence.borrow().arriving();
            if arrives && !phone.presence.borrow().online {
                phone.presence.send_modify(|presence| presence.note = Some(VERIFYING.to_owned()));
                tokio::spawn(self.clone().receive(phone));
            }
        }
        self.note_change();
    }

    fn depart(&self, phone: &Phone, note: &str) {
        phone.presence.send_if_modified(|presence| {
            let news = presence.online || presence.note.as_deref() != Some(note);
            // A device that was never online, or is still away, does not leave once more.
            presence.departures += u32::from(presence.online || presence.arriving());
            presence.online = false;
            presence.note = Some(note.to_owned());
            news
        });
        let mut state = phone.lock();
        state.ledger.clear();
        if !state.busy {
            state.owned = None;
        }
    }

    /// Verifies a device that has arrived: nobody else's, up, what it is, what is installed. Then it is online.
    async fn receive(self: Arc<Self>, phone: Arc<Phone>) {
        let arrival = phone.presence.borrow().departures;
        let still_here = || {
            let presence = phone.presence.borrow();
            presence.departures == arrival && presence.arriving()
        };
        while still_here() {
            let owned = self.own(&phone, still_here);
            let note = if owned { VERIFYING } else { ELSEWHERE };
            let noted = phone.presence.send_if_modified(|presence| {
                let news = presence.departures == arrival
                    && presence.arriving()
                    && presence.note.as_deref() != Some(note);
                if news {
                    presence.note = Some(note.to_owned());
                }
                news
            });
            if noted {
                self.note_change();
            }
            // The other agent's device is left alone but for the question what it is, so that it can be reported.
            if !owned && phone.facts().is_some() {
                tokio::time::sleep(OWNER_POLL).await;
                continue;
            }
            match self.inspect(&phone.serial).await {
                Ok(Some((facts, _))) if !owned => {
                    phone.lock().facts = Some(facts);
                    tracing::warn!(serial = phone.serial, "another agent on this host has the device");
                    self.note_change();
                    continue;
                }
                Ok(Some((facts, ledger))) => {
                    let mut state = phone.lock();
                    (state.facts, state.ledger) = (Some(facts), ledger);
                    drop(state);
                    phone.presence.send_modify(|presence| {
                        if presence.departures == arrival && presence.arriving() {
                            (presence.online, presence.note) = (true, None);
                        }
                    });
                    tracing::info!(serial = phone.serial, "a device is ready");
                    self.note_change();
                    return;
                }
                Ok(None) => tracing::debug!(serial = phone.serial, "the device is booting"),
                Err(error) => {
                    tracing::info!(serial = phone.serial, %error, "the device cannot be inspected yet")
                }
            }
            tokio::time::sleep(BOOT_POLL).await;
        }
    }

    /// Whether this agent is the phone's owner; becomes it if nobody else is.
    fn own(&self, phone: &Phone, still_here: impl Fn() -> bool) -> bool {
        let mut state = phone.lock();
        if state.owned.is_some() {
            return true;
        }
        match self.ownership.take(&phone.serial) {
            // A departure after this look finds the lock and releases it.
            Ok(Some(owned)) if still_here() => {
                state.owned = Some(owned);
                // Whoever had the device in between may have left data on it.
                state.last_org = None;
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(serial = phone.serial, %error, "cannot lock the device"),
        }
        state.owned.is_some()
    }

    async fn inspect(
        &self,
        serial: &str,
    ) -> Result<Option<(DeviceFacts, Vec<Installed>)>, super::adb::Error> {
        if !self.adb.boot_completed(serial).await? {
            return Ok(None);
        }
        let facts = self.adb.facts(serial).await?;
        let mut ledger = Vec::new();
        for app_id in self.read_notebook().apps.remove(serial).unwrap_or_default() {
            let Some(installed) = self.adb.installed(serial, &app_id).await? else { continue };
            let Ok(sha256) = installed.sha256.parse() else { continue };
            ledger.push(Installed {
                app_id,
                sha256,
                proof: Proof::DeviceHash,
                verified_at: self.clock.now(),
            });
        }
        Ok(Some((facts, ledger)))
    }

    fn read_notebook(&self) -> Notebook {
        let text = std::fs::read(&self.notebook).unwrap_or_default();
        // A notebook that cannot be read costs an install at most.
        serde_json::from_slice(&text).unwrap_or_default()
    }

    fn write_down(&self, serial: &str, app_id: &str) {
        let mut notebook = self.read_notebook();
        if !notebook.apps.entry(serial.to_owned()).or_default().insert(app_id.to_owned()) {
            return;
        }
        if let Err(error) = replace(&self.notebook, &notebook) {
            tracing::warn!(%error, "cannot note what is installed; it will be found out again after a restart");
        }
    }

    /// Says that the server should hear from this agent now.
    pub fn note_change(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    fn phones(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Phone>>> {
        self.phones.lock().expect("no thread panics while holding the fleet")
    }
}

const VERIFYING: &str = "booting or being verified";
const ELSEWHERE: &str = "another agent on this host has it";

impl Phone {
    fn new(serial: &str) -> Arc<Self> {
        Arc::new(Self {
            serial: serial.to_owned(),
            presence: watch::Sender::default(),
            state: Mutex::default(),
            appium: tokio::sync::Mutex::default(),
        })
    }

    /// Follows whether the device is there.
    pub fn presence(&self) -> watch::Receiver<Presence> {
        self.presence.subscribe()
    }

    /// What is known of it, once it was online.
    pub fn facts(&self) -> Option<DeviceFacts> {
        self.lock().facts.clone()
    }

    /// Notes whose job runs now; answers whether the data on the device may be another org's.
    pub fn enter_org(&self, org: &OrgId) -> bool {
        self.lock().last_org.replace(org.clone()).is_none_or(|last| last != *org)
    }

    fn report(&self, choice: &Choice) -> Option<ReportedDevice> {
        let state = self.lock();
        let facts = state.facts.as_ref()?;
        let presence = self.presence.borrow().clone();
        Some(ReportedDevice {
            name: choice.names.get(&self.serial).cloned().unwrap_or_else(|| default_name(facts)),
            serial: self.serial.clone(),
            platform: Platform::Android,
            kind: if facts.is_emulator { Target::Emulator } else { Target::Device },
            model: facts.model.clone(),
            os_version: facts.release.clone(),
            tags: choice.tags.clone(),
            online: presence.online,
            note: presence.note,
            ledger: state.ledger.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while holding a phone")
    }
}

fn default_name(facts: &DeviceFacts) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let model: String = facts.model.chars().map(plain).collect();
    let serial: String = facts.serial.chars().map(plain).collect();
    format!("{}-{serial}", model.trim_matches('-'))
}

fn replace(path: &Path, value: &impl Serialize) -> std::io::Result<()> {
    let half = path.with_extension("half");
    std::fs::write(&half, serde_json::to_vec(value)?)?;
    std::fs::rename(half, path)
}
