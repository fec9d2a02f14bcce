//! Playwright's JSON report, made into the evidence's words.
//!
//! The file was written by a process that ran foreign code, so nothing in it is believed to be well formed:
//! whatever is wrong with it, the result is [`Report::Unreadable`], which no verdict takes for a pass.

use std::fs;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use qgjob_core::model::evidence::{Report, ReportedTest};
use qgjob_core::model::test_result::TestOutcome;
use serde::Deserialize;

use super::events::MOST_ERROR;
use super::{Plan, ansi, artifacts, base64};

const MOST_BYTES: u64 = 64 << 20;
const MOST_TESTS: usize = 200_000;
/// Objects and lists: the smallest has 3 bytes in the file and up to 100 in memory. Real reports have one per 90 bytes.
const MOST_PARTS: usize = 2_000_000;
const MOST_DEPTH: usize = 64;
const MOST_ERRORS: usize = 100;
/// Attachments inside the report that are written to files.
const MOST_INLINE: usize = 1000;

#[derive(Debug, Deserialize)]
struct Json {
    config: Config,
    suites: Vec<Suite>,
    errors: Vec<Failure>,
    stats: Stats,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    root_dir: String,
}

#[derive(Debug, Deserialize)]
struct Suite {
    file: String,
    #[serde(default)]
    suites: Vec<Suite>,
    specs: Vec<Spec>,
}

#[derive(Debug, Deserialize)]
struct Spec {
    id: String,
    title: String,
    tests: Vec<Test>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Test {
    project_name: String,
    status: TestOutcome,
    results: Vec<TryOfTest>,
}

#[derive(Debug, Deserialize)]
struct TryOfTest {
    #[serde(default)]
    attachments: Vec<Attachment>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attachment {
    name: String,
    #[serde(default)]
    content_type: String,
    body: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Failure {
    message: Option<String>,
    value: Option<String>,
    location: Option<Location>,
}

#[derive(Debug, Deserialize)]
struct Location {
    file: String,
    line: u32,
}

#[derive(Debug, Deserialize)]
struct Stats {
    expected: u64,
    unexpected: u64,
    flaky: u64,
    skipped: u64,
}

/// Reads the report of the attempt, and writes the attachments inside it to files.
pub(super) fn read(plan: &Plan) -> Report {
    let text = match load(&plan.dir.report()) {
        Ok(Some(text)) => text,
        Ok(None) => return Report::Missing,
        Err(detail) => return Report::Unreadable { detail },
    };
    let (report, inline) = parse(&text, &plan.setting.workspace, &plan.project.name);
    for (number, attachment) in inline.iter().enumerate() {
        let Some(bytes) = attachment.body.as_deref().and_then(base64::decode) else { continue };
        let path = plan.dir.inline().join(file_name(number + 1, attachment));
        if let Err(error) = fs::write(&path, bytes) {
            tracing::warn!(path = %path.display(), %error, "cannot keep an attachment");
        }
    }
    report
}

/// The file's text; none if there is no file.
fn load(path: &Path) -> Result<Option<Vec<u8>>, String> {
    let cannot = |error: std::io::Error| format!("the runner's report cannot be read: {error}");
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(cannot(error)),
        // Anything else could lead outside, or never end.
        Ok(meta) if !meta.is_file() => return Err("the runner's report is no regular file".to_owned()),
        Ok(_) => {}
    }
    let mut text = Vec::new();
    let file = fs::File::open(path).map_err(cannot)?;
    file.take(MOST_BYTES + 1).read_to_end(&mut text).map_err(cannot)?;
    match text.len() as u64 {
        0 => Err("the runner's report is empty".to_owned()),
        bytes if bytes > MOST_BYTES => Err(format!("the runner's report has more than {MOST_BYTES} bytes")),
        _ => Ok(Some(text)),
    }
}

/// What the text of a JSON report says of the tests of `project`, whose files are in `workspace`. Never panics, whatever
/// the text; 64 MiB of it, the most that an agent reads, become at most 400 MB.
pub fn understand(text: &[u8], workspace: &Path, project: &str) -> Report {
    parse(text, workspace, project).0
}

fn parse(text: &[u8], workspace: &Path, project: &str) -> (Report, Vec<Attachment>) {
    if parts(text) > MOST_PARTS {
        let detail = format!("the runner's report holds more than {MOST_PARTS} objects and lists");
        return (unreadable(detail), vec![]);
    }
    // serde_json looks at the characters of those strings alone that it is asked for. A file that is damaged anywhere is
    // no witness. Nesting beyond 128 levels is refused by serde_json itself.
    let json = std::str::from_utf8(text).map_err(|error| error.to_string());
    let json: Json = match json.and_then(|text| serde_json::from_str(text).map_err(|error| error.to_string()))
    {
        Ok(json) => json,
        Err(error) => {
            return (unreadable(format!("the runner's report is no Playwright report: {error}")), vec![]);
        }
    };
    let mut reading = Reading {
        workspace,
        root: Path::new(&json.config.root_dir),
        project,
        tests: Vec::new(),
        errors: json.errors.iter().take(MOST_ERRORS).map(|error| describe(error, workspace)).collect(),
        inline: Vec::new(),
        counted: Counted::default(),
    };
    for suite in json.suites {
        // The file of the outermost suite is the one that was selected; tests may be written elsewhere.
        let file = reading.relative(&suite.file);
        if let Err(detail) = reading.suite(suite, &file, 1) {
            return (unreadable(detail), vec![]);
        }
    }
    let Reading { tests, errors, inline, counted, .. } = reading;
    if counted != json.stats {
        let detail = format!("the runner's report counts {:?}, but holds {counted:?}", json.stats);
        return (unreadable(detail), vec![]);
    }
    (Report::Read { tests, errors }, inline)
}

/// How many objects and lists a JSON text holds. What is no JSON may be counted wrong, and is refused later.
fn parts(text: &[u8]) -> usize {
    let (mut count, mut in_string, mut escaped) = (0, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => count += 1,
            _ => {}
        }
    }
    count
}

fn unreadable(detail: String) -> Report {
    Report::Unreadable { detail }
}

/// Tests of all projects by outcome.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counted {
    expected: u64,
    unexpected: u64,
    flaky: u64,
    skipped: u64,
}

impl PartialEq<Stats> for Counted {
    fn eq(&self, stats: &Stats) -> bool {
        (self.expected, self.unexpected, self.flaky, self.skipped)
            == (stats.expected, stats.unexpected, stats.flaky, stats.skipped)
    }
}

struct Reading<'a> {
    workspace: &'a Path,
    root: &'a Path,
    project: &'a str,
    tests: Vec<ReportedTest>,
    errors: Vec<String>,
    inline: Vec<Attachment>,
    counted: Counted,
}

impl Reading<'_> {
    fn suite(&mut self, suite: Suite, file: &str, depth: usize) -> Result<(), String> {
        if depth > MOST_DEPTH {
            return Err(format!("the runner's report nests suites more than {MOST_DEPTH} deep"));
        }
        for spec in suite.specs {
            for test in spec.tests {
                self.test(&spec.id, &spec.title, test, file)?;
            }
        }
        suite.suites.into_iter().try_for_each(|inner| self.suite(inner, file, depth + 1))
    }

    fn test(&mut self, id: &str, title: &str, test: Test, file: &str) -> Result<(), String> {
        match test.status {
            TestOutcome::Expected => self.counted.expected += 1,
            TestOutcome::Unexpected => self.counted.unexpected += 1,
            TestOutcome::Flaky => self.counted.flaky += 1,
            TestOutcome::Skipped => self.counted.skipped += 1,
        }
        // Projects that the chosen one depends on prepare its tests, and are none of them.
        if test.project_name != self.project {
            if test.status == TestOutcome::Unexpected && self.errors.len() < MOST_ERRORS {
                let (title, project) = (ansi::plain(title, 1024), &test.project_name);
                self.errors.push(format!(
                    "{file}: {title:?} of project {project:?}, which the tests depend on, failed"
                ));
            }
            return Ok(());
        }
        if self.tests.len() >= MOST_TESTS {
            return Err(format!("the runner's report holds more than {MOST_TESTS} tests"));
        }
        let tries = u32::try_from(test.results.len()).unwrap_or(u32::MAX);
        self.tests.push(ReportedTest {
            test_id: id.to_owned(),
            file: file.to_owned(),
            outcome: test.status,
            tries,
        });
        let attachments = test.results.into_iter().flat_map(|result| result.attachments);
        let room = MOST_INLINE - self.inline.len();
        self.inline.extend(attachments.filter(|attachment| attachment.body.is_some()).take(room));
        Ok(())
    }

    /// A file's path inside the project, from its path as seen from Playwright's root.
    fn relative(&self, file: &str) -> String {
        inside(&self.root.join(file), self.workspace)
    }
}

/// `path` as seen from `workspace`, with `..` resolved by its text; as it is, if it is outside.
fn inside(path: &Path, workspace: &Path) -> String {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => _ = clean.pop(),
            Component::CurDir => {}
            other => clean.push(other),
        }
    }
    clean.strip_prefix(workspace).unwrap_or(&clean).display().to_string()
}

fn describe(error: &Failure, workspace: &Path) -> String {
    let text = error.message.as_deref().or(error.value.as_deref()).unwrap_or("an error without a message");
    // Where the project lies on this agent is nobody's business, and differs from attempt to attempt.
    let text = ansi::plain(text, MOST_ERROR).replace(&format!("{}/", workspace.display()), "");
    match &error.location {
        Some(at) => format!("{}:{}: {text}", inside(Path::new(&at.file), workspace), at.line),
        None => text,
    }
}

/// A file name for an attachment: its own name as far as that is harmless, numbered to be the only one.
fn file_name(number: usize, attachment: &Attachment) -> String {
    let name: String = attachment
        .name
        .chars()
        .take(80)
        .map(|c| if c.is_alphanumeric() || "._- ".contains(c) { c } else { '_' })
        .collect();
    let name = name.trim_matches([' ', '.']);
    let name = if name.is_empty() { "attachment" } else { name };
    let extension = artifacts::extension(&attachment.content_type);
    match Path::new(name).extension() {
        Some(own) if own.eq_ignore_ascii_case(extension) => format!("{number:03}-{name}"),
        _ => format!("{number:03}-{name}.{extension}"),
    }
}

#[cfg(test)]
mod tests;
