//! What will happen when.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::moment::Moment;

/// Events by time; those of the same time in the order in which they were added.
#[derive(Debug)]
pub(super) struct Agenda<E> {
    entries: BinaryHeap<Entry<E>>,
    added: u64,
}

#[derive(Debug)]
struct Entry<E> {
    at: Moment,
    number: u64,
    event: E,
}

impl<E> Default for Agenda<E> {
    fn default() -> Self {
        Self { entries: BinaryHeap::new(), added: 0 }
    }
}

impl<E> Agenda<E> {
    /// Adds an event, at any time that is not past.
    pub(super) fn add(&mut self, at: f64, event: E) {
        self.added += 1;
        self.entries.push(Entry { at: Moment(at), number: self.added, event });
    }

    /// Takes the earliest event.
    pub(super) fn next(&mut self) -> Option<(f64, E)> {
        self.entries.pop().map(|entry| (entry.at.0, entry.event))
    }
}

// The heap gives its greatest entry: the earliest must be that.
impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<E> Eq for Entry<E> {}
