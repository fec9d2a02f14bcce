//! `qgjob run compare`.

use qgjob_core::model::exit::ExitCode;
use qgjob_core::model::job::{Conclusion, Status};
use qgjob_core::model::test_result::TestOutcome;

use super::Context;
use super::failure::{Failure, Result};
use super::value::run_id;
use crate::client::Client;
use crate::client::watch::Subject;
use crate::output::{BAD, BOLD, GOOD, Output, WARN, count, plain};
use crate::report::{Compared, Comparison, Report, Side};

/// Show what changed from one run to another, test by test
///
/// Tests are the same when file and titles are. Both runs must be over. The exit code is 1 when a test fails that did not fail
/// before, else 10 when a job of the second run came to no verdict, else 0.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  qgjob run compare <id of main> <id of the branch>\n  qgjob run compare <id> <id> -o json"
)]
pub struct Compare {
    /// The run to compare with: its id, or its last 6 characters or more
    #[arg(value_name = "BEFORE")]
    before: String,
    /// The run that is compared
    #[arg(value_name = "AFTER")]
    after: String,
}

impl Compare {
    pub async fn run(self, context: &Context) -> Result {
        let client = context.client()?;
        let before = load(context, &client, &self.before).await?;
        let after = load(context, &client, &self.after).await?;
        let comparison = Comparison::of(&before, &after);
        let name = format!("{}..{}", comparison.before.run_id, comparison.after.run_id);
        context.output.object(&comparison, &name, || text(&context.output, &comparison))?;
        Ok(comparison.exit_code())
    }
}

async fn load(context: &Context, client: &Client, id: &str) -> Result<Report> {
    use qgjob_core::clock::Clock;
    let id = run_id(client, id).await?;
    let report = Report::load(client, &Subject::Run(id.clone()), context.clock.now()).await?;
    match report.status() {
        Status::Completed => Ok(report),
        status => Err(Failure::new(ExitCode::Conflict, format!("run {id} is {status}"))
            .cause("only runs that are over can be compared")
            .hint(format!("qgjob wait --run-id={id}"))),
    }
}

fn text(output: &Output, made: &Comparison) -> String {
    let mut text = format!("before  {}\nafter   {}\n", side(&made.before), side(&made.after));
    let lists = [
        ("new failures", BAD, &made.new_failures),
        ("still failing", BAD, &made.still_failing),
        ("fixed", GOOD, &made.fixed),
        ("flaky", WARN, &made.flaky),
        ("only before", WARN, &made.only_before),
        ("only after", BOLD, &made.only_after),
    ];
    for (name, style, tests) in lists {
        if tests.is_empty() {
            continue;
        }
        text.push_str(&format!("\n{}\n", output.paint(style.bold(), &format!("{name} ({})", tests.len()))));
        let rows: Vec<_> = tests.iter().map(row).collect();
        text.push_str(&output.table(&["TEST", "BEFORE", "AFTER", "PLACE"], &rows));
        text.push('\n');
    }
    for named in &made.after.without_verdict {
        let line = format!("\n{} {}: came to no verdict after", output.paint(WARN, "!"), plain(named));
        text.push_str(&line);
    }
    if lists.iter().all(|(_, _, tests)| tests.is_empty()) {
        text.push_str("\nno test did anything else\n");
    }
    text
}

fn side(side: &Side) -> String {
    let conclusion = side.conclusion.map_or("", Conclusion::as_str);
    let tests = count(u64::from(side.tests.total), "test");
    format!("{} {conclusion}: {tests}, {} failed", side.run_id, side.tests.failed)
}

fn row(test: &Compared) -> Vec<String> {
    let word = |outcome: Option<TestOutcome>| {
        let word = match outcome {
            None => "–",
            Some(TestOutcome::Expected) => "passed",
            Some(TestOutcome::Unexpected) => "failed",
            Some(TestOutcome::Flaky) => "flaky",
            Some(TestOutcome::Skipped) => "skipped",
        };
        word.to_owned()
    };
    let place = format!("{}:{}", plain(&test.file), test.line);
    vec![plain(&test.title.join(" › ")), word(test.before), word(test.after), place]
}
