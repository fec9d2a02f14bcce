//! All files or none.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tempfile::{Builder, NamedTempFile};

/// A file to be written.
#[derive(Debug)]
pub struct File {
    /// Where.
    pub path: PathBuf,
    /// What.
    pub text: String,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is new.
    Written,
    /// It replaces another.
    Overwritten,
    /// It was there as it should be.
    Unchanged,
}

/// Why nothing was written.
#[derive(Debug)]
pub enum Error {
    /// These exist with other content.
    Exists(Vec<PathBuf>),
    /// The system refused.
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

/// Writes all files, or leaves everything as it was: each is written beside its place first, and what was already moved into
/// place is taken back when a later one cannot be. What has the right content is not touched.
///
/// # Errors
/// When one of them exists with other content and `force` is not set, and when the system refuses.
pub fn all(files: &[File], force: bool) -> Result<Vec<State>, Error> {
    let states: Vec<State> = files.iter().map(state).collect();
    let in_the_way = files.iter().zip(&states).filter(|(_, state)| **state == State::Overwritten);
    let in_the_way: Vec<_> = in_the_way.map(|(file, _)| file.path.clone()).collect();
    if !force && !in_the_way.is_empty() {
        return Err(Error::Exists(in_the_way));
    }
    let mut undo = Undo::default();
    let result = replace(files, &states, &mut undo);
    if result.is_err() {
        undo.all();
    }
    result.map(|()| states)
}

fn state(file: &File) -> State {
    // A link that leads nowhere is something, too.
    match fs::symlink_metadata(&file.path) {
        Err(_) => State::Written,
        Ok(_) if fs::read(&file.path).is_ok_and(|bytes| bytes == file.text.as_bytes()) => State::Unchanged,
        Ok(_) => State::Overwritten,
    }
}

fn replace(files: &[File], states: &[State], undo: &mut Undo) -> Result<(), Error> {
    let changed = || files.iter().zip(states).filter(|(_, state)| **state != State::Unchanged);
    let mut ready = Vec::new();
    for (file, state) in changed() {
        let at = |cause| Error::Io { path: file.path.clone(), cause };
        let old = (*state == State::Overwritten).then(|| fs::read(&file.path)).transpose().map_err(at)?;
        let temporary = beside(&file.path, &file.text, undo).map_err(at)?;
        ready.push((file, old, temporary));
    }
    for (file, old, temporary) in ready {
        // Between the look and now somebody else may have made the file.
        let moved = match old {
            None => temporary.persist_noclobber(&file.path),
            Some(_) => temporary.persist(&file.path),
        };
        moved.map_err(|error| Error::Io { path: file.path.clone(), cause: error.error })?;
        undo.files.push((file.path.clone(), old));
    }
    Ok(())
}

fn beside(path: &Path, text: &str, undo: &mut Undo) -> io::Result<NamedTempFile> {
    let dir = path.parent().expect("a file is in a folder");
    let missing: Vec<PathBuf> =
        dir.ancestors().take_while(|dir| !dir.exists()).map(Path::to_path_buf).collect();
    undo.folders.extend(missing.into_iter().rev());
    fs::create_dir_all(dir)?;
    // What the umask leaves of it, as for any file; not for the owner alone, as is usual for temporary ones.
    let mut file = Builder::new().permissions(fs::Permissions::from_mode(0o666)).tempfile_in(dir)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// What must be taken back.
#[derive(Debug, Default)]
struct Undo {
    /// Folders that were made, the outer ones first.
    folders: Vec<PathBuf>,
    /// Files that were put into place, with what was there before.
    files: Vec<(PathBuf, Option<Vec<u8>>)>,
}

impl Undo {
    /// As far as the system lets us: the first error is the one to tell.
    fn all(&self) {
        for (path, old) in &self.files {
            _ = match old {
                Some(old) => fs::write(path, old),
                None => fs::remove_file(path),
            };
        }
        for folder in self.folders.iter().rev() {
            _ = fs::remove_dir(folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(dir: &Path) -> [File; 2] {
        [
            File { path: dir.join("a.toml"), text: "new a".into() },
            File { path: dir.join("deep/er/b.yml"), text: "new b".into() },
        ]
    }

    fn read(dir: &Path, name: &str) -> Option<String> {
        fs::read_to_string(dir.join(name)).ok()
    }

    #[test]
    fn what_is_new_is_written_and_what_is_right_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        assert_eq!(all(&files(dir), false).unwrap(), [State::Written, State::Written]);
        let mode = fs::metadata(dir.join("a.toml")).unwrap().permissions().mode();
        fs::write(dir.join("other"), "").unwrap();
        assert_eq!(mode, fs::metadata(dir.join("other")).unwrap().permissions().mode(), "as any file");
        assert_eq!(all(&files(dir), false).unwrap(), [State::Unchanged, State::Unchanged]);
    }

    #[test]
    fn one_in_the_way_keeps_all_from_being_written() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        fs::create_dir_all(dir.join("deep/er")).unwrap();
        fs::write(dir.join("deep/er/b.yml"), "mine").unwrap();
        assert!(
            matches!(all(&files(dir), false), Err(Error::Exists(paths)) if paths == [dir.join("deep/er/b.yml")])
        );
        assert_eq!((read(dir, "a.toml"), read(dir, "deep/er/b.yml")), (None, Some("mine".into())));
        assert_eq!(all(&files(dir), true).unwrap(), [State::Written, State::Overwritten]);
        assert_eq!(read(dir, "deep/er/b.yml"), Some("new b".into()));
    }

    #[test]
    fn a_link_to_nothing_is_in_the_way() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("nowhere", dir.path().join("a.toml")).unwrap();
        assert!(matches!(all(&files(dir.path()), false), Err(Error::Exists(_))));
    }

    #[test]
    fn when_a_later_one_cannot_be_written_the_earlier_ones_are_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        // Where a folder must be there is a file.
        fs::write(dir.join("deep"), "a file").unwrap();
        assert!(matches!(all(&files(dir), false), Err(Error::Io { .. })));
        assert_eq!(read(dir, "a.toml"), None);
        assert_eq!(fs::read_dir(dir).unwrap().count(), 1, "nothing is left over");
        fs::remove_file(dir.join("deep")).unwrap();

        // A file cannot be moved onto a folder, which shows only after the first was moved.
        fs::write(dir.join("a.toml"), "old a").unwrap();
        let mut undo = Undo::default();
        fs::create_dir_all(dir.join("deep/er/b.yml/full")).unwrap();
        let states = [State::Overwritten, State::Written];
        assert!(matches!(replace(&files(dir), &states, &mut undo), Err(Error::Io { .. })));
        assert_eq!(read(dir, "a.toml"), Some("new a".into()), "the first was moved");
        undo.all();
        assert_eq!(read(dir, "a.toml"), Some("old a".into()));
        assert!(matches!(all(&files(dir), true), Err(Error::Io { .. })));
        assert_eq!(read(dir, "a.toml"), Some("old a".into()));
    }

    #[test]
    fn folders_that_were_made_are_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let files = [
            File { path: dir.join("new/folder/a"), text: String::new() },
            File { path: dir.join("file/b"), text: String::new() },
        ];
        fs::write(dir.join("file"), "").unwrap();
        assert!(matches!(all(&files, false), Err(Error::Io { .. })));
        assert!(!dir.join("new").exists());
    }
}
