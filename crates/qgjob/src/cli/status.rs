//! `qgjob status` and `qgjob wait`.

use qgjob_core::api::jobs::JobView;
use qgjob_core::model::exit::ExitCode;

use super::failure::Result;
use super::interrupt::Interrupt;
use super::value::Which;
use super::watch::{Patience, Wish, story, verdict, watch};
use super::{Context, summary};
use crate::client::Client;
use crate::client::watch::{Subject, View};
use crate::output::{DIM, Format, Object, Output, plain, span};

/// Show or watch jobs and runs
///
/// Without --watch it shows how things stand and exits with 0. With --watch it tells what happens until the end,
/// and the exit code is the verdict.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  qgjob status --job-id=<id> --watch\n  qgjob status run_01kb4x9tpz0000000000000000\n  qgjob status r0zcha --exit-status"
)]
pub struct Status {
    #[command(flatten)]
    which: Which,
    /// Tell what happens until the end
    #[arg(short, long)]
    watch: bool,
    /// Exit with the verdict of what is over, also without --watch; 0 for what is not over
    #[arg(long)]
    exit_status: bool,
    #[command(flatten)]
    patience: Patience,
}

impl Status {
    pub async fn run(self, context: &Context) -> Result {
        let client = context.client()?;
        let subjects = self.which.subjects(&client).await?;
        if self.watch || self.patience.reports.any() {
            let wish = Wish { tell: self.watch, just_created: false, patience: self.patience };
            return watch_existing(context, &client, subjects, wish).await;
        }
        let mut views = Vec::new();
        for subject in &subjects {
            views.push(look(&client, subject).await?);
        }
        let mut objects = Vec::new();
        for view in &views {
            objects.push(object(context, &client, view).await?);
        }
        context.output.objects(&objects, objects.len() > 1)?;
        views.retain(View::is_over);
        let judge = self.exit_status && !views.is_empty();
        Ok(if judge { verdict(context, &views, &self.patience) } else { ExitCode::Ok })
    }
}

/// How a subject stands.
pub async fn look(client: &Client, subject: &Subject) -> Result<View> {
    Ok(match subject {
        Subject::Run(id) => View::Run(Box::new(client.run(id).await?)),
        Subject::Job(id) => View::Job(Box::new(client.job(id).await?)),
    })
}

/// How a subject stands, to be printed.
pub async fn object(context: &Context, client: &Client, view: &View) -> Result<Object> {
    let text = match view {
        _ if context.output.format != Format::Text => String::new(),
        View::Run(_) => summary::of_view(context, client, view).await?,
        View::Job(job) => facts(&context.output, job),
    };
    Ok(Object::new(view.id(), &view.json(), text))
}

fn facts(output: &Output, view: &JobView) -> String {
    let job = &view.job;
    let mut text = story::line(output, &story::news_of(view));
    let mut fact = |name: &str, value: String| {
        if !value.is_empty() {
            text.push_str(&format!("\n  {}{}", output.paint(DIM, &format!("{name:<13}")), plain(&value)));
        }
    };
    fact("test", job.spec.named());
    fact("app version", job.app_version_id.to_string());
    fact("org", job.org_id.to_string());
    fact("run", job.run_id.to_string());
    let selector =
        if job.spec.selector.is_empty() { String::new() } else { format!(" ({})", job.spec.selector) };
    fact("target", format!("{}{selector}", job.spec.target));
    fact("priority", job.spec.priority.to_string());
    fact("device", view.device_name.clone().unwrap_or_default());
    fact("predicted", span(job.predicted_ms));
    fact("attempts", job.attempts.to_string());
    fact("created", job.created_at.to_string());
    fact("started", job.started_at.map(|at| at.to_string()).unwrap_or_default());
    fact("finished", job.finished_at.map(|at| at.to_string()).unwrap_or_default());
    text
}

/// Wait until jobs and runs are over; the exit code is the verdict
///
/// Prints one line per job or run, at the end.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  qgjob wait job_01kb4x9tq3m8e7w2n5r6v0zcha\n  qgjob wait --run-id=<id> --wait-timeout=1h -o json"
)]
pub struct Wait {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    patience: Patience,
}

impl Wait {
    pub async fn run(self, context: &Context) -> Result {
        let client = context.client()?;
        let wish = Wish { tell: false, just_created: false, patience: self.patience };
        let subjects = self.which.subjects(&client).await?;
        watch_existing(context, &client, subjects, wish).await
    }
}

async fn watch_existing(context: &Context, client: &Client, subjects: Vec<Subject>, wish: Wish) -> Result {
    wish.patience.reports.prepare(subjects.len())?;
    let interrupt = Interrupt::listen(context, wish.patience.on_interrupt.of_watcher())?;
    interrupt.watches(&subjects);
    interrupt.run(client, watch(context, client, subjects, &wish)).await
}
