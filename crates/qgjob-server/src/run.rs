//! Starting and stopping a server.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use qgjob_core::clock::Clock;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::streams::Streams;
use crate::app::tickets::Tickets;
use crate::app::{App, Parts};
use crate::background;
use crate::blobs::disk::Disk;
use crate::blobs::uploads::Uploads;
use crate::config::Config;
use crate::dispatch::Dispatch;
use crate::forecasts::Forecasts;
use crate::http;
use crate::logs::Logs;
use crate::metrics::Metrics;
use crate::oidc::Oidc;
use crate::store::{self, Store};
use crate::{blobs, credential};

/// Why a server could not start or run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        /// Which.
        addr: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The data folder cannot be used.
    #[error("cannot use the data folder {folder}: {source}")]
    Data {
        /// Which.
        folder: PathBuf,
        /// Why.
        source: blobs::Error,
    },
    /// The first admin's credential cannot be made.
    #[error(transparent)]
    Credential(#[from] credential::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The listener failed.
    #[error("the listener failed: {0}")]
    Serve(std::io::Error),
}

/// What a server answers.
pub type Result<T> = std::result::Result<T, Error>;

/// Makes servers.
#[derive(Debug)]
pub struct Server;

/// A server that listens and does not answer yet.
pub struct Bound {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Where it serves `/metrics` without a token.
    pub metrics_addr: Option<SocketAddr>,
    /// How users reach it.
    pub url: String,
    /// The credential file that this start wrote.
    pub credential: Option<PathBuf>,
    app: App,
    listener: TcpListener,
    metrics_listener: Option<TcpListener>,
}

impl Server {
    /// Opens the data folder, listens, and makes the first admin token if the store has none.
    ///
    /// # Errors
    /// When an address, the folder, the credential file or the store cannot be used.
    pub async fn bind(config: Config, store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Result<Bound> {
        if config.lease < config.heartbeat * 2 {
            tracing::warn!("one late heartbeat loses every lease: make `lease` at least twice `heartbeat`");
        }
        let (addr, listener) = listen(config.listen).await?;
        let (metrics_addr, metrics_listener) = match config.metrics_listen {
            Some(addr) => listen(addr).await.map(|(addr, listener)| (Some(addr), Some(listener)))?,
            None => (None, None),
        };
        let url = config.public_url.clone().unwrap_or_else(|| format!("http://{addr}"));
        let (disk, uploads, logs) = open(&config)?;
        let credential = credential::bootstrap(&config, addr, &url, &*store, &*clock).await?;
        let forecasts = Forecasts::start(Arc::clone(&store)).await?;
        let app = Arc::new(Parts {
            dispatch: Dispatch::start(
                Arc::clone(&store),
                Arc::clone(&clock),
                Arc::clone(&forecasts),
                config.lease,
                config.placement,
            )
            .await?,
            forecasts,
            oidc: Oidc::new(&config.oidc_issuers, &url),
            blobs: Arc::new(disk),
            uploads,
            logs,
            metrics: Arc::new(Metrics::default()),
            streams: Streams::new(&config.limits),
            tickets: Tickets::default(),
            tasks: TaskTracker::new(),
            draining: AtomicBool::new(false),
            stopping: CancellationToken::new(),
            config,
            store,
            clock,
        });
        Ok(Bound { addr, metrics_addr, url, credential, app, listener, metrics_listener })
    }
}

async fn listen(addr: SocketAddr) -> Result<(SocketAddr, TcpListener)> {
    let failed = |source| Error::Listen { addr, source };
    let listener = TcpListener::bind(addr).await.map_err(failed)?;
    Ok((listener.local_addr().map_err(failed)?, listener))
}

fn open(config: &Config) -> Result<(Disk, Uploads, Logs)> {
    let folder: &Path = &config.data_dir;
    let failed = |source| Error::Data { folder: folder.to_owned(), source };
    let disk = Disk::open(&folder.join("blobs")).map_err(failed)?;
    let uploads = Uploads::open(&folder.join("uploads")).map_err(failed)?;
    let logs = Logs::open(&folder.join("logs"), config.limits.log).map_err(|error| failed(error.into()))?;
    Ok((disk, uploads, logs))
}

impl Bound {
    /// Answers until `shutdown`. Then `/readyz` fails, long-polls and streams end, and requests in flight may finish
    /// within `drain_timeout`.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(self, shutdown: CancellationToken) -> Result<()> {
        let Self { app, listener, metrics_listener, .. } = self;
        let duties = TaskTracker::new();
        let board = Arc::clone(&app);
        duties.spawn(async move { board.dispatch.run(board.stopping.clone()).await });
        duties.spawn(background::sweep(Arc::clone(&app)));
        duties.spawn(background::prune(Arc::clone(&app)));
        duties.spawn(Arc::clone(&app.metrics).count(app.store.subscribe(), app.stopping.clone()));
        let closing = CancellationToken::new();
        if let Some(listener) = metrics_listener {
            let site = axum::serve(listener, http::metrics_router(Arc::clone(&app)));
            let site = site.with_graceful_shutdown(closing.clone().cancelled_owned());
            duties.spawn(async move { _ = site.await });
        }
        let site = axum::serve(listener, http::router(Arc::clone(&app)));
        let site = site.with_graceful_shutdown(closing.clone().cancelled_owned());
        let mut site = tokio::spawn(site.into_future());
        let ended = tokio::select! {
            ended = &mut site => Some(ended),
            () = shutdown.cancelled() => None,
        };
        app.draining.store(true, Ordering::Relaxed);
        app.stopping.cancel();
        if ended.is_none() {
            tracing::info!("stopping: requests in flight may finish");
            tokio::time::sleep(app.config.drain_delay).await;
        }
        closing.cancel();
        duties.close();
        app.tasks.close();
        let drained = async {
            let ended = match ended {
                Some(ended) => ended,
                None => (&mut site).await,
            };
            app.tasks.wait().await;
            duties.wait().await;
            ended
        };
        match tokio::time::timeout(app.config.drain_timeout, drained).await {
            Ok(Ok(ended)) => ended.map_err(Error::Serve),
            Ok(Err(failed)) => Err(Error::Serve(std::io::Error::other(failed))),
            Err(_) => {
                tracing::warn!("requests in flight did not finish in time and are cut off");
                site.abort();
                Ok(())
            }
        }
    }
}

/// Binds and serves until `shutdown`.
///
/// # Errors
/// As [`Server::bind`] and [`Bound::serve`].
pub async fn serve(
    config: Config,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
) -> Result<()> {
    Server::bind(config, store, clock).await?.serve(shutdown).await
}
