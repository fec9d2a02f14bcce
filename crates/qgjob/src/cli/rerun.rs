//! `qgjob run rerun-failed`, and `qgjob retry --failed`.

use qgjob_core::model::exit::ExitCode;
use qgjob_core::model::name::IdempotencyKey;

use super::Context;
use super::failure::Result;
use super::interrupt::Interrupt;
use super::value::{random_key, run_id};
use super::watch::{Patience, Wish, watch};
use crate::client::Client;
use crate::client::watch::Subject;
use crate::output::{Format, GOOD, count};

/// Run again what failed in a run that is over
///
/// Makes one new run, linked to the old one: of a file whose tests failed it runs those tests alone, with what must run as one
/// with them; of a job without a verdict all. Its totals are those of the full set, its exit code is that of what it ran, but
/// not 0 while a test of the full set counts as failed. When nothing failed, the command exits with 6.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  qgjob run rerun-failed --run-id=<id> --watch\n  qgjob run rerun-failed <id> -o name"
)]
pub struct RerunFailed {
    /// Id of the run, or its last 6 characters or more
    #[arg(value_name = "ID", required_unless_present = "run_id")]
    id: Option<String>,
    /// Id of the run
    #[arg(long, value_name = "ID", conflicts_with = "id")]
    run_id: Option<String>,
    /// Makes repeated calls one run [default: a random one]
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<IdempotencyKey>,
    /// Tell what happens until the end; the exit code is the verdict
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    patience: Patience,
}

impl RerunFailed {
    pub async fn run(self, context: &Context) -> Result {
        let client = context.client()?;
        let interrupt = Interrupt::listen(context, self.patience.on_interrupt.of_maker(&context.env))?;
        let id = run_id(&client, &self.id.or(self.run_id).unwrap_or_default()).await?;
        let again = Again { run: &id, key: self.idempotency_key, watch: self.watch, patience: self.patience };
        interrupt.run(&client, again.make(context, &client, &interrupt)).await
    }
}

/// What is to be made of which run.
pub struct Again<'a> {
    pub run: &'a str,
    pub key: Option<IdempotencyKey>,
    pub watch: bool,
    pub patience: Patience,
}

impl Again<'_> {
    pub async fn make(self, context: &Context, client: &Client, interrupt: &Interrupt) -> Result {
        let waits = self.watch || self.patience.reports.any();
        self.patience.reports.prepare(1)?;
        let before = client.run(self.run).await?.run.run;
        let key = self.key.unwrap_or_else(|| random_key(&context.clock));
        let made = interrupt.make(&before.org_id, &key, client.rerun_failed(self.run, &key)).await?;
        // With --watch, the one document is the run at its end.
        if !(waits && context.output.format == Format::Json) {
            let text = || {
                let jobs = count(made.jobs.len() as u64, "job");
                format!(
                    "{} Queued {} ({jobs}, what failed in {})",
                    context.output.paint(GOOD, "✓"),
                    made.run_id,
                    before.id
                )
            };
            context.output.object(&made, &made.run_id.to_string(), text)?;
        }
        if !waits {
            return Ok(ExitCode::Ok);
        }
        let wish = Wish { tell: true, just_created: true, patience: self.patience };
        watch(context, client, vec![Subject::Run(made.run_id.to_string())], &wish).await
    }
}
