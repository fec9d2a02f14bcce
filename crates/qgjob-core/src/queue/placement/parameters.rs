//! The numbers of the policy.

use serde::{Deserialize, Serialize};

use super::seconds::bounded;

/// The numbers of the policy. `docs/PLACEMENT.md` tells what each does and how far it may be turned; the defaults and
/// ranges come from the project's own simulations. [`super::Placement::new`] brings what is no number, negative or
/// out of all bounds to the nearest end of 0 to 1e9.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Parameters {
    /// A device joins a served group only if that many installs' worth of work waits there per serving device.
    pub spread_installs: f64,
    /// ... and only if the work per serving device exceeds this share of the group's longest job.
    pub spread_longest: f64,
    /// ... and the more groups wait per device, the more work it must find: the weight of that term.
    pub crowding: f64,
    /// A group that started nothing for as long as this many installs may take one more device.
    pub patience_installs: f64,
    /// One level of priority is worth this many seconds of waiting.
    pub priority_worth_s: f64,
    /// Seconds of head start a group loses for each second of the whole pool's time that its jobs need.
    pub size_penalty: f64,
    /// A device leaves a build it has only for a group ahead by more than this, or if staying lasts longer than this
    /// while the org is over its share; seconds.
    pub break_after_s: f64,
    /// An org yields once it holds more devices than this many fair shares, or than half of the pool.
    pub share_factor: f64,
    /// Head start of work that only few of a device's peers can do, at most; seconds.
    pub scarcity_s: f64,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            spread_installs: 4.0,
            spread_longest: 0.8,
            crowding: 3.0,
            patience_installs: 5.0,
            priority_worth_s: 300.0,
            size_penalty: 10.0,
            break_after_s: 1800.0,
            share_factor: 4.0,
            scarcity_s: 1800.0,
        }
    }
}

impl Parameters {
    pub(super) fn within_bounds(self) -> Self {
        let bounded = |number| bounded(number, 0.0, 1e9);
        Self {
            spread_installs: bounded(self.spread_installs),
            spread_longest: bounded(self.spread_longest),
            crowding: bounded(self.crowding),
            patience_installs: bounded(self.patience_installs),
            priority_worth_s: bounded(self.priority_worth_s),
            size_penalty: bounded(self.size_penalty),
            break_after_s: bounded(self.break_after_s),
            share_factor: bounded(self.share_factor),
            scarcity_s: bounded(self.scarcity_s),
        }
    }
}
