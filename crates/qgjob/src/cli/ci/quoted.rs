//! Output of a command that is no step of its own, quoted: nothing in it is a command to the runner.

use qgjob_core::clock::Clock;

use super::step::{in_github_actions, one_stream};
use crate::ci::github::commands::Guard;
use crate::cli::Context;
use crate::output::{Format, Output};

/// As long as it lives, the runner obeys nothing.
pub struct Quoted {
    output: Output,
    guard: Guard,
}

impl Quoted {
    /// None where there is no workflow, and where the output is for programs.
    pub fn begin(context: &Context) -> Option<Self> {
        let output = context.output;
        if output.format != Format::Text || !in_github_actions(&context.env) {
            return None;
        }
        one_stream();
        let guard = Guard::new(context.clock.random());
        _ = output.line(guard.close());
        Some(Self { output, guard })
    }
}

impl Drop for Quoted {
    fn drop(&mut self) {
        _ = self.output.line(self.guard.open());
    }
}
