//! Keeping the index true: whether a group wants a device, and in which band its org is.

use super::group::{Rank, Slot, Wants};
use super::open::Band;
use super::seconds::Seconds;
use super::share::Share;
use super::{Class, Org, Placement, Pool};

impl Placement {
    pub(super) fn wants(&self, slot: Slot, now: f64) -> Wants {
        let group = self.group(slot);
        group.wants(&self.parameters, self.classes[group.key.class.at()].crowd(), now)
    }

    /// Looks at a group anew after something about it changed; forgets it when nothing of it is left.
    pub(super) fn settle(&mut self, slot: Slot, now: f64) {
        let queued = self.count_queued(slot);
        let group = self.group(slot);
        let (class, was_open, serial) = (group.key.class, group.open, group.serial);
        let wants = queued.then(|| self.wants(slot, now));
        let open = (wants == Some(Wants::More)).then(|| self.group(slot).rank_to_join(slot));
        if open != was_open {
            self.place(slot, open);
        }
        if was_open.is_none() && open.is_some() {
            self.stirred.insert(class);
        }
        let reopens_at = match wants {
            Some(Wants::NotBefore(time)) => Some(Seconds::new(time)),
            _ => None,
        };
        let reopened_at = std::mem::replace(&mut self.group_mut(slot).reopens_at, reopens_at);
        if reopened_at != reopens_at {
            let closed = &mut self.classes[class.at()].closed;
            reopened_at.inspect(|time| _ = closed.remove(&(*time, serial, slot)));
            reopens_at.inspect(|time| _ = closed.insert((*time, serial, slot)));
        }
        let group = self.group(slot);
        if group.pending.is_empty() && group.holds == 0 {
            self.forget(slot);
        }
    }

    /// Makes its class count a group if it waits; says whether it does.
    pub(super) fn count_queued(&mut self, slot: Slot) -> bool {
        let group = self.group_mut(slot);
        let class = group.key.class;
        let queued = !group.pending.is_empty() && !group.paused && !group.full;
        let was_queued = std::mem::replace(&mut group.queued, queued);
        match (was_queued, queued) {
            (false, true) => {
                self.classes[class.at()].queued += 1;
                self.stirred.insert(class);
            }
            (true, false) => self.classes[class.at()].queued -= 1,
            _ => {}
        }
        queued
    }

    fn forget(&mut self, slot: Slot) {
        let Some(group) = self.groups[slot].take() else { return };
        self.leave_concurrency(&group.key, slot);
        self.by_key.remove(&(group.key, group.promoted));
        if let Some(slots) = self.by_version.get_mut(&group.key.version) {
            slots.retain(|other| *other != slot);
            if slots.is_empty() {
                self.by_version.remove(&group.key.version);
            }
        }
        self.free_slots.push(slot);
    }

    /// Puts a group where it now stands among those that want a device, if it does.
    fn place(&mut self, slot: Slot, rank: Option<Rank>) {
        let group = self.group_mut(slot);
        let before = std::mem::replace(&mut group.open, rank);
        let (org, class) = (group.key.org, group.key.class);
        let state = &mut self.classes[class.at()];
        let share = self.orgs.entry(org).or_default().share_mut(state.pool);
        if let Some(before) = before
            && state.open.remove(org, share.band, before)
        {
            share.open_in.retain(|other| *other != class);
        }
        if let Some(rank) = rank
            && state.open.insert(org, share.band, rank)
        {
            share.open_in.push(class);
        }
    }

    /// Whether an org holds so much of a pool that it yields to others.
    pub(super) fn is_over(&self, org: Org, pool: Pool) -> bool {
        self.orgs.get(&org).is_some_and(|state| {
            let running = state.share(pool).map_or(0, |share| share.running);
            let most = self.pools[pool.at()].most(state.weight, self.parameters.share_factor);
            f64::from(running) > most
        })
    }

    pub(super) fn is_held(&self, org: Org) -> bool {
        self.orgs.get(&org).is_some_and(|state| state.is_held())
    }

    /// Looks at an org anew after something about it changed; forgets it when nothing of it is left.
    pub(super) fn rebalance(&mut self, org: Org) {
        let Some(state) = self.orgs.get_mut(&org) else { return };
        let (held, paused, weight) = (state.is_held(), state.paused, state.weight);
        for share in &mut state.shares {
            let pool = &mut self.pools[share.pool.at()];
            let active = share.jobs > 0 && !paused;
            match (share.active, active) {
                (false, true) => pool.weight += u64::from(weight),
                (true, false) => pool.weight -= u64::from(weight),
                _ => {}
            }
            share.active = active;
            let over = f64::from(share.running) > pool.most(weight, self.parameters.share_factor);
            let band = if held {
                Band::Held
            } else if over {
                Band::Over
            } else {
                Band::Within
            };
            let from = std::mem::replace(&mut share.band, band);
            if from != band {
                if from == Band::Held {
                    let classes = self.classes.iter().enumerate();
                    let of_pool = classes.filter(|(_, state)| state.pool == share.pool);
                    self.stirred.extend(of_pool.map(|(at, _)| Class(at as u32)));
                }
                for class in &share.open_in {
                    self.classes[class.at()].open.move_org(org, from, band);
                }
            }
        }
        state.shares.retain(|share: &Share| share.jobs > 0);
        if state.is_plain() {
            self.orgs.remove(&org);
        }
    }
}
