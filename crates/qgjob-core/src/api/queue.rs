//! The queue, by group, and what holds it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::group;
use crate::model::name::{AppVersionId, OrgId};
use crate::model::sha256::Sha256;

/// A group that has queued or running jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GroupView {
    /// What its jobs have in common.
    #[serde(flatten)]
    pub key: group::Key,
    /// The build, once the label is bound.
    pub app_sha256: Option<Sha256>,
    /// Jobs that wait for a device.
    pub queued: u32,
    /// Jobs on a device.
    pub running: u32,
    /// The most urgent waiting job: 1 to 10.
    pub top_priority: Option<u8>,
    /// Since when the oldest waiting job waits.
    pub oldest_queued_at: Option<Timestamp>,
    /// Names of online devices that have the build.
    pub warm_devices: Vec<String>,
    /// Whether the app version's waiting jobs rest.
    pub paused: bool,
    /// Whether all waiting jobs of the org rest.
    pub org_paused: bool,
}

/// The queue of one app version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueueView {
    /// `qgjob.queue/v1`.
    pub schema: String,
    /// The tenant.
    pub org_id: OrgId,
    /// The label.
    pub app_version_id: AppVersionId,
    /// Whether its waiting jobs rest.
    pub paused: bool,
    /// Whether all waiting jobs of the org rest.
    pub org_paused: bool,
    /// Jobs that wait for a device.
    pub queued: u32,
    /// Jobs on a device.
    pub running: u32,
    /// Its groups with waiting or running jobs, those that wait longest first.
    pub groups: Vec<GroupView>,
}
