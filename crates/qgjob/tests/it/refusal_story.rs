//! What gets bad input, or bad luck: each case is a clear error with a way out, loses nothing, and leaves a system that
//! works. What refuses without a device is told here and in `cli_story`; the rest has the whole chain behind it.

mod detached;
mod disk;
mod hostile;
mod phone;
mod project;
mod runner;

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::device_bench::eventually;
use crate::world::{Done, GOOD, ORG, World};
use project::{Project, noise};

/// What must come of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End<'a> {
    code: i32,
    conclusion: &'a str,
    reason: &'a str,
}

/// Waits for the job's end and checks it. Answers the job.
async fn ends(world: &World, id: &str, end: End<'_>, what: &str) -> Value {
    let done = world.wait(id).await;
    let job = world.job(id).await;
    let word = |key: &str| job[key].as_str().unwrap_or("none");
    let found = End { code: done.code, conclusion: word("conclusion"), reason: word("reason") };
    assert_eq!(found, end, "{what}: {job}");
    job
}

/// Checks that the system still works: an ordinary job passes, and all phones are idle again.
async fn still_works(world: &World) {
    let id = world.submit(&[GOOD, "--test=tests/about.spec.js"]).await;
    ends(world, &id, End { code: 0, conclusion: "passed", reason: "tests_passed" }, "an ordinary job").await;
    world.wait_for_phones(world.phones.len()).await;
}

async fn run(mut command: Command) -> Done {
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Done { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

#[tokio::test]
async fn a_test_file_that_cannot_be_read_is_told_by_name() {
    let project = Project::new();
    project.write("tests/locked.spec.js", "// Nobody may read this.");
    std::fs::set_permissions(
        project.path("tests/locked.spec.js"),
        std::os::unix::fs::PermissionsExt::from_mode(0o000),
    )
    .unwrap();
    // Even an administrator has no rights to other's files in a user namespace of its own.
    let mut command = Command::new("unshare");
    command.args(["--user", env!("CARGO_BIN_EXE_qgjob"), "submit", ORG, GOOD, "--test=tests/locked.spec.js"]);
    command.current_dir(project.dir()).env("QGJOB_CONFIG_DIR", project.dir());
    let done = run(command).await;
    assert_eq!((done.code, done.out.as_str()), (2, ""), "{done:?}");
    assert!(done.err.contains("tests/locked.spec.js") && done.err.contains("Permission denied"), "{done:?}");

    std::os::unix::fs::symlink("nowhere.js", project.path("tests/dangling.spec.js")).unwrap();
    let done = project.qgjob(&["submit", ORG, GOOD, "--test=tests/dangling.spec.js"]).await;
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.err.contains("tests/dangling.spec.js") && done.err.contains(".qgjobignore"), "{done:?}");
}

#[tokio::test]
async fn a_project_over_the_limit_is_told_its_size_and_the_limit() {
    let mut world = World::without_agent(0).await;
    let project = Project::new();
    std::fs::write(project.path("video.bin"), noise(300_000)).unwrap();
    let submit = ["submit", ORG, GOOD, "--test=tests/passes.spec.js"];
    world.kill_server();
    let config = world.bench.path("server.toml");
    let before = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{before}[limits]\nbundle = 200000\n")).unwrap();
    world.start_server().await;
    let done = project.qgjob_in(&world, &submit).await;
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.err.contains("200000"), "the limit is told: {done:?}");
    assert!(done.err.contains(".qgjobignore"), "and what to do: {done:?}");
    assert_eq!(world.qgjob(&["list", "-o", "json"]).await.json()["items"], serde_json::json!([]));
    // What the message says helps.
    project.write(".qgjobignore", "video.bin\n");
    let done = project.qgjob_in(&world, &submit).await;
    assert_eq!(done.code, 0, "{done:?}");
}

#[tokio::test]
async fn a_second_server_or_agent_on_the_same_folder_leaves_the_first_unharmed() {
    let mut world = World::without_agent(0).await;
    let data = world.bench.path("data");
    let mut second = world.command();
    second.args(["server", "run", "--listen=127.0.0.1:0", "--data-dir", data.to_str().unwrap()]);
    let done = run(second).await;
    assert_eq!((done.code, done.out.as_str()), (10, ""), "{done:?}");
    assert!(done.err.contains("one server at a time uses a data folder"), "{done:?}");
    let queued = world.submit(&[GOOD, "--test=tests/about.spec.js"]).await;
    assert_eq!(world.job(&queued).await["status"], "queued", "the first server goes on");

    world.start_agent();
    let agents = async || world.qgjob(&["agent", "list", "-o", "json"]).await.json()["items"].clone();
    eventually("the agent is there", async || agents().await.as_array().unwrap().len() == 1).await;
    let state = world.bench.path("agent");
    let mut second = world.command();
    second.args(["agent", "run", "--name=other", "--state-dir", state.to_str().unwrap()]);
    second.args(["--cache-dir", state.to_str().unwrap()]);
    let done = run(second).await;
    assert_eq!(done.code, 10, "{done:?}");
    assert!(done.err.contains("--state-dir"), "{done:?}");
    let left = agents().await;
    assert_eq!((left.as_array().unwrap().len(), &left[0]["name"]), (1, &json!("rack")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_that_two_agents_find_is_offered_by_one_and_taken_over_by_the_other() {
    let mut world = World::without_agent(1).await;
    world.start_agent();
    world.wait_for_phones(1).await;
    let mut second = world.agent_command("other", &world.bench.path("other"), &world.bench.path("cache"));
    let first = Pid::from_raw(world.agent_id() as i32);
    let _second = Stopped(second.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    // The agents' names for it differ.
    let offer = async |first: bool| {
        let devices = world.qgjob(&["device", "list", "-o", "json"]).await.json();
        let mut devices = devices["items"].as_array().unwrap().iter();
        let device = devices.find(|device| (device["name"] == "phone-1") == first)?;
        Some((device["state"].clone(), device["note"].clone()))
    };
    let (idle, offline) = (Some((json!("idle"), Value::Null)), json!("offline"));
    let theirs = Some((offline, json!("another agent on this host has it")));
    eventually("the second agent reports the phone", async || offer(false).await.is_some()).await;
    // It stays so: the second agent looks again every second.
    for _ in 0..3 {
        assert_eq!((offer(true).await, offer(false).await), (idle.clone(), theirs.clone()));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    kill(first, Signal::SIGKILL).unwrap();
    eventually("the second agent offers the phone", async || offer(false).await == idle).await;
}

/// A process that ends with the test.
struct Stopped(Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
