//! A report as the results that Allure reads: a JSON file for each try. Tries of one test share their `historyId`, by which
//! Allure takes the earlier ones for retries.
//!
//! The server knows how long a try took, not when it began: the tries of a job are told as if each had begun when the one before
//! it ended.

use qgjob_core::api::results::{TestTry, TestView};
use qgjob_core::model::test_result::{TestOutcome, TryStatus};
use serde_json::{Value, json};
use sha2::Digest;

use super::{JobReport, Remark, Report, first_line, titled};
use crate::text::tame;

/// A file of the folder `allure-results`.
#[derive(Debug, Clone, PartialEq)]
pub struct ResultFile {
    /// Its name.
    pub name: String,
    /// What is in it.
    pub body: Value,
}

/// Renders. `attached` says under which name in the folder an artifact is, if it is there.
pub fn allure(
    report: &Report,
    attached: impl Fn(&qgjob_core::model::artifact::Artifact) -> Option<String>,
) -> Vec<ResultFile> {
    let mut files = Vec::new();
    for job in &report.jobs {
        let mut clock = job.job.job.started_at.unwrap_or(job.job.job.created_at).as_millisecond();
        if let Some(remark) = job.remark() {
            files.push(itself(job, remark));
        }
        // What was seen in a job without a verdict counts nowhere.
        let mut tries: Vec<(&TestView, &TestTry)> = Vec::new();
        if job.counts() {
            tries.extend(job.results.iter().flat_map(|test| test.tries.iter().map(move |one| (test, one))));
        }
        tries.sort_by_key(|(_, one)| one.seq);
        for (test, one) in tries {
            let start = clock;
            clock = clock.saturating_add(i64::try_from(one.duration_ms).unwrap_or(0));
            let attachments: Vec<Value> = one
                .files
                .iter()
                .filter_map(|name| {
                    job.artifacts.iter().find(|kept| kept.attempt_id == test.attempt_id && kept.name == *name)
                })
                .filter_map(|kept| {
                    let name = kept.name.rsplit('/').next().unwrap_or(&kept.name);
                    Some(json!({"name": name, "source": attached(kept)?, "type": kept.media_type}))
                })
                .collect();
            files.push(result(report, Some(job), test, one, (start, clock), attachments));
        }
        for number in 1..=job.untold() {
            let name = format!("skipped without a try ({number} of {})", job.untold());
            let key = format!("{} untold {number}", job.job.job.id);
            files.push(of_job(job, &key, &name, "skipped", None));
        }
    }
    for test in &report.carried {
        let mut clock = report.run.run.created_at.as_millisecond();
        for one in &test.tries {
            let start = clock;
            clock = clock.saturating_add(i64::try_from(one.duration_ms).unwrap_or(0));
            files.push(result(report, None, test, one, (start, clock), Vec::new()));
        }
    }
    files
}

fn result(
    report: &Report,
    job: Option<&JobReport>,
    test: &TestView,
    one: &TestTry,
    (start, stop): (i64, i64),
    attachments: Vec<Value>,
) -> ResultFile {
    let is_last = test.tries.last() == Some(one);
    let status = match (is_last, test.outcome) {
        (true, TestOutcome::Expected | TestOutcome::Flaky) => "passed",
        (true, TestOutcome::Skipped) => "skipped",
        _ => match one.status {
            TryStatus::Passed if test.outcome != TestOutcome::Unexpected => "passed",
            TryStatus::Skipped => "skipped",
            TryStatus::Passed | TryStatus::Failed => "failed",
            TryStatus::TimedOut | TryStatus::Interrupted => "broken",
        },
    };
    let key = format!("{} {}", test.file, test.title.join("\u{1f}"));
    let uuid = uuid(&format!("{} {} {}", test.attempt_id, test.test_id, one.seq));
    let suites = test.title.split_last().map_or(&[][..], |(_, suites)| suites);
    let mut labels = vec![
        label("framework", "playwright"),
        label("language", "javascript"),
        label("parentSuite", &test.file),
        label("host", &test.device_name),
        label("thread", &format!("attempt {}", test.attempt)),
    ];
    if let Some(suite) = suites.first() {
        labels.push(label("suite", suite));
    }
    if suites.len() > 1 {
        labels.push(label("subSuite", &suites[1..].join(" › ")));
    }
    let mut parameters = vec![
        json!({"name": "device", "value": tame(&test.device_name, false), "excluded": true}),
        json!({"name": "job", "value": test.job_id, "excluded": true}),
        json!({"name": "app version", "value": report.run.run.app_version_id, "excluded": true}),
    ];
    if let Some(shard) = job.and_then(|job| job.job.job.spec.shard.as_ref()) {
        parameters.push(json!({"name": "shard", "value": shard.to_string(), "excluded": true}));
    }
    let mut details = json!({"flaky": test.outcome == TestOutcome::Flaky});
    if let Some(error) = &one.error {
        details["message"] = first_line(error).into();
        details["trace"] = tame(error, false).into();
    }
    let title = test.title.last().map(String::as_str).unwrap_or_default();
    ResultFile {
        name: format!("{uuid}-result.json"),
        body: json!({
            "uuid": uuid, "historyId": digest(&key), "testCaseId": digest(&key),
            "name": crate::text::plain(title), "fullName": format!("{}:{} {}", test.file, test.line, titled(test)),
            "status": status, "statusDetails": details, "stage": "finished", "start": start, "stop": stop,
            "labels": labels, "parameters": parameters, "links": [], "steps": [], "attachments": attachments,
        }),
    }
}

fn itself(job: &JobReport, remark: Remark) -> ResultFile {
    let ending = match remark {
        Remark::NotOver => format!("not over: {}", job.ending()),
        _ => job.ending(),
    };
    let status = match remark {
        Remark::NotOver | Remark::NoVerdict => "broken",
        Remark::FailedItself => "failed",
        Remark::Skipped => "skipped",
    };
    let id = job.job.job.id.to_string();
    of_job(job, &id, &format!("job {id}"), status, Some(&ending))
}

fn of_job(job: &JobReport, key: &str, name: &str, status: &str, why: Option<&str>) -> ResultFile {
    let facts = &job.job.job;
    let start = facts.started_at.unwrap_or(facts.created_at).as_millisecond();
    let stop = facts.finished_at.map_or(start, |at| at.as_millisecond());
    let uuid = uuid(key);
    let details = why.map_or(json!({}), |why| json!({"message": first_line(why), "trace": tame(why, false)}));
    ResultFile {
        name: format!("{uuid}-result.json"),
        body: json!({
            "uuid": uuid, "historyId": digest(key), "testCaseId": digest(key), "name": name,
            "fullName": format!("{} {name}", facts.spec.named()), "status": status, "statusDetails": details,
            "stage": "finished", "start": start, "stop": stop,
            "labels": [label("framework", "qgjob"), label("parentSuite", &facts.spec.test.to_string())],
            "parameters": [], "links": [], "steps": [], "attachments": [],
        }),
    }
}

fn label(name: &str, value: &str) -> Value {
    json!({"name": name, "value": crate::text::plain(value)})
}

/// The same for the same text, so that rendering again writes the same files.
fn digest(text: &str) -> String {
    sha2::Sha256::digest(text)[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A digest in the form of a UUID of version 8: bits of one's own choice.
fn uuid(text: &str) -> String {
    let hex = digest(text);
    format!("{}-{}-8{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::report::scene::of_everything;

    #[test]
    fn each_try_is_a_result_and_the_last_of_a_test_tells_its_outcome() {
        let report = of_everything();
        let files = allure(&report, |_| None);
        let names: BTreeSet<_> = files.iter().map(|file| file.name.clone()).collect();
        assert_eq!(names.len(), files.len(), "no file replaces another");
        assert_eq!(allure(&report, |_| None), files, "again the same");
        let mut last: BTreeMap<&str, (&str, i64)> = BTreeMap::new();
        for file in &files {
            let (history, start) =
                (file.body["historyId"].as_str().unwrap(), file.body["start"].as_i64().unwrap());
            let kept = last.entry(history).or_insert(("", i64::MIN));
            if start >= kept.1 {
                *kept = (file.body["status"].as_str().unwrap(), start);
            }
        }
        let count = |status: &str| last.values().filter(|(other, _)| *other == status).count() as u32;
        let totals = report.totals;
        assert_eq!(count("passed"), totals.passed + totals.flaky);
        // And the file that could not be loaded, and the shard that had nothing to run.
        assert_eq!((count("failed"), count("skipped")), (totals.failed + 1, totals.skipped + 1));
        assert_eq!(count("broken"), 4, "errored, timed out, cancelled, not over");
        let flaky = files.iter().filter(|file| file.body["statusDetails"]["flaky"] == true).count();
        assert_eq!(flaky, 2, "both tries of the flaky test");
    }
}
