//! Attempts and the leases under which agents hold them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::job::Reason;
use super::selector::words;
use super::{agent, device, job};

super::id::define_id!("att_", "an attempt");

/// Fencing number of a lease: unique per store and rising. A call with an old epoch changes nothing.
pub type Epoch = u64;

/// One execution of a job on one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Attempt {
    /// Given by the server.
    pub id: Id,
    /// The job.
    pub job_id: job::Id,
    /// 1 for the job's first attempt.
    pub number: u32,
    /// Who runs it.
    pub agent_id: agent::Id,
    /// On what.
    pub device_id: device::Id,
    /// The lease's fencing number.
    pub epoch: Epoch,
    /// What it is doing, or did last.
    pub phase: Phase,
    /// How it ended; none while it lives.
    pub outcome: Option<Outcome>,
    /// Why it ended so.
    pub reason: Option<Reason>,
    /// The same for people, with what was seen.
    pub detail: Option<String>,
    /// What was done about the app: set once the device holds the right build.
    pub install: Option<Install>,
    /// When it was leased.
    pub started_at: Timestamp,
    /// When its lease runs out unless renewed.
    pub lease_until: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// What an attempt is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Fetching the build and the project, `npm ci`.
    Preparing,
    /// Verifying, installing, resetting the app.
    Installing,
    /// The runner runs.
    Testing,
    /// Report, traces, screenshots go to the server.
    Uploading,
    /// Sessions, processes and files are being removed.
    Cleaning,
}
words!(Phase, "phase", Preparing => "preparing", Installing => "installing", Testing => "testing",
    Uploading => "uploading", Cleaning => "cleaning");

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// As the conclusion of the same name.
    Passed,
    /// As the conclusion of the same name.
    Failed,
    /// Infrastructure: the job may be tried again.
    Errored,
    /// As the conclusion of the same name.
    TimedOut,
    /// The job was cancelled.
    Cancelled,
    /// As the conclusion of the same name.
    Skipped,
    /// Its lease ran out.
    Lost,
    /// The agent gave it back unfinished.
    Released,
}
words!(Outcome, "outcome", Passed => "passed", Failed => "failed", Errored => "errored", TimedOut => "timed_out",
    Cancelled => "cancelled", Skipped => "skipped", Lost => "lost", Released => "released");

/// What an attempt did so that the right build was on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Install {
    /// Whether bytes were sent to the device.
    pub action: InstallAction,
    /// How long verifying and installing took.
    pub duration_ms: u64,
}

/// Why an app was or was not installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum InstallAction {
    /// The device had the very bytes: nothing was installed.
    Avoided,
    /// The app was not on the device.
    Cold,
    /// The device had other bytes.
    VersionChange,
    /// The job asked for a reinstall.
    Reset,
}
words!(InstallAction, "install action", Avoided => "avoided", Cold => "cold", VersionChange => "version_change", Reset => "reset");
