//! Bytes by name: apps, bundles, artifacts. A blob belongs to one org; the same bytes of two orgs are two blobs, so
//! that nobody can learn what others have.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use qgjob_core::model::name::OrgId;
use qgjob_core::model::sha256::Sha256;
use tokio::io::AsyncRead;

pub mod disk;
pub mod uploads;

/// Why bytes could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No space is left.
    #[error("no space is left for blobs")]
    Full,
    /// Anything else.
    #[error("blobs cannot be read or written: {0}")]
    Io(std::io::Error),
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        if matches!(error.kind(), StorageFull | QuotaExceeded) { Self::Full } else { Self::Io(error) }
    }
}

/// What the blob store answers.
pub type Result<T> = std::result::Result<T, Error>;

/// Bytes being read.
pub type Reader = Box<dyn AsyncRead + Send + Unpin>;

/// Keeps bytes.
#[async_trait]
pub trait Blobs: Send + Sync + 'static {
    /// A path that nothing uses, on a disk from which [`Blobs::adopt`] takes files. What is left there is removed at
    /// the next start.
    fn scratch(&self) -> PathBuf;
    /// Takes over the file at `path`, whose bytes have the digest `sha256`. Durable when it answers. Bytes that are
    /// known already are not kept twice.
    async fn adopt(&self, org: &OrgId, sha256: Sha256, path: &Path) -> Result<()>;
    /// The size of a blob, if the org has it.
    async fn size(&self, org: &OrgId, sha256: Sha256) -> Result<Option<u64>>;
    /// The bytes of a blob from `start` on, if the org has it.
    async fn open(&self, org: &OrgId, sha256: Sha256, start: u64) -> Result<Option<Reader>>;
}
