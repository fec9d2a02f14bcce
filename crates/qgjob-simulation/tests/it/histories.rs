//! What a server did, as a workload.

use jiff::{SignedDuration, Timestamp};
use qgjob_core::api::jobs::JobView;
use qgjob_core::model::attempt::{Attempt, Install, InstallAction};
use qgjob_core::model::build::AppVersion;
use qgjob_core::model::device::Device;
use qgjob_core::model::job::{Conclusion, Job, Status};
use qgjob_core::model::test_result::Counts;
use qgjob_core::model::{attempt, device, job, run};
use qgjob_simulation::policy::Choice;
use qgjob_simulation::workload::exported::InstalledEntry;
use qgjob_simulation::workload::history::{History, Past, Told};
use serde_json::json;

use super::replayed;

const PIXEL: device::Id = device::Id(1);
const GALAXY: device::Id = device::Id(2);

fn at(second: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second)
}

fn phone(id: device::Id, model: &str, state: &str) -> Device {
    let device = json!({
        "id": id.to_string(), "agent_id": qgjob_core::model::agent::Id(1).to_string(), "serves": null, "name": model,
        "serial": model, "platform": "android", "kind": "device", "model": model, "os_version": "14", "tags": [],
        "state": state, "note": null, "ledger": [], "attempt_id": null, "seen_at": at(0),
    });
    serde_json::from_value(device).unwrap()
}

/// A label of build `bytes`, bound at second `bound`.
fn app_version(label: &str, bytes: u8, bound: i64) -> AppVersion {
    let build = json!({
        "sha256": format!("{bytes:02x}").repeat(32), "size_bytes": 1, "platform": "android", "app_id": "dev.shop",
        "version_name": label, "version_code": "1",
    });
    let version =
        json!({ "org_id": "acme", "app_version_id": label, "build": build, "created_at": at(bound) });
    serde_json::from_value(version).unwrap()
}

/// A job that was submitted at second `created` and has not started.
fn waiting(number: u128, label: &str, test: &str, created: i64) -> Job {
    let job = json!({
        "id": job::Id(number).to_string(), "run_id": run::Id(number).to_string(), "org_id": "acme",
        "app_version_id": label, "test": test, "bundle_sha256": "00".repeat(32), "platform": null, "target": "any",
        "selector": {}, "priority": 5, "timeout_ms": 1000, "infra_retries": 2, "test_retries": 0,
        "reset": "clear-data", "env": {}, "status": "queued", "conclusion": null, "reason": null, "detail": null,
        "phase": null, "attempts": 0, "infra_faults": 0, "avoid": [], "not_before": null,
        "queue_deadline": at(100_000), "predicted_ms": 45_000, "device_id": null,
        "tests": Counts::default(), "created_at": at(created),
        "started_at": null, "finished_at": null, "version": 1,
    });
    serde_json::from_value(job).unwrap()
}

fn view(job: Job, install: Option<Install>) -> JobView {
    JobView { schema: "qgjob.job/v1".into(), job, device_name: None, install, exit_code: None }
}

/// A job whose one attempt passed, from second to second, after an install of so many seconds or none.
fn passed(job: Job, device: device::Id, (from, to): (i64, i64), installed_s: u64) -> Past {
    let (started_at, finished_at) = (Some(at(from)), Some(at(to)));
    let (status, conclusion) = (Status::Completed, Some(Conclusion::Passed));
    let job =
        Job { attempts: 1, status, conclusion, started_at, finished_at, device_id: Some(device), ..job };
    let action = if installed_s > 0 { InstallAction::VersionChange } else { InstallAction::Avoided };
    Past::of_record(&view(job, Some(Install { action, duration_ms: installed_s * 1000 }))).unwrap()
}

fn told(history: &History) -> Told {
    history.tell("http://farm")
}

#[test]
fn jobs_come_as_they_came_and_take_as_long_as_they_took() {
    let history = History {
        devices: vec![phone(PIXEL, "Pixel 7", "offline"), phone(GALAXY, "Galaxy S24", "idle")],
        app_versions: vec![app_version("1.0", 1, 0), app_version("1.0-rc3", 1, 5), app_version("1.1", 2, 0)],
        jobs: vec![
            passed(waiting(4, "1.1", "tests/a.spec.js", 200), PIXEL, (200, 290), 20),
            passed(waiting(3, "1.0-rc3", "tests/b.spec.js", 130), GALAXY, (130, 180), 0),
            passed(waiting(2, "1.0", "tests/a.spec.js", 100), GALAXY, (100, 130), 10),
            passed(waiting(1, "1.0", "tests/a.spec.js", 90), PIXEL, (90, 150), 0),
        ],
    };
    let told = told(&history);
    assert_eq!((told.installs, told.install_s, told.makespan_s), (2, 30.0, 200.0));
    assert_eq!((told.unserved, told.unwanted, told.forecast), (0, 0, 0));
    let entries: Vec<_> = told
        .document
        .jobs
        .iter()
        .map(|job| {
            (job.version.as_str(), job.submitted_at, job.duration_s, job.predicted_s.unwrap(), job.install_s)
        })
        .collect();
    assert_eq!(
        entries,
        [
            ("1.1", 110.0, 70.0, 45.0, Some(20.0)),
            // The same bytes as 1.0, by their first name.
            ("1.0", 40.0, 50.0, 45.0, Some(10.0)),
            ("1.0", 10.0, 20.0, 45.0, Some(10.0)),
            ("1.0", 0.0, 60.0, 45.0, Some(10.0)),
        ]
    );
    let pixel = &told.document.devices[0];
    let found = InstalledEntry { org: "acme".into(), app: Some("dev.shop".into()), version: "1.0".into() };
    assert_eq!(
        (pixel.name.as_str(), &pixel.installed),
        ("Pixel 7", &vec![found]),
        "its first attempt needed no install"
    );
    assert_eq!(told.document.devices[1].installed, []);
    assert_eq!(pixel.classes, ["android any"]);

    let workload = told.document.workload().unwrap();
    let (trace, _) = replayed(&Choice::named("qgjob").unwrap(), &workload);
    let installs = trace.attempts.iter().filter(|attempt| attempt.install_s > 0.0).count();
    assert!((1..=2).contains(&installs), "{installs} installs of a version that no device had");
}

#[test]
fn what_no_device_takes_and_nobody_wanted_is_left_out() {
    let mut elsewhere = waiting(1, "1.0", "tests/a.spec.js", 0);
    elsewhere.spec.selector = "model=iPhone 15".parse().unwrap();
    let cancelled = Job {
        status: Status::Completed,
        conclusion: Some(Conclusion::Cancelled),
        finished_at: Some(at(9)),
        ..waiting(2, "1.0", "tests/a.spec.js", 0)
    };
    let later = Job { status: Status::Scheduled, ..waiting(3, "1.0", "tests/a.spec.js", 0) };
    let queued = waiting(4, "1.0", "tests/a.spec.js", 7);
    let never_started = |job: Job| Past::of_record(&view(job, None)).unwrap();
    let history = History {
        devices: vec![phone(PIXEL, "Pixel 7", "idle"), phone(GALAXY, "Galaxy S24", "drained")],
        app_versions: vec![app_version("1.0", 1, 0)],
        jobs: [elsewhere, cancelled, later, queued].map(never_started).into(),
    };
    let told = told(&history);
    assert_eq!((told.unserved, told.unwanted, told.forecast, told.document.jobs.len()), (1, 2, 1, 1));
    assert_eq!(told.document.devices.len(), 1, "a drained device that ran nothing could not have helped");
    assert_eq!(told.document.jobs[0].duration_s, 45.0, "as the server predicted");
    assert_eq!(told.document.install_s, None);
    assert!(told.document.workload().is_ok());
}

#[test]
fn attempts_that_were_cut_short_count_as_installs_and_not_as_durations() {
    let again = Job { attempts: 2, ..waiting(1, "1.0", "tests/a.spec.js", 0) };
    assert!(Past::of_record(&view(again.clone(), None)).is_none(), "its attempts must be read");
    let attempt = |number: u32,
                   outcome: Option<&str>,
                   (from, to): (i64, Option<i64>),
                   action: &str|
     -> Attempt {
        let attempt = json!({
            "id": attempt::Id(number.into()).to_string(), "job_id": again.id.to_string(), "number": number,
            "agent_id": qgjob_core::model::agent::Id(1).to_string(), "device_id": PIXEL.to_string(), "epoch": number,
            "phase": "testing", "outcome": outcome, "reason": null, "detail": null,
            "install": { "action": action, "duration_ms": 15_000 }, "started_at": at(from),
            "lease_until": at(from), "ended_at": to.map(at),
        });
        serde_json::from_value(attempt).unwrap()
    };
    let lost = attempt(1, Some("lost"), (10, Some(30)), "cold");
    let good = attempt(2, Some("failed"), (40, Some(100)), "avoided");
    let lives = attempt(2, None, (40, None), "avoided");
    let history = |attempts: &[Attempt]| History {
        devices: vec![phone(PIXEL, "Pixel 7", "busy")],
        app_versions: vec![],
        jobs: vec![Past::of_attempts(again.clone(), attempts)],
    };
    let ended = told(&history(&[lost.clone(), good]));
    assert_eq!((ended.installs, ended.forecast, ended.document.jobs[0].duration_s), (1, 0, 60.0));
    let running = told(&history(&[lost, lives]));
    assert_eq!((running.installs, running.forecast, running.document.jobs[0].duration_s), (1, 1, 45.0));
    assert_eq!(running.document.jobs[0].install_s, Some(15.0));
    assert_eq!(
        running.document.jobs[0].class, "any platform any",
        "without a build nobody knows what it runs on"
    );
}
