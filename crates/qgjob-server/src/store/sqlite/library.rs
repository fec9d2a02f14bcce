//! Blobs, app versions and tokens.

use jiff::Timestamp;
use qgjob_core::model::agent;
use qgjob_core::model::build::{AppVersion, Build};
use qgjob_core::model::event::Fact;
use qgjob_core::model::name::OrgId;
use qgjob_core::model::refusal::Refusal;
use qgjob_core::model::sha256::Sha256;
use qgjob_core::model::token::{self, Token};
use rusqlite::{Connection, Row};

use super::rows::{self, At, Bin, Digest, Json, Word, at, json, word};
use super::transaction::{About, Tx, Verb, first, not_found};

pub(super) fn add_blob(
    tx: &Tx<'_>,
    now: Timestamp,
    org: &OrgId,
    sha256: Sha256,
    size_bytes: u64,
) -> Verb<()> {
    let sql = "INSERT INTO blobs (org_id, sha256, size_bytes, created_at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
    tx.change(sql, (Word(org), Digest(sha256), size_bytes, At(now)))?;
    Ok(())
}

pub(super) fn app_version(row: &Row<'_>) -> rusqlite::Result<AppVersion> {
    Ok(AppVersion {
        org_id: word(row, "org_id")?,
        app_version_id: word(row, "app_version_id")?,
        build: json(row, "build")?,
        created_at: at(row, "created_at")?,
    })
}

pub(super) fn bind_app_version(tx: &mut Tx<'_>, wanted: &AppVersion) -> Verb<AppVersion> {
    let AppVersion { org_id, app_version_id, build, created_at } = wanted;
    let sql = "SELECT * FROM app_versions WHERE org_id = ?1 AND app_version_id = ?2";
    if let Some(bound) = tx.first(sql, (Word(org_id), Word(app_version_id)), app_version)? {
        let Build { sha256, .. } = bound.build;
        if sha256 == build.sha256 {
            return Ok(bound);
        }
        let app_version_id = app_version_id.clone();
        return Err(Refusal::LabelBound { app_version_id, bound: sha256, given: build.sha256 }.into());
    }
    let sql = "INSERT INTO app_versions (org_id, app_version_id, build, created_at) VALUES (?1, ?2, ?3, ?4)";
    tx.change(sql, (Word(org_id), Word(app_version_id), Json(build), At(*created_at)))?;
    let about = About { org_id: Some(org_id), run_id: None, job_id: None };
    tx.tell(*created_at, about, Fact::AppVersionCreated { app_version_id: app_version_id.clone() });
    Ok(wanted.clone())
}

pub(super) fn insert_token(tx: &Tx<'_>, token: &Token, hash: Sha256) -> Verb<()> {
    let sql = "INSERT INTO tokens (id, hash, kind, name, org_id, agent_id, created_at, expires_at, ci)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    let (org, agent) = (token.org_id.as_ref().map(Word), token.agent_id.map(|id| Bin(id.0)));
    let (created_at, expires_at) = (At(token.created_at), token.expires_at.map(At));
    let (id, hash, kind) = (Bin(token.id.0), Digest(hash), Word(token.kind));
    let ci = token.ci.as_ref().map(Json);
    tx.change(sql, (id, hash, kind, &token.name, org, agent, created_at, expires_at, ci))?;
    Ok(())
}

/// Ends the sessions of an agent.
pub(super) fn delete_tokens_of(tx: &mut Tx<'_>, id: agent::Id) -> Verb<()> {
    tx.end_tokens();
    tx.change("DELETE FROM tokens WHERE agent_id = ?1", [Bin(id.0)])?;
    Ok(())
}

pub(super) fn delete_token(tx: &mut Tx<'_>, id: token::Id) -> Verb<()> {
    tx.end_tokens();
    match tx.change("DELETE FROM tokens WHERE id = ?1", [Bin(id.0)])? {
        0 => Err(not_found(format!("token {id}"))),
        _ => Ok(()),
    }
}

/// The token of a secret's hash, unless it expired.
pub(super) fn live_token(
    connection: &Connection,
    hash: Sha256,
    now: Timestamp,
) -> rusqlite::Result<Option<Token>> {
    let sql = "SELECT * FROM tokens WHERE hash = ?1 AND (expires_at IS NULL OR expires_at > ?2)";
    first(connection, sql, (Digest(hash), At(now)), rows::token)
}
