//! Devices and what is installed on them.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::build::Build;
use super::name::OrgId;
use super::selector::{Platform, Target, words};
use super::sha256::Sha256;
use super::{agent, attempt};

super::id::define_id!("dev_", "a device");

/// A phone, tablet, emulator or simulator that an agent owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Device {
    /// Given by the server when the agent first reported the serial.
    pub id: Id,
    /// The agent that owns it.
    pub agent_id: agent::Id,
    /// The org whose jobs alone it runs; none: it serves every org.
    pub serves: Option<OrgId>,
    /// A name for people, unique per agent.
    pub name: String,
    /// What the platform's tools call it: `127.0.0.1:17001`, `emulator-5554`.
    pub serial: String,
    /// Its operating system.
    pub platform: Platform,
    /// `emulator`, `device`, `simulator` or `browserstack`, never `any`.
    pub kind: Target,
    /// The model: `Pixel 7`.
    pub model: String,
    /// Version of the operating system: `14`.
    pub os_version: String,
    /// Labels given by whoever keeps the rack.
    pub tags: BTreeSet<String>,
    /// What it is doing.
    pub state: State,
    /// Why it is in that state, for people.
    pub note: Option<String>,
    /// What is known to be installed.
    pub ledger: Vec<Installed>,
    /// The attempt that holds it.
    pub attempt_id: Option<attempt::Id>,
    /// Its latest quarantine, if it ever was in one.
    #[serde(default)]
    pub quarantine: Option<Quarantine>,
    /// When its agent last reported it.
    pub seen_at: Timestamp,
}

impl Device {
    /// Whether it can run jobs now or soon.
    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Idle | State::Busy)
    }

    /// Whether it is known to have the very bytes.
    pub fn has(&self, build: &Build) -> bool {
        self.ledger.iter().any(|installed| installed.sha256 == build.sha256)
    }
}

/// What a device is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Ready for a job.
    Idle,
    /// An attempt holds it.
    Busy,
    /// Not reachable: unplugged, booting, unauthorized, or its agent is gone.
    Offline,
    /// Taken out by an operator; finishes what it runs.
    Drained,
    /// Taken out by the server: it failed too often for reasons of its own. When its time is over it gets one job as a
    /// probe.
    Quarantined,
}
words!(State, "device state", Idle => "idle", Busy => "busy", Offline => "offline", Drained => "drained",
    Quarantined => "quarantined");

/// A time in which a device gets no jobs, and after it the proof that it was enough.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Quarantine {
    /// The end of the attempt that led to it.
    pub since: Timestamp,
    /// Until then it gets nothing; after that one job as a probe.
    pub until: Timestamp,
    /// 1 for the first; each further one lasts twice as long, up to 160 min.
    pub in_a_row: u32,
    /// What was held against the device, for people.
    pub evidence: String,
    /// When a probe passed or an operator enabled the device; none while it is in force.
    pub ended_at: Option<Timestamp>,
}

impl Quarantine {
    /// Whether the device has not proved itself since.
    pub fn is_in_force(&self) -> bool {
        self.ended_at.is_none()
    }

    /// Whether the device may not even have a probe.
    pub fn keeps_out(&self, now: Timestamp) -> bool {
        self.is_in_force() && now < self.until
    }

    /// Whether it is news of a device whose latest quarantine is `known`: it is younger, or it is the same and now over.
    pub fn is_news_after(&self, known: Option<&Self>) -> bool {
        match known {
            None => true,
            Some(known) if known.since == self.since => known.is_in_force() && !self.is_in_force(),
            Some(known) => known.since < self.since,
        }
    }

    /// What to know about it, and how to end it, for people.
    pub fn note(&self, device: &str) -> String {
        format!(
            "{}; no jobs until {:.0}, then one as a probe; `qgjob device enable {device}` ends this",
            self.evidence, self.until
        )
    }
}

/// One line of the install ledger: these bytes are on the device, and this is how that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Installed {
    /// The app's own id.
    pub app_id: String,
    /// The bytes.
    pub sha256: Sha256,
    /// How it was verified.
    pub proof: Proof,
    /// When it was verified.
    pub verified_at: Timestamp,
}

/// How the ledger knows what is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// The device hashed the installed bytes itself.
    DeviceHash,
    /// The platform reported the version after this agent installed the bytes; the device cannot hash them.
    Installed,
}
