//! Seconds as keys: finite, with a total order.

use std::cmp::Ordering;
use std::collections::BTreeMap;

/// A finite number of seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Seconds(f64);

impl Seconds {
    pub(super) fn new(seconds: f64) -> Self {
        // Adding 0 turns -0 into 0, so that equal numbers are equal keys.
        Self(bounded(seconds, -1e15, 1e15) + 0.0)
    }

    pub(super) fn get(self) -> f64 {
        self.0
    }
}

impl Eq for Seconds {}

impl PartialOrd for Seconds {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Seconds {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// `number` within `low` and `high`; what is no number becomes `low`.
pub(super) fn bounded(number: f64, low: f64, high: f64) -> f64 {
    if number.is_nan() { low } else { number.clamp(low, high) }
}

/// A moment as the rules use it. What is no number becomes the origin.
pub(super) fn moment(now: f64) -> f64 {
    if now.is_nan() { 0.0 } else { now.clamp(-1e12, 1e12) }
}

/// A prediction as the rules use it: 1 s to 1 day. Nothing takes no time, and no guess may outweigh all others.
pub(super) fn prediction(seconds: f64) -> f64 {
    bounded(seconds, 1.0, 86_400.0)
}

/// Numbers with how often each occurs, to know the largest.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally(BTreeMap<Seconds, u32>);

impl Tally {
    pub(super) fn add(&mut self, number: f64) {
        *self.0.entry(Seconds::new(number)).or_default() += 1;
    }

    pub(super) fn remove(&mut self, number: f64) {
        let number = Seconds::new(number);
        if let Some(times) = self.0.get_mut(&number) {
            *times -= 1;
            if *times == 0 {
                self.0.remove(&number);
            }
        }
    }

    pub(super) fn largest(&self) -> Option<f64> {
        self.0.last_key_value().map(|(number, _)| number.get())
    }
}
