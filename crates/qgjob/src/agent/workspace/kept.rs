//! Folders that are made once and then only read, by several processes.
//!
//! Beside each folder lie two lock files. Whoever makes the folder holds `.make` alone, so that others wait
//! instead of making it again. Whoever uses it holds `.lock` shared, for as long as an attempt lasts; whoever
//! removes it holds that alone, and never waits for it. The content of `.lock` is the folder's size, and
//! since every use writes it again, its time is that of the last use.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Error, blocking};

/// A kind of folders.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    dir: PathBuf,
}

/// A folder in use; not removed while this lives.
#[derive(Debug)]
pub(super) struct Entry {
    dir: PathBuf,
    _shared: File,
}

/// A folder as eviction sees it.
#[derive(Debug)]
pub(super) struct Listed {
    dir: PathBuf,
    lock: PathBuf,
    pub(super) bytes: u64,
    pub(super) used: SystemTime,
}

/// A folder that is being made; removed unless it got its final name.
struct Half(PathBuf);

impl Half {
    fn new(path: PathBuf) -> Result<Half, Error> {
        // Whoever left one was killed: we hold the lock.
        match fs::remove_dir_all(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(Error::io(&path, source)),
            _ => {}
        }
        fs::create_dir(&path).map_err(|source| Error::io(&path, source))?;
        Ok(Half(path))
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Entry {
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Kept {
    pub(super) fn open(dir: &Path) -> Result<Kept, Error> {
        fs::create_dir_all(dir).map_err(|source| Error::io(dir, source))?;
        let dir = fs::canonicalize(dir).map_err(|source| Error::io(dir, source))?;
        Ok(Kept { dir })
    }

    /// The folder `key`, made by `make` in a folder that it is given if there is none yet. When `make`
    /// fails, what it made is removed.
    pub(super) async fn get(
        &self,
        key: &str,
        make: impl AsyncFnOnce(&Path) -> Result<(), Error>,
    ) -> Result<Entry, Error> {
        let (dir, lock) = (self.dir.join(key), self.path(key, "lock"));
        if let Some(entry) = shared(&dir, &lock).await? {
            return Ok(entry);
        }
        let making = locked(&self.path(key, "make"), File::lock).await?;
        // Somebody else may have made it while we waited.
        if !dir.is_dir() {
            let half = Half::new(self.path(key, "half"))?;
            make(&half.0).await?;
            fs::rename(&half.0, &dir).map_err(|source| Error::io(&dir, source))?;
        }
        let entry = shared(&dir, &lock).await?;
        drop(making);
        let evicted = || io::Error::other("was removed as soon as it was made: the cache's limit is too low");
        entry.ok_or_else(|| Error::io(&dir, evicted()))
    }

    /// All folders that are there.
    pub(super) fn list(&self) -> Result<Vec<Listed>, Error> {
        let mut listed = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(|source| Error::io(&self.dir, source))? {
            let lock = entry.map_err(|source| Error::io(&self.dir, source))?.path();
            let Some(key) = lock.file_name().and_then(|name| name.to_str()?.strip_suffix(".lock")) else {
                continue;
            };
            let dir = self.dir.join(key);
            let (Ok(meta), true) = (lock.metadata(), dir.is_dir()) else { continue };
            let bytes = fs::read_to_string(&lock).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
            let used = meta.modified().map_err(|source| Error::io(&lock, source))?;
            listed.push(Listed { dir, lock, bytes, used });
        }
        Ok(listed)
    }

    fn path(&self, key: &str, extension: &str) -> PathBuf {
        self.dir.join(format!("{key}.{extension}"))
    }
}

impl Listed {
    /// Removes the folder unless it is in use; says whether it did.
    pub(super) fn remove(&self) -> Result<bool, Error> {
        let file = open(&self.lock)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(source)) => return Err(Error::io(&self.lock, source)),
        }
        // Under another name first: half a folder must not be taken for a whole one.
        let gone = self.dir.with_extension("gone");
        let _ = fs::remove_dir_all(&gone);
        fs::rename(&self.dir, &gone).map_err(|source| Error::io(&self.dir, source))?;
        fs::remove_dir_all(&gone).map_err(|source| Error::io(&gone, source))?;
        // The lock file stays: another process may wait for it.
        Ok(true)
    }
}

/// The folder in use, if it is there.
async fn shared(dir: &Path, lock: &Path) -> Result<Option<Entry>, Error> {
    let file = locked(lock, File::lock_shared).await?;
    let (dir, lock) = (dir.to_path_buf(), lock.to_path_buf());
    blocking(move || {
        if !dir.is_dir() {
            return Ok(None);
        }
        note_use(&file, &dir).map_err(|source| Error::io(&lock, source))?;
        Ok(Some(Entry { dir, _shared: file }))
    })
    .await
}

async fn locked(lock: &Path, how: fn(&File) -> io::Result<()>) -> Result<File, Error> {
    let lock = lock.to_path_buf();
    blocking(move || {
        let file = open(&lock)?;
        how(&file).map_err(|source| Error::io(&lock, source))?;
        Ok(file)
    })
    .await
}

fn open(lock: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).open(lock).map_err(|source| Error::io(lock, source))
}

/// Writes the size of `dir` to its lock file, which also sets the file's time. Walks the folder once only.
fn note_use(mut lock: &File, dir: &Path) -> io::Result<()> {
    let mut text = String::new();
    lock.read_to_string(&mut text)?;
    let bytes = match text.trim().parse() {
        Ok(known) => known,
        Err(_) => size(dir)?,
    };
    lock.set_len(0)?;
    lock.write_all(bytes.to_string().as_bytes())
}

fn size(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        bytes += if meta.is_dir() { size(&entry.path())? } else { meta.len() };
    }
    Ok(bytes)
}
