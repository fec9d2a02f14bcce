//! Where an attempt finds its project: bundles and their packages are kept, working copies are fresh.
//!
//! A bundle is unpacked once, its packages are installed once per lockfile. What is kept is shared by
//! attempts and by agents of one host, so it is made in a folder of another name first, under a lock that
//! processes respect, and never changed afterwards. A test may write into its project; therefore each
//! attempt gets a copy, with real files. Only `node_modules` is a link: node resolves links, so that test
//! files and AppWright load one and the same `@playwright/test`, which Playwright insists on.

mod kept;
mod modules;
mod preflight;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use qgjob_core::model::evidence::Fault;
use qgjob_core::model::job::Reason;
use qgjob_core::model::name::TestPath;
use qgjob_core::model::sha256::Sha256;

use super::process::{self, Launch};
use crate::archive;
use kept::{Entry, Kept};

/// The name of the configuration that AppWright insists on.
pub const CONFIG: &str = "appwright.config.ts";

/// Longest text of a fault, as the model says.
const MOST_DETAIL: usize = 8 * 1024;

/// Why there is no workspace.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the bundle was refused: {0}")]
    Archive(archive::Error),
    #[error("the project has no package.json")]
    NoPackageJson,
    #[error("package.json cannot be read: {0}")]
    BadPackageJson(String),
    #[error(
        "the project has no lockfile: run `npm install --package-lock-only` and keep the package-lock.json it writes"
    )]
    NoLockfile,
    #[error("the project has no {CONFIG}, which AppWright reads its settings from")]
    NoConfig,
    #[error("the project has no file {test}{}", others(nearest))]
    NoTest { test: TestPath, nearest: Vec<String> },
    #[error(
        "the project does not depend on {package}: run `npm install --save-dev {package}` and keep the lockfile"
    )]
    NoPackage { package: &'static str },
    #[error(
        "AppWright does not work with Playwright {found}: since 1.60 the fixture \"device\" collides with a setting of that name. Pin \"@playwright/test\": \"1.59.1\" in package.json and run npm install"
    )]
    PlaywrightTooNew { found: String },
    #[error(
        "AppWright brings a second copy of @playwright/test ({second}, the project has {first}), and Playwright refuses to be loaded twice. Pin \"@playwright/test\": \"1.59.1\" in package.json and run npm install"
    )]
    PlaywrightTwice { first: String, second: String },
    #[error("npm ci refused the project ({code}):\n{log}")]
    NpmRefused { code: String, log: String },
    #[error("npm ci failed ({code}):\n{log}")]
    NpmFailed { code: String, log: String },
    #[error(transparent)]
    Process(#[from] process::Error),
    #[error("no space left on the agent's disk at {}", .0.display())]
    DiskFull(PathBuf),
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

fn others(nearest: &[String]) -> String {
    match nearest {
        [] => String::new(),
        some => format!("; similar: {}", some.join(", ")),
    }
}

impl Error {
    /// `project_invalid` when another agent would say the same, else `agent_fault`.
    pub fn reason(&self) -> Reason {
        match self {
            Error::Archive(error) if !error.is_in_the_archive() => Reason::AgentFault,
            Error::NpmFailed { .. } | Error::Process(_) | Error::DiskFull(_) | Error::Io { .. } => {
                Reason::AgentFault
            }
            _ => Reason::ProjectInvalid,
        }
    }

    /// This as evidence.
    pub fn fault(&self) -> Fault {
        let mut detail = self.to_string();
        if detail.len() > MOST_DETAIL {
            let end = (0..MOST_DETAIL - 3).rev().find(|at| detail.is_char_boundary(*at));
            detail.truncate(end.unwrap_or(0));
            detail.push('…');
        }
        Fault { reason: self.reason(), detail }
    }

    fn io(path: &Path, source: io::Error) -> Error {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::DiskFull(path.to_path_buf()),
            _ => Error::Io { path: path.to_path_buf(), source },
        }
    }
}

/// Settings of a [`Cache`].
#[derive(Debug, Clone)]
pub struct Settings {
    pub archive: archive::Limits,
    /// Beyond this, what was used longest ago is removed, unless it is in use.
    pub most_bytes: u64,
    /// How long `npm ci` may take.
    pub npm_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            archive: archive::Limits::default(),
            most_bytes: 20 << 30,
            npm_timeout: Duration::from_secs(15 * 60),
        }
    }
}

/// The agent's store of unpacked bundles and installed packages. Several agents may share its folder.
#[derive(Debug)]
pub struct Cache {
    bundles: Kept,
    modules: Kept,
    settings: Settings,
    /// Packages with native parts fit one major version of node.
    node_major: String,
}

/// A project ready for attempts. What it stands on is not evicted while it lives.
#[derive(Debug)]
pub struct Project {
    bundle: Entry,
    modules: Entry,
    sha256: Sha256,
}

/// The fresh working copy of one attempt. Dropping it removes it.
#[derive(Debug)]
pub struct Workspace {
    dir: PathBuf,
}

impl Cache {
    /// The cache in `dir`, which is made if need be. Asks node for its version.
    pub async fn open(dir: &Path, settings: Settings) -> Result<Cache, Error> {
        let version = Launch::new("node").args(["--version"]).finish(Duration::from_secs(30)).await?;
        let version = String::from_utf8_lossy(&version.stdout);
        let node_major =
            version.trim().trim_start_matches('v').split('.').next().unwrap_or_default().to_owned();
        Ok(Cache {
            bundles: Kept::open(&dir.join("bundles"))?,
            modules: Kept::open(&dir.join("modules"))?,
            settings,
            node_major,
        })
    }

    /// Unpacks the bundle in the file `packed`, unless it already is, installs its packages, unless they
    /// already are, and checks that AppWright can work with it.
    pub async fn prepare(&self, sha256: Sha256, packed: &Path) -> Result<Project, Error> {
        let (limits, packed) = (self.settings.archive.clone(), packed.to_path_buf());
        let bundle = self
            .bundles
            .get(&sha256.to_string(), async move |dir: &Path| {
                let dir = dir.to_path_buf();
                blocking(move || {
                    let file = fs::File::open(&packed).map_err(|source| Error::io(&packed, source))?;
                    // The content has a folder of its own, beside what is learned about it later.
                    archive::extract(file, &dir.join("project"), &limits).map(drop).map_err(|error| {
                        match error {
                            archive::Error::DiskFull(path) => Error::DiskFull(path),
                            other => Error::Archive(other),
                        }
                    })
                })
                .await
            })
            .await?;
        let project = bundle.dir().join("project");
        let wanted = modules::Wanted::read(&project, sha256, &self.node_major)?;
        if !project.join(CONFIG).is_file() {
            return Err(Error::NoConfig);
        }
        let timeout = self.settings.npm_timeout;
        let modules = self
            .modules
            .get(wanted.key(), async |dir: &Path| wanted.install(&project, dir, timeout).await)
            .await?;
        preflight::check(&modules.dir().join("node_modules"))?;
        self.evict()?;
        Ok(Project { bundle, modules, sha256 })
    }

    /// Removes what was used longest ago until the rest is within the limit.
    fn evict(&self) -> Result<(), Error> {
        let mut entries = self.bundles.list()?;
        entries.extend(self.modules.list()?);
        entries.sort_by_key(|entry| entry.used);
        let mut bytes: u64 = entries.iter().map(|entry| entry.bytes).sum();
        for entry in entries {
            if bytes <= self.settings.most_bytes {
                break;
            }
            if entry.remove()? {
                bytes -= entry.bytes;
            }
        }
        Ok(())
    }
}

impl Project {
    /// The bundle it came from.
    pub fn sha256(&self) -> Sha256 {
        self.sha256
    }

    /// A folder for what is learned about this bundle and costs time to learn again.
    pub fn notes(&self) -> &Path {
        self.bundle.dir()
    }

    /// Makes a working copy at `dir`, which must not exist; its parent must. `test` must be in it.
    ///
    /// On an error nothing is left behind.
    pub async fn working_copy(&self, dir: &Path, test: &TestPath) -> Result<Workspace, Error> {
        let (from, modules) = (self.bundle.dir().join("project"), self.modules.dir().join("node_modules"));
        if !from.join(test.as_str()).is_file() {
            return Err(Error::NoTest {
                test: test.clone(),
                nearest: preflight::nearest(&from, test.as_str()),
            });
        }
        let to = dir.to_path_buf();
        blocking(move || {
            fs::create_dir(&to).map_err(|source| Error::io(&to, source))?;
            // From here on dropping it removes what is there.
            let mut workspace = Workspace { dir: to };
            copy(&from, &workspace.dir)?;
            let link = workspace.dir.join("node_modules");
            std::os::unix::fs::symlink(&modules, &link).map_err(|source| Error::io(&link, source))?;
            // The runner compares paths as node sees them: without links.
            let real =
                fs::canonicalize(&workspace.dir).map_err(|source| Error::io(&workspace.dir, source))?;
            workspace.dir = real;
            Ok(workspace)
        })
        .await
    }
}

impl Workspace {
    /// Its folder, absolute and without links.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.dir)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(dir = %self.dir.display(), %error, "cannot remove a working copy");
        }
    }
}

/// Copies a tree that holds nothing but files and folders.
fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let entries = fs::read_dir(from).map_err(|source| Error::io(from, source))?;
    for entry in entries {
        let entry = entry.map_err(|source| Error::io(from, source))?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type().map_err(|source| Error::io(from, source))?;
        if kind.is_dir() {
            fs::create_dir(&target).map_err(|source| Error::io(&target, source))?;
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target).map_err(|source| Error::io(&target, source))?;
        }
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.expect("file work does not panic")
}
