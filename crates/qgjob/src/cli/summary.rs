//! The summary of a run: its jobs in a table, every test's result, the first lines of each error, and the installs
//! made and avoided. The same after `--watch` and for `run view`.

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt, stream};
use qgjob_core::api::jobs::{JobView, TryView};
use qgjob_core::api::runs::RunWithJobs;
use qgjob_core::model::attempt::InstallAction;
use qgjob_core::model::job::{self, Conclusion};
use qgjob_core::model::test_result::{Counts, TestOutcome, Try};

use super::Context;
use super::failure::Result;
use super::watch::story;
use crate::client::Client;
use crate::client::watch::View;
use crate::output::{BAD, BOLD, DIM, GOOD, Output, WARN, between, count, plain, span, tame};

/// With more jobs than this, only those with something to tell are asked for their tests.
const SHOW_ALL_TESTS: usize = 100;
/// Lines of an error that are shown.
const ERROR_LINES: usize = 6;

/// What the tests of each job did.
pub type Tests = BTreeMap<job::Id, Vec<Try>>;

/// The summary of a run or of one job.
pub async fn of_view(context: &Context, client: &Client, view: &View) -> Result<String> {
    let all = view.jobs().len() <= SHOW_ALL_TESTS;
    let wanted: Vec<_> = view
        .jobs()
        .iter()
        .filter(|job| {
            job.job.attempts > 0
                && (all || job.job.conclusion != Some(Conclusion::Passed) || job.job.tests.flaky > 0)
        })
        .map(|job| job.job.id)
        .collect();
    let asked = stream::iter(wanted).map(|id| async move {
        let tries = client.tries(&id.to_string()).await?;
        Ok::<_, crate::client::Error>((id, last_tries(tries)))
    });
    let tests: Tests = asked.buffer_unordered(8).try_collect().await?;
    Ok(match view {
        View::Run(run) => of_run(&context.output, run, &tests),
        View::Job(job) => of_jobs(&context.output, std::slice::from_ref(job), &tests),
    })
}

/// The last try of each test in the latest attempt that ran any, in the order in which they ended.
fn last_tries(tries: Vec<TryView>) -> Vec<Try> {
    let Some(latest) = tries.last().map(|view| view.attempt_id) else { return Vec::new() };
    let mut last: Vec<Try> = Vec::new();
    for result in tries.into_iter().filter(|view| view.attempt_id == latest).map(|view| view.result) {
        match last.iter_mut().find(|other| other.test_id == result.test_id) {
            // An error of an earlier try says why a flaky test is flaky.
            Some(other) => {
                let error = result.error.clone().or_else(|| other.error.take());
                *other = Try { error, ..result };
            }
            None => last.push(result),
        }
    }
    last
}

fn of_run(output: &Output, run: &RunWithJobs, tests: &Tests) -> String {
    let facts = &run.run.run;
    let took = facts
        .finished_at
        .map(|end| format!(" in {}", span(between(facts.created_at, end))))
        .unwrap_or_default();
    let style = facts.conclusion.map_or(DIM, story::style_of);
    let verdict = facts.conclusion.map_or(facts.status.as_str(), Conclusion::as_str);
    let mut text = format!(
        "{} {} {}{}\n",
        output.paint(BOLD, &format!("Run {}", facts.id)),
        output.paint(style.bold(), verdict),
        output.paint(DIM, &format!("({})", story::counts(facts))),
        took
    );
    text.push_str(&format!("  app version {} · org {}", facts.app_version_id, facts.org_id));
    if let Some(name) = &facts.name {
        text.push_str(&format!(" · {}", plain(name)));
    }
    for (key, value) in &facts.labels {
        text.push_str(&format!(" · {key}={value}"));
    }
    if let Some(ci) = &facts.ci {
        text.push_str(&format!("\n  submitted by {}", super::org::who(ci)));
    }
    if let Some(before) = facts.rerun_of {
        let carried = counted(facts.carried).unwrap_or_else(|| "nothing".to_owned());
        text.push_str(&format!("\n  rerun of {before} · carried from it: {carried}"));
        if let Some(all) = counted(facts.tests) {
            text.push_str(&format!(" · of {}: {all}", count(u64::from(facts.tests.total), "test")));
        }
    }
    text.push_str("\n\n");
    text.push_str(&of_jobs(output, &run.job_list, tests));
    let installs = run.run.installs;
    text.push_str(&format!("\ninstalls: {} made, {} avoided", installs.made, installs.avoided));
    text
}

/// The jobs and their tests.
pub fn of_jobs(output: &Output, jobs: &[JobView], tests: &Tests) -> String {
    let rows: Vec<_> = jobs.iter().map(row).collect();
    let mut text =
        output.table(&["TEST FILE", "RESULT", "TESTS", "DEVICE", "ATTEMPTS", "INSTALL", "TIME"], &rows);
    text.push('\n');
    let mut troubles = String::new();
    for view in jobs {
        // Failed tests tell their own errors below.
        let told = match view.job.conclusion {
            Some(Conclusion::Passed) => true,
            Some(Conclusion::Failed) => tests.get(&view.job.id).is_some_and(|tries| !tries.is_empty()),
            _ => false,
        };
        if let Some(detail) = view.job.detail.as_ref().filter(|_| !told) {
            let reason = view.job.reason.map_or("", |reason| reason.as_str());
            troubles.push_str(&format!(
                "\n{} {}: {}\n",
                output.paint(WARN, "!"),
                view.job.spec.named(),
                plain(&format!("{reason}: {detail}"))
            ));
        }
        let Some(tries) = tests.get(&view.job.id).filter(|tries| !tries.is_empty()) else { continue };
        text.push_str(&format!(
            "\n{}  {}\n",
            output.paint(BOLD, &view.job.spec.named()),
            output.paint(DIM, &on(view))
        ));
        for result in tries {
            text.push_str(&format!("  {}\n", test_line(output, result)));
            if matches!(result.outcome, TestOutcome::Unexpected | TestOutcome::Flaky) {
                troubles.push_str(&trouble(output, view, result));
            }
        }
    }
    text.push_str(&troubles);
    text
}

fn on(view: &JobView) -> String {
    view.device_name.as_ref().map(|device| format!("on {}", plain(device))).unwrap_or_default()
}

fn row(view: &JobView) -> Vec<String> {
    let job = &view.job;
    let result = job.conclusion.map_or(job.status.as_str(), Conclusion::as_str).to_owned();
    let took = job.started_at.zip(job.finished_at).map(|(from, to)| span(between(from, to)));
    let install = view.install.map(|install| match install.action {
        InstallAction::Avoided => "avoided".to_owned(),
        _ => format!("made, {}", span(install.duration_ms)),
    });
    let dash = || "–".to_owned();
    vec![
        job.spec.named(),
        result,
        counted(job.tests).unwrap_or_else(dash),
        view.device_name.clone().unwrap_or_else(dash),
        job.attempts.to_string(),
        install.unwrap_or_else(dash),
        took.unwrap_or_else(dash),
    ]
}

/// How many tests ended how, without what did not happen.
fn counted(tests: Counts) -> Option<String> {
    let ends = [
        (tests.passed, "passed"),
        (tests.failed, "failed"),
        (tests.flaky, "flaky"),
        (tests.skipped, "skipped"),
    ];
    let ends = ends.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
    Some(ends.collect::<Vec<_>>().join(", ")).filter(|text| !text.is_empty())
}

fn test_line(output: &Output, result: &Try) -> String {
    let (mark, style) = match result.outcome {
        TestOutcome::Expected => ("✓", GOOD),
        TestOutcome::Unexpected => ("✗", BAD),
        TestOutcome::Flaky => ("~", WARN),
        TestOutcome::Skipped => ("-", DIM),
    };
    let note = match result.outcome {
        TestOutcome::Flaky => format!(" (flaky: passed on retry {})", result.retry),
        TestOutcome::Skipped => " (skipped)".to_owned(),
        _ => String::new(),
    };
    let title = plain(&result.title.join(" › "));
    format!("{} {title}{note}  {}", output.paint(style, mark), output.paint(DIM, &span(result.duration_ms)))
}

fn trouble(output: &Output, view: &JobView, result: &Try) -> String {
    let (mark, style) = if result.outcome == TestOutcome::Flaky { ("~", WARN) } else { ("✗", BAD) };
    let title = plain(&result.title.join(" › "));
    let tries = if result.retry > 0 {
        format!(", {}", count(result.retry + 1, "try").replace("trys", "tries"))
    } else {
        String::new()
    };
    let place = format!("{}:{}{tries} {}", plain(&result.file), result.line, on(view));
    let mut text =
        format!("\n{} {title}  {}\n", output.paint(style, mark), output.paint(DIM, place.trim_end()));
    let error = tame(result.error.as_deref().unwrap_or_default(), output.color);
    for line in error.lines().filter(|line| !line.trim().is_empty()).take(ERROR_LINES) {
        text.push_str(&format!("    {line}\n"));
    }
    text
}
