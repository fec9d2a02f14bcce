//! `qgjob init`: writes what a project needs to be tested, and no half of it.

mod facts;
mod render;
mod write;

use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use qgjob_core::model::exit::ExitCode;
use qgjob_core::model::name::{AppVersionId, OrgId};
use serde_json::json;

use super::Context;
use super::failure::{Failure, Result};
use super::interrupt::in_ci;
use crate::client::{is_loopback, origin};
use crate::config::{self, project};
use crate::output::{BOLD, plain};
use facts::Facts;
use render::{ActionRef, Plan};
use write::{File, State};

/// Stands where nobody said which server; the domain can belong to nobody.
const NO_SERVER: &str = "https://qgjob.example.com";

/// Write qgjob.toml and a CI workflow into a project
///
/// Overwrites nothing unless told to, and writes all files or none. What flags do not say is taken from the project and from your
/// configuration; on a terminal, what is still missing is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    qgjob init --org-id=qualgent --server=https://qgjob.example.com\n  \
    qgjob init --ci=gitlab --app=app/build/outputs/apk/debug/app-debug.apk --build='./gradlew assembleDebug'\n  \
    qgjob init --ci=none --org-id=qualgent --test='tests/**/*.spec.ts'")]
pub struct Init {
    /// Which CI the workflow is for [default: the one that the project uses, else github]
    #[arg(long, value_enum, value_name = "CI")]
    ci: Option<Ci>,
    /// Label to submit for by default, and in CI where the app is not built there: else it is the commit
    #[arg(long, value_name = "LABEL")]
    app_version_id: Option<AppVersionId>,
    /// Test file, folder or glob in the project; may be repeated [default: the folders with test files]
    #[arg(short, long, value_name = "PATH")]
    test: Vec<String>,
    /// Where the build leaves the app, from the root of the checkout [default: as gradlew does, if there is one]
    #[arg(long, value_name = "FILE")]
    app: Option<String>,
    /// What builds the app, in the root of the checkout [default: gradlew, if there is one]
    #[arg(long, value_name = "COMMAND", requires = "app")]
    build: Option<String>,
    /// The action to use on GitHub, by commit: a tag can be moved to other code
    #[arg(long, value_name = "OWNER/REPO/action@SHA", default_value = ActionRef::NONE)]
    action_ref: ActionRef,
    /// Folder of the test project [default: the nearest one upwards with a package.json]
    #[arg(long, value_name = "DIR")]
    project_dir: Option<PathBuf>,
    /// Write the workflow alone, for a project that has its qgjob.toml
    #[arg(long)]
    no_config: bool,
    /// Overwrite what exists
    #[arg(long)]
    force: bool,
    /// Ask nothing, even on a terminal
    #[arg(long, env = "QGJOB_NO_INPUT", hide_env = true, value_parser = clap::builder::FalseyValueParser::new())]
    no_input: bool,
    /// Print what would be written, and write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// A CI that a workflow can be written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Ci {
    /// GitHub Actions
    Github,
    /// GitLab CI/CD
    Gitlab,
    /// Buildkite
    Buildkite,
    /// CircleCI
    Circleci,
    /// Only qgjob.toml
    None,
}

impl Ci {
    fn name(self) -> &'static str {
        match self {
            Self::Github => "github",
            Self::Gitlab => "gitlab",
            Self::Buildkite => "buildkite",
            Self::Circleci => "circleci",
            Self::None => "none",
        }
    }
}

impl Init {
    pub async fn run(self, context: &Context) -> Result {
        if self.no_config && self.ci == Some(Ci::None) {
            return Err(Failure::usage("--no-config and --ci=none leave nothing to write"));
        }
        let here = std::env::current_dir()
            .map_err(|error| Failure::usage(format!("the current folder is gone: {error}")))?;
        let facts = Facts::of(self.project_dir.as_deref().unwrap_or(&here))?;
        for warning in &facts.warnings {
            context.output.warn(warning);
        }
        let plan = self.plan(context, &facts)?;
        let mut files = Vec::new();
        if !self.no_config {
            files.push(File { path: facts.project.join("qgjob.toml"), text: config_text(&plan)? });
        }
        if let Some((path, text)) = plan.workflow(&facts) {
            files.push(File { path: facts.root.join(path), text });
        }
        if self.dry_run {
            return show(context, &facts.root, &files);
        }
        let states = write::all(&files, self.force).map_err(|error| refused(&facts.root, error))?;
        tell(context, &facts, &plan, &files, &states)
    }

    fn plan(&self, context: &Context, facts: &Facts) -> Result<Plan> {
        let asks = !self.no_input
            && !in_ci(&context.env)
            && std::io::stdin().is_terminal()
            && std::io::stderr().is_terminal();
        // An unusable qgjob.toml is no obstacle: it is what `--force` replaces.
        let settings = context.settings_in(Some(&facts.project)).ok();
        let known = settings.as_ref().filter(|settings| !is_loopback(&settings.server));
        let given = context.global.server.clone().filter(|text| !text.is_empty());
        let server = match given.or_else(|| known.map(|settings| settings.server.to_string())) {
            Some(text) => Some(text),
            None if asks => ask("Address of the server, as CI reaches it", NO_SERVER)?,
            None => None,
        };
        let url = config::parse_server(server.as_deref().unwrap_or(NO_SERVER))?;
        if is_loopback(&url) {
            context.output.warn(format!("{url} is this machine: CI cannot reach it"));
        }
        let org = context.global.org_id.clone().filter(|text| !text.is_empty());
        let org = match org.or_else(|| settings.and_then(|settings| settings.org_id)) {
            Some(org) => Some(org),
            None if self.no_config => None,
            None if asks => ask("Org to work for", "")?,
            None => None,
        };
        let org_id: Option<OrgId> = org.map(|org| org.parse()).transpose()?;
        if org_id.is_none() && !self.no_config {
            return Err(Failure::usage("no org is named").hint("add --org-id=<org>"));
        }
        let ci = match (self.ci, facts.cis.as_slice()) {
            (Some(ci), _) => ci,
            (None, []) => Ci::Github,
            (None, [only]) => *only,
            (None, several) => {
                let names: Vec<_> = several.iter().map(|ci| ci.name()).collect();
                let answer =
                    if asks { ask(&format!("Which CI ({})", names.join(", ")), names[0])? } else { None };
                let named = answer.and_then(|name| Ci::from_str(&name, true).ok());
                named.ok_or_else(|| {
                    Failure::usage(format!("the project uses several CIs: {}", names.join(", ")))
                        .hint("say which with --ci")
                })?
            }
        };
        Ok(Plan {
            ci,
            // The address as the runner calls it; what the id-token is for is the origin alone.
            server: url.as_str().trim_end_matches('/').to_owned(),
            audience: origin(&url),
            server_is_known: server.is_some() && origin(&url) != NO_SERVER,
            org_id,
            app_version_id: self.app_version_id.clone(),
            tests: facts.tests(&self.test)?,
            app: facts.app(self.app.as_deref(), self.build.as_deref())?,
            action: self.action_ref.clone(),
        })
    }
}

/// Asks on the terminal; nothing when the answer is empty and there is no default.
fn ask(question: &str, default: &str) -> Result<Option<String>> {
    let shown = if default.is_empty() { String::new() } else { format!(" [{default}]") };
    eprint!("{question}{shown}: ");
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|error| Failure::usage(format!("cannot read the answer: {error}")))?;
    let answer = line.trim();
    let answer = if answer.is_empty() { default } else { answer };
    Ok(Some(answer.to_owned()).filter(|answer| !answer.is_empty()))
}

/// The text of `qgjob.toml`, once the code that will read it has read it.
fn config_text(plan: &Plan) -> Result<String> {
    let text = plan.config();
    let wrong =
        |detail: String| Failure::new(ExitCode::Internal, "qgjob.toml would not be readable").cause(detail);
    let read = project::File::parse(&text).map_err(wrong)?;
    let same = read.org_id.as_deref() == plan.org_id.as_ref().map(OrgId::as_str)
        && read.submit.tests == plan.tests
        && read.submit.app_version_id.as_deref() == plan.app_version_id.as_ref().map(AppVersionId::as_str)
        && read.server.is_some() == plan.server_is_known;
    if same { Ok(text) } else { Err(wrong("it would not say what it should".to_owned())) }
}

fn show(context: &Context, root: &Path, files: &[File]) -> Result {
    let items: Vec<_> =
        files.iter().map(|file| json!({ "path": below(root, &file.path), "text": file.text })).collect();
    let names: Vec<_> = files.iter().map(|file| below(root, &file.path)).collect();
    let document = json!({ "schema": "qgjob.init/v1", "dry_run": true, "files": items });
    context.output.object(&document, &names.join("\n"), || {
        let shown = files.iter().map(|file| {
            let head = format!("--- {}", below(root, &file.path));
            format!("{}\n{}", context.output.paint(BOLD, &head), file.text)
        });
        shown.collect::<Vec<_>>().join("\n")
    })?;
    Ok(ExitCode::Ok)
}

fn below(root: &Path, path: &Path) -> String {
    plain(&path.strip_prefix(root).unwrap_or(path).display().to_string())
}

fn refused(root: &Path, error: write::Error) -> Failure {
    match error {
        write::Error::Exists(paths) => {
            let paths: Vec<_> = paths.iter().map(|path| below(root, path)).collect();
            let failure = Failure::new(ExitCode::Conflict, "what would be written exists with other content");
            let failure = paths.iter().fold(failure, |failure, path| failure.cause(format!("{path} exists")));
            let failure = failure.cause("nothing was written");
            let failure = failure.hint("--force overwrites it; --dry-run shows what would be written");
            if paths.iter().any(|path| path.ends_with("qgjob.toml")) {
                return failure.hint("--no-config keeps qgjob.toml and writes the workflow alone");
            }
            failure
        }
        write::Error::Io { path, cause } => Failure::usage(format!("cannot write {}", below(root, &path)))
            .cause(cause.to_string())
            .cause("nothing was written"),
    }
}

fn tell(context: &Context, facts: &Facts, plan: &Plan, files: &[File], states: &[State]) -> Result {
    let (placeholders, next) = (plan.placeholders(), plan.next(facts));
    let items = files
        .iter()
        .zip(states)
        .map(|(file, state)| json!({ "path": below(&facts.root, &file.path), "state": state }));
    let document = json!({
        "schema": "qgjob.init/v1",
        "ci": plan.ci.name(),
        "files": items.collect::<Vec<_>>(),
        "placeholders": placeholders.iter().map(|(text, what)| json!({ "text": text, "what": what })).collect::<Vec<_>>(),
        "next": next,
    });
    let names: Vec<_> = files.iter().map(|file| below(&facts.root, &file.path)).collect();
    context.output.object(&document, &names.join("\n"), || {
        let mut text = String::new();
        for (name, state) in names.iter().zip(states) {
            let word = match state {
                State::Written => "Wrote",
                State::Overwritten => "Overwrote",
                State::Unchanged => "Unchanged:",
            };
            text.push_str(&format!("{} {word} {name}\n", context.output.paint(crate::output::GOOD, "✓")));
        }
        if !placeholders.is_empty() {
            text.push_str("Put in before you commit, or run this again with the flag and --force:\n");
            for (placeholder, what) in &placeholders {
                text.push_str(&format!("  {placeholder}: {what}\n"));
            }
        }
        text.push_str("Next:\n");
        next.iter().for_each(|step| text.push_str(&format!("  {step}\n")));
        text
    })?;
    Ok(ExitCode::Ok)
}
