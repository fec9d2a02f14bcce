//! A report as Markdown that fits a number of bytes: what went wrong first, and of that as much as there is room for.

use qgjob_core::api::results::TestView;
use qgjob_core::model::job::Conclusion;
use qgjob_core::model::test_result::TestOutcome;

use super::{JobReport, Remark, Report, error_of, titled};
use crate::text::{plain, span, tame};

/// The smallest budget in bytes: room for the verdict and the totals.
pub const SMALLEST_BUDGET: usize = 2_048;
/// For a job summary of GitHub in bytes: one of more than 1 MiB is thrown away as a whole, and other steps of the job need room, too.
pub const SUMMARY_BUDGET: usize = 900_000;
/// The most bytes of one error.
const MOST_OF_AN_ERROR: usize = 8 << 10;
/// With less room than this for each error, only the titles are told.
const LEAST_OF_AN_ERROR: usize = 200;
/// Kept back for what says how much is left out.
const CLOSING: usize = 200;

/// Renders at most `budget` bytes; a smaller budget than [`SMALLEST_BUDGET`] counts as that.
pub fn markdown(report: &Report, budget: usize) -> String {
    let mut page = Page { text: head(report), budget: budget.max(SMALLEST_BUDGET) };
    let remarks = report.remarks();
    let (troubles, skipped): (Vec<_>, Vec<_>) =
        remarks.into_iter().partition(|(_, remark)| remark.is_trouble());
    page.list("Jobs without results", "job", troubles.iter().map(|(job, remark)| line_of(job, *remark)));
    page.failures(&report.tests_that(TestOutcome::Unexpected).collect::<Vec<_>>());
    let flaky = report.tests_that(TestOutcome::Flaky);
    page.list("Flaky", "test", flaky.map(|(job, test)| format!("- ~ {}\n", named(job, test))));
    page.list("Skipped", "job", skipped.iter().map(|(job, remark)| line_of(job, *remark)));
    page.jobs(&report.jobs);
    page.text
}

fn head(report: &Report) -> String {
    let mark = match report.conclusion() {
        Some(Conclusion::Passed) => "✅",
        Some(Conclusion::Failed) => "❌",
        Some(Conclusion::Skipped) => "⏭️",
        Some(_) => "⚠️",
        None => "⏳",
    };
    let run = &report.run.run;
    let mut text = format!("## {mark} {}: {}\n\n", report.word(), report.headline());
    let subject = report.only_job.map_or(run.id.to_string(), |job| job.to_string());
    text.push_str(&format!("`{subject}` · app version {}", escaped(run.app_version_id.as_str(), 128)));
    if let Some(name) = &run.name {
        text.push_str(&format!(" · {}", escaped(name, 128)));
    }
    if let Some(took) = report.took_ms() {
        text.push_str(&format!(" · {}", span(took)));
    }
    let totals = report.totals;
    text.push_str(
        "\n\n| tests | passed | failed | flaky | skipped |\n| ---: | ---: | ---: | ---: | ---: |\n",
    );
    text.push_str(&format!(
        "| {} | {} | {} | {} | {} |\n",
        totals.total, totals.passed, totals.failed, totals.flaky, totals.skipped
    ));
    text
}

struct Page {
    text: String,
    budget: usize,
}

impl Page {
    /// What there is room for.
    fn left(&self) -> usize {
        self.budget.saturating_sub(self.text.len() + CLOSING)
    }

    /// A heading with lines, as far as they fit.
    fn list(&mut self, heading: &str, noun: &str, lines: impl Iterator<Item = String>) {
        let lines: Vec<String> = lines.collect();
        if lines.is_empty() {
            return;
        }
        let heading = format!("\n### {heading} ({})\n\n", lines.len());
        // The totals tell of them even so.
        if heading.len() > self.left() {
            return;
        }
        self.text.push_str(&heading);
        let mut told = 0;
        for line in &lines {
            if line.len() > self.left() {
                break;
            }
            self.text.push_str(line);
            told += 1;
        }
        self.more(lines.len() - told, noun);
    }

    fn more(&mut self, left_out: usize, noun: &str) {
        if left_out > 0 {
            let line = format!("\n… and {} more\n", crate::text::count(left_out as u64, noun));
            if self.text.len() + line.len() <= self.budget {
                self.text.push_str(&line);
            }
        }
    }

    /// Each failed test with as much of its error as there is room for when all have as much.
    fn failures(&mut self, failed: &[(Option<&JobReport>, &TestView)]) {
        let heads: Vec<String> = failed.iter().map(|(job, test)| summary(*job, test)).collect();
        let of_heads: usize = heads.iter().map(String::len).sum();
        let each = self.left().saturating_sub(of_heads) / failed.len().max(1);
        if each < LEAST_OF_AN_ERROR {
            let lines = failed.iter().map(|(job, test)| format!("- ✗ {}\n", named(*job, test)));
            return self.list("Failed", "test", lines);
        }
        let with_errors = heads.iter().zip(failed).map(|(head, (_, test))| {
            let error = tame(error_of(test).unwrap_or("no error was told"), false);
            format!("{head}\n{}\n</details>\n\n", fenced(&error, each.min(MOST_OF_AN_ERROR) - FENCE))
        });
        self.list("Failed", "test", with_errors);
    }

    fn jobs(&mut self, jobs: &[JobReport]) {
        let lines: Vec<String> = jobs.iter().map(row).collect();
        let header = "\n### Jobs\n\n| test file | result | passed | failed | flaky | skipped | device | attempts | time |\n\
            | --- | --- | ---: | ---: | ---: | ---: | --- | ---: | ---: |\n";
        if lines.first().is_none_or(|first| header.len() + first.len() > self.left()) {
            return;
        }
        self.text.push_str(header);
        let mut told = 0;
        for line in &lines {
            if line.len() > self.left() {
                break;
            }
            self.text.push_str(line);
            told += 1;
        }
        self.more(lines.len() - told, "job");
    }
}

/// Bytes that a fence and the end of its block take beside what is in it, at most.
const FENCE: usize = 120;

fn summary(job: Option<&JobReport>, test: &TestView) -> String {
    let place = format!("{}:{}", plain(&test.file), test.line);
    let title = html(&cut(&titled(test), 300));
    format!(
        "<details><summary>✗ {title} <code>{}</code>{}</summary>\n",
        html(&cut(&place, 300)),
        html(&on(job, test))
    )
}

fn named(job: Option<&JobReport>, test: &TestView) -> String {
    let place = format!("{}:{}", plain(&test.file), test.line);
    format!("{} ({}){}", escaped(&titled(test), 300), escaped(&place, 300), escaped(&on(job, test), 200))
}

fn on(job: Option<&JobReport>, test: &TestView) -> String {
    let tries = if test.tries.len() > 1 { format!(", {} tries", test.tries.len()) } else { String::new() };
    match (job, test.carried_from) {
        (_, Some(run)) => format!(" in {run}, not run again{tries}"),
        _ => format!(" on {}{tries}", plain(&test.device_name)),
    }
}

fn line_of(job: &JobReport, remark: Remark) -> String {
    let ending = match remark {
        Remark::NotOver => format!("not over: {}", job.ending()),
        _ => job.ending(),
    };
    format!("- {}: {}\n", escaped(&job.job.job.spec.named(), 300), escaped(&plain(&ending), 600))
}

fn row(report: &JobReport) -> String {
    let (view, job) = (&report.job, &report.job.job);
    let tests = job.tests;
    let device = view.device_name.as_deref().unwrap_or("–");
    format!(
        "| {} | {} | {} | {} | {} | {} | {} | {} | {} |\n",
        escaped(&job.spec.named(), 300),
        escaped(job.conclusion.map_or(job.status.as_str(), Conclusion::as_str), 40),
        tests.passed,
        tests.failed,
        tests.flaky,
        tests.skipped,
        escaped(device, 100),
        job.attempts,
        report.took_ms().map_or("–".to_owned(), span),
    )
}

/// A block that no text can leave: its fence is longer than any in it.
fn fenced(text: &str, most: usize) -> String {
    let text = cut(text.trim_end(), most);
    let mut longest = 0;
    let mut run = 0;
    for c in text.chars() {
        run = if c == '`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    // A text of backticks alone would cost three times its size.
    if longest > 40 {
        return fenced(&text.replace('`', "'"), most);
    }
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}text\n{text}\n{fence}")
}

/// At most so many bytes, cut between characters.
fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = most.saturating_sub('…'.len_utf8());
    let end = (0..=end).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", &text[..end])
}

fn html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A text of at most `most` bytes on one line, in which nothing means anything to Markdown or HTML.
fn escaped(text: &str, most: usize) -> String {
    let mut done = String::new();
    for c in cut(&plain(text), most).chars() {
        match c {
            '&' => done.push_str("&amp;"),
            '<' => done.push_str("&lt;"),
            '>' => done.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '!' | '$' => {
                done.push('\\');
                done.push(c);
            }
            c => done.push(c),
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::scene::{Job, failed, of_everything, passed, report, test};

    #[test]
    fn everything_is_told_and_what_went_wrong_comes_first() {
        let text = markdown(&of_everything(), 100_000);
        insta::assert_snapshot!(text);
        let at = |needle: &str| text.find(needle).unwrap_or_else(|| panic!("{needle} in {text}"));
        assert!(at("### Jobs without results") < at("### Failed") && at("### Failed") < at("### Flaky"));
        assert!(at("### Flaky") < at("### Jobs\n"));
        for job in ["lost", "slow", "stopped", "broken", "shard", "open"] {
            assert!(at(&format!("tests/{job}.spec.js: ")) > 0);
        }
        assert!(!text.contains("seen before"), "a test of a job without a verdict is no result");
    }

    #[test]
    fn a_text_cannot_leave_its_place() {
        let hostile = "`x` | <script>alert(1)</script> [a](javascript:b) ![i](u) \u{1b}[31m\n# head & ~~s~~";
        let error = "```\n</details>\n<img src=x onerror=alert(1)>\n``````\n# head";
        let one = test(&[hostile], 1, "unexpected", &[("failed", Some(error))]);
        let other = test(&[hostile], 2, "flaky", &[("failed", Some(error)), ("passed", None)]);
        let text = markdown(
            &report(Some("failed"), vec![Job::new("a.spec.js", "failed", vec![one, other])]),
            50_000,
        );
        assert!(!text.contains("<script") && !text.contains('\u{1b}'), "{text}");
        let flaky = text.lines().find(|line| line.starts_with("- ~ ")).unwrap();
        assert!(flaky.contains(r"\`x\` \| &lt;script&gt;") && flaky.contains(r"\[a\](javascript"), "{flaky}");
        // The error is between fences that are longer than its own.
        let (_, block) = text.split_once("```````text\n").unwrap();
        let (inside, _) = block.split_once("\n```````\n</details>").unwrap();
        assert_eq!(inside, error);
    }

    #[test]
    fn a_budget_is_kept_and_says_what_it_left_out() {
        let long = "a long line of an error & more\n".repeat(500);
        for tests in [1, 10, 100, 3_000] {
            let failing: Vec<_> = (1..=tests).map(|at| failed(&format!("test <{at}>"), at, &long)).collect();
            let jobs = vec![
                Job { detail: Some("the device left"), ..Job::new("lost.spec.js", "errored", vec![]) },
                Job::new("a.spec.js", "failed", failing),
            ];
            let whole = report(Some("failed"), jobs);
            for budget in [0, SMALLEST_BUDGET, 5_000, 65_535, SUMMARY_BUDGET] {
                let text = markdown(&whole, budget);
                assert!(text.len() <= budget.max(SMALLEST_BUDGET), "{} of {budget}", text.len());
                assert!(text.contains(&format!("{tests} of {tests} test")), "{text:.300}");
                assert!(text.contains("lost.spec.js"), "{text:.600}");
                let told = text.matches("✗ ").count();
                let more = text.lines().find_map(|line| {
                    let number = line
                        .strip_prefix("… and ")?
                        .split_once(" more test")
                        .or(line.strip_prefix("… and ")?.split_once(" test"))?
                        .0;
                    number.parse::<usize>().ok()
                });
                assert_eq!(told + more.unwrap_or(0), tests as usize, "{budget}: {text:.3000}");
            }
        }
    }

    #[test]
    fn a_green_run_is_short() {
        let text = markdown(
            &report(Some("passed"), vec![Job::new("a.spec.js", "passed", vec![passed("x", 1)])]),
            9_000,
        );
        assert!(text.starts_with("## ✅ passed: 1 of 1 test passed\n"), "{text}");
        assert!(!text.contains("### Failed") && !text.contains("without a verdict"), "{text}");
    }
}
