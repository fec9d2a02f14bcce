//! Plain data. Words and meanings: `docs/GLOSSARY.md`.

pub mod agent;
pub mod artifact;
pub mod attempt;
pub mod build;
pub mod ci;
pub mod device;
pub mod event;
pub mod evidence;
pub mod exit;
pub mod group;
pub mod id;
pub mod job;
pub mod limits;
pub mod name;
pub mod policy;
pub mod priority;
pub mod refusal;
pub mod rerun;
pub mod run;
pub mod selector;
pub mod sha256;
pub mod shard;
pub mod test_result;
pub mod token;
