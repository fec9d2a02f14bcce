//! Tokens that were looked up: each request brings one, and asking the file each time costs more than the request.
//! Exact without a time limit: this process alone writes the file, and the writer makes all be forgotten before it
//! answers whoever removed one.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use jiff::Timestamp;
use qgjob_core::model::sha256::Sha256;
use qgjob_core::model::token::Token;

/// Most tokens that are remembered, so that their number is bounded whatever is in the store.
const MOST: usize = 10_000;

/// Tokens by the hash of their secret.
#[derive(Default)]
pub(super) struct Tokens {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    by_hash: HashMap<Sha256, Token>,
    /// How often all was forgotten.
    generation: u64,
}

/// When a lookup began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Began(u64);

impl Tokens {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("no thread panics while holding the tokens")
    }

    /// The token, if it is remembered and has not expired; else what [`Tokens::remember`] needs.
    pub(super) fn find(&self, hash: Sha256, now: Timestamp) -> Result<Token, Began> {
        let known = self.lock();
        let token = known.by_hash.get(&hash);
        let live = token.filter(|token| token.expires_at.is_none_or(|end| end > now));
        live.cloned().ok_or(Began(known.generation))
    }

    /// Remembers what a lookup found, unless a token was removed since it began: that may have been this one.
    pub(super) fn remember(&self, began: Began, hash: Sha256, token: &Token) {
        let mut known = self.lock();
        if known.generation != began.0 {
            return;
        }
        if known.by_hash.len() >= MOST {
            known.by_hash.clear();
        }
        known.by_hash.insert(hash, token.clone());
    }

    /// Forgets all: a token was removed.
    pub(super) fn forget(&self) {
        let mut known = self.lock();
        known.by_hash.clear();
        known.generation += 1;
    }
}

#[cfg(test)]
mod tests {
    use qgjob_core::model::token::{Id, Kind};

    use super::*;

    const HASH: Sha256 = Sha256([7; 32]);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn token() -> Token {
        let (name, expires_at) = ("ci".to_owned(), Some(at(100)));
        Token {
            id: Id(1),
            kind: Kind::Admin,
            name,
            org_id: None,
            agent_id: None,
            created_at: at(0),
            expires_at,
            ci: None,
        }
    }

    #[test]
    fn a_token_is_remembered_until_it_expires_or_one_is_removed() {
        let tokens = Tokens::default();
        let began = tokens.find(HASH, at(1)).unwrap_err();
        tokens.remember(began, HASH, &token());
        assert_eq!(tokens.find(HASH, at(99)).unwrap(), token());
        assert!(tokens.find(HASH, at(100)).is_err());
        tokens.forget();
        assert!(tokens.find(HASH, at(1)).is_err());
    }

    #[test]
    fn a_lookup_that_a_removal_overtook_is_not_remembered() {
        let tokens = Tokens::default();
        let began = tokens.find(HASH, at(1)).unwrap_err();
        tokens.forget();
        tokens.remember(began, HASH, &token());
        assert!(tokens.find(HASH, at(1)).is_err());
    }
}
