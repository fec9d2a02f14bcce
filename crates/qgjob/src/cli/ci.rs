//! What integrations with pipelines call. People call `qgjob submit`, which does the same where it sees a pipeline.

mod post;
pub mod quoted;
mod run;
pub mod step;

use super::Context;
use super::failure::{Failure, Result};
use crate::ci::github::inputs::{BadInput, Inputs, of_flag};

/// Plumbing of the integrations with pipelines
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "Example:\n  qgjob ci github run")]
pub enum Ci {
    /// GitHub Actions
    #[command(subcommand)]
    Github(Github),
}

/// Steps of the GitHub Action: their inputs are variables that the runner sets
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "Example:\n  qgjob ci github run")]
pub enum Github {
    /// Submit as the inputs say, wait, and tell the workflow what came of it
    #[command(after_help = "Example:\n  qgjob ci github run")]
    Run,
    /// Cancel what the step before left behind
    #[command(after_help = "Example:\n  qgjob ci github post")]
    Post,
}

impl Ci {
    pub async fn run(self, context: &Context) -> Result {
        match self {
            Self::Github(Github::Run) => run::run(context).await,
            Self::Github(Github::Post) => post::run(context).await,
        }
    }
}

impl From<BadInput> for Failure {
    fn from(bad: BadInput) -> Self {
        Self::usage(bad.to_string()).hint(format!("it can be {}", bad.expected))
    }
}

/// What the parser says of a flag, said of the input that it stands for.
fn input_failure(error: &clap::Error) -> Failure {
    use clap::error::{ContextKind, ContextValue};
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let flag = text(ContextKind::InvalidArg).and_then(|arg| arg.split([' ', '=']).next());
    let rendered = error.render().to_string();
    let first = rendered.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    match flag.and_then(of_flag) {
        Some(input) => {
            let value = text(ContextKind::InvalidValue).unwrap_or_default();
            let failure = Failure::usage(format!("the input {input} cannot be {value:?}"));
            match first.split_once(">': ") {
                Some((_, why)) => failure.cause(why),
                None => failure.cause(first),
            }
        }
        None => Failure::usage(first),
    }
}

/// The token among the inputs beats all other credentials.
fn with_token(context: &Context, inputs: &Inputs) -> crate::config::Environment {
    match inputs.get("token") {
        Some(token) => context.env.with("QGJOB_TOKEN", token),
        None => context.env.clone(),
    }
}
