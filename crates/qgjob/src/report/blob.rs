//! Playwright's blob reports, as far as they must be understood to merge those of several agents: a zip file with the events of
//! a run, `report.jsonl`, and its attachments, `resources/…`.
//!
//! A blob comes from a process that ran foreign code, and Playwright believes what is in it: it writes each entry of the zip
//! where the entry's name says, and copies into the report what an event calls an attachment or a source file. So nothing is
//! merged but what [`copy`] made of it.

use std::io::{BufRead, BufReader, Cursor, Read, Seek, Write};
use std::path::{Component, Path, PathBuf};

use serde_json::{Value, json};
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

const EVENTS: &str = "report.jsonl";
const RESOURCES: &str = "resources/";
const MOST_ENTRIES: usize = 20_000;
/// Unpacked, of one blob.
const MOST_BYTES: u64 = 4 << 30;
/// Of its events.
const MOST_EVENTS: u64 = 512 << 20;

/// Why a blob is not merged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unsound(String);

fn unsound(why: impl Into<String>) -> Unsound {
    Unsound(why.into())
}

/// What a blob says of the run that it is of.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// Of its events' form.
    version: u64,
    /// Its configuration, without what is of that run alone.
    config: Value,
}

/// Copies a blob, so that it can be merged with those of other agents as if it had run in the project at `project`: with the
/// folder of the tests there, and packages in its `node_modules`.
///
/// # Errors
/// What makes it unfit to be merged, or that `to` cannot be written.
pub fn copy(from: impl Read + Seek, project: &Path, to: impl Write + Seek) -> Result<Origin, Unsound> {
    let mut from = ZipArchive::new(from).map_err(|error| unsound(format!("it is no zip file: {error}")))?;
    check_entries(&mut from)?;
    let mut to = ZipWriter::new(to);
    let options = SimpleFileOptions::default().large_file(true);
    to.start_file(EVENTS, options).map_err(cannot_copy)?;
    let events = from.by_name(EVENTS).map_err(|_| unsound(format!("it has no {EVENTS}")))?;
    let origin = copy_events(BufReader::new(events.take(MOST_EVENTS + 1)), project, &mut to)?;
    for at in 0..from.len() {
        let entry = from.by_index_raw(at).map_err(cannot_copy)?;
        if entry.name_raw() != EVENTS.as_bytes() {
            to.raw_copy_file(entry).map_err(cannot_copy)?;
        }
    }
    to.finish().map_err(cannot_copy)?;
    Ok(origin)
}

fn cannot_copy(error: impl std::fmt::Display) -> Unsound {
    unsound(format!("it cannot be copied: {error}"))
}

fn check_entries(zip: &mut ZipArchive<impl Read + Seek>) -> Result<(), Unsound> {
    if zip.len() > MOST_ENTRIES {
        return Err(unsound(format!("it has more than {MOST_ENTRIES} entries")));
    }
    let mut bytes = 0_u64;
    for at in 0..zip.len() {
        let entry = zip.by_index_raw(at).map_err(cannot_copy)?;
        let name = String::from_utf8_lossy(entry.name_raw());
        bytes = bytes.saturating_add(entry.size());
        if name != EVENTS && !is_resource(&name) {
            return Err(unsound(format!("it has an entry {name:?}")));
        }
    }
    if bytes > MOST_BYTES {
        return Err(unsound(format!("it holds more than {MOST_BYTES} bytes")));
    }
    Ok(())
}

/// Whether a name stays in the folder of attachments.
fn is_resource(name: &str) -> bool {
    let plain = |name: &str| {
        let fit = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        !name.is_empty() && name.len() <= 255 && !name.starts_with('.') && name.bytes().all(fit)
    };
    name.strip_prefix(RESOURCES).is_some_and(plain)
}

fn copy_events(mut from: impl BufRead, project: &Path, to: &mut impl Write) -> Result<Origin, Unsound> {
    let (mut version, mut config, mut read, mut up) = (None, None, 0, 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        match from.read_until(b'\n', &mut line).map_err(cannot_copy)? {
            0 => break,
            bytes => read += bytes as u64,
        }
        if read > MOST_EVENTS {
            return Err(unsound(format!("it has more than {MOST_EVENTS} bytes of events")));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let mut event: Value = serde_json::from_slice(&line)
            .map_err(|error| unsound(format!("an event is no JSON: {error}")))?;
        match event["method"].as_str() {
            Some("onBlobReportMetadata") => {
                // Playwright replaces the separators of another system in every path.
                if event["params"]["pathSeparator"] != "/" {
                    return Err(unsound("it is of another operating system"));
                }
                version = event["params"]["version"].as_u64();
            }
            Some("onConfigure") => {
                let told = &mut event["params"]["config"];
                up = folders_up(told);
                told["rootDir"] = test_dir(told, project).display().to_string().into();
                config = Some(told.clone());
            }
            Some(_) => {}
            None => return Err(unsound("an event has no name")),
        }
        keep_inside(&mut event, up)?;
        serde_json::to_writer(&mut *to, &event).map_err(cannot_copy)?;
        to.write_all(b"\n").map_err(cannot_copy)?;
    }
    match (version, config) {
        (Some(version), Some(mut config)) if config.is_object() => {
            config["metadata"] = json!({});
            config["workers"] = json!(0);
            Ok(Origin { version, config })
        }
        _ => Err(unsound("it does not say which Playwright made it")),
    }
}

fn config_file(config: &Value) -> &Path {
    Path::new(config["configFile"].as_str().unwrap_or_default())
}

/// How many folders above that of its tests the project is.
fn folders_up(config: &Value) -> usize {
    config_file(config).components().filter(|part| *part == Component::ParentDir).count()
}

/// Where the tests are in the same project at `project`, by where they were on the agent: Playwright tells the folder of the
/// tests, and where the configuration is from there.
fn test_dir(config: &Value, project: &Path) -> PathBuf {
    let (up, root) = (folders_up(config), Path::new(config["rootDir"].as_str().unwrap_or_default()));
    let down = config_file(config).parent().map_or(0, |dir| dir.components().count()).saturating_sub(up);
    let mut dir = project.to_owned();
    for _ in 0..down {
        dir.pop();
    }
    let names: Vec<_> = root.components().filter(|part| matches!(part, Component::Normal(_))).collect();
    dir.extend(&names[names.len().saturating_sub(up)..]);
    dir
}

/// Refuses attachments that are not in the blob, and leads the names of source files into the project, which begins `up` folders
/// above its tests: on an agent, packages are elsewhere.
fn keep_inside(value: &mut Value, up: usize) -> Result<(), Unsound> {
    match value {
        Value::Array(items) => items.iter_mut().try_for_each(|item| keep_inside(item, up)),
        Value::Object(fields) => {
            for attachment in fields.get("attachments").and_then(Value::as_array).into_iter().flatten() {
                match attachment.get("path") {
                    None | Some(Value::Null) => {}
                    Some(Value::String(path)) if is_resource(path) => {}
                    Some(path) => return Err(unsound(format!("an attachment is at {path}"))),
                }
            }
            if let Some(Value::String(file)) = fields.get_mut("file")
                && let Some(inside) = led_inside(file, up)
            {
                *file = inside;
            }
            fields.values_mut().try_for_each(|value| keep_inside(value, up))
        }
        _ => Ok(()),
    }
}

/// The name of a file outside the project as one inside of it; none for those that are inside.
fn led_inside(file: &str, up: usize) -> Option<String> {
    let (mut depth, mut deepest) = (0_i64, 0_i64);
    let mut names = Vec::new();
    for part in Path::new(file).components() {
        match part {
            Component::ParentDir => depth -= 1,
            Component::Normal(name) => {
                depth += 1;
                names.push(name.to_string_lossy());
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
        deepest = deepest.min(depth);
    }
    if deepest >= -(up as i64) {
        return None;
    }
    let from = names.iter().position(|name| name == "node_modules").unwrap_or(0);
    Some(format!("{}{}", "../".repeat(up), names[from..].join("/")))
}

/// A blob that tells of a job without one: Playwright shows `message` above all tests, and the run as failed.
///
/// # Errors
/// When it cannot be zipped, which memory alone can be the cause of.
pub fn of_missing(origin: &Origin, message: &str, at_ms: i64) -> zip::result::ZipResult<Vec<u8>> {
    let events = [
        json!({"method": "onBlobReportMetadata", "params": {"version": origin.version, "pathSeparator": "/"}}),
        json!({"method": "onConfigure", "params": {"config": origin.config}}),
        json!({"method": "onBegin"}),
        json!({"method": "onError", "params": {"error": {"message": crate::text::tame(message, false)}}}),
        json!({"method": "onEnd", "params": {"result": {"status": "failed", "startTime": at_ms, "duration": 0}}}),
    ];
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file(EVENTS, SimpleFileOptions::default())?;
    for event in events {
        zip.write_all(event.to_string().as_bytes())?;
        zip.write_all(b"\n")?;
    }
    Ok(zip.finish()?.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = concat!(
        r#"{"method":"onBlobReportMetadata","params":{"version":2,"pathSeparator":"/"}}"#,
        "\n",
        r#"{"method":"onConfigure","params":{"config":{"rootDir":"/agent/7/work/e2e/tests","configFile":"../../appwright.config.ts","version":"1.59.1","workers":1,"metadata":{"actualWorkers":1}}}}"#,
        "\n"
    );

    fn blob(entries: &[(&str, &str)]) -> Cursor<Vec<u8>> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, text) in entries {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(text.as_bytes()).unwrap();
        }
        zip.finish().unwrap()
    }

    type Copied = (Origin, ZipArchive<Cursor<Vec<u8>>>);

    fn copied(from: impl Read + Seek) -> Result<Copied, Unsound> {
        let mut to = Cursor::new(Vec::new());
        let origin = copy(from, Path::new("/home/me/app"), &mut to)?;
        Ok((origin, ZipArchive::new(to).unwrap()))
    }

    /// The events of a copy of a blob that has these after its head.
    fn with(events: &str) -> Result<Vec<Value>, Unsound> {
        let (_, mut zip) = copied(blob(&[("report.jsonl", &format!("{HEAD}{events}"))]))?;
        let mut text = String::new();
        zip.by_name(EVENTS).unwrap().read_to_string(&mut text).unwrap();
        Ok(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    #[test]
    fn the_tests_of_an_agent_are_led_to_the_project_here() {
        assert_eq!(with("").unwrap()[1]["params"]["config"]["rootDir"], "/home/me/app/e2e/tests");
        let at = |root: &str, config: &str| {
            test_dir(&json!({"rootDir": root, "configFile": config}), Path::new("/home/me/app"))
        };
        assert_eq!(at("/agent/work", "appwright.config.ts"), Path::new("/home/me/app"));
        assert_eq!(at("/agent", "work/appwright.config.ts"), Path::new("/home/me"));
        assert_eq!(at("/", "../../../x.ts"), Path::new("/home/me/app"));
        let in_file = |file: &str| {
            let step = json!({"title": "s", "location": {"file": file, "line": 1, "column": 1}});
            let events =
                with(&json!({"method": "onStepBegin", "params": {"step": step}}).to_string()).unwrap();
            events[2]["params"]["step"]["location"]["file"].as_str().unwrap().to_owned()
        };
        for inside in ["a.spec.js", "deep/b.spec.js", "../../support/login.js", "../x/../../y.js"] {
            assert_eq!(in_file(inside), inside);
        }
        for (outside, led) in [
            (
                "../../../../cache/1/node_modules/appwright/dist/index.js",
                "../../node_modules/appwright/dist/index.js",
            ),
            ("../../../../../etc/passwd", "../../etc/passwd"),
            ("a/../../../../etc/passwd", "../../a/etc/passwd"),
        ] {
            assert_eq!(in_file(outside), led);
        }
    }

    #[test]
    fn attachments_are_copied_and_what_would_be_written_or_read_elsewhere_is_refused() {
        let (_, mut zip) = copied(blob(&[("report.jsonl", HEAD), ("resources/0a.png", "image")])).unwrap();
        let mut text = String::new();
        zip.by_name("resources/0a.png").unwrap().read_to_string(&mut text).unwrap();
        assert_eq!((zip.len(), text.as_str()), (2, "image"));
        for name in [
            "../x",
            "/etc/cron.d/x",
            "resources/../../x",
            "resources/",
            "a.jsonl",
            "resources/.x",
            "resources\\x",
        ] {
            assert!(copied(blob(&[("report.jsonl", HEAD), (name, "")])).is_err(), "{name}");
        }
        let attached = |path: &str| {
            let attachment = json!({"name": "a", "contentType": "text/plain", "path": path});
            with(
                &json!({"method": "onTestEnd", "params": {"result": {"attachments": [attachment]}}})
                    .to_string(),
            )
        };
        assert!(attached("resources/0a1b.png").is_ok());
        for path in ["/etc/passwd", "../../../etc/passwd", "resources/../../x", "resources", ""] {
            assert!(attached(path).is_err(), "{path}");
        }
    }

    #[test]
    fn what_is_no_blob_is_refused() {
        assert!(copied(Cursor::new(b"no zip".to_vec())).is_err());
        assert!(copied(blob(&[("resources/a.png", "")])).is_err());
        for events in ["", "{", "null\n", "{\"method\":1}\n", "[[[[\n"] {
            assert!(copied(blob(&[("report.jsonl", events)])).is_err(), "{events:?}");
        }
        let windows = HEAD.replace(r#""pathSeparator":"/""#, r#""pathSeparator":"\\""#);
        assert_ne!(windows, HEAD);
        assert!(copied(blob(&[("report.jsonl", &windows)])).is_err());
    }

    #[test]
    fn a_missing_job_is_told_in_a_blob_that_is_sound() {
        let (origin, _) = copied(blob(&[("report.jsonl", HEAD)])).unwrap();
        let made = of_missing(&origin, "a.spec.js: errored\u{1b}[2J", 5).unwrap();
        let (_, mut zip) = copied(Cursor::new(made)).unwrap();
        let mut text = String::new();
        zip.by_name(EVENTS).unwrap().read_to_string(&mut text).unwrap();
        assert!(text.contains("a.spec.js: errored\"") && text.contains("\"status\":\"failed\""), "{text}");
    }
}
