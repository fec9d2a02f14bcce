//! Agents: processes that own devices and run attempts.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::name::OrgId;
use super::selector::words;

super::id::define_id!("agt_", "an agent");

/// A registered agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Agent {
    /// Given at registration.
    pub id: Id,
    /// Its own name: the host's name by default.
    pub name: String,
    /// The org whose jobs alone it runs; none: all orgs.
    pub serves: Option<OrgId>,
    /// The agent's version of qgjob.
    pub version: String,
    /// What it is doing.
    pub state: State,
    /// When it last called.
    pub seen_at: Timestamp,
    /// When it registered.
    pub created_at: Timestamp,
}

/// What an agent is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Called within the last lease.
    Online,
    /// Has not called for longer than a lease.
    Offline,
    /// Takes no new jobs.
    Draining,
}
words!(State, "agent state", Online => "online", Offline => "offline", Draining => "draining");
