//! Each fault, as adb sees it.

use std::time::{Duration, Instant};

use simulated_android::Fault;

use crate::world::{APP, BASE_APK, World, demo, eventually, fixture};

fn reject(times: u32) -> Fault {
    Fault::RejectInstall { message: "INSTALL_FAILED_VERIFICATION_FAILURE".into(), times }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unplugged_phone_is_gone_until_it_is_plugged_in() {
    let world = World::new().await;
    world.install(&demo());
    world.fault(Fault::Unplug);
    eventually("the phone is not usable", || world.adb.state(&world.serial()).as_deref() != Some("device"));
    assert_ne!(world.shell("true").code, 0);
    world.adb.plain(&["disconnect", &world.serial()]);
    assert_eq!(world.adb.state(&world.serial()), None);
    let refused = world.adb.plain(&["connect", &world.serial()]);
    assert!(!refused.out.starts_with("connected"), "{refused:?}");
    assert!(!world.phone.is_plugged());
    world.fault(Fault::Replug);
    world.connect();
    assert_eq!(world.shell(&format!("pm path {APP}")).code, 0, "what was installed is still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn unplugging_ends_a_running_command() {
    let world = World::new().await;
    let began = Instant::now();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| world.shell("sleep 25; echo done"));
        std::thread::sleep(Duration::from_millis(500));
        world.fault(Fault::Unplug);
        // The adb client says 0 when the exit code never came, so only the output tells.
        assert_eq!(running.join().unwrap().out, "");
    });
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_can_be_offline_or_unauthorized() {
    let world = World::new().await;
    world.fault(Fault::Unauthorized);
    eventually("unauthorized", || {
        world.adb.plain(&["connect", &world.serial()]);
        world.adb.state(&world.serial()).as_deref() == Some("unauthorized")
    });
    assert_ne!(world.shell("true").code, 0);
    world.fault(Fault::Offline);
    eventually("offline", || world.adb.state(&world.serial()).as_deref() == Some("offline"));
    world.fault(Fault::Replug);
    world.adb.plain(&["disconnect", &world.serial()]);
    world.connect();
    assert_eq!(world.shell("true").code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn installs_of_apps_are_rejected_as_often_as_asked() {
    let world = World::new().await;
    world.fault(reject(2));
    assert!(
        world.install(&fixture("automation-server.apk")).out.contains("Success"),
        "helpers are let through"
    );
    for _ in 0..2 {
        let refused = world.install(&demo());
        assert!(
            refused.code != 0 && refused.all().contains("[INSTALL_FAILED_VERIFICATION_FAILURE]"),
            "{refused:?}"
        );
    }
    assert_eq!(world.install(&demo()).code, 0);
    let truth = world.phone.truth();
    assert_eq!(truth.refused_installs.len(), 2);
    assert_eq!(truth.refused_installs[0].package, APP);
    assert_eq!((truth.app_installs().len(), truth.installs.len()), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn storage_is_full_until_healed() {
    let world = World::new().await;
    world.fault(Fault::StorageFull);
    let refused = world.install(&demo());
    assert!(refused.all().contains("INSTALL_FAILED_INSUFFICIENT_STORAGE"), "{refused:?}");
    assert_ne!(world.adb(&["push", &demo(), "/data/local/tmp/x.apk"]).code, 0);
    world.fault(Fault::Heal);
    assert_eq!(world.install(&demo()).code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_install_is_slow() {
    let world = World::new().await;
    world.fault(Fault::SlowInstall { ms: 1500 });
    let began = Instant::now();
    assert_eq!(world.install(&demo()).code, 0);
    assert!(began.elapsed() >= Duration::from_millis(1500));
    assert_eq!(world.phone.truth().app_installs()[0].took_ms, 1500);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_install_shows_in_the_hash() {
    let world = World::new().await;
    world.fault(Fault::CorruptInstall { times: 1 });
    assert_eq!(world.install(&demo()).code, 0);
    let truth = world.phone.truth();
    let (install, installed) = (truth.app_installs()[0].clone(), truth.installed_apps()[0].clone());
    assert!(install.corrupted);
    assert_ne!(install.sha256, installed.sha256);
    assert!(world.shell(&format!("sha256sum {BASE_APK}")).out.starts_with(&installed.sha256));
    world.install(&demo());
    assert_eq!(world.phone.truth().installed_apps()[0].sha256, install.sha256, "the next install is sound");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_can_lie_about_versions() {
    let world = World::new().await;
    world.install(&demo());
    let lie = |version_code| Fault::LieAboutVersion { package: APP.into(), version_code };
    let told = || {
        let dump = world.shell(&format!("dumpsys package {APP}")).out.contains("versionCode=99 ");
        let list = world.shell("pm list packages --show-versioncode").out.contains("versionCode:99\n");
        assert_eq!(dump, list);
        dump
    };
    assert!(!told());
    world.fault(lie(Some(99)));
    assert!(told());
    assert_eq!(world.phone.truth().installed_apps()[0].version_code, 7, "the truth does not lie");
    world.fault(lie(None));
    assert!(!told());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reboot_ends_what_runs_and_keeps_what_is_installed() {
    let world = World::new().await;
    world.install(&demo());
    world.launch();
    world.fault(Fault::Reboot { ms: 4000 });
    world.adb.plain(&["disconnect", &world.serial()]);
    world.connect();
    assert_eq!(world.shell("getprop sys.boot_completed").out, "\n");
    assert_ne!(world.shell("pm list packages").code, 0);
    eventually("it has booted", || world.shell("getprop sys.boot_completed").out == "1\n");
    assert_eq!(world.shell(&format!("pidof {APP}")).out, "");
    assert_eq!(world.shell(&format!("pm path {APP}")).code, 0);
    assert_eq!(world.phone.truth().reboots, 1);
    world.adb(&["reboot"]);
    eventually("adb's own reboot counts", || world.phone.truth().reboots == 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_ends_the_app_on_the_screen() {
    let world = World::new().await;
    world.install(&demo());
    world.launch();
    world.fault(Fault::Crash);
    assert_eq!(world.shell(&format!("pidof {APP}")).out, "");
    assert!(!world.screen().contains("Welcome"));
    assert!(world.adb(&["logcat", "-d"]).out.contains(&format!("FATAL EXCEPTION: main Process: {APP}")));
    world.launch();
    // The fourth widget is the button that crashes the app.
    world.shell("input tap 500 800");
    assert!(!world.screen().contains("Welcome"));
    assert_eq!(world.phone.truth().crashes.len(), 2);
}
