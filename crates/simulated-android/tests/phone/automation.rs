//! UiAutomator2's server as Appium's driver uses it: through a port forwarded by adb.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::{Value, json};
use simulated_android::Fault;

use crate::world::{World, demo, eventually, fixture};

const TARGET: &str = "io.appium.uiautomator2.server.test/androidx.test.runner.AndroidJUnitRunner";
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A session with the app on the screen.
struct Driver {
    world: World,
    instrumentation: Child,
    http: reqwest::Client,
    base: String,
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.instrumentation.kill().ok();
        self.instrumentation.wait().ok();
    }
}

impl Driver {
    async fn new() -> Self {
        let world = World::new().await;
        for apk in ["automation-server.apk", "automation-test.apk", "demo-1.4.2.apk"] {
            assert_eq!(world.install(&fixture(apk)).code, 0, "{apk}");
        }
        let instrumentation = Command::new("adb")
            .args([
                "-P",
                &world.adb.port.to_string(),
                "-s",
                &world.serial(),
                "shell",
                "am",
                "instrument",
                "-w",
            ])
            .arg(TARGET)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        eventually("instrumentation runs", || world.phone.truth().instrumentation_sessions == 1);
        let port = world.adb(&["forward", "tcp:0", "tcp:6790"]).out.trim().to_owned();
        world.launch();
        let http = reqwest::Client::new();
        let mut driver = Self { world, instrumentation, http, base: format!("http://127.0.0.1:{port}") };
        let body = json!({"capabilities": {"firstMatch": [{"platformName": "Android"}]}});
        let (status, answer) = driver.post("/session", body).await;
        assert_eq!(status, StatusCode::OK);
        driver.base = format!("{}/session/{}", driver.base, answer["value"]["sessionId"].as_str().unwrap());
        driver
    }

    async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        let response = self.http.post(format!("{}{path}", self.base)).json(&body).send().await.unwrap();
        (response.status(), response.json().await.unwrap())
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        let response = self.http.get(format!("{}{path}", self.base)).send().await.unwrap();
        (response.status(), response.json().await.unwrap())
    }

    async fn find(&self, strategy: &str, selector: &str) -> Result<String, String> {
        let (_, answer) = self.post("/element", json!({"strategy": strategy, "selector": selector})).await;
        let id = answer["value"][ELEMENT].as_str().map(str::to_owned);
        id.ok_or_else(|| answer["value"]["error"].as_str().unwrap().to_owned())
    }

    async fn text(&self, id: &str) -> Value {
        self.get(&format!("/element/{id}/text")).await.1["value"].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_finds_types_and_taps() {
    let driver = Driver::new().await;
    let field = driver.find("id", "dev.qgjob.fixture:id/name").await.unwrap();
    driver.post(&format!("/element/{field}/value"), json!({"text": "Ad"})).await;
    driver.post(&format!("/element/{field}/value"), json!({"text": "a"})).await;
    assert_eq!(driver.text(&field).await, "Ada", "typing adds to what is there");
    let button = driver.find("-android uiautomator", "textContains(\"continue\")").await.unwrap();
    driver.post(&format!("/element/{button}/click"), json!({})).await;
    let title = driver.find("xpath", "//*[@resource-id='dev.qgjob.fixture:id/title']").await.unwrap();
    assert_eq!(driver.text(&title).await, "Hello Ada");
    let (status, answer) = driver.get(&format!("/element/{field}/text")).await;
    assert_eq!(
        (status, &answer["value"]["error"]),
        (StatusCode::NOT_FOUND, &json!("stale element reference"))
    );
    assert_eq!(driver.find("id", "nothing").await.unwrap_err(), "no such element");
    assert_eq!(driver.find("xpath", "//*[").await.unwrap_err(), "invalid selector");
    assert!(driver.get("/source").await.1["value"].as_str().unwrap().contains("Hello Ada"));
    assert!(driver.get("/screenshot").await.1["value"].as_str().unwrap().starts_with("iVBORw0KGgo"));
    let gesture = json!({"actions": [{"type": "pointer", "id": "f", "actions": [
        {"type": "pointerMove", "x": 500, "y": 400}, {"type": "pointerDown"}, {"type": "pointerUp"}]}]});
    driver.post("/actions", gesture).await;
    assert!(driver.get("/source").await.1["value"].as_str().unwrap().contains("Counter: 1"));
    let truth = driver.world.phone.truth();
    assert_eq!((truth.automation_sessions, truth.screenshots, truth.taps.len()), (1, 1, 2));
    assert_eq!(truth.unknown, [""; 0]);
    assert_eq!(driver.get("/no/such/command").await.0, StatusCode::NOT_FOUND);
    assert_eq!(driver.world.phone.truth().unknown.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_hanging_servers_recover_when_healed() {
    let driver = Driver::new().await;
    driver.world.fault(Fault::Slow { ms: 700 });
    let began = Instant::now();
    driver.get("/source").await;
    assert!(began.elapsed() >= Duration::from_millis(700));
    driver.world.fault(Fault::HangInstrumentation);
    let request = driver.http.get(format!("{}/source", driver.base));
    assert!(request.timeout(Duration::from_secs(2)).send().await.unwrap_err().is_timeout());
    driver.world.fault(Fault::Heal);
    assert_eq!(driver.get("/source").await.0, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn instrumentation_dies_when_it_is_killed_and_refuses_its_port() {
    let mut driver = Driver::new().await;
    driver.world.fault(Fault::KillInstrumentation);
    eventually("am instrument ends", || driver.instrumentation.try_wait().unwrap().is_some());
    let refused = driver.http.get(format!("{}/source", driver.base)).send().await;
    assert!(refused.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn instrumentation_ends_when_adb_hangs_up_and_needs_its_packages() {
    let mut driver = Driver::new().await;
    driver.instrumentation.kill().unwrap();
    let gone =
        || driver.world.adb.plain(&["-s", &driver.world.serial(), "forward", "--list"]).out.contains("6790");
    assert!(gone(), "the forward itself stays");
    let url = format!("{}/source", driver.base);
    let mut refused = false;
    for _ in 0..100 {
        refused = driver.http.get(&url).send().await.is_err();
        if refused {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(refused, "the server is gone with its command");
    let world = World::new().await;
    world.install(&demo());
    let missing = world.shell(&format!("am instrument -w {TARGET}"));
    assert!(missing.code != 0 && missing.out.contains("Unable to find instrumentation info"), "{missing:?}");
}
