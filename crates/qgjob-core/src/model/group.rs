//! Queued jobs that one device can run without another install.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::device::Device;
use super::name::{AppVersionId, ConcurrencyGroup, OrgId};
use super::selector::{Platform, Selector, Target, words};

/// Number of a group, given by the store.
pub type Id = i64;

/// What the jobs of one group have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct Key {
    /// The tenant.
    pub org_id: OrgId,
    /// The label of the build.
    pub app_version_id: AppVersionId,
    /// The platform asked for, if one was.
    pub platform: Option<Platform>,
    /// The kind of device asked for.
    pub target: Target,
    /// What the device must be like.
    pub selector: Selector,
    /// What its jobs name so that only so many run at a time, if they name one. Keys without it are stored as they were
    /// before there was any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_group: Option<ConcurrencyGroup>,
}

impl Key {
    /// Whether `device` may run the group's jobs, given the platform of the build when that is known.
    pub fn accepts(&self, device: &Device, build: Option<Platform>) -> bool {
        suits(device, self.target, [self.platform, build], Some(&self.org_id), &self.selector)
    }
}

/// Whether a device is of the target and of all platforms that are given, may serve the org, and has what is selected.
/// One that serves a single org suits nobody without an org.
pub fn suits(
    device: &Device,
    target: Target,
    platforms: [Option<Platform>; 2],
    org: Option<&OrgId>,
    selector: &Selector,
) -> bool {
    target.takes(device.kind)
        && platforms.into_iter().flatten().all(|platform| platform == device.platform)
        && device.serves.as_ref().is_none_or(|served| Some(served) == org)
        && selector.matches(device)
}

/// Why one group comes before another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Because {
    /// Its org is within its share of the devices, the other is over it.
    Share,
    /// It was moved to the front.
    Promoted,
    /// It is more urgent.
    Priority,
    /// It waits longer.
    Age,
    /// It is smaller.
    Size,
    /// Nobody serves it, while devices serve the other.
    Unserved,
}
words!(Because, "reason to come first",
    Share => "share", Promoted => "promoted", Priority => "priority", Age => "age", Size => "size",
    Unserved => "unserved");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_without_a_concurrency_group_is_stored_as_before() {
        let old = r#"{"org_id":"acme","app_version_id":"v1","platform":null,"target":"any","selector":{}}"#;
        let key: Key = serde_json::from_str(old).unwrap();
        assert_eq!(serde_json::to_string(&key).unwrap(), old);
        let named = Key { concurrency_group: Some("staging".parse().unwrap()), ..key.clone() };
        let text = serde_json::to_string(&named).unwrap();
        assert_eq!(serde_json::from_str::<Key>(&text).unwrap(), named);
        assert_ne!(named, key);
    }
}
