//! Secrets: what the store keeps of one, and the first admin's credential, a file `{"server": …, "token": …}` that
//! only its owner can read. It is the one place where the server writes a secret.

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use qgjob_core::clock::Clock;
use qgjob_core::model::sha256::Sha256;
use qgjob_core::model::token::{self, Kind, Token, secret};
use serde::{Deserialize, Serialize};
use sha2::Digest;

use crate::config::Config;
use crate::store::{self, Store};

/// Why there is no credential.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its file cannot be written.
    #[error("cannot write the credential file {file}: {source}")]
    File {
        /// Which.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// What the file holds.
#[derive(Debug, Serialize, Deserialize)]
pub struct Credential {
    /// How to reach the server.
    pub server: String,
    /// The secret.
    pub token: String,
}

/// What the store keeps of a secret.
pub fn hash(secret: &str) -> Sha256 {
    Sha256(sha2::Sha256::digest(secret.as_bytes()).into())
}

/// Makes an admin token if the store has none, and writes it to the credential file: the caller's, if the server
/// listens on loopback, else one in the data folder. If the file holds a token that works, only its address is
/// brought up to date. Answers the file if it was written.
///
/// # Errors
/// When the store or the file fails.
pub async fn bootstrap(
    config: &Config,
    addr: SocketAddr,
    url: &str,
    store: &dyn Store,
    clock: &dyn Clock,
) -> Result<Option<PathBuf>, Error> {
    let given = config.credential_file.clone().filter(|_| addr.ip().is_loopback());
    let file = given.unwrap_or_else(|| config.data_dir.join("admin-credential.json"));
    let failed = |source| Error::File { file: file.clone(), source };
    let now = clock.now();
    if let Some(known) = read(&file)
        && store.token_by_hash(hash(&known.token), now).await?.is_some_and(|token| token.kind == Kind::Admin)
    {
        if known.server == url {
            return Ok(None);
        }
        write(&file, &Credential { server: url.to_owned(), token: known.token }).map_err(failed)?;
        return Ok(Some(file));
    }
    let works = |token: &Token| token.kind == Kind::Admin && token.expires_at.is_none_or(|until| until > now);
    if store.tokens().await?.iter().any(works) {
        return Ok(None);
    }
    let secret = secret(Kind::Admin, [clock.random(), clock.random()]);
    let token = Token {
        id: token::Id::new(now, clock.random()),
        kind: Kind::Admin,
        name: "first start".to_owned(),
        org_id: None,
        agent_id: None,
        created_at: now,
        expires_at: None,
        ci: None,
    };
    let hash = hash(&secret);
    // The file first: a crash between the two leaves a file that does not work and is written again, never an admin
    // whom nobody knows.
    write(&file, &Credential { server: url.to_owned(), token: secret }).map_err(failed)?;
    store.add_token(token, hash).await?;
    Ok(Some(file))
}

fn read(file: &Path) -> Option<Credential> {
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

/// Replaces the file as a whole, readable by its owner alone from its first byte on.
fn write(file: &Path, credential: &Credential) -> std::io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = folder.join(name);
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut out = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    serde_json::to_writer_pretty(&mut out, credential)?;
    out.write_all(b"\n")?;
    out.sync_all()?;
    std::fs::rename(&new, file)?;
    std::fs::File::open(folder)?.sync_all()
}
