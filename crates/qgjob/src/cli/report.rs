//! `qgjob report`, and the flags by which waiting commands write reports.

mod files;
mod playwright;
mod wanted;

use std::path::{Path, PathBuf};

use qgjob_core::clock::Clock;
use qgjob_core::model::exit::ExitCode;

use super::Context;
use super::failure::{Failure, Result};
use super::value::Which;
use crate::client::Client;
use crate::client::watch::Subject;
use crate::output::count;
use crate::report::{Report as Model, SCHEMA, SUMMARY_BUDGET, allure, html, junit, markdown};

pub use wanted::Reports;

/// Reports of a run or a job, in the forms that others read
#[derive(Debug, clap::Subcommand)]
#[command(
    after_help = "Examples:\n  qgjob report junit --run-id=<id> --out=junit.xml\n  qgjob report html r0zcha --out=report.html\n  qgjob report json --run-id=<id> > run.json && qgjob report markdown --from=run.json"
)]
pub enum Report {
    /// JUnit XML, a suite for each job
    #[command(after_help = "Example:\n  qgjob report junit --run-id=<id> --out=junit.xml --artifacts=files")]
    Junit {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        to: To,
        /// Download the files of the tests there, and name them in the report
        #[arg(long, value_name = "DIR", conflicts_with = "from")]
        artifacts: Option<PathBuf>,
    },
    /// All that is known, as JSON; --from reads it
    #[command(after_help = "Example:\n  qgjob report json --run-id=<id> --out=run.json")]
    Json {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        to: To,
    },
    /// One HTML page that needs nothing else
    #[command(after_help = "Example:\n  qgjob report html --run-id=<id> --out=report.html")]
    Html {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        to: To,
    },
    /// Markdown for summaries and comments
    #[command(after_help = "Example:\n  qgjob report markdown --run-id=<id> --budget=65000")]
    Markdown {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        to: To,
        /// At most so many bytes, but no fewer than 2048; what went wrong comes first
        #[arg(long, value_name = "BYTES", default_value_t = SUMMARY_BUDGET)]
        budget: usize,
    },
    /// Results for Allure
    #[command(
        after_help = "Example:\n  qgjob report allure --run-id=<id> && npx allure generate allure-results"
    )]
    Allure {
        #[command(flatten)]
        of: Of,
        /// Where to put them, beside those of others
        #[arg(long, value_name = "DIR", default_value = "allure-results")]
        out: PathBuf,
    },
    /// Playwright's blob reports of all jobs, to be merged
    #[command(
        after_help = "Example:\n  qgjob report blob --run-id=<id> --out=blob-report && npx playwright merge-reports --reporter=html blob-report"
    )]
    Blob {
        #[command(flatten)]
        of: Remote,
        /// Where to put them; no other blob reports may be there
        #[arg(long, value_name = "DIR", default_value = "blob-report")]
        out: PathBuf,
    },
    /// Playwright's own HTML report of all jobs in one, made by the project's Playwright
    #[command(after_help = "Example:\n  qgjob report playwright --run-id=<id> --out=playwright-report")]
    Playwright {
        #[command(flatten)]
        of: Remote,
        /// Where to put it; must be empty or hold an earlier report
        #[arg(long, value_name = "DIR", default_value = "playwright-report")]
        out: PathBuf,
        /// Folder of the test project [default: the nearest one upwards with a package.json]
        #[arg(long, value_name = "DIR")]
        project_dir: Option<PathBuf>,
    },
}

/// What a report is of.
#[derive(Debug, clap::Args)]
pub struct Of {
    #[command(flatten)]
    which: Which,
    /// Read what `qgjob report json` wrote instead of asking the server; - is stdin
    #[arg(long, value_name = "FILE", conflicts_with_all = ["ids", "job_id", "run_id"])]
    from: Option<PathBuf>,
}

/// What a report is of when only the server has it.
#[derive(Debug, clap::Args)]
pub struct Remote {
    #[command(flatten)]
    which: Which,
}

/// Where a report of one file goes.
#[derive(Debug, clap::Args)]
pub struct To {
    /// Write it there; - is stdout, as without this flag
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Report {
    pub async fn run(self, context: &Context) -> Result {
        match self {
            Self::Junit { of, to, artifacts } => {
                let report = of.load(context).await?;
                if let Some(dir) = &artifacts {
                    files::download_all(context, &context.client()?, &report, dir).await?;
                }
                to.write(context, junit_of(&report, artifacts.as_deref())?.as_bytes())?;
            }
            Self::Json { of, to } => to.write(context, &json_of(&of.load(context).await?))?,
            Self::Html { of, to } => to.write(context, html(&of.load(context).await?).as_bytes())?,
            Self::Markdown { of, to, budget } => {
                to.write(context, markdown(&of.load(context).await?, budget).as_bytes())?;
            }
            Self::Allure { of, out } => {
                let offline = of.from.is_some();
                let report = of.load(context).await?;
                let client = if offline { None } else { Some(context.client()?) };
                write_allure(context, client.as_ref(), &report, &out).await?;
            }
            Self::Blob { of, out } => {
                let (client, report) = of.load(context).await?;
                let blobs = playwright::blobs(&report)?;
                files::refuse_other_blobs(&out)?;
                // Without a project the tests are nowhere, but in the same place for all.
                let project = playwright::find_project(None).unwrap_or_else(|_| PathBuf::from("/project"));
                playwright::download(&client, &blobs, &project, &out).await?;
                context.output.done(format!(
                    "{} in {}",
                    count(blobs.len() as u64, "blob report"),
                    out.display()
                ));
            }
            Self::Playwright { of, out, project_dir } => {
                let (client, report) = of.load(context).await?;
                playwright::merge(context, &client, &report, &out, project_dir.as_deref()).await?;
            }
        }
        Ok(ExitCode::Ok)
    }
}

impl Of {
    async fn load(&self, context: &Context) -> Result<Model> {
        match &self.from {
            Some(path) => files::read(path),
            None => {
                let client = context.client()?;
                let subject = one(self.which.subjects(&client).await?)?;
                Ok(Model::load(&client, &subject, context.clock.now()).await?)
            }
        }
    }
}

impl Remote {
    async fn load(&self, context: &Context) -> Result<(Client, Model)> {
        let client = context.client()?;
        let subject = one(self.which.subjects(&client).await?)?;
        let report = Model::load(&client, &subject, context.clock.now()).await?;
        Ok((client, report))
    }
}

fn one(subjects: Vec<Subject>) -> Result<Subject> {
    match <[Subject; 1]>::try_from(subjects) {
        Ok([subject]) => Ok(subject),
        Err(several) => {
            Err(Failure::usage(format!("a report is of one run or job, not of {}", several.len()))
                .hint("write one for each"))
        }
    }
}

impl To {
    fn write(&self, context: &Context, bytes: &[u8]) -> Result<()> {
        match &self.out {
            Some(path) if path.as_os_str() != "-" => {
                files::write(path, bytes)?;
                context.output.done(format!("Report in {}", path.display()));
                Ok(())
            }
            _ => Ok(context.output.raw(bytes)?),
        }
    }
}

fn json_of(report: &Model) -> Vec<u8> {
    let mut text = crate::output::pretty(report).into_bytes();
    text.push(b'\n');
    text
}

fn junit_of(report: &Model, artifacts: Option<&Path>) -> Result<String> {
    junit(report, artifacts).map_err(|error| {
        Failure::new(ExitCode::Internal, format!("the JUnit report cannot be made: {error}"))
    })
}

/// Writes a file for each result, and the files that the tests left when the server can be asked for them.
async fn write_allure(context: &Context, client: Option<&Client>, report: &Model, out: &Path) -> Result<()> {
    let name = |artifact: &qgjob_core::model::artifact::Artifact| {
        let extension = Path::new(&artifact.name).extension().and_then(|extension| extension.to_str());
        let plain =
            extension.filter(|text| text.len() <= 10 && text.bytes().all(|b| b.is_ascii_alphanumeric()));
        format!("{}-attachment.{}", artifact.id, plain.unwrap_or("bin"))
    };
    let results = allure(report, |artifact| client.map(|_| name(artifact)));
    if let Some(client) = client {
        let wanted =
            results.iter().flat_map(|file| file.body["attachments"].as_array().into_iter().flatten());
        let wanted: std::collections::BTreeSet<&str> =
            wanted.filter_map(|one| one["source"].as_str()).collect();
        let all = report.jobs.iter().flat_map(|job| &job.artifacts);
        let wanted =
            all.map(|artifact| (artifact, name(artifact))).filter(|(_, name)| wanted.contains(&**name));
        files::download(client, wanted.map(|(artifact, name)| (artifact, out.join(name))).collect()).await?;
    }
    for file in &results {
        files::write(&out.join(&file.name), &serde_json::to_vec(&file.body).expect("a value is JSON"))?;
    }
    context.output.done(format!("{} in {}", count(results.len() as u64, "result"), out.display()));
    Ok(())
}
