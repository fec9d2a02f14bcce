//! The agent protocol: `/agent/v1`. An agent sees only what it leases.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::attempt::{self, Epoch, Install, Phase};
use crate::model::build::Build;
use crate::model::device::{self, Installed};
use crate::model::evidence::Evidence;
use crate::model::job::{self, Conclusion, Reset};
use crate::model::name::{AppVersionId, EnvName, OrgId, TestPath};
use crate::model::rerun::NamedTest;
use crate::model::selector::{Platform, Target};
use crate::model::sha256::Sha256;
use crate::model::shard::Shard;
use crate::model::test_result::Try;
use crate::model::{agent, run};

/// Body of `POST /register`, with a registration token. The token works once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// The agent's name, 1 to 64 bytes; a name that registers again takes over the old agent's devices.
    pub name: String,
    /// The agent's version of qgjob.
    pub version: String,
}

/// Answer to `POST /register`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Registered {
    /// The agent.
    pub agent_id: agent::Id,
    /// Its session token.
    pub token: String,
}

/// Body of `POST /heartbeat`, sent every few seconds and at once when a device comes or goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// Whether this is the first call of a new process: whatever its predecessor held is lost.
    pub fresh: bool,
    /// All devices that the agent has or had; those it leaves out are offline.
    pub devices: Vec<ReportedDevice>,
    /// The attempts it is running: each lease is renewed.
    pub attempts: Vec<Held>,
}

/// A device as its agent reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportedDevice {
    /// A name for people, unique per agent.
    pub name: String,
    /// What the platform's tools call it: identifies it to this agent.
    pub serial: String,
    /// Its operating system.
    pub platform: Platform,
    /// What it is.
    pub kind: Target,
    /// The model.
    pub model: String,
    /// Version of the operating system.
    pub os_version: String,
    /// Labels.
    pub tags: BTreeSet<String>,
    /// Whether it can run a job.
    pub online: bool,
    /// Why not, for people.
    pub note: Option<String>,
    /// What is verified to be installed.
    pub ledger: Vec<Installed>,
}

/// A lease that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// The attempt.
    pub attempt_id: attempt::Id,
    /// Its fencing number.
    pub epoch: Epoch,
}

/// Answer to `POST /heartbeat`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeartbeatReply {
    /// Ids of the devices, by serial.
    pub devices: BTreeMap<String, device::Id>,
    /// What to do about each attempt that was named.
    pub attempts: Vec<HeldReply>,
    /// Take no new job until this is false again.
    pub drain: bool,
}

/// What to do about an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeldReply {
    /// The attempt.
    pub attempt_id: attempt::Id,
    /// What to do.
    pub order: Order,
}

/// What to do about an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// Go on; the lease holds for this long from when the request was sent.
    GoOn {
        /// Milliseconds.
        lease_ms: u64,
    },
    /// The job was cancelled: stop, clean the device, finish with that evidence.
    Cancel,
    /// The lease is lost: stop at once; whatever is sent changes nothing.
    Abandon,
}

/// Body of `POST /claim?wait=30s`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClaimRequest {
    /// Chosen by the agent: a repeat with the same id gets the same leases.
    pub claim_id: String,
    /// Devices that are free and verified.
    pub devices: Vec<device::Id>,
}

/// Answer to `POST /claim`: at most one lease per device; none when the wait is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClaimReply {
    /// The leases.
    pub leases: Vec<Lease>,
}

/// An agent's right to run an attempt, and all that is needed for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Lease {
    /// The attempt.
    pub attempt_id: attempt::Id,
    /// Its fencing number: to be sent with every report.
    pub epoch: Epoch,
    /// How long it holds from when the request was sent.
    pub lease_ms: u64,
    /// On what to run it.
    pub device_id: device::Id,
    /// 1 for the job's first attempt.
    pub number: u32,
    /// The job.
    pub job_id: job::Id,
    /// Its run.
    pub run_id: run::Id,
    /// The tenant.
    pub org_id: OrgId,
    /// The label of the build.
    pub app_version_id: AppVersionId,
    /// The build: bytes at `GET /attempts/{id}/inputs/app`.
    pub build: Build,
    /// The project: bytes at `GET /attempts/{id}/inputs/bundle`.
    pub bundle_sha256: Sha256,
    /// The test file.
    pub test: TestPath,
    /// Which of the file's tests to run; none for all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
    /// Of those, the tests to run; all when it names none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<NamedTest>,
    /// How long the attempt may take.
    pub timeout_ms: u64,
    /// The runner's retries of a failed test.
    pub test_retries: u32,
    /// What happens to the app's data before each test.
    pub reset: Reset,
    /// Variables for the tests.
    pub env: BTreeMap<EnvName, String>,
}

/// Body of `POST /attempts/{id}/renew`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Renewal {
    /// The lease's fencing number.
    pub epoch: Epoch,
}

/// Body of `POST /attempts/{id}/phase`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PhaseReport {
    /// The lease's fencing number.
    pub epoch: Epoch,
    /// What the attempt does now.
    pub phase: Phase,
    /// Sent once, when the right build is on the device.
    #[serde(default)]
    pub install: Option<Install>,
}

/// Body of `POST /attempts/{id}/tests`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TestsReport {
    /// The lease's fencing number.
    pub epoch: Epoch,
    /// Tries that ended, at most 1,000; those that were sent before are ignored.
    pub tries: Vec<Try>,
}

/// Body of `POST /attempts/{id}/artifacts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewArtifact {
    /// The lease's fencing number.
    pub epoch: Epoch,
    /// Path inside the attempt's results, relative, no `..`, at most 512 bytes.
    pub name: String,
    /// Media type.
    pub media_type: String,
    /// Size of the file.
    pub size_bytes: u64,
    /// SHA-256 of the file.
    pub sha256: Sha256,
}

/// Answer to `POST /attempts/{id}/artifacts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArtifactTicket {
    /// The artifact.
    pub artifact_id: crate::model::artifact::Id,
    /// Whether the bytes must be sent with `PUT /attempts/{id}/artifacts/{artifact_id}`; if not, they are known.
    pub upload: bool,
}

/// Body of `POST /attempts/{id}/finish`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FinishReport {
    /// The lease's fencing number.
    pub epoch: Epoch,
    /// What was seen.
    pub evidence: Evidence,
}

/// Answer to `POST /attempts/{id}/finish`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FinishReply {
    /// What the server made of it.
    pub outcome: attempt::Outcome,
    /// The job's conclusion; none when it is queued again.
    pub conclusion: Option<Conclusion>,
}

/// Answer to `PATCH /attempts/{id}/logs/{stream}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogReply {
    /// How many bytes the server has now.
    pub offset: u64,
}
