//! What a transaction works on: rows that it has locked, in memory, and the events of what is done to them. Verbs are
//! plain functions of it; they ask the database nothing. What a verb needs is in [`Needs`](super::needs::Needs).

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use qgjob_core::api::agents::Lease;
use qgjob_core::api::runs::Installs;
use qgjob_core::model::artifact::Artifact;
use qgjob_core::model::build::{AppVersion, Build};
use qgjob_core::model::event::{Event, Fact};
use qgjob_core::model::job::{self, Status};
use qgjob_core::model::limits::Limits;
use qgjob_core::model::name::{AppVersionId, ConcurrencyGroup, IdempotencyKey, OrgId};
use qgjob_core::model::run::{self, Run};
use qgjob_core::model::selector::Target;
use qgjob_core::model::sha256::Sha256;
use qgjob_core::model::test_result::Try;
use qgjob_core::model::token::{self, Token};
use qgjob_core::model::{agent, attempt, device, group};

use super::rows::{AgentRow, AttemptRow, DeviceRow, JobRow};
use super::table::Table;
use super::transaction::{Stop, Verb};
use crate::store::{Answer, Rules};

/// An epoch or number of an event that is not known before the commit: this and its place among the transaction's
/// events, from 1.
const TO_COME: u64 = 1 << 62;

/// What is known of an idempotency key.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub org_id: OrgId,
    pub key: IdempotencyKey,
    pub fingerprint: Option<Sha256>,
    pub run_id: Option<run::Id>,
    pub created_at: Timestamp,
}

/// A run as transactions change it.
#[derive(Debug, Clone)]
pub(super) struct RunRow {
    pub run: Run,
    pub installs: Installs,
    /// What its jobs are asked to do; only of a run that this transaction makes.
    pub spec: Option<job::Spec>,
    /// The token of the pipeline that submits it, likewise.
    pub token_id: Option<token::Id>,
}

/// A try, whose body is not read where its number is enough.
#[derive(Debug, Clone)]
pub(super) struct TryRow {
    pub attempt_id: attempt::Id,
    pub seq: u32,
    pub body: Option<Try>,
}

/// Whom an event is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct About<'a> {
    pub org_id: Option<&'a OrgId>,
    pub run_id: Option<run::Id>,
    pub job_id: Option<job::Id>,
}

impl<'a> About<'a> {
    pub(super) fn org(org_id: Option<&'a OrgId>) -> Self {
        Self { org_id, run_id: None, job_id: None }
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Work {
    pub rules: Rules,
    pub agents: Table<agent::Id, AgentRow>,
    pub devices: Table<device::Id, DeviceRow>,
    pub tokens: Table<token::Id, (Token, Sha256)>,
    pub attempts: Table<attempt::Id, AttemptRow>,
    pub jobs: Table<job::Id, JobRow>,
    pub runs: Table<run::Id, RunRow>,
    pub keys: Table<(OrgId, IdempotencyKey), Key>,
    pub tries: Table<(attempt::Id, u32), TryRow>,
    pub artifacts: Table<(attempt::Id, String), (Artifact, OrgId)>,
    pub app_versions: Table<(OrgId, AppVersionId), AppVersion>,
    /// Live attempts of the orgs that have a limit.
    pub running: Table<(OrgId, Option<ConcurrencyGroup>), u32>,

    // What is only read.
    pub limits: Limits,
    pub groups: HashMap<group::Id, (group::Key, Option<Build>)>,
    pub group_ids: HashMap<group::Key, group::Id>,
    pub blobs: HashSet<(OrgId, Sha256)>,
    pub statuses: HashMap<job::Id, Status>,
    pub kinds: HashMap<device::Id, Target>,
    pub held_by: HashMap<device::Id, attempt::Id>,
    pub leases: HashMap<attempt::Id, Lease>,

    events: Vec<Event>,
    made_jobs: u64,
}

/// Where a step began.
struct Mark {
    tables: [usize; 11],
    events: usize,
}

impl Work {
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules, ..Self::default() }
    }

    /// Appends an event, whose number is given at the commit.
    pub(super) fn tell(&mut self, at: Timestamp, about: About<'_>, fact: Fact) {
        self.events.push(Event {
            seq: TO_COME + self.events.len() as u64 + 1,
            at,
            org_id: about.org_id.cloned(),
            run_id: about.run_id,
            job_id: about.job_id,
            fact,
        });
    }

    pub(super) fn events(&self) -> &[Event] {
        &self.events
    }

    /// The events, once the number before the first of them is known.
    pub(super) fn told(self, before: u64) -> Vec<Event> {
        let mut events = self.events;
        events.iter_mut().for_each(|event| event.seq = settle(event.seq, before));
        events
    }

    /// The epoch of a lease that begins with the next event: it will be that event's number.
    pub(super) fn epoch(&self) -> u64 {
        TO_COME + self.events.len() as u64 + 1
    }

    /// A job's place among those that are made.
    pub(super) fn next_place(&mut self) -> u64 {
        self.made_jobs += 1;
        self.made_jobs
    }

    /// The live attempt on a device.
    pub(super) fn live_on(&self, id: device::Id) -> Option<attempt::Id> {
        let mut own = self.attempts.iter().filter(|(_, row)| row.attempt.device_id == id && row.is_live());
        let found = own.next().map(|(id, _)| *id);
        // One that was only looked at counts unless it is known to be over.
        found.or_else(|| self.held_by.get(&id).copied().filter(|held| self.attempts.get(held).is_none()))
    }

    /// The device as it shows now.
    pub(super) fn shown(&self, row: &DeviceRow) -> device::Device {
        let draining = self.agents.get(&row.device.agent_id).is_some_and(|agent| agent.draining);
        row.shown(draining, self.live_on(row.device.id))
    }

    /// The build that a label names, once it is bound.
    pub(super) fn build_of(&self, org: &OrgId, label: &AppVersionId) -> Option<&Build> {
        self.app_versions.get(&(org.clone(), label.clone())).map(|bound| &bound.build)
    }

    fn mark(&self) -> Mark {
        let tables = [
            self.agents.mark(),
            self.devices.mark(),
            self.tokens.mark(),
            self.attempts.mark(),
            self.jobs.mark(),
            self.runs.mark(),
            self.keys.mark(),
            self.tries.mark(),
            self.artifacts.mark(),
            self.app_versions.mark(),
            self.running.mark(),
        ];
        Mark { tables, events: self.events.len() }
    }

    fn undo(&mut self, mark: &Mark) {
        let [agents, devices, tokens, attempts, jobs, runs, keys, tries, artifacts, app_versions, running] =
            mark.tables;
        self.agents.undo(agents);
        self.devices.undo(devices);
        self.tokens.undo(tokens);
        self.attempts.undo(attempts);
        self.jobs.undo(jobs);
        self.runs.undo(runs);
        self.keys.undo(keys);
        self.tries.undo(tries);
        self.artifacts.undo(artifacts);
        self.app_versions.undo(app_versions);
        self.running.undo(running);
        self.events.truncate(mark.events);
    }

    /// Runs `step` so that its failure leaves no trace of it.
    pub(super) fn undoable<T>(&mut self, step: impl FnOnce(&mut Self) -> Verb<T>) -> Verb<T> {
        let mark = self.mark();
        step(self).inspect_err(|_| self.undo(&mark))
    }

    /// Answers each item of a batch; what is refused has changed nothing.
    pub(super) fn each<I, T>(
        &mut self,
        batch: &[I],
        mut verb: impl FnMut(&mut Self, &I) -> Verb<T>,
    ) -> Verb<Vec<Answer<T>>> {
        batch.iter().map(|item| self.one(|work| verb(work, item))).collect()
    }

    /// Answers one item, as [`Work::each`].
    pub(super) fn one<T>(&mut self, verb: impl FnOnce(&mut Self) -> Verb<T>) -> Verb<Answer<T>> {
        match self.undoable(verb) {
            Ok(answer) => Ok(Ok(answer)),
            Err(Stop::Refused(refusal)) => Ok(Err(refusal)),
            Err(stop) => Err(stop),
        }
    }
}

/// An epoch or number of an event, once the number before the transaction's first event is known.
pub(super) fn settle(number: u64, before: u64) -> u64 {
    if number > TO_COME { before + (number - TO_COME) } else { number }
}

/// The place among a transaction's events that an epoch was given with; none when it is older than the transaction.
pub(super) fn place(number: u64) -> Option<u64> {
    number.checked_sub(TO_COME)
}
