//! Rows that a transaction has in memory: as they were read, and what is to be written of them at its end.

use std::collections::BTreeMap;

/// What is to be written of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Nothing,
    Made,
    Changed,
    Removed,
}

#[derive(Debug, Clone)]
struct Kept<R> {
    row: R,
    change: Change,
}

/// The rows of a table, by their key, and how to go back.
#[derive(Debug)]
pub(super) struct Table<K, R> {
    rows: BTreeMap<K, Kept<R>>,
    /// What was there before each change, oldest first.
    before: Vec<(K, Option<Kept<R>>)>,
}

impl<K, R> Default for Table<K, R> {
    fn default() -> Self {
        Self { rows: BTreeMap::new(), before: Vec::new() }
    }
}

impl<K: Ord + Clone, R: Clone> Table<K, R> {
    /// Takes in a row that was read.
    pub(super) fn load(&mut self, key: K, row: R) {
        self.rows.insert(key, Kept { row, change: Change::Nothing });
    }

    pub(super) fn get(&self, key: &K) -> Option<&R> {
        self.rows.get(key).filter(|kept| kept.change != Change::Removed).map(|kept| &kept.row)
    }

    /// All that are there.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &R)> {
        let there = self.rows.iter().filter(|(_, kept)| kept.change != Change::Removed);
        there.map(|(key, kept)| (key, &kept.row))
    }

    /// The row, to be changed.
    pub(super) fn change(&mut self, key: &K) -> Option<&mut R> {
        let kept = self.rows.get_mut(key).filter(|kept| kept.change != Change::Removed)?;
        self.before.push((key.clone(), Some(kept.clone())));
        if kept.change == Change::Nothing {
            kept.change = Change::Changed;
        }
        Some(&mut kept.row)
    }

    /// Adds a row that is not in the database.
    pub(super) fn add(&mut self, key: K, row: R) {
        let before = self.rows.insert(key.clone(), Kept { row, change: Change::Made });
        self.before.push((key, before));
    }

    /// Removes a row.
    pub(super) fn remove(&mut self, key: &K) {
        let Some(kept) = self.rows.get_mut(key) else { return };
        self.before.push((key.clone(), Some(kept.clone())));
        match kept.change {
            Change::Made => _ = self.rows.remove(key),
            _ => kept.change = Change::Removed,
        }
    }

    /// Where to go back to.
    pub(super) fn mark(&self) -> usize {
        self.before.len()
    }

    /// Takes back all changes since `mark`.
    pub(super) fn undo(&mut self, mark: usize) {
        for (key, before) in self.before.drain(mark..).rev() {
            match before {
                Some(kept) => _ = self.rows.insert(key, kept),
                None => _ = self.rows.remove(&key),
            }
        }
    }

    fn with(&self, change: Change) -> Vec<(&K, &R)> {
        let those = self.rows.iter().filter(|(_, kept)| kept.change == change);
        those.map(|(key, kept)| (key, &kept.row)).collect()
    }

    /// Rows to insert, by their keys.
    pub(super) fn made(&self) -> Vec<&R> {
        self.with(Change::Made).into_iter().map(|(_, row)| row).collect()
    }

    /// Rows to update, by their keys.
    pub(super) fn changed(&self) -> Vec<&R> {
        self.with(Change::Changed).into_iter().map(|(_, row)| row).collect()
    }

    /// Keys of the rows to delete.
    pub(super) fn removed(&self) -> Vec<&K> {
        self.with(Change::Removed).into_iter().map(|(key, _)| key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_undone_was_never_there() {
        let mut table = Table::<u8, &str>::default();
        table.load(1, "one");
        table.load(2, "two");
        *table.change(&1).unwrap() = "changed";
        let mark = table.mark();
        *table.change(&1).unwrap() = "changed again";
        *table.change(&2).unwrap() = "changed";
        table.remove(&2);
        table.add(3, "three");
        table.remove(&3);
        table.add(4, "four");
        assert_eq!(
            (table.get(&2), table.get(&3), table.made(), table.removed()),
            (None, None, vec![&"four"], vec![&2])
        );
        table.undo(mark);
        assert_eq!(table.iter().collect::<Vec<_>>(), [(&1, &"changed"), (&2, &"two")]);
        assert_eq!((table.changed(), table.made().len(), table.removed().len()), (vec![&"changed"], 0, 0));
    }

    #[test]
    fn a_row_that_was_removed_can_be_made_again() {
        let mut table = Table::<u8, &str>::default();
        table.load(1, "one");
        table.remove(&1);
        assert_eq!(table.change(&1), None);
        table.add(1, "anew");
        assert_eq!((table.get(&1), table.made()), (Some(&"anew"), vec![&"anew"]));
        table.undo(0);
        assert_eq!(table.get(&1), Some(&"one"));
    }
}
