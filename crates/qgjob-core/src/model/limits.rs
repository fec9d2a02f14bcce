//! Limits: what an org may hold of the devices, what is paused, and how many jobs of a concurrency group run at a time.
//! They hold back what would start; what runs goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::name::{AppVersionId, ConcurrencyGroup, OrgId};

/// What a weight may be.
pub const WEIGHTS: RangeInclusive<u32> = 1..=1_000;
/// What a cap on running jobs may be. To let none start, an org is paused.
pub const CAPS: RangeInclusive<u32> = 1..=100_000;
/// What the limit of a concurrency group may be.
pub const CONCURRENCY_LIMITS: RangeInclusive<u32> = 1..=100_000;
/// The limit of a concurrency group for which none was set.
pub const USUAL_CONCURRENCY: u32 = 1;

/// What an org may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrgLimits {
    /// Weight of its fair share of the devices, 1 to 1,000; 1 unless said otherwise.
    pub weight: u32,
    /// Most of its jobs that run at a time, 1 to 100,000; none: no limit.
    pub max_running: Option<u32>,
    /// Whether its waiting jobs rest.
    pub paused: bool,
}

impl Default for OrgLimits {
    fn default() -> Self {
        Self { weight: 1, max_running: None, paused: false }
    }
}

/// A change of an org's limits: what is not given stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OrgChange {
    /// The new weight.
    pub weight: Option<u32>,
    /// The new cap on running jobs, or none to lift it.
    pub max_running: Option<Option<u32>>,
    /// Whether its waiting jobs rest.
    pub paused: Option<bool>,
}

impl OrgLimits {
    /// What they are after a change.
    #[must_use]
    pub fn with(self, change: OrgChange) -> Self {
        Self {
            weight: change.weight.unwrap_or(self.weight),
            max_running: change.max_running.unwrap_or(self.max_running),
            paused: change.paused.unwrap_or(self.paused),
        }
    }
}

/// All limits of one org.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limited {
    /// Its own.
    pub org: OrgLimits,
    /// App versions whose waiting jobs rest.
    pub paused: BTreeSet<AppVersionId>,
    /// Most jobs that run at a time, by what they name.
    pub concurrency: BTreeMap<ConcurrencyGroup, u32>,
}

/// All limits. An org for which nothing was set may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// By org.
    pub orgs: BTreeMap<OrgId, Limited>,
}

impl Limits {
    /// What an org may do.
    pub fn org(&self, org: &OrgId) -> OrgLimits {
        self.orgs.get(org).map(|limited| limited.org).unwrap_or_default()
    }

    /// Whether the waiting jobs of an app version rest, be its org paused or not.
    pub fn is_paused(&self, org: &OrgId, app_version: &AppVersionId) -> bool {
        self.orgs.get(org).is_some_and(|limited| limited.paused.contains(app_version))
    }

    /// Most jobs of a concurrency group that run at a time.
    pub fn concurrency(&self, org: &OrgId, name: &ConcurrencyGroup) -> u32 {
        let limit = self.orgs.get(org).and_then(|limited| limited.concurrency.get(name));
        limit.copied().unwrap_or(USUAL_CONCURRENCY)
    }

    /// Whether anything is paused.
    pub fn pauses_something(&self) -> bool {
        self.orgs.values().any(|limited| limited.org.paused || !limited.paused.is_empty())
    }
}
