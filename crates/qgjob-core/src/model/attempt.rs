//! Attempts and the leases under which agents hold them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::job::Reason;
use super::name::TestPath;
use super::selector::{Target, words};
use super::{agent, device, group, job};

super::id::define_id!("att_", "an attempt");

/// Fencing number of a lease: unique per store and rising. A call with an old epoch changes nothing.
pub type Epoch = u64;

/// One execution of a job on one device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
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
    /// Why the device was given the job; none for attempts of before this was kept.
    pub choice: Option<Choice>,
    /// What was done about the app: set once the device holds the right build.
    pub install: Option<Install>,
    /// When it was leased.
    pub started_at: Timestamp,
    /// When its lease runs out unless renewed.
    pub lease_until: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// Why a device was given a job: what placement saw at that moment. Seconds are predictions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "because", rename_all = "snake_case")]
pub enum Choice {
    /// The device had the build.
    HadBuild,
    /// The device had to prove itself after its quarantine, with a job of a build that does well on others.
    Probe,
    /// No device worked for the job's group, so one had to install the build.
    Unserved,
    /// Devices worked for the group, and enough work was left for one more install.
    WorthAnInstall {
        /// Devices that worked for it.
        devices: u32,
        /// Device time that was left, in seconds.
        work_s: f64,
        /// With more than this another install is worth it, in seconds.
        worth_s: f64,
    },
    /// The devices that worked for the group had started nothing for long.
    NothingStarted {
        /// Devices that worked for it.
        devices: u32,
    },
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

impl Outcome {
    /// Whether it says something about the tests: such an attempt took as long as the job does.
    pub fn is_verdict(self) -> bool {
        matches!(self, Self::Passed | Self::Failed | Self::TimedOut | Self::Skipped)
    }
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

impl InstallAction {
    /// Whether the app was sent to the device because the device did not have the build. A reset is no such install: the job
    /// pays for it wherever it runs.
    pub fn is_switch(self) -> bool {
        matches!(self, Self::Cold | Self::VersionChange)
    }
}

/// How long an attempt that came to a verdict took: what forecasts are made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Took {
    /// The job's group, which names the build.
    pub group_id: group::Id,
    /// The test file.
    pub test: TestPath,
    /// Whether it ran a shard of the test file: what it took is not what the file takes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_shard: bool,
    /// How long it held its device, its install not counted.
    pub held_ms: u64,
    /// The install, if the device did not have the build.
    pub install: Option<TookInstall>,
}

impl Took {
    /// Of an attempt of `whole_ms`, on a device of the `kind`, if that is known.
    pub fn new(
        group_id: group::Id,
        test: TestPath,
        is_shard: bool,
        whole_ms: u64,
        install: Option<Install>,
        kind: Option<Target>,
    ) -> Self {
        let switch = install.filter(|install| install.action.is_switch());
        let held_ms = whole_ms.saturating_sub(switch.map_or(0, |install| install.duration_ms));
        let install =
            switch.zip(kind).map(|(Install { duration_ms, .. }, kind)| TookInstall { kind, duration_ms });
        Self { group_id, test, is_shard, held_ms, install }
    }
}

/// How long an install took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TookInstall {
    /// The kind of device.
    pub kind: Target,
    /// For verifying and installing.
    pub duration_ms: u64,
}
