//! The examples are what `qgjob init` writes for an ordinary project, so that neither can be wrong alone.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::documents::{Document, Kind, root};

pub const CIS: [(&str, Kind, &str); 4] = [
    ("github", Kind::GithubWorkflow, ".github/workflows/qgjob.yml"),
    ("gitlab", Kind::Gitlab, ".gitlab-ci.yml"),
    ("buildkite", Kind::Buildkite, ".buildkite/pipeline.yml"),
    ("circleci", Kind::Circleci, ".circleci/config.yml"),
];

/// Lays out a project with an app built by Gradle, `folder` being where its tests are.
pub fn project(dir: &Path, folder: &str) {
    let tests = dir.join(folder).join("tests");
    fs::create_dir_all(&tests).unwrap();
    fs::create_dir_all(dir.join(".git")).unwrap();
    fs::write(dir.join("gradlew"), "#!/bin/sh\n").unwrap();
    fs::write(dir.join(folder).join("package.json"), "{}").unwrap();
    fs::write(dir.join(folder).join("package-lock.json"), "{\"lockfileVersion\":3,\"packages\":{}}").unwrap();
    fs::write(tests.join("login.spec.js"), "// a test\n").unwrap();
}

/// Runs `qgjob init` there, without a configuration of its own and in CI.
pub fn initialize(dir: &Path, flags: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qgjob"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("CI", "true").current_dir(dir);
    let done = command.arg("init").args(flags).output().unwrap();
    assert!(done.status.success(), "{flags:?}: {done:?}");
}

/// A workflow for each CI and each kind of project.
pub fn written(scratch: &Path) -> Vec<Document> {
    let mut documents = Vec::new();
    for (ci, kind, path) in CIS {
        for folder in ["", "e2e"] {
            for (name, app) in [
                ("built", &[][..]),
                ("elsewhere", &["--app-version-id=12"]),
                ("commit", &[]),
                ("command", &["--app=out/app.apk", "--build=make \"$HOME\" OUT=out << x"]),
            ] {
                let dir = scratch.join(format!("{ci}-{folder}-{name}"));
                project(&dir, folder);
                if matches!(name, "elsewhere" | "commit") {
                    fs::remove_file(dir.join("gradlew")).unwrap();
                }
                let mut flags = vec!["--ci", ci, "--org-id=qualgent", "--server=https://farm.example"];
                flags.extend(app);
                initialize(&dir.join(folder), &flags);
                documents.push(Document {
                    place: format!("qgjob init {}", flags.join(" ")),
                    kind,
                    path: dir.join(path),
                });
            }
        }
    }
    documents
}

#[test]
fn the_examples_are_what_init_writes() {
    let scratch = tempfile::tempdir().unwrap();
    let update = std::env::var_os("QGJOB_UPDATE_DOCS").is_some();
    let mut stale = Vec::new();
    for (ci, _, path) in CIS {
        let dir = scratch.path().join(ci);
        project(&dir, "");
        initialize(&dir, &["--ci", ci, "--org-id=qualgent", "--server=https://qgjob.example.com"]);
        let text = fs::read_to_string(dir.join(path)).unwrap();
        let example = root().join("examples/ci").join(format!("{ci}.yml"));
        if update {
            fs::create_dir_all(example.parent().unwrap()).unwrap();
            fs::write(&example, &text).unwrap();
        }
        if fs::read_to_string(&example).unwrap_or_default() != text {
            stale.push(ci);
        }
    }
    assert!(
        stale.is_empty(),
        "stale: {stale:?}. To update them: QGJOB_UPDATE_DOCS=1 cargo test -p qgjob --test it examples"
    );
}
