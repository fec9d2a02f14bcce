//! Why a job waits, or why it ended as it did.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::job::{self, Conclusion, Reason, Status};

/// Answer to `GET /jobs/{id}/explain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
    /// Devices fit, but none is online.
    MatchingDevicesOffline,
    /// Devices fit, but all are busy.
    MatchingDevicesBusy,
    /// Jobs of its own group are before it.
    AheadInGroup,
    /// A device that has the build is about to take it.
    WaitsForWarmDevice,
    /// It is being run.
    Running,
    /// It is over.
    Ended,
}
