//! Runs: what one submit creates and what a pipeline waits for.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ci::CiRun;
use super::job::{self, Conclusion, Status};
use super::name::{AppVersionId, IdempotencyKey, LabelKey, LabelValue, OrgId};
use super::test_result::Counts;

super::id::define_id!("run_", "a run");

/// Labels: at most 32 per run.
pub type Labels = BTreeMap<LabelKey, LabelValue>;

/// 1 to 1,000 jobs for one app version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Run {
    /// Given by the server.
    pub id: Id,
    /// The tenant.
    pub org_id: OrgId,
    /// The label of the build under test.
    pub app_version_id: AppVersionId,
    /// A name for people.
    pub name: Option<String>,
    /// Labels given at submit.
    pub labels: Labels,
    /// The key that made repeated submits one run.
    pub idempotency_key: Option<IdempotencyKey>,
    /// The job this run retries, when it was made by `retry`.
    pub retry_of: Option<job::Id>,
    /// The pipeline's run that submitted it, when that logged in with an id-token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ci: Option<Box<CiRun>>,
    /// The run whose failures this run repeats, if it is a rerun. That one may have been forgotten since.
    pub rerun_of: Option<Id>,
    /// `completed` when every job is; `running` when one is or was; else `queued` or `scheduled`.
    pub status: Status,
    /// Set once all jobs are completed.
    pub conclusion: Option<Conclusion>,
    /// Jobs by where they are.
    pub jobs: JobCounts,
    /// Tests by outcome, as far as jobs came to a verdict. Of a rerun always those of the full set: what it carries, what its
    /// own jobs came to, and of each test that they have no result of what it had before.
    #[serde(default)]
    pub tests: Counts,
    /// The tests of the run before that a rerun does not repeat, with the outcome that they had there.
    #[serde(default)]
    pub carried: Counts,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When the last job was completed.
    pub finished_at: Option<Timestamp>,
    /// Rises with every change: the ETag.
    pub version: u64,
}

/// How many jobs of a run are where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobCounts {
    /// All.
    pub total: u32,
    /// Scheduled for later.
    pub scheduled: u32,
    /// Waiting for a device.
    pub queued: u32,
    /// On a device.
    pub running: u32,
    /// Every test passed.
    pub passed: u32,
    /// A test said no.
    pub failed: u32,
    /// No verdict: infrastructure gave up.
    pub errored: u32,
    /// Ran longer than allowed.
    pub timed_out: u32,
    /// Cancelled by somebody.
    pub cancelled: u32,
    /// Every test was skipped by the suite itself.
    pub skipped: u32,
    /// Passed jobs in which a test passed only on a retry.
    pub flaky: u32,
}
