//! How many streams are open, by token and in all: each costs memory and a place in the server's loop.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use qgjob_core::model::token;

use crate::config::Limits;

/// No place for another stream; one may become free at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Taken {
    /// The server has as many as it may.
    #[error("the server has too many open streams")]
    All,
    /// The token has as many as it may.
    #[error("the token has too many open streams")]
    OfToken,
}

/// Counts open streams.
#[derive(Debug)]
pub struct Streams {
    per_token: u32,
    in_all: u32,
    open: Mutex<HashMap<token::Id, u32>>,
}

impl Streams {
    /// None is open.
    pub fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self { per_token: limits.streams_per_token, in_all: limits.streams, open: Mutex::default() })
    }

    /// Takes a place for a stream of `token`.
    ///
    /// # Errors
    /// When there is none.
    pub fn take(self: &Arc<Self>, token: token::Id) -> Result<Place, Taken> {
        let mut open = self.lock();
        if open.values().sum::<u32>() >= self.in_all {
            return Err(Taken::All);
        }
        let own = open.entry(token).or_default();
        if *own >= self.per_token {
            return Err(Taken::OfToken);
        }
        *own += 1;
        Ok(Place { streams: Arc::clone(self), token })
    }

    /// How many are open.
    pub fn count(&self) -> u32 {
        self.lock().values().sum()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<token::Id, u32>> {
        self.open.lock().expect("no thread panics while holding the streams")
    }
}

/// A place for one stream; given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    streams: Arc<Streams>,
    token: token::Id,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.streams.lock();
        if let Some(own) = open.get_mut(&self.token) {
            *own -= 1;
            if *own == 0 {
                open.remove(&self.token);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_and_given_back() {
        let streams = Streams::new(&Limits { streams_per_token: 2, streams: 3, ..Limits::default() });
        let (one, other) = (token::Id(1), token::Id(2));
        let first = streams.take(one).unwrap();
        let _second = streams.take(one).unwrap();
        assert_eq!(streams.take(one).unwrap_err(), Taken::OfToken);
        let _third = streams.take(other).unwrap();
        assert_eq!(streams.take(other).unwrap_err(), Taken::All);
        drop(first);
        assert_eq!(streams.count(), 2);
        assert!(streams.take(other).is_ok());
    }
}
