//! The live events of the reporter, read from its file while it writes.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::Read;
use std::path::{Component, PathBuf};

use qgjob_core::model::name::TestPath;
use qgjob_core::model::test_result::{TestOutcome, Try, TryStatus};
use serde::Deserialize;

use super::{AttemptDir, Live, ansi, artifacts};

/// More than that is no line that the reporter wrote.
const MOST_LINE: usize = 64 << 20;
/// As many tries as a report may have cases.
const MOST_TRIES: usize = 200_000;
/// Longest error of a try, as the model says.
pub(super) const MOST_ERROR: usize = 16 * 1024;
/// Longest id of a test; Playwright's have 41 characters.
const MOST_ID: usize = 1024;
/// Titles of a test, and characters of each: the reporter cuts at as many. Each try has a copy.
const MOST_TITLES: usize = 64;
const MOST_TITLE: usize = 2048;
/// Files that are told of a try.
const MOST_FILES: usize = 32;

/// A follower of one events file.
#[derive(Debug)]
pub(super) struct Events {
    path: PathBuf,
    file: Option<File>,
    /// The name of the Playwright project whose tests count. Others are those it depends on.
    project: String,
    test: TestPath,
    half: Vec<u8>,
    known: HashMap<String, Test>,
    selected: Option<u32>,
    tries: Vec<Try>,
    /// The folder of the attempt, in which its files are.
    root: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Event {
    Begin {
        tests: Vec<Test>,
    },
    TestEnd(Ended),
    #[serde(other)]
    Other,
}

#[derive(Debug, Deserialize)]
struct Test {
    id: String,
    title: Vec<String>,
    #[serde(default)]
    unit: Option<u32>,
    line: u32,
    project: String,
}

impl Test {
    fn cut(mut self) -> Self {
        self.title.truncate(MOST_TITLES);
        for title in self.title.iter_mut().filter(|title| title.len() > MOST_TITLE) {
            *title = title.chars().take(MOST_TITLE).collect();
        }
        self
    }
}

#[derive(Debug, Deserialize)]
struct Ended {
    id: String,
    retry: u32,
    status: Status,
    /// What the suite wants of it.
    #[serde(default)]
    expected: Option<Status>,
    outcome: TestOutcome,
    duration_ms: f64,
    #[serde(default)]
    errors: Vec<Failure>,
    #[serde(default)]
    attachments: Vec<Attachment>,
}

#[derive(Debug, Deserialize)]
struct Attachment {
    path: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct Failure {
    message: String,
}

/// Playwright's words for [`TryStatus`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Status {
    Passed,
    Failed,
    TimedOut,
    Skipped,
    Interrupted,
}

impl From<Status> for TryStatus {
    fn from(status: Status) -> TryStatus {
        match status {
            Status::Passed => TryStatus::Passed,
            Status::Failed => TryStatus::Failed,
            Status::TimedOut => TryStatus::TimedOut,
            Status::Skipped => TryStatus::Skipped,
            Status::Interrupted => TryStatus::Interrupted,
        }
    }
}

impl Events {
    /// Follows the events of the attempt in `dir`; their file need not exist yet.
    pub(super) fn new(dir: &AttemptDir, project: String, test: TestPath) -> Events {
        let (known, tries) = (HashMap::new(), Vec::new());
        let (path, root) = (dir.events(), dir.root().to_owned());
        Events { path, file: None, project, test, half: Vec::new(), known, selected: None, tries, root }
    }

    /// What was written since the last call.
    pub(super) fn news(&mut self) -> VecDeque<Live> {
        let mut news = VecDeque::new();
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        let Some(file) = &mut self.file else { return news };
        let mut fresh = Vec::new();
        // What cannot be read now is read at the next look.
        let _ = file.take(MOST_LINE as u64).read_to_end(&mut fresh);
        for &byte in &fresh {
            if byte == b'\n' {
                let line = std::mem::take(&mut self.half);
                news.extend(self.understand(&line));
            } else if self.half.len() < MOST_LINE {
                self.half.push(byte);
            }
        }
        news
    }

    /// How many tests were to run, if the reporter said so, and all tries so far.
    pub(super) fn into_parts(self) -> (Option<u32>, Vec<Try>) {
        (self.selected, self.tries)
    }

    fn understand(&mut self, line: &[u8]) -> Option<Live> {
        match serde_json::from_slice(line).ok()? {
            Event::Begin { tests } => {
                let own = tests.into_iter().filter(|test| test.project == self.project);
                let own = own.filter(|test| test.id.len() <= MOST_ID).map(Test::cut);
                self.known = own.map(|test| (test.id.clone(), test)).collect();
                let total = u32::try_from(self.known.len()).unwrap_or(u32::MAX);
                self.selected = Some(total);
                Some(Live::Begin { total })
            }
            Event::TestEnd(ended) => self.ended(ended).map(Live::Try),
            Event::Other => None,
        }
    }

    fn ended(&mut self, ended: Ended) -> Option<Try> {
        let test = self.known.get(&ended.id)?;
        if self.tries.len() >= MOST_TRIES {
            return None;
        }
        let one = Try {
            seq: self.tries.len() as u32 + 1,
            test_id: ended.id,
            title: test.title.clone(),
            unit: test.unit,
            // The file that was selected, even where the test's code is in a file that it shares with others.
            file: self.test.to_string(),
            line: test.line,
            retry: ended.retry,
            status: ended.status.into(),
            by_suite: (ended.status == Status::Skipped)
                .then(|| ended.expected.map(|word| word == Status::Skipped))
                .flatten(),
            outcome: ended.outcome,
            duration_ms: ended.duration_ms.max(0.0) as u64,
            error: ended.errors.first().map(|error| ansi::plain(&error.message, MOST_ERROR)),
            files: self.files(&ended.attachments),
        };
        self.tries.push(one.clone());
        Some(one)
    }

    /// The names under which files of the attempt are kept. Others are not: they are outside.
    fn files(&self, attachments: &[Attachment]) -> Vec<String> {
        let paths = attachments.iter().filter_map(|attachment| attachment.path.as_deref());
        let inside = paths.filter_map(|path| path.strip_prefix(&self.root).ok());
        let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
        inside.filter(|path| path.components().all(plain)).map(artifacts::name).take(MOST_FILES).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const BEGIN: &str = r#"{"event":"begin","tests":[
        {"id":"a","title":["outer","inner"],"unit":1,"file":"/w/shared.js","line":7,"project":"p"},
        {"id":"s","title":["log in"],"file":"/w/setup.js","line":1,"project":"setup"}]}"#;

    struct Scene {
        dir: AttemptDir,
        events: Events,
        _home: tempfile::TempDir,
    }

    impl Scene {
        fn new() -> Scene {
            let home = tempfile::tempdir().unwrap();
            let dir = AttemptDir::create(&home.path().join("attempt")).unwrap();
            let events = Events::new(&dir, "p".to_owned(), "tests/a.spec.js".parse().unwrap());
            Scene { events, dir, _home: home }
        }

        fn write(&mut self, text: &str) -> Vec<Live> {
            let mut options = std::fs::OpenOptions::new();
            let mut file = options.append(true).create(true).open(self.dir.events()).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            self.events.news().into()
        }
    }

    fn end(id: &str, retry: u32, status: &str, outcome: &str) -> String {
        format!(
            r#"{{"event":"test-end","id":"{id}","retry":{retry},"status":"{status}","outcome":"{outcome}","duration_ms":12.7,"errors":[{{"message":"\u001b[31mno\u001b[39m"}}]}}"#
        )
    }

    #[test]
    fn nothing_is_told_before_there_is_a_file() {
        let mut scene = Scene::new();
        assert!(scene.events.news().is_empty());
        assert_eq!(scene.events.into_parts(), (None, Vec::new()));
    }

    #[test]
    fn tries_are_told_once_and_numbered_in_order() {
        let mut scene = Scene::new();
        let begin = BEGIN.replace('\n', "") + "\n";
        assert_eq!(scene.write(&begin), [Live::Begin { total: 1 }]);
        let told = scene.write(&format!(
            "{}\n{}\n",
            end("a", 0, "timedOut", "unexpected"),
            end("a", 1, "passed", "flaky")
        ));
        let [Live::Try(first), Live::Try(second)] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!((first.seq, second.seq), (1, 2));
        assert_eq!((first.status, second.outcome), (TryStatus::TimedOut, TestOutcome::Flaky));
        assert_eq!(
            (first.title.as_slice(), first.unit),
            (&["outer".to_owned(), "inner".to_owned()][..], Some(1))
        );
        assert_eq!((first.file.as_str(), first.line, first.duration_ms), ("tests/a.spec.js", 7, 12));
        assert_eq!(first.error.as_deref(), Some("no"));
        assert!(scene.events.news().is_empty());
        let (selected, tries) = scene.events.into_parts();
        assert_eq!((selected, tries.len()), (Some(1), 2));
    }

    #[test]
    fn files_inside_the_attempt_are_told_by_the_names_they_are_kept_under() {
        let mut scene = Scene::new();
        scene.write(&(BEGIN.replace('\n', "") + "\n"));
        let results = scene.dir.results();
        let paths = [
            results.join("a/trace.zip").display().to_string(),
            results.join("odd\t.png").display().to_string(),
            results.join("../../outside.png").display().to_string(),
            "/etc/passwd".to_owned(),
        ];
        let attachments = paths.iter().map(|path| serde_json::json!({ "path": path }));
        let inline = serde_json::json!({ "name": "inline", "bytes": 4 });
        let mut line: serde_json::Value = serde_json::from_str(&end("a", 0, "failed", "unexpected")).unwrap();
        line["attachments"] = attachments.chain([inline]).collect();
        let told = scene.write(&format!("{line}\n"));
        let [Live::Try(one)] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!(one.files, ["results/a/trace.zip", "results/odd_.png"]);
    }

    #[test]
    fn half_a_line_waits_for_the_other_half() {
        let mut scene = Scene::new();
        scene.write(&(BEGIN.replace('\n', "") + "\n"));
        let line = end("a", 0, "passed", "expected") + "\n";
        let (one, other) = line.split_at(30);
        assert!(scene.write(one).is_empty());
        assert_eq!(scene.write(other).len(), 1);
    }

    #[test]
    fn an_event_that_the_reporter_did_not_write_takes_no_more_room_than_one_that_it_did() {
        let mut scene = Scene::new();
        let title = vec!["x".repeat(10_000); 100];
        let long = "a".repeat(MOST_ID + 1);
        let test = |id: &str| serde_json::json!({ "id": id, "title": title, "line": 1, "project": "p" });
        let begin = serde_json::json!({ "event": "begin", "tests": [test("a"), test(&long)] });
        assert_eq!(scene.write(&format!("{begin}\n")), [Live::Begin { total: 1 }]);
        assert!(scene.write(&(end(&long, 0, "passed", "expected") + "\n")).is_empty());
        let told = scene.write(&(end("a", 0, "passed", "expected") + "\n"));
        let [Live::Try(one)] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!((one.title.len(), one.title[0].len()), (MOST_TITLES, MOST_TITLE));
    }

    #[test]
    fn what_is_no_event_and_tests_of_other_projects_are_passed_over() {
        let mut scene = Scene::new();
        scene.write(&(BEGIN.replace('\n', "") + "\n"));
        for line in
            ["", "{", "[]", "null", "\u{0}\u{1}", r#"{"event":"step"}"#, r#"{"event":"test-end","id":3}"#]
        {
            assert!(scene.write(&format!("{line}\n")).is_empty(), "{line}");
        }
        assert!(scene.write(&(end("s", 0, "passed", "expected") + "\n")).is_empty());
        assert!(scene.write(&(end("unknown", 0, "passed", "expected") + "\n")).is_empty());
        assert!(scene.write(&(end("a", 0, "great", "expected") + "\n")).is_empty());
        assert_eq!(scene.write(&(end("a", 0, "passed", "expected") + "\n")).len(), 1);
    }
}
