//! Shares: what an org holds of a pool, and whether that is more than its due.

use super::open::Band;
use super::{Class, Pool};

#[derive(Debug, Clone, Default)]
pub(super) struct PoolState {
    pub(super) devices_up: u32,
    /// Weights of the orgs that have jobs here, summed.
    pub(super) weight: u64,
}

/// What an org may do, and what it holds.
#[derive(Debug, Clone)]
pub(super) struct OrgState {
    pub(super) weight: u32,
    /// Most devices it may hold at a time.
    pub(super) cap: Option<u32>,
    pub(super) paused: bool,
    pub(super) running: u32,
    /// One for each pool in which it has jobs.
    pub(super) shares: Vec<Share>,
}

#[derive(Debug, Clone)]
pub(super) struct Share {
    pub(super) pool: Pool,
    /// Jobs that wait or run.
    pub(super) jobs: u32,
    /// Devices held.
    pub(super) running: u32,
    /// Whether the pool counts its weight.
    pub(super) active: bool,
    /// As of the last look: the due of an org moves when others come and go.
    pub(super) band: Band,
    /// Classes in which it has a group that wants a device.
    pub(super) open_in: Vec<Class>,
}

impl Default for OrgState {
    fn default() -> Self {
        Self { weight: 1, cap: None, paused: false, running: 0, shares: Vec::new() }
    }
}

impl OrgState {
    pub(super) fn is_held(&self) -> bool {
        self.paused || self.cap.is_some_and(|cap| self.running >= cap)
    }

    /// Nothing is known of it that a new org would not have.
    pub(super) fn is_plain(&self) -> bool {
        self.weight == 1 && self.cap.is_none() && !self.paused && self.shares.is_empty()
    }

    pub(super) fn share(&self, pool: Pool) -> Option<&Share> {
        self.shares.iter().find(|share| share.pool == pool)
    }

    pub(super) fn share_mut(&mut self, pool: Pool) -> &mut Share {
        let at = self.shares.iter().position(|share| share.pool == pool).unwrap_or_else(|| {
            let band = if self.is_held() { Band::Held } else { Band::Within };
            self.shares.push(Share { pool, jobs: 0, running: 0, active: false, band, open_in: Vec::new() });
            self.shares.len() - 1
        });
        &mut self.shares[at]
    }
}

impl PoolState {
    /// Devices that an org of this weight is due while all that have jobs here want some.
    pub(super) fn fair(&self, weight: u32) -> f64 {
        f64::from(self.devices_up) * f64::from(weight) / self.weight.max(1) as f64
    }

    /// The most an org may hold without yielding to others: a few fair shares, but no more than half of the pool
    /// unless its fair share is more.
    pub(super) fn most(&self, weight: u32, share_factor: f64) -> f64 {
        let fair = self.fair(weight);
        fair.max((share_factor * fair).min(0.5 * f64::from(self.devices_up)))
    }
}
