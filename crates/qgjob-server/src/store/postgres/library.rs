//! Builds and their labels, blobs, tokens.

use deadpool_postgres::Object;
use jiff::Timestamp;
use qgjob_core::model::build::{AppVersion, Build};
use qgjob_core::model::event::Fact;
use qgjob_core::model::name::OrgId;
use qgjob_core::model::refusal::Refusal;
use qgjob_core::model::sha256::Sha256;
use qgjob_core::model::token::{self, Token};

use super::flush;
use super::locks;
use super::needs::Needs;
use super::rows;
use super::transaction::{Param, Stop, Verb, change, first};
use super::values::{At, Bin, Digest, Word, num};
use super::work::{About, Work};
use crate::store::Answer;

pub(super) async fn add_blob(c: &Object, now: Timestamp, org: &OrgId, sha256: Sha256, size: u64) -> Verb<()> {
    let sql = "INSERT INTO blobs (org_id, sha256, size_bytes, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
    change(c, sql, &[&Word(org), &Digest(sha256), &num(size), &At(now)]).await.map(|_| ())
}

pub(super) fn bind_needs(wanted: &AppVersion, needs: &mut Needs) {
    needs.locks.insert(locks::label(&wanted.org_id, &wanted.app_version_id));
    needs.labels.insert((wanted.org_id.clone(), wanted.app_version_id.clone()));
}

pub(super) fn bind_app_version(work: &mut Work, wanted: &AppVersion) -> Verb<AppVersion> {
    let AppVersion { org_id, app_version_id, build, created_at } = wanted;
    let label = (org_id.clone(), app_version_id.clone());
    if let Some(bound) = work.app_versions.get(&label) {
        let Build { sha256, .. } = bound.build;
        if sha256 == build.sha256 {
            return Ok(bound.clone());
        }
        let app_version_id = app_version_id.clone();
        return Err(Refusal::LabelBound { app_version_id, bound: sha256, given: build.sha256 }.into());
    }
    work.app_versions.add(label, wanted.clone());
    let fact = Fact::AppVersionCreated { app_version_id: app_version_id.clone() };
    work.tell(*created_at, About::org(Some(org_id)), fact);
    Ok(wanted.clone())
}

pub(super) async fn add_token(c: &Object, token: Token, hash: Sha256) -> Verb<()> {
    let statement =
        flush::token(&(token, hash)).ok_or_else(|| Stop::Corrupt("no token is no token".to_owned()))?;
    let params: Vec<Param<'_>> = statement.params.iter().map(|param| &**param as Param<'_>).collect();
    change(c, &statement.sql, &params).await.map(|_| ())
}

pub(super) async fn remove_token(c: &Object, id: token::Id) -> Verb<Answer<()>> {
    match change(c, "DELETE FROM tokens WHERE id = $1", &[&Bin(id.0)]).await? {
        0 => Ok(Err(Refusal::NotFound { what: format!("token {id}") })),
        _ => Ok(Ok(())),
    }
}

/// The token of a secret's hash, unless it expired.
pub(super) async fn live_token(c: &Object, hash: Sha256, now: Timestamp) -> Verb<Option<Token>> {
    let sql = "SELECT * FROM tokens WHERE hash = $1 AND (expires_at IS NULL OR expires_at > $2)";
    first(c, sql, &[&Digest(hash), &At(now)], rows::token).await
}
