//! Identifiers: a prefix that names the kind, and a ULID in lower case (26 characters of Crockford base 32).
//! Ids sort by the time they were made.

use jiff::Timestamp;
use ulid::Ulid;

/// Why a text is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an id of the form {prefix}<26 characters>")]
pub struct NotAnId {
    /// The prefix that was expected.
    pub prefix: &'static str,
    /// What was given.
    pub text: String,
}

/// The 128 bits of a new id: the time in ms and 80 bits of `random`.
pub fn bits(now: Timestamp, random: u128) -> u128 {
    Ulid::from_parts(now.as_millisecond().max(0) as u64, random).0
}

/// Defines `Id` in the calling module: `Display`, `FromStr` and serde use `<prefix><ulid>`.
macro_rules! define_id {
    ($prefix:literal, $what:literal) => {
        #[doc = concat!("Identifies ", $what, ": `", $prefix, "` and 26 characters.")]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, utoipa::ToSchema)]
        #[schema(value_type = String)]
        pub struct Id(pub u128);

        impl Id {
            /// What every id of this kind starts with.
            pub const PREFIX: &'static str = $prefix;

            /// A new id.
            pub fn new(now: jiff::Timestamp, random: u128) -> Self {
                Self($crate::model::id::bits(now, random))
            }
        }

        impl std::fmt::Display for Id {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let text = ulid::Ulid(self.0).to_string();
                write!(f, "{}{}", Self::PREFIX, text.to_ascii_lowercase())
            }
        }

        impl std::fmt::Debug for Id {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }

        impl std::str::FromStr for Id {
            type Err = $crate::model::id::NotAnId;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let wrong = || $crate::model::id::NotAnId { prefix: Self::PREFIX, text: text.to_owned() };
                let rest = text.strip_prefix(Self::PREFIX).ok_or_else(wrong)?;
                ulid::Ulid::from_string(rest).map(|ulid| Self(ulid.0)).map_err(|_| wrong())
            }
        }

        impl serde::Serialize for Id {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for Id {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use define_id;

#[cfg(test)]
mod tests {
    use crate::model::job;

    #[test]
    fn an_id_survives_its_text() {
        let id = job::Id::new("2026-11-22T10:00:00Z".parse().unwrap(), u128::MAX);
        assert_eq!(id.to_string().parse::<job::Id>().unwrap(), id);
        assert_eq!(id.to_string().len(), 4 + 26);
    }

    #[test]
    fn an_id_of_another_kind_is_refused_with_the_expected_prefix() {
        let run = crate::model::run::Id::new("2026-11-22T10:00:00Z".parse().unwrap(), 7);
        let error = run.to_string().parse::<job::Id>().unwrap_err();
        assert_eq!(error.prefix, "job_");
    }

    #[test]
    fn ids_sort_by_time() {
        let early = job::Id::new("2026-11-22T10:00:00Z".parse().unwrap(), u128::MAX);
        let late = job::Id::new("2026-11-22T10:00:00.001Z".parse().unwrap(), 0);
        assert!(early < late && early.to_string() < late.to_string());
    }
}
