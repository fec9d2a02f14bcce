//! What a project says about itself.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Ci;
use crate::bundle::{self, Bundle};
use crate::cli::doctor;
use crate::cli::failure::{Failure, Result};
use crate::cli::submit::select_failure;

/// A project in its checkout.
#[derive(Debug)]
pub struct Facts {
    /// The folder with `package.json`.
    pub project: PathBuf,
    /// The root of the checkout; the project itself where there is no git.
    pub root: PathBuf,
    /// The CIs whose files are there, else the one that its remote suggests.
    pub cis: Vec<Ci>,
    /// What keeps the project from being run, which can be mended later.
    pub warnings: Vec<String>,
    bundle: Option<Bundle>,
}

/// How the app is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppBuild {
    /// The command, in the root of the checkout.
    pub command: String,
    /// What it leaves, from there.
    pub path: String,
}

impl Facts {
    /// Of the project that `dir` is in.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(dir: &Path) -> Result<Self> {
        let project = bundle::find_project(dir).ok_or_else(|| {
            Failure::in_no_project(dir)
                .hint("run this in the project that holds your tests, or name it with --project-dir")
        })?;
        let root = project.ancestors().find(|at| at.join(".git").exists()).unwrap_or(&project).to_owned();
        let warnings = doctor::project_problems(&project);
        let (cis, bundle) = (cis(&root), bundle::collect(&project).ok());
        Ok(Self { project, root, cis, warnings, bundle })
    }

    /// The project's folder from the root of the checkout; none when they are the same.
    pub fn subfolder(&self) -> Option<String> {
        let inside = self.project.strip_prefix(&self.root).ok()?.to_str()?;
        Some(inside.to_owned()).filter(|inside| !inside.is_empty())
    }

    /// The tests to submit: those that were named, else the folders that hold test files.
    ///
    /// # Errors
    /// When what was named means no test.
    pub fn tests(&self, named: &[String]) -> Result<Vec<String>> {
        let Some(bundle) = &self.bundle else {
            let named = if named.is_empty() { vec!["tests".to_owned()] } else { named.to_vec() };
            return Ok(named);
        };
        if !named.is_empty() {
            bundle.select(&self.project, named).map_err(|error| select_failure(error, bundle))?;
            return Ok(named.to_vec());
        }
        // The first folder of each test's path: `tests/a/b.spec.ts` is in `tests`.
        let folders: BTreeSet<String> = bundle
            .tests()
            .map(|test| test.split_once('/').map_or(test, |(folder, _)| folder).to_owned())
            .collect();
        Ok(if folders.is_empty() { vec!["tests".to_owned()] } else { folders.into_iter().collect() })
    }

    /// How the app is built: as was said, else by Gradle where its wrapper is.
    ///
    /// # Errors
    /// When the path could not be written into a workflow as it is.
    pub fn app(&self, path: Option<&str>, command: Option<&str>) -> Result<Option<AppBuild>> {
        let gradle =
            [".", "android"].into_iter().find(|folder| self.root.join(folder).join("gradlew").is_file());
        let (command, found) = match gradle {
            Some(".") => {
                (command.map(str::to_owned).or(Some("./gradlew assembleDebug".into())), Some(APK.to_owned()))
            }
            Some(folder) => (
                command.map(str::to_owned).or(Some(format!("cd {folder} && ./gradlew assembleDebug"))),
                Some(format!("{folder}/{APK}")),
            ),
            None => (command.map(str::to_owned), None),
        };
        let Some(path) = path.map(str::to_owned).or(found) else { return Ok(None) };
        simple_path("--app", &path)?;
        let Some(command) = command else {
            return Err(Failure::usage("nothing says how the app is built")
                .hint("add --build=<command>, which leaves it at the path of --app"));
        };
        if command.contains(['\n', '\r']) || command.trim().is_empty() {
            return Err(
                Failure::usage("--build is one line of shell").hint("put more into a script, and name it")
            );
        }
        Ok(Some(AppBuild { command, path }))
    }
}

/// Where Android's Gradle plugin leaves a debug build of the module `app`.
const APK: &str = "app/build/outputs/apk/debug/app-debug.apk";

/// Refuses what would need quotes somewhere in YAML or a shell.
pub fn simple_path(what: &str, path: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._/+-".contains(c);
    let relative = path.split('/').all(|part| !part.is_empty() && part != ".." && !part.starts_with('-'));
    if relative && path.chars().all(allowed) {
        return Ok(());
    }
    Err(Failure::usage(format!("{what} {path:?} cannot be written into a workflow"))
        .hint("use a path inside the checkout, of A-Z a-z 0-9 . _ / + - only"))
}

fn cis(root: &Path) -> Vec<Ci> {
    let signs = [
        (Ci::Github, ".github/workflows"),
        (Ci::Gitlab, ".gitlab-ci.yml"),
        (Ci::Gitlab, ".gitlab"),
        (Ci::Buildkite, ".buildkite"),
        (Ci::Circleci, ".circleci"),
    ];
    let mut found: Vec<Ci> =
        signs.into_iter().filter(|(_, sign)| root.join(sign).exists()).map(|(ci, _)| ci).collect();
    found.dedup();
    if found.is_empty() {
        found.extend(remote(root).and_then(|url| suggested(&url)));
    }
    found
}

fn suggested(remote: &str) -> Option<Ci> {
    // `https://host/…`, `ssh://git@host/…` or `git@host:…`.
    let after = remote.split_once("://").map_or(remote, |(_, rest)| rest);
    let host = after.split(['/', ':']).next()?.rsplit('@').next()?;
    [("github", Ci::Github), ("gitlab", Ci::Gitlab)]
        .into_iter()
        .find(|(word, _)| host.split('.').any(|part| part == *word))
        .map(|(_, ci)| ci)
}

fn remote(root: &Path) -> Option<String> {
    let mut command = Command::new("git");
    command
        .args(["remote", "get-url", "origin"])
        .current_dir(root)
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remote_suggests_the_ci_by_its_host() {
        for (remote, ci) in [
            ("git@github.com:qualgent/app.git", Some(Ci::Github)),
            ("https://github.com/qualgent/gitlab", Some(Ci::Github)),
            ("ssh://git@gitlab.example.com:2222/app.git", Some(Ci::Gitlab)),
            ("https://token@gitlab.com/app", Some(Ci::Gitlab)),
            ("https://git.example.com/github/app", None),
            ("/srv/git/app.git", None),
        ] {
            assert_eq!(suggested(remote), ci, "{remote}");
        }
    }

    #[test]
    fn paths_that_need_quotes_are_refused() {
        for good in ["app.apk", "a/b-c_d/app+1.apk"] {
            assert!(simple_path("--app", good).is_ok(), "{good}");
        }
        for bad in ["", "/a", "a//b", "../a", "a b", "-a", "a/-b", "$a", "a'b", "ä", "a/"] {
            assert!(simple_path("--app", bad).is_err(), "{bad}");
        }
    }
}
