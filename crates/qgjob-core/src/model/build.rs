//! Builds and the labels that orgs give them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::name::{AppVersionId, OrgId};
use super::selector::Platform;
use super::sha256::Sha256;

/// One set of app bytes, with what the bytes say about themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Build {
    /// The bytes' name.
    pub sha256: Sha256,
    /// Size of the file.
    pub size_bytes: u64,
    /// What the app runs on.
    pub platform: Platform,
    /// The app's own id: `dev.qgjob.demo`.
    pub app_id: String,
    /// The version for people: `1.4.2`.
    pub version_name: String,
    /// The version for the platform, as text: `7`.
    pub version_code: String,
    /// The activity that starts the app, when the platform has such a thing.
    #[serde(default)]
    pub launch_activity: Option<String>,
}

/// An org's label for a build. A label never changes its build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AppVersion {
    /// The tenant.
    pub org_id: OrgId,
    /// The label.
    pub app_version_id: AppVersionId,
    /// What it names.
    pub build: Build,
    /// When it was bound.
    pub created_at: Timestamp,
}
