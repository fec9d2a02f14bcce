//! The reports that a command which waits writes at the end, whatever the verdict is.

use std::path::{Path, PathBuf};

use qgjob_core::clock::Clock;
use qgjob_core::model::exit::ExitCode;

use super::super::Context;
use super::super::failure::{Failure, Result};
use super::{Model, files, html, json_of, junit_of};
use crate::client::Client;
use crate::client::watch::Subject;

/// Flags that name reports; each of them makes the command wait.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Reports {
    /// At the end, write a JUnit report there; implies --wait
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// At the end, write all that is known as JSON there; implies --wait
    #[arg(long, value_name = "FILE")]
    report_json: Option<PathBuf>,
    /// At the end, write a page index.html into this folder; implies --wait
    #[arg(long, value_name = "DIR")]
    html: Option<PathBuf>,
    /// At the end, download the files of all jobs there; implies --wait
    #[arg(long, value_name = "DIR")]
    artifacts: Option<PathBuf>,
}

impl Reports {
    /// A JUnit report, and the files of all jobs where a folder for them is named.
    pub fn of_pipeline(junit: PathBuf, artifacts: Option<PathBuf>) -> Self {
        Self { junit: Some(junit), artifacts, ..Self::default() }
    }

    /// Whether any is wanted.
    pub fn any(&self) -> bool {
        self.files().next().is_some() || self.artifacts.is_some()
    }

    fn files(&self) -> impl Iterator<Item = PathBuf> {
        let page = self.html.as_deref().map(page);
        [self.junit.clone(), self.report_json.clone(), page].into_iter().flatten()
    }

    /// Sees to it before anything is done that the reports can be written, and that none of an earlier run is taken for this
    /// one's.
    ///
    /// # Errors
    /// Exit code 2: a report cannot be written, or there is more than one thing to report on.
    pub fn prepare(&self, subjects: usize) -> Result<()> {
        if self.any() && subjects != 1 {
            return Err(Failure::usage(format!("reports are of one run or job, not of {subjects}"))
                .hint("leave the flags out and write each with `qgjob report`"));
        }
        for path in self.files() {
            let cannot = |error: std::io::Error| files::cannot_write(&path, &error);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(cannot(error)),
                _ => {}
            }
            // What can be written and removed now will most likely be so at the end.
            files::write(&path, b"")?;
            std::fs::remove_file(&path).map_err(cannot)?;
        }
        if let Some(dir) = &self.artifacts {
            std::fs::create_dir_all(dir).map_err(|error| files::cannot_write(dir, &error))?;
        }
        Ok(())
    }

    /// Writes the reports, and answers the verdict. One that cannot be written is told; it makes a good verdict an error, since
    /// whoever asked for it counts on it, and leaves every other as it is.
    ///
    /// # Errors
    /// Why a report is missing, when the verdict is good.
    pub async fn conclude(
        &self,
        context: &Context,
        client: &Client,
        subject: &Subject,
        verdict: ExitCode,
    ) -> Result {
        if !self.any() {
            return Ok(verdict);
        }
        match self.write(context, client, subject).await {
            Ok(()) => Ok(verdict),
            Err(failure) if verdict == ExitCode::Ok => Err(failure),
            Err(failure) => {
                failure.print(&context.output);
                Ok(verdict)
            }
        }
    }

    /// Writes all that can be written, and answers the first failure.
    async fn write(&self, context: &Context, client: &Client, subject: &Subject) -> Result<()> {
        let report = Model::load(client, subject, context.clock.now()).await?;
        let mut results = Vec::new();
        if let Some(path) = &self.report_json {
            results.push(files::write(path, &json_of(&report)));
        }
        if let Some(dir) = &self.html {
            results.push(files::write(&page(dir), html(&report).as_bytes()));
        }
        let mut there = None;
        if let Some(dir) = &self.artifacts {
            let downloaded = files::download_all(context, client, &report, dir).await;
            // A JUnit report that names files which are not there would mislead.
            there = downloaded.is_ok().then_some(dir.as_path());
            results.push(downloaded);
        }
        if let Some(path) = &self.junit {
            results.push(junit_of(&report, there).and_then(|xml| files::write(path, xml.as_bytes())));
        }
        let mut failures = results.into_iter().filter_map(Result::err);
        let Some(first) = failures.next() else { return Ok(()) };
        failures.for_each(|failure| failure.print(&context.output));
        Err(first)
    }
}

fn page(dir: &Path) -> PathBuf {
    dir.join("index.html")
}
