//! Jobs: one test file, or a shard of one, for one app version, on one kind of target.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::name::{AppVersionId, ConcurrencyGroup, EnvName, OrgId, TestPath};
use super::priority::Priority;
use super::rerun::Rerun;
use super::selector::{Platform, Selector, Target, words};
use super::sha256::Sha256;
use super::shard::{self, Shard};
use super::test_result::Counts;
use super::{attempt, device, run};

super::id::define_id!("job_", "a job");

/// A job as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Job {
    /// Given by the server.
    pub id: Id,
    /// The run it is part of.
    pub run_id: run::Id,
    /// The tenant.
    pub org_id: OrgId,
    /// The label of the build under test.
    pub app_version_id: AppVersionId,
    /// What to do.
    #[serde(flatten)]
    pub spec: Spec,
    /// Where it is in its life.
    pub status: Status,
    /// How it ended; set exactly when `status` is `completed`, and never changed.
    pub conclusion: Option<Conclusion>,
    /// Why it ended so, or why it was queued again.
    pub reason: Option<Reason>,
    /// The same for people, with what was seen.
    pub detail: Option<String>,
    /// What the current attempt is doing.
    pub phase: Option<attempt::Phase>,
    /// Attempts so far.
    pub attempts: u32,
    /// Attempts that ended for infrastructure reasons; limited by `infra_retries`.
    pub infra_faults: u32,
    /// Devices on which an attempt ended for infrastructure reasons; others are preferred.
    pub avoid: Vec<device::Id>,
    /// Not started before.
    pub not_before: Option<Timestamp>,
    /// Since when it is to start before others, if it was promoted.
    pub promoted_at: Option<Timestamp>,
    /// Gives up waiting for a device then. Moved by the time that it was paused.
    pub queue_deadline: Timestamp,
    /// How long it is expected to hold a device, an install not counted: from what the latest jobs of its test file, its app
    /// and its org took when it was submitted.
    pub predicted_ms: u64,
    /// The device of the latest attempt.
    pub device_id: Option<device::Id>,
    /// Tests by outcome, of the attempt that decided.
    pub tests: Counts,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When its first attempt started.
    pub started_at: Option<Timestamp>,
    /// When it was completed.
    pub finished_at: Option<Timestamp>,
    /// Rises with every change: the ETag.
    pub version: u64,
}

/// What a job is asked to do; never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Spec {
    /// The test file.
    pub test: TestPath,
    /// Which of the file's tests; none for all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
    /// What it repeats, and which tests of that alone, if its run is a rerun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerun: Option<Rerun>,
    /// The project the file is in, as uploaded.
    pub bundle_sha256: Sha256,
    /// The platform asked for, if one was.
    pub platform: Option<Platform>,
    /// The kind of device.
    pub target: Target,
    /// What the device must be like.
    pub selector: Selector,
    /// How urgent.
    pub priority: Priority,
    /// How long an attempt may take, from its start on the device.
    pub timeout_ms: u64,
    /// How often an attempt that failed for infrastructure reasons is repeated.
    pub infra_retries: u32,
    /// How often the runner repeats a failed test within one attempt.
    pub test_retries: u32,
    /// What happens to the app's data before each test.
    pub reset: Reset,
    /// Variables for the tests.
    pub env: BTreeMap<EnvName, String>,
    /// What it names so that only so many run at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_group: Option<ConcurrencyGroup>,
}

impl Spec {
    /// The test file, which of its shards, and how many tests if it names them, for people.
    pub fn named(&self) -> String {
        let file = shard::named(&self.test, self.shard.as_ref());
        match self.rerun.as_ref().map(Rerun::named).filter(|tests| !tests.is_empty()) {
            Some(tests) => format!("{file} ({tests})"),
            None => file,
        }
    }
}

/// Where a job is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Not due yet (`--not-before`).
    Scheduled,
    /// Waiting for a device.
    Queued,
    /// An attempt holds it.
    Running,
    /// Over; has a conclusion.
    Completed,
}
words!(Status, "status",
    Scheduled => "scheduled", Queued => "queued", Running => "running", Completed => "completed");

/// How a job or run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Conclusion {
    /// Every selected test that the suite did not skip passed, and the runner agreed.
    Passed,
    /// A test said no, or the test file could not be loaded.
    Failed,
    /// Infrastructure gave up: no verdict on the tests.
    Errored,
    /// Ran longer than allowed.
    TimedOut,
    /// Somebody cancelled it.
    Cancelled,
    /// The suite itself skipped every test, or what the shard names is left to the last shard: neither green nor red, and
    /// never green on its own.
    Skipped,
}
words!(Conclusion, "conclusion", Passed => "passed", Failed => "failed", Errored => "errored",
    TimedOut => "timed_out", Cancelled => "cancelled", Skipped => "skipped");

/// Why a job ended or was queued again; stable words for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// All selected tests passed.
    TestsPassed,
    /// At least one test failed.
    TestsFailed,
    /// The suite skipped every test.
    TestsSkipped,
    /// The runner found no test in the file, or none of those that the shard names.
    NoTests,
    /// The test file or its configuration could not be loaded.
    LoadError,
    /// A test that the job is to repeat was not run, or was skipped although it had failed.
    TestsMissing,
    /// The project cannot be run as it is: no lockfile, unsupported versions, unknown test file.
    ProjectInvalid,
    /// The attempt took longer than `timeout`.
    Timeout,
    /// No device was free before the queue deadline.
    QueueDeadline,
    /// Cancelled by somebody.
    Cancelled,
    /// The agent stopped renewing its lease.
    LeaseLost,
    /// The agent gave the job back: it is shutting down.
    Released,
    /// The device left or broke.
    DeviceFault,
    /// The app could not be installed.
    InstallFault,
    /// The build failed on so many devices, for reasons other than its tests, that it is not tried any more.
    BrokenBuild,
    /// The build on the device is not the job's build.
    BuildMismatch,
    /// The agent could not do its part: disk full, no Node, Appium would not start.
    AgentFault,
    /// The runner ended without a verdict: crashed, or was killed.
    RunnerCrashed,
    /// The runner's report is missing or cannot be read.
    ReportUnreadable,
    /// The report, the exit code and what was seen live do not agree.
    ReportContradicts,
}
words!(Reason, "reason", TestsPassed => "tests_passed", TestsFailed => "tests_failed", TestsSkipped => "tests_skipped",
    NoTests => "no_tests", LoadError => "load_error", TestsMissing => "tests_missing", ProjectInvalid => "project_invalid", Timeout => "timeout",
    QueueDeadline => "queue_deadline", Cancelled => "cancelled", LeaseLost => "lease_lost", Released => "released",
    DeviceFault => "device_fault", InstallFault => "install_fault", BrokenBuild => "broken_build", BuildMismatch => "build_mismatch",
    AgentFault => "agent_fault", RunnerCrashed => "runner_crashed", ReportUnreadable => "report_unreadable",
    ReportContradicts => "report_contradicts");

/// What happens to the app's data before each test.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Reset {
    /// The app's data is cleared, the app stays installed.
    #[default]
    ClearData,
    /// Nothing: a test finds what the one before left.
    None,
    /// The app is removed and installed again before the job, and its data cleared before each test.
    Reinstall,
}
words!(Reset, "reset", ClearData => "clear-data", None => "none", Reinstall => "reinstall");
