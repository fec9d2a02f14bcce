//! Whether each test that an attempt was to repeat has a result that counts.

use std::collections::{HashMap, HashSet};

use crate::model::evidence::ReportedTest;
use crate::model::rerun::NamedTest;
use crate::model::test_result::{TestOutcome, Try};

/// The first of the tests that the report has no result of, or that is skipped although it had failed; for people.
///
/// A test is known by its id, or, where the report does not hold that one, by its titles: the id depends on the Playwright
/// project, and so on the kind of device. Of tests that share their titles as many must be there as are named.
pub(super) fn missing(only: &[NamedTest], reported: &[ReportedTest], seen: &[Try]) -> Option<String> {
    let titles: HashMap<&str, &[String]> =
        seen.iter().map(|one| (one.test_id.as_str(), one.title.as_slice())).collect();
    let by_id: HashMap<&str, TestOutcome> =
        reported.iter().map(|test| (test.test_id.as_str(), test.outcome)).collect();
    let named: HashSet<&str> = only.iter().map(|test| test.test_id.as_str()).collect();
    // What is named by its own id stands for no other test.
    let mut by_title: HashMap<&[String], Vec<TestOutcome>> = HashMap::new();
    for test in reported.iter().filter(|test| !named.contains(test.test_id.as_str())) {
        if let Some(title) = titles.get(test.test_id.as_str()) {
            by_title.entry(title).or_default().push(test.outcome);
        }
    }
    // Should some of them be skipped, they are not those that had failed only if there is one more for each.
    by_title
        .values_mut()
        .for_each(|outcomes| outcomes.sort_by_key(|outcome| *outcome == TestOutcome::Skipped));
    let mut failed_first: Vec<&NamedTest> = only.iter().collect();
    failed_first.sort_by_key(|test| !test.failed);
    for test in failed_first {
        let outcome = by_id.get(test.test_id.as_str()).copied().or_else(|| {
            let outcomes = by_title.get_mut(test.title.as_slice()).filter(|outcomes| !outcomes.is_empty())?;
            Some(outcomes.remove(0))
        });
        let title = test.title.join(" › ");
        match outcome {
            None => return Some(format!("{title:?} was to be repeated, but the runner did not run it")),
            Some(TestOutcome::Skipped) if test.failed => {
                return Some(format!("{title:?} had failed and was skipped this time"));
            }
            Some(_) => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::test_result::TryStatus;

    fn named(id: &str, title: &str, failed: bool) -> NamedTest {
        NamedTest { test_id: id.to_owned(), title: vec![title.to_owned()], unit: Some(1), line: 1, failed }
    }

    /// A report of these tests, and what was seen of them: id, title, outcome.
    fn report(tests: &[(&str, &str, TestOutcome)]) -> (Vec<ReportedTest>, Vec<Try>) {
        let reported = tests.iter().map(|(id, _, outcome)| ReportedTest {
            test_id: (*id).to_owned(),
            file: "a.spec.js".to_owned(),
            outcome: *outcome,
            tries: 1,
        });
        let seen = (1..).zip(tests).map(|(seq, (id, title, outcome))| Try {
            seq,
            test_id: (*id).to_owned(),
            title: vec![(*title).to_owned()],
            unit: Some(1),
            file: "a.spec.js".to_owned(),
            line: 1,
            retry: 0,
            status: if *outcome == TestOutcome::Skipped { TryStatus::Skipped } else { TryStatus::Passed },
            by_suite: None,
            outcome: *outcome,
            duration_ms: 1,
            error: None,
            files: Vec::new(),
        });
        (reported.collect(), seen.collect())
    }

    fn is_missing(only: &[NamedTest], tests: &[(&str, &str, TestOutcome)]) -> bool {
        let (reported, seen) = report(tests);
        missing(only, &reported, &seen).is_some()
    }

    use TestOutcome::{Expected, Flaky, Skipped};

    #[test]
    fn each_named_test_needs_a_result() {
        let only = [named("1", "a", true), named("2", "b", false)];
        assert!(!is_missing(&only, &[("1", "a", Expected), ("2", "b", Flaky)]));
        assert!(!is_missing(&only, &[("3", "c", Expected), ("2", "b", Expected), ("1", "a", Flaky)]));
        assert!(is_missing(&only, &[("1", "a", Expected)]));
        assert!(is_missing(&only, &[("2", "b", Expected), ("3", "c", Expected)]));
        assert!(is_missing(&only, &[]));
    }

    #[test]
    fn a_test_that_had_failed_must_not_be_skipped_and_one_that_had_not_run_may() {
        let only = [named("1", "a", true), named("2", "b", false)];
        assert!(is_missing(&only, &[("1", "a", Skipped), ("2", "b", Expected)]));
        assert!(!is_missing(&only, &[("1", "a", Expected), ("2", "b", Skipped)]));
    }

    #[test]
    fn on_another_kind_of_device_the_titles_tell() {
        let only = [named("1", "a", true)];
        assert!(!is_missing(&only, &[("9", "a", Expected)]));
        assert!(is_missing(&only, &[("9", "a", Skipped)]));
        assert!(is_missing(&only, &[("9", "b", Expected)]));
    }

    #[test]
    fn of_tests_with_one_title_as_many_are_needed_as_are_named() {
        let only = [named("1", "a", true), named("2", "a", true)];
        assert!(is_missing(&only, &[("8", "a", Expected)]));
        assert!(!is_missing(&only, &[("8", "a", Expected), ("9", "a", Expected)]));
        assert!(is_missing(&only, &[("8", "a", Expected), ("9", "a", Skipped)]));
        // One that is there under its own id does not stand for another.
        assert!(is_missing(&only, &[("1", "a", Expected), ("3", "b", Expected)]));
        // A skipped one can be the one that had not failed.
        let mixed = [named("1", "a", false), named("2", "a", true)];
        assert!(!is_missing(&mixed, &[("8", "a", Skipped), ("9", "a", Expected)]));
        assert!(is_missing(&mixed, &[("8", "a", Skipped), ("9", "a", Skipped)]));
    }
}
