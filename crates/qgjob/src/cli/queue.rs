//! `qgjob queue`.

use qgjob_core::clock::Clock;
use qgjob_core::model::exit::ExitCode;

use super::Context;
use super::failure::Result;
use crate::output::{self, between, span};

/// The queue, by app version
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "Example:\n  qgjob queue list")]
pub enum Queue {
    /// List groups: jobs that one device can run without another install
    #[command(after_help = "Example:\n  qgjob queue list -o json")]
    List,
}

impl Queue {
    pub async fn run(self, context: &Context) -> Result {
        let Self::List = self;
        let now = context.clock.now();
        let headers = &[
            "APP VERSION",
            "ORG",
            "PLATFORM",
            "TARGET",
            "DEVICE",
            "QUEUED",
            "RUNNING",
            "PRIORITY",
            "OLDEST",
            "WARM DEVICES",
        ];
        let mut list = output::List::new("jobs wait or run", headers);
        for group in context.client()?.queue().await? {
            let row = vec![
                group.key.app_version_id.to_string(),
                group.key.org_id.to_string(),
                group.key.platform.map(|platform| platform.to_string()).unwrap_or_default(),
                group.key.target.to_string(),
                group.key.selector.to_string(),
                group.queued.to_string(),
                group.running.to_string(),
                group.top_priority.map(|priority| priority.to_string()).unwrap_or_default(),
                group.oldest_queued_at.map(|at| span(between(at, now))).unwrap_or_default(),
                match (group.app_sha256, group.warm_devices.as_slice()) {
                    (None, _) => "(no build yet)".to_owned(),
                    (Some(_), devices) => devices.join(", "),
                },
            ];
            list.push(group.key.app_version_id.clone(), &output::typed("queue_group", &group), row);
        }
        context.output.list(&list)?;
        Ok(ExitCode::Ok)
    }
}
