//! Devices and what is installed on them.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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
    /// When its agent last reported it.
    pub seen_at: Timestamp,
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
}
words!(State, "device state", Idle => "idle", Busy => "busy", Offline => "offline", Drained => "drained");

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
