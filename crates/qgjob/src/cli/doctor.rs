//! `qgjob doctor`: looks at everything that must be well before a job can run, and says what to do about the rest.

mod project;
mod tools;

use qgjob_core::clock::Clock;
use qgjob_core::model::exit::ExitCode;
use serde::Serialize;

use super::Context;
use super::failure::{Failure, Result};
use crate::client::{Client, origin, server_time};
use crate::config::{Settings, Source};
use crate::output::{BAD, GOOD, WARN, between, plain, span};

/// What keeps the project in a folder from being run, in words.
pub fn project_problems(dir: &std::path::Path) -> Vec<String> {
    let wrong = project::checks(dir).into_iter().filter(|check| check.state != State::Ok);
    wrong
        .map(|check| [Some(check.detail), check.hint].into_iter().flatten().collect::<Vec<_>>().join("; "))
        .collect()
}

/// Beyond this, tokens seem to expire early or late and times in lists are misleading.
const MOST_SKEW_MS: u64 = 60_000;

/// Check configuration, server, project and tools
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  qgjob doctor\n  qgjob doctor -o json")]
pub struct Doctor {}

/// What became of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// As it should be.
    Ok,
    /// Works, but look at it.
    Warn,
    /// Does not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(skip)]
    exit: ExitCode,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, state: State::Ok, detail: detail.into(), hint: None, exit: ExitCode::Ok }
    }

    fn warn(name: &'static str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name, state: State::Warn, detail: detail.into(), hint: Some(hint.into()), exit: ExitCode::Ok }
    }

    fn fail(name: &'static str, failure: &Failure) -> Self {
        let detail =
            std::iter::once(&failure.what).chain(&failure.causes).cloned().collect::<Vec<_>>().join(": ");
        let hint = Some(failure.hints.join("; ")).filter(|hint| !hint.is_empty());
        Self { name, state: State::Fail, detail, hint, exit: failure.exit }
    }
}

impl Doctor {
    pub async fn run(self, context: &Context) -> Result {
        let mut checks = Vec::new();
        match context.settings() {
            Ok(settings) => {
                checks.push(of_settings(&settings));
                match context.client_of(&settings) {
                    Ok(client) => of_server(context, &client, &settings, &mut checks).await,
                    Err(failure) => checks.push(Check::fail("server", &failure)),
                }
            }
            Err(failure) => checks.push(Check::fail("configuration", &failure)),
        }
        if let Ok(here) = std::env::current_dir() {
            checks.extend(project::checks(&here));
        }
        checks.extend(super::submit::blocking(tools::checks).await?);
        let worst = checks.iter().find(|check| check.state == State::Fail);
        let exit = worst.map_or(ExitCode::Ok, |check| check.exit);
        let document =
            serde_json::json!({ "schema": "qgjob.doctor/v1", "ok": worst.is_none(), "checks": checks });
        context
            .output
            .object(&document, if worst.is_none() { "ok" } else { "fail" }, || text(context, &checks))?;
        Ok(exit)
    }
}

fn text(context: &Context, checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks {
        let (mark, style) = match check.state {
            State::Ok => ("✓", GOOD),
            State::Warn => ("!", WARN),
            State::Fail => ("✗", BAD),
        };
        text.push_str(&format!(
            "{} {:<14} {}\n",
            context.output.paint(style, mark),
            check.name,
            plain(&check.detail)
        ));
        if let Some(hint) = &check.hint {
            text.push_str(&format!("  hint:          {}\n", plain(hint)));
        }
    }
    text
}

fn of_settings(settings: &Settings) -> Check {
    let why = match settings.server_from {
        Source::Flag => "--server or QGJOB_SERVER",
        Source::Project => "qgjob.toml",
        Source::User => "config.toml",
        Source::LocalServer => "last started on this machine",
        Source::Default => "default",
    };
    let org = settings.org_id.as_deref().map(|org| format!(", org {org}")).unwrap_or_default();
    let detail = format!("server {} ({why}){org}", origin(&settings.server));
    match (&settings.token, &settings.login) {
        (Some(_), _) => Check::ok("configuration", detail),
        (None, Some(_)) => Check::ok("configuration", format!("{detail}, keyless login")),
        (None, None) => Check::warn(
            "configuration",
            format!("{detail}, no token for it"),
            "start a server on this machine with `qgjob server run`, or set QGJOB_TOKEN or QGJOB_TOKEN_FILE",
        ),
    }
}

async fn of_server(context: &Context, client: &Client, settings: &Settings, checks: &mut Vec<Check>) {
    let (version, date) = match client.version().await {
        Ok(found) => found,
        Err(error) => return checks.push(Check::fail("server", &error.into())),
    };
    let own = env!("CARGO_PKG_VERSION");
    checks.push(if version.api.iter().any(|api| api == "v1") {
        Check::ok("server", format!("version {}, this is {own}", version.version))
    } else {
        let what = format!("version {} no longer speaks v1, which this program needs", version.version);
        Check::fail(
            "server",
            &Failure::new(ExitCode::Infra, what).hint("use a qgjob of the server's version"),
        )
    });
    if let Some(Ok(theirs)) = date.as_deref().map(server_time) {
        let ours = context.clock.now();
        let skew = between(theirs, ours).max(between(ours, theirs));
        checks.push(if skew > MOST_SKEW_MS {
            let detail = format!("this machine's clock and the server's differ by {}", span(skew));
            Check::warn("clock", detail, "set the clock; times and expiries are the server's")
        } else {
            Check::ok("clock", "agrees with the server's")
        });
    }
    if settings.token.is_none() && settings.login.is_none() {
        return;
    }
    checks.push(match client.whoami().await {
        Ok(me) => {
            let org = me.token.org_id.map(|org| format!(" for org {org}")).unwrap_or_default();
            let until = me.token.expires_at.map(|at| format!(", works until {at}")).unwrap_or_default();
            Check::ok("token", format!("{} token {:?}{org}{until}", me.token.kind, me.token.name))
        }
        Err(error) => Check::fail("token", &error.into()),
    });
}
