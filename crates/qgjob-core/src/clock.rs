//! Time and randomness as values that are handed in, so that every rule can be replayed.

use std::sync::Mutex;

use jiff::{SignedDuration, Timestamp};

/// Source of the current time and of random numbers.
pub trait Clock: Send + Sync {
    /// The current instant, cut to milliseconds, the precision of the store and of the wire.
    fn now(&self) -> Timestamp;
    /// 128 bits that nobody can guess.
    fn random(&self) -> u128;
}

/// The machine's clock and its cryptographic random source.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the machine for the time")]
    fn now(&self) -> Timestamp {
        millis(Timestamp::now())
    }

    fn random(&self) -> u128 {
        rand::random()
    }
}

/// A clock for tests: stands still until it is moved; its random numbers are a fixed sequence.
#[derive(Debug)]
pub struct SteppedClock {
    state: Mutex<(Timestamp, u128)>,
}

impl SteppedClock {
    /// A clock that stands at `start`.
    pub fn at(start: Timestamp) -> Self {
        Self { state: Mutex::new((millis(start), 0)) }
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: SignedDuration) {
        self.state.lock().expect("no thread panics while holding the clock").0 += by;
    }
}

impl Clock for SteppedClock {
    fn now(&self) -> Timestamp {
        self.state.lock().expect("no thread panics while holding the clock").0
    }

    fn random(&self) -> u128 {
        let mut state = self.state.lock().expect("no thread panics while holding the clock");
        // Multiples of an odd constant never repeat within 2^128 draws.
        state.1 = state.1.wrapping_add(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        state.1
    }
}

fn millis(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).expect("a timestamp cut to milliseconds stays in range")
}
