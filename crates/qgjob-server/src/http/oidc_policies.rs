//! Policies for keyless logins. Admins decide whom an org lets in; its members see it.

use axum::Json;
use axum::extract::{OriginalUri, Path, State};
use axum::http::{HeaderMap, StatusCode};
use qgjob_core::api::logins::{NewPolicy, PolicyTest, PolicyTested, PolicyVerdict, PolicyView};
use qgjob_core::api::page::Page;
use qgjob_core::api::problem::{Code, Problem};
use qgjob_core::model::policy::{self, Policy};
use qgjob_core::trust::admission;

use super::App;
use super::auth::{Admin, Member};
use super::extract::{Body, Query};
use super::logins;
use super::orgs::visible;
use super::page::{self, PageQuery};
use super::problem::Rejection;

/// The org's policies, in the order in which they count.
#[utoipa::path(get, path = "/orgs/{org_id}/oidc-policies", tag = "logins", params(PageQuery),
    responses((status = 200, body = Page<PolicyView>)))]
pub async fn list(
    State(app): State<App>,
    member: Member,
    Path(org): Path<String>,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<PageQuery>,
) -> Result<(HeaderMap, Json<Page<PolicyView>>), Rejection> {
    let found = app.store.policies(Some(&visible(&member, &org)?)).await?;
    page::of(found.into_iter().map(PolicyView::from).collect(), |view| view.policy.id, &query, &uri)
}

/// Adds a policy, behind those that the org has.
#[utoipa::path(post, path = "/orgs/{org_id}/oidc-policies", tag = "logins", request_body = NewPolicy,
    responses((status = 201, body = PolicyView)))]
pub async fn add(
    State(app): State<App>,
    _: Admin,
    Path(org): Path<String>,
    Body(new): Body<NewPolicy>,
) -> Result<(StatusCode, Json<PolicyView>), Rejection> {
    let org_id = logins::org(&org)?;
    check(&app, &new)?;
    let now = app.clock.now();
    let NewPolicy { issuer, audience, conditions, may, max_priority } = new;
    let id = policy::Id::new(now, app.clock.random());
    let policy = Policy { id, org_id, issuer, audience, conditions, may, max_priority, created_at: now };
    app.store.add_policy(policy.clone()).await??;
    Ok((StatusCode::CREATED, Json(policy.into())))
}

fn check(app: &App, new: &NewPolicy) -> Result<(), Rejection> {
    let mut problem = Problem::new(Code::InvalidRequest, "the policy is not as described");
    match app.oidc.kind(&new.issuer) {
        None => {
            let trusted = app.oidc.issuers().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let detail = format!("is not an issuer that this server trusts ({trusted}); see --oidc-issuer");
            problem = problem.field("/issuer", detail);
        }
        Some(kind) => {
            if let Some((claim, why)) = admission::unfit(&new.conditions, kind) {
                let pointer =
                    if claim.is_empty() { String::new() } else { "/".to_owned() + &claim.replace('/', "~1") };
                problem = problem.field(format!("/match{pointer}"), why);
            }
        }
    }
    let fits =
        |audience: &String| (1..=256).contains(&audience.len()) && !audience.chars().any(char::is_control);
    if new.audience.as_ref().is_some_and(|audience| !fits(audience)) {
        problem = problem.field("/audience", "must be 1 to 256 bytes without control characters");
    }
    if new.may.is_empty() {
        problem = problem.field("/may", "must name at least one of submit, read, cancel");
    }
    if problem.errors.is_empty() { Ok(()) } else { Err(problem.into()) }
}

/// Removes a policy. The tokens that it let in end at once.
#[utoipa::path(delete, path = "/orgs/{org_id}/oidc-policies/{id}", tag = "logins", responses((status = 204)))]
pub async fn remove(
    State(app): State<App>,
    _: Admin,
    Path((org, id)): Path<(String, String)>,
) -> Result<StatusCode, Rejection> {
    let id = id.parse().map_err(|_| Rejection::not_found(format_args!("policy {id}")))?;
    app.store.remove_policy(app.clock.now(), &logins::org(&org)?, id).await??;
    Ok(StatusCode::NO_CONTENT)
}

/// Says what a login with an id-token would come to, policy by policy. No token is made, and the id-token stays unused.
#[utoipa::path(post, path = "/orgs/{org_id}/oidc-policies/test", tag = "logins", request_body = PolicyTest,
    responses((status = 200, body = PolicyTested)))]
pub async fn test(
    State(app): State<App>,
    member: Member,
    Path(org): Path<String>,
    Body(test): Body<PolicyTest>,
) -> Result<Json<PolicyTested>, Rejection> {
    let org = visible(&member, &org)?;
    let signed = app.oidc.read(&test.token)?;
    let now = app.clock.now();
    let (kind, claims) = app.oidc.check(&signed, now, signed.newest_before(now)).await?;
    let verdict = |policy: &Policy| PolicyVerdict {
        policy_id: policy.id,
        unmet: admission::unmet(policy, kind, &claims, app.oidc.here()),
    };
    let policies: Vec<PolicyVerdict> = app.store.policies(Some(&org)).await?.iter().map(verdict).collect();
    let first = policies.iter().find(|verdict| verdict.unmet.is_none());
    Ok(Json(PolicyTested {
        schema: "qgjob.oidc_policy_test/v1".to_owned(),
        policy_id: first.map(|verdict| verdict.policy_id),
        run: claims.run(kind),
        policies,
    }))
}
