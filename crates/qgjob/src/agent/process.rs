//! The only place of the agent that starts processes, and the place that ends all of them.
//!
//! Every process gets its own process group, no stdin, and an environment made of an allow-list of the
//! agent's own plus what the caller adds. Each also carries a **mark** in its environment
//! (`QGJOB_PROCESS`), inherited by everything it starts. Playwright launches browsers and web servers in
//! process groups of their own, so that ending a runner's group leaves them behind; the mark finds them. What a test
//! starts without a mark is found as an orphan ([`adopt_orphans`]).
//!
//! A process that is dropped is killed with its group. An agent that dies by `kill -9` cannot do that, so
//! it keeps a record of each process in a folder, and its successor calls [`end_leftovers`].

mod group;
mod leftovers;
mod orphans;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use group::{Group, mark};
pub use leftovers::end_leftovers;
use leftovers::write_record;
pub use orphans::adopt as adopt_orphans;

/// The environment variable that marks whatever a [`Launch`] started, directly or not.
const MARK: &str = "QGJOB_PROCESS";

/// How long SIGKILL is repeated before giving up on a process that the kernel will not let go.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// Variables of the agent's environment that a child may see: where things are, which language, and how
/// to reach the network. Secrets of the agent are not among them, nor npm settings that hold some.
const INHERITED: &[&str] =
    &["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "XDG_CACHE_HOME"];
const INHERITED_PREFIXES: &[&str] = &["LC_", "NPM_CONFIG_"];
const SECRET: &[&str] = &["AUTH", "PASSWORD", "TOKEN"];
const INHERITED_NETWORK: &[&str] = &[
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// Why a process could not be started, or did not do what it was started for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot start {program}: {source}")]
    Spawn { program: String, source: io::Error },
    #[error("cannot keep the record of {program} in {dir}: {source}")]
    Record { program: String, dir: PathBuf, source: io::Error },
    #[error("{program} did not finish within {} s", after.as_secs())]
    Timeout { program: String, after: Duration },
    #[error("waiting for {program}: {source}")]
    Wait { program: String, source: io::Error },
}

/// The part of the agent's own environment that children see.
pub fn host_env() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| {
            let upper = name.to_ascii_uppercase();
            INHERITED.contains(&name.as_str())
                || INHERITED_NETWORK.contains(&upper.as_str())
                || (INHERITED_PREFIXES.iter().any(|p| upper.starts_with(p))
                    && !SECRET.iter().any(|word| upper.contains(word)))
        })
        .collect()
}

/// Where the output of a process goes.
#[derive(Debug, Clone)]
pub enum Output {
    Null,
    /// To be taken with [`Process::stdout`] and [`Process::stderr`].
    Piped,
    /// Both streams, appended to this file.
    File(PathBuf),
}

/// A process to be started.
#[derive(Debug, Clone)]
pub struct Launch {
    program: PathBuf,
    args: Vec<OsString>,
    dir: Option<PathBuf>,
    env: BTreeMap<String, String>,
    output: Output,
    records: Option<PathBuf>,
    of_project: bool,
}

impl Launch {
    /// A program by path, or by name to be found on `PATH`; output goes nowhere until told otherwise.
    pub fn new(program: impl Into<PathBuf>) -> Launch {
        Launch {
            program: program.into(),
            args: Vec::new(),
            dir: None,
            env: host_env(),
            output: Output::Null,
            records: None,
            of_project: false,
        }
    }

    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Launch {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Launch {
        self.dir = Some(dir.into());
        self
    }

    /// Adds one variable, or replaces the inherited one.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Launch {
        self.env.insert(name.into(), value.into());
        self
    }

    pub fn envs(mut self, vars: impl IntoIterator<Item = (String, String)>) -> Launch {
        self.env.extend(vars);
        self
    }

    pub fn output(mut self, output: Output) -> Launch {
        self.output = output;
        self
    }

    /// Keeps a record of the process in `dir` while it lives, for [`end_leftovers`].
    pub fn recorded_in(mut self, dir: impl Into<PathBuf>) -> Launch {
        self.records = Some(dir.into());
        self
    }

    /// It runs a project's code, which may start anything in any way: orphans are looked for when it has ended.
    pub fn of_project(mut self) -> Launch {
        self.of_project = true;
        self
    }

    fn name(&self) -> String {
        self.program.display().to_string()
    }

    /// Starts it. Must be called within a tokio runtime.
    pub fn spawn(self) -> Result<Process, Error> {
        let name = self.name();
        let failed = |source| Error::Spawn { program: name.clone(), source };
        let mark = mark(self.records.as_deref());
        let mut command = Command::new(&self.program);
        command.args(&self.args).env_clear().envs(&self.env).env(MARK, &mark);
        command.stdin(Stdio::null()).process_group(0).kill_on_drop(true);
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        match &self.output {
            Output::Null => command.stdout(Stdio::null()).stderr(Stdio::null()),
            Output::Piped => command.stdout(Stdio::piped()).stderr(Stdio::piped()),
            Output::File(path) => {
                let file = fs::OpenOptions::new().create(true).append(true).open(path).map_err(failed)?;
                command.stdout(file.try_clone().map_err(failed)?).stderr(file)
            }
        };
        let child = orphans::start(&mark, self.of_project, || command.spawn()).map_err(failed)?;
        let leader = Pid::from_raw(child.id().expect("a child not yet waited for has an id") as i32);
        let group = Group { leader, mark };
        let of_project = self.of_project;
        let mut process = Process { child, name, group, record: None, of_project, ended: false };
        if let Some(dir) = self.records {
            // On failure the process is dropped here, and so killed: nothing may run without a record.
            let record = write_record(&dir, &process.group, &process.name)
                .map_err(|source| Error::Record { program: process.name.clone(), dir, source })?;
            process.record = Some(record);
        }
        Ok(process)
    }

    /// Runs it to its end and returns what it wrote. Past `timeout` it is killed with all it started.
    pub async fn finish(self, timeout: Duration) -> Result<std::process::Output, Error> {
        use tokio::io::AsyncReadExt;
        let mut process = self.output(Output::Piped).spawn()?;
        let name = process.name.clone();
        let mut out = process.stdout().expect("piped");
        let mut err = process.stderr().expect("piped");
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let all = async {
            // The streams are not read to their end: a daemon left behind (the adb server) may hold them open.
            let reading =
                async { tokio::try_join!(out.read_to_end(&mut stdout), err.read_to_end(&mut stderr)) };
            tokio::pin!(reading);
            let status = tokio::select! {
                status = process.wait() => {
                    let _ = tokio::time::timeout(Duration::from_millis(500), &mut reading).await;
                    status
                }
                read = &mut reading => match read {
                    Ok(_) => process.wait().await,
                    Err(e) => Err(e),
                },
            };
            status.map_err(|source| Error::Wait { program: name.clone(), source })
        };
        let status = tokio::time::timeout(timeout, all)
            .await
            .map_err(|_| Error::Timeout { program: name.clone(), after: timeout })??;
        Ok(std::process::Output { status, stdout, stderr })
    }
}

/// How patiently a process is asked to end before it is killed.
#[derive(Debug, Clone, Copy)]
pub struct Ladder {
    /// Send SIGINT to the leader alone first and wait this long. Playwright writes its report and closes
    /// its sessions on that, but not when its workers get the signal too.
    pub interrupt: Option<Duration>,
    /// Then SIGTERM to everything, and wait this long before SIGKILL.
    pub terminate: Duration,
}

/// A running process, its group, and everything else that carries its mark.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    group: Group,
    record: Option<PathBuf>,
    of_project: bool,
    ended: bool,
}

impl Process {
    /// The process id, which is also the id of its group.
    pub fn id(&self) -> u32 {
        self.group.leader.as_raw() as u32
    }

    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    pub fn stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// Waits for the leader to exit. What it started may live on: call [`Process::stop`] afterwards.
    /// May be cancelled and called again.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// The exit status if the leader has exited.
    pub fn exited(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Ends the leader, its group and everything marked, and waits until all are gone.
    /// Returns how the leader ended. Calling it for a leader that has exited ends only what it left.
    pub async fn stop(&mut self, ladder: Ladder) -> io::Result<ExitStatus> {
        if let Some(grace) = ladder.interrupt
            && self.child.try_wait()?.is_none()
        {
            // Not reaped yet, so the id is still this process's.
            let _ = kill(self.group.leader, Signal::SIGINT);
            let _ = tokio::time::timeout(grace, self.child.wait()).await;
        }
        if !self.emptied()? {
            self.group.signal(Signal::SIGTERM);
            let deadline = Instant::now() + ladder.terminate;
            while !self.emptied()? && Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        let deadline = Instant::now() + KILL_PATIENCE;
        while !self.emptied()? && Instant::now() < deadline {
            // Again and again: a process may fork between the look and the signal.
            self.group.signal(Signal::SIGKILL);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let status = self.child.wait().await?;
        self.ended = true;
        self.forget();
        let deadline = Instant::now() + KILL_PATIENCE;
        while self.of_project && orphans::kill_all() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(status)
    }

    fn emptied(&mut self) -> io::Result<bool> {
        Ok(self.child.try_wait()?.is_some() && self.group.members().is_empty())
    }

    fn forget(&mut self) {
        orphans::forget(&self.group.mark);
        if let Some(record) = self.record.take() {
            let _ = fs::remove_file(record);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = killpg(self.group.leader, Signal::SIGKILL);
        }
        for _ in 0..5 {
            if self.group.members().is_empty() {
                break;
            }
            self.group.signal(Signal::SIGKILL);
        }
        self.forget();
        if self.of_project {
            orphans::kill_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::group::Seen;
    use super::*;
    use std::path::Path;

    const QUICK: Ladder = Ladder { interrupt: None, terminate: Duration::from_millis(200) };

    fn shell(script: &str) -> Launch {
        Launch::new("/bin/sh").args(["-c", script])
    }

    fn alive(pid: i32) -> bool {
        Seen::read(Pid::from_raw(pid)).is_some_and(|p| !p.zombie)
    }

    async fn number_in(path: &Path) -> i32 {
        for _ in 0..500 {
            if let Some(n) = fs::read_to_string(path).ok().and_then(|s| s.trim().parse().ok()) {
                return n;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} was not written", path.display())
    }

    #[tokio::test]
    async fn a_grandchild_that_ignores_sigterm_is_ended_with_its_group() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let script = format!(
            "(trap '' TERM; echo $$ >/dev/null; sh -c 'trap \"\" TERM; echo $$ > {0}; while :; do sleep 1; done') & wait",
            file.display()
        );
        let mut process = shell(&script).spawn().unwrap();
        let grandchild = number_in(&file).await;
        assert!(alive(grandchild));
        process.stop(QUICK).await.unwrap();
        assert!(!alive(grandchild));
    }

    #[tokio::test]
    async fn what_left_the_group_is_found_by_its_mark_after_the_leader_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let script = format!("setsid sh -c 'echo $$ > {}; exec sleep 300' & exit 3", file.display());
        let mut process = shell(&script).spawn().unwrap();
        assert_eq!(process.wait().await.unwrap().code(), Some(3));
        let escaped = number_in(&file).await;
        assert!(alive(escaped));
        assert_eq!(process.stop(QUICK).await.unwrap().code(), Some(3));
        assert!(!alive(escaped));
    }

    #[tokio::test]
    async fn interrupt_reaches_the_leader_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (ready, child) = (dir.path().join("ready"), dir.path().join("child"));
        let script = format!(
            "trap 'exit 42' INT; (trap 'echo 1 > {1}; exit' INT; while :; do sleep 0.05; done) & echo 1 > {0}; while :; do sleep 0.05; done",
            ready.display(),
            child.display()
        );
        let mut process = shell(&script).spawn().unwrap();
        number_in(&ready).await;
        let ladder = Ladder { interrupt: Some(Duration::from_secs(5)), terminate: Duration::from_secs(1) };
        assert_eq!(process.stop(ladder).await.unwrap().code(), Some(42));
        assert!(!child.exists());
    }

    #[tokio::test]
    async fn dropping_a_process_kills_its_group() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let process =
            shell(&format!("sh -c 'echo $$ > {}; exec sleep 300' & wait", file.display())).spawn().unwrap();
        let grandchild = number_in(&file).await;
        drop(process);
        for _ in 0..100 {
            if !alive(grandchild) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the grandchild lives");
    }

    #[tokio::test]
    async fn a_child_sees_only_what_it_is_allowed_to_see() {
        let out = Launch::new("env").env("GIVEN", "yes").finish(Duration::from_secs(5)).await.unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        let allowed = host_env();
        for line in text.lines() {
            let name = line.split('=').next().unwrap();
            assert!(name == "GIVEN" || name == MARK || allowed.contains_key(name), "{name} leaked");
        }
        // Cargo sets this one for every test, and it is on no list.
        assert!(std::env::var("CARGO_MANIFEST_DIR").is_ok());
        assert!(!text.contains("CARGO_MANIFEST_DIR"));
        assert!(text.contains("GIVEN=yes"));
    }

    #[tokio::test]
    async fn finish_gives_up_after_its_timeout_and_leaves_nothing() {
        let error = shell("sleep 300").finish(Duration::from_millis(100)).await.unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }));
    }
}
