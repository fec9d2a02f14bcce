//! What an operator can choose. Every field has a default; unknown fields are refused.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use qgjob_core::model::policy::Trusted;
use qgjob_core::queue::placement::Parameters;
use serde::{Deserialize, Serialize};

/// Settings of a server. Durations are written like `30s`, `5m`, `24h`; sizes are bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where to listen. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where to serve `/metrics` and the health checks without a token, besides the main listener; none: nowhere
    /// else. On the main listener `/metrics` needs an admin token.
    pub metrics_listen: Option<SocketAddr>,
    /// The folder for blobs, logs and uploads in progress. Servers that share a store share this, too: on a file system
    /// that all of them see.
    pub data_dir: PathBuf,
    /// The queue's engine: `sqlite:PATH` for one server, `postgres://user@host/database` for one or several. None:
    /// `qgjob.db` in the data folder. Not printed when it holds a password.
    #[serde(skip_serializing_if = "is_secret")]
    pub store: Option<String>,
    /// How users reach the server, when that is not `http://<listen>`: `https://qgjob.example.com`.
    pub public_url: Option<String>,
    /// Where a first start on loopback writes the admin's credential (mode 0600), so that the command line beside
    /// the server just works. None: `admin-credential.json` in the data folder.
    pub credential_file: Option<PathBuf>,
    /// Issuers whose id-tokens policies may let in, besides GitHub Actions and GitLab.com: `gitlab=` or `github=` and the
    /// address of an own GitLab or GitHub, or the address of another issuer. What is named once more counts as it is named.
    pub oidc_issuers: Vec<Trusted>,
    /// How long an agent holds an attempt without renewing its lease, and how long it may be silent before it counts
    /// as offline.
    #[serde(with = "span")]
    pub lease: Duration,
    /// How often agents are told to call (`agent run --heartbeat`). The server warns at its start when a lease is not
    /// at least twice as long.
    #[serde(with = "span")]
    pub heartbeat: Duration,
    /// How long after its own timeout an attempt may take to clean up before the server ends it.
    #[serde(with = "span")]
    pub timeout_grace: Duration,
    /// Longest wait before the first retry of a job after an infrastructure fault; doubles with each further one.
    #[serde(with = "span")]
    pub backoff_first: Duration,
    /// Longest wait before any retry.
    #[serde(with = "span")]
    pub backoff_most: Duration,
    /// How long a run is kept after it is over, with its jobs, events and logs; never less than 7 days.
    #[serde(with = "span")]
    pub retention: Duration,
    /// How long the server goes on accepting connections after it was told to stop, so that a load balancer can see
    /// `/readyz` fail.
    #[serde(with = "span")]
    pub drain_delay: Duration,
    /// How long requests in flight may take after that.
    #[serde(with = "span")]
    pub drain_timeout: Duration,
    /// Sizes and counts that requests must keep to.
    pub limits: Limits,
    /// The numbers of the placement.
    pub placement: Parameters,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            metrics_listen: None,
            data_dir: PathBuf::from("qgjob-data"),
            store: None,
            public_url: None,
            credential_file: None,
            oidc_issuers: Vec::new(),
            lease: Duration::from_secs(30),
            heartbeat: Duration::from_secs(5),
            timeout_grace: Duration::from_secs(60),
            backoff_first: Duration::from_secs(5),
            backoff_most: Duration::from_secs(300),
            retention: Duration::from_secs(30 * 24 * 60 * 60),
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(10),
            limits: Limits::default(),
            placement: Parameters::default(),
        }
    }
}

/// Whether there is no store to be printed, or one with a password.
fn is_secret(store: &Option<String>) -> bool {
    let Some((_, place)) = store.as_deref().map(|store| store.split_once("://").unwrap_or(("", store)))
    else {
        return true;
    };
    place.rsplit_once('@').is_some_and(|(user, _)| user.contains(':')) || place.contains("password=")
}

/// Sizes and counts that requests must keep to. What exceeds them is refused with `too_large`, except logs, which
/// are cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of a JSON body.
    pub json_body: u64,
    /// Bytes of an agent's report of test results or of an attempt's end.
    pub report: u64,
    /// Bytes of all headers of a request.
    pub headers: u64,
    /// Bytes of a packed project bundle.
    pub bundle: u64,
    /// Bytes of an app.
    pub app: u64,
    /// Bytes of one artifact.
    pub artifact: u64,
    /// Artifacts of one attempt.
    pub artifacts_per_attempt: u32,
    /// Bytes kept of each log stream of an attempt; what follows is dropped and a marker says so.
    pub log: u64,
    /// Bytes of one piece of a log.
    pub log_piece: u64,
    /// Tries in one report of an agent.
    pub tries_per_report: u32,
    /// Longest `wait` of a long-poll; longer ones are cut.
    #[serde(with = "span")]
    pub wait: Duration,
    /// Event streams and followed logs per token.
    pub streams_per_token: u32,
    /// Event streams and followed logs in all.
    pub streams: u32,
    /// How long an upload may take before what has arrived is thrown away.
    #[serde(with = "span")]
    pub upload_life: Duration,
    /// Bytes that must be free on the data folder's disk for the server to call itself ready.
    pub disk_free: u64,
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: u64 = 1024 * 1024;
        Self {
            json_body: MIB,
            report: 64 * MIB,
            headers: 16 * 1024,
            bundle: 200 * MIB,
            app: 4096 * MIB,
            artifact: 2048 * MIB,
            artifacts_per_attempt: 5_000,
            log: 200 * MIB,
            log_piece: 8 * MIB,
            tries_per_report: 1_000,
            wait: Duration::from_secs(60),
            streams_per_token: 20,
            streams: 10_000,
            upload_life: Duration::from_secs(24 * 60 * 60),
            disk_free: 256 * MIB,
        }
    }
}

/// Durations as people write them.
mod span {
    use std::time::Duration;

    use jiff::SignedDuration;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        let signed = SignedDuration::try_from(*duration).unwrap_or(SignedDuration::MAX);
        to.collect_str(&format_args!("{signed:#}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        let wrong = || de::Error::custom(format!("{text:?} is not a duration like 30s, 5m or 24h"));
        let signed: SignedDuration = text.parse().map_err(|_| wrong())?;
        Duration::try_from(signed).map_err(|_| wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_survive_their_text() {
        let text = serde_json::to_string(&Config::default()).unwrap();
        assert!(text.contains(r#""lease":"30s""#) && text.contains(r#""upload_life":"24h""#), "{text}");
        assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), Config::default());
    }

    #[test]
    fn a_store_is_printed_without_a_password_or_not_at_all() {
        let printed = |store: &str| {
            let config = Config { store: Some(store.to_owned()), ..Config::default() };
            serde_json::to_string(&config).unwrap().contains(store)
        };
        for open in
            ["sqlite:/var/lib/q.db", "postgres://qgjob@db/qgjob", "postgres://db:5432/qgjob?sslmode=require"]
        {
            assert!(printed(open), "{open}");
        }
        for secret in
            ["postgres://q:s3cret@db/q", "postgres://q:s3:c@t@db/q", "postgres://db/q?password=s3cret"]
        {
            assert!(!printed(secret), "{secret}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for bad in [r#"{"port":1}"#, r#"{"limits":{"logs":1}}"#, r#"{"lease":"-5s"}"#, r#"{"lease":"soon"}"#]
        {
            assert!(serde_json::from_str::<Config>(bad).is_err(), "{bad}");
        }
        assert_eq!(serde_json::from_str::<Config>(r#"{"lease":"2m"}"#).unwrap().lease.as_secs(), 120);
    }
}
