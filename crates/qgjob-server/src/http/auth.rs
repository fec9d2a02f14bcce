//! Who is calling. A route without one of these extractors is open to everybody; a test holds the list of those.

use axum::extract::{FromRequestParts, MatchedPath};
use axum::http::header;
use axum::http::request::Parts;
use qgjob_core::api::problem::Code;
use qgjob_core::model::agent;
use qgjob_core::model::name::OrgId;
use qgjob_core::model::priority::Priority;
use qgjob_core::model::sha256::Sha256;
use qgjob_core::model::token::{Kind, Token, well_formed};

use super::problem::Rejection;
use super::{App, permit};
use crate::credential::hash;
use crate::store::Scope;

/// Somebody with a token of any kind.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The token.
    pub token: Token,
    /// The hash of its secret.
    pub hash: Sha256,
}

impl FromRequestParts<App> for Caller {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Rejection> {
        let refused = |why: &'static str, detail: &'static str| {
            app.metrics.auth_failed(why);
            Rejection::new(Code::Unauthenticated, detail)
        };
        let given = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some(given) = given else { return Err(refused("missing", "no token was sent")) };
        let secret = match given.split_once(' ') {
            Some((scheme, secret)) if scheme.eq_ignore_ascii_case("bearer") => secret.trim(),
            _ => return Err(refused("malformed", "the authorization is not `Bearer <token>`")),
        };
        if !well_formed(secret) {
            return Err(refused("malformed", "this is no qgjob token: a character is wrong or missing"));
        }
        // Looked up by the hash of 256 random bits: how long it takes tells nothing about any token.
        let hash = hash(secret);
        match app.store.token_by_hash(hash, app.clock.now()).await? {
            Some(token) => Ok(Self { token, hash }),
            None => Err(refused("unknown", "the token is unknown, expired or was removed")),
        }
    }
}

/// A user of the public API: an admin, an org's token, or a pipeline as far as it is permitted.
#[derive(Debug, Clone)]
pub struct Member {
    /// The token.
    pub token: Token,
    /// What it sees.
    pub scope: Scope,
}

impl FromRequestParts<App> for Member {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Rejection> {
        let Caller { token, .. } = Caller::from_request_parts(parts, app).await?;
        let scope = match (token.kind, &token.org_id) {
            (Kind::Admin, _) => Scope::All,
            (Kind::Api, Some(org)) => Scope::Org(org.clone()),
            (Kind::Ci, Some(org)) if is_permitted(&token, parts) => Scope::Org(org.clone()),
            _ => return Err(forbidden(&token)),
        };
        Ok(Self { token, scope })
    }
}

/// Whether a pipeline's token allows the request. What is not named is not allowed.
fn is_permitted(token: &Token, parts: &Parts) -> bool {
    let route = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let needed = permit::needed(&parts.method, route);
    needed.zip(token.ci.as_ref()).is_some_and(|(needed, grant)| grant.may.contains(&needed))
}

impl Member {
    /// Refuses jobs that are more urgent than the token allows.
    ///
    /// # Errors
    /// `priority_too_high`.
    pub fn may_ask_for(&self, priority: Priority) -> Result<(), Rejection> {
        match self.token.ci.as_ref().map(|grant| grant.max_priority) {
            Some(most) if priority > most => {
                let detail = format!("priority {priority} was asked for, at most {most} is allowed");
                Err(Rejection::new(Code::PriorityTooHigh, detail))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a request that names another org.
    ///
    /// # Errors
    /// `forbidden`.
    pub fn may_write(&self, org: &OrgId) -> Result<(), Rejection> {
        if self.scope.sees(org) {
            return Ok(());
        }
        Err(Rejection::new(Code::Forbidden, format!("the token is not for org {org}")))
    }

    /// The org that is meant: the token's own, or for an admin the one that was named.
    ///
    /// # Errors
    /// `invalid_request` when an admin names none.
    pub fn org(&self, named: Option<OrgId>) -> Result<OrgId, Rejection> {
        match (&self.scope, named) {
            (Scope::Org(own), None) => Ok(own.clone()),
            (Scope::Org(own), Some(named)) if *own == named => Ok(named),
            (Scope::Org(_), Some(_)) => Err(Rejection::not_found("org")),
            (Scope::All, Some(named)) => Ok(named),
            (Scope::All, None) => {
                Err(Rejection::field("org_id", "an admin must say which org is meant: ?org_id="))
            }
        }
    }
}

/// An admin.
#[derive(Debug, Clone)]
pub struct Admin;

impl FromRequestParts<App> for Admin {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Rejection> {
        let Caller { token, .. } = Caller::from_request_parts(parts, app).await?;
        if token.kind == Kind::Admin { Ok(Self) } else { Err(forbidden(&token)) }
    }
}

/// An agent that is not registered yet.
#[derive(Debug, Clone)]
pub struct Newcomer {
    /// The registration token.
    pub token: Token,
    /// The hash of its secret.
    pub hash: Sha256,
}

impl FromRequestParts<App> for Newcomer {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Rejection> {
        let Caller { token, hash } = Caller::from_request_parts(parts, app).await?;
        if token.kind == Kind::Registration { Ok(Self { token, hash }) } else { Err(forbidden(&token)) }
    }
}

/// An agent in its session.
#[derive(Debug, Clone, Copy)]
pub struct Agent(pub agent::Id);

impl FromRequestParts<App> for Agent {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Rejection> {
        let Caller { token, .. } = Caller::from_request_parts(parts, app).await?;
        match (token.kind, token.agent_id) {
            (Kind::Agent, Some(id)) => Ok(Self(id)),
            _ => Err(forbidden(&token)),
        }
    }
}

/// The token's kind is not the one that is needed here.
fn forbidden(token: &Token) -> Rejection {
    Rejection::new(Code::Forbidden, format!("a token of kind {} does not allow this", token.kind))
}
