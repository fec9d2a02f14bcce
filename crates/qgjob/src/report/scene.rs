//! Reports for tests of the renderers.

use serde_json::{Value, json};

use super::Report;

const ID: &str = "01kb4x9tq3m8e7w2n5r6v0zch";

/// A job that ended so, with its tests.
pub struct Job {
    pub test: &'static str,
    pub conclusion: Option<&'static str>,
    pub reason: Option<&'static str>,
    pub detail: Option<&'static str>,
    pub tests: Vec<Value>,
    /// Tests that the runner's report alone names.
    pub untold: u32,
}

impl Job {
    pub fn new(test: &'static str, conclusion: &'static str, tests: Vec<Value>) -> Self {
        Self { test, conclusion: Some(conclusion), reason: None, detail: None, tests, untold: 0 }
    }
}

/// A test with its tries: status and error of each.
pub fn test(title: &[&str], line: u32, outcome: &str, tries: &[(&str, Option<&str>)]) -> Value {
    let tries: Vec<Value> = tries
        .iter()
        .zip(0..)
        .map(|((status, error), retry)| {
            let mut one =
                json!({"seq": line * 10 + retry, "retry": retry, "status": status, "duration_ms": 1_500});
            if let Some(error) = error {
                one["error"] = json!(error);
            }
            one
        })
        .collect();
    json!({"title": title, "line": line, "outcome": outcome, "tries": tries})
}

pub fn passed(title: &str, line: u32) -> Value {
    test(&[title], line, "expected", &[("passed", None)])
}

pub fn failed(title: &str, line: u32, error: &str) -> Value {
    test(&[title], line, "unexpected", &[("failed", Some(error))])
}

/// A run of these jobs.
pub fn report(conclusion: Option<&str>, jobs: Vec<Job>) -> Report {
    let mut totals = [0_u32; 4];
    let mut list = Vec::new();
    for (at, job) in jobs.into_iter().enumerate() {
        let id = format!("job_{ID}{at}");
        let counts = matches!(job.conclusion, Some("passed" | "failed" | "skipped"));
        let of = |outcome: &str| {
            job.tests.iter().filter(|test| counts && test["outcome"] == outcome).count() as u32
        };
        let [passed, failed, flaky] = ["expected", "unexpected", "flaky"].map(of);
        let skipped = of("skipped") + job.untold;
        for (total, count) in totals.iter_mut().zip([passed, failed, flaky, skipped]) {
            *total += count;
        }
        let results: Vec<Value> = job
            .tests
            .iter()
            .zip(1..)
            .map(|(test, number): (_, u32)| {
                let mut test = test.clone();
                test["job_id"] = json!(id);
                test["attempt_id"] = json!(format!("att_{ID}{at}"));
                test["attempt"] = json!(2);
                test["device_name"] = json!("pixel-7");
                test["test_id"] = json!(format!("t{number}"));
                test["file"] = json!(job.test);
                test
            })
            .collect();
        let over = job.conclusion.is_some();
        let view = json!({
            "schema": "qgjob.job/v1", "id": id, "run_id": format!("run_{ID}0"), "org_id": "qualgent",
            "app_version_id": "xyz123", "test": job.test, "bundle_sha256": "0".repeat(64), "platform": null,
            "target": "any", "selector": {}, "priority": 5, "timeout_ms": 1, "infra_retries": 0,
            "test_retries": 0, "reset": "none", "env": {}, "status": if over { "completed" } else { "running" },
            "conclusion": job.conclusion, "reason": job.reason, "detail": job.detail, "phase": null,
            "attempts": 2, "infra_faults": 0, "avoid": [], "not_before": null, "promoted_at": null,
            "queue_deadline": "2026-11-22T12:00:00Z", "predicted_ms": 60000, "device_id": null,
            "tests": {"total": passed + failed + flaky + skipped, "passed": passed, "failed": failed,
                "flaky": flaky, "skipped": skipped},
            "created_at": "2026-11-22T10:00:00Z", "started_at": "2026-11-22T10:00:01Z",
            "finished_at": over.then_some("2026-11-22T10:01:09Z"), "version": 3, "device_name": "pixel-7",
            "install": null, "exit_code": null
        });
        list.push(json!({"job": view, "results": results, "artifacts": []}));
    }
    let [passed, failed, flaky, skipped] = totals;
    let over = conclusion.is_some();
    let run = json!({
        "schema": "qgjob.run/v1", "id": format!("run_{ID}0"), "org_id": "qualgent", "app_version_id": "xyz123",
        "name": null, "labels": {}, "idempotency_key": null, "retry_of": null,
        "status": if over { "completed" } else { "running" }, "conclusion": conclusion,
        "jobs": {"total": list.len(), "scheduled": 0, "queued": 0, "running": 0, "passed": 0, "failed": 0,
            "errored": 0, "timed_out": 0, "cancelled": 0, "skipped": 0, "flaky": 0},
        "created_at": "2026-11-22T10:00:00Z", "finished_at": over.then_some("2026-11-22T10:01:12Z"),
        "version": 9, "exit_code": null, "installs": {"made": 1, "avoided": 2}
    });
    let report = json!({
        "schema": super::SCHEMA, "made_at": "2026-11-22T10:02:00Z", "run": run,
        "totals": {"total": passed + failed + flaky + skipped, "passed": passed, "failed": failed,
            "flaky": flaky, "skipped": skipped},
        "jobs": list
    });
    serde_json::from_value(report).unwrap()
}

/// One of everything that a report must show.
pub fn of_everything() -> Report {
    let flaky = test(&["cart", "keeps"], 20, "flaky", &[("failed", Some("was empty")), ("passed", None)]);
    let skipped = test(&["later"], 30, "skipped", &[("skipped", None)]);
    report(
        Some("failed"),
        vec![
            Job::new(
                "tests/cart.spec.js",
                "failed",
                vec![passed("opens", 3), failed("sums", 9, "expected 3\nreceived 4"), flaky, skipped],
            ),
            Job {
                reason: Some("device_fault"),
                detail: Some("the device left"),
                ..Job::new("tests/lost.spec.js", "errored", vec![passed("seen before", 4)])
            },
            Job { reason: Some("timeout"), ..Job::new("tests/slow.spec.js", "timed_out", vec![]) },
            Job { reason: Some("cancelled"), ..Job::new("tests/stopped.spec.js", "cancelled", vec![]) },
            Job {
                reason: Some("load_error"),
                detail: Some("SyntaxError: Unexpected token"),
                ..Job::new("tests/broken.spec.js", "failed", vec![])
            },
            Job { reason: Some("no_tests"), ..Job::new("tests/shard.spec.js", "skipped", vec![]) },
            Job { untold: 2, ..Job::new("tests/rest.spec.js", "passed", vec![passed("rests", 1)]) },
            Job { conclusion: None, ..Job::new("tests/open.spec.js", "", vec![passed("so far", 2)]) },
        ],
    )
}

/// Texts that would be something else than text if they could.
pub const HOSTILE: &[&str] = &[
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "' autofocus onfocus=alert(1) x='",
    "</pre></details><h1>passed</h1>",
    "]]><evil/>",
    "<!--",
    "-->",
    "<![CDATA[x]]>",
    "<?xml version=\"1.0\"?><!DOCTYPE a [<!ENTITY b SYSTEM \"file:///etc/passwd\">]>&b;",
    "&lt;b&gt; &amp; &#60;b&#62;",
    "\u{1b}[31mred\u{1b}[0m \u{1b}]8;;http://x\u{7}link\u{1b}]8;;\u{7}",
    "nul \u{0} bell \u{7} \u{fffe} \u{ffff} \u{b} \u{c}",
    "right to left \u{202e}gnp.exe",
    "</style><style>*{display:none}",
    "javascript:alert(1)",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<svg onload=alert(1)>",
    "{{constructor.constructor('alert(1)')()}}",
    "a\r\nb\tc",
    "",
];
