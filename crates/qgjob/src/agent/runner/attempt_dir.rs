//! The folder of one attempt.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where things of one attempt are. The working copy is not among them.
#[derive(Debug, Clone)]
pub struct AttemptDir {
    root: PathBuf,
}

impl AttemptDir {
    /// Makes the folders at `root`, which must not exist yet: nothing of an earlier attempt may be taken for
    /// this one's.
    ///
    /// # Errors
    /// If it exists, or cannot be made.
    pub fn create(root: &Path) -> io::Result<AttemptDir> {
        fs::create_dir(root)?;
        let dir = AttemptDir { root: fs::canonicalize(root)? };
        for sub in [dir.results(), dir.device(), dir.inline(), dir.shims(), dir.temporary()] {
            fs::create_dir(sub)?;
        }
        Ok(dir)
    }

    /// Playwright's output. Playwright empties it when it starts.
    pub fn results(&self) -> PathBuf {
        self.root.join("results")
    }

    /// What comes from outside the runner: last screens, the device's log.
    pub fn device(&self) -> PathBuf {
        self.root.join("device")
    }

    /// Attachments that were in the report itself.
    pub fn inline(&self) -> PathBuf {
        self.root.join("inline")
    }

    /// The runner's report.
    pub fn report(&self) -> PathBuf {
        self.root.join("report.json")
    }

    /// Playwright's blob report, from which those of several jobs can be merged. It is alone in its folder, which Playwright
    /// may empty.
    pub fn blob(&self) -> PathBuf {
        self.root.join("blob").join("report.zip")
    }

    /// The live events.
    pub fn events(&self) -> PathBuf {
        self.root.join("events.ndjson")
    }

    /// The tests that a shard or a rerun names.
    pub(super) fn test_list(&self) -> PathBuf {
        self.root.join("tests.list")
    }

    pub(super) fn shims(&self) -> PathBuf {
        self.root.join("shims")
    }

    pub(super) fn temporary(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }
}
