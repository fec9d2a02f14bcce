//! What a rule answers when it says no.

use super::attempt::Epoch;
use super::job::Status;
use super::name::{AppVersionId, BadName};
use super::sha256::Sha256;

/// A rule said no. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such thing, or not visible to the caller.
    #[error("{what} not found")]
    NotFound {
        /// Which thing: `job job_01…`.
        what: String,
    },
    /// The command does not fit the job's status.
    #[error("cannot {command} a job that is {status}")]
    WrongStatus {
        /// What was asked.
        command: &'static str,
        /// What the job is.
        status: Status,
    },
    /// The caller's lease is over: another epoch holds the job, or the attempt has ended.
    #[error("lease lost: epoch {epoch} no longer holds the attempt")]
    LeaseLost {
        /// The epoch that was shown.
        epoch: Epoch,
    },
    /// The label already names another build.
    #[error("app version {app_version_id} is bound to sha256 {bound}, not to {given}")]
    LabelBound {
        /// The label.
        app_version_id: AppVersionId,
        /// What it names.
        bound: Sha256,
        /// What the caller wanted it to name.
        given: Sha256,
    },
    /// The idempotency key was used with another request.
    #[error("the idempotency key was used before with a different request")]
    KeyReused,
    /// The id-token was shown before.
    #[error("the id-token was used before; its issuer names each with a jti of its own")]
    IdTokenUsed,
    /// A pipeline has been logged in for too long.
    #[error("a login can be renewed for 2 hours, for 24 while what it submitted is not over")]
    LoginOver,
    /// A blob that the request names was not uploaded.
    #[error("{what} {sha256} has not been uploaded")]
    NotUploaded {
        /// `bundle` or `app`.
        what: &'static str,
        /// The bytes' name.
        sha256: Sha256,
    },
    /// The request asks for more than is allowed.
    #[error("{what}: at most {limit} allowed, {given} given")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: u64,
        /// What was given.
        given: u64,
    },
    /// Log bytes do not fit what the server has.
    #[error("log bytes must continue at offset {expected}")]
    LogOffset {
        /// Where the server's copy ends.
        expected: u64,
    },
    /// A value in the request is not allowed.
    #[error("{0}")]
    Invalid(String),
}

impl From<BadName> for Refusal {
    fn from(bad: BadName) -> Self {
        Self::Invalid(bad.to_string())
    }
}
