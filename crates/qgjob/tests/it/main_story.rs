//! The main job through the whole system, with real AppWright: what each kind of end looks like to a pipeline.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use simulated_android::Fault;

use crate::device_bench::eventually;
use crate::proxy::{Fate, Proxy};
use crate::world::{BUGGY, GOOD, ORG, World};

/// A spec, its flags, and what must come of it.
struct Case {
    args: &'static [&'static str],
    code: i32,
    conclusion: &'static str,
    reason: &'static str,
    /// passed, failed, flaky, skipped
    tests: [u32; 4],
}

const CASES: &[Case] = &[
    Case {
        args: &[GOOD, "--test=tests/onboarding.spec.js"],
        code: 0,
        conclusion: "passed",
        reason: "tests_passed",
        tests: [2, 0, 0, 0],
    },
    Case {
        args: &[BUGGY, "--test=tests/known-bug.spec.js"],
        code: 1,
        conclusion: "failed",
        reason: "tests_failed",
        tests: [0, 1, 0, 0],
    },
    Case {
        args: &[GOOD, "--test=tests/flaky.spec.js", "--test-retries=1"],
        code: 0,
        conclusion: "passed",
        reason: "tests_passed",
        tests: [0, 0, 1, 0],
    },
    Case {
        args: &[GOOD, "--test=tests/gift-cards.spec.js"],
        code: 3,
        conclusion: "skipped",
        reason: "tests_skipped",
        tests: [0, 0, 0, 2],
    },
    Case {
        args: &[GOOD, "--test=tests-special/no-tests.spec.js"],
        code: 3,
        conclusion: "errored",
        reason: "no_tests",
        tests: [0, 0, 0, 0],
    },
    Case {
        args: &[GOOD, "--test=tests-special/syntax-error.spec.js"],
        code: 1,
        conclusion: "failed",
        reason: "load_error",
        tests: [0, 0, 0, 0],
    },
    Case {
        args: &[GOOD, "--test=tests-special/crash.spec.js", "--retries=0"],
        code: 10,
        conclusion: "errored",
        reason: "runner_crashed",
        tests: [0, 0, 0, 0],
    },
    Case {
        args: &[GOOD, "--test=tests-special/timeout.spec.js", "--timeout=20s"],
        code: 12,
        conclusion: "timed_out",
        reason: "timeout",
        tests: [0, 0, 0, 0],
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_end_has_its_conclusion_exit_code_and_results() {
    let world = World::new(2).await;
    let mut jobs = Vec::new();
    for case in CASES {
        jobs.push((case, world.submit(case.args).await));
    }
    for (case, id) in jobs {
        let done = world.wait(&id).await;
        let job = world.job(&id).await;
        let found = (done.code, job["conclusion"].as_str().unwrap(), job["reason"].as_str().unwrap());
        assert_eq!(found, (case.code, case.conclusion, case.reason), "{:?}: {job}", case.args);
        let tests =
            ["passed", "failed", "flaky", "skipped"].map(|word| job["tests"][word].as_u64().unwrap() as u32);
        assert_eq!(tests, case.tests, "{:?}", case.args);
    }
    world.wait_for_phones(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_logs_and_artifacts_tell_what_happened() {
    let world = World::new(1).await;
    let matrix = world.submit(&[GOOD, "--test=tests-special/matrix.spec.js", "--test-retries=1"]).await;
    assert_eq!(world.wait(&matrix).await.code, 1);
    let job = world.job(&matrix).await;
    // Passes; passes as an expected failure; flaky; fails; times out; skipped; fixme.
    assert_eq!(job["tests"], json!({"total": 7, "passed": 2, "failed": 2, "flaky": 1, "skipped": 2}));
    let log = world.qgjob(&["logs", "--job-id", &matrix, "--stream=test"]).await;
    assert_eq!(log.code, 0, "{log:?}");
    let agent = world.qgjob(&["logs", "--job-id", &matrix, "--stream=agent"]).await;
    assert!(agent.out.contains("7 tests"), "{agent:?}");
    let list = world.qgjob(&["artifact", "list", &matrix, "-o", "json"]).await.json();
    let names: Vec<&str> =
        list["items"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"report.json"), "{names:?}");
    assert!(names.iter().any(|name| name.ends_with(".png")), "{names:?}");

    let printed = world.submit(&[GOOD, "--test=tests-special/prints-a-lot.spec.js"]).await;
    assert_eq!(world.wait(&printed).await.code, 0);
    let log = world.qgjob(&["logs", "--job-id", &printed, "--stream=test"]).await;
    assert!(log.out.lines().count() > 500, "{} lines", log.out.lines().count());

    // The app's data is cleared for each test: the spec finds the first launch each time, without an install.
    let before = world.installs();
    for _ in 0..2 {
        let data = world.submit(&[GOOD, "--test=tests-special/data.spec.js"]).await;
        assert_eq!(world.wait(&data).await.code, 0);
    }
    assert_eq!(world.installs(), before);
    let kept = world.submit(&[GOOD, "--test=tests-special/data.spec.js", "--reset=none"]).await;
    assert_eq!(world.wait(&kept).await.code, 1, "with its data kept the app has been launched before");
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_jobs_of_two_versions_on_two_phones_need_two_installs() {
    let mut world = World::without_agent(2).await;
    for (label, version) in [(GOOD, "1.4.2"), (BUGGY, "1.5.0")] {
        let app = crate::world::apk(version);
        assert_eq!(world.qgjob(&["app", "upload", ORG, label, app.to_str().unwrap()]).await.code, 0);
    }
    let specs = [
        "about",
        "catalog",
        "login",
        "navigation",
        "onboarding",
        "order-history",
        "password-reset",
        "profile",
        "screenshot",
        "settings",
    ];
    let tests: Vec<String> = specs.iter().map(|spec| format!("--test=tests/{spec}.spec.js")).collect();
    let mut runs = Vec::new();
    for label in [GOOD, BUGGY] {
        let mut args = vec!["submit", ORG, label, "-o", "json"];
        args.extend(tests.iter().map(String::as_str));
        runs.push(world.qgjob(&args).await.json()["run_id"].as_str().unwrap().to_owned());
    }
    world.start_agent();
    for run in &runs {
        let done = world.qgjob(&["wait", "--run-id", run]).await;
        assert_eq!(done.code, 0, "{done:?}");
    }
    assert_eq!(world.installs(), 2, "as the phones counted them");
    let (mut made, mut avoided) = (0, 0);
    for run in &runs {
        let view = world.qgjob(&["run", "view", run, "-o", "json"]).await.json();
        made += view["installs"]["made"].as_u64().unwrap();
        avoided += view["installs"]["avoided"].as_u64().unwrap();
    }
    assert_eq!((made, avoided), (2, 18), "the ledger tells the truth");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_unplugged_mid_test_costs_an_attempt_and_not_the_verdict() {
    let world = World::new(2).await;
    let id = world.submit(&[GOOD, "--test=tests-special/slow.spec.js", "--env=SLOW_SECONDS=8"]).await;
    let job = world.wait_for_phase(&id, "testing").await;
    let first = job["device_name"].as_str().unwrap().to_owned();
    in_session(&world, &first, 0).await;
    world.phone(&first).fault(Fault::Unplug);
    let done = world.wait(&id).await;
    let job = world.job(&id).await;
    assert_eq!((done.code, job["conclusion"].as_str()), (0, Some("passed")), "{job}");
    assert_ne!(job["device_name"], first.as_str(), "it ran elsewhere");
    assert_eq!((job["attempts"].as_u64(), job["infra_faults"].as_u64()), (Some(2), Some(1)));
    let log = async |stream| world.qgjob(&["logs", "--job-id", &id, "--attempt=1", stream]).await.out;
    assert!(log("--stream=appium").await.contains("POST /session"), "what Appium did is kept");
    let told = log("--stream=agent").await;
    assert!(told.contains("the device left, and its sessions with it"), "{told}");
    world.phone(&first).fault(Fault::Replug);
    let serial =
        world.phones.iter().find(|plugged| plugged.phone.config().name == first).unwrap().serial.clone();
    eventually("the phone is plugged in", async || world.bench.adb.connect(&serial).await.is_ok()).await;
    world.wait_for_phones(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_cancelled_mid_test_leaves_the_phone_clean() {
    let world = World::new(1).await;
    let id = world.submit(&[GOOD, "--test=tests-special/slow.spec.js"]).await;
    let job = world.wait_for_phase(&id, "testing").await;
    let phone = job["device_name"].as_str().unwrap().to_owned();
    in_session(&world, &phone, 0).await;
    let cancelled = world.qgjob(&["cancel", "--job-id", &id]).await;
    assert_eq!(cancelled.code, 0, "{cancelled:?}");
    assert_eq!(world.wait(&id).await.code, 13);
    let asked = Instant::now();
    world.wait_for_phones(1).await;
    // The runner has 10 s after its interrupt and 2 s after its termination, and its session 10 s to end.
    assert!(asked.elapsed() < Duration::from_secs(40), "the phone was busy for {:?}", asked.elapsed());
    assert!(runners_of(&world).is_empty(), "a runner is left: {:?}", runners_of(&world));
    // A session that was left would end the app under the feet of this test a minute later.
    let next = world.submit(&[GOOD, "--test=tests/onboarding.spec.js"]).await;
    assert_eq!(world.wait(&next).await.code, 0);
    let truth = world.phone(&phone).truth();
    assert_eq!((truth.app_installs().len(), truth.app_uninstalls().len()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_killed_in_each_phase_loses_no_job_and_leaves_no_process() {
    let mut world = World::without_agent(1).await;
    let app = crate::world::apk("1.4.2");
    assert_eq!(world.qgjob(&["app", "upload", ORG, GOOD, app.to_str().unwrap()]).await.code, 0);
    // The agent stays in a phase for as long as the answer to its report of it does not come.
    let held: Arc<Mutex<Option<&str>>> = Arc::default();
    let hold = held.clone();
    let network = Proxy::start(world.url().trim_start_matches("http://"), move |call| {
        let phase = *hold.lock().unwrap();
        let told = |phase: &str| call.body.contains(&format!("\"phase\":\"{phase}\""));
        match call.path.ends_with("/phase") && phase.is_some_and(told) {
            true => Fate::Unanswered,
            false => Fate::Passes,
        }
    })
    .await;
    world.start_agent_for(&network.url);
    world.wait_for_phones(1).await;
    for phase in ["preparing", "installing", "testing", "mid-test", "uploading", "cleaning"] {
        let test = match phase {
            "mid-test" => &["--test=tests-special/slow.spec.js", "--env=SLOW_SECONDS=8"][..],
            _ => &["--test=tests/about.spec.js"],
        };
        let sessions = world.phones[0].phone.truth().automation_sessions;
        *held.lock().unwrap() = Some(phase);
        let id = world.submit(&[&[GOOD], test].concat()).await;
        match phase {
            "preparing" => {
                eventually("the job runs", async || world.job(&id).await["status"] == "running").await
            }
            "mid-test" => in_session(&world, "phone-1", sessions).await,
            _ => drop(world.wait_for_phase(&id, phase).await),
        }
        world.kill_agent();
        *held.lock().unwrap() = None;
        world.start_agent_for(&network.url);
        let done = world.wait(&id).await;
        let job = world.job(&id).await;
        let found = (done.code, job["conclusion"].as_str(), job["attempts"].as_u64());
        assert_eq!(found, (0, Some("passed"), Some(2)), "killed while {phase}: {job}");
        assert_eq!(attempts(&world, &id).await[0]["outcome"], "lost", "killed while {phase}");
        world.wait_for_phones(1).await;
        let runners = runners_of(&world);
        assert!(runners.is_empty(), "killed while {phase}, a runner is left: {runners:?}");
    }
    let truth = world.phones[0].phone.truth();
    assert_eq!(truth.app_installs().len(), 1, "the phone was verified again, not installed again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_reaches_an_agent_while_it_leaves_is_given_back() {
    let mut world = World::without_agent(1).await;
    let app = crate::world::apk("1.4.2");
    assert_eq!(world.qgjob(&["app", "upload", ORG, GOOD, app.to_str().unwrap()]).await.code, 0);
    let network = Proxy::start(world.url().trim_start_matches("http://"), |call| {
        match call.path.ends_with("/claim") && !call.body.contains("\"devices\":[]") {
            true => Fate::Late(Duration::from_secs(3)),
            false => Fate::Passes,
        }
    })
    .await;
    world.start_agent_for(&network.url);
    world.wait_for_phones(1).await;
    let id = world.submit(&[GOOD, "--test=tests/about.spec.js"]).await;
    eventually("the job is leased", async || world.job(&id).await["status"] == "running").await;
    world.stop_agent();
    let job = world.job(&id).await;
    assert_eq!((job["status"].as_str(), job["infra_faults"].as_u64()), (Some("queued"), Some(0)), "{job}");
    assert_eq!(attempts(&world, &id).await[0]["outcome"], "released");
    assert!(world.phones[0].phone.truth().app_installs().is_empty(), "nothing of it was started");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_mid_test_goes_on_as_if_nothing_had_been() {
    let mut world = World::new(1).await;
    let id = world.submit(&[GOOD, "--test=tests-special/slow.spec.js"]).await;
    world.wait_for_phase(&id, "testing").await;
    world.kill_server();
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.start_server().await;
    let done = world.wait(&id).await;
    let job = world.job(&id).await;
    assert_eq!((done.code, job["attempts"].as_u64()), (0, Some(1)), "{job}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_with_nothing_to_do_is_quiet() {
    let world = World::new(2).await;
    let id = world.submit(&[GOOD, "--test=tests/about.spec.js"]).await;
    assert_eq!(world.wait(&id).await.code, 0);
    world.wait_for_phones(2).await;
    let before = claims(&world).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let asked = claims(&world).await - before;
    assert!(asked <= 5.0, "{asked} claims in 5 s without work");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shards_of_a_file_run_each_of_its_tests_once() {
    let world = World::new(2).await;
    let file = "--test=tests/item.spec.js";
    let whole = world.submit(&[GOOD, file]).await;
    assert_eq!(world.wait(&whole).await.code, 0);
    let recorded = tests(&world, &whole).await;
    assert_eq!(recorded.len(), 3);
    let made = world.qgjob(&["submit", ORG, GOOD, file, "--shards=2", "-o", "json"]).await.json();
    let jobs: Vec<&str> =
        made["jobs"].as_array().unwrap().iter().map(|job| job["job_id"].as_str().unwrap()).collect();
    assert_eq!(jobs.len(), 2, "{made}");
    let done = world.qgjob(&["wait", "--run-id", made["run_id"].as_str().unwrap()]).await;
    assert_eq!(done.code, 0, "{done:?}");
    let mut ran = Vec::new();
    for (number, job) in (1..).zip(&jobs) {
        let own = tests(&world, job).await;
        assert!(!own.is_empty(), "shard {number}");
        ran.extend(own);
        let shown = world.qgjob(&["status", "--job-id", job]).await;
        assert!(shown.out.contains(&format!("tests/item.spec.js {number}/2")), "{shown:?}");
    }
    ran.sort();
    assert_eq!(ran, recorded);
    let third = world.submit(&[GOOD, "--test=tests/about.spec.js", "--shards=auto"]).await;
    assert_eq!(world.job(&third).await.get("shard"), None, "nothing is recorded of it");
    assert_eq!(world.wait(&third).await.code, 0);
}

/// The titles of the tests that a job ran, sorted.
async fn tests(world: &World, job: &str) -> Vec<String> {
    let url = format!("{}/api/v1/jobs/{job}/tests", world.url());
    let answer = reqwest::Client::new().get(url).bearer_auth(world.token()).send().await.unwrap();
    let body: Value = answer.json().await.unwrap();
    let tries = body["items"].as_array().unwrap().iter();
    let mut titles: Vec<String> = tries.map(|one| one["title"].to_string()).collect();
    titles.sort();
    titles
}

/// Claims that agents have made so far.
async fn claims(world: &World) -> f64 {
    let url = format!("{}/metrics", world.url());
    let answer = reqwest::Client::new().get(url).bearer_auth(world.token()).send().await.unwrap();
    let text = answer.text().await.unwrap();
    let counts = text
        .lines()
        .filter(|line| line.starts_with("qgjob_http_requests_total{") && line.contains("/claim\""));
    counts.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

async fn attempts(world: &World, id: &str) -> Vec<Value> {
    let url = format!("{}/api/v1/jobs/{id}/attempts", world.url());
    let answer = reqwest::Client::new().get(url).bearer_auth(world.token()).send().await.unwrap();
    let body: Value = answer.json().await.unwrap();
    body["items"].as_array().unwrap().clone()
}

/// Waits until a test has the phone in its hands, once more than `before`.
async fn in_session(world: &World, phone: &str, before: u64) {
    let sessions = async || world.phone(phone).truth().automation_sessions > before;
    eventually("a test uses the phone", sessions).await;
}

/// Processes of Node that were started for this world's attempts.
fn runners_of(world: &World) -> Vec<String> {
    let attempts = world.bench.path("agent").join("attempts").display().to_string();
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(&attempts) && line.starts_with("node ")).collect()
}
