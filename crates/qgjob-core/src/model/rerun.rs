//! What a job of a rerun repeats.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::job;

/// The most tests that a job of a rerun names; with more it repeats all of the job before it.
pub const MOST_NAMED: usize = 1_000;

/// What a job of a rerun repeats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rerun {
    /// The job of the run before.
    pub of: job::Id,
    /// The tests that it runs, at most 1,000; none when it repeats whatever that job ran. A runner that cannot run these
    /// alone runs more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<NamedTest>,
}

/// A test that is repeated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NamedTest {
    /// The runner's id of the test. Another device may make another one of it.
    pub test_id: String,
    /// Titles from the outermost `describe` to the test.
    pub title: Vec<String>,
    /// As of the try that was recorded: how many of its titles name what must run as one with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<u32>,
    /// Its line in its file, from 1.
    pub line: u32,
    /// Whether it failed, so that nothing but a pass will do. The others ran in one with such a test, or did not run
    /// because of it: what the suite makes of them counts.
    pub failed: bool,
}

impl Rerun {
    /// Which tests, for people: nothing when it names none.
    pub fn named(&self) -> String {
        match self.tests.len() {
            0 => String::new(),
            1 => "1 test".to_owned(),
            several => format!("{several} tests"),
        }
    }
}
