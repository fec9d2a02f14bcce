//! A step of a workflow of GitHub Actions: what it prints is grouped and guarded, and at its end the workflow is told
//! what came of it, by annotations, outputs and the job summary.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use qgjob_core::clock::{Clock, SystemClock};
use qgjob_core::model::exit::ExitCode;
use qgjob_core::model::job::{self, Conclusion, Status};

use crate::ci::github::annotations::{found, in_repository, ranked};
use crate::ci::github::commands::{Annotation, END_GROUP, Guard, Level, assignment, group};
use crate::ci::github::results::results;
use crate::ci::github::summary;
use crate::cli::Context;
use crate::cli::failure::{Failure, Result};
use crate::client::Client;
use crate::client::watch::Subject;
use crate::config::Environment;
use crate::output::{Format, Output};
use crate::report::{Report, SUMMARY_BUDGET, markdown};

/// Outputs are passed on in variables and expressions, which have limits of their own.
const MOST_RESULTS_BYTES: usize = 512_000;
/// How long reading the report may take.
const REPORT_WITHIN: Duration = Duration::from_secs(300);
/// The same after a signal: the runner kills 10 s after the first, and the cancel may have taken half of that.
const REPORT_WITHIN_AFTER_SIGNAL: Duration = Duration::from_millis(1_500);

/// What the workflow is to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Show {
    /// Failed tests at their lines.
    pub annotations: bool,
    /// The job summary.
    pub summary: bool,
}

impl Default for Show {
    fn default() -> Self {
        Self { annotations: true, summary: true }
    }
}

/// The step that this process is.
pub struct Step {
    env: Environment,
    output: Output,
    clock: SystemClock,
    show: Show,
    /// Whether lines are for people, and commands may stand between them.
    speaks: bool,
    /// The checked out repository.
    repository: Option<PathBuf>,
    output_file: Option<PathBuf>,
    state_file: Option<PathBuf>,
    summary_file: Option<PathBuf>,
    /// Where all results can be read.
    link: String,
    now: Mutex<Now>,
}

#[derive(Default)]
struct Now {
    guard: Option<Guard>,
    project: Option<PathBuf>,
    /// The run that is this step's own.
    made: Option<(Client, Subject)>,
    /// Whether its verdict is waited for.
    waits: bool,
}

/// Whether this is a step of a workflow of GitHub Actions.
pub fn in_github_actions(env: &Environment) -> bool {
    env.get("GITHUB_ACTIONS") == Some("true")
}

/// Leads messages to where the output goes. The runner reads stdout and stderr at the same time: only within one of them has
/// a guard a beginning and an end. Should it fail, messages are where they always are.
pub fn one_stream() {
    _ = nix::unistd::dup2_stderr(std::io::stdout());
}

impl Step {
    /// The step of the action: it has outputs.
    pub fn of_action(context: &Context, show: Show) -> Self {
        let file = |name| context.env.get(name).map(PathBuf::from);
        let mut step = Self::new(context, show);
        (step.output_file, step.state_file) = (file("GITHUB_OUTPUT"), file("GITHUB_STATE"));
        step
    }

    /// A step that runs a command of qgjob which waits; none where there is no workflow.
    pub fn of_command(context: &Context) -> Option<Self> {
        in_github_actions(&context.env).then(|| Self::new(context, Show::default()))
    }

    fn new(context: &Context, show: Show) -> Self {
        let env = &context.env;
        let text = |name| env.get(name).unwrap_or_default();
        let link = format!(
            "{}/{}/actions/runs/{}",
            text("GITHUB_SERVER_URL"),
            text("GITHUB_REPOSITORY"),
            text("GITHUB_RUN_ID")
        );
        let speaks = context.output.format == Format::Text;
        if speaks {
            one_stream();
        }
        Self {
            env: env.clone(),
            output: context.output,
            clock: context.clock,
            show,
            speaks,
            repository: env.get("GITHUB_WORKSPACE").and_then(|path| std::fs::canonicalize(path).ok()),
            output_file: None,
            state_file: None,
            summary_file: env.get("GITHUB_STEP_SUMMARY").map(PathBuf::from),
            link,
            now: Mutex::default(),
        }
    }

    /// Begins a group of lines, in which nothing is a command, and ends the one before.
    pub fn begin(&self, title: &str) {
        self.pause();
        self.say(&group(title));
        self.guard();
    }

    /// Ends the group; what follows is shown unfolded, and nothing in it is a command.
    pub fn unfold(&self) {
        self.pause();
        self.guard();
    }

    fn guard(&self) {
        let guard = Guard::new(self.clock.random());
        self.say(&guard.close());
        self.now().guard = Some(guard);
    }

    /// From here on commands are obeyed.
    fn pause(&self) {
        let guard = self.now().guard.take();
        if let Some(guard) = guard {
            self.say(&guard.open());
            self.say(END_GROUP);
        }
    }

    /// Prints a command as it is. Nobody is left to be told when stdout is gone.
    fn say(&self, line: &str) {
        if self.speaks {
            _ = self.output.line(line);
        }
    }

    /// The folder of the test project.
    pub fn is_in(&self, project: &Path) {
        self.now().project = std::fs::canonicalize(project).ok();
    }

    /// The verdict of the run is waited for: what is printed from here on is folded.
    pub fn waits_for(&self, run: &Subject) {
        self.now().waits = true;
        self.begin(&format!("qgjob: what happens in {}", run.id()));
    }

    /// The run exists. Outputs tell of it at once: a step that is killed later has said which run was its own.
    pub fn made(&self, client: &Client, run: &Subject, job: Option<job::Id>, status: Status) -> Result<()> {
        self.set_output("run-id", run.id())?;
        if let Some(job) = job {
            self.set_output("job-id", &job.to_string())?;
        }
        self.set_output("url", &client.run_url(run.id()))?;
        self.set_output("status", status.as_str())?;
        self.now().made = Some((client.clone(), run.clone()));
        Ok(())
    }

    /// The run that is this step's own, once it exists.
    pub fn run(&self) -> Option<Subject> {
        self.now().made.as_ref().map(|(_, run)| run.clone())
    }

    /// Sets an output of the action.
    pub fn set_output(&self, name: &str, value: &str) -> Result<()> {
        self.assign(self.output_file.as_deref(), name, value)
    }

    /// Keeps something for the post step.
    pub fn keep(&self, name: &str, value: &str) -> Result<()> {
        self.assign(self.state_file.as_deref(), name, value)
    }

    fn assign(&self, file: Option<&Path>, name: &str, value: &str) -> Result<()> {
        match file {
            Some(file) => append(file, &assignment(name, value, self.clock.random())),
            None => Ok(()),
        }
    }

    /// Tells the workflow how `result` came about, and what it is. The exit code of a verdict stays; one that could not be
    /// told is no success.
    pub async fn end(self, result: Result) -> Result {
        let (mut code, mut failure) = match result {
            Ok(code) => (code, None),
            Err(failure) => (failure.exit, Some(failure.seen_from(&self.env))),
        };
        let report = match self.report(code).await {
            Ok(report) => report,
            Err(error) if code == ExitCode::Ok => {
                code = error.exit;
                failure = Some(error);
                None
            }
            Err(_) => None,
        };
        if let Some(failure) = &failure {
            failure.print(&self.output);
        }
        self.pause();
        if self.speaks {
            let annotations = self.annotations(code, failure.as_ref(), report.as_ref());
            for annotation in ranked(annotations, &format!("see the job summary at {}", self.link)) {
                self.say(&annotation.command());
            }
        }
        let told = self.tell(failure.as_ref(), report.as_ref());
        match told {
            Err(error) if code == ExitCode::Ok => Err(error),
            _ => Ok(code),
        }
    }

    /// What the run came to; none where no verdict was waited for, or none can be had.
    async fn report(&self, code: ExitCode) -> Result<Option<Report>> {
        let made = self.now().made.clone();
        let Some((client, run)) = made.filter(|_| self.now().waits && code != ExitCode::Unreachable) else {
            return Ok(None);
        };
        let within = if is_signal(code) { REPORT_WITHIN_AFTER_SIGNAL } else { REPORT_WITHIN };
        let load = Report::load(&client, &run, self.clock.now());
        match tokio::time::timeout(within, load).await {
            Ok(report) => Ok(Some(report?)),
            Err(_) => Err(Failure::new(ExitCode::Unreachable, "the report could not be read in time")),
        }
    }

    fn annotations(
        &self,
        code: ExitCode,
        failure: Option<&Failure>,
        report: Option<&Report>,
    ) -> Vec<Annotation> {
        let project = self.now().project.clone();
        let place = |file: &str| in_repository(self.repository.as_deref()?, project.as_deref()?, file);
        let mut all = match report {
            // Who cancels a workflow needs not be told of each job that it was.
            Some(report) if self.show.annotations && !is_signal(code) => found(report, place),
            _ => Vec::new(),
        };
        let general = |title: String, message: String| Annotation {
            level: Level::Error,
            file: None,
            line: None,
            title,
            message,
        };
        if let Some(failure) = failure {
            let lines = failure.causes.iter().chain(&failure.hints).cloned().collect::<Vec<_>>();
            all.push(general(format!("qgjob: {}", failure.what), lines.join("\n")));
        }
        let silent = !all.iter().any(|one| one.level == Level::Error);
        if silent && code != ExitCode::Ok && !is_signal(code) {
            let (name, meaning, advice) = code.explain();
            all.push(general(
                format!("qgjob: {name}"),
                format!("{meaning} (exit code {}); {advice}", u8::from(code)),
            ));
        }
        all
    }

    fn tell(&self, failure: Option<&Failure>, report: Option<&Report>) -> Result<()> {
        if let Some(report) = report {
            self.set_outputs(report)?;
        }
        let Some(file) = self.summary_file.as_deref().filter(|_| self.show.summary) else { return Ok(()) };
        // Earlier commands of the step share the file and its limit.
        let taken =
            std::fs::metadata(file).map_or(0, |file| usize::try_from(file.len()).unwrap_or(usize::MAX));
        let budget = SUMMARY_BUDGET.saturating_sub(taken);
        let mut text = report.map(|report| markdown(report, budget)).unwrap_or_default();
        if let Some(failure) = failure {
            text = summary::of_failure(&failure.what, &failure.causes, &failure.hints) + &text;
        }
        if text.is_empty() || taken + text.len() > SUMMARY_BUDGET {
            return Ok(());
        }
        append(file, &format!("{text}\n"))
    }

    fn set_outputs(&self, report: &Report) -> Result<()> {
        let (totals, installs) = (report.totals, report.run.installs);
        for (name, number) in [
            ("passed", totals.passed),
            ("failed", totals.failed),
            ("flaky", totals.flaky),
            ("skipped", totals.skipped),
            ("total", totals.total),
            ("installs", installs.made),
            ("installs-avoided", installs.avoided),
        ] {
            self.set_output(name, &number.to_string())?;
        }
        self.set_output("status", report.status().as_str())?;
        self.set_output("conclusion", report.conclusion().map_or("", Conclusion::as_str))?;
        self.set_output("results", &results(report, MOST_RESULTS_BYTES))
    }

    fn now(&self) -> std::sync::MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Step {
    /// Later commands of the step, in its script, are obeyed whatever happened to this one.
    fn drop(&mut self) {
        self.pause();
    }
}

fn is_signal(code: ExitCode) -> bool {
    matches!(code, ExitCode::Interrupted | ExitCode::Terminated)
}

fn append(path: &Path, text: &str) -> Result<()> {
    let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| Failure::new(ExitCode::Infra, format!("cannot write {}: {error}", path.display())))
}
