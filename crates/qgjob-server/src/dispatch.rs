//! Dispatch: brings free devices and waiting jobs together. It asks the board, then the store, whose claim is the only
//! step that counts. Agents that find nothing wait here and are woken by the store's events; no timer polls.

mod current;
mod explain;
mod rulings;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use jiff::Timestamp;
use qgjob_core::api::agents::{ClaimReply, ClaimRequest, Lease};
use qgjob_core::clock::Clock;
use qgjob_core::model::event::Event;
use qgjob_core::model::{agent, attempt, device};
use qgjob_core::queue::board::{Board, Health, Proposal, Ruling};
use qgjob_core::queue::placement::Parameters;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::forecasts::Forecasts;
use crate::store::{self, Claim, Store};

/// Brings devices and jobs together.
pub struct Dispatch {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    forecasts: Arc<Forecasts>,
    lease: Duration,
    parameters: Parameters,
    board: Mutex<Board>,
    /// For one `explain` at a time: it replays what waits.
    foreseeing: tokio::sync::Mutex<()>,
    /// The id of each agent's newest claim.
    newest_claims: Mutex<HashMap<agent::Id, String>>,
    asks: mpsc::Sender<Ask>,
    inbox: Mutex<Option<Inbox>>,
}

struct Inbox {
    asks: mpsc::Receiver<Ask>,
    events: broadcast::Receiver<Arc<Vec<Event>>>,
}

/// An agent that waits for work.
struct Ask {
    agent_id: agent::Id,
    request: ClaimRequest,
    /// Whether the agent may have asked this before and not heard the answer.
    may_be_a_repeat: bool,
    until: Instant,
    reply: oneshot::Sender<store::Result<Vec<Lease>>>,
}

/// What could not be kept current, and must be read again until that succeeds: jobs that the board does not know wait
/// for ever.
#[derive(Debug, Default)]
struct Stale {
    board: bool,
    devices: bool,
}

/// The pause before another try to read what is stale, or to carry out what the store could not.
const READ_AGAIN: Duration = Duration::from_secs(1);

impl Dispatch {
    /// Reads the board from the store. Leases last for `lease`; `parameters` are the placement's.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn start(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        forecasts: Arc<Forecasts>,
        lease: Duration,
        parameters: Parameters,
    ) -> store::Result<Arc<Self>> {
        let (asks, inbox) = mpsc::channel(1024);
        // Subscribed before the board is read, so that no event falls between the two.
        let inbox = Inbox { asks: inbox, events: store.subscribe() };
        let board = Mutex::new(
            current::read_board(&*store, &forecasts, parameters, Health::default(), clock.now()).await?,
        );
        let (newest_claims, foreseeing) = (Mutex::default(), tokio::sync::Mutex::default());
        let inbox = Mutex::new(Some(inbox));
        Ok(Arc::new(Self {
            store,
            clock,
            forecasts,
            lease,
            parameters,
            board,
            foreseeing,
            newest_claims,
            asks,
            inbox,
        }))
    }

    /// Answers an agent's claim: leases for its free devices, or none after `wait`. A repeat of a claim whose answer
    /// was lost gets the same leases.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn claim(
        &self,
        agent_id: agent::Id,
        request: ClaimRequest,
        wait: Duration,
    ) -> store::Result<ClaimReply> {
        let may_be_a_repeat = self.may_be_a_repeat(agent_id, &request.claim_id);
        let (reply, answer) = oneshot::channel();
        let ask = Ask { agent_id, request, may_be_a_repeat, until: Instant::now() + wait, reply };
        let stopped = || store::Error::Unavailable("the server is shutting down".to_owned());
        self.asks.send(ask).await.map_err(|_| stopped())?;
        let leases = answer.await.map_err(|_| stopped())??;
        Ok(ClaimReply { leases })
    }

    /// Whether the agent may have asked this before. An agent repeats its newest claim only; what it asked of an earlier
    /// process, or of another server, is not known.
    fn may_be_a_repeat(&self, agent_id: agent::Id, claim_id: &str) -> bool {
        if self.store.is_shared() {
            return true;
        }
        let mut newest = self.newest_claims.lock().expect("no thread panics while holding the claims");
        newest.insert(agent_id, claim_id.to_owned()).is_none_or(|before| before == claim_id)
    }

    /// Keeps the board current and answers claims until `shutdown`. To be called once.
    pub async fn run(&self, shutdown: CancellationToken) {
        let Some(mut inbox) = self.lock_inbox().take() else { return };
        let mut asks: Vec<Ask> = Vec::new();
        let mut stale = Stale::default();
        let mut rulings: Vec<Ruling> = Vec::new();
        loop {
            asks.retain(|ask| !ask.reply.is_closed());
            let wake_at = match stale.board || stale.devices || !rulings.is_empty() {
                true => Instant::now() + READ_AGAIN,
                false => self.next_wake(&asks),
            };
            tokio::select! {
                // Events first: a claim that follows a report must see what the report changed.
                biased;
                () = shutdown.cancelled() => return,
                events = inbox.events.recv() => match events {
                    Ok(events) => self.follow(&events, &mut stale).await,
                    Err(RecvError::Lagged(_)) => stale.board = true,
                    Err(RecvError::Closed) => return,
                },
                ask = inbox.asks.recv() => match ask {
                    Some(ask) => self.take_in(&mut asks, ask).await,
                    None => return,
                },
                () = tokio::time::sleep_until(wake_at) => {}
            }
            if !inbox.events.is_empty() {
                continue;
            }
            while let Ok(ask) = inbox.asks.try_recv() {
                self.take_in(&mut asks, ask).await;
            }
            if stale.devices && !stale.board {
                stale = self.refresh_devices().await;
            }
            if stale.board || self.board().is_worn() {
                stale = Stale { board: !self.reload().await, devices: false };
            }
            self.carry_out(&mut rulings).await;
            let mut right = self.serve(&mut asks).await;
            // A board that was wrong and to which nothing more is told is read anew, and what still waits is served by
            // it; if it is wrong again, later.
            if !right && inbox.events.is_empty() {
                stale.board = !self.reload().await;
                right = self.serve(&mut asks).await;
            }
            stale.board |= !right && inbox.events.is_empty();
            self.carry_out(&mut rulings).await;
            self.dismiss_expired(&mut asks);
        }
    }

    /// The board, for looking.
    pub fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().expect("no thread panics while holding the board")
    }

    fn lock_inbox(&self) -> MutexGuard<'_, Option<Inbox>> {
        self.inbox.lock().expect("no thread panics while holding the inbox")
    }

    /// When the loop must look again even if nothing happens: a claim's wait or a job's backoff ends.
    fn next_wake(&self, asks: &[Ask]) -> Instant {
        let mut wake = asks
            .iter()
            .map(|ask| ask.until)
            .min()
            .unwrap_or_else(|| Instant::now() + Duration::from_secs(60));
        if asks.is_empty() {
            return wake;
        }
        let now = self.clock.now();
        if let Some(due) = self.board().next_due() {
            // A millisecond more, so that rounding never wakes before the time.
            let left =
                Duration::try_from(due.duration_since(now)).unwrap_or_default() + Duration::from_millis(1);
            wake = wake.min(Instant::now() + left);
        }
        wake
    }

    /// Takes in a claim. A repeat is looked up here, where no claim of before is still on its way to the store.
    async fn take_in(&self, asks: &mut Vec<Ask>, ask: Ask) {
        if ask.may_be_a_repeat {
            let found = self.store.leases_of_claim(ask.agent_id, &ask.request.claim_id, self.lease).await;
            if !found.as_ref().is_ok_and(Vec::is_empty) {
                // An agent that left asks again.
                let _ = ask.reply.send(found);
                return;
            }
        }
        supersede(asks, ask);
    }

    /// Claims for all that wait, and answers those that got something; says whether the board was right.
    async fn serve(&self, asks: &mut Vec<Ask>) -> bool {
        // An agent that hung up while the loop slept would get a lease that only its end can take back.
        asks.retain(|ask| !ask.reply.is_closed());
        if asks.is_empty() {
            return true;
        }
        let now = self.clock.now();
        let mut owner: HashMap<device::Id, usize> = HashMap::new();
        for (at, ask) in asks.iter().enumerate() {
            owner.extend(ask.request.devices.iter().map(|device| (*device, at)));
        }
        let asking: Vec<device::Id> =
            asks.iter().flat_map(|ask| ask.request.devices.iter().copied()).collect();
        let proposals = self.board().propose(&asking, now);
        if proposals.is_empty() {
            return true;
        }
        let claims: Vec<Claim> = proposals
            .iter()
            .map(|proposal| self.claim_for(&asks[owner[&proposal.device]], proposal, now))
            .collect();
        let answers = match self.store.claim(now, claims).await {
            Ok(answers) => answers,
            Err(error) => {
                tracing::warn!(%error, "cannot claim");
                proposals.iter().for_each(|proposal| self.board().undo(proposal.device, now));
                // The agents ask again; waiting here without an event would keep them for the whole wait.
                asks.clear();
                return true;
            }
        };
        let mut leases: HashMap<usize, Vec<Lease>> = HashMap::new();
        let mut surprised = false;
        for (proposal, answer) in proposals.iter().zip(answers) {
            match answer {
                Ok(Some(lease)) => leases.entry(owner[&proposal.device]).or_default().push(lease),
                Ok(None) => {
                    self.board().undo(proposal.device, now);
                    surprised = true;
                }
                Err(refusal) => {
                    tracing::info!(device = %proposal.device, %refusal, "a claim was refused");
                    self.board().undo(proposal.device, now);
                    surprised = true;
                }
            }
        }
        let mut served: Vec<usize> = leases.keys().copied().collect();
        served.sort_unstable();
        for at in served.into_iter().rev() {
            let ask = asks.remove(at);
            self.board().expect(ask.request.devices.iter().copied(), now);
            if ask.reply.send(Ok(leases.remove(&at).unwrap_or_default())).is_err() {
                tracing::info!(agent = %ask.agent_id, "an agent left before it got its lease; it asks again or the lease expires");
            }
        }
        !surprised
    }

    fn dismiss_expired(&self, asks: &mut Vec<Ask>) {
        let now = Instant::now();
        for ask in asks.extract_if(.., |ask| ask.until <= now) {
            self.board().expect(ask.request.devices.iter().copied(), self.clock.now());
            dismiss(ask);
        }
    }

    fn claim_for(&self, ask: &Ask, proposal: &Proposal, now: Timestamp) -> Claim {
        Claim {
            claim_id: ask.request.claim_id.clone(),
            attempt_id: attempt::Id::new(now, self.clock.random()),
            agent_id: ask.agent_id,
            device_id: proposal.device,
            job_id: proposal.job,
            choice: proposal.choice,
            lease: self.lease,
        }
    }
}

/// Takes in a claim. An agent's newer claim names the devices that are free now, so its older one is dismissed.
fn supersede(asks: &mut Vec<Ask>, ask: Ask) {
    if let Some(older) = asks.iter().position(|older| older.agent_id == ask.agent_id) {
        dismiss(asks.remove(older));
    }
    match ask.request.devices.is_empty() {
        true => dismiss(ask),
        false => asks.push(ask),
    }
}

fn dismiss(ask: Ask) {
    // An agent that left has nothing to hear.
    let _ = ask.reply.send(Ok(Vec::new()));
}
