//! Keyless login: an id-token for a token, and the policies that decide about it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::ci::{CiRun, May};
use crate::model::name::{IssuerUrl, OrgId};
use crate::model::policy::{self, Conditions, Policy};
use crate::model::priority::Priority;
use crate::model::token::Token;

/// Body of `POST /auth/oidc`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewLogin {
    /// The org whose policies count. None: the one org whose policies let the id-token in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org_id: Option<OrgId>,
    /// The id-token that the CI service issued, at most 16 KiB. It can be used once.
    pub token: String,
}

/// Answer to `POST /auth/oidc`: the only time the secret is shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoggedIn {
    /// `qgjob.login/v1`.
    pub schema: String,
    /// The token.
    #[serde(flatten)]
    pub token: Token,
    /// What to send as `Authorization: Bearer`.
    pub secret: String,
    /// How long it works.
    pub expires_in_ms: u64,
}

/// Answer to `POST /auth/renew`: the token that was sent works longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Renewed {
    /// `qgjob.login_renewed/v1`.
    pub schema: String,
    /// The token.
    #[serde(flatten)]
    pub token: Token,
    /// How long it works.
    pub expires_in_ms: u64,
}

/// Body of `POST /orgs/{org_id}/oidc-policies`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPolicy {
    /// Who must have issued the id-token: one of the issuers that the server trusts.
    #[schema(value_type = String)]
    pub issuer: IssuerUrl,
    /// For whom it must have been issued, at most 256 bytes; none: for this server's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// What its claims must be: for each claim one of the patterns, in which `*` stands for any characters but `/`, and `**`
    /// for any. Of GitHub `repository_id` or `repository_owner_id` must be named, of GitLab `project_id` or `namespace_id`,
    /// of others any claim, without wildcard. At most 16 claims and 16 patterns each.
    #[serde(rename = "match")]
    #[schema(value_type = std::collections::BTreeMap<String, Vec<String>>)]
    pub conditions: Conditions,
    /// What the token may do; default: all of it.
    #[serde(default = "all")]
    pub may: BTreeSet<May>,
    /// The most urgent priority that it may ask for: 1 to 10, default 5.
    #[serde(default)]
    pub max_priority: Priority,
}

fn all() -> BTreeSet<May> {
    May::ALL.into()
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyView {
    /// `qgjob.oidc_policy/v1`.
    pub schema: String,
    /// The policy.
    #[serde(flatten)]
    pub policy: Policy,
}

impl From<Policy> for PolicyView {
    fn from(policy: Policy) -> Self {
        Self { schema: "qgjob.oidc_policy/v1".to_owned(), policy }
    }
}

/// Body of `POST /orgs/{org_id}/oidc-policies/test`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyTest {
    /// An id-token. It is checked like in a login, but stays unused, and one that has been used or is over by less than a
    /// day is tested all the same.
    pub token: String,
}

/// What a login with the id-token would have come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyTested {
    /// `qgjob.oidc_policy_test/v1`.
    pub schema: String,
    /// The policy that lets it in.
    pub policy_id: Option<policy::Id>,
    /// Who shows it.
    pub run: CiRun,
    /// Each policy of the org, in the order in which they count.
    pub policies: Vec<PolicyVerdict>,
}

/// What one policy says about an id-token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyVerdict {
    /// Which.
    pub policy_id: policy::Id,
    /// The first thing that is not as it wants it; none: it lets the id-token in.
    pub unmet: Option<String>,
}

macro_rules! hide {
    ($($type:ident)+) => {
        $(impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($type), "(…)"))
            }
        })+
    };
}
// They hold secrets, which must not appear in logs.
hide!(NewLogin LoggedIn PolicyTest);
