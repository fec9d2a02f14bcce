//! `qgjob queue`.

use qgjob_core::api::queue::{GroupView, QueueView};
use qgjob_core::clock::Clock;
use qgjob_core::model::exit::ExitCode;
use qgjob_core::model::name::{AppVersionId, OrgId};

use super::Context;
use super::failure::Result;
use super::value;
use crate::output::{self, GOOD, Object, between, count, span};

/// The queue, by app version
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "Examples:\n  qgjob queue list\n  qgjob queue pause xyz123")]
pub enum Queue {
    /// List groups: jobs that one device can run without another install
    #[command(after_help = "Example:\n  qgjob queue list -o json")]
    List,
    /// Show what waits and runs for an app version
    #[command(after_help = "Example:\n  qgjob queue view xyz123")]
    View {
        /// The label
        app_version_id: AppVersionId,
    },
    /// Let the waiting jobs of an app version rest, those that come later too; what runs goes on
    ///
    /// While they rest, their queue timeout does not pass.
    #[command(after_help = "Example:\n  qgjob queue pause xyz123")]
    Pause {
        /// The label
        app_version_id: AppVersionId,
    },
    /// Let the waiting jobs of an app version go on
    #[command(after_help = "Example:\n  qgjob queue resume xyz123")]
    Resume {
        /// The label
        app_version_id: AppVersionId,
    },
    /// Move waiting jobs before all that were not promoted
    ///
    /// Promoting twice is harmless; a job that does not wait stays as it is (exit code 6).
    #[command(after_help = "Example:\n  qgjob queue promote job_01kb4x9tpz0000000000000000")]
    Promote {
        /// Ids of jobs, or their last 6 characters or more
        #[arg(required = true, value_name = "JOB")]
        jobs: Vec<String>,
    },
}

const HEADERS: &[&str] = &[
    "APP VERSION",
    "ORG",
    "PLATFORM",
    "TARGET",
    "DEVICE",
    "CONCURRENCY",
    "QUEUED",
    "RUNNING",
    "PRIORITY",
    "OLDEST",
    "STATE",
    "WARM DEVICES",
];

impl Queue {
    pub async fn run(self, context: &Context) -> Result {
        let settings = context.settings()?;
        let client = context.client_of(&settings)?;
        let org: Option<OrgId> = settings.org_id.as_deref().map(str::parse).transpose()?;
        match self {
            Self::List => {
                let mut list = output::List::new("jobs wait or run", HEADERS);
                for group in client.queue().await? {
                    let row = row(context, &group);
                    list.push(group.key.app_version_id.clone(), &output::typed("queue_group", &group), row);
                }
                context.output.list(&list)?;
            }
            Self::View { app_version_id } => {
                let view = client.queue_of(org.as_ref(), &app_version_id).await?;
                context.output.object(&view, app_version_id.as_str(), || facts(context, &view))?;
            }
            Self::Pause { app_version_id } => {
                let view = client.set_queue(org.as_ref(), &app_version_id, "pause").await?;
                context
                    .output
                    .object(&view, app_version_id.as_str(), || changed(context, "Paused", &view))?;
            }
            Self::Resume { app_version_id } => {
                let view = client.set_queue(org.as_ref(), &app_version_id, "resume").await?;
                context
                    .output
                    .object(&view, app_version_id.as_str(), || changed(context, "Resumed", &view))?;
            }
            Self::Promote { jobs } => return promote(context, &client, &jobs).await,
        }
        Ok(ExitCode::Ok)
    }
}

async fn promote(context: &Context, client: &crate::client::Client, jobs: &[String]) -> Result {
    let mut promoted = Vec::new();
    let mut refused = None;
    for wanted in jobs {
        let result = match value::job_id(client, wanted).await {
            Ok(id) => client.promote(&id).await.map_err(Into::into),
            Err(failure) => Err(failure),
        };
        match result {
            Ok(view) => {
                let id = view.job.id.to_string();
                let text =
                    format!("{} Promoted {id} ({})", context.output.paint(GOOD, "✓"), view.job.spec.named());
                promoted.push(Object::new(id, &view, text));
            }
            Err(failure) => {
                refused = Some(failure);
                break;
            }
        }
    }
    // What was done is told even when the rest was refused.
    if refused.is_none() || !promoted.is_empty() {
        context.output.objects(&promoted, jobs.len() > 1)?;
    }
    refused.map_or(Ok(ExitCode::Ok), Err)
}

fn state(paused: bool, org_paused: bool) -> &'static str {
    match (org_paused, paused) {
        (true, _) => "org paused",
        (false, true) => "paused",
        (false, false) => "",
    }
}

fn row(context: &Context, group: &GroupView) -> Vec<String> {
    let now = context.clock.now();
    let key = &group.key;
    vec![
        key.app_version_id.to_string(),
        key.org_id.to_string(),
        key.platform.map(|platform| platform.to_string()).unwrap_or_default(),
        key.target.to_string(),
        key.selector.to_string(),
        key.concurrency_group.as_ref().map(ToString::to_string).unwrap_or_default(),
        group.queued.to_string(),
        group.running.to_string(),
        group.top_priority.map(|priority| priority.to_string()).unwrap_or_default(),
        group.oldest_queued_at.map(|at| span(between(at, now))).unwrap_or_default(),
        state(group.paused, group.org_paused).to_owned(),
        match (group.app_sha256, group.warm_devices.as_slice()) {
            (None, _) => "(no build yet)".to_owned(),
            (Some(_), devices) => devices.join(", "),
        },
    ]
}

fn numbers(view: &QueueView) -> String {
    format!("{} waiting, {} running", count(view.queued, "job"), view.running)
}

fn facts(context: &Context, view: &QueueView) -> String {
    let state = match state(view.paused, view.org_paused) {
        "" => String::new(),
        state => format!(", {state}"),
    };
    let head = format!("{} of {}: {}{state}", view.app_version_id, view.org_id, numbers(view));
    if view.groups.is_empty() {
        return head;
    }
    let rows: Vec<_> = view.groups.iter().map(|group| row(context, group)).collect();
    format!("{head}\n\n{}", context.output.table(HEADERS, &rows))
}

fn changed(context: &Context, done: &str, view: &QueueView) -> String {
    let but = if !view.paused && view.org_paused { "; its org is still paused" } else { "" };
    let mark = context.output.paint(GOOD, "✓");
    format!("{mark} {done} {} of {}: {}{but}", view.app_version_id, view.org_id, numbers(view))
}
