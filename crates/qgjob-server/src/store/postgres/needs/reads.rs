//! What needs no lock: it does not change, or it may be a moment old.

use std::collections::BTreeSet;

use deadpool_postgres::Object;
use qgjob_core::model::name::OrgId;
use qgjob_core::model::{attempt, device, job};

use super::{Needs, bins};
use crate::store::postgres::claim;
use crate::store::postgres::rows;
use crate::store::postgres::transaction::{Verb, all};
use crate::store::postgres::values::{Bin, Digest, Num, Word, bin, digest, json, number, word};
use crate::store::postgres::work::{TryRow, Work};

impl Needs {
    /// Reads it, after all else is locked.
    pub(super) async fn read(&self, c: &Object, work: &mut Work) -> Verb<()> {
        if !self.blobs.is_empty() {
            let orgs: Vec<_> = self.blobs.iter().map(|(org, _)| Word(org.clone())).collect();
            let hashes: Vec<_> = self.blobs.iter().map(|(_, hash)| Digest(*hash)).collect();
            let sql = "SELECT b.org_id, b.sha256 FROM blobs b JOIN UNNEST($1::text[], $2::bytea[]) AS u(org_id, sha256)
                ON b.org_id = u.org_id AND b.sha256 = u.sha256";
            let found =
                all(c, sql, &[&orgs, &hashes], |row| Ok((word(row, "org_id")?, digest(row, "sha256")?)))
                    .await?;
            work.blobs.extend(found);
        }
        self.read_labels(c, work).await?;
        let statuses: BTreeSet<job::Id> = (self.held.iter().filter_map(|id| work.attempts.get(id)))
            .map(|row| row.attempt.job_id)
            .filter(|id| work.jobs.get(id).is_none())
            .collect();
        if !statuses.is_empty() {
            let sql = "SELECT id, status FROM jobs WHERE id = ANY($1)";
            let found = all(c, sql, &[&bins(&statuses, |id| id.0)], |row| {
                Ok((job::Id(bin(row, "id")?), word(row, "status")?))
            })
            .await?;
            work.statuses.extend(found);
        }
        let kinds = work.attempts.iter().filter(|(id, row)| {
            row.is_live() && (row.attempt.install.is_some() || self.installing.contains(id))
        });
        let kinds: BTreeSet<device::Id> = kinds.map(|(_, row)| row.attempt.device_id).collect();
        if !kinds.is_empty() {
            let sql = "SELECT id, kind FROM devices WHERE id = ANY($1)";
            let found = all(c, sql, &[&bins(&kinds, |id| id.0)], |row| {
                Ok((device::Id(bin(row, "id")?), word(row, "kind")?))
            })
            .await?;
            work.kinds.extend(found);
        }
        let claimed: BTreeSet<device::Id> = self.claims.iter().map(|(_, device, _)| *device).collect();
        let on =
            work.attempts.iter().filter(|(_, row)| row.is_live() && claimed.contains(&row.attempt.device_id));
        let on: Vec<Bin> = on.map(|(id, _)| Bin(id.0)).collect();
        if !on.is_empty() {
            let leases = claim::leases(c, &on).await?;
            work.leases.extend(leases.into_iter().map(|lease| (lease.attempt_id, lease)));
        }
        self.read_reports(c, work).await
    }

    async fn read_labels(&self, c: &Object, work: &mut Work) -> Verb<()> {
        let mut labels = self.labels.clone();
        let installing = self.installing.iter().filter_map(|id| work.attempts.get(id));
        let runs = installing.filter_map(|row| work.runs.get(&row.run_id));
        labels.extend(runs.map(|row| (row.run.org_id.clone(), row.run.app_version_id.clone())));
        if labels.is_empty() {
            return Ok(());
        }
        let (orgs, names): (Vec<_>, Vec<_>) =
            labels.into_iter().map(|(org, name)| (Word(org), Word(name))).unzip();
        let sql =
            "SELECT v.* FROM app_versions v JOIN UNNEST($1::text[], $2::text[]) AS u(org_id, app_version_id)
            ON v.org_id = u.org_id AND v.app_version_id = u.app_version_id";
        for bound in all(c, sql, &[&orgs, &names], rows::app_version).await? {
            work.app_versions.load((bound.org_id.clone(), bound.app_version_id.clone()), bound);
        }
        Ok(())
    }

    /// Tries and artifacts that are there already.
    async fn read_reports(&self, c: &Object, work: &mut Work) -> Verb<()> {
        if !self.tries.is_empty() {
            let attempts: Vec<_> = self.tries.iter().map(|(attempt, _)| Bin(attempt.0)).collect();
            let numbers: Vec<_> = self.tries.iter().map(|(_, seq)| Num(i64::from(*seq))).collect();
            let sql = "SELECT t.attempt_id, t.seq FROM tries t JOIN UNNEST($1::uuid[], $2::bigint[]) AS u(attempt_id, seq)
                ON t.attempt_id = u.attempt_id AND t.seq = u.seq";
            let known = all(c, sql, &[&attempts, &numbers], |row| {
                Ok(TryRow {
                    attempt_id: attempt::Id(bin(row, "attempt_id")?),
                    seq: number(row, "seq")?,
                    body: None,
                })
            })
            .await?;
            for row in known {
                work.tries.load((row.attempt_id, row.seq), row);
            }
        }
        if !self.judged.is_empty() {
            let sql = "SELECT attempt_id, seq, body FROM tries WHERE attempt_id = ANY($1)";
            let seen = all(c, sql, &[&bins(&self.judged, |id| id.0)], |row| {
                let (attempt_id, seq) = (attempt::Id(bin(row, "attempt_id")?), number(row, "seq")?);
                Ok(TryRow { attempt_id, seq, body: Some(json(row, "body")?) })
            })
            .await?;
            for row in seen {
                work.tries.load((row.attempt_id, row.seq), row);
            }
        }
        if !self.artifacts_of.is_empty() {
            let sql = "SELECT * FROM artifacts WHERE attempt_id = ANY($1)";
            let kept = all(c, sql, &[&bins(&self.artifacts_of, |id| id.0)], |row| {
                Ok((rows::artifact(row)?, word::<OrgId>(row, "org_id")?))
            })
            .await?;
            for (artifact, org) in kept {
                work.artifacts.load((artifact.attempt_id, artifact.name.clone()), (artifact, org));
            }
        }
        Ok(())
    }
}
