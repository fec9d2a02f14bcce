//! The house's rules that the compiler does not enforce: who may know whom, how long a file may be, what a file may
//! be called. A violation names file and line.

use std::fs;
use std::path::{Path, PathBuf};

/// For each place, the modules of its own crate that it may use. A place that is not listed may use none but itself.
const MAY_USE: &[(&str, &str, &[&str])] = &[
    ("qgjob-core", "clock", &[]),
    ("qgjob-core", "model", &[]),
    ("qgjob-core", "queue", &["model"]),
    ("qgjob-core", "trust", &["model"]),
    ("qgjob-core", "api", &["model"]),
    ("qgjob-server", "store", &[]),
    ("qgjob-server", "blobs", &[]),
    ("qgjob-server", "logs", &[]),
    ("qgjob-server", "config", &[]),
    ("qgjob-server", "oidc", &[]),
    ("qgjob-server", "metrics", &["store"]),
    ("qgjob-server", "dispatch", &["store", "forecasts"]),
    ("qgjob-server", "forecasts", &["store"]),
    // Secrets are made for the HTTP API and for the first start; whoever makes one hashes it here.
    ("qgjob-server", "credential", &["store", "config"]),
    // What routes and duties share, so that neither needs the other.
    (
        "qgjob-server",
        "app",
        &["store", "blobs", "logs", "config", "dispatch", "forecasts", "metrics", "oidc"],
    ),
    ("qgjob-server", "background", &["app"]),
    (
        "qgjob-server",
        "http",
        &[
            "app",
            "store",
            "blobs",
            "logs",
            "config",
            "credential",
            "dispatch",
            "forecasts",
            "metrics",
            "oidc",
        ],
    ),
    (
        "qgjob-server",
        "run",
        &[
            "http",
            "background",
            "app",
            "credential",
            "store",
            "blobs",
            "logs",
            "config",
            "dispatch",
            "forecasts",
            "metrics",
            "oidc",
        ],
    ),
    ("qgjob-simulation", "random", &[]),
    ("qgjob-simulation", "moment", &[]),
    ("qgjob-simulation", "parallel", &[]),
    ("qgjob-simulation", "workload", &["random", "moment"]),
    ("qgjob-simulation", "fleet", &["workload"]),
    ("qgjob-simulation", "policy", &["fleet", "workload", "random", "moment"]),
    ("qgjob-simulation", "engine", &["policy", "fleet", "workload", "random", "moment"]),
    ("qgjob-simulation", "bounds", &["workload", "moment"]),
    ("qgjob-simulation", "metrics", &["bounds", "engine", "policy", "workload"]),
    ("qgjob-simulation", "report", &["engine", "metrics", "parallel", "policy", "workload"]),
    ("qgjob-simulation", "chart", &["engine", "metrics", "policy", "workload"]),
    (
        "qgjob-simulation",
        "benchmark",
        &["report", "metrics", "parallel", "policy", "workload", "random", "moment"],
    ),
    // Packing and unpacking keep to one set of names and limits.
    ("qgjob", "archive", &[]),
    ("qgjob", "bundle", &["archive"]),
    ("qgjob", "client", &[]),
    ("qgjob", "config", &["client"]),
    // Pure functions on texts and numbers.
    ("qgjob", "text", &[]),
    ("qgjob", "report", &["client", "text"]),
    ("qgjob", "output", &["config", "text"]),
    ("qgjob", "telemetry", &["config"]),
    ("qgjob", "ci", &["config", "report", "text"]),
    ("qgjob", "agent", &["archive", "bundle"]),
    ("qgjob", "cli", &["agent", "bundle", "ci", "client", "config", "output", "report", "telemetry", "text"]),
    ("qgjob", "main", &["cli"]),
];

/// Crates that a place may not use, beyond what its manifest forbids.
const MAY_NOT_USE: &[(&str, &str, &[&str])] = &[
    ("qgjob", "agent", &["qgjob_server", "qgjob_simulation"]),
    ("qgjob", "client", &["qgjob_server"]),
    ("qgjob", "bundle", &["qgjob_server"]),
    ("qgjob-server", "store", &["axum"]),
    ("qgjob-server", "dispatch", &["axum", "rusqlite", "tokio_postgres", "deadpool_postgres"]),
    ("qgjob-server", "oidc", &["axum", "rusqlite", "tokio_postgres", "deadpool_postgres"]),
    ("qgjob-server", "http", &["rusqlite", "tokio_postgres", "deadpool_postgres"]),
];

/// What a file may not be called: names that say nothing about what is inside.
const SAYS_NOTHING: &[&str] =
    &["mod", "utils", "util", "common", "helpers", "helper", "misc", "manager", "handler"];

const LONGEST_FILE: usize = 800;

struct Source {
    krate: String,
    /// The module at the crate's root that the file belongs to.
    place: String,
    path: PathBuf,
    lines: Vec<String>,
}

fn sources() -> Vec<Source> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("crates/ is above").to_owned();
    let mut sources = Vec::new();
    for krate in ["qgjob-core", "qgjob-server", "qgjob", "qgjob-simulation", "simulated-android"] {
        let src = crates.join(krate).join("src");
        let mut files = Vec::new();
        gather(&src, &mut files);
        for path in files {
            let inside = path.strip_prefix(&src).expect("found below src");
            let first = inside.components().next().expect("a file has a name").as_os_str().to_string_lossy();
            let place = first.trim_end_matches(".rs").to_owned();
            let text = fs::read_to_string(&path).expect("sources are UTF-8");
            let lines = text.lines().map(str::to_owned).collect();
            sources.push(Source { krate: krate.to_owned(), place, path, lines });
        }
    }
    assert!(sources.len() > 40, "the sources were not found");
    sources
}

fn gather(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a source folder can be read") {
        let path = entry.expect("an entry can be read").path();
        if path.is_dir() {
            gather(&path, files);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
}

/// The modules at the crate's root that a text uses, each with its line: `use crate::x…`, `use crate::{x, y::z}`, or
/// `crate::x` in the middle of code.
fn uses<'a>(lines: &'a [String], root: &str) -> Vec<(usize, &'a str)> {
    let code: Vec<(usize, &str)> = lines
        .iter()
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(at, line)| (at + 1, line.as_str()))
        .collect();
    let mut found = Vec::new();
    for (at, (number, line)) in code.iter().enumerate() {
        for (start, _) in line.match_indices(root) {
            let rest = &line[start + root.len()..];
            let Some(group) = rest.strip_prefix('{') else {
                found.push((*number, first_word(rest)));
                continue;
            };
            let mut depth = 1;
            let mut begins = true;
            let following = code[at + 1..].iter().copied();
            'group: for (number, text) in std::iter::once((*number, group)).chain(following) {
                for (at, letter) in text.char_indices() {
                    match letter {
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        ',' if depth == 1 => begins = true,
                        letter if begins && !letter.is_whitespace() => {
                            found.push((number, first_word(&text[at..])));
                            begins = false;
                        }
                        _ => {}
                    }
                    if depth == 0 {
                        break 'group;
                    }
                }
            }
        }
    }
    found.retain(|(_, module)| !module.is_empty());
    found
}

fn first_word(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
}

#[test]
fn modules_know_only_whom_they_may() {
    let mut violations = Vec::new();
    for source in
        sources().iter().filter(|source| source.krate != "simulated-android" && source.place != "lib")
    {
        let allowed =
            MAY_USE.iter().find(|(krate, place, _)| *krate == source.krate && *place == source.place);
        let Some((_, _, allowed)) = allowed else {
            violations.push(format!(
                "{}: the place {} is not in the table",
                source.path.display(),
                source.place
            ));
            continue;
        };
        let own = if source.place == "main" { "qgjob::" } else { "crate::" };
        for (line, module) in uses(&source.lines, own) {
            if module != source.place && !allowed.contains(&module) {
                violations.push(format!(
                    "{}:{line}: {} must not know {module}",
                    source.path.display(),
                    source.place
                ));
            }
        }
    }
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn crates_stay_behind_their_walls() {
    let mut violations = Vec::new();
    for source in sources() {
        let forbidden =
            MAY_NOT_USE.iter().find(|(krate, place, _)| *krate == source.krate && *place == source.place);
        let Some((_, _, forbidden)) = forbidden else { continue };
        for other in *forbidden {
            for (line, _) in uses(&source.lines, &format!("{other}::")) {
                violations.push(format!(
                    "{}:{line}: {} must not use {other}",
                    source.path.display(),
                    source.place
                ));
            }
        }
    }
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn the_rules_do_no_io() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../qgjob-core/Cargo.toml");
    let manifest = fs::read_to_string(manifest).expect("core has a manifest");
    for forbidden in ["tokio", "axum", "reqwest", "rusqlite", "tracing"] {
        assert!(!manifest.contains(forbidden), "qgjob-core must not depend on {forbidden}");
    }
    for source in sources().iter().filter(|source| source.krate == "qgjob-core") {
        for (at, line) in source.lines.iter().enumerate() {
            for outside in ["std::fs", "std::net", "std::process", "std::env"] {
                assert!(
                    !line.contains(outside),
                    "{}:{}: {outside} in the rules",
                    source.path.display(),
                    at + 1
                );
            }
        }
    }
}

#[test]
fn files_are_short_and_have_names_that_say_something() {
    for source in sources() {
        let lines = source.lines.len();
        assert!(lines <= LONGEST_FILE, "{}: {lines} lines, at most {LONGEST_FILE}", source.path.display());
        let name = source.path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        assert!(!SAYS_NOTHING.contains(&name.as_str()), "{}: the name says nothing", source.path.display());
    }
}

#[test]
fn a_planted_violation_is_seen() {
    let found = |text: &str| {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        uses(&lines, "crate::")
            .into_iter()
            .map(|(line, module)| format!("{line} {module}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    assert_eq!(found("use crate::store::Error;"), "1 store");
    assert_eq!(found("\n    let x = crate::http::f(crate::blobs::g());"), "2 http, 2 blobs");
    assert_eq!(found("    // crate::http is not used here"), "");
    assert_eq!(found("use crate::{blobs, store::{self, Store}, http};"), "1 blobs, 1 store, 1 http");
    assert_eq!(found("use crate::{\n    blobs::{a, b},\n    http,\n};\nlet c = d;"), "2 blobs, 3 http");
}
