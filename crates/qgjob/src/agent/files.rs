//! Files that attempts share: builds and packed projects, kept by the hash of their bytes, those that were used longest
//! ago removed when there are too many.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use qgjob_core::model::sha256::Sha256;

/// A folder of files named by their hashes. An attempt gets a link of its own, so removing a file here disturbs nobody.
#[derive(Debug)]
pub struct Files {
    dir: PathBuf,
    most_bytes: u64,
}

/// A file that is being fetched. What is not taken over is removed, also when nobody waits for it any more.
#[derive(Debug)]
pub struct Half(PathBuf);

impl Half {
    /// Where to write.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        // Once taken over it is gone, and it may never have been begun.
        let _ = fs::remove_file(&self.0);
    }
}

impl Files {
    /// The files in `dir`, which is made. Beyond `most_bytes` in all, what was used longest ago is removed.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(dir: PathBuf, most_bytes: u64) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        Ok(Self { dir, most_bytes })
    }

    /// Puts the file at `to`, if it is here. The same attempt may ask twice.
    ///
    /// # Errors
    /// When it can neither be linked nor copied.
    pub fn take(&self, sha256: Sha256, to: &Path) -> io::Result<bool> {
        let file = self.dir.join(sha256.to_string());
        if to.exists() {
            return Ok(true);
        }
        let linked = match fs::hard_link(&file, to) {
            // Another file system.
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => fs::copy(&file, to).map(drop),
            other => other,
        };
        match linked {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other?,
        }
        // Its time of change is the time of its last use.
        fs::File::options().append(true).open(&file).and_then(|file| file.set_modified(now()))?;
        Ok(true)
    }

    /// Where to write what is being fetched.
    pub fn half(&self, id: &str) -> Half {
        Half(self.dir.join(format!(".half-{id}")))
    }

    /// Takes over a file that was written to [`Files::half`] and whose bytes were checked.
    ///
    /// # Errors
    /// When the folder cannot be changed.
    pub fn put(&self, half: &Half, sha256: Sha256) -> io::Result<()> {
        fs::rename(half.path(), self.dir.join(sha256.to_string()))?;
        self.evict(&sha256.to_string())
    }

    fn evict(&self, keep: &str) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let meta = match entry.metadata() {
                // Another attempt has just finished or removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                meta => meta?,
            };
            files.push((meta.modified()?, meta.len(), entry.path()));
        }
        files.sort();
        let mut bytes: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, size, path) in files {
            if bytes <= self.most_bytes {
                break;
            }
            let name = path.file_name().unwrap_or_default();
            if name != keep && !name.to_string_lossy().starts_with('.') {
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => bytes -= size,
                }
            }
        }
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "it is compared with times that the file system gave")]
fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(files: &Files, name: u8, bytes: usize) {
        let half = files.half(&name.to_string());
        fs::write(half.path(), vec![name; bytes]).unwrap();
        files.put(&half, Sha256([name; 32])).unwrap();
    }

    #[test]
    fn what_was_used_longest_ago_goes_and_what_was_taken_stays() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::open(dir.path().join("files"), 250).unwrap();
        let mine = dir.path().join("app.apk");
        for name in [1, 2] {
            put(&files, name, 100);
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert!(files.take(Sha256([1; 32]), &mine).unwrap());
        std::thread::sleep(std::time::Duration::from_millis(20));
        put(&files, 3, 100);
        assert!(!files.take(Sha256([2; 32]), &dir.path().join("2")).unwrap(), "the oldest is gone");
        assert!(files.take(Sha256([1; 32]), &dir.path().join("1")).unwrap(), "the one in use is not");
        assert_eq!(fs::read(&mine).unwrap(), vec![1; 100]);
    }
}
