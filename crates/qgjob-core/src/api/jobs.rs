//! Reading jobs, their attempts and results.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::attempt::Attempt;
use crate::model::event::{Event, Seq};
use crate::model::job::Job;
use crate::model::test_result::Try;

/// A job as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobView {
    /// `qgjob.job/v1`.
    pub schema: String,
    /// The job.
    #[serde(flatten)]
    pub job: Job,
    /// The name of the device of its latest attempt.
    pub device_name: Option<String>,
    /// What was done about the app in its latest attempt.
    pub install: Option<crate::model::attempt::Install>,
    /// What `qgjob wait` exits with, once the job is over.
    pub exit_code: Option<u8>,
}

/// An attempt with its device's name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AttemptView {
    /// The attempt.
    #[serde(flatten)]
    pub attempt: Attempt,
    /// The device's name.
    pub device_name: String,
}

/// A try of a test with the attempt it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TryView {
    /// The attempt.
    pub attempt_id: crate::model::attempt::Id,
    /// The try.
    #[serde(flatten)]
    pub result: Try,
}

/// Data of `resync` in a stream of events: the caller's last event is not known here, so it must read anew what it
/// follows. Events after `seq` come next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Resync {
    /// `qgjob.resync/v1`.
    pub schema: String,
    /// The number of the newest event.
    pub seq: Seq,
}

/// An event as SSE and `-o jsonl` show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    /// `qgjob.event/v1`.
    pub schema: String,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}
