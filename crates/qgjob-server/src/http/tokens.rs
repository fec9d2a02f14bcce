//! Tokens: make, list, remove; and who the caller is.

use axum::Json;
use axum::extract::{OriginalUri, Path, State};
use axum::http::{HeaderMap, StatusCode};
use jiff::SignedDuration;
use qgjob_core::api::page::Page;
use qgjob_core::api::problem::{Code, Problem};
use qgjob_core::api::tokens::{NewToken, TokenWithSecret, WhoAmI};
use qgjob_core::model::token::{self, Kind, Token, secret};

use super::App;
use super::auth::{Admin, Caller};
use super::extract::{Body, Query};
use super::page::{self, PageQuery};
use super::problem::Rejection;
use crate::credential::hash;

const MINUTE: u64 = 60 * 1_000;
const DAY: u64 = 24 * 60 * MINUTE;

/// Makes a token. The answer is the only place where its secret is ever shown.
#[utoipa::path(post, path = "/tokens", tag = "tokens", request_body = NewToken, responses((status = 201, body = TokenWithSecret)))]
pub async fn create(
    State(app): State<App>,
    _: Admin,
    Body(new): Body<NewToken>,
) -> Result<(StatusCode, Json<TokenWithSecret>), Rejection> {
    let ttl = check(&new)?;
    let now = app.clock.now();
    let id = token::Id::new(now, app.clock.random());
    let expires_at = Some(now + SignedDuration::from_millis(i64::try_from(ttl).unwrap_or(i64::MAX)));
    let NewToken { kind, name, org_id, .. } = new;
    let token = Token { id, kind, name, org_id, agent_id: None, created_at: now, expires_at, ci: None };
    let secret = secret(kind, [app.clock.random(), app.clock.random()]);
    app.store.add_token(token.clone(), hash(&secret)).await?;
    Ok((StatusCode::CREATED, Json(TokenWithSecret { token, secret })))
}

/// How long the token is to work, in ms.
fn check(new: &NewToken) -> Result<u64, Rejection> {
    let mut problem = Problem::new(Code::InvalidRequest, "the token is not as described");
    let mut wrong = |pointer: &str, detail: &str| {
        problem.errors.push(qgjob_core::api::problem::FieldError {
            pointer: pointer.to_owned(),
            detail: detail.to_owned(),
        });
    };
    match (new.kind, &new.org_id) {
        (Kind::Agent, _) => wrong("/kind", "agents get their tokens when they register"),
        (Kind::Ci, _) => wrong("/kind", "pipelines get their tokens for their id-tokens"),
        (Kind::Api, None) => wrong("/org_id", "an api token needs an org"),
        (Kind::Admin, Some(_)) => wrong("/org_id", "an admin token is for all orgs"),
        _ => {}
    }
    if !(1..=64).contains(&new.name.len()) || new.name.chars().any(char::is_control) {
        wrong("/name", "must be 1 to 64 bytes without control characters");
    }
    let usual = if new.kind == Kind::Registration { 60 * MINUTE } else { 90 * DAY };
    let ttl = new.ttl_ms.unwrap_or(usual);
    if !(MINUTE..=366 * DAY).contains(&ttl) {
        wrong("/ttl_ms", "must be 1 min to 366 days");
    }
    if problem.errors.is_empty() { Ok(ttl) } else { Err(problem.into()) }
}

/// Tokens, oldest first, without their secrets.
#[utoipa::path(get, path = "/tokens", tag = "tokens", params(PageQuery),
    responses((status = 200, body = Page<Token>)))]
pub async fn list(
    State(app): State<App>,
    _: Admin,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<PageQuery>,
) -> Result<(HeaderMap, Json<Page<Token>>), Rejection> {
    page::of(app.store.tokens().await?, |token| token.id, &query, &uri)
}

/// Ends a token at once.
#[utoipa::path(delete, path = "/tokens/{id}", tag = "tokens", responses((status = 204)))]
pub async fn remove(
    State(app): State<App>,
    _: Admin,
    Path(id): Path<String>,
) -> Result<StatusCode, Rejection> {
    let id: token::Id = id.parse().map_err(|_| Rejection::not_found(format_args!("token {id}")))?;
    app.store.remove_token(id).await??;
    Ok(StatusCode::NO_CONTENT)
}

/// The token that was sent.
#[utoipa::path(get, path = "/whoami", tag = "tokens", responses((status = 200, body = WhoAmI)))]
pub async fn whoami(caller: Caller) -> Json<WhoAmI> {
    Json(WhoAmI { schema: "qgjob.whoami/v1".to_owned(), token: caller.token })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_life_of_a_token_is_held_to_its_bounds() {
        let new = |ttl_ms| NewToken { kind: Kind::Admin, name: "a".to_owned(), org_id: None, ttl_ms };
        let longest = 366 * DAY;
        assert_eq!(check(&new(None)).unwrap(), 90 * DAY);
        assert!(check(&new(Some(MINUTE))).is_ok() && check(&new(Some(MINUTE - 1))).is_err());
        assert!(check(&new(Some(longest))).is_ok() && check(&new(Some(longest + 1))).is_err());
    }
}
