//! Seconds that can be sorted.

/// Seconds from the start of a replay, or any number that orders like them; never NaN.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment(pub f64);

impl Eq for Moment {}

impl Ord for Moment {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Moment {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
