//! The bundle: what `qgjob submit` sends of a test project, and which tests its `--test` values mean.
//!
//! A bundle holds what git would keep: tracked files, and new ones that no `.gitignore` excludes.
//! `.qgjobignore` files, written the same way, exclude more. Without git the ignore files work as well.
//! The same content always packs to the same bytes, so that its SHA-256 is its name and it is uploaded once.

mod pack;
mod select;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ignore::WalkBuilder;

use crate::archive;

pub use pack::Packed;
pub use select::{SelectError, is_test_file};

/// Folders that are never part of a bundle, wherever they are and whatever git says.
const NEVER: &[&str] = &[".git", "node_modules", "test-results", "playwright-report"];

/// Lockfiles, in the order in which npm looks for them.
pub(crate) const LOCKFILES: [&str; 2] = ["npm-shrinkwrap.json", "package-lock.json"];

/// Why a project cannot be bundled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{} has no package.json: it is no test project", .0.display())]
    NoPackageJson(PathBuf),
    #[error(
        "{} has no lockfile, so its packages are not pinned: run `npm install --package-lock-only` and keep the package-lock.json it writes",
        .0.display()
    )]
    NoLockfile(PathBuf),
    #[error("{file} is excluded by a .gitignore or .qgjobignore, but the project cannot run without it")]
    NeededFileIgnored { file: &'static str },
    #[error("the project holds {name:?}, {source}")]
    Name { name: String, source: archive::BadName },
    #[error("the project holds {first:?} and {second:?}, which are one file on some systems")]
    Alike { first: String, second: String },
    #[error("{name:?} is a link {problem}: add it to .qgjobignore, or replace it by what it links to")]
    Link { name: String, problem: &'static str },
    #[error(
        "the project has {files} files, {most} are allowed: exclude what the tests do not need in .qgjobignore"
    )]
    TooManyFiles { files: usize, most: u64 },
    #[error(
        "the project has {bytes} bytes, {most} are allowed: exclude what the tests do not need in .qgjobignore; largest: {largest}"
    )]
    TooLarge { bytes: u64, most: u64, largest: String },
    #[error(
        "the project packs to more than {most} bytes: exclude what the tests do not need in .qgjobignore"
    )]
    PackedTooLarge { most: u64 },
    #[error("{name:?} changed while it was packed: try again")]
    Changed { name: String },
    #[error("cannot read the project: {0}")]
    Walk(#[from] ignore::Error),
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write the bundle: {0}")]
    Write(io::Error),
}

/// A file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleFile {
    /// Path inside the project, with `/` between parts.
    pub name: String,
    pub size_bytes: u64,
    pub executable: bool,
}

/// The files of a project, chosen and checked but not yet packed.
#[derive(Debug, Clone)]
pub struct Bundle {
    root: PathBuf,
    files: Vec<BundleFile>,
    limits: archive::Limits,
}

/// The folder of the project that `dir` is in: the nearest one upwards with a `package.json`.
pub fn find_project(dir: &Path) -> Option<PathBuf> {
    let dir = fs::canonicalize(dir).ok()?;
    dir.ancestors().find(|at| at.join("package.json").is_file()).map(Path::to_path_buf)
}

/// Chooses the files of the project in `dir`, with the limits an agent would hold it to.
///
/// # Errors
/// If the project lacks what a run needs, holds what an agent would refuse, or cannot be read.
pub fn collect(dir: &Path) -> Result<Bundle, Error> {
    collect_within(dir, archive::Limits::default())
}

/// As [`collect`], with other limits.
pub fn collect_within(dir: &Path, limits: archive::Limits) -> Result<Bundle, Error> {
    let root = fs::canonicalize(dir).map_err(|source| Error::Read { path: dir.to_path_buf(), source })?;
    let mut chosen = walk(&root, true)?;
    let ignored = tracked_but_ignored(&root);
    if !ignored.is_empty() {
        let all = walk(&root, false)?;
        chosen.extend(
            ignored
                .into_iter()
                .filter_map(|name| all.get_key_value(&name).map(|(n, p)| (n.clone(), p.clone()))),
        );
    }
    let mut files = Vec::with_capacity(chosen.len());
    for (name, path) in &chosen {
        files.extend(examine(&root, name, path)?);
    }
    let bundle = Bundle { root, files, limits };
    bundle.check()?;
    Ok(bundle)
}

/// Names and paths of everything below `root` that is no folder; `.gitignore` and its kin count if `git`.
fn walk(root: &Path, git: bool) -> Result<BTreeMap<String, PathBuf>, Error> {
    let mut builder = WalkBuilder::new(root);
    builder
        .hidden(false)
        .ignore(false)
        .git_ignore(git)
        .git_global(git)
        .git_exclude(git)
        .parents(git)
        .require_git(false)
        .add_custom_ignore_filename(".qgjobignore")
        .filter_entry(|entry| entry.depth() == 0 || !NEVER.iter().any(|never| entry.file_name() == *never));
    let mut found = BTreeMap::new();
    for entry in builder.build() {
        let entry = entry?;
        if entry.file_type().is_some_and(|kind| kind.is_dir()) {
            continue;
        }
        let inside = entry.path().strip_prefix(root).expect("the walk stays below its root");
        // A name that is not UTF-8 is refused below by its replacement characters' file not existing;
        // better to say at once which one it is.
        let Some(name) = inside.to_str() else {
            let name = inside.to_string_lossy().into_owned();
            return Err(Error::Name { name, source: archive::BadName::NotUtf8 });
        };
        found.insert(name.to_owned(), entry.into_path());
    }
    Ok(found)
}

/// What git keeps although an ignore file names it. Nothing where there is no git.
fn tracked_but_ignored(root: &Path) -> Vec<String> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--ignored", "--exclude-standard", "--", "."])
        .current_dir(root)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    match output {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout)
            .split('\0')
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect(),
        _ => Vec::new(),
    }
}

/// What becomes of the thing at `path`: links are followed as long as they stay inside the project.
fn examine(root: &Path, name: &str, path: &Path) -> Result<Option<BundleFile>, Error> {
    use std::os::unix::fs::PermissionsExt;
    archive::check_name(name).map_err(|source| Error::Name { name: name.to_owned(), source })?;
    let read = |source| Error::Read { path: path.to_path_buf(), source };
    if fs::symlink_metadata(path).map_err(read)?.is_symlink() {
        let link = |problem| Error::Link { name: name.to_owned(), problem };
        let target = fs::canonicalize(path).map_err(|_| link("to nothing"))?;
        if !target.starts_with(root) {
            return Err(link("that leaves the project"));
        }
        if target.is_dir() {
            return Err(link("to a folder"));
        }
    }
    let meta = fs::metadata(path).map_err(read)?;
    // Sockets and pipes are left by running programs; they are no content.
    Ok(meta.is_file().then(|| BundleFile {
        name: name.to_owned(),
        size_bytes: meta.len(),
        executable: meta.permissions().mode() & 0o100 != 0,
    }))
}

impl Bundle {
    /// The project's folder, without links in its path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// All files, by name.
    pub fn files(&self) -> &[BundleFile] {
        &self.files
    }

    /// Sum of the sizes of all files.
    pub fn size_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size_bytes).sum()
    }

    /// Whether a file of this name is in it.
    pub fn holds(&self, name: &str) -> bool {
        self.files.binary_search_by(|file| file.name.as_str().cmp(name)).is_ok()
    }

    fn check(&self) -> Result<(), Error> {
        if !self.root.join("package.json").is_file() {
            return Err(Error::NoPackageJson(self.root.clone()));
        }
        let Some(lockfile) = LOCKFILES.into_iter().find(|file| self.root.join(file).is_file()) else {
            return Err(Error::NoLockfile(self.root.clone()));
        };
        for file in ["package.json", lockfile] {
            if !self.holds(file) {
                return Err(Error::NeededFileIgnored { file });
            }
        }
        let mut folded: HashMap<String, &str> = HashMap::new();
        for file in &self.files {
            if let Some(first) = folded.insert(file.name.to_lowercase(), &file.name) {
                return Err(Error::Alike { first: first.to_owned(), second: file.name.clone() });
            }
        }
        if self.files.len() as u64 > self.limits.entries {
            return Err(Error::TooManyFiles { files: self.files.len(), most: self.limits.entries });
        }
        let bytes = self.size_bytes();
        if bytes > self.limits.unpacked_bytes {
            return Err(Error::TooLarge { bytes, most: self.limits.unpacked_bytes, largest: self.largest() });
        }
        Ok(())
    }

    fn largest(&self) -> String {
        let mut by_size: Vec<&BundleFile> = self.files.iter().collect();
        by_size.sort_by_key(|file| std::cmp::Reverse(file.size_bytes));
        let shown: Vec<String> =
            by_size.iter().take(3).map(|file| format!("{} ({} bytes)", file.name, file.size_bytes)).collect();
        shown.join(", ")
    }
}
