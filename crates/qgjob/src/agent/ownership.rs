//! Who owns a device: one agent of the host at a time, also when several share an adb server.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::getuid;

/// Where agents of one user look for each other. A fixed place: one agent may be a service and another run from a
/// terminal, and their `TMPDIR` and `XDG_RUNTIME_DIR` differ.
const FOLDER: &str = "/tmp";

/// The devices of one adb server, as all agents of this host and user share them.
#[derive(Debug)]
pub struct Ownership {
    folder: PathBuf,
    adb_port: u16,
    /// Keeps cleaners of temporary files away, which would remove files that are old and in use.
    _folder_lock: File,
}

/// A device that is owned until this is dropped or the process dies.
#[derive(Debug)]
pub struct Owned {
    _lock: File,
}

impl Ownership {
    /// Opens the folder that all agents share, and makes it if there is none.
    ///
    /// # Errors
    /// When it cannot be made, or may be changed by another user.
    pub fn open(adb_port: u16) -> io::Result<Self> {
        let folder = Path::new(FOLDER).join(format!("qgjob-{}", getuid()));
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        // The link itself: another user may have put one there.
        let found = std::fs::symlink_metadata(&folder)?;
        if !found.is_dir() || found.uid() != getuid().as_raw() || found.mode() & 0o077 != 0 {
            let why = format!("{} must be a folder that only its owner may use", folder.display());
            return Err(io::Error::other(why));
        }
        let folder_lock = File::open(&folder)?;
        folder_lock.lock_shared()?;
        Ok(Self { folder, adb_port, _folder_lock: folder_lock })
    }

    /// Becomes the owner of the device that adb calls `serial`; none while somebody else is.
    ///
    /// # Errors
    /// When the lock file cannot be made or locked.
    pub fn take(&self, serial: &str) -> io::Result<Option<Owned>> {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-.".contains(c) { c } else { '_' };
        let serial: String = serial.chars().map(plain).collect();
        let path = self.folder.join(format!("adb-{}-{serial}.lock", self.adb_port));
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Owned { _lock: lock })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_one_owner_at_a_time() {
        // No adb server of any test listens there.
        let (one, two) = (Ownership::open(1).unwrap(), Ownership::open(1).unwrap());
        let serial = format!("127.0.0.1:{}", std::process::id());
        let owned = one.take(&serial).unwrap();
        assert!(owned.is_some());
        assert!(two.take(&serial).unwrap().is_none());
        assert!(two.take("another").unwrap().is_some());
        assert!(Ownership::open(2).unwrap().take(&serial).unwrap().is_some(), "another adb server's device");
        drop(owned);
        assert!(two.take(&serial).unwrap().is_some());
    }
}
