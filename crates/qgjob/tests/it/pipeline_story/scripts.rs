//! The shell parts of the examples are run: by the shell that the platform takes, with the variables that it sets, with
//! the real program against a real server.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use super::checks;
use super::documents::root;
use super::steps::{Platform, Step};
use crate::cli_story::agent::{FakeAgent, Play};
use crate::cli_story::desk::Desk;
use crate::device_bench::eventually;

const SHELL_EXAMPLES: [(Platform, &str); 4] = [
    (Platform::Github, "github-shell.yml"),
    (Platform::Gitlab, "gitlab.yml"),
    (Platform::Buildkite, "buildkite.yml"),
    (Platform::Circleci, "circleci.yml"),
];

/// Stands in for what the platform puts on the machine: it gives out files and id-tokens.
const OF_THE_PLATFORM: &str = r#"#!/bin/sh
case "$*" in
  "artifact download "*) test -f "$3" ;;
  "oidc request-token --audience https://"*) echo an-id-token ;;
  'run oidc get --claims {"aud":"https://'*) echo an-id-token ;;
  *) echo "not known: $*" >&2; exit 64 ;;
esac
"#;

/// A machine of a CI with a checkout, beside a server.
struct Runner {
    desk: Desk,
    platform: Platform,
    document: Value,
    home: tempfile::TempDir,
}

impl Runner {
    async fn new(platform: Platform, example: &str) -> Self {
        let desk = Desk::new().await;
        let document = checks::parsed(&root().join("examples/ci").join(example));
        let home = tempfile::tempdir().unwrap();
        let bin = home.path().join("bin");
        fs::create_dir(&bin).unwrap();
        symlink(env!("CARGO_BIN_EXE_qgjob"), bin.join("qgjob")).unwrap();
        for program in ["buildkite-agent", "circleci"] {
            executable(&bin.join(program), OF_THE_PLATFORM);
        }
        let apk = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/demo.apk");
        let folder = "app/build/outputs/apk/debug";
        let build = format!("#!/bin/sh\nmkdir -p {folder} && cp '{apk}' {folder}/app-debug.apk\n");
        executable(&desk.project().join("gradlew"), &build);
        let config = "org_id = \"qualgent\"\n[submit]\ntests = [\"tests\"]\nretries = 0\n";
        fs::write(desk.project().join("qgjob.toml"), config).unwrap();
        fs::write(desk.project().join(".gitignore"), "build/\nqgjob-*\n").unwrap();
        Self { desk, platform, document, home }
    }

    fn start(&self, step: &Step) -> Child {
        let (shell, options) = self.platform.shell().split_first().unwrap();
        let path = format!("{}:{}", self.home.path().join("bin").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(shell);
        command.args(options).current_dir(self.desk.project()).env_clear().envs(&step.env);
        command.env("PATH", path).env("HOME", self.home.path()).env("CI", "true");
        command.envs(self.platform.variables().iter().copied());
        command.env("QGJOB_TOKEN", self.desk.admin_token());
        if step.env.contains_key("QGJOB_SERVER") {
            command.env("QGJOB_SERVER", format!("http://{}", self.desk.address));
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        if self.platform != Platform::Gitlab {
            return command.arg(&step.script).stdin(Stdio::null()).spawn().unwrap();
        }
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let (mut stdin, script) = (child.stdin.take().unwrap(), format!("set -e\n{}\n", step.script));
        tokio::spawn(async move { stdin.write_all(script.as_bytes()).await.unwrap() });
        child
    }

    /// Runs all steps but the last, which is the one that gates.
    async fn up_to_the_gate(&self) -> Step {
        let mut steps = self.platform.steps(&self.document);
        let gate = steps.pop().unwrap();
        assert!(!steps.is_empty(), "the app is built before");
        for step in steps {
            let (code, text) = ended(self.start(&step)).await;
            assert_eq!(code, Some(0), "{step:?}: {text}");
        }
        gate
    }

    fn junit(&self) -> PathBuf {
        let path = self.desk.project().join(self.platform.junit(&self.document));
        if path.is_dir() { path.join("junit.xml") } else { path }
    }
}

fn executable(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The end of a step, which must come within two minutes: its exit code and all that it said.
async fn ended(child: Child) -> (Option<i32>, String) {
    let output = tokio::time::timeout(Duration::from_secs(120), child.wait_with_output()).await;
    let output = output.expect("the step ends").unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (output.status.code(), text.concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_gates_by_its_exit_code_and_leaves_a_report() {
    // Most of it is waiting, so the platforms need not wait for each other.
    futures_util::future::join_all(SHELL_EXAMPLES.map(|(platform, example)| async move {
        for (play, code) in [(Play::Passes, 0), (Play::Fails("no"), 1), (Play::Faults("device_fault"), 10)] {
            gates(platform, example, play, code).await;
        }
    }))
    .await;
}

async fn gates(platform: Platform, example: &str, play: Play, code: i32) {
    let runner = Runner::new(platform, example).await;
    let gate = runner.up_to_the_gate().await;
    let agent = FakeAgent::start(&runner.desk, &["pixel-7"], move |test| {
        if test.contains("login") { play } else { Play::Passes }
    })
    .await;
    let (ended, text) = ended(runner.start(&gate)).await;
    assert_eq!(ended, Some(code), "{example}: {text}");
    let junit = fs::read_to_string(runner.junit());
    let junit = junit.unwrap_or_else(|error| panic!("{example}: {error}: {text}"));
    for test in ["cart", "login", "onboarding"] {
        assert!(junit.contains(&format!("tests/{test}.spec.js")), "{example}: {junit}");
    }
    let runs = runner.desk.qgjob(&["run", "list", "-o", "json"]).await.json();
    let label = runs["items"][0]["app_version_id"].as_str().unwrap();
    assert!(label.starts_with("2f1d7bdf"), "{example}: {label}");
    match platform.retried(&runner.document).as_slice() {
        // These platforms cannot tell exit codes apart.
        [] => assert!(matches!(platform, Platform::Github | Platform::Circleci)),
        retried => assert_eq!(retried, [10, 11, 14], "{example}: never 1, a test that says no is believed"),
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_to_the_shell_alone_cancels_the_run() {
    for (platform, example) in SHELL_EXAMPLES {
        let runner = Runner::new(platform, example).await;
        let gate = runner.up_to_the_gate().await;
        // No agent: the jobs wait for a device.
        let child = runner.start(&gate);
        let runs = async || runner.desk.qgjob(&["run", "list", "-o", "json"]).await.json()["items"].clone();
        eventually("the run is there", async || runs().await.as_array().unwrap().len() == 1).await;
        kill(Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()), Signal::SIGTERM).unwrap();
        let (code, text) = ended(child).await;
        assert_eq!(code, Some(143), "{example}: {text}");
        assert_eq!(runs().await[0]["conclusion"], "cancelled", "{example}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_label_of_the_workflow_is_one_that_the_server_takes() {
    let runner = Runner::new(Platform::Github, "github.yml").await;
    let output = runner.home.path().join("output");
    let mut steps = Platform::Github.steps(&runner.document);
    // The last is the build of qgjob from its repository, which a runner does once.
    let install = steps.pop().unwrap();
    assert!(install.script.starts_with("cargo install --locked --git https://github.com/"), "{install:?}");
    assert_eq!(steps.len(), 2, "the app is built, then named");
    for mut step in steps {
        step.env.insert("GITHUB_OUTPUT".into(), output.display().to_string());
        let (code, text) = ended(runner.start(&step)).await;
        assert_eq!(code, Some(0), "{step:?}: {text}");
    }
    let output = fs::read_to_string(&output).unwrap();
    let label = output.trim_end().strip_prefix("app-version-id=2f1d7bdf8d0c-").unwrap();
    assert_eq!((label.len(), label.lines().count()), (12, 1), "{output}");
    runner.desk.bind_app(label).await;
}

#[test]
fn no_script_of_an_example_has_a_known_trap() {
    let mut scripts = 0;
    let of_github = ["github.yml", "github-forks-build.yml", "github-forks-test.yml"];
    let of_github = of_github.map(|example| (Platform::Github, example));
    for (platform, example) in SHELL_EXAMPLES.into_iter().chain(of_github) {
        let document = checks::parsed(&root().join("examples/ci").join(example));
        let shell = platform.shell()[0];
        for step in platform.steps(&document) {
            scripts += 1;
            assert_eq!(checks::shellcheck(shell, &step.script), Ok(()), "{example}");
        }
    }
    assert!(scripts >= 10, "only {scripts} scripts were found");
}
