//! A runner of GitHub Actions as far as one JavaScript action needs it: inputs and defaults of `action.yml`, variables
//! and file commands, main and post with real Node, the limits, and the signals of a cancel with their timing.

use std::collections::BTreeMap;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;

use super::commands::{Annotation, Console, assignments};

/// A summary over this size is thrown away as a whole.
const MOST_SUMMARY_BYTES: usize = 1 << 20;
const AFTER_SIGINT: Duration = Duration::from_millis(7_500);
const AFTER_SIGTERM: Duration = Duration::from_millis(2_500);

/// `action.yml`, as far as it is used here.
#[derive(Debug, Deserialize)]
pub struct Action {
    inputs: serde_yaml_ng::Mapping,
    outputs: serde_yaml_ng::Mapping,
    runs: Runs,
}

#[derive(Debug, Deserialize)]
pub struct Input {
    pub description: String,
    #[serde(default)]
    pub default: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct Described {
    pub description: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Runs {
    using: String,
    main: PathBuf,
    post: PathBuf,
    post_if: String,
}

pub fn action_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../action").canonicalize().unwrap()
}

impl Action {
    pub fn read() -> Self {
        let text = std::fs::read_to_string(action_folder().join("action.yml")).unwrap();
        let action: Self = serde_yaml_ng::from_str(&text).unwrap();
        assert_eq!((action.runs.using.as_str(), action.runs.post_if.as_str()), ("node24", "always()"));
        action
    }

    /// In the order of the file.
    pub fn inputs(&self) -> Vec<(String, Input)> {
        in_order(&self.inputs)
    }

    pub fn outputs(&self) -> Vec<(String, Described)> {
        in_order(&self.outputs)
    }
}

fn in_order<T: serde::de::DeserializeOwned>(all: &serde_yaml_ng::Mapping) -> Vec<(String, T)> {
    let read = |value: &serde_yaml_ng::Value| serde_yaml_ng::from_value(value.clone()).unwrap();
    all.iter().map(|(name, one)| (name.as_str().unwrap().to_owned(), read(one))).collect()
}

/// One job of a workflow run, with one step.
#[derive(Clone)]
pub struct Runner {
    action: Arc<Action>,
    temp: Arc<tempfile::TempDir>,
    /// The checked out repository.
    pub workspace: PathBuf,
    inputs: BTreeMap<String, String>,
    env: BTreeMap<String, String>,
    matrix: String,
}

/// A step that ended.
#[derive(Debug)]
pub struct Step {
    /// What the entry process exited with; -1 after SIGKILL.
    pub code: i32,
    pub log: String,
    pub console: Console,
    pub outputs: BTreeMap<String, String>,
    pub state: BTreeMap<String, String>,
    /// As shown; none when it is empty or was thrown away.
    pub summary: Option<String>,
    /// Whether variables or the path of later steps were changed.
    pub meddled: bool,
    /// How long it took from the cancel on.
    pub cancelled_in: Duration,
}

impl Step {
    /// Whether the runner shows it green.
    pub fn is_green(&self) -> bool {
        self.code == 0 && !self.console.failed
    }

    pub fn output(&self, name: &str) -> &str {
        self.outputs.get(name).map_or("", String::as_str)
    }

    pub fn errors(&self) -> Vec<&Annotation> {
        self.console.annotations.iter().filter(|one| one.level == "error").collect()
    }

    pub fn warnings(&self) -> Vec<&Annotation> {
        self.console.annotations.iter().filter(|one| one.level == "warning").collect()
    }
}

impl Runner {
    /// A runner that checked out `workspace`. `home` and `path` are those of its user.
    pub fn new(workspace: &Path, home: &Path) -> Self {
        let temp = tempfile::Builder::new().prefix("runner-").tempdir().unwrap();
        let mut env = BTreeMap::new();
        let mut set = |name: &str, value: &str| env.insert(name.to_owned(), value.to_owned());
        for (name, value) in [
            ("CI", "true"),
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_ACTION", "__self"),
            ("GITHUB_EVENT_NAME", "push"),
            ("GITHUB_JOB", "e2e"),
            ("GITHUB_REF_NAME", "main"),
            ("GITHUB_REPOSITORY", "acme/shop"),
            ("GITHUB_REPOSITORY_ID", "123456"),
            ("GITHUB_RUN_ATTEMPT", "1"),
            ("GITHUB_RUN_ID", "9001"),
            ("GITHUB_SERVER_URL", "https://github.com"),
            ("GITHUB_SHA", "0123456789abcdef0123456789abcdef01234567"),
            ("GITHUB_WORKFLOW", "mobile tests"),
        ] {
            set(name, value);
        }
        let tracking = temp.path().file_name().unwrap().to_str().unwrap();
        set("RUNNER_TRACKING_ID", tracking);
        set("RUNNER_TEMP", temp.path().to_str().unwrap());
        set("GITHUB_WORKSPACE", workspace.to_str().unwrap());
        set("HOME", home.to_str().unwrap());
        set("PATH", &std::env::var("PATH").unwrap());
        let runner = Self {
            action: Arc::new(Action::read()),
            temp: Arc::new(temp),
            workspace: workspace.to_owned(),
            inputs: BTreeMap::new(),
            env,
            matrix: "null".to_owned(),
        };
        runner.with("binary", env!("CARGO_BIN_EXE_qgjob"))
    }

    /// Sets an input of the step.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        assert!(self.action.inputs.contains_key(name), "the action has no input {name}");
        self.inputs.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Sets the values of the job's matrix.
    pub fn matrix(mut self, json: &str) -> Self {
        json.clone_into(&mut self.matrix);
        self
    }

    pub fn attempt(self, attempt: u32) -> Self {
        self.env("GITHUB_RUN_ATTEMPT", &attempt.to_string())
    }

    /// Runs the main step to its end.
    pub async fn main(&self) -> Step {
        self.start().done().await
    }

    /// Runs the post step, as after `main`.
    pub async fn post(&self, main: &Step) -> Step {
        self.node(&self.action.runs.post, &main.state).done().await
    }

    /// Starts the main step.
    pub fn start(&self) -> Running {
        self.node(&self.action.runs.main, &BTreeMap::new())
    }

    fn node(&self, script: &Path, state: &BTreeMap<String, String>) -> Running {
        let mut command = Command::new("node");
        command.arg(action_folder().join(script)).env_clear().envs(&self.env);
        for (name, input) in self.action.inputs() {
            let default = input.default.unwrap_or_default().replace("${{ toJSON(matrix) }}", &self.matrix);
            assert!(!default.contains("${{"), "{name}: {default}");
            let value = self.inputs.get(&name).unwrap_or(&default);
            command.env(format!("INPUT_{}", name.replace(' ', "_").to_uppercase()), value);
        }
        for (name, value) in state {
            command.env(format!("STATE_{name}"), value);
        }
        Running::start(command, &self.temp, &self.workspace)
    }

    /// Runs a line of shell as a `run:` step, which is `bash -e {0}`.
    pub fn shell(&self, script: &str) -> Running {
        let file = self.temp.path().join("step.sh");
        std::fs::write(&file, script).unwrap();
        let mut command = Command::new("bash");
        command.arg("-e").arg(file).env_clear().envs(&self.env);
        Running::start(command, &self.temp, &self.workspace)
    }

    /// The processes of the job that still run, as the runner finds them at its end.
    pub fn orphans(&self) -> Vec<String> {
        let tracking = format!("RUNNER_TRACKING_ID={}", self.env["RUNNER_TRACKING_ID"]);
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let env = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            if env.split(|byte| *byte == 0).any(|one| one == tracking.as_bytes()) {
                found.push(
                    std::fs::read_to_string(entry.path().join("cmdline"))
                        .unwrap_or_default()
                        .replace('\0', " "),
                );
            }
        }
        found
    }
}

/// A step that runs.
pub struct Running {
    child: Child,
    console: Arc<Mutex<Console>>,
    readers: Vec<std::thread::JoinHandle<()>>,
    files: tempfile::TempDir,
    // The files are inside.
    _temp: Arc<tempfile::TempDir>,
}

/// The runner's files, by the variable that names each.
const FILES: [&str; 5] =
    ["GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_PATH", "GITHUB_STATE", "GITHUB_STEP_SUMMARY"];

impl Running {
    fn start(mut command: Command, temp: &Arc<tempfile::TempDir>, workspace: &Path) -> Self {
        let files = tempfile::tempdir_in(temp.path()).unwrap();
        for name in FILES {
            std::fs::write(files.path().join(name), "").unwrap();
            command.env(name, files.path().join(name));
        }
        command.current_dir(workspace).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let console = Arc::new(Mutex::new(Console::default()));
        let streams: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        let read = |stream| {
            let console = Arc::clone(&console);
            std::thread::spawn(move || listen(stream, &console))
        };
        let readers = streams.map(read).into();
        Self { child, console, readers, files, _temp: Arc::clone(temp) }
    }

    /// Waits until the log holds `text`.
    pub async fn says(&self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(120);
        while !self.console.lock().unwrap().log.iter().any(|line| line.contains(text)) {
            let log = self.console.lock().unwrap().log.join("\n");
            assert!(Instant::now() < deadline, "{text:?} is not said: {log}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What an output is at the moment.
    pub fn output(&self, name: &str) -> Option<String> {
        assignments(&self.file("GITHUB_OUTPUT")).ok()?.remove(name)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// Cancels as the runner does: SIGINT, 7.5 s later SIGTERM, 2.5 s later SIGKILL, each to the entry process alone.
    pub async fn cancel(mut self) -> Step {
        let began = Instant::now();
        for (signal, patience) in [
            (Signal::SIGINT, AFTER_SIGINT),
            (Signal::SIGTERM, AFTER_SIGTERM),
            (Signal::SIGKILL, Duration::from_secs(60)),
        ] {
            _ = kill(self.pid(), signal);
            let sent = Instant::now();
            while sent.elapsed() < patience {
                if self.child.try_wait().unwrap().is_some() {
                    let cancelled_in = began.elapsed();
                    return Step { cancelled_in, ..self.done().await };
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        panic!("the entry process outlived SIGKILL");
    }

    /// Ends all of its processes at once, as when the machine is lost.
    pub async fn lose(self) -> Step {
        let entry = self.pid();
        for child in children(entry) {
            _ = kill(child, Signal::SIGKILL);
        }
        _ = kill(entry, Signal::SIGKILL);
        self.done().await
    }

    /// Waits for its end.
    pub async fn done(mut self) -> Step {
        let joined = tokio::task::spawn_blocking(move || {
            let status = self.child.wait().unwrap();
            for reader in self.readers.drain(..) {
                reader.join().unwrap();
            }
            (self, status)
        });
        let (step, status) =
            tokio::time::timeout(Duration::from_secs(300), joined).await.expect("the step ends").unwrap();
        let mut console = std::mem::take(&mut *step.console.lock().unwrap());
        let mut values = |name: &str| {
            assignments(&step.file(name)).unwrap_or_else(|_| {
                console.failed = true;
                BTreeMap::new()
            })
        };
        let (outputs, state) = (values("GITHUB_OUTPUT"), values("GITHUB_STATE"));
        let summary = step.file("GITHUB_STEP_SUMMARY");
        let shown = !summary.is_empty() && summary.len() <= MOST_SUMMARY_BYTES;
        Step {
            code: status.code().unwrap_or(-1),
            log: console.log.join("\n"),
            outputs,
            state,
            summary: shown.then_some(summary),
            meddled: ["GITHUB_ENV", "GITHUB_PATH"].iter().any(|name| !step.file(name).is_empty()),
            console,
            cancelled_in: Duration::ZERO,
        }
    }

    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.files.path().join(name)).unwrap()
    }
}

/// Feeds the lines of a stream to the console, as .NET reads them.
fn listen(stream: Box<dyn Read + Send>, console: &Mutex<Console>) {
    let mut line = Vec::new();
    let feed = |line: &mut Vec<u8>| {
        console.lock().unwrap().line(&String::from_utf8_lossy(line));
        line.clear();
    };
    let mut before = 0;
    for byte in BufReader::new(stream).bytes().map_while(Result::ok) {
        match byte {
            b'\n' if before == b'\r' => {}
            b'\n' | b'\r' => feed(&mut line),
            _ => line.push(byte),
        }
        before = byte;
    }
    if !line.is_empty() {
        feed(&mut line);
    }
}

fn children(of: Pid) -> Vec<Pid> {
    let tasks = format!("/proc/{of}/task/{of}/children");
    let found = std::fs::read_to_string(tasks).unwrap_or_default();
    found.split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap())).collect()
}
