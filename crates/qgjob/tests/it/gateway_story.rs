//! The gateway between a runner and a device's Appium: with the real Appium and a simulated phone, and with
//! an Appium that misbehaves on purpose.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use qgjob::agent::gateway::{Config, Gateway, Reset};
use serde_json::{Value, json};
use simulated_android::Fault;
use tokio::sync::Notify;

use crate::device_bench::{Bench, DEMO, Plugged, demo_apk, eventually};

const LIMIT: Duration = Duration::from_secs(20);

impl Bench {
    async fn gateway(&self, serial: &str, appium_port: u16, reset: Reset) -> Gateway {
        Gateway::open(Config {
            adb: self.adb.clone(),
            serial: serial.to_owned(),
            appium_port,
            reset,
            artifacts: self.path("artifacts"),
            create_limit: Duration::from_secs(60),
        })
        .await
        .unwrap()
    }
}

/// A WebDriver client as AppWright has one, without its patience.
struct Client {
    base: String,
    http: reqwest::Client,
}

impl Client {
    fn of(gateway: &Gateway) -> Client {
        Client::at(gateway.port())
    }

    fn at(port: u16) -> Client {
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(120)).build().unwrap();
        Client { base: format!("http://127.0.0.1:{port}"), http }
    }

    async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        let answer = self.http.post(format!("{}{path}", self.base)).json(&body).send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        let answer = self.http.get(format!("{}{path}", self.base)).send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    async fn delete(&self, session: &str) -> StatusCode {
        self.http.delete(format!("{}/session/{session}", self.base)).send().await.unwrap().status()
    }

    /// Asks as AppWright's local-device provider does, with a wrong device on top.
    async fn ask_for_session(&self) -> (StatusCode, Value) {
        let caps = json!({
            "appium:deviceName": "some other phone", "appium:udid": "elsewhere", "appium:platformVersion": "9",
            "appium:automationName": "uiautomator2", "platformName": "android",
            "appium:autoGrantPermissions": true, "appium:app": "no/such/build.apk",
            "appium:appActivity": "dev.qgjob.demo.MainActivity", "appium:appPackage": DEMO,
            "appium:autoAcceptAlerts": true, "appium:fullReset": true,
        });
        self.post("/session", json!({"capabilities": {"alwaysMatch": caps, "firstMatch": [{}]}})).await
    }

    async fn session(&self) -> String {
        let (status, body) = self.ask_for_session().await;
        assert_eq!(status, 200, "{body}");
        body["value"]["sessionId"].as_str().unwrap().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_install_serves_every_test_and_each_begins_with_cleared_data() {
    let bench = Bench::new();
    let Plugged { phone, serial } = bench.plug_in("ada").await;
    bench.adb.install(&serial, &demo_apk()).await.unwrap();
    let appium = bench.appium(&serial).await;
    let gateway = bench.gateway(&serial, appium.port(), Reset::ClearData).await;
    let client = Client::of(&gateway);
    for _ in 0..3 {
        let session = client.session().await;
        let (status, source) = client.get(&format!("/session/{session}/source")).await;
        assert_eq!(status, 200);
        assert!(source["value"].as_str().unwrap().contains("Welcome to Demo"), "{source}");
        assert_eq!(client.delete(&session).await, 200);
    }
    let truth = phone.truth();
    assert_eq!((truth.app_installs().len(), truth.app_uninstalls().len()), (1, 0));
    assert_eq!(truth.clears.iter().filter(|c| c.package == DEMO).count(), 3);
    assert_eq!(truth.app_starts.iter().filter(|s| s.package == DEMO).count(), 3);

    let closing = gateway.close(LIMIT).await;
    assert_eq!((closing.ended, closing.failed.as_slice()), (0, &[][..]));
    assert!(!closing.needs_new_appium());
    let facts = closing.facts;
    assert_eq!((facts.sessions_created, facts.requests), (3, 9));
    assert!(facts.sessions_failed.is_empty() && facts.request_bytes > 0 && facts.response_bytes > 0);
    assert_eq!(facts.screenshots.len(), 3);
    for picture in &facts.screenshots {
        assert!(std::fs::read(picture).unwrap().starts_with(b"\x89PNG"));
    }
    appium.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn reset_none_keeps_data() {
    let bench = Bench::new();
    let Plugged { phone, serial } = bench.plug_in("ada").await;
    bench.adb.install(&serial, &demo_apk()).await.unwrap();
    let appium = bench.appium(&serial).await;
    phone.reset_truth();
    let gateway = bench.gateway(&serial, appium.port(), Reset::None).await;
    let client = Client::of(&gateway);
    for _ in 0..2 {
        let session = client.session().await;
        assert_eq!(client.delete(&session).await, 200);
    }
    let truth = phone.truth();
    assert_eq!((truth.clears.len(), truth.app_installs().len()), (0, 0));
    assert_eq!(truth.app_starts.iter().filter(|s| s.package == DEMO).count(), 2);
    gateway.close(LIMIT).await;
    appium.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_a_killed_runner_left_is_ended_and_the_app_stays() {
    let bench = Bench::new();
    let Plugged { phone, serial } = bench.plug_in("ada").await;
    bench.adb.install(&serial, &demo_apk()).await.unwrap();
    let appium = bench.appium(&serial).await;
    let gateway = bench.gateway(&serial, appium.port(), Reset::ClearData).await;
    let port = gateway.port();
    let session = Client::of(&gateway).session().await;
    assert!(gateway.in_session());

    let closing = gateway.close(LIMIT).await;
    assert_eq!((closing.ended, closing.failed.as_slice()), (1, &[][..]));
    assert_eq!(closing.facts.screenshots.len(), 1);
    let (status, _) = Client::at(appium.port()).get(&format!("/session/{session}/source")).await;
    assert_eq!(status, 404);
    assert_eq!(phone.truth().app_uninstalls().len(), 0);
    let again = Client::at(port).http.get(format!("http://127.0.0.1:{port}/status")).send().await;
    assert!(again.is_err(), "the gateway is closed");
    appium.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_died_leaves_its_session_to_be_ended_before_the_next() {
    let bench = Bench::new();
    let Plugged { phone: _phone, serial } = bench.plug_in("ada").await;
    bench.adb.install(&serial, &demo_apk()).await.unwrap();
    let appium = bench.appium(&serial).await;
    let gateway = bench.gateway(&serial, appium.port(), Reset::ClearData).await;
    let client = Client::of(&gateway);
    let (first, second) = (client.session().await, client.session().await);
    assert_eq!(client.get(&format!("/session/{first}/source")).await.0, 404);
    assert_eq!(client.get(&format!("/session/{second}/source")).await.0, 200);
    assert_eq!(gateway.close(LIMIT).await.ended, 1);
    appium.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unplugged_phone_fails_the_command_under_way_at_once() {
    let bench = Bench::new();
    let Plugged { phone, serial } = bench.plug_in("ada").await;
    bench.adb.install(&serial, &demo_apk()).await.unwrap();
    let appium = bench.appium(&serial).await;
    let gateway = bench.gateway(&serial, appium.port(), Reset::ClearData).await;
    let client = Client::of(&gateway);
    let session = client.session().await;

    phone.fault(Fault::HangInstrumentation);
    let path = format!("/session/{session}/element");
    let command = client.post(&path, json!({"using": "id", "value": "dev.qgjob.demo:id/name"}));
    let unplug = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        phone.fault(Fault::Unplug);
        assert!(bench.adb.wait_until_gone(&serial, Duration::from_secs(10)).await.unwrap());
        gateway.device_lost("it left the list of devices");
        Instant::now()
    };
    let answered = async { (command.await, Instant::now()) };
    let (((status, body), answered), lost) = tokio::join!(answered, unplug);
    // Appium itself gives the hung command minutes.
    assert!(answered - lost < Duration::from_secs(20), "{:?}", answered - lost);
    assert_eq!(status, 404);
    // The words that keep the WebDriver client from trying again.
    let message = body["value"]["message"].as_str().unwrap();
    assert!(message.contains("invalid session id") && message.contains("it left the list"), "{message}");
    let (status, _) = client.ask_for_session().await;
    assert_eq!(status, 404);
    assert_eq!(gateway.facts().device_lost.as_deref(), Some("it left the list of devices"));
    gateway.close(Duration::from_secs(1)).await;
    appium.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn appium_refusing_a_session_is_told_to_the_client_and_noted() {
    let bench = Bench::new();
    let Plugged { phone: _phone, serial } = bench.plug_in("ada").await;
    let appium = bench.appium(&serial).await;
    let gateway = bench.gateway(&serial, appium.port(), Reset::ClearData).await;
    // The app is not installed, and Appium is not given one to install.
    let (status, body) = Client::of(&gateway).ask_for_session().await;
    assert_eq!(status, 500, "{body}");
    let facts = gateway.facts();
    assert_eq!((facts.sessions_created, facts.sessions_failed.len()), (0, 1));
    assert!(facts.sessions_failed[0].contains(DEMO), "{:?}", facts.sessions_failed);
    gateway.close(LIMIT).await;
    appium.stop().await.unwrap();
}

/// An Appium whose sessions take as long as they are told to, or until they are let go, and whose ends may fail.
#[derive(Clone)]
struct FakeAppium {
    create_takes: Duration,
    let_go: Arc<Notify>,
    end_status: StatusCode,
    created: Arc<AtomicU32>,
    ended: Arc<AtomicU32>,
}

impl FakeAppium {
    fn new(create_takes: Duration) -> FakeAppium {
        FakeAppium {
            create_takes,
            let_go: Arc::default(),
            end_status: StatusCode::OK,
            created: Arc::default(),
            ended: Arc::default(),
        }
    }

    async fn listen(&self) -> u16 {
        async fn create(State(fake): State<FakeAppium>) -> axum::Json<Value> {
            let number = fake.created.fetch_add(1, Ordering::SeqCst) + 1;
            // Goes on when the caller has hung up.
            let making = tokio::spawn(async move {
                tokio::select! {
                    () = tokio::time::sleep(fake.create_takes) => {}
                    () = fake.let_go.notified() => {}
                }
            });
            making.await.unwrap();
            axum::Json(json!({"value": {"sessionId": format!("s{number}"), "capabilities": {}}}))
        }
        async fn end(State(fake): State<FakeAppium>, Path(_): Path<String>) -> (StatusCode, &'static str) {
            fake.ended.fetch_add(1, Ordering::SeqCst);
            (fake.end_status, "{\"value\": null}")
        }
        let router = Router::new()
            .route("/session", post(create))
            .route("/session/{id}", delete(end))
            .route("/status", get(async || axum::Json(json!({"value": {"ready": true}}))))
            .with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { axum::serve(listener, router).await });
        port
    }

    /// Waits until a session is in the making.
    async fn is_asked_for_a_session(&self) {
        eventually("a session is asked for", async || self.created.load(Ordering::SeqCst) == 1).await;
    }

    async fn gateway(&self, bench: &Bench, create_limit: Duration) -> Gateway {
        Gateway::open(Config {
            adb: bench.adb.clone(),
            serial: "no-device".to_owned(),
            appium_port: self.listen().await,
            reset: Reset::ClearData,
            artifacts: bench.path("artifacts"),
            create_limit,
        })
        .await
        .unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_11_a_hung_appium_costs_its_limit_once_and_not_four_times() {
    let bench = Bench::new();
    let fake = FakeAppium::new(Duration::from_secs(300));
    let gateway = fake.gateway(&bench, Duration::from_millis(300)).await;
    let client = Client::of(&gateway);
    let began = Instant::now();
    for _ in 0..4 {
        let (status, body) = client.ask_for_session().await;
        assert_eq!(status, 404);
        assert!(body["value"]["message"].as_str().unwrap().contains("invalid session id"));
    }
    assert!(
        began.elapsed() < Duration::from_secs(60),
        "Appium would have taken 300 s: {:?}",
        began.elapsed()
    );
    assert_eq!(fake.created.load(Ordering::SeqCst), 1);
    assert!(gateway.facts().appium_hung);
    assert!(gateway.close(LIMIT).await.needs_new_appium());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_in_the_making_blocks_no_other_command() {
    let bench = Bench::new();
    let fake = FakeAppium::new(Duration::from_secs(300));
    let gateway = fake.gateway(&bench, Duration::from_secs(60)).await;
    let client = Client::of(&gateway);
    let others = async {
        fake.is_asked_for_a_session().await;
        for _ in 0..20 {
            assert_eq!(client.get("/status").await.0, 200);
        }
        // None of them waited for the session: it is made only now.
        fake.let_go.notify_one();
    };
    let (session, ()) = tokio::join!(client.session(), others);
    assert_eq!(session, "s1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_client_hung_up_is_ended_as_soon_as_it_exists() {
    let bench = Bench::new();
    let fake = FakeAppium::new(Duration::from_secs(300));
    let gateway = fake.gateway(&bench, Duration::from_secs(60)).await;
    let client = Client::of(&gateway);
    tokio::select! {
        answer = client.ask_for_session() => panic!("{answer:?}"),
        () = fake.is_asked_for_a_session() => {}
    }
    // Nothing tells when the gateway has seen the connection close.
    tokio::time::sleep(Duration::from_secs(1)).await;
    fake.let_go.notify_one();
    eventually("the session is ended", async || fake.ended.load(Ordering::SeqCst) == 1).await;
    assert_eq!(fake.created.load(Ordering::SeqCst), 1);
    assert!(!gateway.in_session());
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_waits_for_a_session_in_the_making_and_ends_it() {
    let bench = Bench::new();
    let fake = FakeAppium::new(Duration::from_secs(1));
    let gateway = fake.gateway(&bench, LIMIT).await;
    let client = Client::of(&gateway);
    let asked = tokio::spawn(async move { client.ask_for_session().await });
    fake.is_asked_for_a_session().await;
    let closing = gateway.close(LIMIT).await;
    assert!(closing.failed.is_empty(), "{closing:?}");
    assert_eq!(fake.ended.load(Ordering::SeqCst), 1);
    assert_eq!(asked.await.unwrap().0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_cannot_be_ended_is_reported() {
    let bench = Bench::new();
    let mut fake = FakeAppium::new(Duration::ZERO);
    fake.end_status = StatusCode::INTERNAL_SERVER_ERROR;
    let gateway = fake.gateway(&bench, LIMIT).await;
    Client::of(&gateway).session().await;
    let closing = gateway.close(LIMIT).await;
    assert_eq!((closing.ended, closing.failed.len()), (0, 1));
    assert!(closing.failed[0].contains("s1"), "{closing:?}");
    assert!(closing.needs_new_appium());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_somebody_else_is_out_of_reach() {
    let bench = Bench::new();
    let fake = FakeAppium::new(Duration::ZERO);
    let gateway = fake.gateway(&bench, LIMIT).await;
    let client = Client::of(&gateway);
    assert_eq!(client.delete("theirs").await, 404);
    assert_eq!(client.get("/session/theirs/source").await.0, 404);
    assert_eq!(fake.ended.load(Ordering::SeqCst), 0);
    let (status, body) = client.post("/session", json!({"desiredCapabilities": {}})).await;
    assert_eq!((status.as_u16(), &body["value"]["error"]), (400, &json!("invalid argument")));
}
