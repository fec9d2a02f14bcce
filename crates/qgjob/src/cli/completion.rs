//! `qgjob completion`.

use clap_complete::Shell;
use qgjob_core::model::exit::ExitCode;

use super::failure::Result;
use super::{Context, tree};

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  source <(qgjob completion bash)\n  qgjob completion zsh > ~/.zfunc/_qgjob"
)]
pub struct Completion {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completion {
    pub fn run(self, context: &Context) -> Result {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut tree(), "qgjob", &mut script);
        context.output.raw(&script)?;
        Ok(ExitCode::Ok)
    }
}
