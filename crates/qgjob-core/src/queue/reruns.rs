//! Reruns: what a new run repeats of a run that is over, and what all tests of the full set have come to since.
//!
//! A test's newest result counts. Where it is not known which tests a job still owes a result, all of them are repeated:
//! more than needed, never less.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::verdict::Judgement;
use crate::model::evidence::ReportedTest;
use crate::model::job::{Conclusion, Job, Reason};
use crate::model::rerun::{MOST_NAMED, NamedTest, Rerun};
use crate::model::test_result::{Counts, TestOutcome, Try};

/// A job with more tests is repeated whole: each job of a rerun carries what they came to.
const MOST_KNOWN: usize = 10_000;

/// What is kept with a job of a rerun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// What it repeats.
    #[serde(flatten)]
    pub rerun: Rerun,
    /// What each test of the job before has come to, those that are not repeated as well; empty when it names none.
    pub known: Vec<KnownTest>,
    /// What it counts for in its run.
    pub had: Counts,
    /// The tests that had failed, where it repeats all and so names none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<NamedTest>,
}

/// What a test has come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownTest {
    /// The runner's id of the test.
    pub test_id: String,
    /// Titles from the outermost `describe` to the test.
    pub title: Vec<String>,
    /// By its newest result.
    pub outcome: TestOutcome,
}

/// A job to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Again {
    /// What is kept with it.
    pub kept: Kept,
    /// What the tests that it repeats counted for until now.
    pub repeats: Counts,
    /// How long it is expected to hold a device, in milliseconds.
    pub predicted_ms: u64,
}

/// What an attempt changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// What is kept from now on.
    pub kept: Kept,
    /// Tests that were to be carried and have a result of their own now, by the outcome that they had before.
    pub uncarried: Counts,
}

impl Kept {
    /// The tests that each need a result of their own: those that it names, or else those that had failed.
    pub fn owed(&self) -> &[NamedTest] {
        if self.rerun.tests.is_empty() { &self.failed } else { &self.rerun.tests }
    }

    /// Whether a test is one of those that are repeated; all are when none is named.
    pub fn repeats(&self, test_id: &str, title: &[String]) -> bool {
        let tests = &self.rerun.tests;
        tests.is_empty() || tests.iter().any(|test| test.test_id == test_id || test.title == title)
    }
}

/// The job that repeats what failed or had no verdict of a completed `job`; none if it passed or the suite skipped it.
/// `kept` is its own, if its run is a rerun, and `tries` are those of its last attempt.
pub fn again(job: &Job, kept: Option<&Kept>, tries: &[Try]) -> Option<Again> {
    if matches!(job.conclusion, None | Some(Conclusion::Passed | Conclusion::Skipped)) {
        return None;
    }
    let had = kept.map_or(job.tests, |kept| kept.had);
    let mut made = Again {
        kept: Kept {
            rerun: Rerun { of: job.id, tests: Vec::new() },
            known: Vec::new(),
            had,
            failed: Vec::new(),
        },
        repeats: had,
        predicted_ms: job.predicted_ms,
    };
    if job.reason != Some(Reason::TestsFailed) {
        // It says nothing about the tests: what it was to repeat is still to be repeated.
        if let Some(kept) = kept {
            made.kept.failed = kept.failed.clone();
            made.kept.rerun.tests = kept.rerun.tests.clone();
        }
        if let Some(kept) = kept.filter(|kept| !kept.rerun.tests.is_empty()) {
            made.kept.known = kept.known.clone();
            made.repeats = repeated(&made.kept);
        } else if job.reason == Some(Reason::LoadError) {
            // An error beside the tests does not undo that some of them failed.
            made.kept.failed = failed(named(&last_tries(tries), kept.map_or(&[], Kept::owed)));
        }
        return Some(made);
    }
    let results = last_tries(tries);
    let known: Vec<KnownTest> = match kept.filter(|kept| !kept.known.is_empty()) {
        Some(kept) => kept.known.clone(),
        None => results.iter().copied().map(known).collect(),
    };
    let names = named(&results, kept.map_or(&[], Kept::owed));
    // A test that the report names and nobody saw did not run, and nobody knows which one it is.
    let is_told = results.len() == job.tests.total as usize;
    if !is_told || !(1..=MOST_NAMED).contains(&names.len()) || known.len() > MOST_KNOWN {
        made.kept.failed = failed(names);
        return Some(made);
    }
    let ids: HashSet<&str> = names.iter().map(|test| test.test_id.as_str()).collect();
    let (whole_ms, named_ms) = results.iter().fold((0, 0), |(whole, part), one| {
        let own = if ids.contains(one.test_id.as_str()) { one.duration_ms } else { 0 };
        (whole + u128::from(one.duration_ms), part + u128::from(own))
    });
    if let Some(share) = (u128::from(job.predicted_ms) * named_ms).checked_div(whole_ms) {
        made.predicted_ms = share as u64;
    }
    made.kept.rerun.tests = names;
    made.kept.known = known;
    made.repeats = repeated(&made.kept);
    Some(made)
}

/// What a job of a rerun has come to by an attempt; none when the attempt says nothing about its tests.
pub fn settle(
    kept: &Kept,
    judgement: &Judgement,
    reported: &[ReportedTest],
    seen: &[Try],
) -> Option<Settled> {
    let is_verdict =
        matches!(judgement.reason, Reason::TestsPassed | Reason::TestsFailed | Reason::TestsSkipped);
    let none = Counts::default();
    if kept.rerun.tests.is_empty() {
        // A file that failed otherwise may not have told of all its tests.
        let tells = is_verdict || judgement.tests.total >= kept.had.total.max(1);
        let kept = Kept { had: judgement.tests, ..kept.clone() };
        return tells.then_some(Settled { kept, uncarried: none });
    }
    if !is_verdict {
        return None;
    }
    let titles: HashMap<&str, &[String]> =
        seen.iter().map(|one| (one.test_id.as_str(), one.title.as_slice())).collect();
    let mut settled = Settled { kept: kept.clone(), uncarried: none };
    let known = &mut settled.kept.known;
    let own: HashMap<String, usize> =
        (0..).zip(&*known).map(|(at, test)| (test.test_id.clone(), at)).collect();
    let mut told = vec![false; known.len()];
    // Those with ids that are known first, so that they do not stand for others with the same titles.
    let (same, other): (Vec<_>, Vec<_>) = reported.iter().partition(|test| own.contains_key(&test.test_id));
    for test in same.into_iter().chain(other) {
        let title = titles.get(test.test_id.as_str()).copied().unwrap_or_default();
        let place = own
            .get(&test.test_id)
            .copied()
            .or_else(|| known.iter().zip(&told).position(|(known, told)| !told && known.title == title));
        let Some(at) = place else {
            let (test_id, title) = (test.test_id.clone(), title.to_vec());
            known.push(KnownTest { test_id, title, outcome: test.outcome });
            told.push(true);
            continue;
        };
        if !told[at] && !kept.repeats(&known[at].test_id, &known[at].title) {
            settled.uncarried = settled.uncarried.plus(Counts::of([known[at].outcome]));
        }
        told[at] = true;
        known[at].outcome = test.outcome;
    }
    settled.kept.had = Counts::of(known.iter().map(|test| test.outcome));
    Some(settled)
}

/// What the tests that are repeated count for.
fn repeated(kept: &Kept) -> Counts {
    let own = kept.known.iter().filter(|test| kept.repeats(&test.test_id, &test.title));
    Counts::of(own.map(|test| test.outcome))
}

/// The last try of each test.
fn last_tries(tries: &[Try]) -> Vec<&Try> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut last: Vec<&Try> = Vec::new();
    for one in tries {
        let at = *places.entry(&one.test_id).or_insert(last.len());
        match last.get_mut(at) {
            None => last.push(one),
            Some(kept) if one.retry >= kept.retry => *kept = one,
            Some(_) => {}
        }
    }
    last
}

fn known(one: &Try) -> KnownTest {
    KnownTest { test_id: one.test_id.clone(), title: one.title.clone(), outcome: one.outcome }
}

/// The tests that failed, those that did not run, and what runs as one with them; and of those that were to be repeated
/// `before` the ones that have no result, and the ones that had failed and did not pass.
fn named(results: &[&Try], before: &[NamedTest]) -> Vec<NamedTest> {
    let Left { unpassed, gone } = left(results, before);
    let owes = |one: &Try| match one.outcome {
        TestOutcome::Expected | TestOutcome::Flaky => false,
        TestOutcome::Unexpected => true,
        // Whoever does not say so may not have run it.
        TestOutcome::Skipped => one.by_suite != Some(true) || unpassed.contains(one.test_id.as_str()),
    };
    let prefix = |title: &[String], unit: Option<u32>| {
        unit.and_then(|unit| title.get(..unit as usize)).map(<[String]>::to_vec)
    };
    let unit = |one: &Try| prefix(&one.title, one.unit);
    let owed = results.iter().filter(|one| owes(one)).filter_map(|one| unit(one));
    let units: HashSet<Vec<String>> =
        owed.chain(gone.iter().filter_map(|test| prefix(&test.title, test.unit))).collect();
    let wanted =
        results.iter().filter(|one| owes(one) || unit(one).is_some_and(|unit| units.contains(&unit)));
    let tests = wanted.map(|one| NamedTest {
        test_id: one.test_id.clone(),
        title: one.title.clone(),
        unit: one.unit,
        line: one.line,
        failed: one.outcome == TestOutcome::Unexpected || unpassed.contains(one.test_id.as_str()),
    });
    tests.chain(gone.into_iter().cloned()).collect()
}

fn failed(mut tests: Vec<NamedTest>) -> Vec<NamedTest> {
    tests.retain(|test| test.failed);
    tests
}

/// What is left of the tests that were to be repeated.
#[derive(Debug, Default)]
struct Left<'a> {
    /// Ids of results without a pass, of tests that had failed.
    unpassed: HashSet<&'a str>,
    /// Those without a result.
    gone: Vec<&'a NamedTest>,
}

/// Results are found by id, or else by titles. Where several share their titles the worst is taken for a test that had failed.
fn left<'a>(results: &[&'a Try], before: &'a [NamedTest]) -> Left<'a> {
    let is_pass = |one: &Try| matches!(one.outcome, TestOutcome::Expected | TestOutcome::Flaky);
    let by_id: HashMap<&str, &Try> = results.iter().map(|one| (one.test_id.as_str(), *one)).collect();
    let named: HashSet<&str> = before.iter().map(|test| test.test_id.as_str()).collect();
    // What is named by its own id stands for no other test.
    let mut by_title: HashMap<&[String], Vec<&Try>> = HashMap::new();
    for one in results.iter().filter(|one| !named.contains(one.test_id.as_str())) {
        by_title.entry(&one.title).or_default().push(one);
    }
    by_title.values_mut().for_each(|same| same.sort_by_key(|one| !is_pass(one)));
    let mut left = Left::default();
    let (failed, other): (Vec<_>, Vec<_>) = before.iter().partition(|test| test.failed);
    for test in failed.into_iter().chain(other) {
        let found = by_id.get(test.test_id.as_str()).copied();
        match found.or_else(|| by_title.get_mut(test.title.as_slice())?.pop()) {
            None => left.gone.push(test),
            Some(one) if test.failed && !is_pass(one) => _ = left.unpassed.insert(&one.test_id),
            Some(_) => {}
        }
    }
    left
}
