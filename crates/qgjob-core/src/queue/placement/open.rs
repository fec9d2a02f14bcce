//! The groups of one class that want a device, by org and in order.

use std::cmp::Reverse;
use std::collections::btree_set::Iter;
use std::collections::{BTreeSet, BinaryHeap};
use std::iter::Peekable;
use std::ops::Bound;

use super::Org;
use super::group::Rank;
use super::hashing::Map;

/// How an org stands in a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Band {
    /// Within its share: served first.
    Within,
    /// Over its share: served when nobody within theirs wants the device.
    Over,
    /// Paused or at its cap: not served.
    Held,
}

/// The groups of one class that want a device. Orgs are ordered by their best group, so that an org changes its band
/// as a whole, whatever the number of its groups.
#[derive(Debug, Clone, Default)]
pub(super) struct Open {
    groups: Map<Org, BTreeSet<Rank>>,
    within: BTreeSet<(Rank, Org)>,
    over: BTreeSet<(Rank, Org)>,
}

impl Open {
    fn orgs(&mut self, band: Band) -> Option<&mut BTreeSet<(Rank, Org)>> {
        match band {
            Band::Within => Some(&mut self.within),
            Band::Over => Some(&mut self.over),
            Band::Held => None,
        }
    }

    /// Adds a group; says whether it is the org's first here.
    pub(super) fn insert(&mut self, org: Org, band: Band, rank: Rank) -> bool {
        let groups = self.groups.entry(org).or_default();
        let best = groups.first().copied();
        groups.insert(rank);
        self.replace(org, band, best, best.map_or(Some(rank), |best| Some(best.min(rank))));
        best.is_none()
    }

    /// Takes a group out; says whether it was the org's last here.
    pub(super) fn remove(&mut self, org: Org, band: Band, rank: Rank) -> bool {
        let Some(groups) = self.groups.get_mut(&org) else { return false };
        let best = groups.first().copied();
        groups.remove(&rank);
        let next = groups.first().copied();
        if next.is_none() {
            self.groups.remove(&org);
        }
        self.replace(org, band, best, next);
        next.is_none()
    }

    /// Moves an org from one band to another.
    pub(super) fn move_org(&mut self, org: Org, from: Band, to: Band) {
        let best = self.groups.get(&org).and_then(|groups| groups.first().copied());
        self.replace(org, from, best, None);
        self.replace(org, to, None, best);
    }

    fn replace(&mut self, org: Org, band: Band, old: Option<Rank>, new: Option<Rank>) {
        if old == new {
            return;
        }
        let Some(orgs) = self.orgs(band) else { return };
        if let Some(old) = old {
            orgs.remove(&(old, org));
        }
        if let Some(new) = new {
            orgs.insert((new, org));
        }
    }

    /// The groups of a band in order, found one after the other: whoever stops early pays for what was looked at.
    pub(super) fn ranked(&self, over: bool) -> Ranked<'_> {
        let orgs = if over { &self.over } else { &self.within }.iter().peekable();
        Ranked { groups: &self.groups, orgs, next_of_seen: BinaryHeap::new(), last: None }
    }
}

/// Merges the orgs' groups into one order.
pub(super) struct Ranked<'a> {
    groups: &'a Map<Org, BTreeSet<Rank>>,
    orgs: Peekable<Iter<'a, (Rank, Org)>>,
    /// Of each org that was seen: its best group that was not.
    next_of_seen: BinaryHeap<Reverse<(Rank, Org)>>,
    last: Option<(Rank, Org)>,
}

impl Iterator for Ranked<'_> {
    type Item = (Rank, Org);

    fn next(&mut self) -> Option<Self::Item> {
        if let Some((rank, org)) = self.last.take() {
            let after = (Bound::Excluded(rank), Bound::Unbounded);
            let next = self.groups.get(&org).and_then(|groups| groups.range(after).next());
            self.next_of_seen.extend(next.map(|next| Reverse((*next, org))));
        }
        let fresh = self.orgs.peek().map(|fresh| **fresh);
        let seen = self.next_of_seen.peek().map(|Reverse(seen)| *seen);
        self.last = match (fresh, seen) {
            (Some(fresh), Some(seen)) if seen < fresh => self.next_of_seen.pop().map(|Reverse(seen)| seen),
            (None, Some(_)) => self.next_of_seen.pop().map(|Reverse(seen)| seen),
            _ => self.orgs.next().copied(),
        };
        self.last
    }
}
