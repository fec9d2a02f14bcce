//! A store with an agent that has many devices, and the calls of its life.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use qgjob_core::api::agents::{Lease, ReportedDevice};
use qgjob_core::api::runs::{JobOptions, NewRun};
use qgjob_core::clock::{Clock, SystemClock};
use qgjob_core::model::agent::{self, Agent, State};
use qgjob_core::model::build::{AppVersion, Build};
use qgjob_core::model::evidence::{Evidence, Exit, Report as RunnerReport, ReportedTest};
use qgjob_core::model::name::OrgId;
use qgjob_core::model::run::Labels;
use qgjob_core::model::selector::{Platform, Target};
use qgjob_core::model::sha256::Sha256;
use qgjob_core::model::test_result::TestOutcome;
use qgjob_core::model::token::{self, Kind, Token};
use qgjob_core::model::{attempt, device, job, run};
use qgjob_server::store::{Claim, Finish, Report, Scope, Seen, Store, Submission};

const BUNDLE: Sha256 = Sha256([7; 32]);
const LEASE: Duration = Duration::from_secs(600);

/// A store and who uses it.
pub struct World {
    store: Arc<dyn Store>,
    clock: SystemClock,
    agent: Option<agent::Id>,
    devices: Vec<device::Id>,
    groups: usize,
}

fn org() -> OrgId {
    "bench".parse().expect("a good name")
}

/// Each label has a build of its own, so that jobs of one need an install after those of another.
fn build(label: usize) -> Build {
    let mut sha256 = [1; 32];
    sha256[..8].copy_from_slice(&label.to_be_bytes());
    Build {
        sha256: Sha256(sha256),
        size_bytes: 1000,
        platform: Platform::Android,
        app_id: "dev.qgjob.bench".to_owned(),
        version_name: "1.0".to_owned(),
        version_code: "1".to_owned(),
        launch_activity: None,
    }
}

fn phone(number: usize) -> ReportedDevice {
    ReportedDevice {
        name: format!("phone-{number}"),
        serial: format!("phone-{number}"),
        platform: Platform::Android,
        kind: Target::Device,
        model: "Pixel 7".to_owned(),
        os_version: "14".to_owned(),
        tags: Default::default(),
        online: true,
        note: None,
        ledger: vec![],
    }
}

impl World {
    /// Nothing is known yet of what is in the store.
    pub fn of(store: Arc<dyn Store>) -> Self {
        Self { store, clock: SystemClock, agent: None, devices: vec![], groups: 0 }
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Makes the labels of the groups, and an agent with devices.
    pub async fn prepare(&mut self, groups: usize, devices: usize) {
        let now = self.now();
        self.store.add_blob(now, &org(), BUNDLE, 10).await.expect("the store works");
        self.groups = groups.max(1);
        let labels = (0..self.groups).map(|label| {
            let app_version_id = format!("v{label}").parse().expect("a good label");
            AppVersion { org_id: org(), app_version_id, build: build(label), created_at: now }
        });
        futures_util::future::join_all(labels.map(|label| self.store.bind_app_version(label))).await;
        let token = |kind, agent_id| Token {
            id: token::Id::new(now, self.clock.random()),
            kind,
            name: "bench".to_owned(),
            org_id: None,
            agent_id,
            created_at: now,
            expires_at: None,
            ci: None,
        };
        let (ticket, session) = (Sha256([2; 32]), Sha256([3; 32]));
        self.store.add_token(token(Kind::Registration, None), ticket).await.expect("the store works");
        let id = agent::Id::new(now, self.clock.random());
        let agent = Agent {
            id,
            name: "bench".to_owned(),
            serves: None,
            version: "0.1.0".to_owned(),
            state: State::Online,
            seen_at: now,
            created_at: now,
        };
        let session = (token(Kind::Agent, Some(id)), session);
        self.store
            .register_agent(now, ticket, agent, session)
            .await
            .expect("the store works")
            .expect("a ticket");
        let devices = (0..devices).map(|number| (device::Id::new(now, self.clock.random()), phone(number)));
        let seen = Seen {
            agent_id: id,
            fresh: true,
            devices: devices.collect(),
            held: vec![],
            lease: LEASE,
            random: 0,
        };
        self.store
            .agents_seen(now, vec![seen])
            .await
            .expect("the store works")
            .remove(0)
            .expect("a known agent");
        self.find_rack().await;
    }

    /// Reads which agent and devices there are, and how many labels.
    pub async fn find_rack(&mut self) {
        let devices = self.store.devices(&Scope::All).await.expect("the store works");
        self.agent = devices.first().map(|device| device.agent_id);
        self.devices = devices.into_iter().map(|device| device.id).collect();
        let labels = self.store.app_versions(&Scope::All, None, 100_000).await.expect("the store works");
        self.groups = labels.len();
    }

    /// A group, another one each time, spread over all.
    pub fn some_group(&self, at: usize) -> usize {
        at * 977 % self.groups
    }

    /// Submits runs of `jobs` jobs each for a label, all in one batch; answers the jobs.
    pub async fn submit(&self, runs: usize, jobs: usize, label: usize) -> Vec<job::Id> {
        let now = self.now();
        let submission = || Submission {
            run_id: run::Id::new(now, self.clock.random()),
            job_ids: (0..jobs).map(|_| job::Id::new(now, self.clock.random())).collect(),
            run: NewRun {
                org_id: org(),
                app_version_id: format!("v{label}").parse().expect("a good label"),
                bundle_sha256: BUNDLE,
                tests: (0..jobs)
                    .map(|n| format!("tests/{n}.spec.js").parse().expect("a good path"))
                    .collect(),
                name: None,
                labels: Labels::new(),
                options: JobOptions::default(),
            },
            predicted_ms: vec![60_000; jobs],
            shards: vec![None; jobs],
            retry_of: None,
            ci: None,
            rerun: None,
            key: None,
        };
        let batch = (0..runs).map(|_| submission()).collect();
        let answers = self.store.submit(now, batch).await.expect("the store works");
        let runs = answers.into_iter().map(|answer| answer.expect("a good run"));
        runs.flat_map(|accepted| accepted.jobs).map(|job| job.id).collect()
    }

    /// Claims jobs, each for a device of its own, in one batch.
    pub async fn claim(&self, jobs: Vec<job::Id>) -> Vec<Lease> {
        let now = self.now();
        let agent_id = self.agent.expect("the rack is known");
        let claims = self.devices.iter().zip(jobs).map(|(device, job_id)| Claim {
            claim_id: "claim".to_owned(),
            attempt_id: attempt::Id::new(now, self.clock.random()),
            agent_id,
            device_id: *device,
            job_id,
            choice: attempt::Choice::HadBuild,
            lease: LEASE,
        });
        let answers = self.store.claim(now, claims.collect()).await.expect("the store works");
        answers.into_iter().map(|answer| answer.expect("an idle device").expect("a waiting job")).collect()
    }

    /// Finishes attempts whose suite skipped its one test.
    pub async fn finish(&self, leases: Vec<Lease>) {
        let agent_id = self.agent.expect("the rack is known");
        let reports = leases.into_iter().map(|lease| {
            let test = ReportedTest {
                test_id: "t1".to_owned(),
                file: lease.test.to_string(),
                outcome: TestOutcome::Skipped,
                tries: 1,
            };
            let report = RunnerReport::Read { tests: vec![test], errors: vec![] };
            let evidence =
                Evidence { stopped: None, fault: None, exit: Some(Exit::Code(0)), selected: None, report };
            let what = Finish { evidence, random: self.clock.random() };
            Report { agent_id, attempt_id: lease.attempt_id, epoch: lease.epoch, what }
        });
        let answers = self.store.finish(self.now(), reports.collect()).await.expect("the store works");
        answers.into_iter().for_each(|answer| drop(answer.expect("a held attempt")));
    }
}
