use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use qgjob_core::api::agents::{ClaimReply, ClaimRequest, Lease, ReportedDevice};
use qgjob_core::api::explain::WhyCode;
use qgjob_core::api::runs::{JobOptions, NewRun};
use qgjob_core::clock::{Clock, SteppedClock, SystemClock};
use qgjob_core::model::build::{AppVersion, Build};
use qgjob_core::model::evidence::{Evidence, Exit, Fault, Report as RunnerReport, Stop};
use qgjob_core::model::job::{Conclusion, Job, Reason};
use qgjob_core::model::selector::{Platform, Target};
use qgjob_core::model::sha256::Sha256;
use qgjob_core::model::token::{self, Kind, Token};
use qgjob_core::model::{agent, attempt, device, job, run};
use qgjob_core::queue::placement::Parameters;
use tokio_util::sync::CancellationToken;

use super::Dispatch;
use crate::forecasts::Forecasts;
use crate::store::sqlite::Sqlite;
use crate::store::{JobFilter, Report, Rules, Scope, Seen, Store, Submission};

const LEASE: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(20);

struct Rack {
    store: Arc<dyn Store>,
    dispatch: Arc<Dispatch>,
    clock: Arc<dyn Clock>,
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
        Self::at(Arc::new(SystemClock)).await
    }

    async fn at(clock: Arc<dyn Clock>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> =
            Arc::new(Sqlite::open(&folder.path().join("db"), Rules::default()).unwrap());
        let now = clock.now();
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
            ci: None,
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
        let numbers = Parameters::default();
        let dispatch =
            Dispatch::start(store.clone(), clock.clone(), forecasts, LEASE, numbers).await.unwrap();
        let stop = CancellationToken::new();
        tokio::spawn({
            let (dispatch, stop) = (dispatch.clone(), stop.clone());
            async move { dispatch.run(stop).await }
        });
        Self { store, dispatch, clock, agent, stop, _folder: folder }
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
        let reply = self.store.agents_seen(self.clock.now(), vec![seen]).await.unwrap().remove(0).unwrap();
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
        let now = self.clock.now();
        let submission = Submission {
            run_id: run::Id::new(now, id()),
            job_ids: (0..jobs).map(|_| job::Id::new(now, id())).collect(),
            predicted_ms: vec![60_000; jobs],
            shards: vec![None; jobs],
            run,
            retry_of: None,
            ci: None,
            rerun: None,
            key: None,
        };
        self.store.submit(now, vec![submission]).await.unwrap().remove(0).unwrap();
    }

    /// The leased attempt ends: with a failed test file, or with this fault.
    async fn end(&self, lease: &Lease, fault: Option<Reason>) {
        let errors = vec!["SyntaxError: Unexpected token".to_owned()];
        let fault = fault.map(|reason| Fault { reason, detail: "as seen".to_owned() });
        let report = RunnerReport::Read { tests: vec![], errors };
        let evidence = Evidence { stopped: None, fault, exit: Some(Exit::Code(1)), selected: None, report };
        let what = crate::store::Finish { evidence, random: 0 };
        let (attempt_id, epoch) = (lease.attempt_id, lease.epoch);
        let finish = Report { agent_id: self.agent, attempt_id, epoch, what };
        self.store.finish(self.clock.now(), vec![finish]).await.unwrap().remove(0).unwrap();
    }

    async fn device(&self, id: device::Id) -> device::Device {
        let devices = self.store.devices(&Scope::All).await.unwrap();
        devices.into_iter().find(|device| device.id == id).unwrap()
    }

    async fn jobs(&self) -> Vec<Job> {
        let jobs = self.store.jobs(&Scope::All, &JobFilter::default(), None, 100).await.unwrap();
        jobs.into_iter().map(|(job, _)| job).collect()
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
    let evidence = Evidence {
        stopped: Some(Stop::Shutdown),
        fault: None,
        exit: None,
        selected: None,
        report: RunnerReport::Missing,
    };
    let what = crate::store::Finish { evidence, random: 0 };
    let finish = Report { agent_id, attempt_id, epoch, what };
    rack.store.finish(SystemClock.now(), vec![finish]).await.unwrap().remove(0).unwrap();
    // Both ask; the phone that has the build must get the job, without any heartbeat in between.
    let reply = rack.claim("2", &devices, LONG).await;
    assert_eq!(reply.leases.iter().map(|lease| lease.device_id).collect::<Vec<_>>(), [devices[0]]);
}

fn stepped() -> Arc<SteppedClock> {
    Arc::new(SteppedClock::at("2026-11-22T10:00:00Z".parse().unwrap()))
}

const SHORT: Duration = Duration::from_millis(20);

#[tokio::test]
async fn a_device_that_fails_three_times_is_quarantined_and_then_proves_itself() {
    let clock = stepped();
    let rack = Rack::at(clock.clone()).await;
    let devices = rack.devices(&["a", "b", "c"]).await;
    rack.submit("v1", 20).await;
    for good in &devices[1..] {
        let lease = rack.claim(&good.to_string(), &[*good], LONG).await.leases.remove(0);
        rack.end(&lease, None).await;
    }
    for failure in 0..3 {
        // The others do not ask any more, and the rest after a failure is over.
        clock.advance(SignedDuration::from_secs(60));
        let lease = rack.claim(&format!("a{failure}"), &devices[..1], LONG).await.leases.remove(0);
        rack.end(&lease, Some(Reason::DeviceFault)).await;
    }
    clock.advance(SignedDuration::from_secs(599));
    assert!(rack.claim("out", &devices[..1], SHORT).await.leases.is_empty());
    let out = rack.device(devices[0]).await;
    assert_eq!(out.state, device::State::Quarantined);
    let note = out.note.unwrap();
    assert_eq!(
        note,
        "3 of the last 3 attempts failed: device_fault 3 times; no jobs until 2026-11-22T10:13:00Z, then one as a probe; \
         `qgjob device enable a` ends this"
    );
    clock.advance(SignedDuration::from_secs(1));
    let probe = rack.claim("probe", &devices[..1], LONG).await.leases.remove(0);
    assert_eq!(rack.device(devices[0]).await.state, device::State::Busy);
    rack.end(&probe, None).await;
    let next = rack.claim("next", &devices[..1], LONG).await.leases.remove(0);
    let quarantine = rack.device(devices[0]).await.quarantine.unwrap();
    assert_eq!((quarantine.in_a_row, quarantine.ended_at), (1, Some(clock.now())));
    rack.end(&next, None).await;
}

#[tokio::test]
async fn a_restarted_server_knows_who_is_in_quarantine() {
    let clock = stepped();
    let rack = Rack::at(clock.clone()).await;
    let devices = rack.devices(&["a"]).await;
    rack.submit("v1", 1).await;
    let (since, until) = (clock.now(), clock.now() + SignedDuration::from_mins(10));
    let quarantine =
        device::Quarantine { since, until, in_a_row: 1, evidence: "it failed".to_owned(), ended_at: None };
    rack.store.set_device_quarantine(clock.now(), devices[0], quarantine).await.unwrap().unwrap();
    let forecasts = Forecasts::start(rack.store.clone()).await.unwrap();
    let numbers = Parameters::default();
    let again = Dispatch::start(rack.store.clone(), clock.clone(), forecasts, LEASE, numbers).await.unwrap();
    assert_eq!(again.board().rests_until(devices[0], clock.now()), Some(until));
    assert_eq!(again.board().propose(&devices, clock.now()), []);
    let (why, _, _) = again.explain(&Scope::All, &rack.jobs().await[0]).await;
    assert_eq!(why[0].code, WhyCode::MatchingDevicesOffline);
    assert_eq!(why[0].detail, "a is quarantined until 2026-11-22T10:10:00Z");
    assert_eq!(again.board().propose(&devices, until).len(), 1);
}

#[tokio::test]
async fn the_jobs_of_a_build_that_no_device_can_install_end() {
    let rack = Rack::at(stepped()).await;
    let devices = rack.devices(&["a", "b", "c", "d"]).await;
    rack.submit("v1", 20).await;
    for device in &devices[..3] {
        let lease = rack.claim(&device.to_string(), &[*device], LONG).await.leases.remove(0);
        rack.end(&lease, Some(Reason::InstallFault)).await;
    }
    assert!(rack.claim("d", &devices[3..], SHORT).await.leases.is_empty());
    let (tried, waited): (Vec<Job>, Vec<Job>) =
        rack.jobs().await.into_iter().partition(|job| job.attempts > 0);
    assert_eq!((tried.len(), waited.len()), (1, 19), "the first one was tried until its budget was spent");
    for job in waited {
        assert_eq!((job.conclusion, job.reason), (Some(Conclusion::Errored), Some(Reason::BrokenBuild)));
        let detail = job.detail.as_deref().unwrap();
        assert!(
            detail.contains("3 of 3 devices") && detail.contains("b install_fault (as seen)"),
            "{detail}"
        );
    }
    for device in devices {
        assert_eq!(rack.device(device).await.state, device::State::Idle);
    }
}

#[tokio::test]
async fn a_job_that_waits_for_a_device_that_rests_says_so() {
    let clock = stepped();
    let rack = Rack::at(clock.clone()).await;
    let devices = rack.devices(&["a"]).await;
    rack.submit("v1", 2).await;
    let lease = rack.claim("1", &devices, LONG).await.leases.remove(0);
    rack.end(&lease, Some(Reason::DeviceFault)).await;
    assert!(rack.claim("2", &devices, SHORT).await.leases.is_empty());
    let jobs = rack.jobs().await;
    let other = jobs.iter().find(|job| job.id != lease.job_id).unwrap();
    let (why, _, _) = rack.dispatch.explain(&Scope::All, other).await;
    let codes: Vec<WhyCode> = why.iter().map(|why| why.code).collect();
    assert_eq!(codes[0], WhyCode::DevicesRest);
    assert!(!codes.contains(&WhyCode::AboutToStart), "{codes:?}");
    assert!(why[0].detail.ends_with("a until 2026-11-22T10:00:05Z"), "{}", why[0].detail);
    clock.advance(SignedDuration::from_secs(5));
    assert_eq!(rack.claim("3", &devices, LONG).await.leases.len(), 1);
}
