//! The agent's two loops: heartbeats, which renew leases and report devices, and claims, which bring work.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use qgjob_core::api::agents::{ClaimRequest, Heartbeat, HeartbeatReply, Lease};
use qgjob_core::api::problem::Code;
use qgjob_core::model::attempt;
use qgjob_core::model::evidence::Stop;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::attempt as execution;
use super::fleet::Fleet;
use super::hold::Hold;
use super::kit::Kit;
use super::link::{self, Link};

/// How long a claim waits at the server.
const CLAIM_WAIT: Duration = Duration::from_secs(30);
/// The pause after a call that failed.
const PAUSE: Duration = Duration::from_secs(1);
/// How long an agent that stops waits for the answers to its claims: one may bring a lease.
const LEAVE_WAIT: Duration = Duration::from_secs(5);
/// How often leases are compared with the agent's own clock.
const LEASE_CHECK: Duration = Duration::from_millis(250);

/// Runs an agent's loops.
pub struct Worker {
    link: Link,
    fleet: Arc<Fleet>,
    kit: Arc<Kit>,
    holds: Mutex<HashMap<attempt::Id, Arc<Hold>>>,
    /// Rises with each heartbeat that the server has answered.
    answered: watch::Sender<u64>,
    /// An operator wants this agent to take nothing new for now.
    paused: AtomicBool,
    /// Whatever runs is to be given back, now.
    stop: CancellationToken,
    attempts: TaskTracker,
}

/// Why an agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was told to leave and nothing runs any more.
    Left,
    /// The server does not know its session any more: it must register again.
    Unknown,
}

impl Worker {
    /// A worker that has not started. On `stop` it gives back what runs and ends.
    pub fn new(link: Link, fleet: Arc<Fleet>, kit: Arc<Kit>, stop: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            link,
            fleet,
            kit,
            holds: Mutex::default(),
            answered: watch::Sender::new(0),
            paused: AtomicBool::new(false),
            stop,
            attempts: TaskTracker::new(),
        })
    }

    /// Works until `drain` (finish what runs, take nothing new) or its stop.
    pub async fn run(self: Arc<Self>, heartbeat: Duration, drain: CancellationToken) -> End {
        let done = CancellationToken::new();
        let unknown = CancellationToken::new();
        let beats = tokio::spawn(self.clone().beat(heartbeat, unknown.clone(), done.clone()));
        let checks = tokio::spawn(self.clone().check_leases(done.clone()));
        tokio::select! {
            () = self.claim_until(&drain) => {}
            () = unknown.cancelled() => {}
        }
        self.attempts.close();
        tokio::select! {
            () = self.attempts.wait() => {}
            () = self.stop.cancelled() => self.stop_all(Stop::Shutdown),
            () = unknown.cancelled() => self.stop_all(Stop::LeaseLost),
        }
        self.attempts.wait().await;
        done.cancel();
        for task in [beats, checks] {
            if let Err(error) = task.await {
                tracing::error!(%error, "a loop of the agent ended badly");
            }
        }
        if unknown.is_cancelled() { End::Unknown } else { End::Left }
    }

    /// Calls regularly, and at once when a device has changed.
    async fn beat(self: Arc<Self>, every: Duration, unknown: CancellationToken, done: CancellationToken) {
        let mut changes = self.fleet.changes();
        let mut fresh = true;
        let mut troubled = false;
        loop {
            changes.mark_unchanged();
            let held = self.holds().values().map(|hold| hold.held).collect();
            let body = Heartbeat { fresh, devices: self.fleet.report(), attempts: held };
            let asked = Instant::now();
            let pause = match self.link.heartbeat(&body).await {
                Ok(reply) => {
                    if std::mem::take(&mut troubled) {
                        tracing::info!("the server answers again");
                    }
                    fresh = false;
                    self.obey(&reply, asked);
                    every
                }
                Err(error) if error.code() == Some(Code::Unauthenticated) => {
                    tracing::warn!("the server does not know this agent's session");
                    unknown.cancel();
                    every
                }
                Err(error) => {
                    if !std::mem::replace(&mut troubled, true) {
                        tracing::warn!(%error, "a heartbeat failed; trying until the server answers");
                    }
                    PAUSE.min(every)
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // A sender that is gone would make this ready for ever; the fleet outlives the worker.
                _ = changes.changed() => {}
                () = done.cancelled() => return,
            }
        }
    }

    fn obey(&self, reply: &HeartbeatReply, asked: Instant) {
        self.fleet.learn_ids(&reply.devices);
        for answer in &reply.attempts {
            if let Some(hold) = self.holds().get(&answer.attempt_id) {
                hold.obey(answer.order, asked);
            }
        }
        if self.paused.swap(reply.drain, Ordering::Relaxed) != reply.drain {
            tracing::info!(paused = reply.drain, "an operator drains or enables this agent");
        }
        self.answered.send_modify(|count| *count += 1);
    }

    async fn check_leases(self: Arc<Self>, done: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LEASE_CHECK) => {}
                () = done.cancelled() => return,
            }
            let now = Instant::now();
            self.holds().values().for_each(|hold| hold.expire(now));
        }
    }

    /// Keeps a claim open that names the free devices, and opens another one when they change. The server answers an
    /// agent's older claim as soon as a newer one comes; none is cut off here, so that no lease is lost on the way.
    async fn claim_until(self: &Arc<Self>, drain: &CancellationToken) {
        let mut changes = self.fleet.changes();
        let mut answered = self.answered.subscribe();
        let mut claimed = Vec::new();
        let mut open: JoinSet<u64> = JoinSet::new();
        let mut newest = 0;
        while !drain.is_cancelled() && !self.stop.is_cancelled() {
            let paused = self.paused.load(Ordering::Relaxed);
            let devices = if paused { Vec::new() } else { self.fleet.free() };
            if devices != claimed || (open.is_empty() && !devices.is_empty()) {
                claimed.clone_from(&devices);
                let request = ClaimRequest { claim_id: self.kit.new_id(), devices };
                newest += 1;
                let (worker, number) = (self.clone(), newest);
                open.spawn(async move {
                    worker.claim(request).await;
                    number
                });
            }
            tokio::select! {
                _ = changes.changed() => {}
                // A device gets its id with the answer to a heartbeat.
                _ = answered.changed() => {}
                Some(ended) = open.join_next(), if !open.is_empty() => {
                    // The end of an older claim says only that the newest has arrived, which still waits: another
                    // claim now would dismiss that one in turn, and so on for ever.
                    if !ended.is_ok_and(|number| number < newest) {
                        claimed.clear();
                    }
                }
                () = drain.cancelled() => {}
                () = self.stop.cancelled() => {}
            }
        }
        let dismiss = async {
            self.clone().claim(ClaimRequest { claim_id: self.kit.new_id(), devices: Vec::new() }).await;
            while open.join_next().await.is_some() {}
        };
        let too_late = async {
            self.stop.cancelled().await;
            tokio::time::sleep(LEAVE_WAIT).await;
        };
        tokio::select! {
            () = dismiss => {}
            () = too_late => {}
        }
    }

    /// One claim; a reply that was lost is asked for again under the same id.
    async fn claim(self: Arc<Self>, request: ClaimRequest) {
        let mut tries = 0;
        loop {
            match self.link.claim(&request, CLAIM_WAIT).await {
                Ok(reply) => {
                    reply.leases.into_iter().for_each(|lease| self.start(lease));
                    return;
                }
                Err(link::Error::Unreachable(_)) if tries < 5 => tries += 1,
                Err(error) => {
                    tracing::debug!(%error, "a claim failed");
                    tokio::time::sleep(PAUSE).await;
                    return;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn start(self: &Arc<Self>, lease: Lease) {
        let Some(taken) = self.fleet.take(lease.device_id) else {
            tracing::warn!(attempt = %lease.attempt_id, "a lease came for a device that is not free; it will expire");
            return;
        };
        let hold = Arc::new(Hold::new(&lease, Instant::now()));
        if self.stop.is_cancelled() {
            // Given back before anything of it starts.
            hold.stop(Stop::Shutdown);
        }
        let id = lease.attempt_id;
        self.holds().insert(id, hold.clone());
        // Renews the lease at once.
        self.fleet.note_change();
        let worker = self.clone();
        self.attempts.spawn(async move {
            let run = execution::run(&worker.kit, &worker.fleet, &worker.link, lease, &hold, &taken.phone);
            run.await;
            worker.holds().remove(&id);
            drop(taken);
        });
    }

    fn stop_all(&self, why: Stop) {
        self.holds().values().for_each(|hold| hold.stop(why));
    }

    fn holds(&self) -> MutexGuard<'_, HashMap<attempt::Id, Arc<Hold>>> {
        self.holds.lock().expect("no thread panics while holding the leases")
    }
}
