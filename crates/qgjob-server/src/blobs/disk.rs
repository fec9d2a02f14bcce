//! Blobs as files: `<root>/<org>/9f/2c/9f2c41…`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use qgjob_core::model::name::OrgId;
use qgjob_core::model::sha256::Sha256;
use tokio::fs;
use tokio::io::AsyncSeekExt;

use super::{Blobs, Reader, Result};

/// Blobs in a folder.
#[derive(Debug)]
pub struct Disk {
    root: PathBuf,
    scratch: PathBuf,
    next: AtomicU64,
}

impl Disk {
    /// Blobs below `root`, with a scratch folder beside them that is emptied.
    ///
    /// # Errors
    /// When the folders cannot be made.
    pub fn open(root: &Path) -> Result<Self> {
        let scratch = root.join(".scratch");
        match std::fs::remove_dir_all(&scratch) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => std::fs::create_dir_all(&scratch)?,
        }
        Ok(Self { root: root.to_owned(), scratch, next: AtomicU64::new(0) })
    }

    /// An org's name starts with a letter or digit and holds no separator, so it names a folder of its own.
    fn path(&self, org: &OrgId, sha256: Sha256) -> PathBuf {
        let name = sha256.to_string();
        self.root.join(org.as_str()).join(&name[..2]).join(&name[2..4]).join(name)
    }
}

#[async_trait]
impl Blobs for Disk {
    fn scratch(&self) -> PathBuf {
        self.scratch.join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }

    async fn adopt(&self, org: &OrgId, sha256: Sha256, path: &Path) -> Result<()> {
        let (from, to) = (path.to_owned(), self.path(org, sha256));
        let root = self.root.clone();
        let moved = tokio::task::spawn_blocking(move || place(&from, &to, &root));
        moved.await.map_err(std::io::Error::other)?
    }

    async fn size(&self, org: &OrgId, sha256: Sha256) -> Result<Option<u64>> {
        match fs::metadata(self.path(org, sha256)).await {
            Ok(facts) => Ok(Some(facts.len())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn open(&self, org: &OrgId, sha256: Sha256, start: u64) -> Result<Option<Reader>> {
        let mut file = match fs::File::open(self.path(org, sha256)).await {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        file.seek(std::io::SeekFrom::Start(start)).await?;
        Ok(Some(Box::new(file)))
    }
}

/// Moves a file to its place so that either the whole blob is there after a power failure, or nothing.
fn place(from: &Path, to: &Path, root: &Path) -> Result<()> {
    std::fs::File::open(from)?.sync_all()?;
    let folder = to.parent().expect("a blob lies in a folder");
    std::fs::create_dir_all(folder)?;
    std::fs::rename(from, to)?;
    // New folders are durable only once the folders that name them are.
    for folder in folder.ancestors().take_while(|folder| folder.starts_with(root)) {
        std::fs::File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn a_blob_is_read_back_by_its_org_alone() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Disk::open(folder.path()).unwrap();
        let (own, other): (OrgId, OrgId) = ("own".parse().unwrap(), "other".parse().unwrap());
        let name = Sha256([7; 32]);
        let scratch = blobs.scratch();
        std::fs::write(&scratch, b"0123456789").unwrap();
        blobs.adopt(&own, name, &scratch).await.unwrap();
        assert!(!scratch.exists());
        assert_eq!(blobs.size(&own, name).await.unwrap(), Some(10));
        assert_eq!(blobs.size(&other, name).await.unwrap(), None);
        assert!(blobs.open(&other, name, 0).await.unwrap().is_none());
        let mut text = String::new();
        blobs.open(&own, name, 7).await.unwrap().unwrap().read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "789");
    }

    #[tokio::test]
    async fn a_restart_empties_the_scratch_folder_and_keeps_the_blobs() {
        let folder = tempfile::tempdir().unwrap();
        let org: OrgId = "own".parse().unwrap();
        let blobs = Disk::open(folder.path()).unwrap();
        let (kept, left) = (blobs.scratch(), blobs.scratch());
        std::fs::write(&kept, b"a").unwrap();
        std::fs::write(&left, b"b").unwrap();
        blobs.adopt(&org, Sha256([1; 32]), &kept).await.unwrap();
        let blobs = Disk::open(folder.path()).unwrap();
        assert!(!left.exists());
        assert_eq!(blobs.size(&org, Sha256([1; 32])).await.unwrap(), Some(1));
    }
}
