//! Workloads as JSON.

use qgjob_simulation::policy::Choice;
use qgjob_simulation::workload::exported::Document;
use serde_json::{Value, json};

use super::replayed;

fn two_jobs() -> Value {
    json!({
        "schema": "qgjob.workload/v1",
        "devices": [
            { "name": "pixel", "classes": ["phone"], "installed": [{ "org": "acme", "version": "1" }] },
        ],
        "jobs": [
            { "org": "acme", "version": "1", "class": "phone", "submitted_at": 1000.0, "duration_s": 30.0 },
            { "org": "acme", "version": "2", "class": "phone", "submitted_at": 1000.0, "duration_s": 40.0 },
        ],
    })
}

fn refused(change: impl FnOnce(&mut Value)) -> String {
    let mut document = two_jobs();
    change(&mut document);
    match serde_json::from_value::<Document>(document) {
        Ok(document) => document.workload().unwrap_err().to_string(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_is_installed_at_the_start_is_used() {
    let document: Document = serde_json::from_value(two_jobs()).unwrap();
    let workload = document.workload().unwrap();
    assert_eq!((workload.runs.len(), workload.groups.len(), workload.orgs), (2, 2, 1));
    let (trace, measured) = replayed(&Choice::named("qgjob").unwrap(), &workload);
    assert_eq!(trace.attempts.iter().map(|attempt| attempt.install_s).collect::<Vec<_>>(), [0.0, 60.0]);
    assert_eq!(measured.metrics.makespan_s, 130.0);
    assert_eq!(workload.version_name(workload.groups[1].version), "acme 2");
}

#[test]
fn a_document_without_sense_is_refused() {
    assert_eq!(
        refused(|document| document["schema"] = json!("x")),
        r#"the schema is "x", not "qgjob.workload/v1""#
    );
    assert_eq!(refused(|document| document["jobs"] = json!([])), "there are no jobs");
    assert_eq!(refused(|document| document["devices"] = json!([])), "there are no devices");
    assert_eq!(
        refused(|document| document["jobs"][1]["class"] = json!("watch")),
        r#"job 1: no device serves the class "watch""#
    );
    assert_eq!(
        refused(|document| document["jobs"][0]["duration_s"] = json!(0)),
        "job 0: duration_s must be more than 0"
    );
    assert_eq!(
        refused(|document| document["jobs"][0]["priority"] = json!(11)),
        "job 0: priority must be 1 to 10"
    );
    assert!(refused(|document| document["jobs"][0]["length"] = json!(1)).contains("unknown field `length`"));
}

#[test]
fn the_example_of_the_manual_can_be_replayed() {
    let manual = include_str!("../../../../docs/SIMULATION.md");
    let (_, after) = manual.split_once("```json\n").unwrap();
    let (example, _) = after.split_once("```").unwrap();
    let document: Document = serde_json::from_str(example).unwrap();
    let workload = document.workload().unwrap();
    for choice in Choice::all() {
        replayed(&choice, &workload);
    }
}
