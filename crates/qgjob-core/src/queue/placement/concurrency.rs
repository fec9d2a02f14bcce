//! Concurrency groups: of the jobs that name one, only so many run at a time.

use super::group::Slot;
use super::{GroupKey, Org, Placement};

/// A concurrency group of an org, numbered by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Concurrency(pub u32);

#[derive(Debug, Clone)]
pub(super) struct ConcurrencyState {
    /// Most devices that may run jobs which name it.
    pub(super) limit: u32,
    /// Devices that do.
    pub(super) running: u32,
    /// Groups whose jobs name it, in the order in which they came to be.
    groups: Vec<Slot>,
}

impl Default for ConcurrencyState {
    fn default() -> Self {
        Self { limit: 1, running: 0, groups: Vec::new() }
    }
}

impl ConcurrencyState {
    pub(super) fn is_full(&self) -> bool {
        self.running >= self.limit
    }

    /// Nothing is known of it that a new one would not have.
    fn is_plain(&self) -> bool {
        self.limit == 1 && self.groups.is_empty()
    }
}

impl Placement {
    /// Most devices that may run jobs of a concurrency group at a time, at least 1; 1 unless said otherwise. What runs
    /// is not touched.
    pub fn set_concurrency_limit(&mut self, org: Org, concurrency: Concurrency, limit: u32, now: f64) {
        let now = super::seconds::moment(now);
        for slot in self.change_concurrency((org, concurrency), |state| state.limit = limit.max(1)) {
            self.settle(slot, now);
        }
    }

    /// The state of the concurrency group that a group's jobs name.
    pub(super) fn concurrency_of(&self, key: &GroupKey) -> Option<&ConcurrencyState> {
        self.concurrency.get(&(key.org, key.concurrency?))
    }

    /// Counts a device that began to run jobs of a group, or ended, and looks at the group anew; and at those that share
    /// its concurrency group, if that became full or is so no longer.
    pub(super) fn count_running(&mut self, slot: Slot, change: i32, now: f64) {
        let key = self.group(slot).key;
        let sharing = key.concurrency.map(|name| {
            let count = |state: &mut ConcurrencyState| {
                state.running = state.running.saturating_add_signed(change);
            };
            self.change_concurrency((key.org, name), count)
        });
        self.settle(slot, now);
        for other in sharing.into_iter().flatten().filter(|other| *other != slot) {
            self.settle(other, now);
        }
    }

    /// A group came to be; says whether it has to wait because its concurrency group is full.
    pub(super) fn join_concurrency(&mut self, key: &GroupKey, slot: Slot) -> bool {
        let Some(name) = key.concurrency else { return false };
        let state = self.concurrency.entry((key.org, name)).or_default();
        state.groups.push(slot);
        state.is_full()
    }

    /// A group is forgotten.
    pub(super) fn leave_concurrency(&mut self, key: &GroupKey, slot: Slot) {
        let Some(name) = key.concurrency else { return };
        self.change_concurrency((key.org, name), |state| state.groups.retain(|other| *other != slot));
    }

    /// Changes a state. When it became full or is so no longer, its groups are told and counted, and returned for another
    /// look: all are counted before the first is looked at, because that depends on how many wait.
    fn change_concurrency(
        &mut self,
        of: (Org, Concurrency),
        change: impl FnOnce(&mut ConcurrencyState),
    ) -> Vec<Slot> {
        let state = self.concurrency.entry(of).or_default();
        let was_full = state.is_full();
        change(state);
        let is_full = state.is_full();
        let changed = if was_full == is_full { Vec::new() } else { state.groups.clone() };
        if state.is_plain() {
            self.concurrency.remove(&of);
        }
        for slot in &changed {
            self.group_mut(*slot).full = is_full;
            self.count_queued(*slot);
        }
        changed
    }
}
