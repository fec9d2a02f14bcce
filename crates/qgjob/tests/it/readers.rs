//! Programs of others that read reports: a browser, and parsers from PyPI and npm. `make install` installs them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools")
}

fn said(command: &mut Command) -> String {
    let done = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; `make install` installs what it needs"));
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// What a browser makes of a page whose scripts show `awaited` in the end. The browser's clock runs ahead of what other threads do
/// for the page, so it may have to look again.
pub fn shown(page: &Path, awaited: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let text = dumped(page);
        if text.contains(awaited) || Instant::now() > deadline {
            // A page's scripts and styles would hide why a test fails.
            let body = text.rsplit_once("<body").map_or(text.as_str(), |(_, body)| body);
            assert!(text.contains(awaited), "{awaited:?} is not in {body}");
            return text;
        }
    }
}

fn dumped(page: &Path) -> String {
    let profile = tempfile::tempdir().unwrap();
    said(
        Command::new("chromium")
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom"])
            .arg("--virtual-time-budget=20000")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(format!("file://{}", page.display())),
    )
}

/// What junitparser makes of a JUnit report: the totals that it states and those of its cases, and each case.
pub fn junit(report: &Path) -> Value {
    let text =
        said(Command::new(tools().join(".venv/bin/python")).arg(tools().join("read-junit.py")).arg(report));
    serde_json::from_str(&text).unwrap()
}

/// What Allure's reader makes of its results, or of a JUnit report: the test results alone.
pub fn allure(files: &[PathBuf]) -> Vec<Value> {
    let text = said(Command::new("node").arg(tools().join("read-results.mjs")).args(files));
    let all = text.lines().map(|line| serde_json::from_str(line).unwrap());
    all.filter(|one: &Value| one.get("status").is_some()).collect()
}

/// The files of a folder.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}
