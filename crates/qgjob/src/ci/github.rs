//! GitHub Actions: workflow commands, inputs of the action, the key that finds a run again, annotations, summary.

pub mod annotations;
pub mod commands;
pub mod identity;
pub mod inputs;
pub mod results;
pub mod summary;
