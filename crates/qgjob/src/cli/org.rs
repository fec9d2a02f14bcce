//! `qgjob org`.

mod oidc_policy;

pub use oidc_policy::who;

use qgjob_core::api::orgs::{ConcurrencyLimit, ConcurrencyView, OrgView, QuotaChange};
use qgjob_core::model::exit::ExitCode;
use qgjob_core::model::limits::{CAPS, CONCURRENCY_LIMITS, WEIGHTS};
use qgjob_core::model::name::ConcurrencyGroup;

use super::Context;
use super::failure::Result;
use crate::output::{self, GOOD};

/// Orgs and what they may hold of the devices
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "Example:\n  qgjob org quota view --org-id=qualgent")]
pub enum Org {
    /// Share of the devices, and most jobs that run at a time
    #[command(subcommand)]
    Quota(Quota),
    /// Concurrency groups: of the jobs that name one, only so many run at a time
    #[command(subcommand)]
    Concurrency(Concurrency),
    /// Policies: which pipelines log in to the org without a stored token
    #[command(subcommand, alias = "oidc-policies")]
    OidcPolicy(oidc_policy::OidcPolicy),
    /// Let all waiting jobs of the org rest, those that come later too; what runs goes on
    ///
    /// While they rest, their queue timeout does not pass. Needs an admin's token.
    #[command(after_help = "Example:\n  qgjob org pause --org-id=qualgent")]
    Pause,
    /// Let the waiting jobs of the org go on
    #[command(after_help = "Example:\n  qgjob org resume --org-id=qualgent")]
    Resume,
}

/// Share of the devices, and most jobs that run at a time
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "Example:\n  qgjob org quota set --org-id=qualgent --max-running=20")]
pub enum Quota {
    /// Show the org's limits, and how many of its jobs wait and run
    #[command(after_help = "Example:\n  qgjob org quota view --org-id=qualgent")]
    View,
    /// Change the org's limits; what is not given stays
    ///
    /// What runs goes on. Needs an admin's token.
    #[command(
        after_help = "Examples:\n  qgjob org quota set --org-id=qualgent --weight=3 --max-running=20\n  qgjob org quota set --org-id=qualgent --max-running=none"
    )]
    Set {
        /// Weight of its fair share of the devices: 1 to 1000
        #[arg(long, value_name = "N", required_unless_present = "max_running",
            value_parser = clap::value_parser!(u32).range(i64::from(*WEIGHTS.start())..=i64::from(*WEIGHTS.end())))]
        weight: Option<u32>,
        /// Most of its jobs that run at a time: 1 to 100000, or none for no limit
        #[arg(long, value_name = "N", value_parser = cap)]
        max_running: Option<Cap>,
    },
}

/// Concurrency groups: of the jobs that name one, only so many run at a time
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "Example:\n  qgjob org concurrency set staging-backend --limit=2")]
pub enum Concurrency {
    /// List those that have a limit of their own, or jobs that wait or run
    #[command(after_help = "Example:\n  qgjob org concurrency list --org-id=qualgent")]
    List,
    /// Set how many jobs of one run at a time; 1 if none is set
    #[command(after_help = "Example:\n  qgjob org concurrency set staging-backend --limit=2")]
    Set {
        /// Its name, as `qgjob submit --concurrency-group` takes it
        name: ConcurrencyGroup,
        /// Most jobs of it that run at a time: 1 to 100000
        #[arg(long, value_name = "N",
            value_parser = clap::value_parser!(u32).range(i64::from(*CONCURRENCY_LIMITS.start())..=i64::from(*CONCURRENCY_LIMITS.end())))]
        limit: u32,
    },
}

/// A cap on running jobs, or none.
#[derive(Debug, Clone, Copy)]
pub struct Cap(Option<u32>);

fn cap(text: &str) -> std::result::Result<Cap, String> {
    match text.parse().ok().filter(|most| CAPS.contains(most)) {
        Some(most) => Ok(Cap(Some(most))),
        None if text == "none" => Ok(Cap(None)),
        None => Err("must be 1 to 100000, or none; to let none start, use `qgjob org pause`".to_owned()),
    }
}

impl Org {
    pub async fn run(self, context: &Context) -> Result {
        let settings = context.settings()?;
        let client = context.client_of(&settings)?;
        let org = super::submit::org(&settings)?;
        match self {
            Self::OidcPolicy(command) => return command.run(context, &client, &org).await,
            Self::Quota(Quota::View) => {
                let view = client.org(&org).await?;
                context.output.object(&view, org.as_str(), || facts(&view))?;
            }
            Self::Quota(Quota::Set { weight, max_running }) => {
                let change = QuotaChange { weight, max_running: max_running.map(|cap| cap.0) };
                let view = client.change_quota(&org, &change).await?;
                context.output.object(&view, org.as_str(), || {
                    format!("{} Changed {}", context.output.paint(GOOD, "✓"), facts(&view))
                })?;
            }
            Self::Pause => {
                let view = client.set_org(&org, "pause").await?;
                context.output.object(&view, org.as_str(), || changed(context, "Paused", &view))?;
            }
            Self::Resume => {
                let view = client.set_org(&org, "resume").await?;
                context.output.object(&view, org.as_str(), || changed(context, "Resumed", &view))?;
            }
            Self::Concurrency(Concurrency::List) => {
                let headers = &["CONCURRENCY GROUP", "LIMIT", "QUEUED", "RUNNING"];
                let mut list = output::List::new("concurrency groups", headers);
                for view in client.concurrency_groups(&org).await? {
                    let row = vec![
                        view.concurrency_group.to_string(),
                        view.limit.to_string(),
                        view.queued.to_string(),
                        view.running.to_string(),
                    ];
                    list.push(view.concurrency_group.clone(), &view, row);
                }
                context.output.list(&list)?;
            }
            Self::Concurrency(Concurrency::Set { name, limit }) => {
                let view: ConcurrencyView =
                    client.set_concurrency_limit(&org, &name, ConcurrencyLimit { limit }).await?;
                let runs = output::count(view.limit, "job");
                context.output.object(&view, name.as_str(), || {
                    format!("{} Of {name}, {runs} may run at a time", context.output.paint(GOOD, "✓"))
                })?;
            }
        }
        Ok(ExitCode::Ok)
    }
}

fn changed(context: &Context, done: &str, view: &OrgView) -> String {
    let waiting = output::count(view.queued, "job");
    let mark = context.output.paint(GOOD, "✓");
    format!("{mark} {done} {}: {waiting} waiting, {} running", view.org_id, view.running)
}

fn facts(view: &OrgView) -> String {
    let limits = &view.limits;
    let facts = [
        ("weight", limits.weight.to_string()),
        ("max running", limits.max_running.map_or("no limit".to_owned(), |most| most.to_string())),
        ("paused", if limits.paused { "yes" } else { "no" }.to_owned()),
        ("queued", view.queued.to_string()),
        ("running", view.running.to_string()),
    ];
    facts.iter().fold(view.org_id.to_string(), |text, (name, value)| format!("{text}\n  {name:<12} {value}"))
}
