//! Workloads replayed in virtual time through the placement of qgjob and of others.
//!
//! - [`workload`]: what is asked of a fleet; the named ones, and those exported from a server.
//! - [`policy`]: who decides: qgjob's placement, the code of core, and the rules of others.
//! - [`engine`]: the time and the faults; [`fleet`]: the devices.
//! - [`bounds`]: what no policy can beat.
//! - [`metrics`]: what a replay shows.
//! - [`report`]: one workload under several policies.
//! - [`benchmark`]: targets that must hold.
//! - [`chart`]: what each device did when, as SVG.
//!
//! Nothing here depends on the machine or the hour but the time that decisions take.

pub mod benchmark;
pub mod bounds;
pub mod chart;
pub mod engine;
pub mod fleet;
pub mod metrics;
pub mod moment;
mod parallel;
pub mod policy;
pub mod random;
pub mod report;
pub mod workload;
