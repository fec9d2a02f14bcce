//! Files kept from an attempt.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::sha256::Sha256;
use super::{attempt, job};

super::id::define_id!("art_", "an artifact");

/// A file kept from an attempt; its bytes are a blob named by `sha256`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Artifact {
    /// Given by the server.
    pub id: Id,
    /// The job it belongs to.
    pub job_id: job::Id,
    /// The attempt that made it.
    pub attempt_id: attempt::Id,
    /// Path inside the attempt's results: `onboarding/trace.zip`. Relative, no `..`.
    pub name: String,
    /// Media type: `image/png`.
    pub media_type: String,
    /// Size of the file.
    pub size_bytes: u64,
    /// The bytes' name.
    pub sha256: Sha256,
    /// When it arrived whole.
    pub created_at: Timestamp,
}
