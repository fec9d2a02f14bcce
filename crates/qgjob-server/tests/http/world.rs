//! A server on a free port with a data folder of its own, and callers to talk to it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use qgjob_core::api::agents::Lease;
use qgjob_core::api::problem::Problem;
use qgjob_core::clock::{Clock, SystemClock};
use qgjob_server::config::{Config, Limits};
use qgjob_server::run::Server;
use qgjob_server::store::sqlite::Sqlite;
use qgjob_server::store::{Rules, Store};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::Digest;
use tokio_util::sync::CancellationToken;

/// A running server.
pub struct World {
    pub url: String,
    pub metrics_url: Option<String>,
    pub admin: Caller,
    pub folder: tempfile::TempDir,
    pub store: Arc<dyn Store>,
    pub shutdown: CancellationToken,
    pub serving: tokio::task::JoinHandle<qgjob_server::run::Result<()>>,
}

impl World {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with_limits(change: impl FnOnce(&mut Limits)) -> Self {
        Self::with(|config| change(&mut config.limits)).await
    }

    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::at(tempfile::tempdir().unwrap(), change).await
    }

    /// A server on the folder of an earlier one.
    pub async fn at(folder: tempfile::TempDir, change: impl FnOnce(&mut Config)) -> Self {
        Self::ticking(folder, Arc::new(SystemClock), change).await
    }

    /// A server that goes by this clock.
    pub async fn ticking(
        folder: tempfile::TempDir,
        clock: Arc<dyn Clock>,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let path = folder.path().join("qgjob.db");
        let store: Arc<dyn Store> = Arc::new(Sqlite::open(&path, Rules::default()).unwrap());
        Self::keeping(folder, store, clock, change).await
    }

    /// A server that keeps its queue in this store.
    pub async fn keeping(
        folder: tempfile::TempDir,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            data_dir: folder.path().join("data"),
            credential_file: Some(credential_file(&folder)),
            ..Config::default()
        };
        config.limits.disk_free = 0;
        change(&mut config);
        std::fs::create_dir_all(&config.data_dir).unwrap();
        let bound = Server::bind(config, Arc::clone(&store), clock).await.unwrap();
        let url = format!("http://{}", bound.addr);
        let metrics_url = bound.metrics_addr.map(|addr| format!("http://{addr}"));
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(bound.serve(shutdown.clone()));
        let credential: Value =
            serde_json::from_slice(&std::fs::read(credential_file(&folder)).unwrap()).unwrap();
        let admin = Caller::new(&url, credential["token"].as_str().unwrap());
        Self { url, metrics_url, admin, folder, store, shutdown, serving }
    }

    /// Somebody without a token.
    pub fn nobody(&self) -> Caller {
        Caller { url: self.url.clone(), token: None, client: reqwest::Client::new() }
    }

    /// A user of an org.
    pub async fn member(&self, org: &str) -> Caller {
        let body = json!({"kind": "api", "name": "test", "org_id": org});
        let made: Value = self.admin.post("/api/v1/tokens", &body).await.ok().await;
        Caller::new(&self.url, made["secret"].as_str().unwrap())
    }

    /// An agent with one idle device.
    pub async fn agent(&self, name: &str) -> Agent {
        let body = json!({"kind": "registration", "name": name});
        let made: Value = self.admin.post("/api/v1/tokens", &body).await.ok().await;
        let registration = Caller::new(&self.url, made["secret"].as_str().unwrap());
        let body = json!({"name": name, "version": "0.1.0"});
        let made: Value = registration.post("/agent/v1/register", &body).await.ok().await;
        let mut agent = Agent {
            id: made["agent_id"].as_str().unwrap().to_owned(),
            caller: Caller::new(&self.url, made["token"].as_str().unwrap()),
            device: String::new(),
        };
        let reply: Value = agent.caller.post("/agent/v1/heartbeat", &agent.heartbeat(true)).await.ok().await;
        agent.device = reply["devices"]["phone-1"].as_str().unwrap().to_owned();
        agent
    }

    /// An org with an app version `v1`, a bundle, an agent, and a job of the org that the agent holds.
    pub async fn running(&self, org: &str) -> Running {
        let member = self.member(org).await;
        member.bind(org, "v1").await;
        let submitted: Value = member.submit(org, &["a.spec.js"]).await;
        let agent = self.agent(&format!("agent-of-{org}")).await;
        let lease = agent.claim("claim-1").await.pop().expect("the job waits for the device");
        let text = |field: &str| submitted[field].as_str().unwrap().to_owned();
        Running { member, agent, lease, run: text("run_id"), job: text("job_id") }
    }

    /// Waits until the server has so many requests whose answer has not begun, and so many streams.
    pub async fn is_asked(&self, requests: &[(&str, Method)], streams: usize) {
        let mut lines: Vec<String> = requests
            .iter()
            .map(|(route, method)| {
                format!("qgjob_http_requests_waiting{{route=\"{route}\",method=\"{method}\"}} 1")
            })
            .collect();
        lines.push(format!("qgjob_sse_connections {streams}"));
        eventually(async || {
            let text = self.admin.get("/metrics").await.status_is(StatusCode::OK).await;
            lines.iter().all(|wanted| text.lines().any(|line| line == wanted))
        })
        .await;
    }

    /// Stops the server and gives its folder back.
    pub async fn stop(self) -> tempfile::TempDir {
        self.shutdown.cancel();
        self.serving.await.unwrap().unwrap();
        drop(self.store);
        self.folder
    }
}

/// Asks again and again until it is so.
pub async fn eventually(mut is_so: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), asking).await.expect("it never is so");
}

pub fn credential_file(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("credentials.json")
}

/// A job on its device.
pub struct Running {
    pub member: Caller,
    pub agent: Agent,
    pub lease: Lease,
    pub run: String,
    pub job: String,
}

impl Running {
    pub fn attempt(&self, rest: &str) -> String {
        format!("/agent/v1/attempts/{}{rest}", self.lease.attempt_id)
    }

    pub async fn log(&self, offset: u64, bytes: &[u8]) -> Response {
        let path = self.attempt(&format!("/logs/test?epoch={}", self.lease.epoch));
        let request = self.agent.caller.request(Method::PATCH, &path).header("upload-offset", offset);
        request.body(bytes.to_vec()).send().await.unwrap()
    }

    pub async fn finish(&self) -> Response {
        let epoch = self.lease.epoch;
        let tries = json!({"epoch": epoch, "tries": [one_try(1, "t1")]});
        self.agent.caller.post(&self.attempt("/tests"), &tries).await.status_is(StatusCode::NO_CONTENT).await;
        self.finish_again().await
    }

    /// Gives the job back, and takes it again as its next attempt.
    pub async fn start_anew(&mut self) {
        let evidence = json!({"stopped": "shutdown", "report": {"state": "missing"}});
        let body = json!({"epoch": self.lease.epoch, "evidence": evidence});
        self.agent.caller.post(&self.attempt("/finish"), &body).await.status_is(StatusCode::OK).await;
        let claim = format!("claim-{}", self.lease.number + 1);
        self.lease = self.agent.claim(&claim).await.pop().expect("the job waits again");
    }

    /// Sends the finish alone.
    pub async fn finish_again(&self) -> Response {
        let epoch = self.lease.epoch;
        let tests = json!([{"test_id": "t1", "file": "a.spec.js", "outcome": "expected", "tries": 1}]);
        let report = json!({"state": "read", "tests": tests, "errors": []});
        let body = json!({"epoch": epoch, "evidence": {"exit": {"code": 0}, "report": report}});
        self.agent.caller.post(&self.attempt("/finish"), &body).await
    }
}

pub fn one_try(seq: u32, id: &str) -> Value {
    json!({"seq": seq, "test_id": id, "title": ["opens"], "file": "a.spec.js", "line": 1, "retry": 0,
        "status": "passed", "outcome": "expected", "duration_ms": 5})
}

/// A registered agent.
pub struct Agent {
    pub id: String,
    pub caller: Caller,
    pub device: String,
}

impl Agent {
    pub fn heartbeat(&self, fresh: bool) -> Value {
        let device = json!({"name": "phone", "serial": "phone-1", "platform": "android", "kind": "device",
            "model": "Pixel 7", "os_version": "14", "tags": [], "online": true, "note": null, "ledger": []});
        json!({"fresh": fresh, "devices": [device], "attempts": []})
    }

    pub async fn claim(&self, claim_id: &str) -> Vec<Lease> {
        let body = json!({"claim_id": claim_id, "devices": [self.device]});
        let reply: Value = self.caller.post("/agent/v1/claim?wait=10s", &body).await.ok().await;
        serde_json::from_value(reply["leases"].clone()).unwrap()
    }
}

/// Somebody who calls.
#[derive(Clone)]
pub struct Caller {
    pub url: String,
    pub token: Option<String>,
    client: reqwest::Client,
}

impl Caller {
    pub fn new(url: &str, token: &str) -> Self {
        Self { url: url.to_owned(), token: Some(token.to_owned()), client: reqwest::Client::new() }
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request =
            self.client.request(method, format!("{}{path}", self.url)).timeout(Duration::from_secs(60));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    pub async fn post(&self, path: &str, body: &Value) -> Response {
        self.request(Method::POST, path).json(body).send().await.unwrap()
    }

    pub async fn delete(&self, path: &str) -> Response {
        self.request(Method::DELETE, path).send().await.unwrap()
    }

    /// Uploads bytes and answers their digest.
    pub async fn upload(&self, org: &str, kind: &str, bytes: &[u8]) -> String {
        let begun: Value = self.post("/api/v1/uploads", &new_upload(org, kind, bytes)).await.ok().await;
        if begun["exists"] == true {
            return sha256(bytes);
        }
        let path = format!("/api/v1/uploads/{}", begun["upload_id"].as_str().unwrap());
        let send = self.request(Method::PATCH, &path).header("upload-offset", 0).body(bytes.to_vec());
        send.send().await.unwrap().status_is(StatusCode::OK).await;
        self.post(&format!("{path}/complete"), &Value::Null).await.status_is(StatusCode::OK).await;
        sha256(bytes)
    }

    /// Uploads an app and binds it to a label.
    pub async fn bind(&self, org: &str, label: &str) -> Response {
        let bytes = format!("app of {org}").into_bytes();
        let sha256 = self.upload(org, "app", &bytes).await;
        self.post("/api/v1/app-versions", &new_app_version(org, label, &sha256, bytes.len())).await
    }

    /// The body of a run of these tests, with the bundle uploaded.
    pub async fn new_run(&self, org: &str, tests: &[&str]) -> Value {
        let bundle = self.upload(org, "bundle", b"a bundle").await;
        json!({"org_id": org, "app_version_id": "v1", "bundle_sha256": bundle, "tests": tests})
    }

    pub async fn submit(&self, org: &str, tests: &[&str]) -> Value {
        let body = self.new_run(org, tests).await;
        self.post("/api/v1/runs", &body).await.ok().await
    }
}

pub fn new_upload(org: &str, kind: &str, bytes: &[u8]) -> Value {
    json!({"org_id": org, "kind": kind, "size_bytes": bytes.len(), "sha256": sha256(bytes)})
}

pub fn new_app_version(org: &str, label: &str, sha256: &str, size: usize) -> Value {
    let build = json!({"sha256": sha256, "size_bytes": size, "platform": "android", "app_id": "dev.qgjob.demo",
        "version_name": "1.0", "version_code": "1"});
    json!({"org_id": org, "app_version_id": label, "build": build})
}

pub fn sha256(bytes: &[u8]) -> String {
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a test expects of an answer.
pub trait Expect {
    /// It succeeded; its body.
    async fn ok<T: DeserializeOwned>(self) -> T;
    /// It is this problem.
    async fn problem(self, code: &str) -> Problem;
    /// It has this status; its body as text.
    async fn status_is(self, status: StatusCode) -> String;
}

impl Expect for Response {
    async fn ok<T: DeserializeOwned>(self) -> T {
        let (status, url) = (self.status(), self.url().clone());
        let text = self.text().await.unwrap();
        assert!(status.is_success(), "{url}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{url}: {error}: {text}"))
    }

    async fn problem(self, code: &str) -> Problem {
        let (status, url) = (self.status(), self.url().clone());
        let media_type = self.headers().get("content-type").map(|value| value.to_str().unwrap().to_owned());
        let id = self.headers().get("x-request-id").map(|value| value.to_str().unwrap().to_owned());
        let text = self.text().await.unwrap();
        assert_eq!(media_type.as_deref(), Some("application/problem+json"), "{url}: {status} {text}");
        let problem: Problem = serde_json::from_str(&text).unwrap();
        assert_eq!(problem.code.as_str(), code, "{url}: {text}");
        assert_eq!(problem.status, status.as_u16());
        assert!(id.is_some() && problem.request_id == id, "{url}: {text}");
        problem
    }

    async fn status_is(self, status: StatusCode) -> String {
        let (found, url) = (self.status(), self.url().clone());
        let text = self.text().await.unwrap();
        assert_eq!(found, status, "{url}: {text}");
        text
    }
}
