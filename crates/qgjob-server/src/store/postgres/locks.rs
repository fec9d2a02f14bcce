//! Locks on things that may have no row. They are taken in the order of their numbers, before any row, and hold until
//! the transaction ends. Every server computes the same numbers.

use qgjob_core::model::name::{AppVersionId, ConcurrencyGroup, IdempotencyKey, OrgId};
use sha2::{Digest, Sha256};

/// A lock's number.
pub(super) type Lock = i64;

/// Held while the schema is brought up to date.
pub(super) const MIGRATION: Lock = number(8, 1 << 5);
/// Held by the one server that sweeps.
pub(super) const SWEEP: Lock = number(8, 2 << 5);
/// Held by the one server that forgets.
pub(super) const FORGET: Lock = number(8, 3 << 5);

const fn number(class: u64, hash: u64) -> Lock {
    ((class << 59) | (hash >> 5)) as i64
}

fn named(class: u64, parts: &[&str]) -> Lock {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let bytes: [u8; 32] = hash.finalize().into();
    let (first, _) = bytes.as_chunks::<8>();
    number(class, u64::from_be_bytes(first[0]))
}

/// An idempotency key.
pub(super) fn key(org: &OrgId, key: &IdempotencyKey) -> Lock {
    named(1, &[org.as_str(), key.as_str()])
}

/// The label of a build.
pub(super) fn label(org: &OrgId, label: &AppVersionId) -> Lock {
    named(2, &[org.as_str(), label.as_str()])
}

/// An agent's name.
pub(super) fn agent_name(name: &str) -> Lock {
    named(3, &[name])
}

/// An org's limits: shared by claims, alone for a change.
pub(super) fn limits(org: &OrgId) -> Lock {
    named(4, &[org.as_str()])
}

/// An org's policies.
pub(super) fn policies(org: &OrgId) -> Lock {
    named(7, &[org.as_str()])
}

/// What runs of an org that has a cap.
pub(super) fn cap(org: &OrgId) -> Lock {
    named(5, &[org.as_str()])
}

/// What runs of a concurrency group.
pub(super) fn concurrency(org: &OrgId, name: &ConcurrencyGroup) -> Lock {
    named(6, &[org.as_str(), name.as_str()])
}
