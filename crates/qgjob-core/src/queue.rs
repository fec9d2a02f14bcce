//! The rules: pure functions of state, command and time. No rule reads a clock, a socket or a file.

pub mod blame;
pub mod board;
pub mod forecast;
pub mod lifecycle;
pub mod placement;
pub mod reruns;
pub mod retry;
pub mod rollup;
pub mod shards;
pub mod verdict;
