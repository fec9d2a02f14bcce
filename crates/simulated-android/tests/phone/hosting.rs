//! The binary: several phones, the control API, and the adb server that gets to know them.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use reqwest::StatusCode;
use serde_json::{Value, json};
use simulated_android::{Fault, Truth};

use crate::world::{Adb, demo, eventually, free_port};

struct Host {
    child: Child,
    control: String,
    /// Name and address.
    phones: Vec<(String, String)>,
}

impl Host {
    fn start(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_simulated-android"))
            .args([
                "--control",
                "127.0.0.1:0",
                "--phone",
                "name=one,model=\"Pixel 7\"",
                "--phone",
                "name=two,sdk=33",
            ])
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let control = lines.next().unwrap().strip_prefix("control ").unwrap().to_owned();
        let mut phones = Vec::new();
        for line in lines.take(2) {
            let (name, address) = line.strip_prefix("ready ").unwrap().split_once(' ').unwrap();
            phones.push((name.to_owned(), address.to_owned()));
        }
        Self { child, control, phones }
    }

    async fn fault(&self, name: &str, fault: Fault) {
        let url = format!("{}/phones/{name}/faults", self.control);
        let response = reqwest::Client::new().post(url).json(&fault).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
    }

    async fn truth(&self, name: &str) -> Truth {
        reqwest::get(format!("{}/phones/{name}", self.control)).await.unwrap().json().await.unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn phones_appear_at_an_adb_server_that_starts_later_and_come_back() {
    let port = free_port();
    let host = Host::start(&["--adb-server", &port.to_string()]);
    let adb = Adb::start_on(port);
    for (name, address) in &host.phones {
        eventually(name, || adb.state(address).as_deref() == Some("device"));
    }
    let address = &host.phones[0].1;
    host.fault("one", Fault::Unplug).await;
    eventually("an unplugged phone is not listed at all", || adb.state(address).is_none());
    assert_eq!(adb.state(&host.phones[1].1).as_deref(), Some("device"));
    host.fault("one", Fault::Replug).await;
    eventually("it is back", || adb.state(address).as_deref() == Some("device"));
    for fault in [Fault::Reboot { ms: 100 }, Fault::Unauthorized, Fault::Replug] {
        let (ready, code) = if fault == Fault::Unauthorized { ("", 1) } else { ("1\n", 0) };
        host.fault("one", fault.clone()).await;
        eventually(&format!("the adb server knows about {fault:?}"), || {
            let answer = adb.plain(&["-s", address, "shell", "getprop sys.boot_completed"]);
            (answer.out.as_str(), answer.code) == (ready, code)
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_control_api_tells_the_truth_and_takes_faults() {
    let host = Host::start(&[]);
    let adb = Adb::start();
    let address = &host.phones[1].1;
    adb.plain(&["connect", address]);
    host.fault("two", Fault::RejectInstall { message: "INSTALL_FAILED_ABORTED".into(), times: 1 }).await;
    let install = || adb.plain(&["-s", address, "install", &demo()]);
    assert!(install().all().contains("INSTALL_FAILED_ABORTED"));
    assert_eq!(install().code, 0);
    let truth = host.truth("two").await;
    assert_eq!((truth.app_installs().len(), truth.refused_installs.len()), (1, 1));
    assert_eq!(host.truth("one").await, Truth::default());
    let client = reqwest::Client::new();
    client.post(format!("{}/phones/two/reset-truth", host.control)).send().await.unwrap();
    let truth = host.truth("two").await;
    assert_eq!((truth.app_installs().len(), truth.installed_apps().len()), (0, 1));
    let phones: Value = reqwest::get(format!("{}/phones", host.control)).await.unwrap().json().await.unwrap();
    assert_eq!(phones[1]["address"], json!(address));
    assert_eq!(phones[0]["model"], "Pixel 7");
    let unknown = reqwest::get(format!("{}/phones/three", host.control)).await.unwrap();
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
    let nonsense =
        client.post(format!("{}/phones/two/faults", host.control)).json(&json!({"kind": "explode"}));
    assert!(nonsense.send().await.unwrap().status().is_client_error());
}

#[test]
fn it_ends_when_it_is_told_to_and_refuses_nonsense() {
    let mut host = Host::start(&[]);
    let pid = host.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(host.child.wait().unwrap().success());
    for phone in ["name", "port=x", "colour=red"] {
        let refused =
            Command::new(env!("CARGO_BIN_EXE_simulated-android")).args(["--phone", phone]).output().unwrap();
        assert_eq!(refused.status.code(), Some(2), "{phone}");
    }
}
