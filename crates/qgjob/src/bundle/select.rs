//! Which tests a `--test` value means.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use globset::GlobBuilder;
use qgjob_core::model::name::{BadName, TestPath};

use super::Bundle;

/// Why a `--test` value means no test.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    #[error("there is no test file {value:?}{}", suggestion(nearest))]
    Unknown {
        value: String,
        /// Up to three existing test files, the most similar first.
        nearest: Vec<String>,
    },
    #[error("{value:?} exists but is not sent: a .gitignore or .qgjobignore excludes it")]
    Ignored { value: String },
    #[error("{value:?} is outside the project {}", project.display())]
    Outside { value: String, project: PathBuf },
    #[error("the folder {value:?} holds no test file (*.spec.* or *.test.*)")]
    EmptyFolder { value: String },
    #[error("no test file matches {value:?}{}", suggestion(nearest))]
    NoMatch { value: String, nearest: Vec<String> },
    #[error("{value:?} is not a pattern: {source}")]
    BadGlob { value: String, source: globset::Error },
    #[error("{value:?} is no JavaScript or TypeScript file")]
    NotATest { value: String },
    #[error(transparent)]
    BadName(#[from] BadName),
}

fn suggestion(nearest: &[String]) -> String {
    match nearest {
        [] => "; the project has no test files".to_owned(),
        some => format!("; did you mean {}?", some.join(", ")),
    }
}

/// Whether Playwright takes a file of this name for a test by default: `*.spec.js`, `*.test.mts` and the like.
pub fn is_test_file(name: &str) -> bool {
    let name = name.rsplit('/').next().unwrap_or(name);
    let Some((stem, extension)) = name.rsplit_once('.') else { return false };
    is_script(extension) && (stem.ends_with(".spec") || stem.ends_with(".test"))
}

fn is_script(extension: &str) -> bool {
    matches!(
        extension,
        "js" | "ts" | "mjs" | "mts" | "cjs" | "cts" | "jsx" | "tsx" | "cjsx" | "mjsx" | "ctsx" | "mtsx"
    )
}

impl Bundle {
    /// The tests that `values` mean: each a file, a folder or a glob, relative to `cwd` or else to the
    /// project. The result is sorted and holds nothing twice.
    ///
    /// # Errors
    /// If a value means nothing. The first such value is told.
    pub fn select(&self, cwd: &Path, values: &[String]) -> Result<Vec<TestPath>, SelectError> {
        let mut selected = BTreeSet::new();
        for value in values {
            for name in self.select_one(cwd, value)? {
                selected.insert(name.parse()?);
            }
        }
        Ok(selected.into_iter().collect())
    }

    /// All test files, by name.
    pub fn tests(&self) -> impl Iterator<Item = &str> {
        self.files().iter().map(|file| file.name.as_str()).filter(|name| is_test_file(name))
    }

    fn select_one(&self, cwd: &Path, value: &str) -> Result<Vec<String>, SelectError> {
        let cwd = std::fs::canonicalize(cwd).unwrap_or_else(|_| cwd.to_path_buf());
        let places: Vec<String> =
            [&cwd, self.root()].into_iter().filter_map(|base| self.inside(&base.join(value))).collect();
        if places.is_empty() {
            return Err(SelectError::Outside { value: value.to_owned(), project: self.root().to_path_buf() });
        }
        for place in &places {
            if self.holds(place) {
                return match place.rsplit_once('.') {
                    Some((_, extension)) if is_script(extension) => Ok(vec![place.clone()]),
                    _ => Err(SelectError::NotATest { value: value.to_owned() }),
                };
            }
            let path = self.root().join(place);
            if path.is_dir() {
                let below = if place.is_empty() { String::new() } else { format!("{place}/") };
                let tests: Vec<String> =
                    self.tests().filter(|t| t.starts_with(&below)).map(str::to_owned).collect();
                return match tests.is_empty() {
                    true => Err(SelectError::EmptyFolder { value: value.to_owned() }),
                    false => Ok(tests),
                };
            }
            if path.exists() {
                return Err(SelectError::Ignored { value: value.to_owned() });
            }
        }
        // Only now, because file names may hold the characters of a pattern: `[id].spec.ts`.
        if value.contains(['*', '?', '[', '{']) {
            return self.select_glob(&places, value);
        }
        Err(SelectError::Unknown { value: value.to_owned(), nearest: self.nearest(value) })
    }

    fn select_glob(&self, places: &[String], value: &str) -> Result<Vec<String>, SelectError> {
        for place in places {
            let glob = GlobBuilder::new(place)
                .literal_separator(true)
                .build()
                .map_err(|source| SelectError::BadGlob { value: value.to_owned(), source })?
                .compile_matcher();
            let tests: Vec<String> =
                self.tests().filter(|test| glob.is_match(test)).map(str::to_owned).collect();
            if !tests.is_empty() {
                return Ok(tests);
            }
        }
        Err(SelectError::NoMatch { value: value.to_owned(), nearest: self.nearest(value) })
    }

    /// `path` as a name inside the project, `..` resolved by its text; none when it is outside.
    fn inside(&self, path: &Path) -> Option<String> {
        let mut clean = PathBuf::new();
        for part in path.components() {
            match part {
                Component::ParentDir => {
                    clean.pop();
                }
                Component::CurDir => {}
                other => clean.push(other),
            }
        }
        clean.strip_prefix(self.root()).ok()?.to_str().map(str::to_owned)
    }

    fn nearest(&self, value: &str) -> Vec<String> {
        let file = |name: &str| name.rsplit('/').next().unwrap_or(name).to_lowercase();
        let wanted = file(value);
        let likeness = |test: &str| {
            let whole = strsim::normalized_damerau_levenshtein(&value.to_lowercase(), &test.to_lowercase());
            whole.max(strsim::normalized_damerau_levenshtein(&wanted, &file(test)))
        };
        let mut tests: Vec<(f64, &str)> = self.tests().map(|test| (likeness(test), test)).collect();
        tests.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        tests.into_iter().take(3).map(|(_, test)| test.to_owned()).collect()
    }
}
