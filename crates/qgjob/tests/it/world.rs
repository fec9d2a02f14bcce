//! A world to tell stories in: the real server and agent as processes, the real command line, real AppWright, Appium
//! and adb, and simulated phones. Only the phones are not real.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use simulated_android::Phone;

use crate::device_bench::{Bench, Plugged, eventually, test_cache};

pub const ORG: &str = "--org-id=qualgent";
/// The app version in which nothing is broken.
pub const GOOD: &str = "--app-version-id=xyz123";
/// The app version with the bug that `known-bug.spec.js` finds.
pub const BUGGY: &str = "--app-version-id=xyz124";

/// Short leases and waits, so that stories of loss are short too.
const SERVER: &str = "lease = \"6s\"\nbackoff_first = \"1s\"\ntimeout_grace = \"5s\"\n";

pub struct World {
    server: Option<Child>,
    agent: Option<Child>,
    pub phones: Vec<Plugged>,
    pub bench: Bench,
    port: u16,
    // One world at a time: two cores carry no more than one Appium per phone.
    _turn: std::fs::File,
}

/// What a command ended with.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Done {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl World {
    /// A server, an agent and `phones` phones, with both app versions uploaded.
    pub async fn new(phones: usize) -> Self {
        let mut world = Self::without_agent(phones).await;
        for (label, version) in [(GOOD, "1.4.2"), (BUGGY, "1.5.0")] {
            let app = apk(version);
            let done = world.qgjob(&["app", "upload", ORG, label, app.to_str().unwrap()]).await;
            assert_eq!(done.code, 0, "{done:?}");
        }
        world.start_agent();
        world.wait_for_phones(phones).await;
        world
    }

    /// The same without app versions and with an agent that is not started.
    pub async fn without_agent(phones: usize) -> Self {
        let turn = tokio::task::spawn_blocking(take_turn).await.unwrap();
        let bench = Bench::new();
        bench.adb.start_server().await.unwrap();
        let mut plugged = Vec::new();
        for at in 1..=phones {
            plugged.push(bench.plug_in(&format!("phone-{at}")).await);
        }
        let port = crate::device_bench::free_port();
        let mut world = Self { server: None, agent: None, phones: plugged, bench, port, _turn: turn };
        std::fs::write(world.bench.path("server.toml"), SERVER).unwrap();
        world.start_server().await;
        world
    }

    pub async fn start_server(&mut self) {
        let (config, data) = (self.bench.path("server.toml"), self.bench.path("data"));
        let mut command = self.command();
        command.args([
            "server",
            "run",
            "--config",
            config.to_str().unwrap(),
            "--data-dir",
            data.to_str().unwrap(),
        ]);
        command.arg(format!("--listen=127.0.0.1:{}", self.port));
        self.server = Some(command.stdout(self.log("server")).stderr(self.log("server")).spawn().unwrap());
        eventually("the server answers", async || self.qgjob(&["device", "list"]).await.code == 0).await;
    }

    pub fn start_agent(&mut self) {
        self.start_agent_for(&self.url());
    }

    /// Starts the agent for the server at `url`: this world's, or what stands in front of it.
    pub fn start_agent_for(&mut self, url: &str) {
        let (state, cache) = (self.bench.path("agent"), test_cache().join("agent"));
        let mut command = self.agent_command("rack", &state, &cache);
        command.env("QGJOB_SERVER", url);
        for plugged in &self.phones {
            command.arg(format!("--device-name={}={}", plugged.serial, plugged.phone.config().name));
        }
        self.agent = Some(command.stdout(self.log("agent")).stderr(self.log("agent")).spawn().unwrap());
    }

    /// An agent of this host beside others.
    pub fn agent_command(&self, name: &str, state: &Path, cache: &Path) -> Command {
        let mut command = self.command();
        command.env("QGJOB_TOKEN", self.token());
        command.args(["agent", "run", "--heartbeat=1s", "--name", name]);
        command.args(["--state-dir", state.to_str().unwrap(), "--cache-dir", cache.to_str().unwrap()]);
        command.arg(format!("--adb-port={}", self.bench.adb.port()));
        command
    }

    pub async fn wait_for_phones(&self, idle: usize) {
        eventually("the phones are idle", async || self.idle_phones().await == idle).await;
    }

    pub async fn idle_phones(&self) -> usize {
        let devices = self.qgjob(&["device", "list", "-o", "json"]).await.json();
        devices["items"].as_array().unwrap().iter().filter(|device| device["state"] == "idle").count()
    }

    pub fn kill_server(&mut self) {
        kill(self.server.take());
    }

    pub fn kill_agent(&mut self) {
        kill(self.agent.take());
    }

    /// The number of the agent's process.
    pub fn agent_id(&self) -> u32 {
        self.agent.as_ref().expect("it runs").id()
    }

    /// Asks the agent to leave and to give back what runs.
    pub fn stop_agent(&mut self) {
        stop(self.agent.take().expect("it runs"));
    }

    pub fn phone(&self, name: &str) -> &Phone {
        &self.phones.iter().find(|plugged| plugged.phone.config().name == name).unwrap().phone
    }

    /// Installs of apps under test, as all phones counted them.
    pub fn installs(&self) -> usize {
        self.phones.iter().map(|plugged| plugged.phone.truth().app_installs().len()).sum()
    }

    /// Runs the command line in the example project.
    pub async fn qgjob(&self, args: &[&str]) -> Done {
        let mut command = self.command();
        command.args(args).stdin(Stdio::null());
        Done::of(tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap())
    }

    /// Submits one test and answers the job's id.
    pub async fn submit(&self, args: &[&str]) -> String {
        let done = self.qgjob(&[&["submit", ORG, "-o", "json"], args].concat()).await;
        assert_eq!(done.code, 0, "{done:?}");
        done.json()["job_id"].as_str().unwrap().to_owned()
    }

    pub async fn job(&self, id: &str) -> Value {
        let done = self.qgjob(&["status", "--job-id", id, "-o", "json"]).await;
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{}", done.out);
        done.json()
    }

    /// Waits until the job's phase is `phase`.
    pub async fn wait_for_phase(&self, id: &str, phase: &str) -> Value {
        // The first attempt on a phone waits for Appium's start, which takes long on a busy machine.
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let job = self.job(id).await;
            if job["phase"] == phase {
                return job;
            }
            assert!(Instant::now() < deadline, "the job does not reach {phase}: {job}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits for the verdict.
    pub async fn wait(&self, id: &str) -> Done {
        self.qgjob(&["wait", "--job-id", id, "-o", "json"]).await
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qgjob"));
        command
            .current_dir(example())
            .env("QGJOB_CONFIG_DIR", self.bench.path("config"))
            .env_remove("CI")
            .env_remove("GITHUB_ACTIONS");
        command.env("QGJOB_SERVER", format!("http://127.0.0.1:{}", self.port));
        command
    }

    /// The admin's token, from the credential that the server wrote.
    pub fn token(&self) -> String {
        let text = std::fs::read_to_string(self.bench.path("config").join("credentials.toml")).unwrap();
        text.split('"').find(|part| part.starts_with("qgj_")).unwrap().to_owned()
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn log(&self, name: &str) -> std::fs::File {
        let path = self.bench.path(&format!("{name}.log"));
        std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in ["server.log", "agent.log"] {
                let text = std::fs::read_to_string(self.bench.path(name)).unwrap_or_default();
                let tail: Vec<&str> = text.lines().rev().take(40).collect();
                eprintln!("--- {name}\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
            }
        }
        // The agent takes its Appium servers along.
        for child in [self.agent.take(), self.server.take()].into_iter().flatten() {
            stop(child);
        }
    }
}

fn kill(child: Option<Child>) {
    let mut child = child.expect("it runs");
    child.kill().unwrap();
    child.wait().unwrap();
}

fn stop(mut child: Child) {
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
    for _ in 0..300 {
        if matches!(child.try_wait(), Ok(Some(_))) {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// Worlds of other test processes wait, too.
fn take_turn() -> std::fs::File {
    std::fs::create_dir_all(test_cache()).unwrap();
    let turn = std::fs::File::create(test_cache().join("world.lock")).unwrap();
    turn.lock().unwrap();
    turn
}

pub fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/appwright-demo").canonicalize().unwrap()
}

/// The demo app, built if it is not there.
pub fn apk(version: &str) -> PathBuf {
    let apk = example().join(format!("build/demo-{version}.apk"));
    if !apk.exists() {
        let code = version.split('.').fold(0, |code, part| code * 100 + part.parse::<u32>().unwrap());
        let built =
            Command::new(example().join("app/build.sh")).arg(version).arg(code.to_string()).output().unwrap();
        assert!(built.status.success(), "{built:?}");
    }
    apk
}
