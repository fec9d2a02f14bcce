//! CI: which run of which pipeline somebody is, and what that is allowed.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::name::IssuerUrl;
use super::policy;
use super::priority::Priority;
use super::selector::words;

/// A run of a pipeline, as the issuer of its id-token vouches for it. Texts have at most 256 bytes and no control
/// characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CiRun {
    /// Who vouches.
    #[schema(value_type = String)]
    pub issuer: IssuerUrl,
    /// The token's `sub`.
    pub subject: String,
    /// `owner/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The pipeline's run: GitHub's `run_id`, GitLab's `pipeline_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// GitHub's `run_attempt`, GitLab's `job_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<String>,
    /// GitHub's `event_name`, GitLab's `pipeline_source`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// The branch or tag.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub git_ref: Option<String>,
    /// The commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha: Option<String>,
}

/// What a token of kind `ci` allows, and to whom it was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Grant {
    /// The policy that let it in; the token ends with it.
    pub policy_id: policy::Id,
    /// What it may do.
    pub may: BTreeSet<May>,
    /// The most urgent priority it may ask for.
    pub max_priority: Priority,
    /// The pipeline's run.
    pub run: CiRun,
}

/// What a pipeline may do with what is its org's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum May {
    /// Upload builds and bundles, bind app versions, submit and retry.
    Submit,
    /// Read runs, jobs, their logs, events and artifacts, app versions, and the queue.
    Read,
    /// Cancel runs and jobs.
    Cancel,
}
words!(May, "scope", Submit => "submit", Read => "read", Cancel => "cancel");

impl May {
    /// All.
    pub const ALL: [Self; 3] = [Self::Submit, Self::Read, Self::Cancel];
}
