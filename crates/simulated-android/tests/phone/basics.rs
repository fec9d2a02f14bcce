//! Connecting, shells, files.

use simulated_android::Config;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn adb_lists_the_phone_and_reads_what_it_is() {
    let config = Config {
        model: "Pixel 8 Pro".into(),
        serial: "SIM8".into(),
        release: "15".into(),
        sdk: 35,
        ..Config::default()
    };
    let world = World::with(config).await;
    let listed = world.adb.plain(&["devices", "-l"]).out;
    assert!(listed.contains(&world.serial()) && listed.contains("model:Pixel_8_Pro"), "{listed}");
    for (property, value) in [
        ("ro.product.model", "Pixel 8 Pro"),
        ("ro.serialno", "SIM8"),
        ("ro.build.version.release", "15"),
        ("ro.build.version.sdk", "35"),
        ("sys.boot_completed", "1"),
        ("no.such.property", ""),
    ] {
        assert_eq!(world.shell(&format!("getprop {property}")).out, format!("{value}\n"), "{property}");
    }
    assert!(world.shell("getprop").out.contains("[ro.product.manufacturer]: [Google]"));
}

#[tokio::test(flavor = "multi_thread")]
async fn shells_keep_exit_codes_and_streams_apart() {
    let world = World::new().await;
    assert_eq!(world.shell("true").code, 0);
    assert_eq!(world.shell("false").code, 1);
    assert_eq!(world.shell("exit 7").code, 7);
    assert_eq!(world.shell("false; echo $?").out, "1\n");
    assert_eq!(world.shell("false && echo no || echo 'a;b' | grep b").out, "a;b\n");
    let missing = world.shell("cat /no/such/file");
    assert_eq!((missing.code, missing.out.as_str()), (1, ""));
    assert!(missing.err.contains("No such file"), "{missing:?}");
    assert!(world.phone.truth().unknown.is_empty());
    assert_eq!(world.shell("frobnicate --now").code, 127);
    assert_eq!(world.phone.truth().unknown, ["frobnicate --now"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_go_to_the_phone_and_back() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let (sent, back) = (folder.path().join("sent"), folder.path().join("back"));
    // Larger than any one message, so that the flow control of both directions is used.
    let content: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(&sent, &content).unwrap();
    let remote = "/data/local/tmp/folder/file";
    assert_eq!(world.adb(&["push", sent.to_str().unwrap(), remote]).code, 0);
    assert_eq!(world.adb(&["pull", remote, back.to_str().unwrap()]).code, 0);
    assert_eq!(std::fs::read(&back).unwrap(), content);
    assert_eq!(world.adb(&["exec-out", "cat", remote]).bytes, content);
    assert_eq!(world.shell(&format!("stat -c %s {remote}")).out, "3000000\n");
    assert_eq!(world.shell("ls /data/local/tmp/folder").out, "file\n");
    assert!(world.adb(&["ls", "/data/local/tmp/folder"]).out.contains("file"));
    assert_eq!(world.shell(&format!("rm {remote}; test -e {remote}")).code, 1);
    assert_eq!(world.shell(&format!("rm {remote}")).code, 1);
    assert_ne!(world.adb(&["pull", remote, back.to_str().unwrap()]).code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_writes_files_by_redirection() {
    let world = World::new().await;
    let marker = "/data/local/tmp/qgjob/marker";
    assert_eq!(
        world
            .shell(&format!("mkdir -p /data/local/tmp/qgjob && echo one > {marker} && echo two >> {marker}"))
            .code,
        0
    );
    assert_eq!(world.shell(&format!("cat {marker}")).out, "one\ntwo\n");
    assert_eq!(world.shell("rm -rf /data/local/tmp/qgjob && ls /data/local/tmp").out, "");
    assert_eq!(world.shell("settings put global x 5 && settings get global x").out, "5\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_screen_can_be_photographed() {
    let world = World::new().await;
    let picture = world.adb(&["exec-out", "screencap", "-p"]).bytes;
    assert_eq!(&picture[..8], b"\x89PNG\r\n\x1a\n");
    assert_eq!(&picture[picture.len() - 8..picture.len() - 4], b"IEND");
    assert_eq!(world.shell("screencap -p /sdcard/s.png && test -s /sdcard/s.png").code, 0);
    assert_eq!(world.phone.truth().screenshots, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn phones_share_one_adb_server() {
    let world = World::new().await;
    let other = simulated_android::Phone::start(Config { serial: "OTHER".into(), ..Config::default() })
        .await
        .unwrap();
    let serial = other.address().to_string();
    world.adb.plain(&["connect", &serial]);
    let answer = world.adb.plain(&["-s", &serial, "shell", "getprop ro.serialno"]);
    assert_eq!(answer.out, "OTHER\n");
    assert_eq!(world.shell("getprop ro.serialno").out, "SIMULATED1\n");
}
