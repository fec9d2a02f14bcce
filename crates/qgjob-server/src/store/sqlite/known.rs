//! What the writer remembers of the file: groups, blobs, and the builds of labels. Each is made once and neither changes
//! nor goes, so that what was looked up stays true, unless the transaction that made it is undone.

use std::collections::HashMap;
use std::hash::Hash;

use qgjob_core::model::build::Build;
use qgjob_core::model::group;
use qgjob_core::model::name::{AppVersionId, OrgId};
use qgjob_core::model::sha256::Sha256;

/// Most entries of each kind, so that their number is bounded whatever is in the store.
const MOST: usize = 10_000;

/// What was looked up.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub groups: Entries<group::Key, group::Id>,
    pub builds: Entries<(OrgId, AppVersionId), Build>,
    pub blobs: Entries<(OrgId, Sha256), ()>,
}

/// Entries of a kind.
#[derive(Debug)]
pub(super) struct Entries<K, V>(HashMap<K, V>);

impl<K, V> Default for Entries<K, V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash, V: Clone> Entries<K, V> {
    pub(super) fn get(&self, key: &K) -> Option<V> {
        self.0.get(key).cloned()
    }

    pub(super) fn add(&mut self, key: K, value: V) {
        if self.0.len() >= MOST {
            self.0.clear();
        }
        self.0.insert(key, value);
    }
}

impl Known {
    /// Forgets all: something was undone, which may have been read here.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}
