//! Archives of test projects: which are acceptable, and how they are unpacked.
//!
//! A bundle comes from whoever may submit a run, so it is hostile until it is unpacked. The rules, for a
//! tar inside zstd: only regular files and folders; names that mean the same on every system and stay
//! inside; no name twice, not even in another case; limits that are held while reading, never believed
//! from headers. Everything goes to a fresh folder that gets its final name at the end, so that half an
//! archive is never taken for a whole one.
//!
//! Names that differ only in Unicode normalisation are two files on Linux. Where they are one (macOS),
//! creating the second fails, because every file must be new.

mod limits;
mod name;
mod pax;

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tar::EntryType;

pub use limits::Limits;
pub use name::{BadName, check as check_name};

use limits::{Metered, Packed};

/// What was unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extracted {
    pub files: u64,
    /// Sum of the sizes of all files.
    pub bytes: u64,
}

/// Why an archive was refused, or could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the archive holds {name:?}, {source}")]
    Name { name: String, source: BadName },
    #[error("the archive holds {name:?}, which is {kind}: only files and folders are allowed")]
    Kind { name: String, kind: &'static str },
    #[error("the archive holds {name:?} twice, or once more in other case as {first:?}")]
    Duplicate { name: String, first: String },
    #[error("the archive holds {name:?} below {file:?}, which is a file")]
    BelowFile { name: String, file: String },
    #[error("the archive is too large: {0}")]
    TooLarge(String),
    #[error("the archive holds no file")]
    Empty,
    #[error("the archive is damaged: {0}")]
    Damaged(String),
    #[error("no space left for the archive's files in {}", .0.display())]
    DiskFull(PathBuf),
    #[error("cannot unpack to {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl Error {
    /// Whether the archive is to blame, rather than this machine.
    pub fn is_in_the_archive(&self) -> bool {
        !matches!(self, Error::DiskFull(_) | Error::Io { .. })
    }
}

/// Unpacks the tar.zst `packed` to `dest`, which must not exist; its parent must.
///
/// On any error nothing is left behind. Only the owner can enter the folder; of the modes in the archive
/// nothing but "may be executed" is kept.
pub fn extract(packed: impl Read, dest: &Path, limits: &Limits) -> Result<Extracted, Error> {
    let parent = dest.parent().unwrap_or(Path::new("."));
    let at_parent = |source| local(parent, source);
    let half = tempfile::Builder::new().prefix(".half-").tempdir_in(parent).map_err(at_parent)?;
    let extracted = Extraction::new(half.path(), limits).run(packed)?;
    let half = half.keep();
    fs::rename(&half, dest).map_err(|source| {
        let _ = fs::remove_dir_all(&half);
        local(dest, source)
    })?;
    Ok(extracted)
}

fn local(path: &Path, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::DiskFull(path.to_path_buf()),
        _ => Error::Io { path: path.to_path_buf(), source },
    }
}

/// An error of the stream: a limit that was hit on the way, or damage.
fn stream(error: io::Error) -> Error {
    match limits::exceeded(&error) {
        Some(what) => Error::TooLarge(what),
        None => Error::Damaged(error.to_string()),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Folder,
}

struct Extraction<'a> {
    into: &'a Path,
    limits: &'a Limits,
    /// What exists by its name in lower case: the name as it was given first, and what it is.
    seen: HashMap<String, (String, Kind)>,
    entries: u64,
    done: Extracted,
}

impl<'a> Extraction<'a> {
    fn new(into: &'a Path, limits: &'a Limits) -> Self {
        Extraction { into, limits, seen: HashMap::new(), entries: 0, done: Extracted { files: 0, bytes: 0 } }
    }

    fn run(mut self, packed: impl Read) -> Result<Extracted, Error> {
        let packed = Packed::new(packed, self.limits.packed_bytes);
        let read = packed.count();
        let decoder = zstd::Decoder::new(packed).map_err(stream)?;
        let mut archive = tar::Archive::new(Metered::new(decoder, read, self.limits));
        // Raw: extension headers are seen as entries of their own, instead of being obeyed.
        let entries = archive.entries().map_err(stream)?.raw(true);
        let mut long_name: Option<Vec<u8>> = None;
        for entry in entries {
            let mut entry = entry.map_err(stream)?;
            self.entries += 1;
            if self.entries > self.limits.entries {
                return Err(Error::TooLarge(format!("more than {} entries", self.limits.entries)));
            }
            let bytes = long_name.clone().unwrap_or_else(|| entry.path_bytes().into_owned());
            let shown = String::from_utf8_lossy(&bytes).into_owned();
            match entry.header().entry_type() {
                EntryType::XHeader if long_name.is_none() => {
                    long_name = Some(pax::path(&mut entry).map_err(Error::Damaged)?);
                    continue;
                }
                EntryType::Regular => {
                    let name = checked(bytes, shown)?;
                    let executable = entry.header().mode().is_ok_and(|mode| mode & 0o100 != 0);
                    self.file(&name, executable, &mut entry)?;
                }
                EntryType::Directory => {
                    let name = bytes.strip_suffix(b"/").unwrap_or(&bytes).to_vec();
                    let name = checked(name, shown)?;
                    self.folder(&name)?;
                }
                other => return Err(Error::Kind { name: shown, kind: describe(other) }),
            }
            long_name = None;
        }
        // To the end of the stream: a cut or corrupted tail shows only there.
        io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(stream)?;
        if self.done.files == 0 { Err(Error::Empty) } else { Ok(self.done) }
    }

    /// Makes sure that all folders above `name` exist, and that `name` is new; returns where it goes.
    fn place(&mut self, name: &str, kind: Kind) -> Result<Option<PathBuf>, Error> {
        for (end, _) in name.match_indices('/') {
            let above = &name[..end];
            match self.seen.get(&above.to_lowercase()) {
                Some((first, Kind::File)) => {
                    return Err(Error::BelowFile { name: name.to_owned(), file: first.clone() });
                }
                Some((first, Kind::Folder)) if first == above => {}
                Some((first, Kind::Folder)) => {
                    return Err(Error::Duplicate { name: above.to_owned(), first: first.clone() });
                }
                None => {
                    self.make_folder(above)?;
                }
            }
        }
        match self.seen.get(&name.to_lowercase()) {
            // Archives may name a folder after the files in it.
            Some((first, Kind::Folder)) if kind == Kind::Folder && first == name => Ok(None),
            Some((first, _)) => Err(Error::Duplicate { name: name.to_owned(), first: first.clone() }),
            None => Ok(Some(self.into.join(name))),
        }
    }

    fn make_folder(&mut self, name: &str) -> Result<(), Error> {
        let path = self.into.join(name);
        fs::create_dir(&path).map_err(|source| local(&path, source))?;
        self.seen.insert(name.to_lowercase(), (name.to_owned(), Kind::Folder));
        Ok(())
    }

    fn folder(&mut self, name: &str) -> Result<(), Error> {
        match self.place(name, Kind::Folder)? {
            Some(_) => self.make_folder(name),
            None => Ok(()),
        }
    }

    fn file(&mut self, name: &str, executable: bool, content: &mut impl Read) -> Result<(), Error> {
        let Some(path) = self.place(name, Kind::File)? else { return Ok(()) };
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(if executable { 0o755 } else { 0o644 })
            .open(&path)
            .map_err(|source| local(&path, source))?;
        self.seen.insert(name.to_lowercase(), (name.to_owned(), Kind::File));
        let mut buffer = [0; 64 * 1024];
        loop {
            let read = content.read(&mut buffer).map_err(stream)?;
            if read == 0 {
                break;
            }
            io::Write::write_all(&mut file, &buffer[..read]).map_err(|source| local(&path, source))?;
            self.done.bytes += read as u64;
        }
        self.done.files += 1;
        Ok(())
    }
}

fn checked(bytes: Vec<u8>, shown: String) -> Result<String, Error> {
    let name = String::from_utf8(bytes).map_err(|_| Error::Name { name: shown, source: BadName::NotUtf8 })?;
    match check_name(&name) {
        Ok(()) => Ok(name),
        Err(source) => Err(Error::Name { name, source }),
    }
}

fn describe(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Symlink => "a symbolic link",
        EntryType::Link => "a hard link",
        EntryType::Char | EntryType::Block => "a device",
        EntryType::Fifo => "a named pipe",
        EntryType::GNULongName | EntryType::GNULongLink => "a GNU long name",
        EntryType::GNUSparse => "a sparse file",
        EntryType::XGlobalHeader | EntryType::XHeader => "a PAX header where none is expected",
        _ => "of an unknown kind",
    }
}

#[cfg(test)]
mod tests;
