//! Policies: which runs of which pipelines an org lets in without a stored token, and what they may do.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ci::May;
use super::name::{BadName, ClaimName, IssuerUrl, OrgId, Pattern};
use super::priority::Priority;
use super::selector::words;

super::id::define_id!("pol_", "a policy");

/// Most policies of an org.
pub const MOST: usize = 100;
/// The issuer of GitHub's id-tokens.
pub const GITHUB: &str = "https://token.actions.githubusercontent.com";
/// The issuer of GitLab.com's id-tokens.
pub const GITLAB: &str = "https://gitlab.com";

/// For each claim that must be looked at, what it may be: one of the patterns.
pub type Conditions = BTreeMap<ClaimName, Vec<Pattern>>;

/// Lets id-tokens in. Of an org's policies the oldest that an id-token meets counts; one that meets none is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Policy {
    /// Given by the server.
    pub id: Id,
    /// The org that the token will be for.
    pub org_id: OrgId,
    /// Who must have issued the id-token.
    #[schema(value_type = String)]
    pub issuer: IssuerUrl,
    /// For whom it must have been issued; none: for this server's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// What its claims must be: all of these.
    #[serde(rename = "match")]
    #[schema(value_type = BTreeMap<String, Vec<String>>)]
    pub conditions: Conditions,
    /// What the token may do.
    pub may: BTreeSet<May>,
    /// The most urgent priority that it may ask for.
    pub max_priority: Priority,
    /// When it was added.
    pub created_at: Timestamp,
}

/// Whose rules an issuer's id-tokens follow: which claims name their owner for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// GitHub Actions.
    Github,
    /// GitLab.
    Gitlab,
    /// Others.
    Other,
}
words!(Kind, "kind of issuer", Github => "github", Gitlab => "gitlab", Other => "other");

/// An issuer that the operator trusts. Text form: `gitlab=https://gitlab.example.com`, or the address alone for `other`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trusted {
    /// Whose rules its tokens follow.
    pub kind: Kind,
    /// Its address.
    pub issuer: IssuerUrl,
}

impl Trusted {
    /// The issuers that are known by name.
    pub fn known() -> [Self; 2] {
        let known = |kind, issuer: &str| Self { kind, issuer: issuer.parse().expect("it is an address") };
        [known(Kind::Github, GITHUB), known(Kind::Gitlab, GITLAB)]
    }
}

impl std::str::FromStr for Trusted {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        match text.split_once('=') {
            Some((kind, issuer)) => Ok(Self { kind: kind.parse()?, issuer: issuer.parse()? }),
            None => Ok(Self { kind: Kind::Other, issuer: text.parse()? }),
        }
    }
}

impl std::fmt::Display for Trusted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.kind, self.issuer)
    }
}

impl Serialize for Trusted {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Trusted {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_says_whose_rules_it_follows() {
        let read = |text: &str| text.parse::<Trusted>().map(|trusted| (trusted.kind, trusted.to_string()));
        assert_eq!(read("https://a.example").unwrap(), (Kind::Other, "other=https://a.example".to_owned()));
        assert_eq!(read("gitlab=https://a.example").unwrap().0, Kind::Gitlab);
        assert!(read("bitbucket=https://a.example").is_err() && read("github=http://a.example").is_err());
        for trusted in Trusted::known() {
            assert_eq!(trusted.to_string().parse::<Trusted>().unwrap(), trusted);
        }
    }
}
