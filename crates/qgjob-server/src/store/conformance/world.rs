//! A world around a store: time, ids, agents with devices, and requests that read like sentences.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use qgjob_core::api::agents::{Held, HeldReply, Lease, Order, ReportedDevice};
use qgjob_core::api::runs::{JobOptions, NewRun};
use qgjob_core::model::agent::{self, Agent};
use qgjob_core::model::build::{AppVersion, Build};
use qgjob_core::model::event::{Event, Fact};
use qgjob_core::model::evidence::{self, Evidence, Exit, Fault, Stop};
use qgjob_core::model::job::{Job, Reason};
use qgjob_core::model::name::{IdempotencyKey, OrgId};
use qgjob_core::model::run::Labels;
use qgjob_core::model::selector::{Platform, Target};
use qgjob_core::model::sha256::Sha256;
use qgjob_core::model::test_result::{TestOutcome, Try, TryStatus};
use qgjob_core::model::token::{self, Token};
use qgjob_core::model::{attempt, device, group, job, run};

use crate::store::{
    Accepted, Answer, Claim, EventFilter, Finish, Finished, Report, Scope, Seen, SeenReply, Store,
    Submission, Swept,
};

/// How long leases hold in this world.
pub const LEASE: Duration = Duration::from_secs(30);
const BUNDLE: Sha256 = Sha256([7; 32]);

/// See the module.
pub struct World {
    pub store: Arc<dyn Store>,
    pub now: Timestamp,
    drawn: u128,
}

/// An agent and its devices.
#[derive(Debug, Clone)]
pub struct Rack {
    pub id: agent::Id,
    pub devices: Vec<device::Id>,
    pub reported: Vec<ReportedDevice>,
    pub session: Sha256,
}

pub fn org(name: &str) -> OrgId {
    name.parse().expect("a good name")
}

pub fn acme() -> OrgId {
    org("acme")
}

pub fn build(digit: u8) -> Build {
    Build {
        sha256: Sha256([digit; 32]),
        size_bytes: 1000,
        platform: Platform::Android,
        app_id: "dev.qgjob.demo".to_owned(),
        version_name: "1.0".to_owned(),
        version_code: "1".to_owned(),
        launch_activity: None,
    }
}

pub fn phone(name: &str) -> ReportedDevice {
    ReportedDevice {
        name: name.to_owned(),
        serial: format!("serial-{name}"),
        platform: Platform::Android,
        kind: Target::Emulator,
        model: "Pixel 7".to_owned(),
        os_version: "14".to_owned(),
        tags: BTreeSet::new(),
        online: true,
        note: None,
        ledger: vec![],
    }
}

impl World {
    /// A world with org `acme`, its bundle, and app version `v1` with a build.
    pub async fn new(store: Arc<dyn Store>) -> Self {
        let now = "2026-11-22T10:00:00Z".parse().expect("a timestamp");
        let world = Self { store, now, drawn: 0 };
        world.upload(&acme()).await;
        world.bind(&acme(), "v1", 1).await;
        world
    }

    /// 128 bits that were not drawn before.
    pub fn draw(&mut self) -> u128 {
        self.drawn = self.drawn.wrapping_add(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        self.drawn
    }

    pub fn wait(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }

    pub async fn upload(&self, org: &OrgId) {
        self.store.add_blob(self.now, org, BUNDLE, 10).await.expect("the store works");
    }

    pub async fn bind(&self, org: &OrgId, label: &str, digit: u8) {
        let app_version = self.app_version(org, label, digit);
        self.store.bind_app_version(app_version).await.expect("the store works").expect("the label is free");
    }

    pub fn app_version(&self, org: &OrgId, label: &str, digit: u8) -> AppVersion {
        let app_version_id = label.parse().expect("a good label");
        AppVersion { org_id: org.clone(), app_version_id, build: build(digit), created_at: self.now }
    }

    /// A submission of `tests` tests for `v1` of acme, changed by `change`.
    pub fn submission(&mut self, tests: usize, change: impl FnOnce(&mut NewRun)) -> Submission {
        let mut run = NewRun {
            org_id: acme(),
            app_version_id: "v1".parse().expect("a good label"),
            bundle_sha256: BUNDLE,
            tests: (0..tests).map(|n| format!("tests/{n}.spec.js").parse().expect("a good path")).collect(),
            name: None,
            labels: Labels::new(),
            options: JobOptions::default(),
        };
        change(&mut run);
        let run_id = run::Id::new(self.now, self.draw());
        let job_ids = run.tests.iter().map(|_| job::Id::new(self.now, self.draw())).collect();
        let predicted_ms = run.tests.iter().map(|_| 60_000).collect();
        let shards = vec![None; run.tests.len()];
        Submission {
            run_id,
            job_ids,
            predicted_ms,
            shards,
            run,
            retry_of: None,
            rerun: None,
            ci: None,
            key: None,
        }
    }

    pub async fn try_submit(&self, submission: Submission) -> Answer<Accepted> {
        let mut answers = self.store.submit(self.now, vec![submission]).await.expect("the store works");
        assert_eq!(answers.len(), 1, "one answer for one submission");
        answers.remove(0)
    }

    pub async fn submit_with(&mut self, tests: usize, change: impl FnOnce(&mut NewRun)) -> Accepted {
        let submission = self.submission(tests, change);
        self.try_submit(submission).await.expect("the submission is good")
    }

    pub async fn submit(&mut self, tests: usize) -> Accepted {
        self.submit_with(tests, |_| ()).await
    }

    /// A submission under a key, for the digest 1.
    pub async fn submit_keyed(&mut self, text: &str, tests: usize) -> Accepted {
        let submission = Submission { key: key(text, 1), ..self.submission(tests, |_| ()) };
        self.try_submit(submission).await.expect("the submission is good")
    }

    pub fn token(&mut self, kind: token::Kind, agent_id: Option<agent::Id>) -> (Token, Sha256) {
        let id = token::Id::new(self.now, self.draw());
        let (name, created_at) = (kind.to_string(), self.now);
        let mut hash = [0; 32];
        hash[..16].copy_from_slice(&id.0.to_be_bytes());
        (
            Token { id, kind, name, org_id: None, agent_id, created_at, expires_at: None, ci: None },
            Sha256(hash),
        )
    }

    pub fn agent(&mut self, name: &str) -> Agent {
        Agent {
            id: agent::Id::new(self.now, self.draw()),
            name: name.to_owned(),
            serves: None,
            version: "0.1.0".to_owned(),
            state: agent::State::Online,
            seen_at: self.now,
            created_at: self.now,
        }
    }

    /// Registers an agent for `serves` that reports `phones`.
    pub async fn rack_for(&mut self, name: &str, serves: Option<OrgId>, phones: Vec<ReportedDevice>) -> Rack {
        let (ticket, ticket_hash) = self.token(token::Kind::Registration, None);
        self.store.add_token(ticket, ticket_hash).await.expect("the store works");
        let agent = Agent { serves, ..self.agent(name) };
        let session = self.token(token::Kind::Agent, Some(agent.id));
        let session_hash = session.1;
        let registered = self.store.register_agent(self.now, ticket_hash, agent, session).await;
        let id = registered.expect("the store works").expect("the ticket is good").id;
        let mut rack = Rack { id, devices: vec![], reported: phones, session: session_hash };
        let reply = self.heartbeat(&rack, true, &[]).await.expect("the agent is known");
        rack.devices = reply.devices.into_iter().map(|(_, id)| id).collect();
        rack
    }

    /// An agent with this many phones.
    pub async fn rack(&mut self, name: &str, phones: usize) -> Rack {
        let phones = (0..phones).map(|n| phone(&format!("{name}-{n}"))).collect();
        self.rack_for(name, None, phones).await
    }

    pub async fn heartbeat(&mut self, rack: &Rack, fresh: bool, held: &[&Lease]) -> Answer<SeenReply> {
        let devices = rack
            .reported
            .iter()
            .map(|phone| (device::Id::new(self.now, self.draw()), phone.clone()))
            .collect();
        let held =
            held.iter().map(|lease| Held { attempt_id: lease.attempt_id, epoch: lease.epoch }).collect();
        let random = self.draw();
        let seen = Seen { agent_id: rack.id, fresh, devices, held, lease: LEASE, random };
        self.store.agents_seen(self.now, vec![seen]).await.expect("the store works").remove(0)
    }

    pub fn claim_of(&mut self, rack: &Rack, device: usize, job_id: job::Id) -> Claim {
        Claim {
            claim_id: format!("claim-{}", self.draw()),
            attempt_id: attempt::Id::new(self.now, self.draw()),
            agent_id: rack.id,
            device_id: rack.devices[device],
            job_id,
            choice: attempt::Choice::HadBuild,
            lease: LEASE,
        }
    }

    pub async fn try_claim(&self, claim: Claim) -> Answer<Option<Lease>> {
        self.store.claim(self.now, vec![claim]).await.expect("the store works").remove(0)
    }

    /// The device takes a job, if that may start there.
    pub async fn claim_job(&mut self, rack: &Rack, device: usize, job: job::Id) -> Option<Lease> {
        let claim = self.claim_of(rack, device, job);
        self.try_claim(claim).await.expect("the device is known")
    }

    /// The device takes the first job of the group that is due, if there is one and it may start there.
    pub async fn claim(&mut self, rack: &Rack, device: usize, group: group::Id) -> Option<Lease> {
        let waiting = self.store.waiting_jobs().await.expect("the store works");
        let job = waiting
            .into_iter()
            .find(|job| job.group_id == group && job.not_before.is_none_or(|due| due <= self.now))?
            .id;
        self.claim_job(rack, device, job).await
    }

    /// The group of a run's jobs, by its first event.
    pub async fn group(&self, accepted: &Accepted) -> group::Id {
        let events = self.events().await;
        let queued = events.into_iter().find_map(|event| match event.fact {
            Fact::JobQueued { group_id, .. } if event.run_id == Some(accepted.run.id) => Some(group_id),
            _ => None,
        });
        queued.expect("the run was queued")
    }

    pub fn report<T>(&self, rack: &Rack, lease: &Lease, what: T) -> Report<T> {
        Report { agent_id: rack.id, attempt_id: lease.attempt_id, epoch: lease.epoch, what }
    }

    pub async fn try_finish(&mut self, rack: &Rack, lease: &Lease, evidence: Evidence) -> Answer<Finished> {
        let finish = Finish { evidence, random: self.draw() };
        let report = self.report(rack, lease, finish);
        self.store.finish(self.now, vec![report]).await.expect("the store works").remove(0)
    }

    pub async fn finish(&mut self, rack: &Rack, lease: &Lease, evidence: Evidence) -> Finished {
        self.try_finish(rack, lease, evidence).await.expect("the lease holds")
    }

    /// The attempt's only test passes.
    pub async fn pass(&mut self, rack: &Rack, lease: &Lease) -> Finished {
        self.end_with(rack, lease, TryStatus::Passed, TestOutcome::Expected, 0).await
    }

    /// The attempt's only test fails.
    pub async fn fail(&mut self, rack: &Rack, lease: &Lease) -> Finished {
        self.end_with(rack, lease, TryStatus::Failed, TestOutcome::Unexpected, 1).await
    }

    async fn end_with(
        &mut self,
        rack: &Rack,
        lease: &Lease,
        status: TryStatus,
        outcome: TestOutcome,
        code: i32,
    ) -> Finished {
        let tries = vec![a_try(lease, status, outcome)];
        let told = self.store.add_tries(self.now, vec![self.report(rack, lease, tries)]).await;
        told.expect("the store works").remove(0).expect("the lease holds");
        self.finish(rack, lease, ran(lease, outcome, code)).await
    }

    pub async fn renew(&self, rack: &Rack, lease: &Lease) -> Order {
        let report = self.report(rack, lease, ());
        let answers = self.store.renew(self.now, LEASE, vec![report]).await.expect("the store works");
        let HeldReply { attempt_id, order } =
            answers.into_iter().next().expect("one answer").expect("an order");
        assert_eq!(attempt_id, lease.attempt_id);
        order
    }

    pub async fn sweep(&mut self) -> Swept {
        let random = self.draw();
        let (grace, silent) = (Duration::from_secs(60), Duration::from_secs(90));
        self.store.sweep(self.now, grace, silent, random).await.expect("the store works")
    }

    pub async fn job(&self, id: job::Id) -> Job {
        self.store.job(&Scope::All, id).await.expect("the store works").expect("the job exists").0
    }

    pub async fn run(&self, id: run::Id) -> run::Run {
        self.store.run(&Scope::All, id).await.expect("the store works").expect("the run exists").0
    }

    pub async fn device(&self, id: device::Id) -> device::Device {
        let devices = self.store.devices(&Scope::All).await.expect("the store works");
        devices.into_iter().find(|device| device.id == id).expect("the device exists")
    }

    pub async fn events(&self) -> Vec<Event> {
        all_events(&*self.store).await
    }

    /// How often events have this name.
    pub async fn told(&self, name: &str) -> usize {
        self.events().await.iter().filter(|event| event.fact.name() == name).count()
    }
}

pub async fn all_events(store: &dyn Store) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    loop {
        let after = events.last().map_or(0, |event| event.seq);
        let page =
            store.events_after(&Scope::All, EventFilter::All, after, 500).await.expect("the store works");
        if page.is_empty() {
            return events;
        }
        events.extend(page);
    }
}

pub fn key(text: &str, digest: u8) -> Option<(IdempotencyKey, Sha256)> {
    Some((text.parse().expect("a good key"), Sha256([digest; 32])))
}

pub fn a_try(lease: &Lease, status: TryStatus, outcome: TestOutcome) -> Try {
    Try {
        seq: 1,
        test_id: "t1".to_owned(),
        title: vec!["a test".to_owned()],
        unit: None,
        file: lease.test.to_string(),
        line: 1,
        retry: 0,
        status,
        by_suite: None,
        outcome,
        duration_ms: 5,
        error: None,
        files: Vec::new(),
    }
}

/// What an agent sees when the runner ends with `code` after one test.
pub fn ran(lease: &Lease, outcome: TestOutcome, code: i32) -> Evidence {
    let test =
        evidence::ReportedTest { test_id: "t1".to_owned(), file: lease.test.to_string(), outcome, tries: 1 };
    let report = evidence::Report::Read { tests: vec![test], errors: vec![] };
    Evidence { stopped: None, fault: None, exit: Some(Exit::Code(code)), selected: None, report }
}

pub fn stopped(why: Stop) -> Evidence {
    Evidence {
        stopped: Some(why),
        fault: None,
        exit: None,
        selected: None,
        report: evidence::Report::Missing,
    }
}

/// The device broke.
pub fn broken() -> Evidence {
    let fault = Fault { reason: Reason::DeviceFault, detail: "unplugged".to_owned() };
    Evidence {
        stopped: None,
        fault: Some(fault),
        exit: None,
        selected: None,
        report: evidence::Report::Missing,
    }
}

/// How many of each, for comparing without regard to order.
pub fn counted<T: Ord>(items: impl IntoIterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    for item in items {
        *counts.entry(item).or_default() += 1;
    }
    counts
}
