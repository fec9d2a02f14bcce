//! `qgjob list`, `cancel`, `retry` and `explain`.

use jiff::Timestamp;
use qgjob_core::api::explain::{Ahead, ExpectedStart, Explanation};
use qgjob_core::api::jobs::JobView;
use qgjob_core::clock::Clock;
use qgjob_core::model::attempt::Choice;
use qgjob_core::model::exit::ExitCode;
use qgjob_core::model::group::Because;
use qgjob_core::model::job::{Conclusion, Status};
use qgjob_core::model::name::{AppVersionId, IdempotencyKey};

use super::Context;
use super::failure::{Failure, Result};
use super::interrupt::Interrupt;
use super::rerun::Again;
use super::submit::org;
use super::value::{self, Which, random_key};
use super::watch::{Patience, Wish, watch};
use crate::client::watch::Subject;
use crate::client::{Client, Filter};
use crate::output::{self, BOLD, Format, GOOD, Object, Output, between, span};

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
    run_id: Option<String>,
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
        let client = context.client_of(&settings)?;
        let run_id = match &self.run_id {
            Some(id) => Some(value::run_id(&client, id).await?),
            None => None,
        };
        let mut filter = self.page.filter();
        filter.extend(self.status.map(|value| ("status", value.to_string())));
        filter.extend(self.conclusion.map(|value| ("conclusion", value.to_string())));
        filter.extend(run_id.map(|value| ("run_id", value)));
        filter.extend(self.app_version_id.map(|value| ("app_version_id", value.to_string())));
        filter.extend(settings.org_id.clone().map(|value| ("org_id", value)));
        let page = client.jobs(&filter).await?;
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
        job.spec.named(),
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
    /// Also the run that was submitted with this key; a submit that is still on its way makes a run that is over
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<IdempotencyKey>,
}

impl Cancel {
    pub async fn run(self, context: &Context) -> Result {
        let settings = context.settings()?;
        let client = context.client_of(&settings)?;
        let subjects = match &self.idempotency_key {
            Some(_) if self.which.is_empty() => Vec::new(),
            _ => self.which.subjects(&client).await?,
        };
        let several = subjects.len() + usize::from(self.idempotency_key.is_some()) > 1;
        let mut cancelled = Vec::new();
        let mut refused = None;
        if let Some(key) = &self.idempotency_key {
            client.cancel_by_key(&org(&settings)?, key).await?;
            let document =
                serde_json::json!({ "schema": "qgjob.cancel/v1", "idempotency_key": key, "cancelled": true });
            let text = format!(
                "{} Cancelled what was submitted with the key {key}",
                context.output.paint(GOOD, "✓")
            );
            cancelled.push(Object::new(key, &document, text));
        }
        for subject in &subjects {
            let result = match subject {
                Subject::Run(id) => client.cancel_run(id).await,
                Subject::Job(id) => client.cancel_job(id).await,
            };
            if let Err(error) = result {
                refused = Some(error);
                break;
            }
            let id = subject.id();
            let document = serde_json::json!({ "schema": "qgjob.cancel/v1", "id": id, "cancelled": true });
            let text = format!("{} Cancelled {id}", context.output.paint(GOOD, "✓"));
            cancelled.push(Object::new(id, &document, text));
        }
        // What was done is told even when the rest was refused.
        if refused.is_none() || !cancelled.is_empty() {
            context.output.objects(&cancelled, several)?;
        }
        refused.map_or(Ok(ExitCode::Ok), |error| Err(error.into()))
    }
}

/// Run finished jobs again
///
/// Each becomes a run of its own with the same test, app version, project and options. Of a run, its jobs that did not
/// pass are retried; with --failed it is `qgjob run rerun-failed`: one new run, of the tests that failed alone.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  qgjob retry --job-id=<id> --watch\n  qgjob retry --run-id=<id>\n  qgjob retry --failed --run-id=<id>"
)]
pub struct Retry {
    #[command(flatten)]
    which: Which,
    /// Of a run, run the tests that failed again, as one run that counts all
    #[arg(long)]
    failed: bool,
    /// Tell what happens until the end; the exit code is the verdict
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    patience: Patience,
}

impl Retry {
    pub async fn run(self, context: &Context) -> Result {
        let client = context.client()?;
        let interrupt = Interrupt::listen(context, self.patience.on_interrupt.of_maker(&context.env))?;
        interrupt.run(&client, self.retry(context, &client, &interrupt)).await
    }

    async fn retry(self, context: &Context, client: &Client, interrupt: &Interrupt) -> Result {
        let subjects = self.which.subjects(client).await?;
        if self.failed {
            let [Subject::Run(run)] = subjects.as_slice() else {
                return Err(Failure::usage("--failed is for one run")
                    .hint("name it: qgjob retry --failed --run-id=<id>; `qgjob run list` shows them"));
            };
            let again = Again { run, key: None, watch: self.watch, patience: self.patience };
            return again.make(context, client, interrupt).await;
        }
        let several = subjects.len() > 1 || matches!(subjects[0], Subject::Run(_));
        let mut jobs = Vec::new();
        for subject in subjects {
            match subject {
                Subject::Job(id) => jobs.push((client.job(&id).await?.job.org_id, id)),
                Subject::Run(id) => {
                    let all = client.run(&id).await?.job_list.into_iter();
                    let bad = all.filter(|view| {
                        !matches!(view.job.conclusion, None | Some(Conclusion::Passed | Conclusion::Skipped))
                    });
                    jobs.extend(bad.map(|view| (view.job.org_id.clone(), view.job.id.to_string())));
                }
            }
        }
        if jobs.is_empty() {
            return Err(Failure::new(
                ExitCode::Conflict,
                "nothing is to be retried: no job of the run ended without passing",
            ));
        }
        self.patience.reports.prepare(jobs.len())?;
        let (mut runs, mut queued) = (Vec::new(), Vec::new());
        let mut refused = None;
        for (org_id, job) in jobs {
            let key = random_key(&context.clock);
            let submitted = match interrupt.make(&org_id, &key, client.retry(&job, &key)).await {
                Ok(submitted) => submitted,
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            };
            let new = submitted.job_id.map_or(submitted.run_id.to_string(), |id| id.to_string());
            let text = format!("{} Queued {new} (again: {job})", context.output.paint(GOOD, "✓"));
            queued.push(Object::new(new, &submitted, text));
            runs.push(Subject::Run(submitted.run_id.to_string()));
        }
        // With --watch, the one document is the run at its end.
        let waits = self.watch || self.patience.reports.any();
        let told_at_end = waits && context.output.format == Format::Json && refused.is_none();
        if !queued.is_empty() && !told_at_end {
            context.output.objects(&queued, several)?;
        }
        if let Some(error) = refused {
            return Err(error.into());
        }
        if !waits {
            return Ok(ExitCode::Ok);
        }
        let wish = Wish { tell: true, just_created: true, patience: self.patience };
        watch(context, client, runs, &wish).await
    }
}

/// Tell why a job waits, or why it ended as it did
///
/// Of a run, all its jobs are explained.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  qgjob explain --job-id=<id>")]
pub struct Explain {
    #[command(flatten)]
    which: Which,
}

impl Explain {
    pub async fn run(self, context: &Context) -> Result {
        let client = context.client()?;
        let (jobs, several) = self.which.jobs(&client).await?;
        let mut explained = Vec::new();
        for job in jobs {
            let explanation = client.explain(&job).await?;
            let text = reasons(&context.output, &explanation, context.clock.now());
            explained.push(Object::new(explanation.job_id, &explanation, text));
        }
        context.output.objects(&explained, several)?;
        Ok(ExitCode::Ok)
    }
}

fn reasons(output: &Output, explanation: &Explanation, now: Timestamp) -> String {
    let end = explanation.conclusion.map(|conclusion| format!(", {conclusion}")).unwrap_or_default();
    let head = format!("{} is {}{end}:", explanation.job_id, explanation.status);
    let mut text = output.paint(BOLD, &head).into_owned();
    for (at, why) in explanation.reasons.iter().enumerate() {
        text.push_str(&format!("\n  {}. {}", at + 1, output::plain(&why.detail)));
    }
    for ahead in &explanation.ahead {
        text.push_str(&format!("\n  before it: {}", output::plain(&before(ahead))));
    }
    if let Some(ExpectedStart { earliest, likely, latest }) = explanation.expected_start {
        let away = |at| span(between(now, at));
        text.push_str(&format!(
            "\n  expected to start in {} (between {} and {})",
            away(likely),
            away(earliest),
            away(latest)
        ));
    }
    if let Some(choice) = explanation.choice {
        text.push_str(&format!("\n  its latest device was chosen because {}", chosen(choice)));
    }
    text
}

fn before(ahead: &Ahead) -> String {
    let who = match (&ahead.org_id, &ahead.app_version_id) {
        (Some(org), Some(version)) => format!("app version {version} of org {org}"),
        _ => "jobs of another org".to_owned(),
    };
    let why = match ahead.because {
        Because::Share => "its org is within its share of the devices",
        Because::Promoted => "it was promoted",
        Because::Priority => "it is more urgent",
        Because::Age => "it waits longer",
        Because::Size => "it is smaller",
        Because::Unserved => "no device works for it yet",
    };
    format!("{who}, priority {}: {why}", ahead.priority)
}

fn chosen(choice: Choice) -> String {
    let seconds = |seconds: f64| span((seconds * 1000.0).round() as u64);
    let devices = |devices| if devices == 1 { "1 device".to_owned() } else { format!("{devices} devices") };
    match choice {
        Choice::HadBuild => "it had the build".to_owned(),
        Choice::Probe => "it had to prove itself after its quarantine".to_owned(),
        Choice::Unserved => "no device worked for its group, so one had to install the build".to_owned(),
        Choice::WorthAnInstall { devices: working, work_s, worth_s } => format!(
            "{} worked for its group with {} of work left, and more than {} are worth one more install",
            devices(working),
            seconds(work_s),
            seconds(worth_s)
        ),
        Choice::NothingStarted { devices: working } => {
            format!("{} worked for its group and had started nothing for long", devices(working))
        }
    }
}
