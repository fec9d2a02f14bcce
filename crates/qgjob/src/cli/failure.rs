//! How commands fail: what, why, and what to do about it.

use std::io;
use std::path::Path;

use qgjob_core::api::problem::{Code, Problem};
use qgjob_core::model::exit::ExitCode;
use qgjob_core::model::name::BadName;
use serde_json::{Value, json};

use super::ci::step::in_github_actions;
use crate::config::Environment;
use crate::output::{BAD, BOLD, Format, Output, compact, eprint_line, plain};
use crate::{client, config};

/// Why a command did not do what it should.
#[derive(Debug)]
pub struct Failure {
    /// What the process exits with.
    pub exit: ExitCode,
    /// What went wrong, on one line.
    pub what: String,
    /// Why.
    pub causes: Vec<String>,
    /// What to do.
    pub hints: Vec<String>,
    /// What the server said.
    pub problem: Option<Box<Problem>>,
}

/// How a command ends.
pub type Result<T = ExitCode> = std::result::Result<T, Failure>;

impl Failure {
    /// A failure without cause and hint.
    pub fn new(exit: ExitCode, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), causes: Vec::new(), hints: Vec::new(), problem: None }
    }

    /// The user's input cannot work.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(ExitCode::Usage, what)
    }

    /// `dir` lies in no project.
    pub fn in_no_project(dir: &Path) -> Self {
        let here = dir.display();
        Self::usage(format!("{here} is in no test project: there is no package.json here or above"))
    }

    /// Adds why.
    #[must_use]
    pub fn cause(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The same with the advice that fits where this runs: on GitHub a job logs in with its id-token.
    #[must_use]
    pub fn seen_from(mut self, env: &Environment) -> Self {
        let unauthenticated =
            self.problem.as_ref().is_some_and(|problem| problem.code == Code::Unauthenticated);
        let has_any = ["ACTIONS_ID_TOKEN_REQUEST_URL", "QGJOB_TOKEN", "INPUT_TOKEN"];
        if unauthenticated && in_github_actions(env) && has_any.iter().all(|name| env.get(name).is_none()) {
            self.hints = vec![
                "give the job `permissions: { id-token: write }`; jobs for pull requests from forks get no id-token, whatever they ask for: docs/CI.md says how to test them".into(),
                "or set the action's input token, or QGJOB_TOKEN, to a token of this server".into(),
            ];
        }
        self
    }

    /// Tells it on stderr.
    pub fn print(&self, output: &Output) {
        // The reader is gone: nobody is left to be told.
        if self.exit == ExitCode::BrokenPipe {
            return;
        }
        if matches!(output.format, Format::Json | Format::Jsonl) {
            return eprint_line(&compact(&self.json()));
        }
        let (bold, bad) = if output.color_messages { (BOLD, BAD.bold()) } else { Default::default() };
        eprint_line(&format!("{bad}error:{bad:#} {bold}{}{bold:#}", plain(&self.what)));
        for cause in &self.causes {
            eprint_line(&format!("  cause: {}", plain(cause)));
        }
        for hint in &self.hints {
            eprint_line(&format!("  hint:  {}", plain(hint)));
        }
    }

    fn json(&self) -> Value {
        let mut error = match &self.problem {
            Some(problem) => serde_json::to_value(problem).expect("a problem is JSON"),
            None => json!({ "code": self.exit.explain().0, "detail": self.what }),
        };
        error["schema"] = "qgjob.error/v1".into();
        error["exit_code"] = u8::from(self.exit).into();
        error["message"] = self.what.as_str().into();
        if !self.causes.is_empty() {
            error["causes"] = json!(self.causes);
        }
        if !self.hints.is_empty() {
            error["hint"] = self.hints.join(" ").into();
        }
        json!({ "error": error })
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Self {
        let exit = error.exit_code();
        match error {
            client::Error::Unreachable { server, cause } => Self::new(exit, format!("cannot reach the server at {server}"))
                .cause(cause)
                .hint("start one on this machine with `qgjob server run`, or name another with --server or QGJOB_SERVER"),
            client::Error::Refused(problem) => {
                let mut failure = Self::new(exit, problem.title.clone()).cause(problem.detail.clone());
                for field in &problem.errors {
                    failure = failure.cause(format!("{}: {}", field.pointer, field.detail));
                }
                failure.hints.extend(problem.hint.clone());
                if problem.code == Code::Unauthenticated {
                    failure.hints = vec![
                        "set QGJOB_TOKEN or QGJOB_TOKEN_FILE to a token of this server; the admin makes one with `qgjob token create`".into(),
                    ];
                }
                if problem.code == Code::Internal {
                    failure.causes.extend(problem.request_id.as_ref().map(|id| format!("request id {id}")));
                }
                failure.problem = Some(problem);
                failure
            }
            client::Error::IdToken { cause } => Self::new(exit, "the CI service gives no id-token").cause(cause).hint(
                "give the job `permissions: { id-token: write }`, or set QGJOB_TOKEN; jobs for pull requests of forks get no id-token",
            ),
            other => Self::new(exit, other.to_string()),
        }
    }
}

impl From<config::Error> for Failure {
    fn from(error: config::Error) -> Self {
        let failure = Self::new(ExitCode::Usage, error.to_string());
        match error {
            config::Error::Exposed { path, .. } => Self { exit: ExitCode::Auth, ..failure }.hint(format!(
                "run `chmod 600 {}`; if others use this machine, revoke the tokens",
                path.display()
            )),
            config::Error::Invalid { .. } => failure.hint("every key is described by `qgjob help config`"),
            config::Error::InsecureServer(_) => {
                failure.hint("use https://, or --insecure-http on a network that you trust")
            }
            config::Error::NoProfile { .. }
            | config::Error::BadServer { .. }
            | config::Error::File { .. } => failure,
            config::Error::NotAnIdToken(_) => Self { exit: ExitCode::Auth, ..failure }.hint(
                "set it to what your CI service issued for the address of the server; see docs/KEYLESS.md",
            ),
            config::Error::NotAToken(_) => Self { exit: ExitCode::Auth, ..failure },
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(ExitCode::BrokenPipe, "the reader of the output went away");
        }
        Self::new(ExitCode::Infra, format!("cannot write the output: {error}"))
    }
}

impl From<BadName> for Failure {
    fn from(error: BadName) -> Self {
        Self::usage(error.to_string())
    }
}
