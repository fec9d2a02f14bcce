//! The server's feed of events, its own and those of other servers, in the order of their numbers. The table is the
//! truth: a notification only says that it is worth a look, and without one it is looked at every second.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Pool;
use qgjob_core::model::event::{Event, Seq};
use tokio::sync::{Mutex, broadcast, mpsc};
use tokio_postgres::AsyncMessage;
use tokio_util::sync::CancellationToken;

use super::connect::Options;
use super::rows;
use super::transaction::{Verb, all, bounded, first};
use super::values::{num, number};

/// Transactions that a slow receiver of events may lag behind.
const EVENTS: usize = 1024;
/// Most events that are read at once.
const PAGE: usize = 1000;
/// How long events of other servers may stay unseen when no notification comes, and the pause before the listening
/// connection is made again.
const LOOK: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Feed {
    pool: Pool,
    /// The newest event that was sent.
    newest: Mutex<Seq>,
    events: broadcast::Sender<Arc<Vec<Event>>>,
}

/// The number of the newest event.
pub(super) async fn last_seq(c: &deadpool_postgres::Object) -> Verb<Seq> {
    // Not the newest row: that one may have been deleted.
    let sql = "SELECT value FROM counters WHERE name = 'event'";
    let seq = first(c, sql, &[], |row| number(row, "value")).await?;
    seq.ok_or_else(|| rows::missing("the counter of events"))
}

impl Feed {
    /// A feed of what comes from now on.
    pub(super) async fn start(pool: Pool) -> Verb<Self> {
        let newest = last_seq(&pool.get().await?).await?;
        Ok(Self { pool, newest: Mutex::new(newest), events: broadcast::channel(EVENTS).0 })
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Arc<Vec<Event>>> {
        self.events.subscribe()
    }

    /// Sends what this server has just committed, after all that came before it.
    pub(super) async fn deliver(&self, own: Vec<Event>) {
        let (Some(first), Some(last)) = (own.first(), own.last()) else { return };
        let (first, last) = (first.seq, last.seq);
        let mut newest = self.newest.lock().await;
        if last <= *newest {
            return;
        }
        if first == *newest + 1 {
            *newest = last;
            self.send(own);
        } else if let Err(stop) = bounded(self.read(&mut newest)).await {
            tracing::warn!("events of other servers cannot be read; it is tried again: {stop:?}");
        }
    }

    /// Sends what is in the table and was not sent.
    async fn catch_up(&self) -> Verb<()> {
        let mut newest = self.newest.lock().await;
        bounded(self.read(&mut newest)).await
    }

    async fn read(&self, newest: &mut Seq) -> Verb<()> {
        let c = self.pool.get().await?;
        loop {
            let sql = "SELECT * FROM events WHERE seq > $1 ORDER BY seq LIMIT $2";
            let events = all(&c, sql, &[&num(*newest), &num(PAGE)], rows::event).await?;
            let Some(last) = events.last() else { return Ok(()) };
            *newest = last.seq;
            let is_whole = events.len() < PAGE;
            self.send(events);
            if is_whole {
                return Ok(());
            }
        }
    }

    fn send(&self, events: Vec<Event>) {
        // Nobody may be listening.
        _ = self.events.send(Arc::new(events));
    }

    /// Follows the table until `stopping`.
    pub(super) async fn follow(self: Arc<Self>, options: Options, stopping: CancellationToken) {
        let listen = self.listen(options);
        tokio::select! {
            () = stopping.cancelled() => {}
            () = listen => {}
        }
    }

    async fn listen(&self, options: Options) {
        let mut is_down = false;
        loop {
            let wakes = bounded(wakes(&options)).await;
            let mut wakes = match wakes {
                Ok(wakes) => wakes,
                Err(stop) => {
                    if !is_down {
                        tracing::warn!(
                            "PostgreSQL cannot be listened to; it is tried again every second: {stop:?}"
                        );
                    }
                    is_down = true;
                    tokio::time::sleep(LOOK).await;
                    continue;
                }
            };
            is_down = false;
            // What came before the connection listened was not heard.
            loop {
                if let Err(stop) = self.catch_up().await {
                    tracing::warn!("events cannot be read; it is tried again: {stop:?}");
                    tokio::time::sleep(LOOK).await;
                }
                match tokio::time::timeout(LOOK, wakes.heard.recv()).await {
                    // Several that wait are one reason to look.
                    Ok(Some(())) => while wakes.heard.try_recv().is_ok() {},
                    Err(_) => {}
                    Ok(None) => break,
                }
            }
        }
    }
}

/// A connection that listens. It ends with this.
struct Wakes {
    /// Without it the connection ends.
    _client: tokio_postgres::Client,
    /// A message for each notification; closed when the connection ended.
    heard: mpsc::UnboundedReceiver<()>,
}

async fn wakes(options: &Options) -> Verb<Wakes> {
    let (client, mut connection) = options.config.connect(options.tls.clone()).await?;
    let (wake, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            if matches!(message, AsyncMessage::Notification(_)) && wake.send(()).is_err() {
                return;
            }
        }
    });
    client.batch_execute("LISTEN qgjob").await?;
    Ok(Wakes { _client: client, heard })
}
