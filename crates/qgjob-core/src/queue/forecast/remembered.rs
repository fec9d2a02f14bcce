//! A map that forgets what was written longest ago.

use std::collections::HashMap;
use std::hash::Hash;

/// At most so many entries; when one more comes, the quarter that was written longest ago is forgotten.
#[derive(Debug, Clone)]
pub struct Remembered<K, V> {
    most: usize,
    /// Each with the number of the write that it was last written by.
    entries: HashMap<K, (u64, V)>,
    writes: u64,
}

impl<K: Eq + Hash, V> Remembered<K, V> {
    /// An empty one for at least 1 entry.
    pub fn new(most: usize) -> Self {
        Self { most: most.max(1), entries: HashMap::new(), writes: 0 }
    }

    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    /// The value of a key, to be written to; a new one if it has none.
    pub fn of(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        self.make_room(&key);
        let (written, value) = self.entries.entry(key).or_default();
        *written = self.writes;
        value
    }

    /// Writes a value.
    pub fn put(&mut self, key: K, value: V) {
        self.make_room(&key);
        self.entries.insert(key, (self.writes, value));
    }

    fn make_room(&mut self, key: &K) {
        self.writes += 1;
        if self.entries.len() < self.most || self.entries.contains_key(key) {
            return;
        }
        let mut written: Vec<u64> = self.entries.values().map(|(written, _)| *written).collect();
        let quarter = written.len() / 4;
        let (_, last, _) = written.select_nth_unstable(quarter);
        let last = *last;
        self.entries.retain(|_, (written, _)| *written > last);
    }
}
