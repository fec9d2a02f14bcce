//! The command line: `qgjob <verb>` for daily work, `qgjob <noun> <verb>` for the rest. One file per verb or noun.

mod agent;
mod app;
mod artifact;
mod ci;
mod compare;
mod completion;
mod device;
mod doctor;
pub mod failure;
mod init;
mod interrupt;
mod jobs;
mod logs;
mod org;
mod queue;
pub mod reference;
mod report;
mod rerun;
mod run;
mod server;
mod simulate;
mod status;
mod submit;
mod summary;
mod token;
pub mod topics;
mod value;
mod watch;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};
use qgjob_core::clock::SystemClock;
use qgjob_core::model::exit::ExitCode;

use crate::client::Client;
use crate::config::{Environment, Flags, Settings};
use crate::output::{ColorChoice, Format, Output, eprint_line};
use crate::telemetry;
use failure::{Failure, Result};

/// Runs mobile end-to-end tests on the devices you have.
#[derive(Debug, Parser)]
#[command(
    name = "qgjob",
    version,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 110,
    after_help = "Examples:\n  qgjob submit --org-id=qualgent --app-version-id=xyz123 --test=tests/onboarding.spec.js\n  \
        qgjob status --job-id=<id> --watch\n\nTopics: qgjob help exit-codes | environment | formatting | config | security"
)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags that every command takes, before or after its name.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// Address of the server [default: of the profile, else the one last started here, else http://127.0.0.1:8080]
    #[arg(long, global = true, env = "QGJOB_SERVER", hide_env = true, value_name = "URL")]
    server: Option<String>,
    /// Profile of config.toml
    #[arg(long, global = true, env = "QGJOB_PROFILE", hide_env = true, value_name = "NAME")]
    profile: Option<String>,
    /// Org to work for
    #[arg(long, global = true, env = "QGJOB_ORG_ID", hide_env = true, value_name = "ORG")]
    org_id: Option<String>,
    /// File that holds the token; there is no flag for the token itself, since others can see flags
    #[arg(long, global = true, env = "QGJOB_TOKEN_FILE", hide_env = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Form of the output
    #[arg(
        short,
        long,
        global = true,
        env = "QGJOB_OUTPUT",
        hide_env = true,
        value_enum,
        default_value_t,
        value_name = "FORM",
        hide_possible_values = false
    )]
    output: Format,
    /// Print the result and errors alone
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Log more to stderr; twice: each request
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// When to use colours
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    color: ColorChoice,
    /// No redrawn display, even on a terminal
    #[arg(long, global = true)]
    no_progress: bool,
    /// How long one call to the server may take
    #[arg(long, global = true, env = "QGJOB_REQUEST_TIMEOUT", hide_env = true, value_parser = value::span, default_value = "30s", value_name = "SPAN")]
    request_timeout: Duration,
    /// Allow http:// to a server that is not this machine
    #[arg(long, global = true)]
    insecure_http: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Queue tests for an app version
    Submit(Box<submit::Submit>),
    /// Show or watch jobs and runs
    Status(status::Status),
    /// Wait until jobs and runs are over; the exit code is the verdict
    Wait(status::Wait),
    /// Print or follow the log of a job
    Logs(logs::Logs),
    /// List jobs
    #[command(alias = "ls")]
    List(jobs::List),
    /// Cancel jobs or runs
    Cancel(jobs::Cancel),
    /// Run finished jobs again
    Retry(jobs::Retry),
    /// Tell why a job waits, or why it ended as it did
    Explain(jobs::Explain),
    /// Runs: what one submit made
    #[command(subcommand, alias = "runs")]
    Run(run::Run),
    /// The queue, by app version
    #[command(subcommand)]
    Queue(queue::Queue),
    /// Orgs and what they may hold of the devices
    #[command(subcommand, alias = "orgs")]
    Org(org::Org),
    /// App versions and their builds
    #[command(subcommand, alias = "apps")]
    App(app::App),
    /// Devices
    #[command(subcommand, alias = "devices")]
    Device(device::Device),
    /// Agents, which own the devices
    #[command(subcommand, alias = "agents")]
    Agent(agent::Agent),
    /// Tokens for people and pipelines
    #[command(subcommand, alias = "tokens")]
    Token(token::Token),
    /// Files kept from jobs: traces, screenshots, reports
    #[command(subcommand, alias = "artifacts")]
    Artifact(artifact::Artifact),
    /// Reports of runs: JUnit, JSON, HTML, Markdown, Allure, Playwright
    #[command(subcommand, alias = "reports")]
    Report(report::Report),
    /// The server
    #[command(subcommand)]
    Server(server::Server),
    /// Replay workloads through qgjob's placement and the rules of others
    Simulate(simulate::Simulate),
    /// Write qgjob.toml and a CI workflow into a project
    Init(init::Init),
    /// Check configuration, server, project and tools
    Doctor(doctor::Doctor),
    #[command(subcommand, hide = true)]
    Ci(ci::Ci),
    /// Print a completion script for a shell
    Completion(completion::Completion),
    /// Print the version
    #[command(after_help = "Example:\n  qgjob version -o json")]
    Version,
    /// Explain a command or a topic
    #[command(after_help = "Examples:\n  qgjob help submit\n  qgjob help exit-codes")]
    Help {
        /// A command, or one of: exit-codes, environment, formatting, config, security
        words: Vec<String>,
    },
}

/// What every command works with.
struct Context {
    global: Global,
    env: Environment,
    output: Output,
    clock: SystemClock,
}

impl Context {
    /// The settings of flags, environment and files.
    fn settings(&self) -> Result<Settings> {
        self.settings_in(None)
    }

    /// The same with the project in `dir`; none: in the current folder.
    fn settings_in(&self, dir: Option<&Path>) -> Result<Settings> {
        let text = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
        let flags = Flags {
            server: text(&self.global.server),
            profile: text(&self.global.profile),
            org_id: text(&self.global.org_id),
            token_file: self.global.token_file.clone().filter(|path| !path.as_os_str().is_empty()),
            insecure_http: self.global.insecure_http || self.env.get("QGJOB_INSECURE_HTTP").is_some(),
        };
        let here = std::env::current_dir()
            .map_err(|error| Failure::usage(format!("the current folder is gone: {error}")))?;
        let dir = dir.and_then(|dir| dir.canonicalize().ok()).unwrap_or(here);
        let settings = Settings::load(&flags, &self.env, &dir)?;
        if let Some(ignored) = &settings.server_ignored {
            self.output.warn(format!(
                "qgjob.toml names the server {ignored}, for which you have no credential; using {}",
                crate::client::origin(&settings.server)
            ));
        }
        Ok(settings)
    }

    fn client(&self) -> Result<Client> {
        self.client_of(&self.settings()?)
    }

    fn client_of(&self, settings: &Settings) -> Result<Client> {
        let client = Client::new(&settings.server, settings.token.clone(), self.global.request_timeout)?;
        Ok(match &settings.login {
            Some(login) => client.with_login(login.clone()),
            None => client,
        })
    }
}

/// The whole program: parses the arguments, runs the command, prints errors.
pub fn main() -> std::process::ExitCode {
    let code = guarded(|| run(std::env::args_os().collect(), Environment::of_process()));
    std::process::ExitCode::from(u8::from(code))
}

/// Turns a panic, which is a bug of ours, into its exit code: the one that Rust would choose says nothing.
fn guarded(work: impl FnOnce() -> ExitCode + std::panic::UnwindSafe) -> ExitCode {
    std::panic::catch_unwind(work).unwrap_or_else(|_| {
        eprint_line("error: this is a bug in qgjob; what stands above helps to find it");
        ExitCode::Internal
    })
}

fn run(args: Vec<OsString>, env: Environment) -> ExitCode {
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return refused(&error, &args, &env),
    };
    let global = cli.global;
    let progress = !global.no_progress && env.get("QGJOB_NO_PROGRESS").is_none();
    let output = Output::new(global.output, global.quiet, global.color, progress, &env);
    let context = Context { global, env, output, clock: SystemClock };
    let result = start(&context, cli.command);
    match result {
        Ok(code) => code,
        Err(failure) => {
            let failure = failure.seen_from(&context.env);
            failure.print(&output);
            failure.exit
        }
    }
}

fn start(context: &Context, command: Command) -> Result {
    let default_level = match &command {
        Command::Server(server::Server::Run(_)) | Command::Agent(agent::Agent::Run(_)) => "info",
        Command::Ci(_) => context.env.get("INPUT_LOG-LEVEL").unwrap_or("warn"),
        _ => "warn",
    };
    telemetry::start(&context.env, context.global.verbose, default_level, context.output.color_messages)
        .map_err(Failure::usage)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(ExitCode::Infra, format!("cannot start: {error}")))?;
    let result = runtime.block_on(dispatch(context, command));
    // A thread that waits for a file or a terminal must not hold the process back.
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

async fn dispatch(context: &Context, command: Command) -> Result {
    match command {
        Command::Submit(command) => command.run(context).await,
        Command::Status(command) => command.run(context).await,
        Command::Wait(command) => command.run(context).await,
        Command::Logs(command) => command.run(context).await,
        Command::List(command) => command.run(context).await,
        Command::Cancel(command) => command.run(context).await,
        Command::Retry(command) => command.run(context).await,
        Command::Explain(command) => command.run(context).await,
        Command::Run(command) => command.run(context).await,
        Command::Queue(command) => command.run(context).await,
        Command::Org(command) => command.run(context).await,
        Command::App(command) => command.run(context).await,
        Command::Device(command) => command.run(context).await,
        Command::Agent(command) => command.run(context).await,
        Command::Token(command) => command.run(context).await,
        Command::Artifact(command) => command.run(context).await,
        Command::Report(command) => command.run(context).await,
        Command::Server(command) => command.run(context).await,
        Command::Simulate(command) => command.run(context).await,
        Command::Init(command) => command.run(context).await,
        Command::Doctor(command) => command.run(context).await,
        Command::Ci(command) => command.run(context).await,
        Command::Completion(command) => command.run(context),
        Command::Version => {
            let version = env!("CARGO_PKG_VERSION");
            let document = serde_json::json!({ "schema": "qgjob.version/v1", "version": version });
            context.output.object(&document, version, || format!("qgjob {version}"))?;
            Ok(ExitCode::Ok)
        }
        Command::Help { words } => topics::help(context, &words),
    }
}

/// Prints what the parser says: help and version are results, the rest are errors.
fn refused(error: &clap::Error, args: &[OsString], env: &Environment) -> ExitCode {
    use clap::error::ErrorKind;
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => match error.print() {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::BrokenPipe,
            _ => ExitCode::Ok,
        },
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            _ = error.print();
            ExitCode::Usage
        }
        _ => {
            let format = wanted_format(args, env);
            if format == Format::Text {
                _ = error.print();
            } else {
                let text = error.render().to_string();
                let what = text.trim_start_matches("error: ").lines().next().unwrap_or_default();
                let output = Output::new(format, false, ColorChoice::Never, false, env);
                Failure::usage(what).hint("see `qgjob help`").print(&output);
            }
            ExitCode::Usage
        }
    }
}

/// The form of the output when the arguments as a whole cannot be parsed.
fn wanted_format(args: &[OsString], env: &Environment) -> Format {
    let args: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
    let flag = args.iter().enumerate().find_map(|(at, arg)| match &**arg {
        "-o" | "--output" => args.get(at + 1).map(|next| next.to_string()),
        arg => arg.strip_prefix("--output=").or_else(|| arg.strip_prefix("-o")).map(str::to_owned),
    });
    match flag.as_deref().map(|text| text.trim_start_matches('=')).or(env.get("QGJOB_OUTPUT")) {
        Some("json") => Format::Json,
        Some("jsonl") => Format::Jsonl,
        _ => Format::Text,
    }
}

/// The tree of commands, for help, completion and the reference.
pub fn tree() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bug_has_its_own_exit_code() {
        assert_eq!(guarded(|| panic!("as a bug would")), ExitCode::Internal);
        assert_eq!(guarded(|| ExitCode::Ok), ExitCode::Ok);
    }
}
