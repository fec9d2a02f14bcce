//! The server about itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::Code;

/// Answer to `GET /version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Version {
    /// `qgjob.version/v1`.
    pub schema: String,
    /// The server's version of qgjob.
    pub version: String,
    /// The versions of the public API that it speaks: `v1`.
    pub api: Vec<String>,
    /// The versions of the agent protocol that it speaks: `v1`.
    pub agent: Vec<String>,
}

/// A kind of error: item of `GET /problems`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProblemKind {
    /// The word in `code`.
    pub code: Code,
    /// The HTTP status.
    pub status: u16,
    /// The exit code of a command that ends with it.
    pub exit_code: u8,
    /// A short sentence.
    pub title: String,
    /// What to do about it.
    pub what_to_do: String,
}

impl ProblemKind {
    /// What is known of `code`.
    pub fn of(code: Code) -> Self {
        Self {
            code,
            status: code.status(),
            exit_code: code.exit_code().into(),
            title: code.title().to_owned(),
            what_to_do: code.what_to_do().to_owned(),
        }
    }
}

/// Answer to `GET /readyz?verbose`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Readiness {
    /// Whether the server can do its work: the answer's status is 200 or 503.
    pub ready: bool,
    /// What was looked at.
    pub checks: Vec<Check>,
}

/// One thing that must be well for the server to work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Check {
    /// `store`, `disk` or `draining`.
    pub name: String,
    /// Whether it is well.
    pub ok: bool,
    /// For people.
    pub detail: String,
}
