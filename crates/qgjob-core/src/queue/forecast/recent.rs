//! The latest durations of something.

/// The latest `N` durations in seconds, in no order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Recent<const N: usize> {
    seconds: [f32; N],
    known: u8,
    /// Where the next one goes: in the place of the oldest, once all places are taken.
    next: u8,
}

impl<const N: usize> Default for Recent<N> {
    fn default() -> Self {
        Self { seconds: [0.0; N], known: 0, next: 0 }
    }
}

impl<const N: usize> Recent<N> {
    pub(super) fn add(&mut self, seconds: f64) {
        self.seconds[usize::from(self.next)] = seconds as f32;
        self.next = (self.next + 1) % N as u8;
        self.known = (self.known + 1).min(N as u8);
    }

    /// The middle of the durations and a vote.
    pub(super) fn median(&self, vote: f64) -> f64 {
        self.quantile(0.5, vote)
    }

    /// What two thirds of the durations and a vote do not exceed.
    pub(super) fn at_two_thirds(&self, vote: f64) -> f64 {
        self.quantile(2.0 / 3.0, vote)
    }

    /// The value at a share of the sorted durations and a vote, between two of them in proportion.
    fn quantile(&self, share: f64, vote: f64) -> f64 {
        const { assert!(N < 64, "the vote needs a place, too") };
        let known = usize::from(self.known);
        let mut sorted = [0.0; 64];
        sorted[..known].copy_from_slice(&self.seconds[..known]);
        sorted[known] = vote as f32;
        let sorted = &mut sorted[..=known];
        sorted.sort_unstable_by(f32::total_cmp);
        let place = share * known as f64;
        let below = place as usize;
        let above = sorted.get(below + 1).unwrap_or(&sorted[below]);
        f64::from(sorted[below]) + place.fract() * f64::from(above - sorted[below])
    }
}
