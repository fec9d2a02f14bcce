//! The tests that a rerun has no result of: those of the runs before it, as far as these are kept.

use std::collections::{HashMap, HashSet};

use qgjob_core::api::results::{Seen, TestView};
use qgjob_core::model::job::{Conclusion, Reason};
use qgjob_core::model::test_result::{Counts, Try};
use qgjob_core::model::{attempt, job, run};
use qgjob_core::queue::reruns::Kept;

/// An attempt whose tests are told.
pub(super) struct Source {
    pub seen: Seen,
    /// The run that it is carried from.
    pub carried_from: Option<run::Id>,
    /// Attempts of later runs whose results take the place of its own.
    pub overruled_by: Vec<attempt::Id>,
}

impl Source {
    pub(super) fn own(seen: Seen) -> Self {
        Self { seen, carried_from: None, overruled_by: Vec::new() }
    }

    /// Whose tries say what its tests are.
    pub(super) fn attempts(&self) -> impl Iterator<Item = attempt::Id> {
        self.overruled_by.iter().copied().chain([self.seen.attempt_id])
    }

    /// Its tests, by the tries of all its [`Self::attempts`].
    pub(super) fn tests(&self, tries: &HashMap<attempt::Id, Vec<Try>>) -> Vec<TestView> {
        let of = |attempt: &attempt::Id| tries.get(attempt).map_or(&[][..], Vec::as_slice);
        let newer = self.overruled_by.iter().flat_map(of).map(|one| &one.title);
        let newer: HashSet<&Vec<String>> = newer.collect();
        let mut tests = TestView::of_attempt(&self.seen, of(&self.seen.attempt_id).to_vec());
        tests.retain(|test| !newer.contains(&test.title));
        tests.iter_mut().for_each(|test| test.carried_from = self.carried_from);
        tests
    }
}

/// A job of one of the runs.
pub(super) struct Ran {
    pub seen: Option<Seen>,
    pub id: job::Id,
    pub conclusion: Option<Conclusion>,
    pub reason: Option<Reason>,
    pub tests: Counts,
    pub kept: Option<Kept>,
}

/// What stands above a job's results.
#[derive(Clone, Default)]
struct Newer {
    attempts: Vec<attempt::Id>,
    /// Whether all of them have results of their own.
    all: bool,
}

impl Ran {
    fn counts(&self) -> bool {
        matches!(self.conclusion, Some(Conclusion::Passed | Conclusion::Failed | Conclusion::Skipped))
    }

    /// Whether its results took the place of older ones.
    fn is_settled(&self) -> bool {
        let is_verdict =
            matches!(self.reason, Some(Reason::TestsPassed | Reason::TestsFailed | Reason::TestsSkipped));
        self.counts() && (is_verdict || self.kept.as_ref().is_some_and(|kept| kept.had == self.tests))
    }
}

/// What is found on the way from a rerun down to the run that began.
#[derive(Default)]
pub(super) struct Descent {
    found: Vec<Source>,
    newer: HashMap<job::Id, Newer>,
    /// Whether the rerun itself was seen, whose own results are not carried.
    has_begun: bool,
}

impl Descent {
    /// Takes the jobs of the next run before, in the order of submission.
    pub(super) fn pass(&mut self, at: run::Id, jobs: Vec<Ran>) {
        let is_own = !std::mem::replace(&mut self.has_begun, true);
        for ran in jobs {
            let above = self.newer.remove(&ran.id).unwrap_or_default();
            if let Some(kept) = &ran.kept {
                let mut below = above.clone();
                if ran.is_settled() {
                    below.all |= kept.rerun.tests.is_empty();
                    below.attempts.extend(ran.seen.as_ref().map(|seen| seen.attempt_id));
                }
                self.newer.insert(kept.rerun.of, below);
            }
            if ran.counts()
                && !is_own
                && !above.all
                && let Some(seen) = ran.seen
            {
                self.found.push(Source { seen, carried_from: Some(at), overruled_by: above.attempts });
            }
        }
    }

    /// From the job `from` on: the nearest run first, and in each the jobs in the order of submission.
    pub(super) fn sources(mut self, from: Option<job::Id>) -> Vec<Source> {
        let begin = from.and_then(|from| self.found.iter().position(|source| source.seen.job_id == from));
        self.found.drain(..begin.unwrap_or(0));
        self.found
    }
}
