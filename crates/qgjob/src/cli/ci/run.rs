//! The main step of the action: `qgjob submit` as the inputs say, or the run that this step made before.

use std::path::PathBuf;

use clap::Parser;
use qgjob_core::api::runs::{RunView, RunWithJobs};
use qgjob_core::model::exit::ExitCode;
use qgjob_core::model::job::{self, Status};
use qgjob_core::model::name::{IdempotencyKey, LabelValue, OrgId};

use super::step::{Show, Step};
use super::{input_failure, with_token};
use crate::bundle;
use crate::ci::github::commands::masks;
use crate::ci::github::identity::Identity;
use crate::ci::github::inputs::Inputs;
use crate::cli::failure::{Failure, Result};
use crate::cli::interrupt::{Interrupt, Reaction};
use crate::cli::report::Reports;
use crate::cli::submit::{Submit, org};
use crate::cli::{Cli, Command, Context};
use crate::client::watch::Subject;
use crate::client::{self, Client};
use crate::config::{Environment, Settings};
use crate::output::count;

/// The words of the input `mode`: only the first is a gate.
const MODES: [&str; 2] = ["wait", "async"];
/// The words of the input `artifacts`.
const ARTIFACTS: [&str; 3] = ["on-failure", "always", "never"];
/// The words of the input `rerun`.
const RERUNS: [&str; 2] = ["failed", "all"];
/// So many earlier attempts of the workflow run are looked for: one that was cancelled early may have made no run.
const EARLIER: usize = 10;

pub async fn run(context: &Context) -> Result {
    // A signal from here on is answered by cancelling what there is to cancel.
    let interrupt = Interrupt::listen(context, Reaction::Cancel)?;
    // The runner signals the entry process alone. When that is killed, this one would go on with nobody to tell.
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM).map_err(std::io::Error::from)?;
    let inputs = Inputs::of(&context.env);
    inputs.get("token").into_iter().flat_map(masks).try_for_each(|mask| context.output.line(mask))?;
    let show = || -> Result<Show> {
        Ok(Show { annotations: inputs.is_on("annotations", true)?, summary: inputs.is_on("summary", true)? })
    };
    let (show, bad) = match show() {
        Ok(show) => (show, None),
        Err(bad) => (Show::default(), Some(bad)),
    };
    let step = Step::of_action(context, show);
    step.begin("qgjob submit");
    let result = match bad {
        Some(bad) => Err(bad),
        None => go(context, &inputs, &interrupt, &step).await,
    };
    step.end(result).await
}

/// What the inputs mean.
pub struct Meaning {
    /// Settings, environment and output of the command that they stand for.
    pub context: Context,
    /// The command.
    pub submit: Submit,
    /// Whether a repeated attempt of the workflow run repeats only what did not pass.
    only_failed: bool,
    /// Whether the verdict is waited for.
    waits: bool,
    /// When the jobs' files are downloaded.
    artifacts: &'static str,
    /// Where the JUnit file is wanted.
    junit: Option<PathBuf>,
}

/// Reads the inputs. The folder of the project becomes the current one, since an action cannot be told another.
pub fn meaning(context: &Context, inputs: &Inputs) -> Result<Meaning> {
    let waits = inputs.choice("mode", &MODES)? == "wait";
    let only_failed = inputs.choice("rerun", &RERUNS)? == "failed";
    inputs.choice("log-level", &["warn", "error", "info", "debug"])?;
    let artifacts = inputs.choice("artifacts", &ARTIFACTS)?;
    let junit = inputs.get("junit").map(std::path::absolute).transpose()?;
    let mut flags = inputs.flags();
    if let Some(dir) = inputs.get("project-dir") {
        // The app is built by a step before, seen from the repository.
        for flag in flags.iter_mut().filter(|flag| flag.starts_with("--app=")) {
            let app = std::path::absolute(&flag["--app=".len()..])?;
            *flag = format!("--app={}", app.display());
        }
        std::env::set_current_dir(dir).map_err(|error| {
            Failure::usage(format!("the input project-dir cannot be {dir:?}")).cause(error.to_string())
        })?;
    }
    if waits {
        flags.push("--watch".to_owned());
        flags.extend(inputs.is_on("fail-on-flaky", false)?.then(|| "--fail-on-flaky".to_owned()));
    }
    let line = ["qgjob", "submit"].map(str::to_owned).into_iter().chain(flags);
    let cli = Cli::try_parse_from(line).map_err(|error| input_failure(&error))?;
    let Command::Submit(submit) = cli.command else {
        return Err(Failure::new(ExitCode::Internal, "the inputs made another command than submit"));
    };
    let context = Context {
        global: cli.global,
        env: with_token(context, inputs),
        output: context.output,
        clock: context.clock,
    };
    Ok(Meaning { context, submit: *submit, only_failed, waits, artifacts, junit })
}

async fn go(context: &Context, inputs: &Inputs, interrupt: &Interrupt, step: &Step) -> Result {
    let meaning = meaning(context, inputs)?;
    let identity = Identity::of(&context.env).map_err(|name| {
        Failure::usage(format!("{name} is not set"))
            .hint("`qgjob ci github run` is called by the action, on a runner; elsewhere use `qgjob submit`")
    })?;
    let settings = meaning.context.settings()?;
    let client = meaning.context.client_of(&settings)?;
    let org_id = org(&settings)?;
    let key = |attempt| identity.key(attempt, &client.origin(), &inputs.of_run());
    step.keep("org", org_id.as_str())?;
    step.keep("key", key(identity.attempt).as_str())?;
    if let Some(project) = std::env::current_dir().ok().and_then(|dir| bundle::find_project(&dir)) {
        step.is_in(&project);
    }
    let files = Files::of(&meaning, &key(identity.attempt));
    if meaning.waits {
        Reports::of_pipeline(files.junit.clone(), None).prepare(1)?;
    }
    let made = async {
        let own = key(identity.attempt);
        let submit = labelled(meaning.submit.clone().with_key(own.clone()), &context.env);
        let (context, settings, client, org_id) = (&meaning.context, &settings, &client, &org_id);
        let desk = Desk { context, settings, client, org_id, submit: &submit };
        if let Some(run) = client.run_by_key(org_id, &own).await? {
            return desk.resume(&run, interrupt, step).await;
        }
        if meaning.only_failed {
            let earlier = (1..identity.attempt).rev().take(EARLIER).map(key);
            if let Some(made) = desk.rerun(earlier, &own, interrupt).await? {
                return desk.follow(&made, step).await;
            }
        }
        submit.submit(context, settings, client, interrupt, Some(step)).await
    };
    let work = async {
        let verdict = made.await?;
        match step.run().filter(|_| meaning.waits) {
            Some(run) => files.write(&meaning, &client, &run, verdict, step).await,
            None => Ok(verdict),
        }
    };
    let result = interrupt.run(&client, work).await;
    if leaves_nothing(&result, interrupt) {
        step.keep("left", "true")?;
    }
    result.map_err(as_inputs)
}

/// Whether there is nothing for the post step to cancel: the run is over, or nobody waits for its end, or there is none that
/// is this step's. Not so when a signal came, or the server did not say whether this step had made one before.
fn leaves_nothing(result: &Result, interrupt: &Interrupt) -> bool {
    match result {
        Ok(code) => !matches!(code, ExitCode::Interrupted | ExitCode::Terminated),
        Err(failure) => {
            let unsure = [ExitCode::Interrupted, ExitCode::Terminated, ExitCode::Unreachable];
            interrupt.knows_nothing() && !unsure.contains(&failure.exit)
        }
    }
}

/// Where what later steps keep is put.
struct Files {
    junit: PathBuf,
    artifacts: PathBuf,
}

impl Files {
    fn of(meaning: &Meaning, key: &IdempotencyKey) -> Self {
        let temp = meaning.context.env.get("RUNNER_TEMP").map_or_else(std::env::temp_dir, PathBuf::from);
        let dir = temp.join(format!("qgjob-{}", &key.as_str()[..23]));
        let junit = meaning.junit.clone().unwrap_or_else(|| dir.join("junit.xml"));
        Self { junit, artifacts: dir.join("artifacts") }
    }

    /// Writes them, and answers the verdict; a good one is none when what was promised to later steps is missing.
    async fn write(
        &self,
        meaning: &Meaning,
        client: &Client,
        run: &Subject,
        verdict: ExitCode,
        step: &Step,
    ) -> Result {
        let wanted = match meaning.artifacts {
            "always" => true,
            "on-failure" => verdict != ExitCode::Ok,
            _ => false,
        };
        let reports = Reports::of_pipeline(self.junit.clone(), wanted.then(|| self.artifacts.clone()));
        let result = reports.conclude(&meaning.context, client, run, verdict).await;
        for (name, path) in [("junit-path", &self.junit), ("artifacts-path", &self.artifacts)] {
            if path.exists() {
                step.set_output(name, &path.display().to_string())?;
            }
        }
        result
    }
}

/// Runs that were made before.
struct Desk<'a> {
    context: &'a Context,
    settings: &'a Settings,
    client: &'a Client,
    org_id: &'a OrgId,
    submit: &'a Submit,
}

/// A run that this step made.
struct Made {
    run: Subject,
    job: Option<job::Id>,
    status: Status,
}

impl Desk<'_> {
    /// Goes on with the run that this very step made before its runner was started again.
    async fn resume(&self, run: &RunView, interrupt: &Interrupt, step: &Step) -> Result {
        let id = run.run.id.to_string();
        let found = self.client.run(&id).await?;
        // The key tells names apart, not bytes: a verdict on others would be none on what is here.
        if !self.is_about_the_same(&found).await? {
            return Err(Failure::new(
                ExitCode::Conflict,
                format!("{id} was made by this step, but of another project or app version"),
            )
            .cause("its files are not those that are here now, and its verdict is not theirs")
            .hint("two calls of one reusable workflow are one step to GitHub: give each an input `name` of its own")
            .hint("what builds write into the project can be left out by .qgjobignore")
            .hint(format!("if nobody waits for it: qgjob cancel {id}")));
        }
        self.context.output.done(format!("This step made {id} before; going on with it"));
        let job = if let [only] = &found.job_list[..] { Some(only.job.id) } else { None };
        let made = Made { run: Subject::Run(id), job, status: run.run.status };
        interrupt.watches(std::slice::from_ref(&made.run));
        self.follow(&made, step).await
    }

    /// Repeats what did not pass in the latest of the earlier attempts that made a run; none when there is no such run, or
    /// nothing of it can be repeated.
    async fn rerun(
        &self,
        earlier: impl Iterator<Item = IdempotencyKey>,
        own: &IdempotencyKey,
        interrupt: &Interrupt,
    ) -> Result<Option<Made>> {
        for key in earlier {
            let Some(before) = self.client.run_by_key(self.org_id, &key).await? else { continue };
            let id = before.run.id.to_string();
            if before.run.status != Status::Completed {
                // GitHub starts an attempt when the one before is over: nobody waits for this run any more.
                self.client.cancel_run(&id).await?;
            }
            let found = self.client.run(&id).await?;
            if !self.is_about_the_same(&found).await? {
                self.context.output.note(format!("Submitting all of it: {id} was about another project"));
                return Ok(None);
            }
            let call = self.client.rerun_failed(&id, own);
            let again = match interrupt.make(self.org_id, own, call).await {
                Ok(again) => again,
                Err(client::Error::Refused(problem)) if (400..500).contains(&problem.status) => {
                    self.context.output.note(format!("Submitting all of it: {}", problem.detail));
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            };
            let jobs = count(again.jobs.len() as u64, "job");
            self.context
                .output
                .done(format!("Repeating {jobs} of {id} that did not pass as {}", again.run_id));
            let run = Subject::Run(again.run_id.to_string());
            return Ok(Some(Made { run, job: again.job_id, status: again.status }));
        }
        Ok(None)
    }

    /// Whether the run is about what this step would submit, the bytes of its app among it.
    async fn is_about_the_same(&self, run: &RunWithJobs) -> Result<bool> {
        self.submit.is_content_of(self.context, self.settings, self.client, self.org_id, run).await
    }

    async fn follow(&self, made: &Made, step: &Step) -> Result {
        step.made(self.client, &made.run, made.job, made.status)?;
        self.submit.follow(self.context, self.client, made.run.clone(), Some(step)).await
    }
}

/// Labels tell where the run comes from.
fn labelled(submit: Submit, env: &Environment) -> Submit {
    let of_workflow = [
        ("github.repository", "GITHUB_REPOSITORY"),
        ("github.run_id", "GITHUB_RUN_ID"),
        ("github.ref", "GITHUB_REF_NAME"),
        ("github.sha", "GITHUB_SHA"),
    ];
    let known = of_workflow.iter().filter_map(|(key, name)| Some((key, env.get(name)?)));
    // A name of a branch may be none of a label.
    let known = known.filter(|(_, value)| value.parse::<LabelValue>().is_ok());
    known.fold(submit, |submit, (key, value)| submit.with_label(key, value))
}

/// Hints speak of flags.
fn as_inputs(failure: Failure) -> Failure {
    if failure.exit == ExitCode::Usage && failure.hints.iter().any(|hint| hint.contains("--")) {
        return failure.hint("in a workflow, a flag is the input of its name: org-id for --org-id");
    }
    failure
}
