//! Making and listing tokens.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::name::OrgId;
use crate::model::token::{Kind, Token};

/// Body of `POST /tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// `api`, `registration` or `admin`.
    pub kind: Kind,
    /// A name for people, 1 to 64 bytes.
    pub name: String,
    /// The org it is limited to. Required for `api`; for `registration` it limits whose jobs the agent runs.
    #[serde(default)]
    pub org_id: Option<OrgId>,
    /// How long it works: 1 min to 366 days. Default 90 days, 1 h for `registration`.
    #[serde(default)]
    pub ttl_ms: Option<u64>,
}

/// Answer to `POST /tokens`: the only time the secret is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenWithSecret {
    /// The token.
    #[serde(flatten)]
    pub token: Token,
    /// What to send as `Authorization: Bearer`.
    pub secret: String,
}

/// Answer to `GET /whoami`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WhoAmI {
    /// `qgjob.whoami/v1`.
    pub schema: String,
    /// The token that was shown.
    #[serde(flatten)]
    pub token: Token,
}
