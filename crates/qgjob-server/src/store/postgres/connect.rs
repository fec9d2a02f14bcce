//! Where PostgreSQL is, and connections to it.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Timeouts};
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio_postgres::Config;
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::OpenError;

/// Connections of a server, besides the one that listens: its lanes, its duties, and what reads.
const CONNECTIONS: usize = 10;
/// How long making a connection, or waiting for a free one, may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a statement may take, wait for another transaction, and leave its own open. What is longer is ended by
/// PostgreSQL and answered as unavailable.
const LIMITS: &str =
    "-c statement_timeout=10s -c lock_timeout=5s -c idle_in_transaction_session_timeout=10s -c TimeZone=UTC";
/// When a connection says nothing for so long, the kernel asks whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// How to connect.
#[derive(Clone)]
pub(super) struct Options {
    pub config: Config,
    pub tls: MakeRustlsConnect,
}

impl Options {
    /// Reads `postgres://user:password@host:port/database?sslmode=require`.
    pub(super) fn read(url: &str) -> Result<Self, OpenError> {
        // Its error names what is wrong, never the password.
        let mut config =
            Config::from_str(url).map_err(|error| OpenError::Url(super::transaction::said(&error)))?;
        if config.get_hosts().is_empty() {
            return Err(OpenError::Url("it names no host".to_owned()));
        }
        if config.get_dbname().is_none() {
            return Err(OpenError::Url("it names no database".to_owned()));
        }
        let options = match config.get_options() {
            Some(given) => format!("{LIMITS} {given}"),
            None => LIMITS.to_owned(),
        };
        config.options(options).connect_timeout(PATIENCE).keepalives_idle(KEEPALIVE);
        config.keepalives_interval(KEEPALIVE).keepalives_retries(3).tcp_user_timeout(KEEPALIVE * 3);
        // After a failover the name may lead to a server that only reads.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        if config.get_application_name().is_none() {
            config.application_name("qgjob");
        }
        let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(BuilderVerifierExt::with_platform_verifier)
            .map_err(OpenError::Tls)?
            .with_no_client_auth();
        Ok(Self { config, tls: MakeRustlsConnect::new(tls) })
    }

    /// The same place for people, without the password.
    pub(super) fn shown(&self) -> String {
        let hosts = self.config.get_hosts().iter().map(|host| match host {
            tokio_postgres::config::Host::Tcp(name) => name.clone(),
            tokio_postgres::config::Host::Unix(path) => path.display().to_string(),
        });
        let hosts: Vec<String> = hosts.collect();
        format!("{} on {}", self.config.get_dbname().unwrap_or_default(), hosts.join(", "))
    }

    pub(super) fn pool(&self) -> Result<Pool, OpenError> {
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(self.config.clone(), self.tls.clone(), recycling);
        let timeouts = Timeouts { wait: Some(PATIENCE), create: Some(PATIENCE), recycle: Some(PATIENCE) };
        let pool = Pool::builder(manager).max_size(CONNECTIONS).timeouts(timeouts).runtime(Runtime::Tokio1);
        pool.build().map_err(|error| OpenError::Unusable(error.to_string()))
    }
}
