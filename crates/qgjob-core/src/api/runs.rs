//! Submitting and reading runs.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::jobs::JobView;
use crate::model::group;
use crate::model::job::{self, Conclusion, Reset, Status};
use crate::model::name::{AppVersionId, ConcurrencyGroup, EnvName, OrgId, TestPath};
use crate::model::priority::Priority;
use crate::model::run::{self, Labels, Run};
use crate::model::selector::{Platform, Selector, Target};
use crate::model::sha256::Sha256;
use crate::model::shard::{Shard, ShardCount, Shards};

/// Body of `POST /runs`. The header `Idempotency-Key` makes repeated requests one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRun {
    /// The tenant.
    pub org_id: OrgId,
    /// The label of the build under test. Jobs wait until it is bound to a build.
    pub app_version_id: AppVersionId,
    /// The project, as uploaded.
    pub bundle_sha256: Sha256,
    /// The test files, 1 to 1,000, none twice: one job each, or one for each shard.
    pub tests: Vec<TestPath>,
    /// A name for people, at most 256 bytes.
    #[serde(default)]
    pub name: Option<String>,
    /// At most 32.
    #[serde(default)]
    pub labels: Labels,
    /// How the jobs are to be run.
    #[serde(flatten)]
    pub options: JobOptions,
}

/// How jobs are to be run; every field has a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobOptions {
    /// Only devices of this platform; the build's own platform always counts.
    #[serde(default)]
    pub platform: Option<Platform>,
    /// The kind of device.
    #[serde(default)]
    pub target: Target,
    /// What the device must be like.
    #[serde(default)]
    pub selector: Selector,
    /// 1 to 10, 10 most urgent.
    #[serde(default)]
    pub priority: Priority,
    /// How long an attempt may take: 1 s to 24 h.
    #[serde(default = "default_timeout")]
    pub timeout_ms: u64,
    /// How long a job may wait for its first device: 1 s to 30 days.
    #[serde(default = "default_queue_timeout")]
    pub queue_timeout_ms: u64,
    /// Retries for infrastructure reasons, 0 to 10.
    #[serde(default = "default_infra_retries")]
    pub infra_retries: u32,
    /// The runner's retries of a failed test, 0 to 10.
    #[serde(default)]
    pub test_retries: u32,
    /// What happens to the app's data before each test.
    #[serde(default)]
    pub reset: Reset,
    /// Variables for the tests: at most 64, values at most 4 KiB.
    #[serde(default)]
    pub env: BTreeMap<EnvName, String>,
    /// Start no job before; at most 30 days ahead.
    #[serde(default)]
    pub not_before: Option<Timestamp>,
    /// Of the org's jobs that name the same, only so many run at a time: 1, unless the org set another limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_group: Option<ConcurrencyGroup>,
    /// Split the tests of a file into several jobs, by the times of its latest run with the same app: `auto` as far as that
    /// makes the run end sooner, a number into at most so many. Files without recorded tests stay whole, and a run has no
    /// more than 1,000 jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ShardCount>)]
    pub shards: Option<Shards>,
}

impl JobOptions {
    /// The group of jobs of an app version that ask for this.
    pub fn group(&self, org_id: &OrgId, app_version_id: &AppVersionId) -> group::Key {
        group::Key {
            org_id: org_id.clone(),
            app_version_id: app_version_id.clone(),
            platform: self.platform,
            target: self.target,
            selector: self.selector.clone(),
            concurrency_group: self.concurrency_group.clone(),
        }
    }
}

fn default_timeout() -> u64 {
    30 * 60 * 1000
}

fn default_queue_timeout() -> u64 {
    2 * 60 * 60 * 1000
}

fn default_infra_retries() -> u32 {
    2
}

impl Default for JobOptions {
    fn default() -> Self {
        Self {
            platform: None,
            target: Target::default(),
            selector: Selector::default(),
            priority: Priority::default(),
            timeout_ms: default_timeout(),
            queue_timeout_ms: default_queue_timeout(),
            infra_retries: default_infra_retries(),
            test_retries: 0,
            reset: Reset::default(),
            env: BTreeMap::new(),
            not_before: None,
            concurrency_group: None,
            shards: None,
        }
    }
}

/// Body of `POST /jobs`: one test file, in the shape of the two classic commands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewJob {
    /// The tenant.
    pub org_id: OrgId,
    /// The label of the build under test.
    pub app_version_id: AppVersionId,
    /// The project, as uploaded.
    pub bundle_sha256: Sha256,
    /// The test file.
    pub test: TestPath,
    /// How it is to be run.
    #[serde(flatten)]
    pub options: JobOptions,
}

impl From<NewJob> for NewRun {
    fn from(job: NewJob) -> Self {
        Self {
            org_id: job.org_id,
            app_version_id: job.app_version_id,
            bundle_sha256: job.bundle_sha256,
            tests: vec![job.test],
            name: None,
            labels: Labels::new(),
            options: job.options,
        }
    }
}

/// Answer to `POST /runs` and `POST /jobs`: the run exists, whatever happens next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Submitted {
    /// `qgjob.submit/v1`.
    pub schema: String,
    /// The run.
    pub run_id: run::Id,
    /// The job, when there is exactly one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<job::Id>,
    /// The run's status.
    pub status: Status,
    /// The run's conclusion, set when an idempotency key led to a run that is already over.
    pub conclusion: Option<Conclusion>,
    /// The tenant.
    pub org_id: OrgId,
    /// The label.
    pub app_version_id: AppVersionId,
    /// The build, once the label is bound.
    pub app_sha256: Option<Sha256>,
    /// Whether an earlier request with the same idempotency key made the run.
    pub deduplicated: bool,
    /// The jobs, in the order of `tests`; the shards of a file one after the other.
    pub jobs: Vec<SubmittedJob>,
    /// When the run was accepted.
    pub created_at: Timestamp,
}

/// A job in the answer to a submit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SubmittedJob {
    /// The job.
    pub job_id: job::Id,
    /// Its test file.
    pub test: TestPath,
    /// Which of the file's tests; none for all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
    /// Its status.
    pub status: Status,
}

/// A run as it stands, with its jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunView {
    /// `qgjob.run/v1`.
    pub schema: String,
    /// The run.
    #[serde(flatten)]
    pub run: Run,
    /// What `qgjob wait` exits with, once the run is over.
    pub exit_code: Option<u8>,
    /// What was done about the app, over all attempts.
    pub installs: Installs,
}

/// A run with its jobs: answer to `GET /runs/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunWithJobs {
    /// The run.
    #[serde(flatten)]
    pub run: RunView,
    /// Its jobs, in the order of submission.
    pub job_list: Vec<JobView>,
}

/// Installs over the attempts of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Installs {
    /// Times the app was sent to a device.
    pub made: u32,
    /// Attempts that found the right bytes on the device.
    pub avoided: u32,
}

/// Body of `POST /runs/cancel-by-key`: cancels the run that a submit with this key made, and makes a submit that is
/// still on its way be born cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelByKey {
    /// The tenant.
    pub org_id: OrgId,
    /// The key.
    pub idempotency_key: crate::model::name::IdempotencyKey,
}
