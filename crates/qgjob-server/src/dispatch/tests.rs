use std::sync::Arc;
use std::time::Duration;

use qgjob_core::api::agents::{ClaimReply, ClaimRequest, ReportedDevice};
use qgjob_core::api::runs::{JobOptions, NewRun};
use qgjob_core::clock::{Clock, SystemClock};
use qgjob_core::model::build::{AppVersion, Build};
use qgjob_core::model::selector::{Platform, Target};
use qgjob_core::model::sha256::Sha256;
use qgjob_core::model::token::{self, Kind, Token};
use qgjob_core::model::{agent, attempt, device, job, run};
use qgjob_core::queue::placement::Parameters;
use tokio_util::sync::CancellationToken;

use super::Dispatch;
use crate::forecasts::Forecasts;
use crate::store::sqlite::Sqlite;
use crate::store::{Report, Rules, Seen, Store, Submission};

const LEASE: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(20);

struct Rack {
    store: Arc<dyn Store>,
    dispatch: Arc<Dispatch>,
    agent: agent::Id,
    stop: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Drop for Rack {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn id() -> u128 {
    SystemClock.random()
}

impl Rack {
    /// One agent, and a bundle and two builds that may be used.
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> =
            Arc::new(Sqlite::open(&folder.path().join("db"), Rules::default()).unwrap());
        let now = SystemClock.now();
        let org = "qualgent".parse().unwrap();
        store.add_blob(now, &org, Sha256([9; 32]), 1).await.unwrap();
        for version in [1, 2] {
            let build = Build {
                sha256: Sha256([version; 32]),
                size_bytes: 1,
                platform: Platform::Android,
                app_id: "dev.qgjob.demo".to_owned(),
                version_name: version.to_string(),
                version_code: version.to_string(),
                launch_activity: None,
            };
            store.add_blob(now, &org, build.sha256, 1).await.unwrap();
            let label = format!("v{version}").parse().unwrap();
            let bound = AppVersion { org_id: org.clone(), app_version_id: label, build, created_at: now };
            store.bind_app_version(bound).await.unwrap().unwrap();
        }
        let token = |kind, agent_id| Token {
            id: token::Id(id()),
            kind,
            name: "test".to_owned(),
            org_id: None,
            agent_id,
            created_at: now,
            expires_at: None,
        };
        let agent = agent::Id(id());
        store.add_token(token(Kind::Registration, None), Sha256([7; 32])).await.unwrap();
        let registered = agent::Agent {
            id: agent,
            name: "rack".to_owned(),
            serves: None,
            version: "0".to_owned(),
            state: agent::State::Online,
            seen_at: now,
            created_at: now,
        };
        let session = (token(Kind::Agent, Some(agent)), Sha256([8; 32]));
        store.register_agent(now, Sha256([7; 32]), registered, session).await.unwrap().unwrap();
        let forecasts = Forecasts::start(store.clone()).await.unwrap();
        let (clock, numbers) = (Arc::new(SystemClock), Parameters::default());
        let dispatch = Dispatch::start(store.clone(), clock, forecasts, LEASE, numbers).await.unwrap();
        let stop = CancellationToken::new();
        tokio::spawn({
            let (dispatch, stop) = (dispatch.clone(), stop.clone());
            async move { dispatch.run(stop).await }
        });
        Self { store, dispatch, agent, stop, _folder: folder }
    }

    async fn devices(&self, serials: &[&str]) -> Vec<device::Id> {
        let reported = |serial: &&str| ReportedDevice {
            name: (*serial).to_owned(),
            serial: (*serial).to_owned(),
            platform: Platform::Android,
            kind: Target::Device,
            model: "Pixel 7".to_owned(),
            os_version: "14".to_owned(),
            tags: Default::default(),
            online: true,
            note: None,
            ledger: vec![],
        };
        let seen = Seen {
            agent_id: self.agent,
            fresh: false,
            devices: serials.iter().map(|serial| (device::Id(id()), reported(serial))).collect(),
            held: vec![],
            lease: LEASE,
            random: id(),
        };
        let reply = self.store.agents_seen(SystemClock.now(), vec![seen]).await.unwrap().remove(0).unwrap();
        reply.devices.into_iter().map(|(_, id)| id).collect()
    }

    async fn submit(&self, version: &str, jobs: usize) {
        let run = NewRun {
            org_id: "qualgent".parse().unwrap(),
            app_version_id: version.parse().unwrap(),
            bundle_sha256: Sha256([9; 32]),
            tests: (0..jobs).map(|n| format!("tests/{n}.spec.js").parse().unwrap()).collect(),
            name: None,
            labels: Default::default(),
            options: JobOptions::default(),
        };
        let now = SystemClock.now();
        let submission = Submission {
            run_id: run::Id::new(now, id()),
            job_ids: (0..jobs).map(|_| job::Id::new(now, id())).collect(),
            predicted_ms: vec![60_000; jobs],
            shards: vec![None; jobs],
            run,
            retry_of: None,
            key: None,
        };
        self.store.submit(now, vec![submission]).await.unwrap().remove(0).unwrap();
    }

    async fn claim(&self, claim_id: &str, devices: &[device::Id], wait: Duration) -> ClaimReply {
        let request = ClaimRequest { claim_id: claim_id.to_owned(), devices: devices.to_vec() };
        self.dispatch.claim(self.agent, request, wait).await.unwrap()
    }
}

#[tokio::test]
async fn an_agent_that_waits_is_woken_by_a_submit() {
    let rack = Rack::new().await;
    let devices = rack.devices(&["a"]).await;
    let waiting = rack.claim("1", &devices, LONG);
    let submitting = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        rack.submit("v1", 1).await;
        std::time::Instant::now()
    };
    let (reply, submitted) = tokio::join!(waiting, submitting);
    assert_eq!(reply.leases.len(), 1);
    assert!(submitted.elapsed() < Duration::from_secs(5), "it waited for a timer");
}

#[tokio::test]
async fn two_versions_on_two_devices_are_one_each() {
    let rack = Rack::new().await;
    let devices = rack.devices(&["a", "b"]).await;
    rack.submit("v1", 10).await;
    rack.submit("v2", 10).await;
    let reply = rack.claim("1", &devices, LONG).await;
    let mut versions: Vec<String> =
        reply.leases.iter().map(|lease| lease.app_version_id.to_string()).collect();
    versions.sort();
    assert_eq!(versions, ["v1", "v2"]);
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_gets_the_same_lease_again() {
    let rack = Rack::new().await;
    let devices = rack.devices(&["a"]).await;
    rack.submit("v1", 2).await;
    let first = rack.claim("1", &devices, LONG).await;
    let again = rack.claim("1", &devices, LONG).await;
    assert_eq!(first.leases[0].attempt_id, again.leases[0].attempt_id);
    assert_eq!(first.leases[0].epoch, again.leases[0].epoch);
}

#[tokio::test]
async fn a_newer_claim_answers_the_older_at_once() {
    let rack = Rack::new().await;
    let devices = rack.devices(&["a", "b"]).await;
    let started = std::time::Instant::now();
    let older = rack.claim("1", &devices[..1], LONG);
    let newer = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        rack.claim("2", &devices, Duration::from_millis(50)).await
    };
    let (older, newer) = tokio::join!(older, newer);
    assert!(older.leases.is_empty() && newer.leases.is_empty());
    assert!(started.elapsed() < LONG / 2);
}

#[tokio::test]
async fn a_claim_without_devices_is_answered_at_once() {
    let rack = Rack::new().await;
    assert!(rack.claim("1", &[], LONG).await.leases.is_empty());
}

#[tokio::test]
async fn a_build_that_is_bound_later_wakes_the_jobs_that_wait_for_it() {
    let rack = Rack::new().await;
    let devices = rack.devices(&["a"]).await;
    rack.submit("v3", 1).await;
    let waiting = rack.claim("1", &devices, LONG);
    let binding = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let org = "qualgent".parse().unwrap();
        let one = rack.store.app_version(&org, &"v1".parse().unwrap()).await.unwrap().unwrap();
        let three = AppVersion { app_version_id: "v3".parse().unwrap(), ..one };
        rack.store.bind_app_version(three).await.unwrap().unwrap();
    };
    let (reply, ()) = tokio::join!(waiting, binding);
    assert_eq!(reply.leases.len(), 1);
}

#[tokio::test]
async fn a_device_is_warm_as_soon_as_its_install_is_reported() {
    use qgjob_core::model::attempt::{Install, InstallAction, Phase};
    use qgjob_core::model::evidence::{Evidence, Report as RunnerReport, Stop};
    let rack = Rack::new().await;
    let devices = rack.devices(&["a", "b"]).await;
    rack.submit("v1", 3).await;
    let lease = rack.claim("1", &devices[..1], LONG).await.leases.remove(0);
    let report = |attempt_id: attempt::Id| (attempt_id, rack.agent, lease.epoch);
    let (attempt_id, agent_id, epoch) = report(lease.attempt_id);
    let install = Install { action: InstallAction::Cold, duration_ms: 1 };
    let what = crate::store::PhaseChange { phase: Phase::Testing, install: Some(install) };
    let phase = Report { agent_id, attempt_id, epoch, what };
    rack.store.set_phase(SystemClock.now(), vec![phase]).await.unwrap().remove(0).unwrap();
    let evidence =
        Evidence { stopped: Some(Stop::Shutdown), fault: None, exit: None, report: RunnerReport::Missing };
    let what = crate::store::Finish { evidence, random: 0 };
    let finish = Report { agent_id, attempt_id, epoch, what };
    rack.store.finish(SystemClock.now(), vec![finish]).await.unwrap().remove(0).unwrap();
    // Both ask; the phone that has the build must get the job, without any heartbeat in between.
    let reply = rack.claim("2", &devices, LONG).await;
    assert_eq!(reply.leases.iter().map(|lease| lease.device_id).collect::<Vec<_>>(), [devices[0]]);
}
