//! What the agent holds: one lease, and the ways in which it ends before its time.

use std::sync::Mutex;
use std::time::Duration;

use qgjob_core::api::agents::{Held, Lease, Order};
use qgjob_core::model::evidence::Stop;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A lease that is held.
#[derive(Debug)]
pub struct Hold {
    /// What the server knows it by.
    pub held: Held,
    until: Mutex<Instant>,
    stop: watch::Sender<Option<Stop>>,
    /// Cancelled once nothing that is sent counts any more.
    pub over: CancellationToken,
}

impl Hold {
    /// A lease that came at `came`. A claim may have waited long before it was answered, so the lease is taken to hold
    /// from then on; the call that follows at once, and each later one, counts from when it was sent.
    pub fn new(lease: &Lease, came: Instant) -> Self {
        Self {
            held: Held { attempt_id: lease.attempt_id, epoch: lease.epoch },
            until: Mutex::new(came + Duration::from_millis(lease.lease_ms)),
            stop: watch::Sender::new(None),
            over: CancellationToken::new(),
        }
    }

    /// Follows what the server said to a heartbeat that was sent at `asked`.
    pub fn obey(&self, order: Order, asked: Instant) {
        match order {
            Order::GoOn { lease_ms } => self.prolong(asked + Duration::from_millis(lease_ms)),
            Order::Cancel => self.stop(Stop::Cancelled),
            Order::Abandon => self.stop(Stop::LeaseLost),
        }
    }

    /// Stops the attempt; the first reason counts, but a lost lease overrides all.
    pub fn stop(&self, why: Stop) {
        if why == Stop::LeaseLost {
            self.over.cancel();
        }
        self.stop.send_if_modified(|stop| {
            let first = stop.is_none() || (why == Stop::LeaseLost && *stop != Some(why));
            if first {
                *stop = Some(why);
            }
            first
        });
    }

    /// Resolves as soon as the attempt is to be stopped.
    pub async fn until_stopped(&self) -> Stop {
        let mut stop = self.stop.subscribe();
        let why = stop.wait_for(Option::is_some).await.expect("the sender lives as long as the hold");
        why.expect("waited for")
    }

    /// Whether the lease has run out by the agent's own clock. Sets the stop.
    pub fn expire(&self, now: Instant) {
        if now >= *self.until.lock().expect("no thread panics while holding a lease") {
            self.stop(Stop::LeaseLost);
        }
    }

    fn prolong(&self, until: Instant) {
        let mut current = self.until.lock().expect("no thread panics while holding a lease");
        *current = until.max(*current);
    }
}
