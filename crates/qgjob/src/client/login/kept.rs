//! A login that a job's next command goes on with: GitLab gives a job one id-token, which the server takes once. A file for
//! each id-token, readable by its owner alone, named by a digest; locked while somebody logs in, so that two commands at a
//! time make one login.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::Digest;

use super::Secret;

/// How old a file may be: no login is longer.
const OLDEST: Duration = Duration::from_secs(24 * 3600);
/// What is too short to begin something with.
const TOO_SHORT: Duration = Duration::from_secs(30);

/// The file of an id-token.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    path: PathBuf,
    /// Held locked until the login is in it.
    file: Option<Arc<File>>,
}

#[derive(Serialize, Deserialize)]
struct Text {
    token: String,
    /// How long it worked when the file was written.
    left_ms: u64,
}

impl Kept {
    /// Opens the file for what is named `name`, and waits until nobody else logs in with it. None when there can be no such
    /// file: then the login is this command's alone.
    pub(super) async fn open(folder: &Path, name: &str) -> Option<Self> {
        let digest = sha2::Sha256::digest(name.as_bytes());
        let name: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        let (folder, path) = (folder.to_owned(), folder.join(format!("{name}.json")));
        let opened = tokio::task::spawn_blocking(move || {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
            remove_old(&folder);
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)?;
            if file.metadata()?.permissions().mode() & 0o077 != 0 {
                return Err(std::io::Error::other("it can be read by others"));
            }
            file.lock()?;
            Ok(Self { path, file: Some(Arc::new(file)) })
        });
        match opened.await {
            Ok(Ok(kept)) => Some(kept),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the login cannot be kept for the next command");
                None
            }
            Err(_) => None,
        }
    }

    /// The login that is in it, how long it works, and the file without its lock.
    pub(super) fn found(&self) -> Option<(Secret, Duration, Self)> {
        let mut file = self.file.as_deref()?;
        let mut text = String::new();
        file.rewind().and_then(|()| file.read_to_string(&mut text)).ok()?;
        let Text { token, left_ms } = serde_json::from_str(&text).ok()?;
        let age = file.metadata().ok()?.modified().ok()?.elapsed().ok()?;
        let left = Duration::from_millis(left_ms).checked_sub(age).filter(|left| *left > TOO_SHORT)?;
        Some((Secret::new(token), left, self.clone().unlocked()))
    }

    /// The same for others to open.
    pub(super) fn unlocked(self) -> Self {
        Self { file: None, ..self }
    }

    /// Writes a login, whole or not at all.
    pub(super) async fn save(&self, secret: &Secret, left: Duration) {
        let left_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        let text =
            serde_json::to_vec(&Text { token: secret.expose().to_owned(), left_ms }).expect("texts are JSON");
        let (path, file) = (self.path.clone(), self.file.clone());
        let saved = tokio::task::spawn_blocking(move || match file {
            // Whoever waits for the lock reads this very file.
            Some(file) => {
                let mut file = file.as_ref();
                file.set_len(0)?;
                file.rewind()?;
                file.write_all(&text)
            }
            None => {
                let fresh = path.with_extension(format!("{}.new", std::process::id()));
                let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
                let written = file.write_all(&text).and_then(|()| std::fs::rename(&fresh, &path));
                if written.is_err() {
                    _ = std::fs::remove_file(&fresh);
                }
                written
            }
        });
        if let Ok(Err(error)) = saved.await {
            tracing::debug!(%error, "the login is not kept for the next command");
        }
    }

    /// Removes the login.
    pub(super) async fn remove(&self) {
        _ = tokio::fs::remove_file(&self.path).await;
    }
}

fn remove_old(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.filter_map(Result::ok) {
        let age = entry.metadata().and_then(|meta| meta.modified()).ok().and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age > OLDEST) {
            _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_kept_is_found_again_until_it_is_over_and_by_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("logins");
        let kept = Kept::open(&folder, "a").await.unwrap();
        assert!(kept.found().is_none());
        kept.save(&Secret::new("qgj_ci_a"), Duration::from_secs(1_800)).await;
        drop(kept);
        let (secret, left, again) = Kept::open(&folder, "a").await.unwrap().found().unwrap();
        assert_eq!(secret, Secret::new("qgj_ci_a"));
        assert!(left <= Duration::from_secs(1_800));
        assert!(Kept::open(&folder, "b").await.unwrap().found().is_none());
        let mode = std::fs::metadata(&again.path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        again.save(&Secret::new("qgj_ci_a"), Duration::from_secs(10)).await;
        assert!(Kept::open(&folder, "a").await.unwrap().found().is_none(), "too little is left");
        let name = again.path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(!name.contains("qgj_ci_"), "{name}");
    }

    #[tokio::test]
    async fn of_two_that_open_it_one_waits_for_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let first = Kept::open(dir.path(), "a").await.unwrap();
        let folder = dir.path().to_owned();
        let second =
            tokio::spawn(async move { Kept::open(&folder, "a").await.unwrap().found().map(|found| found.0) });
        first.save(&Secret::new("qgj_ci_a"), Duration::from_secs(1_800)).await;
        drop(first);
        assert_eq!(
            second.await.unwrap(),
            Some(Secret::new("qgj_ci_a")),
            "it goes on with the login of the first"
        );
    }
}
