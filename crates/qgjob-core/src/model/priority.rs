//! How urgent a job is.

use std::fmt;
use std::str::FromStr;

/// 1 to 10, **10 most urgent**. Words: `low` 3, `normal` 5 (the default), `high` 8, `urgent` 10.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
)]
#[serde(try_from = "u8", into = "u8")]
#[schema(value_type = u8, minimum = 1, maximum = 10, default = 5)]
pub struct Priority(u8);

/// The text or number is no priority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a priority: use 1 to 10 (10 most urgent), or low, normal, high, urgent")]
pub struct NotAPriority(pub String);

impl Priority {
    /// The most urgent.
    pub const MAX: Self = Self(10);

    /// 1 to 10.
    pub fn get(self) -> u8 {
        self.0
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self(5)
    }
}

impl TryFrom<u8> for Priority {
    type Error = NotAPriority;

    fn try_from(number: u8) -> Result<Self, NotAPriority> {
        if (1..=10).contains(&number) { Ok(Self(number)) } else { Err(NotAPriority(number.to_string())) }
    }
}

impl From<Priority> for u8 {
    fn from(priority: Priority) -> u8 {
        priority.0
    }
}

impl FromStr for Priority {
    type Err = NotAPriority;

    fn from_str(text: &str) -> Result<Self, NotAPriority> {
        match text {
            "low" => Ok(Self(3)),
            "normal" => Ok(Self(5)),
            "high" => Ok(Self(8)),
            "urgent" => Ok(Self(10)),
            _ => match text.parse::<u8>() {
                Ok(number) => Self::try_from(number),
                Err(_) => Err(NotAPriority(text.to_owned())),
            },
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_numbers_are_priorities_and_nothing_else_is() {
        assert_eq!("urgent".parse::<Priority>().unwrap(), Priority::MAX);
        assert_eq!("low".parse::<Priority>().unwrap().get(), 3);
        assert_eq!("1".parse::<Priority>().unwrap().get(), 1);
        for bad in ["0", "11", "-1", "", "High", "5.0"] {
            assert!(bad.parse::<Priority>().is_err(), "{bad:?}");
        }
        assert!(serde_json::from_str::<Priority>("11").is_err());
    }
}
