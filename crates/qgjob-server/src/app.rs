//! The running server's parts, which the routes and the background duties share. Knows nothing of HTTP.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use qgjob_core::clock::Clock;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::blobs::Blobs;
use crate::blobs::uploads::Uploads;
use crate::config::Config;
use crate::dispatch::Dispatch;
use crate::forecasts::Forecasts;
use crate::logs::Logs;
use crate::metrics::Metrics;
use crate::oidc::Oidc;
use crate::store::Store;

pub mod streams;
pub mod tickets;

use streams::Streams;
use tickets::Tickets;

/// What every route and every duty can reach.
pub struct Parts {
    /// Settings.
    pub config: Config,
    /// What is remembered.
    pub store: Arc<dyn Store>,
    /// Time and randomness.
    pub clock: Arc<dyn Clock>,
    /// Brings devices and jobs together.
    pub dispatch: Arc<Dispatch>,
    /// What jobs and installs will take.
    pub forecasts: Arc<Forecasts>,
    /// Who may vouch for pipelines.
    pub oidc: Oidc,
    /// Bytes by name.
    pub blobs: Arc<dyn Blobs>,
    /// Uploads in progress.
    pub uploads: Uploads,
    /// Logs of attempts.
    pub logs: Logs,
    /// Numbers.
    pub metrics: Arc<Metrics>,
    /// Open streams.
    pub streams: Arc<Streams>,
    /// Announced artifacts.
    pub tickets: Tickets,
    /// Tasks that send streams.
    pub tasks: TaskTracker,
    /// Whether the server was told to stop.
    pub draining: AtomicBool,
    /// Ends long-polls and streams.
    pub stopping: CancellationToken,
}

/// The running server, shared.
pub type App = Arc<Parts>;
