//! `qgjob submit`.

mod app;
mod content;
mod options;
mod plan;

use std::path::{Path, PathBuf};
use std::time::Duration;

use qgjob_core::api::problem::Code;
use qgjob_core::api::runs::{NewRun, Submitted};
use qgjob_core::api::uploads::Kind;
use qgjob_core::model::exit::ExitCode;
use qgjob_core::model::job::Reset;
use qgjob_core::model::name::{AppVersionId, ConcurrencyGroup, IdempotencyKey, OrgId, TestPath};
use qgjob_core::model::priority::Priority;
use qgjob_core::model::selector::{Platform, Selector, Target};
use qgjob_core::model::shard::{self, Shards};

use super::ci::step::Step;
use super::failure::{Failure, Result};
use super::interrupt::Interrupt;
use super::watch::{Patience, Wish, watch_then};
use super::{Context, value};
use crate::bundle::{self, Bundle, SelectError};
use crate::client::watch::Subject;
use crate::client::{self, Client, Upload};
use crate::config::{Settings, project};
use crate::output::{Format, GOOD, count, size};

pub use app::{read_build, upload_build};
use plan::Plan;

/// Queue tests for an app version
///
/// Each test file becomes one job, or several with --shards; all of them are one run. The project around the tests is sent along, once per
/// content. What flags do not say, the project's qgjob.toml can.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  \
    qgjob submit --org-id=qualgent --app-version-id=xyz123 --test=tests/onboarding.spec.js\n  \
    qgjob submit --app-version-id=xyz124 --app=app.apk --test='tests/**/*.spec.ts' --priority=high --watch\n  \
    JOB=$(qgjob submit --app-version-id=xyz123 --test=tests/login.spec.js -o name)")]
pub struct Submit {
    /// Label of the build under test; the jobs wait until it has a build
    #[arg(long, value_name = "LABEL")]
    app_version_id: Option<AppVersionId>,
    /// Test file, folder or glob; may be repeated
    #[arg(short, long, value_name = "PATH")]
    test: Vec<String>,
    /// App to upload and bind to the label, unless it is there already
    #[arg(long, value_name = "FILE")]
    app: Option<PathBuf>,
    /// Only devices of this platform: android or ios
    #[arg(long)]
    platform: Option<Platform>,
    /// Kind of device: any, emulator, device, simulator or browserstack
    #[arg(long)]
    target: Option<Target>,
    /// What the device must be like: 'model=Pixel 7,os>=14,tag=ci'
    #[arg(long, value_name = "QUERY")]
    device: Option<Selector>,
    /// 1 to 10, 10 most urgent; or low (3), normal (5), high (8), urgent (10) [default: normal]
    #[arg(short, long)]
    priority: Option<Priority>,
    /// Of the org's jobs that name the same, run only one at a time, or as many as `qgjob org concurrency set` says
    #[arg(long, value_name = "NAME")]
    concurrency_group: Option<ConcurrencyGroup>,
    /// Split the tests of long files into several jobs, by the times of their latest run: auto, or at most so many for each
    /// file. `auto` splits where the run ends sooner for it. A file without recorded tests stays whole, and so does a serial
    /// suite
    #[arg(long, value_name = "N|auto")]
    shards: Option<Shards>,
    /// How long one attempt on a device may take [default: 30m]
    #[arg(long, value_name = "SPAN", value_parser = value::span)]
    timeout: Option<Duration>,
    /// How long a job may wait for its first device [default: 2h]
    #[arg(long, value_name = "SPAN", value_parser = value::span)]
    queue_timeout: Option<Duration>,
    /// Start no job before: 2026-11-22T22:00:00Z, or +2h from now
    #[arg(long, value_name = "WHEN", value_parser = value::when)]
    not_before: Option<value::When>,
    /// Repeats on another device after a fault of the infrastructure [default: 2]
    #[arg(long, value_name = "N")]
    retries: Option<u32>,
    /// Repeats of a failed test by the runner [default: 0]
    #[arg(long, value_name = "N")]
    test_retries: Option<u32>,
    /// Variable for the tests; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = value::pair)]
    env: Vec<(String, String)>,
    /// Label of the run, for lists and filters; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = value::pair)]
    label: Vec<(String, String)>,
    /// Name of the run, for people
    #[arg(long)]
    name: Option<String>,
    /// What happens to the app's data before each test: clear-data, none or reinstall [default: clear-data]
    #[arg(long)]
    reset: Option<Reset>,
    /// Makes repeated submits one run [default: random]
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<IdempotencyKey>,
    /// Folder of the test project [default: the nearest one upwards with a package.json]
    #[arg(long, value_name = "DIR")]
    project_dir: Option<PathBuf>,
    /// Tell what happens until the end; the exit code is the verdict
    #[arg(short, long)]
    watch: bool,
    /// Wait in silence until the end; the exit code is the verdict
    #[arg(long, conflicts_with = "watch")]
    wait: bool,
    /// Show what would be sent, and send nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// In GitHub Actions, print as everywhere else: without groups, annotations and job summary
    #[arg(long)]
    no_ci: bool,
    #[command(flatten)]
    patience: Patience,
}

impl Submit {
    pub async fn run(self, context: &Context) -> Result {
        let waits = self.waits() && !self.dry_run;
        let step = if waits && !self.no_ci { Step::of_command(context) } else { None };
        let Some(step) = step else { return self.start(context, None).await };
        step.begin("qgjob submit");
        let result = self.start(context, Some(&step)).await;
        step.end(result).await
    }

    async fn start(self, context: &Context, step: Option<&Step>) -> Result {
        let settings = context.settings_in(self.project_dir.as_deref())?;
        let client = context.client_of(&settings)?;
        let interrupt = Interrupt::listen(context, self.patience.on_interrupt.of_maker(&context.env))?;
        interrupt.run(&client, self.submit(context, &settings, &client, &interrupt, step)).await
    }

    /// The same under this key.
    pub fn with_key(mut self, key: IdempotencyKey) -> Self {
        self.idempotency_key = Some(key);
        self
    }

    /// The same with this label more, unless it has one of the key.
    pub fn with_label(mut self, key: &str, value: &str) -> Self {
        if !self.label.iter().any(|(other, _)| other == key) {
            self.label.push((key.to_owned(), value.to_owned()));
        }
        self
    }

    /// Reports are written at the end.
    fn waits(&self) -> bool {
        self.watch || self.wait || self.patience.reports.any()
    }

    /// Makes the run and, where that was asked for, waits for its end.
    pub async fn submit(
        &self,
        context: &Context,
        settings: &Settings,
        client: &Client,
        interrupt: &Interrupt,
        step: Option<&Step>,
    ) -> Result {
        if !self.dry_run {
            self.patience.reports.prepare(1)?;
        }
        let of_project =
            settings.project.as_ref().map(|project| project.file.submit.clone()).unwrap_or_default();
        let org_id = org(settings)?;
        let app_version_id = self.app_version(&of_project)?;
        let options = self.options(&of_project, &context.clock)?;
        let labels = self.labels(&of_project)?;
        let build = match self.app_path(settings, &of_project) {
            Some(path) => Some((read_build(&path).await?, path)),
            None => None,
        };

        let (bundle, tests) = match self.tests(settings, &of_project).await? {
            Some(selected) => selected,
            None => return self.no_tests(context),
        };
        if let Some(step) = step {
            step.is_in(bundle.root());
        }
        // Said before megabytes flow, and by a dry run too.
        self.check(&tests, &labels, &options, &context.clock)?;
        if self.dry_run {
            let build = build.as_ref().map(|(build, path)| (build, path.as_path()));
            let (org_id, app_version_id) = (&org_id, &app_version_id);
            let (bundle, tests, options) = (&bundle, &tests[..], &options);
            let plan = Plan { org_id, app_version_id, build, bundle, tests, options };
            return plan.show(context, settings).await;
        }
        let (packed, files) = blocking(move || bundle.pack().map(|packed| (packed, bundle.files().len())))
            .await?
            .map_err(bundle_failure)?;
        // The label is checked before megabytes flow.
        if let Some((build, path)) = &build {
            upload_build(context, client, &org_id, &app_version_id, build, path).await?;
        }
        let upload = Upload {
            org_id: &org_id,
            kind: Kind::Bundle,
            file: packed.file,
            name: "the project bundle",
            size_bytes: packed.size_bytes,
            sha256: packed.sha256,
        };
        let sent = client.upload(upload, |_| {}).await.map_err(upload_failure)?;
        let how = if sent { "uploaded" } else { "unchanged, reused" };
        let files = count(files as u64, "file");
        context.output.done(format!("Project bundle {} ({files}, {how})", size(packed.size_bytes)));

        let new = NewRun {
            org_id: org_id.clone(),
            app_version_id,
            bundle_sha256: packed.sha256,
            tests,
            name: self.name.clone(),
            labels,
            options,
        };
        let key = self.idempotency_key.clone().unwrap_or_else(|| value::random_key(&context.clock));
        let submitted = interrupt.make(&org_id, &key, client.submit(&new, &key)).await.map_err(|error| {
            let unsure = error.is_passing();
            let failure = Failure::from(error);
            if !unsure {
                return failure;
            }
            failure.hint(format!("the run may exist all the same: repeat the command with --idempotency-key={key} and it is made only once"))
        })?;
        self.announce(context, client, &new, &submitted, step).await
    }

    async fn announce(
        &self,
        context: &Context,
        client: &Client,
        new: &NewRun,
        submitted: &Submitted,
        step: Option<&Step>,
    ) -> Result {
        let made = Subject::Run(submitted.run_id.to_string());
        if let Some(step) = step {
            step.made(client, &made, submitted.job_id, submitted.status)?;
        }
        let output = &context.output;
        let waits = self.waits();
        if !(waits && output.format != Format::Text && output.format != Format::Jsonl) {
            let name = submitted.job_id.map_or(submitted.run_id.to_string(), |id| id.to_string());
            output.object(submitted, &name, || text(context, new, submitted, waits))?;
        }
        if submitted.app_sha256.is_none() {
            output.warn(format!(
                "app version {0} has no build yet: the jobs wait until `qgjob app upload --app-version-id={0} <file>`",
                submitted.app_version_id
            ));
        }
        self.follow(context, client, made, step).await
    }

    /// Waits for the end of a run, where that was asked for; the exit code is its verdict.
    pub async fn follow(
        &self,
        context: &Context,
        client: &Client,
        run: Subject,
        step: Option<&Step>,
    ) -> Result {
        if !self.waits() {
            return Ok(ExitCode::Ok);
        }
        let wish = Wish { tell: self.watch, just_created: true, patience: self.patience.clone() };
        if let Some(step) = step {
            step.waits_for(&run);
        }
        watch_then(context, client, vec![run], &wish, || step.into_iter().for_each(Step::unfold)).await
    }

    /// Which tests, with the bundle they are in; none when the selection is empty.
    async fn tests(
        &self,
        settings: &Settings,
        of_project: &project::Submit,
    ) -> Result<Option<(Bundle, Vec<TestPath>)>> {
        let here = std::env::current_dir()
            .map_err(|error| Failure::usage(format!("the current folder is gone: {error}")))?;
        let (cwd, values) = match &settings.project {
            Some(project) if self.test.is_empty() => (project.dir.clone(), of_project.tests.clone()),
            _ => (here.clone(), self.test.clone()),
        };
        if values.is_empty() {
            return Err(Failure::usage("no test is named")
                .hint("add --test=<file, folder or glob>, such as --test=tests, or `tests` under [submit] in qgjob.toml"));
        }
        let dir = match &self.project_dir {
            Some(dir) => dir.clone(),
            None => bundle::find_project(&cwd).ok_or_else(|| {
                Failure::in_no_project(&cwd).hint("run this in the project, or name it with --project-dir")
            })?,
        };
        let bundle = blocking(move || bundle::collect(&dir)).await?.map_err(bundle_failure)?;
        match bundle.select(&cwd, &values) {
            Ok(tests) if tests.is_empty() => Ok(None),
            Ok(tests) => Ok(Some((bundle, tests))),
            Err(error @ (SelectError::EmptyFolder { .. } | SelectError::NoMatch { .. })) => {
                if self.patience.allow_no_tests {
                    return Ok(None);
                }
                Err(Failure::new(ExitCode::NoTests, error.to_string())
                    .hint("--allow-no-tests makes this no error"))
            }
            Err(error) => Err(select_failure(error, &bundle)),
        }
    }

    fn no_tests(&self, context: &Context) -> Result {
        if self.patience.allow_no_tests {
            context.output.note("No test is selected; nothing was submitted.");
            return Ok(ExitCode::Ok);
        }
        Err(Failure::new(ExitCode::NoTests, "the selection holds no test")
            .hint("--allow-no-tests makes this no error"))
    }
}

/// The org that everything is for.
pub fn org(settings: &Settings) -> Result<OrgId> {
    match &settings.org_id {
        Some(org) => Ok(org.parse()?),
        None => Err(Failure::usage("no org is named").hint(
            "add --org-id=<org>, or set QGJOB_ORG_ID, or org_id in qgjob.toml or in a profile of config.toml",
        )),
    }
}

/// What a selection that means no test is answered with.
pub fn select_failure(error: SelectError, bundle: &Bundle) -> Failure {
    match error {
        SelectError::Unknown { value, nearest } => {
            let failure = Failure::usage(format!("there is no test file {value:?}"))
                .cause(format!("looked in the project {}", bundle.root().display()));
            match nearest.as_slice() {
                [] => failure.hint("the project has no test files: they are named *.spec.* or *.test.*"),
                some => failure.hint(format!("did you mean {}?", some.join(", "))),
            }
        }
        other => Failure::usage(other.to_string()),
    }
}

fn bundle_failure(error: bundle::Error) -> Failure {
    Failure::usage("the project cannot be sent").cause(error.to_string())
}

fn upload_failure(error: client::Error) -> Failure {
    let too_large = matches!(&error, client::Error::Refused(problem) if problem.code == Code::TooLarge);
    let failure = Failure::from(error);
    if too_large {
        return failure.hint("exclude what the tests do not need in .qgjobignore");
    }
    failure
}

/// Runs what blocks on files or takes long beside the other tasks.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Failure::new(ExitCode::Internal, format!("a part of the work broke off: {error}")))
}

/// More jobs than this are only counted.
const LIST_JOBS: usize = 20;

fn text(context: &Context, new: &NewRun, submitted: &Submitted, waits: bool) -> String {
    let mark = context.output.paint(GOOD, "✓");
    let verb = match (submitted.deduplicated, submitted.status) {
        (true, _) => "Was submitted before as",
        (false, qgjob_core::model::job::Status::Scheduled) => "Scheduled",
        (false, _) => "Queued",
    };
    let mut text = match submitted.job_id {
        Some(job) => format!("{mark} {verb} {job}\n"),
        None => {
            format!("{mark} {verb} {} ({})\n", submitted.run_id, count(submitted.jobs.len() as u64, "job"))
        }
    };
    let sha256 =
        submitted.app_sha256.map(|sha256| format!(" · sha256 {}…", sha256.short())).unwrap_or_default();
    let selector = &new.options.selector;
    let device = if selector.is_empty() { String::new() } else { format!(" ({selector})") };
    text.push_str(&format!(
        "  app {}{sha256}    target {}{device}    priority {}\n",
        submitted.app_version_id, new.options.target, new.options.priority
    ));
    if submitted.job_id.is_none() && !waits {
        for job in submitted.jobs.iter().take(LIST_JOBS) {
            let test = shard::named(&job.test, job.shard.as_ref());
            text.push_str(&format!("  {}  {test}\n", job.job_id));
        }
        if submitted.jobs.len() > LIST_JOBS {
            text.push_str(&format!("  … and {} more\n", submitted.jobs.len() - LIST_JOBS));
        }
    }
    if !waits {
        let subject = match submitted.job_id {
            Some(job) => format!("--job-id={job}"),
            None => format!("--run-id={}", submitted.run_id),
        };
        text.push_str(&format!("Next: qgjob status {subject} --watch"));
    }
    text
}

/// A path of the project file, which is relative to it.
fn beside(settings: &Settings, path: &Path) -> PathBuf {
    settings.project.as_ref().map_or_else(|| path.to_owned(), |project| project.dir.join(path))
}
