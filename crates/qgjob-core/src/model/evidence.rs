//! What an agent saw of an attempt. The agent reports; `queue::verdict` judges.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::job::Reason;
use super::test_result::TestOutcome;

/// All that an agent knows about an attempt when it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Why the agent stopped the attempt before its time, if it did.
    #[serde(default)]
    pub stopped: Option<Stop>,
    /// A fault outside the tests: device, install, agent, runner, project.
    #[serde(default)]
    pub fault: Option<Fault>,
    /// How the runner's process ended; none when it was never started.
    #[serde(default)]
    pub exit: Option<Exit>,
    /// How many tests the runner said it would run, before it ran the first; none when it never said.
    #[serde(default)]
    pub selected: Option<u32>,
    /// What the runner's report says.
    pub report: Report,
}

/// Why an agent stops an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// The server said that the job is cancelled.
    Cancelled,
    /// The attempt's time is over.
    TimedOut,
    /// The server said that the lease is lost, or could not be reached for as long as the lease lasts.
    LeaseLost,
    /// The agent is shutting down and gives the job back.
    Shutdown,
}

/// A fault outside the tests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// `device_fault`, `install_fault`, `build_mismatch`, `agent_fault`, `runner_crashed` or `project_invalid`.
    pub reason: Reason,
    /// What was seen, for people; at most 8 KiB.
    pub detail: String,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// The runner's own report of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Report {
    /// There is no report.
    Missing,
    /// There is a file, but it cannot be understood: why.
    Unreadable {
        /// For people.
        detail: String,
    },
    /// It was read to its end.
    Read {
        /// Every test that was selected.
        tests: Vec<ReportedTest>,
        /// Errors outside tests: a file that cannot be loaded, "No tests found".
        errors: Vec<String>,
    },
}

/// A test in the runner's report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportedTest {
    /// The runner's id of the test.
    pub test_id: String,
    /// The test's file inside the project.
    pub file: String,
    /// What the runner makes of it.
    pub outcome: TestOutcome,
    /// How often it was tried; 0 means that it did not run.
    pub tries: u32,
}
