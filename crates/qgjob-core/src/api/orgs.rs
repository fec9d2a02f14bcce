//! An org's limits, and those of its concurrency groups.

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::problem::FieldError;
use crate::model::limits::{CAPS, CONCURRENCY_LIMITS, OrgChange, OrgLimits, WEIGHTS};
use crate::model::name::{ConcurrencyGroup, OrgId};

/// What an org may do, and what it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrgView {
    /// `qgjob.org/v1`.
    pub schema: String,
    /// The tenant.
    pub org_id: OrgId,
    /// Its limits.
    #[serde(flatten)]
    pub limits: OrgLimits,
    /// Its jobs that wait for a device.
    pub queued: u32,
    /// Its jobs on a device.
    pub running: u32,
}

/// Body of `PATCH /orgs/{org_id}/quotas`: what is not given stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuotaChange {
    /// Weight of its fair share of the devices: 1 to 1,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Most of its jobs that run at a time: 1 to 100,000; `null`: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    #[schema(value_type = Option<u32>)]
    pub max_running: Option<Option<u32>>,
}

/// Tells `null` from what is not there.
fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<u32>>, D::Error> {
    Option::deserialize(from).map(Some)
}

impl QuotaChange {
    /// Every field that is out of bounds.
    pub fn exceeded(&self) -> Vec<FieldError> {
        let mut found = Vec::new();
        if self.weight.is_some_and(|weight| !WEIGHTS.contains(&weight)) {
            found.push(wrong("/weight", "must be 1 to 1,000"));
        }
        if self.max_running.flatten().is_some_and(|most| !CAPS.contains(&most)) {
            found.push(wrong(
                "/max_running",
                "must be 1 to 100,000, or null for no limit; to let none start, pause the org",
            ));
        }
        found
    }
}

impl From<QuotaChange> for OrgChange {
    fn from(change: QuotaChange) -> Self {
        Self { weight: change.weight, max_running: change.max_running, paused: None }
    }
}

/// A concurrency group: of the org's jobs that name it, only so many run at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConcurrencyView {
    /// `qgjob.concurrency_group/v1`.
    pub schema: String,
    /// The tenant.
    pub org_id: OrgId,
    /// Its name.
    pub concurrency_group: ConcurrencyGroup,
    /// Most jobs of it that run at a time.
    pub limit: u32,
    /// Jobs of it that wait for a device.
    pub queued: u32,
    /// Jobs of it on a device.
    pub running: u32,
}

/// Body of `PUT /orgs/{org_id}/concurrency-groups/{name}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConcurrencyLimit {
    /// Most jobs of it that run at a time: 1 to 100,000. 1 is what holds when none was set.
    pub limit: u32,
}

impl ConcurrencyLimit {
    /// Every field that is out of bounds.
    pub fn exceeded(&self) -> Vec<FieldError> {
        let fits = CONCURRENCY_LIMITS.contains(&self.limit);
        if fits { Vec::new() } else { vec![wrong("/limit", "must be 1 to 100,000")] }
    }
}

fn wrong(pointer: &str, detail: &str) -> FieldError {
    FieldError { pointer: pointer.to_owned(), detail: detail.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> QuotaChange {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn null_lifts_a_cap_and_what_is_not_given_stays() {
        let before = OrgLimits { weight: 2, max_running: Some(5), paused: true };
        let after = |text| before.with(read(text).into());
        assert_eq!(after("{}"), before);
        assert_eq!(after(r#"{"max_running":null}"#), OrgLimits { max_running: None, ..before });
        assert_eq!(after(r#"{"weight":7}"#), OrgLimits { weight: 7, ..before });
        for text in ["{}", r#"{"max_running":null}"#, r#"{"weight":3,"max_running":4}"#] {
            assert_eq!(serde_json::to_string(&read(text)).unwrap(), text, "the client says the same");
        }
    }

    #[test]
    fn bounds_hold_at_their_edges() {
        for (text, exceeded) in [
            (r#"{"weight":1,"max_running":1}"#, 0),
            (r#"{"weight":1000,"max_running":100000}"#, 0),
            (r#"{"weight":0,"max_running":0}"#, 2),
            (r#"{"weight":1001,"max_running":100001}"#, 2),
        ] {
            assert_eq!(read(text).exceeded().len(), exceeded, "{text}");
        }
        let limits = [0, 1, 100_000, 100_001].map(|limit| ConcurrencyLimit { limit }.exceeded().is_empty());
        assert_eq!(limits, [false, true, true, false]);
    }
}
