//! Facts, numbered by the store.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::attempt::{Install, Outcome, Phase, Took};
use super::ci::CiRun;
use super::job::{Conclusion, Reason, Status};
use super::limits::OrgLimits;
use super::name::{AppVersionId, ConcurrencyGroup, OrgId};
use super::selector::words;
use super::test_result::{Counts, Try};
use super::{agent, attempt, device, group, job, policy, run, token};

/// Number of an event: rises by at least 1, never reused. 0 is before the first.
pub type Seq = u64;

/// A fact appended by the store in the same transaction as the change it tells of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Its number.
    pub seq: Seq,
    /// When it happened, by the server's clock.
    pub at: Timestamp,
    /// The tenant; none for facts about agents and shared devices.
    pub org_id: Option<OrgId>,
    /// The run it is about.
    pub run_id: Option<run::Id>,
    /// The job it is about.
    pub job_id: Option<job::Id>,
    /// What happened.
    #[serde(flatten)]
    pub fact: Fact,
}

/// What happened. On the wire: `type` (`job.queued`) and `data`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", content = "data")]
pub enum Fact {
    /// A job was accepted for later.
    #[serde(rename = "job.scheduled")]
    JobScheduled {
        /// Not started before.
        not_before: Timestamp,
    },
    /// A job waits for a device, for the first time or again.
    #[serde(rename = "job.queued")]
    JobQueued {
        /// The group it waits in.
        group_id: group::Id,
        /// 1 to 10.
        priority: u8,
        /// Not started before, when it waits out a backoff.
        not_before: Option<Timestamp>,
        /// Why it is queued again; none the first time.
        reason: Option<Reason>,
        /// The same for people.
        detail: Option<String>,
        /// Devices to avoid.
        avoid: Vec<device::Id>,
        /// Since when it is to start before others, if it was promoted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        promoted_at: Option<Timestamp>,
        /// How long it is expected to hold a device, an install not counted.
        #[serde(default = "unknown_ms")]
        predicted_ms: u64,
    },
    /// A waiting job is to start before others.
    #[serde(rename = "job.promoted")]
    JobPromoted {
        /// The group it waits in.
        group_id: group::Id,
    },
    /// An attempt holds the job.
    #[serde(rename = "job.started")]
    JobStarted {
        /// The group it left.
        group_id: group::Id,
        /// The attempt.
        attempt_id: attempt::Id,
        /// 1 for the first.
        number: u32,
        /// Who runs it.
        agent_id: agent::Id,
        /// On what.
        device_id: device::Id,
        /// The device's name, for people.
        device_name: String,
    },
    /// The attempt does something else now.
    #[serde(rename = "job.phase")]
    JobPhase {
        /// The attempt.
        attempt_id: attempt::Id,
        /// What it does.
        phase: Phase,
        /// Set when the app was dealt with.
        install: Option<Install>,
    },
    /// A job is over.
    #[serde(rename = "job.completed")]
    JobCompleted {
        /// The group it was in.
        group_id: group::Id,
        /// Where it was: a job can be completed before it ran.
        from: Status,
        /// How it ended.
        conclusion: Conclusion,
        /// Why.
        reason: Reason,
        /// The same for people.
        detail: Option<String>,
        /// Tests by outcome.
        tests: Counts,
    },
    /// An attempt is over and its device free.
    #[serde(rename = "attempt.ended")]
    AttemptEnded {
        /// The attempt.
        attempt_id: attempt::Id,
        /// Its device.
        device_id: device::Id,
        /// How it ended.
        outcome: Outcome,
        /// Why.
        reason: Option<Reason>,
        /// The same for people.
        detail: Option<String>,
        /// How long it took, if it came to a verdict.
        took: Option<Took>,
    },
    /// An agent sent a report under an old epoch: kept, changes nothing.
    #[serde(rename = "attempt.stale_report")]
    StaleReport {
        /// The attempt.
        attempt_id: attempt::Id,
        /// What would have been concluded.
        claimed: Outcome,
    },
    /// A try of a test ended.
    #[serde(rename = "test.finished")]
    TestFinished {
        /// The attempt.
        attempt_id: attempt::Id,
        /// The try.
        #[serde(flatten)]
        result: Box<Try>,
    },
    /// Every job of a run is over.
    #[serde(rename = "run.completed")]
    RunCompleted {
        /// How it ended.
        conclusion: Conclusion,
    },
    /// A device appeared, left, or changed its state.
    #[serde(rename = "device.changed")]
    DeviceChanged {
        /// The device.
        device_id: device::Id,
        /// What it does now.
        state: device::State,
    },
    /// An agent appeared, left, or changed its state.
    #[serde(rename = "agent.changed")]
    AgentChanged {
        /// The agent.
        agent_id: agent::Id,
        /// What it does now.
        state: agent::State,
    },
    /// A label was bound to a build: jobs that waited for it can start.
    #[serde(rename = "app_version.created")]
    AppVersionCreated {
        /// The label.
        app_version_id: AppVersionId,
    },
    /// An org's limits changed.
    #[serde(rename = "org.changed")]
    OrgChanged {
        /// What they are now.
        #[serde(flatten)]
        limits: OrgLimits,
    },
    /// An app version was paused or resumed.
    #[serde(rename = "queue.changed")]
    QueueChanged {
        /// The label.
        app_version_id: AppVersionId,
        /// Whether its waiting jobs rest now.
        paused: bool,
    },
    /// The limit of a concurrency group changed.
    #[serde(rename = "concurrency.changed")]
    ConcurrencyChanged {
        /// Its name.
        concurrency_group: ConcurrencyGroup,
        /// Most jobs of it that run at a time now.
        limit: u32,
    },
    /// A policy for keyless logins was added.
    #[serde(rename = "oidc_policy.added")]
    PolicyAdded {
        /// Which.
        policy_id: policy::Id,
    },
    /// A policy for keyless logins was removed, and the tokens that it had let in.
    #[serde(rename = "oidc_policy.removed")]
    PolicyRemoved {
        /// Which.
        policy_id: policy::Id,
    },
    /// A pipeline logged in with an id-token.
    #[serde(rename = "ci.logged_in")]
    CiLoggedIn {
        /// The token that it got.
        token_id: token::Id,
        /// The policy that let it in.
        policy_id: policy::Id,
        /// The pipeline's run.
        run: Box<CiRun>,
    },
}

/// Of jobs that were queued before there were predictions.
fn unknown_ms() -> u64 {
    60_000
}

impl Fact {
    /// The name on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Self::JobScheduled { .. } => "job.scheduled",
            Self::JobQueued { .. } => "job.queued",
            Self::JobStarted { .. } => "job.started",
            Self::JobPhase { .. } => "job.phase",
            Self::JobCompleted { .. } => "job.completed",
            Self::AttemptEnded { .. } => "attempt.ended",
            Self::StaleReport { .. } => "attempt.stale_report",
            Self::TestFinished { .. } => "test.finished",
            Self::RunCompleted { .. } => "run.completed",
            Self::DeviceChanged { .. } => "device.changed",
            Self::AgentChanged { .. } => "agent.changed",
            Self::AppVersionCreated { .. } => "app_version.created",
            Self::JobPromoted { .. } => "job.promoted",
            Self::OrgChanged { .. } => "org.changed",
            Self::QueueChanged { .. } => "queue.changed",
            Self::ConcurrencyChanged { .. } => "concurrency.changed",
            Self::PolicyAdded { .. } => "oidc_policy.added",
            Self::PolicyRemoved { .. } => "oidc_policy.removed",
            Self::CiLoggedIn { .. } => "ci.logged_in",
        }
    }
}

/// Where an artifact's or log's bytes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    /// What the agent did.
    Agent,
    /// What the runner and the tests printed.
    Test,
    /// Appium's log of the attempt.
    Appium,
}
words!(LogStream, "log stream", Agent => "agent", Test => "test", Appium => "appium");
