//! How Playwright is told which tests of a file a job runs.
//!
//! `--test-list` runs what the lines of a file name, `--test-list-invert` what they do not, both by the same filter: together
//! the shards run each test once, also tests that nobody knew of when the file was split. What cannot be named is left to
//! the last shard, down to the whole file for a Playwright that has no such flags.
//!
//! The tests that a rerun names are told the same way, or where that cannot be by their lines in the file, which every
//! Playwright takes, narrowed by their titles; and where that cannot be either all tests of the file or shard run. What runs
//! is never less than what is named; the server's verdict asks for a result of each.

use std::collections::BTreeSet;
use std::io;
use std::path::{Component, Path, PathBuf};

use qgjob_core::model::rerun::NamedTest;

use super::{Plan, PlaywrightProject, command};

/// The first Playwright with the flags.
const FIRST_WITH_LISTS: (u32, u32) = (1, 56);
/// Stands between the parts of a name; what has it in itself cannot be named.
const BETWEEN: char = '›';
/// The reporter cuts titles that are longer, in the units of JavaScript.
const LONGEST_TITLE: usize = 1024;
/// One argument of a command may have 128 KiB.
const MOST_GREP: usize = 100_000;

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
    /// Those at these lines of the file, of which the titles fit.
    At {
        lines: BTreeSet<u32>,
        grep: Option<String>,
    },
}

impl Selection {
    pub(super) fn of(plan: &Plan) -> Selection {
        if plan.only.is_empty() {
            return Selection::of_shard(plan);
        }
        let named = of_list(&plan.project, plan.test.as_str(), &plan.only).or_else(|| of_lines(&plan.only));
        named.unwrap_or_else(|| match Selection::of_shard(plan) {
            Selection::Nothing => Selection::All,
            more => more,
        })
    }

    fn of_shard(plan: &Plan) -> Selection {
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
            Selection::All | Selection::Nothing | Selection::At { .. } => Ok(()),
        }
    }

    pub(super) fn arguments(&self, list: &Path) -> Vec<String> {
        match self {
            Selection::All => vec![],
            Selection::Only(_) => vec![format!("--test-list={}", list.display())],
            Selection::AllBut(_) => vec![format!("--test-list-invert={}", list.display())],
            Selection::At { grep, .. } => grep.iter().map(|titles| format!("--grep={titles}")).collect(),
            // Matches nothing, in every Playwright.
            Selection::Nothing => vec!["--grep=(?!)".to_owned(), "--pass-with-no-tests".to_owned()],
        }
    }
}

/// The tests by a list of what runs as one with each; none unless all of them can be named.
fn of_list(project: &PlaywrightProject, file: &str, only: &[NamedTest]) -> Option<Selection> {
    let units = only.iter().map(|test| unit(test).map(<[String]>::to_vec));
    let units: BTreeSet<Vec<String>> = units.collect::<Option<_>>()?;
    let units = Vec::from_iter(units);
    let lines = lines(project, file, &units);
    (lines.lines().count() == units.len()).then_some(Selection::Only(lines))
}

/// The tests by their places; none unless it is known of each what runs as one with it.
fn of_lines(only: &[NamedTest]) -> Option<Selection> {
    only.iter().try_for_each(|test| unit(test).map(drop))?;
    let lines = only.iter().map(|test| test.line).collect();
    Some(Selection::At { lines, grep: grep(only) })
}

/// The titles that name what runs as one with a test; none when that is not known, or is the whole file.
fn unit(test: &NamedTest) -> Option<&[String]> {
    test.unit.and_then(|unit| test.title.get(..unit as usize)).filter(|titles| !titles.is_empty())
}

/// What the titles of the tests fit, as `--grep` takes it: a regular expression, any case, on the titles with blanks between
/// them, each followed by the tags that stand beside it. None where that cannot be said.
fn grep(only: &[NamedTest]) -> Option<String> {
    let mut each = BTreeSet::new();
    for test in only {
        if test.title.iter().any(|title| is_cut(title)) {
            return None;
        }
        let titles = test.title.iter().map(|title| format!("{}(?: @\\S+)*", command::escaped(title)));
        each.insert(titles.collect::<Vec<_>>().join(" "));
    }
    let any = Vec::from_iter(each).join("|");
    (any.len() <= MOST_GREP).then(|| format!("(?:^| )(?:{any})$"))
}

/// Whether the reporter may have cut the title.
fn is_cut(title: &str) -> bool {
    title.encode_utf16().count() >= LONGEST_TITLE
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
    text.trim() == text
        && !is_cut(text)
        && !text.contains(|c: char| c == BETWEEN || c.is_control() || c == '\u{feff}')
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

    fn failed(titles: &[&str], unit: Option<u32>, line: u32) -> NamedTest {
        let title = titles.iter().map(|title| (*title).to_owned()).collect();
        NamedTest { test_id: "id".to_owned(), title, unit, line, failed: true }
    }

    #[test]
    fn named_tests_are_listed_by_what_runs_as_one() {
        let only = [
            failed(&["order", "pays"], Some(1), 3),
            failed(&["order", "ships"], Some(1), 4),
            failed(&["x"], Some(1), 9),
        ];
        let list = of_list(&project("", "1.59.1"), "a.spec.js", &only);
        let wanted = "[a device] › a.spec.js › order\n[a device] › a.spec.js › x\n";
        assert_eq!(list, Some(Selection::Only(wanted.to_owned())));
        assert_eq!(of_list(&project("", "1.55.1"), "a.spec.js", &only), None);
        let one_more = [&only[..], &[failed(&["a › b"], Some(1), 12)]].concat();
        assert_eq!(of_list(&project("", "1.59.1"), "a.spec.js", &one_more), None, "all or nothing");
        let lines = BTreeSet::from([3, 4, 9, 12]);
        assert!(
            matches!(of_lines(&one_more), Some(Selection::At { lines: found, grep: Some(_) }) if found == lines)
        );
    }

    #[test]
    fn what_runs_as_one_must_be_known_and_less_than_the_file() {
        for unit in [None, Some(0), Some(2)] {
            let only = [failed(&["x"], Some(1), 1), failed(&["y"], unit, 2)];
            assert_eq!(of_list(&project("", "1.59.1"), "a.spec.js", &only), None, "{unit:?}");
            assert_eq!(of_lines(&only), None, "{unit:?}");
        }
    }

    #[test]
    fn titles_narrow_what_stands_at_a_line() {
        let only = [failed(&["outer", "costs $1.5 (a|b)"], Some(2), 3), failed(&["x"], Some(1), 3)];
        let wanted = r"(?:^| )(?:outer(?: @\S+)* costs \$1\.5 \(a\|b\)(?: @\S+)*|x(?: @\S+)*)$";
        assert_eq!(grep(&only).as_deref(), Some(wanted));
        assert_eq!(grep(&[failed(&[&"x".repeat(1_024)], Some(1), 1)]), None, "it may have been cut");
        let many: Vec<_> =
            (0..1_000).map(|n| failed(&[&format!("{n}{}", "x".repeat(200))], Some(1), 1)).collect();
        assert_eq!(grep(&many), None);
        let Some(Selection::At { lines, grep: None }) = of_lines(&many) else { panic!("lines alone") };
        assert_eq!(lines, BTreeSet::from([1]));
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
