//! `qgjob run`.

use qgjob_core::clock::Clock;
use qgjob_core::model::exit::ExitCode;
use qgjob_core::model::job::{Conclusion, Status};
use qgjob_core::model::name::AppVersionId;

use super::compare::Compare;
use super::failure::Result;
use super::jobs::PageFlags;
use super::rerun::RerunFailed;
use super::status::object;
use super::{Context, value};
use crate::client::watch::View;
use crate::output::{self, GOOD, between, plain, span};

/// Runs: what one submit made
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "Example:\n  qgjob run view <id>")]
pub enum Run {
    /// List runs, newest first
    #[command(
        after_help = "Examples:\n  qgjob run list --label=branch=main\n  qgjob run list --status=running -o json"
    )]
    List(List),
    /// Show a run: verdict, jobs, tests, devices, installs
    #[command(after_help = "Example:\n  qgjob run view run_01kb4x9tpz0000000000000000")]
    View {
        /// Id of the run, or its last 6 characters or more
        #[arg(value_name = "ID", required_unless_present = "run_id")]
        id: Option<String>,
        /// Id of the run
        #[arg(long, value_name = "ID", conflicts_with = "id")]
        run_id: Option<String>,
    },
    /// Cancel all jobs of a run that are not over
    #[command(after_help = "Example:\n  qgjob run cancel run_01kb4x9tpz0000000000000000")]
    Cancel {
        /// Id of the run, or its last 6 characters or more
        #[arg(value_name = "ID", required_unless_present = "run_id")]
        id: Option<String>,
        /// Id of the run
        #[arg(long, value_name = "ID", conflicts_with = "id")]
        run_id: Option<String>,
    },
    RerunFailed(RerunFailed),
    Compare(Compare),
}

/// Which runs.
#[derive(Debug, clap::Args)]
pub struct List {
    /// Only with this status: scheduled, queued, running or completed
    #[arg(long)]
    status: Option<Status>,
    /// Only with this conclusion: passed, failed, errored, timed_out, cancelled or skipped
    #[arg(long)]
    conclusion: Option<Conclusion>,
    /// Only for this app version
    #[arg(long, value_name = "LABEL")]
    app_version_id: Option<AppVersionId>,
    /// Only with this label
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = value::pair)]
    label: Option<(String, String)>,
    #[command(flatten)]
    page: PageFlags,
}

impl Run {
    pub async fn run(self, context: &Context) -> Result {
        match self {
            Self::List(list) => list.run(context).await,
            Self::RerunFailed(again) => again.run(context).await,
            Self::Compare(compare) => compare.run(context).await,
            Self::View { id, run_id } => {
                let client = context.client()?;
                let id = value::run_id(&client, &id.or(run_id).unwrap_or_default()).await?;
                let view = View::Run(Box::new(client.run(&id).await?));
                let object = object(context, &client, &view).await?;
                context.output.objects(&[object], false)?;
                Ok(ExitCode::Ok)
            }
            Self::Cancel { id, run_id } => {
                let client = context.client()?;
                let id = value::run_id(&client, &id.or(run_id).unwrap_or_default()).await?;
                client.cancel_run(&id).await?;
                let document =
                    serde_json::json!({ "schema": "qgjob.cancel/v1", "id": id, "cancelled": true });
                let text = || format!("{} Cancelled {id}", context.output.paint(GOOD, "✓"));
                context.output.object(&document, &id, text)?;
                Ok(ExitCode::Ok)
            }
        }
    }
}

impl List {
    async fn run(self, context: &Context) -> Result {
        let settings = context.settings()?;
        let mut filter = self.page.filter();
        filter.extend(self.status.map(|value| ("status", value.to_string())));
        filter.extend(self.conclusion.map(|value| ("conclusion", value.to_string())));
        filter.extend(self.app_version_id.map(|value| ("app_version_id", value.to_string())));
        filter.extend(self.label.map(|(key, value)| ("label", format!("{key}={value}"))));
        filter.extend(settings.org_id.clone().map(|value| ("org_id", value)));
        let page = context.client_of(&settings)?.runs(&filter).await?;
        let headers = &[
            "RUN",
            "STATUS",
            "RESULT",
            "JOBS",
            "PASSED",
            "FAILED",
            "APP VERSION",
            "NAME",
            "AGE",
            "INSTALLS",
        ];
        let mut list = output::List::new("runs", headers);
        list.next_cursor = page.next_cursor;
        for view in page.items {
            let run = &view.run;
            let row = vec![
                run.id.to_string(),
                run.status.to_string(),
                run.conclusion.map(|conclusion| conclusion.to_string()).unwrap_or_default(),
                run.jobs.total.to_string(),
                run.jobs.passed.to_string(),
                run.jobs.failed.to_string(),
                run.app_version_id.to_string(),
                run.name.as_deref().map(plain).unwrap_or_default(),
                span(between(run.created_at, context.clock.now())),
                format!("{} made, {} avoided", view.installs.made, view.installs.avoided),
            ];
            list.push(run.id, &view, row);
        }
        context.output.list(&list)?;
        Ok(ExitCode::Ok)
    }
}
