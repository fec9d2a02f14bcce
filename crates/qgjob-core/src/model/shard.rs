//! Shards: parts of one test file's tests, each a job of its own.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::name::TestPath;

/// Which of its file's tests a job runs. The shards of a file hold each of its tests once: all but the last run the tests
/// that they name, the last runs whatever the others do not name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Shard {
    /// 1 for the first.
    pub index: u32,
    /// How many shards the file has, at least 2.
    pub of: u32,
    /// Titles from the outermost `describe` to a test, or to a `describe` with all that is in it; at most 1,000. What the
    /// job runs; for the last shard: what it leaves to the others.
    pub tests: Vec<Vec<String>>,
}

impl Shard {
    /// Whether it runs what the others do not name.
    pub fn is_last(&self) -> bool {
        self.index >= self.of
    }
}

/// A test file, and which of its shards, for people: `tests/a.spec.js 2/3`.
pub fn named(test: &TestPath, shard: Option<&Shard>) -> String {
    shard.map_or_else(|| test.to_string(), |shard| format!("{test} {shard}"))
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

/// How many shards the files of a run are split into, as far as their tests are recorded: `auto`, or at most 1 to 50.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ShardCount", into = "ShardCount")]
pub enum Shards {
    /// As many as make the run end sooner.
    Auto,
    /// Each file that has as many tests into so many.
    AtMost(u32),
}

impl Shards {
    /// The most shards of a file.
    pub const MOST: u32 = 50;
}

/// The text or number says no number of shards.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no number of shards: use auto, or 1 to 50")]
pub struct NotShards(pub String);

/// As JSON has it: `"auto"`, or a number from 1 to 50.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum ShardCount {
    /// How many.
    Number(u32),
    /// `auto`.
    Word(String),
}

impl TryFrom<ShardCount> for Shards {
    type Error = NotShards;

    fn try_from(wire: ShardCount) -> Result<Self, NotShards> {
        match wire {
            ShardCount::Word(word) if word == "auto" => Ok(Self::Auto),
            ShardCount::Word(word) => Err(NotShards(word)),
            ShardCount::Number(number) if (1..=Self::MOST).contains(&number) => Ok(Self::AtMost(number)),
            ShardCount::Number(number) => Err(NotShards(number.to_string())),
        }
    }
}

impl From<Shards> for ShardCount {
    fn from(shards: Shards) -> ShardCount {
        match shards {
            Shards::Auto => ShardCount::Word("auto".to_owned()),
            Shards::AtMost(number) => ShardCount::Number(number),
        }
    }
}

impl FromStr for Shards {
    type Err = NotShards;

    fn from_str(text: &str) -> Result<Self, NotShards> {
        match text.parse() {
            Ok(number) => ShardCount::Number(number).try_into(),
            Err(_) => ShardCount::Word(text.to_owned()).try_into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_and_1_to_50_are_shards_and_nothing_else_is() {
        for (text, json, shards) in [
            ("auto", "\"auto\"", Shards::Auto),
            ("1", "1", Shards::AtMost(1)),
            ("50", "50", Shards::AtMost(50)),
        ] {
            assert_eq!(text.parse::<Shards>().unwrap(), shards);
            assert_eq!(serde_json::from_str::<Shards>(json).unwrap(), shards);
            assert_eq!(serde_json::to_string(&shards).unwrap(), json);
        }
        for bad in ["0", "51", "-1", "", "AUTO", "2.0"] {
            assert!(bad.parse::<Shards>().is_err(), "{bad:?}");
        }
        for bad in ["0", "51", "\"two\""] {
            let error = serde_json::from_str::<Shards>(bad).unwrap_err().to_string();
            assert!(error.contains("use auto, or 1 to 50"), "{error}");
        }
    }
}
