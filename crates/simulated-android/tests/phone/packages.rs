//! Installing real APKs, and what apps remember.

use simulated_android::Config;

use crate::world::{APP, BASE_APK, World, demo, fixture};

#[tokio::test(flavor = "multi_thread")]
async fn an_installed_app_is_the_bytes_that_were_sent() {
    let world = World::new().await;
    let installed = world.install(&demo());
    assert!(installed.out.contains("Success"), "{installed:?}");
    let bytes = std::fs::read(demo()).unwrap();
    let path = world.shell(&format!("pm path {APP}")).out;
    assert_eq!(path, format!("package:{BASE_APK}\n"));
    assert_eq!(world.adb(&["exec-out", "cat", BASE_APK]).bytes, bytes);
    let truth = world.phone.truth();
    let hash = &truth.installed_apps()[0].sha256;
    assert_eq!(world.shell(&format!("sha256sum {BASE_APK}")).out, format!("{hash}  {BASE_APK}\n"));
    let dump = world.shell(&format!("dumpsys package {APP} | grep -E 'versionCode|versionName'")).out;
    assert!(
        dump.contains("versionCode=7 minSdk=24 targetSdk=29") && dump.contains("versionName=1.4.2"),
        "{dump}"
    );
    let listed = world.shell(&format!("pm list packages --show-versioncode {APP}")).out;
    assert_eq!(listed, format!("package:{APP} versionCode:7\n"));
    let install = truth.app_installs()[0];
    assert_eq!((install.version_code, install.version_name.as_str()), (7, "1.4.2"));
    assert_eq!((install.bytes, &install.sha256), (bytes.len() as u64, hash));
}

#[tokio::test(flavor = "multi_thread")]
async fn installs_updates_and_uninstalls_are_counted_in_order() {
    let world = World::new().await;
    world.install(&fixture("demo-1.4.1.apk"));
    world.install(&demo());
    let downgrade = world.install(&fixture("demo-1.4.1.apk"));
    assert!(downgrade.all().contains("INSTALL_FAILED_VERSION_DOWNGRADE"), "{downgrade:?}");
    assert!(world.adb(&["install", "-r", "-d", &fixture("demo-1.4.1.apk")]).out.contains("Success"));
    assert!(world.adb(&["uninstall", APP]).out.contains("Success"));
    assert_ne!(world.shell(&format!("pm path {APP}")).code, 0);
    assert!(world.adb(&["uninstall", APP]).all().contains("Failure"));
    let truth = world.phone.truth();
    let versions: Vec<&str> =
        truth.app_installs().iter().map(|install| install.version_name.as_str()).collect();
    assert_eq!(versions, ["1.4.1", "1.4.2", "1.4.1"]);
    assert_eq!(truth.refused_installs.len(), 1);
    assert_eq!(truth.app_uninstalls().len(), 1);
    assert!(truth.installs[2].order > truth.refused_installs[0].order);
    assert!(truth.installed.is_empty());
    world.phone.reset_truth();
    assert_eq!(world.phone.truth(), simulated_android::Truth::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_apk_or_for_another_phone_is_refused() {
    let world = World::with(Config { sdk: 23, ..Config::default() }).await;
    let folder = tempfile::tempdir().unwrap();
    let fake = folder.path().join("fake.apk");
    let half = std::fs::read(demo()).unwrap();
    std::fs::write(&fake, &half[..half.len() / 2]).unwrap();
    let refused = world.install(fake.to_str().unwrap());
    assert!(refused.code != 0 && refused.all().contains("INSTALL_PARSE_FAILED_NOT_APK"), "{refused:?}");
    let old = world.install(&demo());
    assert!(old.code != 0 && old.all().contains("INSTALL_FAILED_OLDER_SDK"), "{old:?}");
    assert_eq!(world.phone.truth().refused_installs.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_can_be_installed_from_a_file_on_the_phone_or_in_pieces() {
    let world = World::new().await;
    world.adb(&["push", &demo(), "/data/local/tmp/app.apk"]);
    assert_eq!(world.shell("pm install -r /data/local/tmp/app.apk").out, "Success\n");
    let pieces = world.adb(&["install-multiple", "-r", &demo(), &fixture("demo-split.apk")]);
    assert_eq!(pieces.code, 0, "{pieces:?}");
    let paths = world.shell(&format!("pm path {APP}")).out;
    assert_eq!(paths, format!("package:{BASE_APK}\npackage:/data/app/{APP}/split_extra.apk\n"));
    let alone = world.adb(&["install-multiple", &fixture("demo-split.apk")]);
    assert_ne!(alone.code, 0, "a split without its base: {alone:?}");
    assert_eq!(world.phone.truth().app_installs().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn apps_remember_until_they_are_cleared() {
    let world = World::new().await;
    world.install(&demo());
    world.launch();
    assert!(world.screen().contains("Welcome, launch 1"));
    world.shell("input text Ada");
    // The third widget of the screen is the button "Continue".
    world.shell("input tap 500 600");
    assert!(world.screen().contains("Hello Ada"), "{}", world.screen());
    world.shell("input tap 500 400");
    assert!(world.screen().contains("Counter: 1"));
    assert_ne!(world.shell(&format!("pidof {APP}")).out, "");
    world.launch();
    assert!(world.screen().contains("Welcome, launch 2"));
    // An update keeps the data.
    world.install(&demo());
    world.launch();
    assert!(world.screen().contains("Welcome, launch 3"));
    world.shell("input tap 500 600");
    assert!(world.screen().contains("Hello Ada") && world.screen().contains("Counter: 1"));
    assert_eq!(world.shell(&format!("pm clear {APP}")).out, "Success\n");
    assert_eq!(world.shell(&format!("pidof {APP}")).out, "");
    world.launch();
    assert!(world.screen().contains("Welcome, launch 1"));
    world.shell("input tap 500 600");
    assert!(world.screen().contains("text=\"Hello \"") && world.screen().contains("text=\"Counter: \""));
    world.shell("input keyevent BACK");
    assert!(world.screen().contains("Welcome"));
    world.shell("input keyevent HOME");
    assert!(!world.screen().contains("Welcome"));
    let truth = world.phone.truth();
    assert_eq!((truth.clears.len(), truth.app_starts.len()), (1, 4));
    let tapped: Vec<&str> = truth.taps.iter().map(|tap| tap.text.as_str()).collect();
    assert_eq!(tapped, ["Continue", "More", "Continue", "Continue"]);
    assert_eq!(world.shell("pm clear no.such.app").code, 1);
}
