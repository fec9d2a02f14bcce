//! Runs the tests of an attempt and tells what happens, as it happens.
//!
//! A runner is an adapter: it gets a [`Plan`], gives a stream of [`Live`] events while the tests run, can be
//! interrupted, and ends with [`Finished`]: exit code, report and files, which is the evidence that
//! `qgjob_core::queue::verdict` judges. It never judges itself. [`AppWright`] is the first.
//!
//! AppWright is Playwright's test runner with a `device` fixture. Its own command line adds nothing but
//! `--config` and tears arguments apart, so Playwright's is called directly.

mod ansi;
mod artifacts;
mod attempt_dir;
mod base64;
mod command;
mod events;
mod projects;
mod report;
mod selection;

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use bytes::Bytes;
use qgjob_core::model::evidence::{Exit, Fault, Report};
use qgjob_core::model::job::Reason;
use qgjob_core::model::name::{EnvName, TestPath};
use qgjob_core::model::rerun::NamedTest;
use qgjob_core::model::shard::Shard;
use qgjob_core::model::test_result::Try;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::process::{self, Ladder, Process};
use super::sdk::Sdk;
use super::shims;

use selection::Selection;

pub use artifacts::{ArtifactFile, Limits as ArtifactLimits};
pub use attempt_dir::AttemptDir;
pub use projects::{PlaywrightProject, Wish};
pub use report::understand;

/// How often the events file is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How long Playwright may take to close its sessions and write its report once interrupted.
const INTERRUPT_GRACE: Duration = Duration::from_secs(10);
/// How long what is left of the runner may take to end by itself.
const TERMINATE_GRACE: Duration = Duration::from_secs(2);
/// How long output is awaited from pipes that something outside the runner's group holds open.
const OUTPUT_GRACE: Duration = Duration::from_secs(2);

/// Why a runner could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Process(#[from] process::Error),
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("the project's configuration cannot be loaded:\n{output}")]
    Configuration { output: String },
    #[error(
        "no project in the configuration is for {wish}: it has {}. Add one with that platform and provider",
        described(found)
    )]
    NoProject { wish: Wish, found: Vec<PlaywrightProject> },
}

fn described(found: &[PlaywrightProject]) -> String {
    let each: Vec<String> = found.iter().map(PlaywrightProject::to_string).collect();
    if each.is_empty() { "none".to_owned() } else { each.join(", ") }
}

impl Error {
    /// This as evidence: the project's fault where another agent would say the same.
    pub fn fault(&self) -> Fault {
        let reason = match self {
            Error::Configuration { .. } | Error::NoProject { .. } => Reason::ProjectInvalid,
            Error::Process(_) | Error::Io { .. } => Reason::AgentFault,
        };
        Fault { reason, detail: self.to_string() }
    }
}

/// The programs of the host that a runner may use, and how it finds them.
#[derive(Debug, Clone, Default)]
pub struct Tools {
    /// The `PATH`, without the shims.
    pub path: String,
    pub env: BTreeMap<String, String>,
}

impl Tools {
    /// This host's programs, and an Android SDK.
    pub fn with_sdk(sdk: &Sdk) -> Tools {
        let host = Tools::host();
        Tools { path: sdk.path(&host.path), env: sdk.env().into_iter().collect() }
    }

    /// This host's programs alone.
    pub fn host() -> Tools {
        Tools { path: process::host_env().remove("PATH").unwrap_or_default(), env: BTreeMap::new() }
    }
}

/// What the project's configuration may ask for: the same whenever it is loaded.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The working copy, absolute and without links in its path.
    pub workspace: PathBuf,
    pub tools: Tools,
    /// The job's own variables. They cannot override the runner's.
    pub env: BTreeMap<EnvName, String>,
    /// The device's serial, as `QGJOB_UDID`.
    pub udid: String,
    /// The app's package or bundle id, as `QGJOB_APP_ID`.
    pub app_id: String,
    /// The app's file, as `QGJOB_APP`.
    pub app: PathBuf,
}

/// All that a runner must know.
#[derive(Debug, Clone)]
pub struct Plan {
    pub setting: Setting,
    pub test: TestPath,
    /// Which of the file's tests; none for all of them.
    pub shard: Option<Shard>,
    /// Of those, the tests that a rerun names; all when it names none.
    pub only: Vec<NamedTest>,
    pub project: PlaywrightProject,
    /// Where AppWright's WebDriver calls go.
    pub gateway_port: u16,
    /// The attempt's time. The caller ends the attempt when it is over; the runner is told a little more.
    pub timeout: Duration,
    pub test_retries: u32,
    pub dir: AttemptDir,
    /// Where records of processes are kept, see [`process::end_leftovers`].
    pub records: Option<PathBuf>,
}

/// What happens while tests run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Live {
    /// The tests are known and start.
    Begin { total: u32 },
    /// The runner or a test printed something.
    Output(Bytes),
    /// A try of a test is over.
    Try(Try),
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    pub exit: Exit,
    pub report: Report,
    /// How many tests the runner said it would run; none when it never said.
    pub selected: Option<u32>,
    /// All tries that were told live, in order.
    pub tries: Vec<Try>,
    /// What is worth keeping, by name.
    pub artifacts: Vec<ArtifactFile>,
    /// How many files were too many or too large to keep.
    pub artifacts_left_out: u32,
}

/// The runner for AppWright projects.
#[derive(Debug)]
pub struct AppWright;

/// Tests that run. Dropping it kills them, and everything that they started.
#[derive(Debug)]
pub struct Running {
    live: mpsc::Receiver<Live>,
    interrupt: CancellationToken,
    task: JoinHandle<io::Result<Finished>>,
}

impl AppWright {
    /// The project in the configuration that fits `wish`. Loading a configuration takes a second or two, so
    /// the answer is kept in the folder `notes`, which must be the bundle's alone.
    ///
    /// # Errors
    /// If the configuration cannot be loaded or has no fitting project.
    pub async fn project(
        setting: &Setting,
        wish: &Wish,
        notes: &std::path::Path,
        dir: &AttemptDir,
    ) -> Result<PlaywrightProject, Error> {
        let found = projects::list(setting, notes, dir).await?;
        projects::choose(&found, wish).cloned().ok_or_else(|| Error::NoProject { wish: wish.clone(), found })
    }

    /// Starts the tests. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If the shims or the list of tests cannot be written or node does not start.
    pub fn start(plan: Plan) -> Result<Running, Error> {
        let shims = shims::Shims::write(&plan.dir.shims())
            .map_err(|source| Error::Io { path: plan.dir.shims(), source })?;
        let selection = Selection::of(&plan);
        let list = plan.dir.test_list();
        selection.write(&list).map_err(|source| Error::Io { path: list, source })?;
        let process = command::test(&plan, &selection, &shims).spawn()?;
        let (say, live) = mpsc::channel(1024);
        let interrupt = CancellationToken::new();
        let task = tokio::spawn(supervise(plan, process, say, interrupt.clone()));
        Ok(Running { live, interrupt, task })
    }
}

impl Running {
    /// The next event; none once the runner is gone. May be cancelled and called again.
    pub async fn next(&mut self) -> Option<Live> {
        self.live.recv().await
    }

    /// Asks the runner to end: to write its report and close its sessions first, but not for long.
    /// Events go on until it has.
    pub fn interrupt(&self) {
        self.interrupt.cancel();
    }

    /// Waits until the runner and all it started are gone.
    ///
    /// # Errors
    /// If its process cannot be waited for.
    pub async fn wait(mut self) -> io::Result<Finished> {
        while self.live.recv().await.is_some() {}
        (&mut self.task).await.map_err(io::Error::other)?
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn supervise(
    plan: Plan,
    mut process: Process,
    say: mpsc::Sender<Live>,
    interrupt: CancellationToken,
) -> io::Result<Finished> {
    let outputs = [
        process.stdout().map(|pipe| tokio::spawn(forward(pipe, say.clone()))),
        process.stderr().map(|pipe| tokio::spawn(forward(pipe, say.clone()))),
    ];
    let mut events = events::Events::new(&plan.dir, plan.project.name.clone(), plan.test.clone());
    let mut look = tokio::time::interval(LOOK);
    let interrupted = loop {
        tokio::select! {
            _ = process.wait() => break false,
            () = interrupt.cancelled() => break true,
            _ = look.tick() => tell(&mut events, &say).await,
        }
    };
    // Whatever the leader left behind goes too: browsers, web servers, a hung worker.
    let ladder = Ladder { interrupt: interrupted.then_some(INTERRUPT_GRACE), terminate: TERMINATE_GRACE };
    let status = process.stop(ladder).await?;
    for output in outputs.into_iter().flatten() {
        let stop = output.abort_handle();
        if tokio::time::timeout(OUTPUT_GRACE, output).await.is_err() {
            stop.abort();
        }
    }
    tell(&mut events, &say).await;
    let (selected, tries) = events.into_parts();
    let kept = tokio::task::spawn_blocking(move || {
        let report = report::read(&plan);
        (report, artifacts::collect(&plan.dir, &ArtifactLimits::default()))
    });
    let (report, (artifacts, artifacts_left_out)) = kept.await.map_err(io::Error::other)?;
    Ok(Finished { exit: exit(status), report, selected, tries, artifacts, artifacts_left_out })
}

/// Passes on what is new. A receiver that went away misses it; the tries are kept for the end anyway.
async fn tell(events: &mut events::Events, say: &mpsc::Sender<Live>) {
    for event in events.news() {
        let _ = say.send(event).await;
    }
}

async fn forward(mut pipe: impl tokio::io::AsyncRead + Unpin, say: mpsc::Sender<Live>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read) = pipe.read(&mut buffer).await
        && read > 0
    {
        let _ = say.send(Live::Output(Bytes::copy_from_slice(&buffer[..read]))).await;
    }
}

fn exit(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, signal) => Exit::Signal(signal.unwrap_or_default()),
    }
}
