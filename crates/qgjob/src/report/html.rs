//! A report as one HTML page: no script, nothing from elsewhere, readable in light and dark. Every text of a run is hostile:
//! it gets into the page through [`text`] alone.

use std::fmt::Write;

use qgjob_core::api::results::{TestTry, TestView};
use qgjob_core::model::attempt::InstallAction;
use qgjob_core::model::job::Conclusion;
use qgjob_core::model::test_result::TestOutcome;

use super::{JobReport, Remark, Report, titled};
use crate::text::{count, plain, size, span, tame};

const STYLE: &str = include_str!("style.css");

/// Renders.
pub fn html(report: &Report) -> String {
    let mut page = String::with_capacity(64 << 10);
    head(&mut page, report);
    let failed: Vec<_> = report.tests_that(TestOutcome::Unexpected).collect();
    let remarks = report.remarks();
    let troubles: Vec<_> = remarks.iter().filter(|(_, remark)| remark.is_trouble()).collect();
    if !troubles.is_empty() {
        section(&mut page, "Jobs without results", troubles.len());
        for (job, remark) in troubles {
            trouble(&mut page, job, *remark);
        }
    }
    if !failed.is_empty() {
        section(&mut page, "Failed", failed.len());
        for (job, test) in &failed {
            // A browser lays out what is open, whether somebody looks at it or not.
            told(&mut page, *job, test, failed.len() <= 50);
        }
    }
    let flaky: Vec<_> = report.tests_that(TestOutcome::Flaky).collect();
    if !flaky.is_empty() {
        section(&mut page, "Flaky", flaky.len());
        flaky.iter().for_each(|(job, test)| told(&mut page, *job, test, false));
    }
    section(&mut page, "Jobs", report.jobs.len());
    for job in &report.jobs {
        whole(&mut page, job);
    }
    if !report.carried.is_empty() {
        section(&mut page, "Not run again", report.carried.len());
        table(&mut page, &report.carried);
    }
    foot(&mut page, report);
    page
}

/// Makes any text mean nothing but itself, in elements and in attributes.
fn text(raw: &str) -> String {
    let mut done = String::with_capacity(raw.len());
    for c in tame(raw, false).chars() {
        match c {
            '&' => done.push_str("&amp;"),
            '<' => done.push_str("&lt;"),
            '>' => done.push_str("&gt;"),
            '"' => done.push_str("&quot;"),
            '\'' => done.push_str("&#39;"),
            c => done.push(c),
        }
    }
    done
}

macro_rules! put {
    ($page:expr, $($what:tt)*) => {
        // A string takes all that is written to it.
        _ = write!($page, $($what)*)
    };
}

fn head(page: &mut String, report: &Report) {
    let run = &report.run.run;
    let subject = report.only_job.map_or(run.id.to_string(), |job| job.to_string());
    let word = report.word();
    put!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
        <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
        <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
        <meta name=\"color-scheme\" content=\"light dark\">\n\
        <title>{word} · {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
        text(&subject)
    );
    let class = if report.is_green() { "good" } else { class_of(report.conclusion()) };
    put!(page, "<header class=\"{class}\"><h1>{word}</h1><p>{}</p></header>\n", text(&report.headline()));
    let totals = report.totals;
    put!(page, "<ul class=\"totals\">");
    for (number, word, class) in [
        (totals.total, "tests", ""),
        (totals.passed, "passed", "good"),
        (totals.failed, "failed", "bad"),
        (totals.flaky, "flaky", "warn"),
        (totals.skipped, "skipped", "dim"),
    ] {
        let class = if number == 0 { "dim" } else { class };
        put!(page, "<li class=\"{class}\"><b>{number}</b> {word}</li>");
    }
    put!(page, "</ul>\n<dl>");
    let mut fact = |name: &str, value: &str| {
        put!(page, "<div><dt>{name}</dt><dd>{}</dd></div>", text(value));
    };
    if let Some(name) = &run.name {
        fact("name", name);
    }
    fact("run", &run.id.to_string());
    if let Some(job) = report.only_job {
        fact("job", &job.to_string());
    }
    fact("org", run.org_id.as_str());
    fact("app version", run.app_version_id.as_str());
    fact("created", &moment(run.created_at));
    if let Some(took) = report.took_ms() {
        fact("took", &span(took));
    }
    let installs = report.run.installs;
    fact("installs", &format!("{} made, {} avoided", installs.made, installs.avoided));
    for (key, value) in &run.labels {
        fact(&text(key.as_str()), value.as_str());
    }
    put!(page, "</dl>\n");
}

fn moment(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn section(page: &mut String, title: &str, number: usize) {
    put!(page, "<h2>{title} <small>{number}</small></h2>\n");
}

fn class_of(conclusion: Option<Conclusion>) -> &'static str {
    match conclusion {
        Some(Conclusion::Passed) => "good",
        Some(Conclusion::Failed) => "bad",
        Some(Conclusion::Errored | Conclusion::TimedOut | Conclusion::Cancelled) => "warn",
        Some(Conclusion::Skipped) | None => "dim",
    }
}

fn trouble(page: &mut String, job: &JobReport, remark: Remark) {
    let ending = match remark {
        Remark::NotOver => format!("not over: {}", job.ending()),
        _ => job.ending(),
    };
    let class = if remark == Remark::FailedItself { "bad" } else { "warn" };
    put!(
        page,
        "<details open class=\"{class}\"><summary><b>{}</b> {}</summary><pre>{}</pre></details>\n",
        text(&plain(&job.job.job.spec.named())),
        device(job),
        text(&ending)
    );
}

fn device(job: &JobReport) -> String {
    let device = job.job.device_name.as_deref().map(|name| format!("on {}", plain(name))).unwrap_or_default();
    format!("<small>{}</small>", text(&device))
}

/// A test with all that its tries said.
fn told(page: &mut String, job: Option<&JobReport>, test: &TestView, open: bool) {
    let (mark, class) = mark(test.outcome);
    let place = format!("{}:{}", plain(&test.file), test.line);
    let whence = match test.carried_from {
        Some(run) => format!("in {run}, not run again"),
        None => format!("on {}, attempt {}", plain(&test.device_name), test.attempt),
    };
    put!(
        page,
        "<details{} class=\"{class}\"><summary><i>{mark}</i> <b>{}</b> <code>{}</code> <small>{}</small></summary>\n",
        if open { " open" } else { "" },
        text(&titled(test)),
        text(&place),
        text(&whence)
    );
    for one in &test.tries {
        tried(page, one, test.tries.len() > 1);
    }
    if let Some(job) = job {
        let names: Vec<_> = super::files_of(job, test).map(|artifact| artifact.name.as_str()).collect();
        if !names.is_empty() {
            put!(page, "<p><small>files: {}</small></p>", text(&names.join(", ")));
        }
    }
    put!(page, "</details>\n");
}

fn tried(page: &mut String, one: &TestTry, several: bool) {
    if several {
        put!(page, "<p>try {}: {} <small>{}</small></p>\n", one.retry + 1, one.status, span(one.duration_ms));
    }
    if let Some(error) = &one.error {
        put!(page, "<pre>{}</pre>\n", text(error.trim_end()));
    }
}

/// A job with all its tests.
fn whole(page: &mut String, job: &JobReport) {
    let (view, facts) = (&job.job, &job.job.job);
    let mut notes = Vec::new();
    if let Some(took) = job.took_ms() {
        notes.push(span(took));
    }
    if facts.attempts != 1 {
        notes.push(count(facts.attempts, "attempt"));
    }
    if let Some(install) = view.install {
        notes.push(match install.action {
            InstallAction::Avoided => "install avoided".to_owned(),
            _ => format!("installed in {}", span(install.duration_ms)),
        });
    }
    put!(
        page,
        "<details class=\"{}\"><summary><b>{}</b> {} <span>{}</span> <small>{}</small></summary>\n",
        class_of(facts.conclusion),
        text(&plain(&facts.spec.named())),
        device(job),
        facts.conclusion.map_or(facts.status.as_str(), Conclusion::as_str),
        text(&notes.join(" · "))
    );
    put!(page, "<p><small>{}</small></p>\n", facts.id);
    if job.remark().is_some() {
        put!(page, "<pre>{}</pre>\n", text(&job.ending()));
    }
    if !job.counts() && !job.results.is_empty() {
        put!(page, "<p>Seen without a verdict; these tests count nowhere:</p>\n");
    }
    table(page, &job.results);
    if job.untold() > 0 {
        put!(page, "<p>{} skipped without a try.</p>\n", count(job.untold(), "test"));
    }
    if !job.artifacts.is_empty() {
        put!(
            page,
            "<details class=\"files\"><summary>{}</summary><ul>",
            count(job.artifacts.len() as u64, "file")
        );
        for artifact in &job.artifacts {
            put!(
                page,
                "<li><code>{}</code> <small>{}</small></li>",
                text(&artifact.name),
                size(artifact.size_bytes)
            );
        }
        put!(page, "</ul></details>\n");
    }
    put!(page, "</details>\n");
}

fn mark(outcome: TestOutcome) -> (&'static str, &'static str) {
    match outcome {
        TestOutcome::Expected => ("✓", "good"),
        TestOutcome::Unexpected => ("✗", "bad"),
        TestOutcome::Flaky => ("~", "warn"),
        TestOutcome::Skipped => ("-", "dim"),
    }
}

fn table(page: &mut String, tests: &[TestView]) {
    if tests.is_empty() {
        return;
    }
    put!(page, "<table>\n");
    for test in tests {
        let (mark, class) = mark(test.outcome);
        let took: u64 = test.tries.iter().map(|one| one.duration_ms).sum();
        let tries = if test.tries.len() > 1 { format!("{} tries", test.tries.len()) } else { String::new() };
        put!(
            page,
            "<tr class=\"{class}\"><td>{mark}</td><td>{}</td><td>{}</td><td>{tries}</td><td>{}</td></tr>\n",
            text(&titled(test)),
            match test.outcome {
                TestOutcome::Expected => "passed",
                TestOutcome::Unexpected => "failed",
                TestOutcome::Flaky => "flaky",
                TestOutcome::Skipped => "skipped",
            },
            span(took)
        );
    }
    put!(page, "</table>\n");
}

fn foot(page: &mut String, report: &Report) {
    put!(page, "<footer>qgjob · as of {}</footer>\n</main>\n</body>\n</html>\n", moment(report.made_at));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::scene::{HOSTILE, Job, of_everything, report, test};

    /// Every tag of a page, without what it holds.
    fn tags(page: &str) -> Vec<&str> {
        let page = page.split_once("</style>").unwrap().1;
        page.split('<').skip(1).map(|rest| rest.split('>').next().unwrap()).collect()
    }

    #[test]
    fn everything_is_told_and_what_went_wrong_comes_first() {
        let page = html(&of_everything());
        let at = |needle: &str| page.find(needle).unwrap_or_else(|| panic!("{needle} in {page}"));
        assert!(at("<h2>Jobs without results <small>5<") < at("<h2>Failed <small>1<"));
        assert!(
            at("<h2>Failed <small>1<") < at("<h2>Flaky <small>1<")
                && at("<h2>Flaky") < at("<h2>Jobs <small>8<")
        );
        for told in [
            "errored (device_fault): the device left",
            "timed_out (timeout)",
            "not over: running",
            "SyntaxError: Unexpected token",
            "seen before",
            "these tests count nowhere",
            "2 tests skipped without a try",
            "expected 3\nreceived 4",
            "<b>7</b> tests",
        ] {
            at(told);
        }
        assert!(html(&report(Some("passed"), vec![])).contains("<header class=\"good\"><h1>passed</h1>"));
    }

    #[test]
    fn hostile_texts_become_no_elements_and_no_attributes() {
        let plain = |text: &str| {
            let one = test(&[text], 1, "unexpected", &[("failed", Some(text)), ("failed", Some(text))]);
            let other = test(&[text], 2, "flaky", &[("failed", Some(text)), ("passed", None)]);
            let mut report = report(
                Some("failed"),
                vec![
                    Job::new("a.spec.js", "failed", vec![one, other]),
                    Job::new("b.spec.js", "errored", vec![]),
                ],
            );
            report.run.run.name = Some(text.to_owned());
            report.jobs[1].job.job.detail = Some(text.to_owned());
            report.jobs[0].job.device_name = Some(text.to_owned());
            html(&report)
        };
        let (harmless, shape) = (plain("x"), |page: &str| tags(page).len());
        for hostile in HOSTILE {
            let page = plain(hostile);
            assert_eq!(tags(&page), tags(&harmless), "{hostile:?}");
            assert_eq!(shape(&page), shape(&harmless));
            assert!(!page.contains(['\u{0}', '\u{1b}', '\u{202e}']), "{hostile:?}");
        }
        assert!(
            !harmless.contains("<script") && !harmless.contains("http://") && !harmless.contains("https://")
        );
    }
}
