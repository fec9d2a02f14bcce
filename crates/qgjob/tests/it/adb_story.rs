//! The agent and its devices over the real adb server.

use std::time::Duration;

use qgjob::agent::adb::{Adb, Advice, Error, InstallError, Listed};
use sha2::{Digest, Sha256};
use simulated_android::Fault;

use crate::device_bench::{Bench, DEMO, Plugged, demo_apk, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_is_discovered_with_its_facts_and_seen_to_leave() {
    let bench = Bench::new();
    let mut lists = bench.adb.track_devices();
    let Plugged { phone, serial } = bench.plug_in("ada").await;

    let facts = bench.adb.facts(&serial).await.unwrap();
    assert_eq!((facts.model.as_str(), facts.manufacturer.as_str()), ("Pixel 7", "Google"));
    assert_eq!((facts.release.as_str(), facts.sdk), ("14", 34));
    assert!(!facts.abi.is_empty());
    assert!(bench.adb.boot_completed(&serial).await.unwrap());

    let ready = |list: &[Listed]| list.iter().any(|d| d.serial == serial && d.ready());
    let next = async |lists: &mut qgjob::agent::adb::DeviceLists| {
        tokio::time::timeout(Duration::from_secs(10), lists.next()).await.unwrap().unwrap()
    };
    while !ready(&next(&mut lists).await) {}
    phone.fault(Fault::Unplug);
    while ready(&next(&mut lists).await) {}
    let error = bench.adb.shell(&serial, "echo hello").await.unwrap_err();
    assert!(error.is_device_gone(), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn following_the_devices_survives_the_end_of_the_adb_server() {
    let bench = Bench::new();
    let Plugged { phone: _phone, serial } = bench.plug_in("ada").await;
    let mut lists = bench.adb.track_devices();
    let first = lists.next().await.unwrap();
    assert!(first.iter().any(|d| d.serial == serial), "{first:?}");

    let port = bench.adb.port().to_string();
    std::process::Command::new("adb").args(["-P", &port, "kill-server"]).output().unwrap();
    while !lists.next().await.unwrap().is_empty() {}
    // A new server does not know what was connected to the old one.
    eventually("a server is started again", async || bench.adb.connect(&serial).await.is_ok()).await;
    while !lists.next().await.unwrap().iter().any(|d| d.serial == serial && d.ready()) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn an_install_is_proven_by_the_bytes_on_the_phone() {
    let bench = Bench::new();
    let Plugged { phone, serial } = bench.plug_in("ada").await;
    let adb = &bench.adb;
    assert_eq!(adb.installed(&serial, DEMO).await.unwrap(), None);

    adb.install(&serial, &demo_apk()).await.unwrap();
    let installed = adb.installed(&serial, DEMO).await.unwrap().unwrap();
    assert_eq!((installed.version_code, installed.version_name.as_str()), (7, "1.4.2"));
    assert_eq!(installed.sha256, sha256(&std::fs::read(demo_apk()).unwrap()));
    assert_eq!(installed.sha256, phone.truth().app_installs()[0].sha256);

    adb.clear(&serial, DEMO).await.unwrap();
    assert_eq!(phone.truth().clears.len(), 1);
    assert!(adb.uninstall(&serial, DEMO).await.unwrap());
    assert!(!adb.uninstall(&serial, DEMO).await.unwrap());
    assert!(matches!(adb.clear(&serial, DEMO).await, Err(Error::Command { .. })));
    assert_eq!((phone.truth().app_installs().len(), phone.truth().app_uninstalls().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_bytes_under_the_same_version_do_not_pass_for_the_build() {
    let bench = Bench::new();
    let Plugged { phone, serial } = bench.plug_in("ada").await;
    phone.fault(Fault::CorruptInstall { times: 1 });
    bench.adb.install(&serial, &demo_apk()).await.unwrap();
    let installed = bench.adb.installed(&serial, DEMO).await.unwrap().unwrap();
    assert_eq!(installed.version_code, 7);
    assert_ne!(installed.sha256, sha256(&std::fs::read(demo_apk()).unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_install_says_whose_fault_it_is() {
    let bench = Bench::new();
    let Plugged { phone, serial } = bench.plug_in("ada").await;
    let refusal = async || match bench.adb.install(&serial, &demo_apk()).await {
        Err(InstallError::Refused(failure)) => (failure.code.clone(), failure.advice()),
        other => panic!("{other:?}"),
    };
    let reject = |message: &str| phone.fault(Fault::RejectInstall { message: message.to_owned(), times: 1 });

    reject("INSTALL_FAILED_UPDATE_INCOMPATIBLE");
    assert_eq!(refusal().await, ("INSTALL_FAILED_UPDATE_INCOMPATIBLE".to_owned(), Advice::UninstallFirst));
    reject("INSTALL_FAILED_NO_MATCHING_ABIS");
    assert_eq!(refusal().await, ("INSTALL_FAILED_NO_MATCHING_ABIS".to_owned(), Advice::RefuseBuild));
    phone.fault(Fault::StorageFull);
    assert_eq!(refusal().await, ("INSTALL_FAILED_INSUFFICIENT_STORAGE".to_owned(), Advice::AvoidDevice));
    phone.fault(Fault::Heal);

    let text = bench.path("text.apk");
    std::fs::write(&text, "no app").unwrap();
    match bench.adb.install(&serial, &text).await {
        Err(InstallError::Refused(failure)) => assert_eq!(failure.advice(), Advice::RefuseBuild, "{failure}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(phone.truth().app_installs().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_unplugged_during_an_install_is_gone_and_not_refusing() {
    let bench = Bench::new();
    let Plugged { phone, serial } = bench.plug_in("ada").await;
    phone.fault(Fault::SlowInstall { ms: 60_000 });
    let apk = demo_apk();
    let install = bench.adb.install(&serial, &apk);
    let unplug = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        phone.fault(Fault::Unplug);
    };
    let (installed, ()) =
        tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(install, unplug) }).await.unwrap();
    match installed {
        Err(InstallError::Adb(error)) => assert!(error.is_device_gone(), "{error}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_has_two_streams_and_a_code_and_a_screen_is_a_picture() {
    let bench = Bench::new();
    let Plugged { phone: _phone, serial } = bench.plug_in("ada").await;
    let out = bench.adb.shell(&serial, "echo hello").await.unwrap();
    assert_eq!((out.stdout.as_str(), out.stderr.as_str(), out.code), ("hello\n", "", 0));
    let out = bench.adb.shell(&serial, "cat /no/such/file").await.unwrap();
    assert_ne!(out.code, 0);
    assert!(out.stdout.is_empty() && !out.stderr.is_empty(), "{out:?}");
    let png = bench.adb.screencap(&serial).await.unwrap();
    assert!(png.starts_with(b"\x89PNG"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_that_may_not_be_used_is_not_ready() {
    let bench = Bench::new();
    let Plugged { phone, serial } = bench.plug_in("ada").await;
    phone.fault(Fault::Unplug);
    assert!(bench.adb.wait_until_gone(&serial, Duration::from_secs(10)).await.unwrap());
    phone.fault(Fault::Replug);
    phone.fault(Fault::Unauthorized);
    let _ = bench.adb.connect(&serial).await;
    let error = bench.adb.shell(&serial, "echo hello").await.unwrap_err();
    assert!(error.is_device_gone(), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_adb_the_error_says_what_to_look_for() {
    let adb = Adb::new(crate::device_bench::free_port(), "/no/such/adb");
    let error = adb.devices().await.unwrap_err();
    assert!(matches!(error, Error::NoServer { .. }));
    assert!(error.to_string().contains("/no/such/adb start-server"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_listens_at_the_address_to_connect_to() {
    let bench = Bench::new();
    let address = format!("127.0.0.1:{}", crate::device_bench::free_port());
    assert!(matches!(bench.adb.connect(&address).await, Err(Error::Refused { .. })));
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}
