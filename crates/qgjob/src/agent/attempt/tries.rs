//! Results of single tests on their way to the server, while the runner runs.

use std::sync::Arc;

use qgjob_core::api::agents::TestsReport;
use qgjob_core::model::test_result::Try;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::agent::hold::Hold;
use crate::agent::link::{self, Link};

/// The most tries that one call carries.
const BATCH: usize = 500;

/// Sends tries in order. The verdict needs them: closing waits until the server has them all.
pub struct Tries {
    queue: mpsc::UnboundedSender<Try>,
    task: JoinHandle<()>,
}

impl Tries {
    /// Starts to send.
    pub fn start(link: Link, hold: Arc<Hold>) -> Self {
        let (queue, tries) = mpsc::unbounded_channel();
        Self { queue, task: tokio::spawn(send(link, hold, tries)) }
    }

    /// Sends a try as soon as the line is free.
    pub fn add(&self, one: Try) {
        // A task that ended has said why; the verdict will miss the try and not be green.
        let _ = self.queue.send(one);
    }

    /// Waits until everything is sent, or the lease is over.
    pub async fn close(self) {
        drop(self.queue);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "sending test results ended badly");
        }
    }
}

async fn send(link: Link, hold: Arc<Hold>, mut queue: mpsc::UnboundedReceiver<Try>) {
    loop {
        let mut tries = Vec::new();
        if queue.recv_many(&mut tries, BATCH).await == 0 {
            return;
        }
        let body = TestsReport { epoch: hold.held.epoch, tries };
        match link::persist(&hold.over, || link.tests(hold.held.attempt_id, &body)).await {
            Ok(()) => {}
            Err(link::Error::Over) => return,
            Err(error) => {
                tracing::warn!(%error, "the server does not take test results");
                return;
            }
        }
    }
}
