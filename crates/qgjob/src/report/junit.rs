//! A report as JUnit XML: `testsuites > testsuite > testcase`, a suite for each job. What earlier tries of a test did is a
//! `flakyFailure` or `rerunFailure`, as Maven Surefire writes it. There are as many test cases as the server counted tests, and
//! one more for each job of which something is to be said itself.

use std::path::Path;
use std::time::Duration;

use qgjob_core::api::results::{TestTry, TestView};
use qgjob_core::model::job::Conclusion;
use qgjob_core::model::test_result::{TestOutcome, TryStatus};
use quick_junit::{NonSuccessKind, Property, Report as Xml, TestCase, TestCaseStatus, TestRerun, TestSuite};

use super::{JobReport, Remark, Report, error_of, first_line, titled};
use crate::text::{plain, tame};

/// Renders. `artifacts` is the folder that [`place`](super::place) is used in, when the files are there: then test cases name
/// theirs as `[[ATTACHMENT|path]]`, which GitLab and Jenkins show.
///
/// # Errors
/// When the XML cannot be written, which memory alone can be the cause of.
pub fn junit(report: &Report, artifacts: Option<&Path>) -> Result<String, quick_junit::SerializeError> {
    let run = &report.run.run;
    let mut xml = Xml::new(run.name.as_deref().map_or_else(|| run.id.to_string(), plain));
    if let Some(took) = report.took_ms() {
        xml.set_time(Duration::from_millis(took));
    }
    for job in &report.jobs {
        xml.add_test_suite(suite(report, job, artifacts));
    }
    if !report.carried.is_empty() {
        let mut suite = TestSuite::new("not run again");
        suite.add_test_cases(report.carried.iter().map(|test| case(test, None, None)));
        xml.add_test_suite(suite);
    }
    xml.to_string()
}

fn suite(report: &Report, of: &JobReport, artifacts: Option<&Path>) -> TestSuite {
    let (view, job) = (&of.job, &of.job.job);
    let mut suite = TestSuite::new(plain(&job.spec.named()));
    if let Some(took) = of.took_ms() {
        suite.set_time(Duration::from_millis(took));
    }
    let started = job.started_at.unwrap_or(job.created_at);
    suite.extra.insert("timestamp".into(), started.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string().into());
    suite.extra.insert("file".into(), job.spec.test.as_str().into());
    if let Some(device) = &view.device_name {
        suite.extra.insert("hostname".into(), plain(device).into());
    }
    let conclusion = job.conclusion.map_or(job.status.as_str(), Conclusion::as_str);
    let mut property = |name: &str, value: &str| _ = suite.add_property(Property::new(name, value));
    property("run", &report.run.run.id.to_string());
    property("job", &job.id.to_string());
    property("app_version", job.app_version_id.as_str());
    property("conclusion", conclusion);
    property("attempt", &job.attempts.to_string());
    if let Some(device) = &view.device_name {
        property("device", &plain(device));
    }
    if let Some(reason) = job.reason {
        property("reason", reason.as_str());
    }
    if let Some(remark) = of.remark() {
        suite.add_test_case(itself(of, remark));
    }
    if of.counts() {
        suite.add_test_cases(of.results.iter().map(|test| case(test, Some(of), artifacts)));
    }
    for number in 1..=of.untold() {
        let name = format!("skipped without a try ({number} of {})", of.untold());
        suite.add_test_case(named(name, of, TestCaseStatus::skipped()));
    }
    suite
}

/// A job of which something is to be said itself. What was seen of its tests is told, but counts nowhere.
fn itself(of: &JobReport, remark: Remark) -> TestCase {
    let mut status = match remark {
        Remark::NotOver | Remark::NoVerdict => TestCaseStatus::non_success(NonSuccessKind::Error),
        Remark::FailedItself => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Remark::Skipped => TestCaseStatus::skipped(),
    };
    let ending = match remark {
        Remark::NotOver => format!("not over: {}", of.ending()),
        _ => of.ending(),
    };
    let kind = of.job.job.reason.map_or(remark_word(remark), |reason| reason.as_str());
    status.set_message(first_line(&ending)).set_type(kind);
    let mut description = tame(&ending, false);
    if !of.counts() && !of.results.is_empty() {
        description.push_str("\n\nseen before it ended:");
        for test in &of.results {
            description.push_str(&format!("\n  {}: {}", test.outcome, titled(test)));
            if let Some(error) = error_of(test) {
                description.push_str(&format!("\n    {}", first_line(error)));
            }
        }
    }
    status.set_description(description);
    named(format!("job {}", of.job.job.id), of, status)
}

fn remark_word(remark: Remark) -> &'static str {
    match remark {
        Remark::NotOver => "not_over",
        Remark::NoVerdict => "no_verdict",
        Remark::FailedItself => "load_error",
        Remark::Skipped => "skipped",
    }
}

fn named(name: String, of: &JobReport, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(name, status);
    case.set_classname(of.job.job.spec.test.as_str());
    case.set_time(Duration::ZERO);
    case.extra.insert("file".into(), of.job.job.spec.test.as_str().into());
    case
}

fn case(test: &TestView, of: Option<&JobReport>, artifacts: Option<&Path>) -> TestCase {
    let mut case = TestCase::new(titled(test), status(test));
    let took: u64 = test.tries.last().map_or(0, |one| one.duration_ms);
    case.set_classname(plain(&test.file)).set_time(Duration::from_millis(took));
    case.extra.insert("file".into(), plain(&test.file).into());
    case.extra.insert("line".into(), test.line.to_string().into());
    case.add_property(Property::new("job", test.job_id.to_string()));
    case.add_property(Property::new("device", plain(&test.device_name)));
    case.add_property(Property::new("attempt", test.attempt.to_string()));
    if let Some(run) = test.carried_from {
        case.add_property(Property::new("carried_from", run.to_string()));
    }
    if let (Some(of), Some(dir)) = (of, artifacts) {
        let files = super::files_of(of, test).map(|artifact| super::place(of, artifact));
        let lines: Vec<_> = files
            .map(|inside| format!("[[ATTACHMENT|{}]]", plain(&dir.join(inside).display().to_string())))
            .collect();
        if !lines.is_empty() {
            case.set_system_out(lines.join("\n"));
        }
    }
    case
}

fn status(test: &TestView) -> TestCaseStatus {
    let (last, earlier) = match test.tries.as_slice() {
        [earlier @ .., last] => (Some(last), earlier),
        [] => (None, &[][..]),
    };
    match test.outcome {
        TestOutcome::Skipped => TestCaseStatus::skipped(),
        TestOutcome::Expected => TestCaseStatus::success(),
        TestOutcome::Flaky => {
            let mut status = TestCaseStatus::success();
            let wanted = last.map(|last| last.status);
            for one in earlier.iter().filter(|one| Some(one.status) != wanted) {
                status.add_rerun(rerun(one));
            }
            status
        }
        TestOutcome::Unexpected => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            let error = last.and_then(|one| one.error.as_deref()).or_else(|| error_of(test));
            let error = error.map_or_else(|| word(last).to_owned(), |error| tame(error, false));
            status.set_message(first_line(&error)).set_type(word(last)).set_description(error);
            status.add_reruns(earlier.iter().map(rerun));
            status
        }
    }
}

fn rerun(one: &TestTry) -> TestRerun {
    let mut rerun = TestRerun::new(NonSuccessKind::Failure);
    let error = one.error.as_deref().map_or_else(|| one.status.to_string(), |error| tame(error, false));
    rerun.set_message(first_line(&error)).set_type(one.status.as_str());
    rerun.set_time(Duration::from_millis(one.duration_ms)).set_stack_trace(error);
    rerun
}

fn word(last: Option<&TestTry>) -> &'static str {
    // A test that was to fail and passed is no failed try.
    match last.map(|one| one.status) {
        Some(TryStatus::Passed) => "passed_unexpectedly",
        Some(status) => status.as_str(),
        None => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::scene::{HOSTILE, Job, of_everything, report, test};

    fn parsed(report: &Report) -> Xml {
        let text = junit(report, Some(Path::new("files"))).unwrap();
        Xml::deserialize_from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    #[test]
    fn everything_is_told() {
        insta::assert_snapshot!(junit(&of_everything(), None).unwrap());
    }

    #[test]
    fn there_are_as_many_cases_as_the_server_counted_and_one_for_each_job_with_a_remark() {
        let report = of_everything();
        let xml = parsed(&report);
        let cases = xml.test_suites.iter().flat_map(|suite| &suite.test_cases).count();
        let remarks = report.remarks().len();
        assert_eq!((xml.tests, cases), (report.totals.total as usize + remarks, xml.tests));
        let of = |wanted: Remark| report.remarks().iter().filter(|(_, remark)| *remark == wanted).count();
        assert_eq!(xml.errors, of(Remark::NoVerdict) + of(Remark::NotOver));
        assert_eq!(xml.failures, report.totals.failed as usize + of(Remark::FailedItself));
        assert_eq!(xml.skipped, report.totals.skipped as usize + of(Remark::Skipped));
        for job in ["lost", "slow", "stopped", "open"] {
            let suite = xml.test_suites.iter().find(|suite| suite.name.contains(job)).unwrap();
            assert_eq!((suite.tests, suite.errors), (1, 1), "{job}");
        }
    }

    #[test]
    fn hostile_texts_stay_texts() {
        for hostile in HOSTILE {
            let one =
                test(&[hostile], 1, "unexpected", &[("failed", Some(hostile)), ("failed", Some(hostile))]);
            let other = test(&[hostile], 2, "flaky", &[("failed", Some(hostile)), ("passed", None)]);
            let xml =
                parsed(&report(Some("failed"), vec![Job::new("a.spec.js", "failed", vec![one, other])]));
            assert_eq!((xml.tests, xml.failures, xml.errors), (2, 1, 0), "{hostile:?}");
            let TestCaseStatus::NonSuccess { description, reruns, .. } =
                &xml.test_suites[0].test_cases[0].status
            else {
                panic!("{hostile:?}")
            };
            assert_eq!(reruns.runs.len(), 1, "{hostile:?}");
            let told = description.as_ref().map(|text| text.to_string()).unwrap_or_default();
            assert!(!told.contains(['\u{0}', '\u{1b}', '\u{fffe}']), "{told:?}");
        }
    }
}
