//! Limits on archives, held while reading.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

/// How large an archive may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    pub packed_bytes: u64,
    /// Of the unpacked stream: all files and the tar's own headers.
    pub unpacked_bytes: u64,
    /// Files, folders and extension headers.
    pub entries: u64,
    /// How many times larger than its packed form it may unpack to.
    pub ratio: u64,
    /// Up to this many unpacked bytes the ratio is not looked at: small projects may be repetitive.
    pub ratio_free_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            packed_bytes: 200 << 20,
            unpacked_bytes: 1 << 30,
            entries: 20_000,
            ratio: 200,
            ratio_free_bytes: 8 << 20,
        }
    }
}

/// A limit that was hit inside a reader.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Exceeded(String);

fn exceed<T>(what: String) -> io::Result<T> {
    Err(io::Error::other(Exceeded(what)))
}

/// The limit that `error` tells of, if it does. Readers in between may wrap what they pass on.
pub(super) fn exceeded(error: &io::Error) -> Option<String> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = error.get_ref().map(|e| e as _);
    while let Some(inner) = cause {
        if let Some(Exceeded(what)) = inner.downcast_ref() {
            return Some(what.clone());
        }
        cause = match inner.downcast_ref::<io::Error>() {
            Some(wrapped) => wrapped.get_ref().map(|e| e as _),
            None => inner.source(),
        };
    }
    None
}

/// The packed bytes, counted.
pub(super) struct Packed<R> {
    inner: R,
    read: Rc<Cell<u64>>,
    most: u64,
}

impl<R> Packed<R> {
    pub(super) fn new(inner: R, most: u64) -> Self {
        Packed { inner, read: Rc::default(), most }
    }

    pub(super) fn count(&self) -> Rc<Cell<u64>> {
        Rc::clone(&self.read)
    }
}

impl<R: Read> Read for Packed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read.set(self.read.get() + read as u64);
        if self.read.get() > self.most {
            return exceed(format!("more than {} bytes packed", self.most));
        }
        Ok(read)
    }
}

/// The unpacked bytes, counted and compared with the packed ones.
pub(super) struct Metered<R> {
    inner: R,
    packed: Rc<Cell<u64>>,
    unpacked: u64,
    most: u64,
    ratio: u64,
    free: u64,
}

impl<R> Metered<R> {
    pub(super) fn new(inner: R, packed: Rc<Cell<u64>>, limits: &Limits) -> Self {
        Metered {
            inner,
            packed,
            unpacked: 0,
            most: limits.unpacked_bytes,
            ratio: limits.ratio,
            free: limits.ratio_free_bytes,
        }
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.unpacked += read as u64;
        if self.unpacked > self.most {
            return exceed(format!("more than {} bytes unpacked", self.most));
        }
        if self.unpacked > self.free && self.unpacked / self.ratio > self.packed.get() {
            return exceed(format!("it unpacks to more than {} times its size", self.ratio));
        }
        Ok(read)
    }
}
