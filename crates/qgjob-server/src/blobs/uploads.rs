//! Uploads in progress: `<root>/upl_….json` says what is coming, `<root>/upl_….part` holds what has arrived. Both
//! survive a restart; what is not completed in time is removed.

use std::collections::HashMap;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use qgjob_core::api::uploads::NewUpload;
use qgjob_core::model::sha256::Sha256;
use serde::{Deserialize, Serialize};
use sha2::Digest;
use tokio::fs;

use super::Result;

/// What is known of an upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// `upl_` and 26 characters.
    pub id: String,
    /// What was declared.
    pub what: NewUpload,
    /// When it began.
    pub created_at: Timestamp,
}

/// Uploads in progress.
#[derive(Debug)]
pub struct Uploads {
    root: PathBuf,
    locks: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Uploads {
    /// Uploads in the folder `root`.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(root: &Path) -> Result<Self> {
        std::fs::create_dir_all(root)?;
        Ok(Self { root: root.to_owned(), locks: Mutex::default() })
    }

    /// Begins an upload.
    ///
    /// # Errors
    /// When it cannot be noted.
    pub async fn begin(&self, now: Timestamp, random: u128, what: NewUpload) -> Result<Upload> {
        let bits = qgjob_core::model::id::bits(now, random);
        let id = format!("upl_{bits:032x}");
        let upload = Upload { id, what, created_at: now };
        fs::write(self.part(&upload.id), b"").await?;
        // The description comes last: an upload exists once it can be described.
        let text = serde_json::to_vec(&upload).map_err(std::io::Error::other)?;
        fs::write(self.description(&upload.id), text).await?;
        Ok(upload)
    }

    /// An upload and how many of its bytes have arrived.
    ///
    /// # Errors
    /// When its description cannot be read.
    pub async fn find(&self, id: &str) -> Result<Option<(Upload, u64)>> {
        if !well_formed(id) {
            return Ok(None);
        }
        let text = match fs::read(self.description(id)).await {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let Ok(upload) = serde_json::from_slice(&text) else {
            // Torn by a power failure before the client learned of it.
            return Ok(None);
        };
        let arrived = fs::metadata(self.part(id)).await?.len();
        Ok(Some((upload, arrived)))
    }

    /// Keeps others from writing to the upload while the guard lives.
    pub async fn lock(&self, id: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock().expect("no thread panics while holding the locks");
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(locks.entry(id.to_owned()).or_default())
        };
        lock.lock_owned().await
    }

    /// Where the bytes of a known upload are.
    pub fn part(&self, id: &str) -> PathBuf {
        self.root.join(format!("{id}.part"))
    }

    fn description(&self, id: &str) -> PathBuf {
        self.root.join(format!("{id}.json"))
    }

    /// Forgets an upload.
    ///
    /// # Errors
    /// When its files cannot be removed.
    pub async fn remove(&self, id: &str) -> Result<()> {
        for path in [self.description(id), self.part(id)] {
            match fs::remove_file(path).await {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes uploads that began more than `life` ago. Answers how many.
    ///
    /// # Errors
    /// When the folder cannot be read or a file not be removed.
    pub async fn prune(&self, now: Timestamp, life: Duration) -> Result<u32> {
        let life = SignedDuration::try_from(life).unwrap_or(SignedDuration::MAX);
        let (mut removed, mut entries) = (0, fs::read_dir(&self.root).await?);
        while let Some(entry) = entries.next_entry().await? {
            let name = entry.file_name();
            let Some(id) =
                name.to_str().and_then(|name| name.strip_suffix(".part")).filter(|id| well_formed(id))
            else {
                continue;
            };
            // The time is in the id, so a part without a description ages too.
            let began =
                i64::from_str_radix(&id[4..16], 16).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
            if began.is_none_or(|began| now.duration_since(began) > life) {
                let _guard = self.lock(id).await;
                self.remove(id).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

fn well_formed(id: &str) -> bool {
    id.strip_prefix("upl_").is_some_and(|rest| {
        rest.len() == 32 && rest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

/// The digest of the file at `path`.
///
/// # Errors
/// When it cannot be read.
pub async fn digest(path: PathBuf) -> Result<Sha256> {
    let hashed = tokio::task::spawn_blocking(move || -> std::io::Result<Sha256> {
        let (mut file, mut hash) = (std::fs::File::open(path)?, sha2::Sha256::new());
        let mut piece = vec![0; 1 << 20];
        loop {
            let read = file.read(&mut piece)?;
            if read == 0 {
                return Ok(Sha256(hash.finalize().into()));
            }
            hash.update(&piece[..read]);
        }
    });
    Ok(hashed.await.map_err(std::io::Error::other)??)
}

#[cfg(test)]
mod tests {
    use qgjob_core::api::uploads::Kind;

    use super::*;

    fn what() -> NewUpload {
        NewUpload { org_id: "own".parse().unwrap(), kind: Kind::App, size_bytes: 3, sha256: Sha256([0; 32]) }
    }

    #[tokio::test]
    async fn an_upload_is_found_until_it_is_too_old() {
        let folder = tempfile::tempdir().unwrap();
        let uploads = Uploads::open(folder.path()).unwrap();
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        let upload = uploads.begin(now, 7, what()).await.unwrap();
        fs::write(uploads.part(&upload.id), b"ab").await.unwrap();
        assert_eq!(uploads.find(&upload.id).await.unwrap(), Some((upload.clone(), 2)));
        let day = Duration::from_secs(86_400);
        assert_eq!(uploads.prune(now + SignedDuration::from_hours(24), day).await.unwrap(), 0);
        assert_eq!(uploads.prune(now + SignedDuration::from_hours(25), day).await.unwrap(), 1);
        assert_eq!(uploads.find(&upload.id).await.unwrap(), None);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn an_id_cannot_name_another_file() {
        let folder = tempfile::tempdir().unwrap();
        let uploads = Uploads::open(folder.path()).unwrap();
        for bad in ["../etc/passwd", "upl_..", "upl_", ""] {
            assert_eq!(uploads.find(bad).await.unwrap(), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn the_digest_is_the_well_known_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        fs::write(&path, b"abc").await.unwrap();
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest(path).await.unwrap().to_string(), expected);
    }
}
