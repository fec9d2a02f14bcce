//! Reports as Playwright writes them, and as it never should.

use serde_json::{Value, json};

use super::*;

const SAMPLE: &[u8] = include_bytes!("../../../../tests/fixtures/playwright-report.json");
const WORKSPACE: &str = "/project/proj1";

fn sample() -> Value {
    serde_json::from_slice(SAMPLE).unwrap()
}

fn read_text(text: &[u8]) -> Report {
    understand(text, Path::new(WORKSPACE), "android")
}

fn read_json(json: &Value) -> Report {
    read_text(json.to_string().as_bytes())
}

#[test]
fn the_sample_is_understood() {
    let Report::Read { tests, errors } = read_text(SAMPLE) else { panic!("unreadable") };
    assert!(errors.is_empty());
    let seen: Vec<_> = tests.iter().map(|test| (test.outcome, test.tries)).collect();
    use TestOutcome::{Expected, Flaky, Skipped, Unexpected};
    assert_eq!(
        seen,
        [
            (Expected, 1),
            (Unexpected, 2),
            (Flaky, 2),
            (Unexpected, 2),
            (Skipped, 1),
            (Skipped, 1),
            (Expected, 1)
        ]
    );
    assert!(tests.iter().all(|test| test.file == "tests/matrix.spec.js"));
    assert_eq!(tests[0].test_id, "3edaf2749ef92153ab28-74c7079f0dba1403851c");
}

#[test]
fn attachments_inside_the_report_become_files_with_harmless_names() {
    let (_, inline) = parse(SAMPLE, Path::new(WORKSPACE), "android");
    assert!(!inline.is_empty());
    let png = base64::decode(inline[0].body.as_deref().unwrap()).unwrap();
    assert_eq!(&png[..4], b"\x89PNG");
    let named = |name: &str, kind: &str| {
        file_name(7, &Attachment { name: name.to_owned(), content_type: kind.to_owned(), body: None })
    };
    assert_eq!(named("after tap", "image/png"), "007-after tap.png");
    assert_eq!(named("shot.png", "image/png; x=y"), "007-shot.png");
    assert_eq!(named("../../etc/passwd", "text/plain"), "007-_.._etc_passwd.txt");
    assert_eq!(named("..", ""), "007-attachment.bin");
    assert!(named(&"ü".repeat(500), "x/y").len() < 255);
}

#[test]
fn errors_outside_tests_are_told_plainly_and_with_their_place() {
    let mut report = sample();
    report["errors"] = json!([
        {"message": "\u{1b}[31mSyntaxError\u{1b}[39m: /project/proj1/tests/a.js: x", "location": {"file": "/project/proj1/tests/a.js", "line": 3, "column": 1}},
        {"message": "Error: No tests found"},
        {"value": "'thrown text'"},
        {},
    ]);
    let Report::Read { errors, .. } = read_json(&report) else { panic!("unreadable") };
    let expected = [
        "tests/a.js:3: SyntaxError: tests/a.js: x",
        "Error: No tests found",
        "'thrown text'",
        "an error without a message",
    ];
    assert_eq!(errors, expected);
}

#[test]
fn a_test_written_in_another_file_counts_for_the_file_that_was_selected() {
    let mut report = sample();
    let spec = &mut report["suites"][0]["suites"][0]["specs"][0];
    spec["file"] = json!("../support/shared.js");
    let Report::Read { tests, .. } = read_json(&report) else { panic!("unreadable") };
    assert_eq!(tests[0].file, "tests/matrix.spec.js");
    let mut report = sample();
    report["suites"][0]["file"] = json!("../e2e/matrix.spec.js");
    let Report::Read { tests, .. } = read_json(&report) else { panic!("unreadable") };
    assert_eq!(tests[0].file, "e2e/matrix.spec.js");
}

#[test]
fn projects_the_tests_depend_on_count_only_when_they_fail() {
    for (outcome, errors_told) in [("expected", 0), ("unexpected", 1)] {
        let mut report = sample();
        report["suites"].as_array_mut().unwrap().push(json!({
            "title": "setup.js", "file": "setup.js", "line": 0, "column": 0,
            "specs": [{"id": "s", "title": "log in", "tests": [
                {"projectName": "setup", "status": outcome, "results": [{"status": "passed"}]}]}],
        }));
        let stat = &mut report["stats"][outcome];
        *stat = json!(stat.as_u64().unwrap() + 1);
        let Report::Read { tests, errors } = read_json(&report) else { panic!("unreadable") };
        assert_eq!((tests.len(), errors.len()), (7, errors_told), "{outcome}");
    }
}

/// The report with one value replaced, or removed.
fn with(pointer: &str, value: Option<Value>) -> Vec<u8> {
    let mut report = sample();
    match value {
        Some(value) => *report.pointer_mut(pointer).expect(pointer) = value,
        None => {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            let parent = report.pointer_mut(parent).expect(pointer);
            parent.as_object_mut().unwrap().remove(key).expect(pointer);
        }
    }
    report.to_string().into_bytes()
}

/// The report with these bytes in the place of what a test printed.
fn damaged(bytes: &[u8]) -> Vec<u8> {
    let text = with("/suites/0/suites/0/specs/0/tests/0/results/0/stdout", Some(json!([{ "text": "HERE" }])));
    let at = text.windows(4).position(|window| window == b"HERE").unwrap();
    [&text[..at], bytes, &text[at + 4..]].concat()
}

fn nested(levels: usize, open: &str, close: &str) -> Vec<u8> {
    [open.repeat(levels), close.repeat(levels)].concat().into_bytes()
}

#[test]
fn whatever_is_wrong_makes_a_report_unreadable_and_nothing_worse() {
    let spec = "/suites/0/suites/0/specs/0";
    let at = |rest: &str| format!("{spec}{rest}");
    let suite = r#"{"title":"t","file":"f","line":0,"column":0,"specs":[],"suites":["#;
    let deep = format!(
        r#"{{"config":{{"rootDir":"/"}},"errors":[],"stats":{{"expected":0,"unexpected":0,"flaky":0,"skipped":0}},"suites":[{}{}]}}"#,
        suite.repeat(10_000),
        "]}".repeat(10_000)
    );
    let mut bad: Vec<(String, Vec<u8>)> = vec![
        ("white space".into(), b" \n ".to_vec()),
        ("null".into(), b"null".to_vec()),
        ("number".into(), b"42".to_vec()),
        ("text".into(), b"\"report\"".to_vec()),
        ("list".into(), b"[]".to_vec()),
        ("empty object".into(), b"{}".to_vec()),
        ("html".into(), b"<html>report</html>".to_vec()),
        ("not UTF-8".into(), b"{\"suites\":\"\xff\xfe\"}".to_vec()),
        ("zeros".into(), vec![0; 4096]),
        ("not UTF-8 in what nobody reads".into(), damaged(b"\xffprinted")),
        ("control character in what nobody reads".into(), damaged(b"\x07printed")),
        ("two reports".into(), [SAMPLE, SAMPLE].concat()),
        ("trailing text".into(), [SAMPLE, b"x"].concat()),
        ("deep lists".into(), nested(100_000, "[", "]")),
        ("deep objects".into(), nested(100_000, "{\"a\":", "}")),
        ("deep suites".into(), deep.into_bytes()),
        ("no config".into(), with("/config", None)),
        ("no root".into(), with("/config/rootDir", None)),
        ("no suites".into(), with("/suites", None)),
        ("no errors".into(), with("/errors", None)),
        ("no stats".into(), with("/stats", None)),
        ("suites are an object".into(), with("/suites", Some(json!({})))),
        ("suites are null".into(), with("/suites", Some(Value::Null))),
        ("errors are a text".into(), with("/errors", Some(json!("none")))),
        ("error is a text".into(), with("/errors", Some(json!(["none"])))),
        ("suite is null".into(), with("/suites/0", Some(Value::Null))),
        ("suite without file".into(), with("/suites/0/file", None)),
        ("file is a number".into(), with("/suites/0/file", Some(json!(1)))),
        ("specs missing".into(), with("/suites/0/suites/0/specs", None)),
        ("spec is a list".into(), with(spec, Some(json!([])))),
        ("spec without id".into(), with(&at("/id"), None)),
        ("id is a number".into(), with(&at("/id"), Some(json!(7)))),
        ("spec without tests".into(), with(&at("/tests"), None)),
        ("test without status".into(), with(&at("/tests/0/status"), None)),
        ("unknown status".into(), with(&at("/tests/0/status"), Some(json!("passed")))),
        ("status is true".into(), with(&at("/tests/0/status"), Some(json!(true)))),
        ("no results".into(), with(&at("/tests/0/results"), None)),
        ("results are a number".into(), with(&at("/tests/0/results"), Some(json!(1)))),
        ("no project".into(), with(&at("/tests/0/projectName"), None)),
        ("attachments are a text".into(), with(&at("/tests/0/results/0/attachments"), Some(json!("x")))),
        ("body is a number".into(), with(&at("/tests/0/results/0/attachments/0/body"), Some(json!(1)))),
        // Lies: what it counts is not what it holds.
        ("one failure uncounted".into(), with("/stats/unexpected", Some(json!(1)))),
        ("failure turned".into(), with("/suites/0/suites/0/specs/1/tests/0/status", Some(json!("expected")))),
        ("tests dropped".into(), with(&at("/tests"), Some(json!([])))),
        ("negative count".into(), with("/stats/expected", Some(json!(-2)))),
    ];
    for part in 1..12 {
        let cut = SAMPLE.len() * part / 12;
        bad.push((format!("cut at {cut}"), SAMPLE[..cut].to_vec()));
    }
    assert!(bad.len() >= 50);
    for (what, text) in bad {
        let report = read_text(&text);
        assert!(matches!(report, Report::Unreadable { .. }), "{what}: {report:?}");
    }
}

#[test]
fn a_small_file_cannot_become_a_large_report() {
    let errors = vec!["{}"; MOST_PARTS].join(",");
    let results = vec!["[]"; MOST_PARTS].join(",");
    for (place, list) in [("/errors", errors), ("/suites/0/suites/0/specs/0/tests/0/results", results)] {
        let text = String::from_utf8(with(place, Some(json!("HERE")))).unwrap();
        let text = text.replace("\"HERE\"", &format!("[{list}]"));
        match read_text(text.as_bytes()) {
            Report::Unreadable { detail } => assert!(detail.contains("objects and lists"), "{detail}"),
            report => panic!("{report:?}"),
        }
    }
    // What a test printed is one text, whatever is in it.
    assert_eq!(parts(br#"{"a":"[[\"{{{\\","b":[{}]}"#), 3);
}

#[test]
fn an_attachment_that_is_not_base64_does_not_spoil_the_report() {
    let text = with("/suites/0/suites/0/specs/0/tests/0/results/0/attachments/0/body", Some(json!("!!!")));
    let (report, inline) = parse(&text, Path::new(WORKSPACE), "android");
    assert!(matches!(report, Report::Read { .. }));
    assert_eq!(base64::decode(inline[0].body.as_deref().unwrap()), None);
}

#[test]
fn a_missing_an_empty_a_huge_and_a_false_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("report.json");
    assert_eq!(load(&path), Ok(None));
    fs::write(&path, "").unwrap();
    assert!(load(&path).unwrap_err().contains("empty"));
    fs::File::create(&path).unwrap().set_len(MOST_BYTES + 1).unwrap();
    assert!(load(&path).unwrap_err().contains("more than"));
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
    assert!(load(&path).unwrap_err().contains("no regular file"));
}

#[test]
fn more_tests_than_allowed_are_refused() {
    let spec =
        r#"{"id":"i","title":"t","tests":[{"projectName":"android","status":"expected","results":[]}]}"#;
    let specs = vec![spec; MOST_TESTS + 1].join(",");
    let text = format!(
        r#"{{"config":{{"rootDir":"/"}},"errors":[],"stats":{{"expected":{},"unexpected":0,"flaky":0,"skipped":0}},"suites":[{{"file":"f","specs":[{specs}]}}]}}"#,
        MOST_TESTS + 1
    );
    match read_text(text.as_bytes()) {
        Report::Unreadable { detail } => assert!(detail.contains("more than 200000 tests"), "{detail}"),
        report => panic!("{report:?}"),
    }
}
