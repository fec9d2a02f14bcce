//! What is said while the server is away: nothing of what is over soon, then one line, and no more than one in a while.

use std::time::{Duration, Instant};

use crate::output::span;

/// A connection that is back sooner is not worth a word.
const SILENT: Duration = Duration::from_secs(10);
/// The time between two lines of one outage.
const AGAIN: Duration = Duration::from_secs(60);

/// A connection that was lost, from its first failed try until it is back.
#[derive(Debug, Default)]
pub struct Outage {
    since: Option<Instant>,
    told: Option<Instant>,
}

impl Outage {
    /// A try failed at `now`, the next one is `next` later. Answers the line to be told.
    pub fn lost(&mut self, now: Instant, tries: u32, next: Duration, cause: &str) -> Option<String> {
        let since = *self.since.get_or_insert(now);
        let is_long = now + next > since + SILENT;
        if !is_long || self.told.is_some_and(|told| now < told + AGAIN) {
            return None;
        }
        self.told = Some(now);
        let next = span(next.as_millis() as u64);
        Some(format!("connection lost ({cause}), retrying (attempt {tries}, next in {next})"))
    }

    /// The connection is back. Answers the line to be told: whoever heard of the loss hears of its end.
    pub fn back(&mut self) -> Option<&'static str> {
        self.since = None;
        self.told.take().map(|_| "connected again")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_over_soon_is_not_told() {
        let (mut outage, begin) = (Outage::default(), Instant::now());
        for (at, next) in [(0, 1), (1, 2), (3, 4)] {
            assert_eq!(outage.lost(begin + at * SECOND, 1, next * SECOND, "gone"), None);
        }
        assert_eq!(outage.back(), None);
        // The next one begins anew.
        assert_eq!(outage.lost(begin + 20 * SECOND, 1, SECOND, "gone"), None);
    }

    #[test]
    fn what_lasts_is_told_once_a_minute_and_so_is_its_end() {
        let (mut outage, begin) = (Outage::default(), Instant::now());
        let mut told = Vec::new();
        for (tries, at) in (0..600).step_by(15).enumerate() {
            told.extend(outage.lost(begin + at * SECOND, tries as u32 + 1, 15 * SECOND, "gone"));
        }
        assert_eq!(told[0], "connection lost (gone), retrying (attempt 1, next in 15 s)");
        assert_eq!(told[1], "connection lost (gone), retrying (attempt 5, next in 15 s)");
        assert_eq!(told.len(), 10);
        assert_eq!((outage.back(), outage.back()), (Some("connected again"), None));
    }
}
