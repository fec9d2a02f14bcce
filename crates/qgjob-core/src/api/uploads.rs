//! Resumable uploads of builds and project bundles.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::name::OrgId;
use crate::model::selector::words;
use crate::model::sha256::Sha256;

/// What is uploaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An app: `.apk`, `.ipa`, `.app.zip`.
    App,
    /// A project: `.tar.zst`.
    Bundle,
}
words!(Kind, "upload kind", App => "app", Bundle => "bundle");

/// Body of `POST /uploads`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUpload {
    /// The tenant.
    pub org_id: OrgId,
    /// What it is.
    pub kind: Kind,
    /// Size of the file.
    pub size_bytes: u64,
    /// SHA-256 of the file; checked when the upload is completed.
    pub sha256: Sha256,
}

/// An upload as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UploadView {
    /// Pass it to `PATCH` and `complete`; none when the bytes are on the server already.
    pub upload_id: Option<String>,
    /// Whether the bytes are on the server: nothing is left to do.
    pub exists: bool,
    /// How many bytes the server has: where `PATCH` continues.
    pub offset: u64,
}
