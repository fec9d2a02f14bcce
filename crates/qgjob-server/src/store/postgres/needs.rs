//! What verbs need of the database, gathered over all commands of a transaction, locked and read at once.
//!
//! Rows are locked in one order by every transaction: numbered locks, groups, tokens, agents, devices, attempts, jobs,
//! runs, each by rising id. So none waits for another that waits for it. What a statement has locked, the next one
//! reads as it is now.

mod reads;

use std::collections::BTreeSet;

use deadpool_postgres::Object;
use qgjob_core::model::name::{AppVersionId, ConcurrencyGroup, IdempotencyKey, OrgId};
use qgjob_core::model::sha256::Sha256;
use qgjob_core::model::{agent, attempt, device, group, job, run};

use super::limits;
use super::locks::{self, Lock};
use super::rows;
use super::transaction::{Verb, all, change};
use super::values::{
    Bin, Digest, Json, Num, Text, Word, at, bin, get, json, number, opt_bin, opt_json, word,
};
use super::work::{Key, RunRow, Work};

/// See the module. Each set names things; what does not exist is not there afterwards.
#[derive(Debug, Default)]
pub(super) struct Needs {
    /// Held alone.
    pub locks: BTreeSet<Lock>,
    /// Jobs that devices of agents claim. A job that another transaction holds is not waited for.
    pub claims: BTreeSet<(agent::Id, device::Id, job::Id)>,
    pub keys: BTreeSet<(OrgId, IdempotencyKey)>,
    pub blobs: BTreeSet<(OrgId, Sha256)>,
    /// Groups that are made if they are not there.
    pub groups: BTreeSet<group::Key>,
    /// Labels whose build is asked for.
    pub labels: BTreeSet<(OrgId, AppVersionId)>,
    /// Registration tokens by the hash of their secret, and the sessions of agents.
    pub tickets: BTreeSet<Sha256>,
    pub sessions_of: BTreeSet<agent::Id>,
    pub agents: BTreeSet<agent::Id>,
    /// Agents by their names, with their devices and sessions.
    pub agent_names: BTreeSet<String>,
    pub devices: BTreeSet<device::Id>,
    pub devices_of: BTreeSet<agent::Id>,
    /// Attempts, and the status of their jobs.
    pub held: BTreeSet<attempt::Id>,
    /// Attempts whose jobs may change with them, and their runs.
    pub worked: BTreeSet<attempt::Id>,
    /// Those of them whose devices get a build.
    pub installing: BTreeSet<attempt::Id>,
    /// Attempts whose tries are judged.
    pub judged: BTreeSet<attempt::Id>,
    /// Tries that may be known.
    pub tries: BTreeSet<(attempt::Id, u32)>,
    /// Attempts whose artifacts are asked for.
    pub artifacts_of: BTreeSet<attempt::Id>,
    /// Live attempts of agents and those on their devices, which are about to end.
    pub lost_of: BTreeSet<agent::Id>,
    /// Jobs and their runs.
    pub jobs: BTreeSet<job::Id>,
    /// Runs, with their jobs that are not over.
    pub runs: BTreeSet<run::Id>,
    /// Runs whose jobs are all asked for, because an earlier submission made them.
    pub replayed: BTreeSet<run::Id>,
}

fn bins<'i, T: 'i + Copy>(ids: impl IntoIterator<Item = &'i T>, bits: impl Fn(T) -> u128) -> Vec<Bin> {
    ids.into_iter().map(|id| Bin(bits(*id))).collect()
}

impl Needs {
    /// Locks and reads all of it.
    pub(super) async fn load(mut self, c: &Object, work: &mut Work) -> Verb<()> {
        self.resolve(c, work).await?;
        self.lock(c, work).await?;
        self.load_keys(c, work).await?;
        self.make_groups(c, work).await?;
        self.load_agents(c, work).await?;
        self.load_devices(c, work).await?;
        self.load_attempts(c, work).await?;
        self.load_jobs(c, work).await?;
        self.load_runs(c, work).await?;
        self.read(c, work).await
    }

    /// Finds what never changes: the groups of jobs that are claimed, and the devices of attempts that install.
    async fn resolve(&mut self, c: &Object, work: &mut Work) -> Verb<()> {
        if !self.installing.is_empty() {
            let ids = bins(&self.installing, |id| id.0);
            let sql = "SELECT device_id FROM attempts WHERE id = ANY($1)";
            self.devices.extend(all(c, sql, &[&ids], |row| Ok(device::Id(bin(row, "device_id")?))).await?);
        }
        if !self.claims.is_empty() {
            let ids: Vec<Bin> = self.claims.iter().map(|(_, _, job)| Bin(job.0)).collect();
            let sql = "SELECT g.id, g.key, v.build FROM groups g
                LEFT JOIN app_versions v ON v.org_id = g.org_id AND v.app_version_id = g.app_version_id
                WHERE g.id IN (SELECT group_id FROM jobs WHERE id = ANY($1))";
            let found = all(c, sql, &[&ids], |row| {
                Ok((get(row, "id")?, (json(row, "key")?, opt_json(row, "build")?)))
            })
            .await?;
            work.groups.extend(found);
        }
        Ok(())
    }

    /// Takes the numbered locks and reads the limits that claims must keep to.
    async fn lock(&mut self, c: &Object, work: &mut Work) -> Verb<()> {
        let orgs: BTreeSet<&OrgId> = work.groups.values().map(|(key, _)| &key.org_id).collect();
        self.locks.extend(self.keys.iter().map(|(org, key)| locks::key(org, key)));
        self.locks.extend(self.agent_names.iter().map(|name| locks::agent_name(name)));
        let shared: BTreeSet<Lock> = orgs.iter().map(|org| locks::limits(org)).collect();
        let both: BTreeSet<(Lock, bool)> = self.locks.iter().map(|lock| (*lock, false)).collect();
        let both: BTreeSet<_> = both.into_iter().chain(shared.iter().map(|lock| (*lock, true))).collect();
        take(c, &both).await?;
        if orgs.is_empty() {
            return Ok(());
        }
        let names: Vec<Word<OrgId>> = orgs.iter().map(|org| Word((*org).clone())).collect();
        work.limits = limits::read_of(c, Some(&names)).await?;
        let mut counted = BTreeSet::new();
        let mut alone = BTreeSet::new();
        for (key, _) in work.groups.values() {
            if work.limits.org(&key.org_id).max_running.is_some() {
                alone.insert((locks::cap(&key.org_id), false));
                counted.insert(&key.org_id);
            }
            if let Some(name) = &key.concurrency_group {
                alone.insert((locks::concurrency(&key.org_id, name), false));
                counted.insert(&key.org_id);
            }
        }
        if counted.is_empty() {
            return Ok(());
        }
        take(c, &alone).await?;
        let names: Vec<Word<OrgId>> = counted.iter().map(|org| Word((*org).clone())).collect();
        let sql = "SELECT org_id, concurrency_group, count(*) AS live FROM attempts
            WHERE ended_at IS NULL AND org_id = ANY($1) GROUP BY org_id, concurrency_group";
        let running = all(c, sql, &[&names], |row| {
            let name: Option<Word<ConcurrencyGroup>> = get(row, "concurrency_group")?;
            Ok(((word(row, "org_id")?, name.map(|name| name.0)), number(row, "live")?))
        })
        .await?;
        for (key, live) in running {
            work.running.load(key, live);
        }
        Ok(())
    }

    /// Keys, and the runs that they name.
    async fn load_keys(&mut self, c: &Object, work: &mut Work) -> Verb<()> {
        if self.keys.is_empty() {
            return Ok(());
        }
        let (orgs, keys): (Vec<_>, Vec<_>) =
            self.keys.iter().map(|(org, key)| (Word(org.clone()), Word(key.clone()))).unzip();
        let sql = "SELECT k.* FROM idempotency_keys k JOIN UNNEST($1::text[], $2::text[]) AS u(org_id, key)
            ON k.org_id = u.org_id AND k.key = u.key";
        let found = all(c, sql, &[&orgs, &keys], |row| {
            Ok(Key {
                org_id: word(row, "org_id")?,
                key: word(row, "key")?,
                fingerprint: get::<Option<Digest>>(row, "fingerprint")?.map(|digest| digest.0),
                run_id: opt_bin(row, "run_id")?.map(run::Id),
                created_at: at(row, "created_at")?,
            })
        })
        .await?;
        for key in found {
            if let Some(run) = key.run_id {
                self.runs.insert(run);
                self.replayed.insert(run);
            }
            work.keys.load((key.org_id.clone(), key.key.clone()), key);
        }
        Ok(())
    }

    async fn make_groups(&self, c: &Object, work: &mut Work) -> Verb<()> {
        if self.groups.is_empty() {
            return Ok(());
        }
        let keys: Vec<Json<group::Key>> = self.groups.iter().map(|key| Json(key.clone())).collect();
        let known = |row: &tokio_postgres::Row| Ok((json(row, "key")?, get(row, "id")?));
        let sql = "SELECT key, id FROM groups WHERE key = ANY($1)";
        work.group_ids.extend(all(c, sql, &[&keys], known).await?);
        let new = self.groups.iter().filter(|key| !work.group_ids.contains_key(*key));
        let new: Vec<_> = new.cloned().collect();
        if new.is_empty() {
            return Ok(());
        }
        let orgs: Vec<_> = new.iter().map(|key| Word(key.org_id.clone())).collect();
        let labels: Vec<_> = new.iter().map(|key| Word(key.app_version_id.clone())).collect();
        let new: Vec<_> = new.into_iter().map(Json).collect();
        let insert = "INSERT INTO groups (key, org_id, app_version_id) SELECT * FROM UNNEST($1::text[], $2::text[], $3::text[])
            ON CONFLICT (key) DO NOTHING";
        change(c, insert, &[&new, &orgs, &labels]).await?;
        work.group_ids.extend(all(c, sql, &[&new], known).await?);
        Ok(())
    }

    async fn load_agents(&mut self, c: &Object, work: &mut Work) -> Verb<()> {
        if !self.agent_names.is_empty() {
            let names: Vec<_> = self.agent_names.iter().map(Text).collect();
            let sql = "SELECT id FROM agents WHERE name = ANY($1)";
            for id in all(c, sql, &[&names], |row| Ok(agent::Id(bin(row, "id")?))).await? {
                self.agents.insert(id);
                self.devices_of.insert(id);
                self.sessions_of.insert(id);
            }
        }
        if !self.tickets.is_empty() || !self.sessions_of.is_empty() {
            let hashes: Vec<_> = self.tickets.iter().map(|hash| Digest(*hash)).collect();
            let agents = bins(&self.sessions_of, |id| id.0);
            let sql =
                "SELECT * FROM tokens WHERE hash = ANY($1) OR agent_id = ANY($2) ORDER BY id FOR UPDATE";
            for (token, hash) in all(c, sql, &[&hashes, &agents], rows::token_row).await? {
                work.tokens.load(token.id, (token, hash));
            }
        }
        if !self.agents.is_empty() {
            let sql = "SELECT * FROM agents WHERE id = ANY($1) ORDER BY id FOR UPDATE";
            for row in all(c, sql, &[&bins(&self.agents, |id| id.0)], rows::agent_row).await? {
                work.agents.load(row.agent.id, row);
            }
        }
        let claimers: BTreeSet<agent::Id> = self.claims.iter().map(|(agent, _, _)| *agent).collect();
        let claimers: Vec<_> = claimers.difference(&self.agents).map(|id| Bin(id.0)).collect();
        if !claimers.is_empty() {
            let sql = "SELECT * FROM agents WHERE id = ANY($1) ORDER BY id FOR SHARE";
            for row in all(c, sql, &[&claimers], rows::agent_row).await? {
                work.agents.load(row.agent.id, row);
            }
        }
        Ok(())
    }

    async fn load_devices(&mut self, c: &Object, work: &mut Work) -> Verb<()> {
        let mut devices = self.devices.clone();
        devices.extend(self.claims.iter().map(|(_, device, _)| *device));
        if devices.is_empty() && self.devices_of.is_empty() {
            return Ok(());
        }
        let (ids, agents) = (bins(&devices, |id| id.0), bins(&self.devices_of, |id| id.0));
        let sql = "SELECT * FROM devices WHERE id = ANY($1) OR agent_id = ANY($2) ORDER BY id FOR UPDATE";
        for row in all(c, sql, &[&ids, &agents], rows::device_row).await? {
            work.devices.load(row.device.id, row);
        }
        let owners = work.devices.iter().map(|(_, row)| row.device.agent_id);
        let owners: Vec<_> = owners.filter(|id| work.agents.get(id).is_none()).map(|id| Bin(id.0)).collect();
        if !owners.is_empty() {
            let sql = "SELECT * FROM agents WHERE id = ANY($1)";
            for row in all(c, sql, &[&owners], rows::agent_row).await? {
                work.agents.load(row.agent.id, row);
            }
        }
        Ok(())
    }

    async fn load_attempts(&mut self, c: &Object, work: &mut Work) -> Verb<()> {
        let mut ids: BTreeSet<attempt::Id> = self.held.union(&self.worked).copied().collect();
        ids.extend(self.tries.iter().map(|(attempt, _)| *attempt));
        ids.extend(&self.artifacts_of);
        let claimed = self.claims.iter().map(|(_, device, _)| *device);
        let lost = work.devices.iter().filter(|(_, row)| self.lost_of.contains(&row.device.agent_id));
        let on: BTreeSet<device::Id> = claimed.chain(lost.map(|(id, _)| *id)).collect();
        if !(ids.is_empty() && on.is_empty() && self.lost_of.is_empty()) {
            let (ids, on, of) = (bins(&ids, |id| id.0), bins(&on, |id| id.0), bins(&self.lost_of, |id| id.0));
            let sql = "SELECT * FROM attempts WHERE id IN (SELECT unnest($1::uuid[]) UNION ALL
                    SELECT id FROM attempts WHERE ended_at IS NULL AND (device_id = ANY($2) OR agent_id = ANY($3)))
                ORDER BY id FOR UPDATE";
            for row in all(c, sql, &[&ids, &on, &of], rows::attempt_row).await? {
                work.attempts.load(row.attempt.id, row);
            }
        }
        // For what devices show: looked at only.
        let looked_at = work.devices.iter().map(|(id, _)| *id).filter(|id| !on.contains(id));
        let looked_at: Vec<_> = looked_at.map(|id| Bin(id.0)).collect();
        if !looked_at.is_empty() {
            let sql = "SELECT device_id, id FROM attempts WHERE ended_at IS NULL AND device_id = ANY($1)";
            let found = all(c, sql, &[&looked_at], |row| {
                Ok((device::Id(bin(row, "device_id")?), attempt::Id(bin(row, "id")?)))
            })
            .await?;
            work.held_by.extend(found);
        }
        Ok(())
    }

    async fn load_jobs(&mut self, c: &Object, work: &mut Work) -> Verb<()> {
        let device_of = |id: &device::Id| work.devices.get(id).map(|row| row.device.agent_id);
        for (id, row) in work.attempts.iter() {
            let (agent, owner) = (row.attempt.agent_id, device_of(&row.attempt.device_id));
            let is_lost = self.lost_of.contains(&agent) || owner.is_some_and(|id| self.lost_of.contains(&id));
            if self.worked.contains(id) || (is_lost && row.is_live()) {
                self.jobs.insert(row.attempt.job_id);
            }
        }
        if !(self.jobs.is_empty() && self.runs.is_empty() && self.replayed.is_empty()) {
            let (ids, runs) = (bins(&self.jobs, |id| id.0), bins(&self.runs, |id| id.0));
            let replayed = bins(&self.replayed, |id| id.0);
            let sql = format!(
                "{} WHERE j.id = ANY($1) OR (j.run_id = ANY($2) AND j.status <> 'completed') OR j.run_id = ANY($3)
                    ORDER BY j.id FOR UPDATE OF j",
                rows::JOB
            );
            for row in all(c, &sql, &[&ids, &runs, &replayed], rows::job_row).await? {
                work.jobs.load(row.job.id, row);
            }
        }
        let claimed = self.claims.iter().map(|(_, _, job)| *job).filter(|id| work.jobs.get(id).is_none());
        let claimed: BTreeSet<job::Id> = claimed.collect();
        if !claimed.is_empty() {
            let sql = format!("{} WHERE j.id = ANY($1) ORDER BY j.id FOR UPDATE OF j SKIP LOCKED", rows::JOB);
            for row in all(c, &sql, &[&bins(&claimed, |id| id.0)], rows::job_row).await? {
                work.jobs.load(row.job.id, row);
            }
        }
        Ok(())
    }

    async fn load_runs(&self, c: &Object, work: &mut Work) -> Verb<()> {
        let mut ids: BTreeSet<run::Id> = work.jobs.iter().map(|(_, row)| row.job.run_id).collect();
        ids.extend(&self.runs);
        if ids.is_empty() {
            return Ok(());
        }
        let sql = format!("{} WHERE r.id = ANY($1) ORDER BY r.id FOR UPDATE OF r", rows::RUN);
        for (run, installs) in all(c, &sql, &[&bins(&ids, |id| id.0)], rows::run).await? {
            work.runs.load(run.id, RunRow { run, installs, spec: None, token_id: None });
        }
        Ok(())
    }
}

/// Takes locks in the order of their numbers; those that are marked are shared.
pub(super) async fn take(c: &Object, locks: &BTreeSet<(Lock, bool)>) -> Verb<()> {
    if locks.is_empty() {
        return Ok(());
    }
    let numbers: Vec<Num> = locks.iter().map(|(lock, _)| Num(*lock)).collect();
    let shared: Vec<bool> = locks.iter().map(|(_, shared)| *shared).collect();
    let sql = "SELECT CASE WHEN u.shared THEN pg_advisory_xact_lock_shared(u.number)
        ELSE pg_advisory_xact_lock(u.number) END FROM UNNEST($1::bigint[], $2::boolean[]) AS u(number, shared)";
    all(c, sql, &[&numbers, &shared], |_| Ok(())).await.map(|_| ())
}
