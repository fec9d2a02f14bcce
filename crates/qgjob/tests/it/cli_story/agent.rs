//! An agent that speaks the real protocol and plays each test as it is told to: fast, and with ends that real tests
//! reach only with effort.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use qgjob_core::api::agents::{
    ArtifactTicket, ClaimReply, ClaimRequest, FinishReport, Heartbeat, HeartbeatReply, Lease, NewArtifact,
    PhaseReport, Registered, Registration, ReportedDevice, TestsReport,
};
use qgjob_core::api::tokens::{NewToken, TokenWithSecret};
use qgjob_core::model::attempt::{Install, InstallAction, Phase};
use qgjob_core::model::device::{Installed, Proof};
use qgjob_core::model::evidence::{Evidence, Exit, Fault, Report, ReportedTest, Stop};
use qgjob_core::model::selector::{Platform, Target};
use qgjob_core::model::sha256::Sha256;
use qgjob_core::model::test_result::{TestOutcome, Try, TryStatus};
use qgjob_core::model::token::Kind;
use reqwest::{Method, RequestBuilder};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::Digest;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::desk::Desk;

pub const ARTIFACT: &[u8] = b"{\"a\":1}\n";

/// What becomes of a test file.
#[derive(Debug, Clone, Copy)]
pub enum Play {
    Passes,
    /// Passes after so many milliseconds.
    Lasts(u64),
    Fails(&'static str),
    Flaky,
    TimesOut,
    NoTests,
    /// With this reason.
    Faults(&'static str),
    /// Runs tests that end as these tries say.
    Tells(fn(&Lease) -> Vec<Try>),
}

pub struct FakeAgent {
    task: JoinHandle<()>,
    stop: CancellationToken,
}

struct Link {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Link {
    fn call(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token)
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> T {
        let answer = self.call(Method::POST, path).json(body).send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {status} {error}: {text}"))
    }

    async fn post_nothing(&self, path: &str, body: &impl Serialize) {
        let answer = self.call(Method::POST, path).json(body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
    }
}

impl FakeAgent {
    /// Registers an agent whose devices take jobs one after another.
    pub async fn start(
        desk: &Desk,
        devices: &[&str],
        play: impl Fn(&str) -> Play + Send + Sync + 'static,
    ) -> Self {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let base = format!("http://{}", desk.address);
        let admin = Link { http: http.clone(), base: base.clone(), token: desk.admin_token() };
        let new = NewToken { kind: Kind::Registration, name: "fake".into(), org_id: None, ttl_ms: None };
        let token: TokenWithSecret = admin.post("/api/v1/tokens", &new).await;
        let registering = Link { token: token.secret, ..admin };
        let registration = Registration { name: "fake".into(), version: "0".into() };
        let registered: Registered = registering.post("/agent/v1/register", &registration).await;
        let link = Arc::new(Link { http, base, token: registered.token });
        let names: Vec<String> = devices.iter().map(|name| (*name).to_owned()).collect();
        let play = Arc::new(play);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move { work(link, names, play, stopped).await });
        Self { task, stop }
    }

    /// Ends between two jobs: a claim that is cut off could leave a lease that nobody serves.
    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

async fn work(
    link: Arc<Link>,
    names: Vec<String>,
    play: Arc<impl Fn(&str) -> Play + Send + Sync>,
    stop: CancellationToken,
) {
    let mut ledger: Vec<Vec<Installed>> = vec![Vec::new(); names.len()];
    let mut fresh = true;
    for turn in 0_u64.. {
        if stop.is_cancelled() {
            return;
        }
        let devices =
            names.iter().zip(&ledger).map(|(name, ledger)| reported(name, ledger.clone())).collect();
        let reply: HeartbeatReply =
            link.post("/agent/v1/heartbeat", &Heartbeat { fresh, devices, attempts: Vec::new() }).await;
        fresh = false;
        let ids: Vec<_> = names.iter().map(|name| reply.devices[name]).collect();
        let claim = ClaimRequest { claim_id: format!("turn-{turn}"), devices: ids.clone() };
        let leases = link.post::<ClaimReply>("/agent/v1/claim?wait=1s", &claim).await.leases;
        for lease in leases {
            let at = ids.iter().position(|id| *id == lease.device_id).unwrap();
            let has = ledger[at].iter().any(|entry| entry.sha256 == lease.build.sha256);
            let how = play(lease.test.as_str());
            run(&link, &lease, has, how).await;
            let (app_id, sha256) = (lease.build.app_id.clone(), lease.build.sha256);
            let verified_at = "2026-11-22T10:00:00Z".parse().unwrap();
            ledger[at] = vec![Installed { app_id, sha256, proof: Proof::DeviceHash, verified_at }];
        }
    }
}

fn reported(name: &str, ledger: Vec<Installed>) -> ReportedDevice {
    ReportedDevice {
        name: name.to_owned(),
        serial: name.to_owned(),
        platform: Platform::Android,
        kind: Target::Emulator,
        model: "Pixel 7".into(),
        os_version: "14".into(),
        tags: BTreeSet::new(),
        online: true,
        note: None,
        ledger,
    }
}

async fn run(link: &Link, lease: &Lease, has: bool, how: Play) {
    let path = |what: &str| format!("/agent/v1/attempts/{}/{what}", lease.attempt_id);
    let epoch = lease.epoch;
    let action = if has { InstallAction::Avoided } else { InstallAction::Cold };
    let install = Some(Install { action, duration_ms: 1_500 });
    link.post_nothing(&path("phase"), &PhaseReport { epoch, phase: Phase::Installing, install }).await;
    link.post_nothing(&path("phase"), &PhaseReport { epoch, phase: Phase::Testing, install: None }).await;
    log(link, lease).await;
    if let Play::Lasts(ms) = how {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
    let tries = tries(lease, how);
    if !tries.is_empty() {
        link.post_nothing(&path("tests"), &TestsReport { epoch, tries: tries.clone() }).await;
    }
    artifact(link, lease).await;
    let evidence = evidence(&tries, how);
    let _: serde_json::Value = link.post(&path("finish"), &FinishReport { epoch, evidence }).await;
}

/// Three lines in two pieces, cut in the middle of a character.
async fn log(link: &Link, lease: &Lease) {
    let text = "line 1\nline 2 é\nline 3\n".as_bytes();
    let cut = 15;
    for (offset, piece) in [(0, &text[..cut]), (cut, &text[cut..])] {
        let path = format!("/agent/v1/attempts/{}/logs/test?epoch={}", lease.attempt_id, lease.epoch);
        let call = link.call(Method::PATCH, &path).header("upload-offset", offset).body(piece.to_vec());
        let answer = call.header("content-type", "application/octet-stream").send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn artifact(link: &Link, lease: &Lease) {
    let new = NewArtifact {
        epoch: lease.epoch,
        name: "results/report.json".into(),
        media_type: "application/json".into(),
        size_bytes: ARTIFACT.len() as u64,
        sha256: Sha256(sha2::Sha256::digest(ARTIFACT).into()),
    };
    let path = format!("/agent/v1/attempts/{}/artifacts", lease.attempt_id);
    let ticket: ArtifactTicket = link.post(&path, &new).await;
    if ticket.upload {
        let call = link.call(Method::PUT, &format!("{path}/{}", ticket.artifact_id)).body(ARTIFACT);
        let answer = call.header("content-type", "application/octet-stream").send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }
}

fn tries(lease: &Lease, how: Play) -> Vec<Try> {
    let one = |seq, retry, status, outcome, error: Option<&str>| Try {
        seq,
        test_id: "t1".into(),
        title: vec!["suite".into(), "does it".into()],
        unit: None,
        file: lease.test.to_string(),
        line: 3,
        retry,
        status,
        by_suite: None,
        outcome,
        duration_ms: 1_234,
        error: error.map(str::to_owned),
        files: Vec::new(),
    };
    match how {
        Play::Passes | Play::Lasts(_) => vec![one(1, 0, TryStatus::Passed, TestOutcome::Expected, None)],
        Play::Fails(error) => vec![one(1, 0, TryStatus::Failed, TestOutcome::Unexpected, Some(error))],
        Play::Flaky => vec![
            one(1, 0, TryStatus::Failed, TestOutcome::Unexpected, Some("Error: not yet")),
            one(2, 1, TryStatus::Passed, TestOutcome::Flaky, None),
        ],
        Play::Tells(tries) => tries(lease),
        Play::TimesOut | Play::NoTests | Play::Faults(_) => Vec::new(),
    }
}

fn evidence(tries: &[Try], how: Play) -> Evidence {
    let red = tries.is_empty() || tests_of(tries).iter().any(|test| test.outcome == TestOutcome::Unexpected);
    let code = u8::from(red).into();
    let exit = Some(Exit::Code(code));
    let missing = Evidence { stopped: None, fault: None, exit, selected: None, report: Report::Missing };
    match how {
        Play::TimesOut => Evidence { stopped: Some(Stop::TimedOut), ..missing },
        Play::Faults(reason) => {
            let reason = reason.parse().unwrap();
            Evidence { fault: Some(Fault { reason, detail: "the cable fell out".into() }), ..missing }
        }
        Play::NoTests => {
            let report = Report::Read { tests: Vec::new(), errors: vec!["Error: No tests found".into()] };
            Evidence { report, ..missing }
        }
        Play::Passes | Play::Lasts(_) | Play::Fails(_) | Play::Flaky | Play::Tells(_) => {
            Evidence { report: Report::Read { tests: tests_of(tries), errors: Vec::new() }, ..missing }
        }
    }
}

/// What the runner's report says of tests with these tries.
fn tests_of(tries: &[Try]) -> Vec<ReportedTest> {
    let mut tests: Vec<ReportedTest> = Vec::new();
    for one in tries {
        match tests.iter_mut().find(|test| test.test_id == one.test_id) {
            Some(test) => (test.outcome, test.tries) = (one.outcome, test.tries + 1),
            None => tests.push(ReportedTest {
                test_id: one.test_id.clone(),
                file: one.file.clone(),
                outcome: one.outcome,
                tries: 1,
            }),
        }
    }
    tests
}
