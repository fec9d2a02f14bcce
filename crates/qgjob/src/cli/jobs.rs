//! `qgjob list`, `cancel`, `retry` and `explain`.

use qgjob_core::api::jobs::JobView;
use qgjob_core::clock::Clock;
use qgjob_core::model::exit::ExitCode;
use qgjob_core::model::job::{Conclusion, Status};
use qgjob_core::model::name::AppVersionId;

use super::Context;
use super::failure::{Failure, Result};
use super::value::{Which, random_key};
use super::watch::{Patience, Wish, watch};
use crate::client::Filter;
use crate::client::watch::Subject;
use crate::output::{self, GOOD, between, span};

/// List jobs, newest first
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  qgjob list --status=queued\n  qgjob list --run-id=<id> -o jsonl")]
pub struct List {
    /// Only with this status: scheduled, queued, running or completed
    #[arg(long)]
    status: Option<Status>,
    /// Only with this conclusion: passed, failed, errored, timed_out, cancelled or skipped
    #[arg(long)]
    conclusion: Option<Conclusion>,
    /// Only of this run
    #[arg(long, value_name = "ID")]
    run_id: Option<qgjob_core::model::run::Id>,
    /// Only for this app version
    #[arg(long, value_name = "LABEL")]
    app_version_id: Option<AppVersionId>,
    #[command(flatten)]
    page: PageFlags,
}

/// Flags of long lists.
#[derive(Debug, Clone, clap::Args)]
pub struct PageFlags {
    /// How many at most, 1 to 200
    #[arg(long, value_name = "N", default_value_t = qgjob_core::api::page::DEFAULT_LIMIT,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(qgjob_core::api::page::MAX_LIMIT)))]
    pub limit: u32,
    /// Where the page before ended: its next_cursor
    #[arg(long)]
    pub cursor: Option<String>,
}

impl PageFlags {
    pub fn filter(&self) -> Filter {
        let mut filter = vec![("limit", self.limit.to_string())];
        filter.extend(self.cursor.clone().map(|cursor| ("cursor", cursor)));
        filter
    }
}

impl List {
    pub async fn run(self, context: &Context) -> Result {
        let settings = context.settings()?;
        let mut filter = self.page.filter();
        filter.extend(self.status.map(|value| ("status", value.to_string())));
        filter.extend(self.conclusion.map(|value| ("conclusion", value.to_string())));
        filter.extend(self.run_id.map(|value| ("run_id", value.to_string())));
        filter.extend(self.app_version_id.map(|value| ("app_version_id", value.to_string())));
        filter.extend(settings.org_id.clone().map(|value| ("org_id", value)));
        let page = context.client_of(&settings)?.jobs(&filter).await?;
        let headers = &["JOB", "STATUS", "RESULT", "TEST", "APP VERSION", "DEVICE", "AGE", "DURATION"];
        let mut list = output::List::new("jobs", headers);
        list.next_cursor = page.next_cursor;
        for view in page.items {
            let row = row(context, &view);
            list.push(view.job.id, &view, row);
        }
        context.output.list(&list)?;
        Ok(ExitCode::Ok)
    }
}

fn row(context: &Context, view: &JobView) -> Vec<String> {
    let job = &view.job;
    let now = context.clock.now();
    let took = job.started_at.map(|from| span(between(from, job.finished_at.unwrap_or(now))));
    vec![
        job.id.to_string(),
        job.status.to_string(),
        job.conclusion.map(|conclusion| conclusion.to_string()).unwrap_or_default(),
        job.spec.test.to_string(),
        job.app_version_id.to_string(),
        view.device_name.clone().unwrap_or_default(),
        span(between(job.created_at, now)),
        took.unwrap_or_default(),
    ]
}

/// Cancel jobs or runs
///
/// What is running is stopped and its device cleaned. Cancelling twice is harmless; a job that is over stays as it is
/// (exit code 6).
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  qgjob cancel --job-id=<id>\n  qgjob cancel run_01kb4x9tpz0000000000000000"
)]
pub struct Cancel {
    #[command(flatten)]
    which: Which,
}

impl Cancel {
    pub async fn run(self, context: &Context) -> Result {
        let client = context.client()?;
        for subject in self.which.subjects()? {
            match &subject {
                Subject::Run(id) => client.cancel_run(id).await?,
                Subject::Job(id) => client.cancel_job(id).await?,
            }
            let document =
                serde_json::json!({ "schema": "qgjob.cancel/v1", "id": subject.id(), "cancelled": true });
            let text = || format!("{} Cancelled {}", context.output.paint(GOOD, "✓"), subject.id());
            context.output.object(&document, subject.id(), text)?;
        }
        Ok(ExitCode::Ok)
    }
}

/// Run finished jobs again
///
/// Each becomes a run of its own with the same test, app version, project and options. Of a run, its jobs that did not
/// pass are retried.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  qgjob retry --job-id=<id> --watch\n  qgjob retry --run-id=<id>")]
pub struct Retry {
    #[command(flatten)]
    which: Which,
    /// Tell what happens until the end; the exit code is the verdict
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    patience: Patience,
}

impl Retry {
    pub async fn run(self, context: &Context) -> Result {
        let client = context.client()?;
        let mut jobs = Vec::new();
        for subject in self.which.subjects()? {
            match subject {
                Subject::Job(id) => jobs.push(id),
                Subject::Run(id) => {
                    let all = client.run(&id).await?.job_list.into_iter();
                    let bad = all.filter(|view| {
                        !matches!(view.job.conclusion, None | Some(Conclusion::Passed | Conclusion::Skipped))
                    });
                    jobs.extend(bad.map(|view| view.job.id.to_string()));
                }
            }
        }
        if jobs.is_empty() {
            return Err(Failure::new(
                ExitCode::Conflict,
                "nothing is to be retried: no job of the run ended without passing",
            ));
        }
        let mut runs = Vec::new();
        for job in jobs {
            let submitted = client.retry(&job, &random_key(&context.clock)).await?;
            let new = submitted.job_id.map_or(submitted.run_id.to_string(), |id| id.to_string());
            let text = || format!("{} Queued {new} (again: {job})", context.output.paint(GOOD, "✓"));
            context.output.object(&submitted, &new, text)?;
            runs.push(Subject::Run(submitted.run_id.to_string()));
        }
        if !self.watch {
            return Ok(ExitCode::Ok);
        }
        let wish = Wish { tell: true, just_created: true, patience: self.patience };
        watch(context, &client, runs, &wish).await
    }
}

/// Tell why a job waits, or why it ended as it did
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  qgjob explain --job-id=<id>")]
pub struct Explain {
    #[command(flatten)]
    which: Which,
}

impl Explain {
    pub async fn run(self, context: &Context) -> Result {
        let client = context.client()?;
        for subject in self.which.subjects()? {
            let Subject::Job(id) = subject else {
                return Err(Failure::usage("only jobs can be explained")
                    .hint("`qgjob run view <id>` lists the jobs of a run"));
            };
            let explanation = client.explain(&id).await?;
            context.output.object(&explanation, &explanation.job_id.to_string(), || {
                let end =
                    explanation.conclusion.map(|conclusion| format!(", {conclusion}")).unwrap_or_default();
                let mut text = format!("{} is {}{end}:", explanation.job_id, explanation.status);
                for (at, why) in explanation.reasons.iter().enumerate() {
                    text.push_str(&format!("\n  {}. {}", at + 1, output::plain(&why.detail)));
                }
                text
            })?;
        }
        Ok(ExitCode::Ok)
    }
}
