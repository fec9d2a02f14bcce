//! Announced artifacts whose bytes are on their way.

use std::collections::HashMap;
use std::sync::Mutex;

use jiff::{SignedDuration, Timestamp};
use qgjob_core::api::agents::NewArtifact;
use qgjob_core::model::artifact;
use qgjob_core::model::attempt;

/// Artifacts that were announced and whose bytes have not arrived. They are soft: after a restart the agent announces
/// again.
#[derive(Debug, Default)]
pub struct Tickets {
    open: Mutex<HashMap<artifact::Id, Ticket>>,
}

/// One announcement.
#[derive(Debug, Clone)]
pub struct Ticket {
    /// Whose artifact it is.
    pub attempt_id: attempt::Id,
    /// What was announced.
    pub new: NewArtifact,
    /// When.
    pub made_at: Timestamp,
}

impl Tickets {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<artifact::Id, Ticket>> {
        self.open.lock().expect("no thread panics while holding the tickets")
    }

    /// How many are open for an attempt.
    pub fn count(&self, attempt: attempt::Id) -> usize {
        self.lock().values().filter(|ticket| ticket.attempt_id == attempt).count()
    }

    /// Opens one.
    pub fn add(&self, id: artifact::Id, ticket: Ticket) {
        self.lock().insert(id, ticket);
    }

    /// The ticket, if it is the attempt's.
    pub fn find(&self, id: artifact::Id, attempt: attempt::Id) -> Option<Ticket> {
        self.lock().get(&id).filter(|ticket| ticket.attempt_id == attempt).cloned()
    }

    /// The ticket of a repeated announcement.
    pub fn same(&self, attempt: attempt::Id, new: &NewArtifact) -> Option<artifact::Id> {
        let open = self.lock();
        let same = open.iter().find(|(_, ticket)| ticket.attempt_id == attempt && ticket.new == *new);
        same.map(|(id, _)| *id)
    }

    /// Closes one: its bytes have arrived.
    pub fn remove(&self, id: artifact::Id) {
        self.lock().remove(&id);
    }

    /// Forgets tickets that are older than a day.
    pub fn prune(&self, now: Timestamp) {
        self.lock().retain(|_, ticket| now.duration_since(ticket.made_at) < SignedDuration::from_hours(24));
    }
}
