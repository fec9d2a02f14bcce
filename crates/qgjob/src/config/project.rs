//! The project's `qgjob.toml`: what to submit when flags do not say. Never tokens.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Error, toml_detail};

/// `qgjob.toml` and the folder it was found in.
#[derive(Debug, Clone)]
pub struct Project {
    /// Its folder; paths in it are relative to this.
    pub dir: PathBuf,
    /// What it says.
    pub file: File,
}

/// The text of `qgjob.toml`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Address of the server; used only when a credential for it exists.
    pub server: Option<String>,
    /// The org.
    pub org_id: Option<String>,
    /// Defaults for `qgjob submit`.
    #[serde(default)]
    pub submit: Submit,
}

/// The table `[submit]`: each key is the flag of the same name.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Submit {
    /// The label of the build under test.
    pub app_version_id: Option<String>,
    /// Files, folders and globs.
    #[serde(default)]
    pub tests: Vec<String>,
    /// The app's file, relative to this file.
    pub app: Option<PathBuf>,
    /// `android` or `ios`.
    pub platform: Option<String>,
    /// The kind of device.
    pub target: Option<String>,
    /// What the device must be like.
    pub device: Option<String>,
    /// A number or a word.
    pub priority: Option<NumberOrWord>,
    /// Of the jobs that name the same, only so many run at a time.
    pub concurrency_group: Option<String>,
    /// `auto`, or how many shards a file is split into at most.
    pub shards: Option<NumberOrWord>,
    /// Of an attempt.
    pub timeout: Option<String>,
    /// Of the wait for a device.
    pub queue_timeout: Option<String>,
    /// For infrastructure reasons.
    pub retries: Option<u32>,
    /// By the runner.
    pub test_retries: Option<u32>,
    /// Between tests.
    pub reset: Option<String>,
    /// Variables for the tests.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Labels of the run.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// What TOML can hold as a number or as a word: a priority, shards.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum NumberOrWord {
    /// A number.
    Number(u8),
    /// A word.
    Word(String),
}

impl std::fmt::Display for NumberOrWord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Word(word) => f.write_str(word),
        }
    }
}

impl File {
    /// Reads the text of a `qgjob.toml`.
    ///
    /// # Errors
    /// What is wrong, with its line: it is not TOML, or has unknown keys.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| toml_detail(text, &error))
    }
}

impl Project {
    /// Looks for `qgjob.toml` in `dir` and upwards, to the root of the git checkout.
    ///
    /// # Errors
    /// When it is unreadable or has unknown keys.
    pub fn find(dir: &Path) -> Result<Option<Self>, Error> {
        for dir in dir.ancestors() {
            let path = dir.join("qgjob.toml");
            match std::fs::read_to_string(&path) {
                Ok(text) => {
                    let file =
                        File::parse(&text).map_err(|detail| Error::Invalid { path: path.clone(), detail })?;
                    return Ok(Some(Self { dir: dir.to_owned(), file }));
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(cause) => return Err(Error::File { path, cause }),
            }
            if dir.join(".git").exists() {
                break;
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_names_every_key() {
        let text = include_str!("../../../../qgjob.example.toml");
        let file: File = toml::from_str(text).unwrap();
        let submit = &file.submit;
        assert!(file.server.is_some() && file.org_id.is_some());
        assert!(submit.app_version_id.is_some() && !submit.tests.is_empty() && submit.app.is_some());
        assert!(submit.platform.is_some() && submit.target.is_some() && submit.device.is_some());
        assert!(submit.priority.is_some() && submit.timeout.is_some() && submit.queue_timeout.is_some());
        assert!(submit.concurrency_group.is_some() && submit.shards.is_some());
        assert!(submit.retries.is_some() && submit.test_retries.is_some() && submit.reset.is_some());
        assert!(!submit.env.is_empty() && !submit.labels.is_empty());
    }

    #[test]
    fn the_search_ends_at_the_checkout() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("qgjob.toml"), "org_id = \"outside\"").unwrap();
        let inside = dir.path().join("repo/tests");
        std::fs::create_dir_all(&inside).unwrap();
        assert_eq!(Project::find(&inside).unwrap().unwrap().dir, dir.path());
        std::fs::create_dir(dir.path().join("repo/.git")).unwrap();
        assert!(Project::find(&inside).unwrap().is_none());
    }
}
