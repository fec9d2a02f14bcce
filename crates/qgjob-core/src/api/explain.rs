//! Why a job waits, or why it ended as it did.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::attempt::Choice;
use crate::model::group::Because;
use crate::model::job::{self, Conclusion, Reason, Status};
use crate::model::name::{AppVersionId, OrgId};

/// Answer to `GET /jobs/{id}/explain`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// `qgjob.explanation/v1`.
    pub schema: String,
    /// The job.
    pub job_id: job::Id,
    /// Its status.
    pub status: Status,
    /// Its conclusion.
    pub conclusion: Option<Conclusion>,
    /// The reason of its end, or of its being queued again.
    pub reason: Option<Reason>,
    /// Why, most important first; never empty.
    pub reasons: Vec<Why>,
    /// Who gets a device before it, while it waits: the first 5.
    pub ahead: Vec<Ahead>,
    /// When it should start, while it waits; none if nothing that is foreseen starts it.
    pub expected_start: Option<ExpectedStart>,
    /// Why its latest attempt runs or ran where it did.
    pub choice: Option<Choice>,
}

/// When a job should start if nothing comes and nothing fails: what waits is replayed through the placement, with all
/// predictions as they are, at 0.7 times and at 1.5 times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExpectedStart {
    /// If all goes fast.
    pub earliest: Timestamp,
    /// As predicted.
    pub likely: Timestamp,
    /// If all goes slowly.
    pub latest: Timestamp,
}

/// Jobs that get a device before the one that is explained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ahead {
    /// Whose; none if the caller may not know.
    pub org_id: Option<OrgId>,
    /// For which app version; none if the caller may not know.
    pub app_version_id: Option<AppVersionId>,
    /// Their priority: 1 to 10.
    pub priority: u8,
    /// What weighs most for them.
    pub because: Because,
}

/// One reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Why {
    /// For programs.
    pub code: WhyCode,
    /// For people.
    pub detail: String,
}

/// The kinds of reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhyCode {
    /// It is not due yet.
    NotDue,
    /// It waits out a backoff after an attempt that ended for infrastructure reasons.
    Backoff,
    /// Its app version has no build yet.
    BuildMissing,
    /// No device that is known fits.
    NoMatchingDevice,
    /// Devices fit, but none takes jobs: they are offline, drained or quarantined.
    MatchingDevicesOffline,
    /// Devices fit, but all are busy.
    MatchingDevicesBusy,
    /// An operator paused its org.
    OrgPaused,
    /// Its app version is paused.
    AppVersionPaused,
    /// Its org holds as many devices as it may.
    OrgAtCap,
    /// As many jobs of its concurrency group run as may.
    ConcurrencyFull,
    /// Its org holds more than its share of the devices, and others want some.
    OrgOverShare,
    /// It failed on the devices that are free; another one is to run it.
    DevicesAvoided,
    /// Devices fit that are not asked for a while, because attempts on them failed for reasons other than the tests.
    DevicesRest,
    /// Other groups get a device first.
    GroupsAhead,
    /// Jobs of its own group are before it.
    AheadInGroup,
    /// Devices have the build and work for its group; one more install would not pay.
    WaitsForWarmDevice,
    /// A free device is about to take it.
    AboutToStart,
    /// It is being run.
    Running,
    /// It is over.
    Ended,
}
