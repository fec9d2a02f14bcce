//! The Appium that the agent keeps for a device: the real one.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qgjob::agent::appium::home;
use qgjob::agent::process;

use crate::device_bench::{Bench, eventually, test_cache};

async fn answers(port: u16) -> bool {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    client.get(format!("http://127.0.0.1:{port}/status")).send().await.is_ok_and(|a| a.status().is_success())
}

#[tokio::test(flavor = "multi_thread")]
async fn appium_is_installed_once_however_many_ask_at_once() {
    let cache = test_cache();
    let (one, two) = tokio::join!(home::ensure(&cache), home::ensure(&cache));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one, two);
    assert!(one.server().is_file());
    // Whoever wants to install waits for this lock first.
    let installing = std::fs::File::open(cache.join("webdriver.lock")).unwrap();
    installing.lock().unwrap();
    let again = tokio::time::timeout(Duration::from_secs(20), home::ensure(&cache));
    assert_eq!(again.await.expect("npm is not run again").unwrap(), one);
    let left: Vec<_> = std::fs::read_dir(&cache)
        .unwrap()
        .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with(".half-"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_appium_that_dies_is_replaced_and_one_that_is_well_is_kept() {
    let bench = Bench::new();
    let phone = bench.plug_in("ada").await;
    let mut appium = bench.appium(&phone.serial).await;
    let first = appium.port();
    assert!(answers(first).await);
    appium.ensure_ready().await.unwrap();
    assert_eq!((appium.port(), appium.restarts()), (first, 0));

    let mark = appium.log_position();
    kill(Pid::from_raw(appium.process_id() as i32), Signal::SIGKILL).unwrap();
    eventually("the server is dead", async || !answers(first).await).await;
    appium.ensure_ready().await.unwrap();
    assert_eq!(appium.restarts(), 1);
    let second = appium.port();
    assert!(answers(second).await);
    let log = String::from_utf8(appium.log_since(mark, 1 << 20).unwrap()).unwrap();
    assert!(log.contains("Welcome to Appium"), "{log}");

    let held = |folder: &str| std::fs::read_dir(bench.path(folder)).unwrap().count();
    assert_eq!(held("scratch"), 1, "the server's own, and not its predecessor's");
    appium.stop().await.unwrap();
    assert!(!answers(second).await);
    assert_eq!((held("records"), held("scratch")), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_3_each_device_has_an_appium_on_a_port_of_its_own_and_on_loopback_only() {
    let bench = Bench::new();
    let (ada, bob) = (bench.plug_in("ada").await, bench.plug_in("bob").await);
    let (a, b) = tokio::join!(bench.appium(&ada.serial), bench.appium(&bob.serial));
    assert_ne!(a.port(), b.port());
    for appium in [&a, &b] {
        assert_ne!(appium.port(), 4723);
        let log = String::from_utf8(appium.log_since(0, 1 << 20).unwrap()).unwrap();
        assert!(log.contains(&format!("http://127.0.0.1:{}", appium.port())), "{log}");
        assert!(!log.contains("0.0.0.0"), "{log}");
    }
    a.stop().await.unwrap();
    b.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_4_an_agent_that_was_killed_leaves_no_appium_to_its_successor() {
    let bench = Bench::new();
    let phone = bench.plug_in("ada").await;
    let appium = bench.appium(&phone.serial).await;
    let (port, records) = (appium.port(), bench.path("records"));
    // What `kill -9` does: nobody tidies up.
    std::mem::forget(appium);
    assert!(answers(port).await);
    let killed =
        tokio::task::spawn_blocking(move || process::end_leftovers(&records)).await.unwrap().unwrap();
    assert!(killed >= 1);
    assert!(!answers(port).await);
    // The adb server belongs to the host and goes on.
    assert!(bench.adb.devices().await.unwrap().iter().any(|d| d.serial == phone.serial && d.ready()));
}
