//! Packing: the same content always makes the same bytes.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};

use qgjob_core::model::sha256::Sha256;
use sha2::Digest;
use tar::{Builder, EntryType, Header};

use super::{Bundle, BundleFile, Error};

/// Packs fast and still well; part of what makes the bytes, so not to be changed lightly.
const ZSTD_LEVEL: i32 = 6;

/// A packed bundle in a file without a name, which goes away when this is dropped.
#[derive(Debug)]
pub struct Packed {
    /// At its start.
    pub file: File,
    pub sha256: Sha256,
    pub size_bytes: u64,
}

impl Bundle {
    /// Packs all files as tar in zstd: by name, with no times, owners or modes but "may be executed".
    ///
    /// # Errors
    /// If the result is larger than allowed, a file changes meanwhile, or reading or writing fails.
    pub fn pack(&self) -> Result<Packed, Error> {
        let file = tempfile::tempfile().map_err(Error::Write)?;
        let out = Hashed { file, hash: sha2::Sha256::new(), bytes: 0, most: self.limits.packed_bytes };
        let mut encoder = zstd::Encoder::new(out, ZSTD_LEVEL).map_err(Error::Write)?;
        encoder.include_checksum(true).map_err(Error::Write)?;
        let mut tar = Builder::new(encoder);
        for file in &self.files {
            self.append(&mut tar, file)?;
        }
        let packed = self.written(tar.into_inner().and_then(zstd::Encoder::finish))?;
        let mut file = packed.file;
        file.seek(SeekFrom::Start(0)).map_err(Error::Write)?;
        Ok(Packed { file, sha256: Sha256(packed.hash.finalize().into()), size_bytes: packed.bytes })
    }

    fn append(&self, tar: &mut Builder<impl Write>, file: &BundleFile) -> Result<(), Error> {
        let path = self.root.join(&file.name);
        let read = |source| Error::Read { path: path.clone(), source };
        let source = File::open(&path).map_err(read)?;
        let changed = || Error::Changed { name: file.name.clone() };
        if source.metadata().map_err(read)?.len() != file.size_bytes {
            return Err(changed());
        }
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_size(file.size_bytes);
        header.set_mode(if file.executable { 0o755 } else { 0o644 });
        if header.set_path(&file.name).is_err() {
            self.written(tar.append_pax_extensions([("path", file.name.as_bytes())]))?;
            header.set_path("long-name").expect("a short name fits");
        }
        header.set_cksum();
        // A file that shrinks would shift everything behind it; one that grows is cut here.
        let mut content = Exactly { inner: BufReader::new(source), left: file.size_bytes, failed: None };
        let result = tar.append(&header, &mut content);
        match content.failed {
            Some(source) => Err(read(source)),
            None if content.left > 0 && result.is_ok() => Err(changed()),
            None => self.written(result),
        }
    }

    fn written<T>(&self, result: io::Result<T>) -> Result<T, Error> {
        result.map_err(|error| match error.kind() {
            io::ErrorKind::FileTooLarge => Error::PackedTooLarge { most: self.limits.packed_bytes },
            _ => Error::Write(error),
        })
    }
}

/// A file's content, no more than its header said. Remembers its own errors: the tar builder mixes them with
/// those of writing.
struct Exactly<R> {
    inner: R,
    left: u64,
    failed: Option<io::Error>,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match (&mut self.inner).take(self.left).read(buffer) {
            Ok(read) => {
                self.left -= read as u64;
                Ok(read)
            }
            Err(error) => {
                let kind = error.kind();
                self.failed = Some(error);
                Err(kind.into())
            }
        }
    }
}

/// Hashes and counts what is written.
struct Hashed {
    file: File,
    hash: sha2::Sha256,
    bytes: u64,
    most: u64,
}

impl Write for Hashed {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.file.write(buffer)?;
        self.hash.update(&buffer[..written]);
        self.bytes += written as u64;
        if self.bytes > self.most {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
