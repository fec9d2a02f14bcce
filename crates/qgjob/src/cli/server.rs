//! `qgjob server`: the one place where the binary and the server meet.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use qgjob_core::clock::SystemClock;
use qgjob_core::model::exit::ExitCode;
use qgjob_core::model::policy::Trusted;
use qgjob_server::config::Config;
use qgjob_server::credential::Credential;
use qgjob_server::run::Bound;
use qgjob_server::store::postgres::Postgres;
use qgjob_server::store::sqlite::Sqlite;
use qgjob_server::store::{Rules, Store};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::Context;
use super::failure::{Failure, Result};
use crate::client::{Secret, origin};
use crate::config::credentials::Credentials;
use crate::config::{self, Environment};
use crate::output;

/// The server
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "Example:\n  qgjob server run")]
pub enum Server {
    /// Serve until stopped
    ///
    /// The first start makes an admin token. When the server listens on this machine alone, the token is kept in your
    /// credentials.toml, so that qgjob beside it works without a login.
    #[command(
        after_help = "Examples:\n  qgjob server run\n  qgjob server run --listen=0.0.0.0:8080 --data-dir=/var/lib/qgjob --public-url=https://qgjob.example.com"
    )]
    Run(Box<Run>),
    /// Print the configuration that `server run` would use, with all limits
    #[command(after_help = "Example:\n  qgjob server print-config > server.toml")]
    PrintConfig(Box<Run>),
    /// Check whether the server can do its work: exit code 0, 10 or 14
    #[command(after_help = "Example:\n  qgjob server check --server=https://qgjob.example.com")]
    Check,
}

/// What `server run` can be told.
#[derive(Debug, clap::Args)]
pub struct Run {
    /// Configuration file, as `server print-config` writes it; flags beat it
    #[arg(long, value_name = "FILE", env = "QGJOB_SERVER_CONFIG", hide_env = true)]
    config: Option<PathBuf>,
    /// Where to listen; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS", env = "QGJOB_LISTEN", hide_env = true)]
    listen: Option<SocketAddr>,
    /// Folder for everything that is kept [default: $XDG_DATA_HOME/qgjob]
    #[arg(long, value_name = "DIR", env = "QGJOB_DATA_DIR", hide_env = true)]
    data_dir: Option<PathBuf>,
    /// The queue's engine: sqlite:PATH, or postgres://USER@HOST/DATABASE for several servers; a password is better kept in
    /// QGJOB_STORE or the configuration file [default: sqlite:qgjob.db in the data folder]
    #[arg(long, value_name = "STORE", env = "QGJOB_STORE", hide_env = true, hide_env_values = true)]
    store: Option<String>,
    /// How users reach the server
    #[arg(long, value_name = "URL", env = "QGJOB_PUBLIC_URL", hide_env = true)]
    public_url: Option<String>,
    /// Issuer whose id-tokens policies may let in, besides GitHub Actions and GitLab.com: gitlab=URL, github=URL, or the URL of
    /// another one; repeatable
    #[arg(long, value_name = "ISSUER", env = "QGJOB_OIDC_ISSUER", hide_env = true, value_delimiter = ',')]
    oidc_issuer: Vec<Trusted>,
    /// Where to serve /metrics without a token
    #[arg(long, value_name = "ADDRESS", env = "QGJOB_METRICS_LISTEN", hide_env = true)]
    metrics_listen: Option<SocketAddr>,
}

impl Server {
    pub async fn run(self, context: &Context) -> Result {
        match self {
            Self::Run(run) => run.serve(context).await,
            Self::PrintConfig(run) => {
                let config = run.config(&context.env)?;
                let text = toml::to_string(&config).map_err(|error| {
                    Failure::new(ExitCode::Internal, format!("the configuration is no TOML: {error}"))
                })?;
                context
                    .output
                    .object(&output::typed("server_config", &config), text.trim_end(), || text.clone())?;
                Ok(ExitCode::Ok)
            }
            Self::Check => check(context).await,
        }
    }
}

async fn check(context: &Context) -> Result {
    let client = context.client()?;
    let readiness = client.ready().await?;
    context.output.object(
        &output::typed("readiness", &readiness),
        if readiness.ready { "ready" } else { "not_ready" },
        || {
            let word = if readiness.ready { "ready" } else { "not ready" };
            readiness.checks.iter().fold(format!("{} is {word}", client.origin()), |text, check| {
                format!("{text}\n  {} {:<9} {}", if check.ok { "✓" } else { "✗" }, check.name, check.detail)
            })
        },
    )?;
    Ok(if readiness.ready { ExitCode::Ok } else { ExitCode::Infra })
}

impl Run {
    fn config(&self, env: &Environment) -> Result<Config> {
        let mut config = match &self.config {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|cause| config::Error::File { path: path.clone(), cause })?;
                let read = toml::from_str(&text);
                read.map_err(|error| config::Error::Invalid {
                    path: path.clone(),
                    detail: config::toml_detail(&text, &error),
                })?
            }
            None => Config { data_dir: data_dir(env)?, ..Config::default() },
        };
        if let Some(dir) = &self.data_dir {
            config.data_dir.clone_from(dir);
        }
        config.listen = self.listen.unwrap_or(config.listen);
        config.metrics_listen = self.metrics_listen.or(config.metrics_listen);
        if !self.oidc_issuer.is_empty() {
            config.oidc_issuers.clone_from(&self.oidc_issuer);
        }
        config.public_url = self.public_url.clone().or(config.public_url);
        config.store = self.store.clone().or(config.store);
        Ok(config)
    }

    async fn serve(self, context: &Context) -> Result {
        let config = self.config(&context.env)?;
        make_private(&config.data_dir)?;
        let store = open_store(&config, context).await?;
        let data_dir = config.data_dir.clone();
        let credential_file = config.credential_file.clone();
        let bound = qgjob_server::run::Server::bind(config, store, Arc::new(SystemClock)).await;
        let bound = bound
            .map_err(|error| Failure::new(ExitCode::Infra, "the server cannot start").cause(chain(&error)))?;
        self.keep_credential(context, &bound, credential_file, &data_dir);
        let document = serde_json::json!({
            "schema": "qgjob.server/v1",
            "url": bound.url,
            "address": bound.addr,
            "metrics_address": bound.metrics_addr,
            "data_dir": data_dir,
        });
        // Nobody needs to read this for the server to work.
        _ = context.output.object(&document, &bound.url, || {
            format!("Serving on {}  (data in {})", bound.url, data_dir.display())
        });

        let shutdown = CancellationToken::new();
        let serving = bound.serve(shutdown.clone());
        tokio::pin!(serving);
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        loop {
            let code = tokio::select! {
                ended = &mut serving => {
                    return match ended {
                        Ok(()) => Ok(ExitCode::Ok),
                        Err(error) => Err(Failure::new(ExitCode::Infra, "the server failed").cause(chain(&error))),
                    };
                }
                _ = interrupt.recv() => ExitCode::Interrupted,
                _ = terminate.recv() => ExitCode::Terminated,
            };
            if shutdown.is_cancelled() {
                return Ok(code);
            }
            shutdown.cancel();
        }
    }

    /// Puts the admin's token where the command line of this user looks for it, when the server is for this machine.
    fn keep_credential(&self, context: &Context, bound: &Bound, file: Option<PathBuf>, data_dir: &Path) {
        let loopback = bound.addr.ip().is_loopback();
        let file = file.filter(|_| loopback).unwrap_or_else(|| data_dir.join("admin-credential.json"));
        if !loopback {
            if bound.credential.is_some() {
                context.output.note(format!("The admin's token is in {}; keep it safe.", file.display()));
            }
            return;
        }
        let credential =
            std::fs::read(&file).ok().and_then(|text| serde_json::from_slice::<Credential>(&text).ok());
        let Some(credential) = credential else { return };
        let Some(folder) = config::folder(&context.env) else {
            return context
                .output
                .warn(format!("there is no home folder: the admin's token is only in {}", file.display()));
        };
        let path = folder.join("credentials.toml");
        let kept = Credentials::load(&path).and_then(|mut credentials| {
            let local = format!("http://{}", bound.addr);
            let token = Secret::new(credential.token);
            credentials.set(&local, token.clone());
            if let Ok(public) = config::parse_server(&bound.url) {
                credentials.set(&origin(&public), token);
            }
            credentials.local_server = Some(local);
            credentials.save(&path)
        });
        if let Err(error) = kept {
            context.output.warn(format!(
                "cannot keep the admin's token for the command line: {error}; it is in {}",
                file.display()
            ));
        }
    }
}

async fn open_store(config: &Config, context: &Context) -> Result<Arc<dyn Store>> {
    let rules = Rules { backoff: backoff(config) };
    let failed = |cause: String, hint: &'static str| {
        Failure::new(ExitCode::Infra, "the store cannot be opened").cause(cause).hint(hint)
    };
    let text = config.store.as_deref();
    if let Some(url) =
        text.filter(|text| ["postgres://", "postgresql://"].iter().any(|word| text.starts_with(word)))
    {
        let hint = "write --store=postgres://USER@HOST/DATABASE for a database that is there and belongs to that user";
        let store = Postgres::open(url, rules).await.map_err(|error| failed(error.to_string(), hint))?;
        context.output.note(format!(
            "The queue is in database {}. Servers that share it must share {}, too.",
            store.place(),
            config.data_dir.display()
        ));
        return Ok(Arc::new(store));
    }
    let database = match text.map(|text| text.split_once(':').unwrap_or((text, ""))) {
        None => config.data_dir.join("qgjob.db"),
        Some(("sqlite", path)) if !path.is_empty() => PathBuf::from(path),
        // What follows may hold a password.
        Some((engine, _)) => {
            return Err(Failure::usage(format!("{engine:?} begins no store"))
                .hint("write --store=sqlite:/path/to/qgjob.db or --store=postgres://USER@HOST/DATABASE"));
        }
    };
    let store = super::submit::blocking(move || Sqlite::open(&database, rules)).await?;
    let hint = "one server at a time uses a data folder; another one needs its own --data-dir";
    Ok(Arc::new(store.map_err(|error| failed(error.to_string(), hint))?))
}

fn backoff(config: &Config) -> qgjob_core::queue::retry::Backoff {
    qgjob_core::queue::retry::Backoff { first: config.backoff_first, most: config.backoff_most }
}

/// Makes the data folder, for its owner alone.
fn make_private(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| Failure::usage(format!("cannot make the data folder {}: {error}", dir.display())))
}

fn data_dir(env: &Environment) -> Result<PathBuf> {
    let xdg = env.get("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let base = xdg.or_else(|| env.get("HOME").map(|home| Path::new(home).join(".local/share")));
    base.map(|base| base.join("qgjob"))
        .ok_or_else(|| Failure::usage("there is no home folder: give --data-dir"))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(&format!(": {cause_text}"));
        }
        source = cause.source();
    }
    text
}
