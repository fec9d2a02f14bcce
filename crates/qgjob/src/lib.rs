//! The one binary: command line, typed HTTP client, configuration, and the agent.

pub mod agent;
pub mod archive;
pub mod bundle;
pub mod ci;
pub mod cli;
pub mod client;
pub mod config;
pub mod output;
pub mod report;
pub mod telemetry;
pub mod text;
