//! Who decides which device takes which job.

mod peer;

pub use peer::{Peer, RULES};

use crate::engine::{End, Fleet};

/// What a free device is told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Decision {
    /// Start this job of this group; it no longer waits.
    Start {
        /// The group.
        group: usize,
        /// The job's place in it.
        job: usize,
    },
    /// Nothing for now; ask again at the latest at this time. Infinite: when something arrives.
    Wait {
        /// Seconds from the start.
        until: f64,
    },
}

/// A rule of placement. Devices, groups and jobs are given by their place in the workload; `now` never goes back.
pub trait Policy {
    /// What people call it.
    fn name(&self) -> &str;

    /// All jobs of a group arrive.
    fn arrive(&mut self, now: f64, group: usize);

    /// A job that was started waits again; it was on a device and should avoid it.
    fn requeue(&mut self, now: f64, group: usize, job: usize, avoid: usize);

    /// A free device asks.
    fn decide(&mut self, now: f64, device: usize, fleet: &Fleet) -> Decision;

    /// A device no longer runs what it was told to start. Unless that settles the job, it is requeued: at once when it
    /// broke, later when the device was lost.
    fn finish(&mut self, now: f64, device: usize, end: End);

    /// A device left, or was taken out.
    fn gone(&mut self, now: f64, device: usize, fleet: &Fleet) {
        _ = (now, device, fleet);
    }

    /// A device is free and about to ask, maybe after having been gone.
    fn here(&mut self, now: f64, device: usize, fleet: &Fleet) {
        _ = (now, device, fleet);
    }

    /// Which idle device of a kind asks next: its place in the fleet's list, which is not empty.
    fn next_to_ask(&mut self, fleet: &Fleet, kind: usize) -> usize {
        fleet.idle(kind).len() - 1
    }

    /// Whether one idle device may be told to wait when another of its kind would get a job.
    fn tells_devices_apart(&self) -> bool {
        false
    }

    /// Whether a device that turns to another group installs even what it has.
    fn reinstalls(&self) -> bool {
        false
    }

    /// Whether devices that break jobs are taken out, and versions that break everywhere are given up.
    fn blames(&self) -> bool {
        false
    }
}
