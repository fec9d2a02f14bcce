//! Numbers for Prometheus. Labels are words of fixed sets, never ids or names.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use qgjob_core::model::attempt::InstallAction;
use qgjob_core::model::event::{Event, Fact};
use qgjob_core::model::job::{self, Reason};
use qgjob_core::model::selector::Target;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::CancellationToken;

use crate::store::Gauges;

type Labels<const N: usize> = [(&'static str, String); N];
type Seconds = Gauge<f64, AtomicU64>;

/// All that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    jobs_submitted: Family<Labels<1>, Counter>,
    jobs_queued: Counter,
    jobs_promoted: Counter,
    jobs_completed: Family<Labels<1>, Counter>,
    attempts: Family<Labels<1>, Counter>,
    installs: Family<Labels<1>, Counter>,
    installs_avoided: Counter,
    leases_expired: Counter,
    /// Reports under an old epoch.
    pub stale_reports: Counter,
    /// Submits that led to a run that existed.
    pub idempotent_replays: Counter,
    requests: Family<Labels<3>, Counter>,
    request_seconds: Family<Labels<2>, Histogram>,
    requests_waiting: Family<Labels<2>, Gauge>,
    /// Streams that fell behind and read on from the store.
    pub sse_lagged: Counter,
    auth_failures: Family<Labels<1>, Counter>,
    /// Bytes of logs that came.
    pub log_bytes: Counter,
    /// Bytes of artifacts that came.
    pub artifact_bytes: Counter,
    queue_wait: Histogram,
    job_seconds: Histogram,
    install_seconds: Histogram,
    prediction_ratio: Histogram,
    queue_jobs: Family<Labels<1>, Gauge>,
    queue_oldest: Seconds,
    queue_paused: Family<Labels<1>, Gauge>,
    devices: Family<Labels<2>, Gauge>,
    agents: Family<Labels<1>, Gauge>,
    sse_connections: Gauge,
    storage_free: Gauge,
}

/// A request that waits for its answer.
#[derive(Debug)]
pub struct Waiting(Gauge);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What is looked up when the numbers are asked for.
#[derive(Debug)]
pub struct Now {
    /// From the store.
    pub gauges: Gauges,
    /// Open streams.
    pub streams: u32,
    /// Bytes free on the data folder's disk.
    pub free: u64,
    /// The time.
    pub at: Timestamp,
}

fn registered<M: prometheus_client::registry::Metric + Clone>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    metric: M,
) -> M {
    registry.register(name, help, metric.clone());
    metric
}

fn long() -> Histogram {
    // 0.1 s to 55 min.
    Histogram::new(exponential_buckets(0.1, 2.0, 16))
}

fn short() -> Histogram {
    // 0.5 ms to 65 s.
    Histogram::new(exponential_buckets(0.0005, 2.0, 18))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("qgjob");
        let r = &mut registry;
        let build: Family<Labels<1>, Gauge> =
            registered(r, "build_info", "The server's version", Family::default());
        build.get_or_create(&[("version", env!("CARGO_PKG_VERSION").to_owned())]).set(1);
        Self {
            jobs_submitted: registered(r, "jobs_submitted", "Jobs accepted", Family::default()),
            jobs_queued: registered(
                r,
                "jobs_queued",
                "Jobs that began to wait, retries included",
                Counter::default(),
            ),
            jobs_promoted: registered(r, "jobs_promoted", "Jobs moved before all others", Counter::default()),
            jobs_completed: registered(r, "jobs_completed", "Jobs completed", Family::default()),
            attempts: registered(r, "attempts", "Attempts ended", Family::default()),
            installs: registered(r, "installs", "Apps sent to devices", Family::default()),
            installs_avoided: registered(
                r,
                "installs_avoided",
                "Attempts that found the build on the device",
                Counter::default(),
            ),
            leases_expired: registered(
                r,
                "lease_expired",
                "Attempts whose lease ran out",
                Counter::default(),
            ),
            stale_reports: registered(
                r,
                "stale_reports_rejected",
                "Reports under an old epoch",
                Counter::default(),
            ),
            idempotent_replays: registered(
                r,
                "idempotent_replays",
                "Submits that led to a run that existed",
                Counter::default(),
            ),
            requests: registered(r, "http_requests", "Requests answered", Family::default()),
            request_seconds: registered(
                r,
                "http_request_duration_seconds",
                "Time until the answer began",
                Family::new_with_constructor(short as fn() -> Histogram),
            ),
            requests_waiting: registered(
                r,
                "http_requests_waiting",
                "Requests whose answer has not begun, long-polls included",
                Family::default(),
            ),
            sse_lagged: registered(r, "sse_lagged", "Streams that fell behind", Counter::default()),
            auth_failures: registered(
                r,
                "auth_failures",
                "Requests without a valid token",
                Family::default(),
            ),
            log_bytes: registered(r, "log_bytes", "Bytes of logs that came", Counter::default()),
            artifact_bytes: registered(
                r,
                "artifact_bytes",
                "Bytes of artifacts that came",
                Counter::default(),
            ),
            queue_wait: registered(
                r,
                "queue_wait_seconds",
                "Time from being queued to being started",
                long(),
            ),
            job_seconds: registered(r, "job_duration_seconds", "Time from the last start to the end", long()),
            install_seconds: registered(
                r,
                "install_duration_seconds",
                "Time for verifying and installing",
                long(),
            ),
            prediction_ratio: registered(
                r,
                "prediction_ratio",
                "Time a job held its device, its install not counted, per predicted time",
                // 1/16 to 16, each by a quarter more than the one before.
                Histogram::new(exponential_buckets(0.0625, 2f64.powf(1.0 / 3.0), 25)),
            ),
            queue_jobs: registered(r, "queue_jobs", "Jobs that are not over", Family::default()),
            queue_oldest: registered(
                r,
                "queue_oldest_age_seconds",
                "Age of the oldest waiting job",
                Seconds::default(),
            ),
            queue_paused: registered(
                r,
                "queue_paused",
                "Orgs and app versions that are paused",
                Family::default(),
            ),
            devices: registered(r, "devices", "Devices", Family::default()),
            agents: registered(r, "agents", "Agents", Family::default()),
            sse_connections: registered(r, "sse_connections", "Open streams", Gauge::default()),
            storage_free: registered(
                r,
                "storage_free_bytes",
                "Free space for blobs and logs",
                Gauge::default(),
            ),
            registry,
        }
    }
}

impl Metrics {
    /// A request without a valid token: `missing`, `malformed` or `unknown`.
    pub fn auth_failed(&self, why: &str) {
        self.auth_failures.get_or_create(&[("kind", why.to_owned())]).inc();
    }

    /// Jobs were accepted.
    pub fn submitted(&self, target: Target, jobs: usize) {
        self.jobs_submitted.get_or_create(&[("target", target.to_string())]).inc_by(jobs as u64);
    }

    /// A request came, and waits for its answer until what is returned is dropped: the caller may leave before.
    pub fn waiting(&self, route: &str, method: &str) -> Waiting {
        let labels = [("route", route.to_owned()), ("method", method.to_owned())];
        let waiting = Waiting(self.requests_waiting.get_or_create_owned(&labels));
        waiting.0.inc();
        waiting
    }

    /// A request was answered; `route` is the pattern of its path, never the path.
    pub fn answered(&self, route: &str, method: &str, status: u16, took: Duration) {
        let labels = [("route", route.to_owned()), ("method", method.to_owned())];
        self.request_seconds.get_or_create(&labels).observe(took.as_secs_f64());
        let [route, method] = labels;
        self.requests.get_or_create(&[route, method, ("code", status.to_string())]).inc();
    }

    /// The numbers as text.
    pub fn text(&self, now: &Now) -> String {
        self.queue_jobs.clear();
        for (status, count) in &now.gauges.jobs {
            self.queue_jobs.get_or_create(&[("state", status.to_string())]).set(whole(*count));
        }
        let age = now.gauges.oldest_queued_at.map_or(0.0, |since| now.at.duration_since(since).as_secs_f64());
        self.queue_oldest.set(age.max(0.0));
        for (what, count) in
            [("org", now.gauges.paused_orgs), ("app_version", now.gauges.paused_app_versions)]
        {
            self.queue_paused.get_or_create(&[("what", what.to_owned())]).set(whole(count));
        }
        self.devices.clear();
        for (state, platform, count) in &now.gauges.devices {
            let labels = [("state", state.to_string()), ("platform", platform.to_string())];
            self.devices.get_or_create(&labels).set(whole(*count));
        }
        self.agents.clear();
        for (state, count) in &now.gauges.agents {
            self.agents.get_or_create(&[("state", state.to_string())]).set(whole(*count));
        }
        self.sse_connections.set(i64::from(now.streams));
        self.storage_free.set(whole(now.free));
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string cannot fail");
        text
    }

    /// Counts what the store commits, until `stop`.
    pub async fn count(
        self: Arc<Self>,
        mut events: broadcast::Receiver<Arc<Vec<Event>>>,
        stop: CancellationToken,
    ) {
        let mut since = HashMap::new();
        loop {
            let received = tokio::select! {
                received = events.recv() => received,
                () = stop.cancelled() => return,
            };
            match received {
                Ok(batch) => batch.iter().for_each(|event| self.note(event, &mut since)),
                // What was missed is not counted; times would be wrong from here on.
                Err(RecvError::Lagged(_)) => since.clear(),
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn note(&self, event: &Event, since: &mut HashMap<job::Id, Since>) {
        let elapsed = |then: Timestamp| event.at.duration_since(then).as_secs_f64().max(0.0);
        match &event.fact {
            Fact::JobQueued { predicted_ms, .. } => {
                self.jobs_queued.inc();
                let queued = Since { at: event.at, predicted_ms: Some(*predicted_ms) };
                since.extend(event.job_id.map(|id| (id, queued)));
            }
            Fact::JobPromoted { .. } => _ = self.jobs_promoted.inc(),
            Fact::JobStarted { .. } => {
                let Some(id) = event.job_id else { return };
                let queued = since.get(&id).copied();
                queued.into_iter().for_each(|then| self.queue_wait.observe(elapsed(then.at)));
                let predicted_ms = queued.and_then(|then| then.predicted_ms);
                since.insert(id, Since { at: event.at, predicted_ms });
            }
            Fact::JobPhase { install: Some(install), .. } => {
                self.install_seconds.observe(install.duration_ms as f64 / 1_000.0);
                match install.action {
                    InstallAction::Avoided => _ = self.installs_avoided.inc(),
                    action => _ = self.installs.get_or_create(&[("reason", action.to_string())]).inc(),
                }
            }
            Fact::JobCompleted { conclusion, from, .. } => {
                self.jobs_completed.get_or_create(&[("conclusion", conclusion.to_string())]).inc();
                let started =
                    event.job_id.and_then(|id| since.remove(&id)).filter(|_| *from == job::Status::Running);
                started.into_iter().for_each(|then| self.job_seconds.observe(elapsed(then.at)));
            }
            Fact::AttemptEnded { outcome, reason, took, .. } => {
                let predicted_ms = event.job_id.and_then(|id| since.get(&id)?.predicted_ms);
                for (took, predicted_ms) in took.iter().zip(predicted_ms) {
                    self.prediction_ratio.observe(took.held_ms as f64 / predicted_ms.max(1) as f64);
                }
                self.attempts.get_or_create(&[("outcome", outcome.to_string())]).inc();
                if *reason == Some(Reason::LeaseLost) {
                    self.leases_expired.inc();
                }
            }
            _ => {}
        }
    }
}

/// When a job was queued or started last, and how long it was expected to take, if that was told.
#[derive(Debug, Clone, Copy)]
struct Since {
    at: Timestamp,
    predicted_ms: Option<u64>,
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
