//! Playwright's blob reports of a run's jobs, and its HTML report made from them by the project's own Playwright.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use qgjob_core::model::artifact::Artifact;
use qgjob_core::model::exit::ExitCode;

use super::super::Context;
use super::super::failure::{Failure, Result};
use super::super::submit::blocking;
use super::{Model, files};
use crate::bundle;
use crate::client::Client;
use crate::output::{count, plain};
use crate::report::blob::{self, Origin};
use crate::report::{JobReport, Remark};

/// Under this name an agent keeps Playwright's blob report of an attempt.
const BLOB: &str = "blob/report.zip";
/// The project's Playwright.
const PLAYWRIGHT: &str = "node_modules/@playwright/test/cli.js";
/// What is in a folder that Playwright's HTML reporter wrote.
const OF_A_REPORT: [&str; 3] = ["index.html", "data", "trace"];

/// A job with the blob of its attempt that counts.
pub struct Blob<'a> {
    job: &'a JobReport,
    artifact: &'a Artifact,
    /// A file name that no other blob of the run has, and that sorts in the order of submission.
    name: String,
}

/// The blobs of a report.
///
/// # Errors
/// Exit code 5: there is none.
pub fn blobs(report: &Model) -> Result<Vec<Blob<'_>>> {
    let found: Vec<_> = report
        .jobs
        .iter()
        .enumerate()
        .filter_map(|(at, job)| {
            let artifact = of_last_attempt(job)?;
            let name = format!("{:04}-{}-{}.zip", at + 1, slug(&job.job.job.spec.named()), job.job.job.id);
            Some(Blob { job, artifact, name })
        })
        .collect();
    if found.is_empty() {
        let of = report.only_job.map_or(report.run.run.id.to_string(), |job| job.to_string());
        return Err(Failure::new(ExitCode::NotFound, format!("{of} has no blob report of Playwright"))
            .cause("no attempt came as far as to write one, or an agent of an earlier version ran it")
            .hint("`qgjob report html` needs none"));
    }
    Ok(found)
}

/// Its name comes with the latest attempt that left one: an attempt before the one that counts is no result.
fn of_last_attempt(job: &JobReport) -> Option<&Artifact> {
    let last = job.artifacts.iter().map(|artifact| artifact.attempt_id).max()?;
    let counts = job.results.first().is_none_or(|test| test.attempt_id == last);
    job.artifacts.iter().find(|artifact| counts && artifact.attempt_id == last && artifact.name == BLOB)
}

fn slug(text: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    text.chars().map(fit).take(80).collect()
}

/// Downloads blobs into a folder, ready to be merged: as if all had run in the project at `project`.
///
/// # Errors
/// When one cannot be had, or is not what Playwright should be given.
pub async fn download(
    client: &Client,
    blobs: &[Blob<'_>],
    project: &Path,
    dir: &Path,
) -> Result<Vec<Origin>> {
    std::fs::create_dir_all(dir).map_err(|error| files::cannot_write(dir, &error))?;
    let raw = tempfile::Builder::new().prefix("qgjob-blobs-").tempdir();
    let raw = raw.map_err(|error| files::cannot_write(&std::env::temp_dir(), &error))?;
    let wanted = blobs.iter().map(|blob| (blob.artifact, raw.path().join(&blob.name)));
    files::download(client, wanted.collect()).await?;
    let mut origins = Vec::new();
    for one in blobs {
        let (from, to, project) = (raw.path().join(&one.name), dir.join(&one.name), project.to_owned());
        let copying = to.clone();
        let copied = blocking(move || {
            let (from, to) = (File::open(from)?, File::create(copying)?);
            Ok::<_, std::io::Error>(blob::copy(from, &project, to))
        });
        match copied.await?.map_err(|error| files::cannot_write(&to, &error))? {
            Ok(origin) => origins.push(origin),
            Err(error) => {
                _ = std::fs::remove_file(&to);
                let test = plain(&one.job.job.job.spec.named());
                return Err(Failure::new(ExitCode::Infra, format!("the blob report of {test} is not sound"))
                    .cause(error.to_string())
                    .hint("its tests may have changed it; `qgjob report html` needs none"));
            }
        }
    }
    Ok(origins)
}

/// Merges the blobs of a run into Playwright's HTML report.
///
/// # Errors
/// When there is nothing to merge, or Playwright cannot.
pub async fn merge(
    context: &Context,
    client: &Client,
    report: &Model,
    out: &Path,
    project: Option<&Path>,
) -> Result<()> {
    let project = find_project(project)?;
    if !project.join(PLAYWRIGHT).is_file() {
        return Err(Failure::usage(format!("{} has no Playwright installed", project.display()))
            .hint("run `npm ci` there, or name the project with --project-dir"));
    }
    let blobs = blobs(report)?;
    let out = std::path::absolute(out).map_err(|error| files::cannot_write(out, &error))?;
    refuse_what_would_be_lost(&out)?;
    let folder = tempfile::Builder::new().prefix("qgjob-merge-").tempdir();
    let folder = folder.map_err(|error| files::cannot_write(&std::env::temp_dir(), &error))?;
    let dir = folder.path().join("blobs");
    let origins = download(client, &blobs, &project, &dir).await?;
    let Some(origin) = origins.first() else { return Ok(()) };
    let missing = tell_missing(report, &blobs, origin, &dir)?;
    run_playwright(&project, &dir, &out).await?;
    if !missing.is_empty() {
        context.output.warn(format!(
            "{} left no blob report; the report names them above its tests: {}",
            count(missing.len() as u64, "job"),
            missing.join(", ")
        ));
    }
    if !report.carried.is_empty() {
        let carried = count(report.carried.len() as u64, "test");
        context
            .output
            .warn(format!("{carried} of an earlier run, not run again, are in that run's report alone"));
    }
    context.output.done(format!(
        "Playwright's report of {} in {}",
        count(blobs.len() as u64, "job"),
        out.display()
    ));
    Ok(())
}

/// What Playwright cannot know of a job is told by a blob that is made here: how it ended without a verdict, and that it left no
/// blob. Answers the test files of those that left none.
fn tell_missing(report: &Model, blobs: &[Blob<'_>], origin: &Origin, dir: &Path) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    for (at, job) in report.jobs.iter().enumerate() {
        let has_blob = blobs.iter().any(|blob| blob.job.job.job.id == job.job.job.id);
        if has_blob && !job.remark().is_some_and(Remark::is_trouble) {
            continue;
        }
        let test = plain(&job.job.job.spec.named());
        let at_ms = job.job.job.finished_at.unwrap_or(report.made_at).as_millisecond();
        let made =
            blob::of_missing(origin, &format!("{test}: {}", job.ending()), at_ms).map_err(|error| {
                Failure::new(ExitCode::Internal, "a job without results cannot be told")
                    .cause(error.to_string())
            })?;
        files::write(&dir.join(format!("{:04}-{}.zip", at + 1, job.job.job.id)), &made)?;
        if !has_blob {
            missing.push(test);
        }
    }
    Ok(missing)
}

/// The project here.
///
/// # Errors
/// Exit code 2: there is none.
pub fn find_project(named: Option<&Path>) -> Result<PathBuf> {
    let here = std::env::current_dir()
        .map_err(|error| Failure::usage(format!("the current folder is gone: {error}")))?;
    let found = match named {
        Some(dir) => Some(here.join(dir)),
        None => bundle::find_project(&here),
    };
    found.ok_or_else(|| {
        Failure::in_no_project(&here).hint("run this in the project, or name it with --project-dir")
    })
}

/// Playwright empties the folder that it writes to.
fn refuse_what_would_be_lost(out: &Path) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(out) else { return Ok(()) };
    let names: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
    let foreign = names.iter().find(|name| !OF_A_REPORT.iter().any(|known| *name == known));
    match foreign {
        None => Ok(()),
        Some(foreign) => Err(Failure::usage(format!("{} holds more than an earlier report", out.display()))
            .cause(format!("Playwright would delete {}", out.join(foreign).display()))
            .hint("name an empty or a new folder with --out")),
    }
}

async fn run_playwright(project: &Path, blobs: &Path, out: &Path) -> Result<()> {
    let mut command = tokio::process::Command::new("node");
    command.arg(PLAYWRIGHT).arg("merge-reports").arg("--reporter=html").arg(blobs);
    command.current_dir(project).stdin(Stdio::null()).kill_on_drop(true);
    command.env("PLAYWRIGHT_HTML_OUTPUT_DIR", out).env("PLAYWRIGHT_HTML_OPEN", "never");
    let done = command.output().await.map_err(|error| {
        Failure::usage("Playwright cannot be started")
            .cause(format!("node: {error}"))
            .hint("install Node 20 or newer")
    })?;
    if done.status.success() && out.join("index.html").is_file() {
        return Ok(());
    }
    let said = [done.stderr, done.stdout].concat();
    let said = String::from_utf8_lossy(&said);
    let mut failure =
        Failure::new(ExitCode::Infra, format!("Playwright could not merge the reports ({})", done.status));
    for line in said.lines().filter(|line| !line.trim().is_empty()).take(8) {
        failure = failure.cause(line.to_owned());
    }
    Err(failure.hint("the project's Playwright must not be older than the one that the tests ran with"))
}
