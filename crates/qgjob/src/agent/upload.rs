//! Files of an attempt on their way to the server.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use qgjob_core::api::agents::NewArtifact;
use qgjob_core::model::sha256::Sha256;
use sha2::Digest;

use super::hold::Hold;
use super::link::{self, Link};
use super::log::Log;

/// A file to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Where it is.
    pub path: PathBuf,
    /// Its name among the attempt's artifacts: relative, `/` between parts.
    pub name: String,
    /// Its media type.
    pub media_type: String,
}

/// Sends the files. What the server does not take is named in the log; it never changes the verdict.
pub async fn send(link: &Link, hold: &Hold, log: &Log, files: Vec<Kept>) {
    for file in files {
        match send_one(link, hold, &file).await {
            Ok(()) => {}
            Err(link::Error::Over) => return,
            Err(error) => log.say(&format!("cannot keep {}: {error}", file.name)),
        }
    }
}

async fn send_one(link: &Link, hold: &Hold, file: &Kept) -> Result<(), link::Error> {
    let path = file.path.clone();
    let hashed = tokio::task::spawn_blocking(move || hash(&path)).await;
    let (size_bytes, sha256) = hashed.expect("hashing a file does not panic")?;
    let body = NewArtifact {
        epoch: hold.held.epoch,
        name: file.name.clone(),
        media_type: file.media_type.clone(),
        size_bytes,
        sha256,
    };
    link::persist(&hold.over, || link.artifact(hold.held.attempt_id, &body, &file.path)).await
}

fn hash(path: &Path) -> io::Result<(u64, Sha256)> {
    let mut file = std::fs::File::open(path)?;
    let mut digest = sha2::Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut size = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((size, Sha256(digest.finalize().into()))),
            n => {
                digest.update(&buffer[..n]);
                size += n as u64;
            }
        }
    }
}
