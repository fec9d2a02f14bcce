//! What a true report tells of what happened, and whether another report may be believed beside that: read in another
//! way than the agent and the server read it, to hold them to it. The fuzz target uses this file too.

use std::collections::BTreeMap;
use std::path::Path;

use qgjob::agent::runner::understand;
use qgjob_core::model::attempt::Outcome;
use qgjob_core::model::evidence::{Evidence, Exit, Report};
use qgjob_core::model::test_result::{TestOutcome, Try, TryStatus};
use qgjob_core::queue::verdict::{Asked, judge};
use serde_json::Value;

/// Where the projects of the fixtures lay, and the project whose tests count.
const WORKSPACE: &str = "/project/proj1";
const PROJECT: &str = "android";

/// What was seen while a runner ran.
#[derive(Debug, Clone)]
pub struct Seen {
    pub file: String,
    pub tries: Vec<Try>,
    pub selected: u32,
}

impl Seen {
    /// What must have been seen of the run that a true report tells of.
    pub fn of(report: &Value) -> Self {
        let mut seen = Self { file: String::new(), tries: Vec::new(), selected: 0 };
        for suite in list(report, "suites") {
            seen.file = format!("tests/{}", word(suite, "file"));
            seen.suite(suite);
        }
        seen
    }

    fn suite(&mut self, suite: &Value) {
        for spec in list(suite, "specs") {
            for test in list(spec, "tests") {
                self.selected += 1;
                self.test(spec, test);
            }
        }
        list(suite, "suites").iter().for_each(|inner| self.suite(inner));
    }

    fn test(&mut self, spec: &Value, test: &Value) {
        let (mut ran, mut well) = (0, 0);
        for result in list(test, "results") {
            let status = match word(result, "status") {
                "passed" => TryStatus::Passed,
                "failed" => TryStatus::Failed,
                "timedOut" => TryStatus::TimedOut,
                "skipped" => TryStatus::Skipped,
                other => panic!("no status of a try: {other}"),
            };
            ran += u32::from(status != TryStatus::Skipped);
            well += u32::from(
                status != TryStatus::Skipped && word(result, "status") == word(test, "expectedStatus"),
            );
            self.tries.push(Try {
                seq: self.tries.len() as u32 + 1,
                test_id: word(spec, "id").to_owned(),
                title: vec![word(spec, "title").to_owned()],
                unit: None,
                by_suite: None,
                file: self.file.clone(),
                line: 1,
                retry: result["retry"].as_u64().unwrap() as u32,
                status,
                outcome: match (ran, well) {
                    (0, _) => TestOutcome::Skipped,
                    (_, 0) => TestOutcome::Unexpected,
                    (ran, well) if ran == well => TestOutcome::Expected,
                    _ => TestOutcome::Flaky,
                },
                duration_ms: 1,
                error: None,
                files: Vec::new(),
            });
        }
    }

    /// Holds the agent's reading and the server's verdict to what may be believed. Answers the verdict, none for a
    /// report that could not be read.
    ///
    /// # Panics
    /// When the verdict is `passed` and should not be.
    pub fn check(&self, text: &[u8], exit: Exit) -> Option<Outcome> {
        let report = understand(text, Path::new(WORKSPACE), PROJECT);
        let is_read = matches!(report, Report::Read { .. });
        let evidence =
            Evidence { stopped: None, fault: None, exit: Some(exit), selected: Some(self.selected), report };
        let test = self.file.parse().unwrap();
        let asked = Asked { test: &test, shard: None, only: &[] };
        let judged = judge(asked, &evidence, &self.tries, false);
        if judged.outcome == Outcome::Passed
            && let Err(why) = self.believes(text, exit)
        {
            panic!("passed, although {why}: {:?}\n{}", evidence.report, String::from_utf8_lossy(text));
        }
        is_read.then_some(judged.outcome)
    }

    /// Whether a report may be believed to tell of a pass, or why not.
    fn believes(&self, text: &[u8], exit: Exit) -> Result<(), String> {
        let demand = |holds: bool, why: &dyn Fn() -> String| if holds { Ok(()) } else { Err(why()) };
        demand(exit == Exit::Code(0), &|| format!("{exit:?}"))?;
        let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
        let report: Value = match serde_json::from_str(text) {
            Ok(report) => report,
            // Numbers without end, half characters and deep nesting, in what nobody reads: JSON all the same, and no lie.
            Err(_) if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() => return Ok(()),
            Err(error) => return Err(error.to_string()),
        };
        demand(report["errors"] == Value::Array(Vec::new()), &|| "there are errors".to_owned())?;
        let mut named = Vec::new();
        for suite in list(&report, "suites") {
            gather(suite, &resolve(word(&report["config"], "rootDir"), word(suite, "file")), &mut named);
        }
        let mut counts = BTreeMap::from([("expected", 0), ("unexpected", 0), ("flaky", 0), ("skipped", 0)]);
        for test in &named {
            *counts.get_mut(test.status).ok_or_else(|| format!("unknown: {}", test.status))? += 1;
        }
        for (status, count) in &counts {
            demand(report["stats"][status].as_u64() == Some(*count), &|| format!("{status} is not {count}"))?;
        }
        demand(counts["unexpected"] == 0, &|| "a test failed".to_owned())?;
        named.retain(|test| test.project == PROJECT);
        demand(named.len() == self.selected as usize, &|| format!("{} tests are named", named.len()))?;
        demand(named.iter().any(|test| test.status != "skipped"), &|| "all were skipped".to_owned())?;
        let mut ids: Vec<&str> = named.iter().map(|test| test.id).collect();
        ids.sort_unstable();
        ids.dedup();
        demand(ids.len() == named.len(), &|| "a test is named twice".to_owned())?;
        let strange = self.tries.iter().find(|one| !ids.contains(&one.test_id.as_str()));
        demand(strange.is_none(), &|| format!("{strange:?} is not named"))?;
        for test in &named {
            let wanted = format!("{WORKSPACE}/{}", self.file);
            demand(test.file == wanted, &|| format!("{} is not {wanted}", test.file))?;
            let tries: Vec<&Try> = self.tries.iter().filter(|one| one.test_id == test.id).collect();
            let last = tries.iter().max_by_key(|one| one.retry);
            let agrees = match (test.status, last) {
                ("skipped", None) => true,
                ("skipped", Some(last)) => last.status == TryStatus::Skipped,
                (_, None) => false,
                (status, Some(last)) => {
                    last.outcome.to_string() == status
                        && last.status != TryStatus::Interrupted
                        && tries.len() == test.tries
                }
            };
            demand(agrees, &|| format!("{} was not {} in {} tries", test.id, test.status, test.tries))?;
        }
        Ok(())
    }
}

/// A test as a report names it.
struct Named<'a> {
    id: &'a str,
    project: &'a str,
    status: &'a str,
    tries: usize,
    file: String,
}

fn gather<'a>(suite: &'a Value, file: &str, named: &mut Vec<Named<'a>>) {
    for spec in list(suite, "specs") {
        for test in list(spec, "tests") {
            named.push(Named {
                id: word(spec, "id"),
                project: word(test, "projectName"),
                status: word(test, "status"),
                tries: list(test, "results").len(),
                file: file.to_owned(),
            });
        }
    }
    list(suite, "suites").iter().for_each(|inner| gather(inner, file, named));
}

/// A path below a folder, or an absolute one, without `.` and `..`.
fn resolve(folder: &str, path: &str) -> String {
    let path = if path.starts_with('/') { path.to_owned() } else { format!("{folder}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn word<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}
