//! Keyless logins: policies, id-tokens that were used, tokens that were given for them.

use std::collections::BTreeSet;

use deadpool_postgres::Object;
use jiff::{SignedDuration, Timestamp};
use qgjob_core::model::event::Fact;
use qgjob_core::model::name::OrgId;
use qgjob_core::model::policy::{self, Policy};
use qgjob_core::model::refusal::Refusal;
use qgjob_core::model::token::{self, Token};
use qgjob_core::trust::renewal;

use super::library;
use super::locks;
use super::needs::take;
use super::rows;
use super::transaction::{Open, Stop, Verb, all, change, first, not_found};
use super::values::{At, Bin, Json, Num, Text, Word, json, number};
use super::work::{About, Work};
use crate::store::Login;

/// How long lists of tokens still show one that is over.
const SHOWN: SignedDuration = SignedDuration::from_hours(24);

pub(super) async fn add_policy(open: &Open, work: &mut Work, policy: Policy) -> Verb<()> {
    let c = open.client()?;
    // So that two at once do not make one too many.
    take(c, &BTreeSet::from([(locks::policies(&policy.org_id), false)])).await?;
    let sql = "SELECT count(*) AS count FROM oidc_policies WHERE org_id = $1";
    let count: Option<u64> = first(c, sql, &[&Word(&policy.org_id)], |row| number(row, "count")).await?;
    let (count, limit) = (count.unwrap_or(0), policy::MOST as u64);
    if count >= limit {
        return Err(Refusal::TooMany { what: "policies of an org", limit, given: count + 1 }.into());
    }
    let sql = "INSERT INTO oidc_policies (id, org_id, policy) VALUES ($1, $2, $3)";
    change(c, sql, &[&Bin(policy.id.0), &Word(&policy.org_id), &Json(&policy)]).await?;
    let fact = Fact::PolicyAdded { policy_id: policy.id };
    work.tell(policy.created_at, About::org(Some(&policy.org_id)), fact);
    Ok(())
}

pub(super) async fn remove_policy(
    open: &Open,
    work: &mut Work,
    now: Timestamp,
    org: OrgId,
    id: policy::Id,
) -> Verb<()> {
    let c = open.client()?;
    let sql = "DELETE FROM oidc_policies WHERE id = $1 AND org_id = $2";
    if change(c, sql, &[&Bin(id.0), &Word(&org)]).await? == 0 {
        return Err(not_found(format!("policy {id}")));
    }
    change(c, "DELETE FROM tokens WHERE policy_id = $1", &[&Bin(id.0)]).await?;
    work.tell(now, About::org(Some(&org)), Fact::PolicyRemoved { policy_id: id });
    Ok(())
}

pub(super) async fn policies(c: &Object, org: Option<&OrgId>) -> Verb<Vec<Policy>> {
    let sql = "SELECT policy FROM oidc_policies WHERE $1::text IS NULL OR org_id = $1 ORDER BY id";
    all(c, sql, &[&org.map(Word)], |row| json(row, "policy")).await
}

pub(super) async fn log_in(open: &Open, work: &mut Work, login: Login) -> Verb<()> {
    let Login { issuer, jti, keep_until, token, hash } = login;
    let (Some(org), Some(grant)) = (&token.org_id, &token.ci) else {
        return Err(Stop::Corrupt("a login without an org or a grant".to_owned()));
    };
    let c = open.client()?;
    // Whoever removes the policy waits for this, and then ends this token with the others.
    let sql = "SELECT id FROM oidc_policies WHERE id = $1 AND org_id = $2 FOR SHARE";
    if first(c, sql, &[&Bin(grant.policy_id.0), &Word(org)], |_| Ok(())).await?.is_none() {
        return Err(not_found(format!("policy {}", grant.policy_id)));
    }
    let sql =
        "INSERT INTO used_id_tokens (issuer, jti, keep_until) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    if change(c, sql, &[&Word(issuer), &Text(jti), &At(keep_until)]).await? == 0 {
        return Err(Refusal::IdTokenUsed.into());
    }
    let (policy_id, run) = (grant.policy_id, Box::new(grant.run.clone()));
    let fact = Fact::CiLoggedIn { token_id: token.id, policy_id, run };
    work.tell(token.created_at, About::org(Some(org)), fact);
    library::add_token(c, token, hash).await
}

pub(super) async fn renew(open: &Open, now: Timestamp, id: token::Id) -> Verb<Token> {
    let c = open.client()?;
    let sql = "SELECT * FROM tokens WHERE id = $1 AND ci IS NOT NULL AND expires_at > $2 FOR UPDATE";
    let found = first(c, sql, &[&Bin(id.0), &At(now)], rows::token).await?;
    let token = found.ok_or_else(|| not_found(format!("token {id}")))?;
    let sql = "SELECT 1 FROM runs WHERE token_id = $1 AND finished_at IS NULL LIMIT 1";
    let busy = first(c, sql, &[&Bin(id.0)], |_| Ok(())).await?.is_some();
    let until = renewal::until(token.created_at, now, busy).ok_or(Refusal::LoginOver)?;
    change(c, "UPDATE tokens SET expires_at = $2 WHERE id = $1", &[&Bin(id.0), &At(until)]).await?;
    Ok(Token { expires_at: Some(until), ..token })
}

/// Forgets what can be of no use any more: at most `most` of each.
pub(super) async fn forget(c: &Object, now: Timestamp, most: Num) -> Verb<()> {
    let sql = "DELETE FROM used_id_tokens WHERE (issuer, jti) IN
        (SELECT issuer, jti FROM used_id_tokens WHERE keep_until < $1 ORDER BY keep_until LIMIT $2)";
    change(c, sql, &[&At(now), &most]).await?;
    let sql = "DELETE FROM tokens WHERE id IN
        (SELECT id FROM tokens WHERE ci IS NOT NULL AND expires_at < $1 ORDER BY expires_at LIMIT $2)";
    change(c, sql, &[&At(now - SHOWN), &most]).await.map(|_| ())
}
