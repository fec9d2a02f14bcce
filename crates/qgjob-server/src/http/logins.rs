//! Keyless login: a pipeline shows its id-token and gets a token.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use qgjob_core::api::logins::{LoggedIn, NewLogin, Renewed};
use qgjob_core::api::problem::{Code, Problem};
use qgjob_core::model::ci::{CiRun, Grant};
use qgjob_core::model::name::OrgId;
use qgjob_core::model::policy::{Kind as IssuerKind, Policy};
use qgjob_core::model::refusal::Refusal;
use qgjob_core::model::token::{self, Kind, Token, secret};
use qgjob_core::trust::claims::{Claims, LEEWAY};
use qgjob_core::trust::id_token::Fault;
use qgjob_core::trust::{admission, renewal};

use super::App;
use super::auth::Caller;
use super::extract::Body;
use super::problem::Rejection;
use crate::credential::hash;
use crate::oidc;
use crate::store::Login;

impl From<oidc::Error> for Rejection {
    fn from(error: oidc::Error) -> Self {
        match error {
            oidc::Error::Fault(fault) => Self::new(Code::IdTokenInvalid, fault.to_string()),
            oidc::Error::Unavailable { retry_after_ms } => {
                let problem = Problem::new(Code::IssuerUnavailable, "its keys could not be fetched");
                Problem { retry_after_ms: Some(retry_after_ms), ..problem }.into()
            }
        }
    }
}

/// Takes an id-token of a CI service, which can be used once, and gives a token of kind `ci` for it, which works for 30
/// minutes, for the org and the run of the pipeline, as the org's policies have it.
#[utoipa::path(post, path = "/auth/oidc", tag = "logins", security(()), request_body = NewLogin,
    responses((status = 201, body = LoggedIn)))]
pub async fn log_in(
    State(app): State<App>,
    Body(new): Body<NewLogin>,
) -> Result<(StatusCode, Json<LoggedIn>), Rejection> {
    let answer = give(&app, &new).await;
    if answer.is_err() {
        app.metrics.auth_failed("id_token");
    }
    answer.map(|logged_in| (StatusCode::CREATED, Json(logged_in)))
}

async fn give(app: &App, new: &NewLogin) -> Result<LoggedIn, Rejection> {
    let now = app.clock.now();
    let signed = app.oidc.read(&new.token)?;
    // An issuer that no policy names is never asked for anything. Of whose policy it is, the answer tells nothing.
    let mut policies = app.store.policies(None).await?;
    policies.retain(|policy| policy.issuer == *signed.issuer());
    if policies.is_empty() {
        return Err(oidc::Error::from(Fault::Issuer).into());
    }
    let (kind, claims) = app.oidc.check(&signed, now, now).await?;
    let here = app.oidc.here();
    let for_us = |policy: &Policy| policy.audience.as_ref() == Some(&claims.audience);
    if claims.audience != here && !policies.iter().any(for_us) {
        let (given, wanted) = (claims.audience.clone(), here.to_owned());
        return Err(oidc::Error::from(Fault::Audience { given, wanted }).into());
    }
    policies.retain(|policy| new.org_id.as_ref().is_none_or(|org| policy.org_id == *org));
    let policy = admitted(&policies, kind, &claims, here)?;
    let run = claims.run(kind);
    let secret = secret(Kind::Ci, [app.clock.random(), app.clock.random()]);
    let token = Token {
        id: token::Id::new(now, app.clock.random()),
        kind: Kind::Ci,
        name: name(&run),
        org_id: Some(policy.org_id.clone()),
        agent_id: None,
        created_at: now,
        expires_at: Some(now + renewal::LIFE),
        ci: Some(Box::new(Grant {
            policy_id: policy.id,
            may: policy.may.clone(),
            max_priority: policy.max_priority,
            run,
        })),
    };
    let login = Login {
        issuer: claims.issuer.clone(),
        jti: claims.jti.clone(),
        // Longer than it can be shown, by twice the leeway.
        keep_until: claims.expires_at + LEEWAY * 3,
        token: token.clone(),
        hash: hash(&secret),
    };
    match app.store.log_in(login).await? {
        // The policy was removed meanwhile.
        Err(Refusal::NotFound { .. }) => return Err(not_allowed(kind, &claims)),
        answer => answer?,
    }
    tracing::info!(token = %token.id, policy = %policy.id, org = %policy.org_id, name = token.name, "a pipeline logged in");
    Ok(LoggedIn { schema: "qgjob.login/v1".to_owned(), expires_in_ms: left_ms(&token, now), token, secret })
}

/// The first policy that lets the id-token in; of several orgs only one may.
fn admitted<'p>(
    policies: &'p [Policy],
    kind: IssuerKind,
    claims: &Claims,
    here: &str,
) -> Result<&'p Policy, Rejection> {
    let mut letting_in =
        policies.iter().filter(|policy| admission::unmet(policy, kind, claims, here).is_none());
    let first = letting_in.next().ok_or_else(|| not_allowed(kind, claims))?;
    let is_of_another = |policy: &Policy| policy.org_id != first.org_id;
    if letting_in.any(is_of_another) {
        let detail = "policies of several orgs let it in: say which org is meant";
        return Err(Problem::new(Code::IdTokenNotAllowed, detail).field("/org_id", "is missing").into());
    }
    Ok(first)
}

/// Says what follows from the id-token alone, and nothing of which policies there are.
fn not_allowed(kind: IssuerKind, claims: &Claims) -> Rejection {
    let detail = match admission::is_of_a_foreign_event(kind, claims) {
        _ if claims.is_of_a_fork(kind) => "it is for the code of a fork, which is never let in".to_owned(),
        Some(event) => format!("it is of a {event} event, which only a policy that names the event lets in"),
        None => "it is good, and no policy for this org lets it in".to_owned(),
    };
    Rejection::new(Code::IdTokenNotAllowed, detail)
}

/// A name for lists, as short as those of other tokens.
fn name(run: &CiRun) -> String {
    let who = run.repository.as_deref().unwrap_or(&run.subject);
    let which = run.run_id.as_deref().map(|id| format!(" #{id}")).unwrap_or_default();
    let room = 64_usize.saturating_sub(which.len());
    let who = &who[..who.floor_char_boundary(room)];
    let mut name = format!("{who}{which}");
    name.truncate(name.floor_char_boundary(64));
    name
}

fn left_ms(token: &Token, now: Timestamp) -> u64 {
    let left = token.expires_at.map_or(0, |until| until.duration_since(now).as_millis());
    u64::try_from(left).unwrap_or(0)
}

/// Lets the token of kind `ci` that is sent work for 30 minutes more: for 2 hours from the login, and for 24 hours while what
/// it submitted is not over.
#[utoipa::path(post, path = "/auth/renew", tag = "logins", responses((status = 200, body = Renewed)))]
pub async fn renew(State(app): State<App>, caller: Caller) -> Result<Json<Renewed>, Rejection> {
    if caller.token.kind != Kind::Ci {
        return Err(Rejection::new(Code::Forbidden, "only a pipeline's login can be renewed"));
    }
    let now = app.clock.now();
    let token = app.store.renew_login(now, caller.token.id).await??;
    Ok(Json(Renewed {
        schema: "qgjob.login_renewed/v1".to_owned(),
        expires_in_ms: left_ms(&token, now),
        token,
    }))
}

/// Whether the org of a path is a name at all.
pub fn org(text: &str) -> Result<OrgId, Rejection> {
    text.parse().map_err(|bad| Rejection::field("org_id", format!("{bad}")))
}
