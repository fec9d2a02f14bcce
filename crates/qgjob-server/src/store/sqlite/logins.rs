//! Keyless logins: policies, id-tokens that were used, tokens that were given for them.

use jiff::{SignedDuration, Timestamp};
use qgjob_core::model::event::Fact;
use qgjob_core::model::name::OrgId;
use qgjob_core::model::policy::{self, Policy};
use qgjob_core::model::refusal::Refusal;
use qgjob_core::model::token::{self, Token};
use qgjob_core::trust::renewal;
use rusqlite::Connection;

use super::library;
use super::rows::{self, At, Bin, Json, Word, json};
use super::transaction::{About, Stop, Tx, Verb, all, not_found};
use crate::store::Login;

/// How long lists of tokens still show one that is over.
const SHOWN: SignedDuration = SignedDuration::from_hours(24);

fn about(org: &OrgId) -> About<'_> {
    About { org_id: Some(org), run_id: None, job_id: None }
}

pub(super) fn add_policy(tx: &mut Tx<'_>, policy: &Policy) -> Verb<()> {
    let sql = "SELECT count(*) FROM oidc_policies WHERE org_id = ?1";
    let count: u64 = tx.first(sql, [Word(&policy.org_id)], |row| row.get(0))?.unwrap_or(0);
    let limit = policy::MOST as u64;
    if count >= limit {
        return Err(Refusal::TooMany { what: "policies of an org", limit, given: count + 1 }.into());
    }
    let sql = "INSERT INTO oidc_policies (id, org_id, policy) VALUES (?1, ?2, ?3)";
    tx.change(sql, (Bin(policy.id.0), Word(&policy.org_id), Json(policy)))?;
    tx.tell(policy.created_at, about(&policy.org_id), Fact::PolicyAdded { policy_id: policy.id });
    Ok(())
}

pub(super) fn remove_policy(tx: &mut Tx<'_>, now: Timestamp, org: &OrgId, id: policy::Id) -> Verb<()> {
    let sql = "DELETE FROM oidc_policies WHERE id = ?1 AND org_id = ?2";
    if tx.change(sql, (Bin(id.0), Word(org)))? == 0 {
        return Err(not_found(format!("policy {id}")));
    }
    tx.end_tokens();
    tx.change("DELETE FROM tokens WHERE ci IS NOT NULL AND ci ->> '$.policy_id' = ?1", [Word(id)])?;
    tx.tell(now, about(org), Fact::PolicyRemoved { policy_id: id });
    Ok(())
}

pub(super) fn policies(connection: &Connection, org: Option<&OrgId>) -> rusqlite::Result<Vec<Policy>> {
    let sql = "SELECT policy FROM oidc_policies WHERE ?1 IS NULL OR org_id = ?1 ORDER BY id";
    all(connection, sql, [org.map(Word)], |row| json(row, "policy"))
}

pub(super) fn log_in(tx: &mut Tx<'_>, login: &Login) -> Verb<()> {
    let Login { issuer, jti, keep_until, token, hash } = login;
    let (Some(org), Some(grant)) = (&token.org_id, &token.ci) else {
        return Err(Stop::Corrupt("a login without an org or a grant".to_owned()));
    };
    let sql = "SELECT 1 FROM oidc_policies WHERE id = ?1 AND org_id = ?2";
    if tx.first(sql, (Bin(grant.policy_id.0), Word(org)), |_| Ok(()))?.is_none() {
        return Err(not_found(format!("policy {}", grant.policy_id)));
    }
    let sql =
        "INSERT INTO used_id_tokens (issuer, jti, keep_until) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
    if tx.change(sql, (Word(issuer), jti, At(*keep_until)))? == 0 {
        return Err(Refusal::IdTokenUsed.into());
    }
    library::insert_token(tx, token, *hash)?;
    let (policy_id, run) = (grant.policy_id, Box::new(grant.run.clone()));
    tx.tell(token.created_at, about(org), Fact::CiLoggedIn { token_id: token.id, policy_id, run });
    Ok(())
}

pub(super) fn renew(tx: &mut Tx<'_>, now: Timestamp, id: token::Id) -> Verb<Token> {
    let sql = "SELECT * FROM tokens WHERE id = ?1 AND ci IS NOT NULL AND expires_at > ?2";
    let found = tx.first(sql, (Bin(id.0), At(now)), rows::token)?;
    let token = found.ok_or_else(|| not_found(format!("token {id}")))?;
    let sql = "SELECT 1 FROM runs WHERE token_id = ?1 AND finished_at IS NULL LIMIT 1";
    let busy = tx.first(sql, [Bin(id.0)], |_| Ok(()))?.is_some();
    let until = renewal::until(token.created_at, now, busy).ok_or(Refusal::LoginOver)?;
    // Whoever remembers the token asks again when its earlier end has come.
    tx.change("UPDATE tokens SET expires_at = ?2 WHERE id = ?1", (Bin(id.0), At(until)))?;
    Ok(Token { expires_at: Some(until), ..token })
}

/// Forgets what can be of no use any more: at most `most` of each.
pub(super) fn forget(tx: &mut Tx<'_>, now: Timestamp, most: u32) -> Verb<()> {
    let sql = "DELETE FROM used_id_tokens WHERE (issuer, jti) IN
        (SELECT issuer, jti FROM used_id_tokens WHERE keep_until < ?1 ORDER BY keep_until LIMIT ?2)";
    tx.change(sql, (At(now), most))?;
    let sql = "DELETE FROM tokens WHERE id IN
        (SELECT id FROM tokens WHERE ci IS NOT NULL AND expires_at < ?1 ORDER BY expires_at LIMIT ?2)";
    tx.change(sql, (At(now - SHOWN), most))?;
    Ok(())
}
