//! Binding labels to builds.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::build::{AppVersion, Build};
use crate::model::name::{AppVersionId, OrgId};

/// Body of `POST /app-versions`: binds a label to an uploaded build. Repeating it is harmless.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAppVersion {
    /// The tenant.
    pub org_id: OrgId,
    /// The label.
    pub app_version_id: AppVersionId,
    /// The build; its bytes must have been uploaded.
    pub build: Build,
}

/// An app version as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AppVersionView {
    /// `qgjob.app_version/v1`.
    pub schema: String,
    /// The label and its build.
    #[serde(flatten)]
    pub app_version: AppVersion,
}
