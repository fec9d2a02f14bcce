//! Placeholder.

pub mod agent;
pub mod bundle;
