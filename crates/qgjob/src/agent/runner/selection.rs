//! How Playwright is told which tests of a file a shard runs.
//!
//! `--test-list` runs what the lines of a file name, `--test-list-invert` what they do not, both by the same filter: together
//! the shards run each test once, also tests that nobody knew of when the file was split. What cannot be named is left to
//! the last shard, down to the whole file for a Playwright that has no such flags.

use std::io;
use std::path::{Component, Path, PathBuf};

use super::{Plan, PlaywrightProject};

/// The first Playwright with the flags.
const FIRST_WITH_LISTS: (u32, u32) = (1, 56);
/// Stands between the parts of a name; what has it in itself cannot be named.
const BETWEEN: char = '›';

/// Which tests of the file run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Selection {
    All,
    /// Those that the lines name.
    Only(String),
    /// Those that the lines do not name.
    AllBut(String),
    /// None: the last shard runs them.
    Nothing,
}

impl Selection {
    pub(super) fn of(plan: &Plan) -> Selection {
        let Some(shard) = &plan.shard else { return Selection::All };
        let lines = lines(&plan.project, plan.test.as_str(), &shard.tests);
        match (lines.is_empty(), shard.is_last()) {
            (true, true) => Selection::All,
            (true, false) => Selection::Nothing,
            (false, true) => Selection::AllBut(lines),
            (false, false) => Selection::Only(lines),
        }
    }

    /// Writes the lines, if there are any.
    pub(super) fn write(&self, list: &Path) -> io::Result<()> {
        match self {
            Selection::Only(lines) | Selection::AllBut(lines) => std::fs::write(list, lines),
            Selection::All | Selection::Nothing => Ok(()),
        }
    }

    pub(super) fn arguments(&self, list: &Path) -> Vec<String> {
        match self {
            Selection::All => vec![],
            Selection::Only(_) => vec![format!("--test-list={}", list.display())],
            Selection::AllBut(_) => vec![format!("--test-list-invert={}", list.display())],
            // Matches nothing, in every Playwright.
            Selection::Nothing => vec!["--grep=(?!)".to_owned(), "--pass-with-no-tests".to_owned()],
        }
    }
}

/// A line for each of the tests that can be named; all that begins with what a line says is meant.
fn lines(project: &PlaywrightProject, test: &str, tests: &[Vec<String>]) -> String {
    let has_lists =
        project.playwright.as_deref().and_then(numbers).is_some_and(|found| found >= FIRST_WITH_LISTS);
    let file = seen_from(Path::new(&project.root), Path::new(test)).display().to_string();
    if !has_lists || !can_be_said(&file) || project.name.contains([BETWEEN, '\n', '\r']) {
        return String::new();
    }
    let mut lines = String::new();
    for titles in tests.iter().filter(|titles| titles.iter().all(|title| can_be_said(title))) {
        lines.push_str(&format!("[{}] {BETWEEN} {file}", project.name));
        titles.iter().for_each(|title| lines.push_str(&format!(" {BETWEEN} {title}")));
        lines.push('\n');
    }
    lines
}

/// Whether Playwright, which cuts a line into trimmed parts, reads the text back as it is.
fn can_be_said(text: &str) -> bool {
    text.trim() == text && !text.contains(|c: char| c == BETWEEN || c.is_control() || c == '\u{feff}')
}

fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// `path` as seen from `root`, both as seen from the same folder.
fn seen_from(root: &Path, path: &Path) -> PathBuf {
    let (root, path): (Vec<Component<'_>>, Vec<_>) =
        (root.components().collect(), path.components().collect());
    let common = root.iter().zip(&path).take_while(|(one, other)| one == other).count();
    let up = root[common..].iter().map(|_| Component::ParentDir);
    up.chain(path[common..].iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(root: &str, playwright: &str) -> PlaywrightProject {
        PlaywrightProject {
            name: "a device".to_owned(),
            root: root.to_owned(),
            playwright: Some(playwright.to_owned()),
            ..PlaywrightProject::default()
        }
    }

    fn named(titles: &[&[&str]]) -> Vec<Vec<String>> {
        titles.iter().map(|titles| titles.iter().map(|title| (*title).to_owned()).collect()).collect()
    }

    #[test]
    fn tests_are_named_as_playwright_names_them() {
        let tests = named(&[&["outer", "inner"], &["a > b"]]);
        assert_eq!(
            lines(&project("", "1.59.1"), "tests/[id].spec.js", &tests),
            "[a device] › tests/[id].spec.js › outer › inner\n[a device] › tests/[id].spec.js › a > b\n"
        );
        for (root, file) in
            [("tests", "a.spec.js"), ("tests/ui", "../a.spec.js"), ("other", "../tests/a.spec.js")]
        {
            let line = lines(&project(root, "1.59.1"), "tests/a.spec.js", &named(&[&["x"]]));
            assert_eq!(line, format!("[a device] › {file} › x\n"));
        }
    }

    #[test]
    fn what_cannot_be_named_is_left_to_the_last_shard() {
        let bad =
            named(&[&["a › b"], &["two\nlines"], &[" begins with a blank"], &["outer", "ends with one "]]);
        assert_eq!(lines(&project("", "1.59.1"), "a.spec.js", &bad), "");
        let good = named(&[&["x"]]);
        assert_eq!(lines(&project("", "1.59.1"), "a › b.spec.js", &good), "");
        for (version, has_lists) in [("1.55.1", false), ("1.56.0", true), ("1.100.0", true), ("next", false)]
        {
            assert_eq!(!lines(&project("", version), "a.spec.js", &good).is_empty(), has_lists, "{version}");
        }
        let odd = PlaywrightProject { name: "a › b".to_owned(), ..project("", "1.59.1") };
        assert_eq!(lines(&odd, "a.spec.js", &good), "");
    }
}
