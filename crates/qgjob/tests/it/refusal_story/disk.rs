//! Disks that fill up: the server refuses and loses nothing, the agent says that it is its own disk.
//!
//! A process under test gets a small disk of its own by a mount in a namespace of its own, which needs no rights. From
//! outside its files are seen below `/proc/<pid>/root`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use serde_json::json;

use super::project::{Project, noise};
use super::{End, ends, run};
use crate::device_bench::{eventually, free_port, test_cache};
use crate::world::{Done, GOOD, ORG, World, apk};

/// A process some of whose folders are small disks.
struct Cramped {
    child: Child,
}

impl Cramped {
    /// Starts `command` with a disk of `size` mounted on each of the folders, which must exist, and its output in `log`.
    fn start(command: &Command, size: &str, at: &[&Path], log: &Path) -> Self {
        let mut script = String::new();
        for number in 1..=at.len() {
            script.push_str(&format!("mount -t tmpfs -o size={size} none \"${number}\" && "));
        }
        script.push_str(&format!("shift {} && exec \"$@\"", at.len()));
        let mut cramped = Command::new("unshare");
        cramped.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"]).args(at);
        cramped.arg(command.get_program()).args(command.get_args());
        if let Some(dir) = command.get_current_dir() {
            cramped.current_dir(dir);
        }
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => cramped.env(name, value),
                None => cramped.env_remove(name),
            };
        }
        let log = std::fs::File::create(log).unwrap();
        cramped.stdout(log.try_clone().unwrap()).stderr(log);
        Self { child: cramped.spawn().unwrap() }
    }

    /// Where this process sees `path`.
    fn inside(&self, path: &Path) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}", self.child.id(), path.display()))
    }

    /// Fills the disk at `dir` to its last page.
    fn fill(&self, dir: &Path) -> Filling {
        let path = self.inside(dir).join("filling");
        let mut file = std::fs::File::create(&path).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
        Filling(path)
    }
}

impl Drop for Cramped {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// What fills a disk, until it is removed.
struct Filling(PathBuf);

impl Filling {
    fn remove(self) {
        std::fs::remove_file(self.0).unwrap();
    }
}

#[tokio::test]
async fn a_full_server_refuses_reads_on_and_takes_the_same_submit_when_there_is_space() {
    let home = tempfile::tempdir().unwrap();
    let (data, project) = (home.path().join("data"), Project::new());
    std::fs::create_dir(&data).unwrap();
    let url = format!("http://127.0.0.1:{}", free_port());
    let qgjob = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qgjob"));
        command.args(args).current_dir(project.dir()).env("QGJOB_SERVER", &url);
        command.env("QGJOB_CONFIG_DIR", home.path().join("config"));
        command
    };
    let listen = format!("--listen={}", url.trim_start_matches("http://"));
    let command = qgjob(&["server", "run", &listen, "--data-dir", data.to_str().unwrap()]);
    let server = Cramped::start(&command, "8m", &[&data], &home.path().join("server.log"));
    eventually("the server answers", async || run(qgjob(&["list"])).await.code == 0).await;

    let submit = ["submit", ORG, GOOD, "--test=tests/passes.spec.js", "--idempotency-key=once", "-o", "json"];
    let first = ["submit", ORG, GOOD, "--test=tests/passes.spec.js", "-o", "json"];
    let before = run(qgjob(&first)).await.json()["job_id"].as_str().unwrap().to_owned();
    std::fs::write(project.path("data.bin"), noise(200_000)).unwrap();
    let filling = server.fill(&data);

    let refused: Done = run(qgjob(&submit)).await;
    assert_eq!((refused.code, refused.out.as_str()), (10, ""), "{refused:?}");
    let error: serde_json::Value = serde_json::from_str(&refused.err).unwrap();
    assert_eq!((&error["error"]["code"], &error["error"]["status"]), (&json!("storage_full"), &json!(507)));
    assert!(error["error"]["hint"].as_str().is_some_and(|hint| hint.contains("space")), "{error}");
    let told = run(qgjob(&submit[..submit.len() - 2])).await;
    assert!(told.err.contains("The server's disk is full"), "{told:?}");
    let ready = run(qgjob(&["server", "check"])).await;
    assert!(ready.code == 10 && ready.out.contains("disk"), "{ready:?}");
    let view = run(qgjob(&["status", "--job-id", &before, "-o", "json"])).await;
    assert_eq!((view.code, &view.json()["status"]), (0, &json!("queued")), "what was accepted can be read");

    filling.remove();
    let taken = run(qgjob(&submit)).await;
    assert_eq!(taken.code, 0, "{taken:?}");
    let again = run(qgjob(&submit)).await;
    assert_eq!(again.json()["run_id"], taken.json()["run_id"], "the refused try left nothing behind");
    let list = run(qgjob(&["list", "-o", "json"])).await.json();
    assert_eq!(list["items"].as_array().unwrap().len(), 2, "{list}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_agent_says_so_and_goes_on_when_there_is_space() {
    let world = World::without_agent(1).await;
    let app = apk("1.4.2");
    let done = world.qgjob(&["app", "upload", ORG, GOOD, app.to_str().unwrap()]).await;
    assert_eq!(done.code, 0, "{done:?}");
    let cache = std::fs::canonicalize(test_cache()).unwrap().join("agent");
    let (state, files) = (world.bench.path("agent"), cache.join("files"));
    for dir in [&state, &files] {
        std::fs::create_dir_all(dir).unwrap();
    }
    let mut command = world.command();
    command.args(["agent", "run", "--name=rack", "--heartbeat=1s"]);
    command.args(["--state-dir", state.to_str().unwrap(), "--cache-dir", cache.to_str().unwrap()]);
    command.arg(format!("--adb-port={}", world.bench.adb.port()));
    let agent = Cramped::start(&command, "16m", &[&state, &files], &world.bench.path("agent.log"));
    world.wait_for_phones(1).await;

    let fault = End { code: 10, conclusion: "errored", reason: "agent_fault" };
    for disk in [&files, &state] {
        let filling = agent.fill(disk);
        let id = world.submit(&[GOOD, "--test=tests/about.spec.js", "--retries=0"]).await;
        let job = ends(&world, &id, fault, &format!("{} is full", disk.display())).await;
        assert!(job["detail"].as_str().unwrap().to_lowercase().contains("no space left"), "{job}");
        world.wait_for_phones(1).await;
        filling.remove();
        let left: Vec<_> = std::fs::read_dir(agent.inside(&state).join("attempts")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
    let halves = std::fs::read_dir(agent.inside(&files)).unwrap().map(|entry| entry.unwrap().file_name());
    let halves: Vec<_> = halves.filter(|name| name.to_string_lossy().contains("half")).collect();
    assert!(halves.is_empty(), "{halves:?}");
    // With its retries, a job outlives a disk that is full for a while.
    let filling = agent.fill(&state);
    let id = world.submit(&[GOOD, "--test=tests/about.spec.js", "--retries=10"]).await;
    eventually("an attempt has failed", async || world.job(&id).await["infra_faults"] != 0).await;
    filling.remove();
    ends(&world, &id, End { code: 0, conclusion: "passed", reason: "tests_passed" }, "space again").await;
    world.wait_for_phones(1).await;
}
