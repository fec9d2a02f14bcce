//! What is prepared once, what is refused, and what is removed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use qgjob::agent::workspace::{Cache, Error, Settings};
use qgjob_core::model::job::Reason;

use super::scene::{CONFIG, Scene, prepare, write};

/// A project whose packages are folders of its own, so that npm needs no network: enough for all but running.
fn stub(dir: &Path, name: &str, playwright: &str) {
    let package = format!(
        r#"{{"name":"{name}","version":"1.0.0","dependencies":{{"appwright":"file:stubs/appwright","@playwright/test":"file:stubs/playwright"}}}}"#
    );
    let lock = format!(
        r#"{{"name":"{name}","version":"1.0.0","lockfileVersion":3,"requires":true,"packages":{{
          "":{{"name":"{name}","version":"1.0.0","dependencies":{{"appwright":"file:stubs/appwright","@playwright/test":"file:stubs/playwright"}}}},
          "node_modules/@playwright/test":{{"resolved":"stubs/playwright","link":true}},
          "node_modules/appwright":{{"resolved":"stubs/appwright","link":true}},
          "stubs/appwright":{{"version":"0.1.1"}},
          "stubs/playwright":{{"name":"@playwright/test","version":"{playwright}"}}}}}}"#
    );
    let playwright = format!(r#"{{"name":"@playwright/test","version":"{playwright}"}}"#);
    write(
        dir,
        &[
            ("package.json", &package),
            ("package-lock.json", &lock),
            ("appwright.config.ts", CONFIG),
            ("stubs/appwright/package.json", r#"{"name":"appwright","version":"0.1.1"}"#),
            ("stubs/playwright/package.json", &playwright),
            ("tests/login.spec.js", "login"),
            ("tests/logout.spec.js", "logout"),
        ],
    );
}

async fn cache(dir: &Path) -> Cache {
    Cache::open(dir, Settings::default()).await.unwrap()
}

fn entries(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".lock") && !name.ends_with(".make"))
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_working_copy_is_fresh_and_goes_away() {
    let home = tempfile::tempdir().unwrap();
    stub(&home.path().join("p"), "p", "1.59.1");
    let project = prepare(&cache(&home.path().join("cache")).await, &home.path().join("p")).await.unwrap();
    let test = "tests/login.spec.js".parse().unwrap();
    let one = project.working_copy(&home.path().join("one"), &test).await.unwrap();
    let two = project.working_copy(&home.path().join("two"), &test).await.unwrap();
    fs::write(one.dir().join("tests/login.spec.js"), "changed by a test").unwrap();
    assert_eq!(fs::read_to_string(two.dir().join("tests/login.spec.js")).unwrap(), "login");
    let three = project.working_copy(&home.path().join("three"), &test).await.unwrap();
    assert_eq!(fs::read_to_string(three.dir().join("tests/login.spec.js")).unwrap(), "login");
    assert!(three.dir().join("node_modules/appwright/package.json").is_file());
    drop((one, two, three));
    assert_eq!(entries(home.path()), ["cache", "p"]);
    let unknown =
        project.working_copy(&home.path().join("four"), &"tests/logn.spec.js".parse().unwrap()).await;
    let error = unknown.unwrap_err();
    assert_eq!(error.reason(), Reason::ProjectInvalid);
    assert!(error.to_string().contains("tests/login.spec.js"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_and_its_packages_are_prepared_once_however_many_ask_at_once() {
    let home = tempfile::tempdir().unwrap();
    let (p, dir) = (home.path().join("p"), home.path().join("cache"));
    stub(&p, "p", "1.59.1");
    // Two caches in one folder: two agents on one host.
    let (one, two) = (cache(&dir).await, cache(&dir).await);
    let (a, b, c) = tokio::join!(prepare(&one, &p), prepare(&one, &p), prepare(&two, &p));
    let made = |kind: &str| {
        let names = entries(&dir.join(kind));
        assert_eq!(names.len(), 1, "{names:?}");
        fs::metadata(dir.join(kind).join(&names[0])).unwrap().ino()
    };
    let before = (made("bundles"), made("modules"));
    drop((a.unwrap(), b.unwrap(), c.unwrap()));
    drop(prepare(&two, &p).await.unwrap());
    assert_eq!((made("bundles"), made("modules")), before, "made again");
}

#[tokio::test]
async fn what_was_used_longest_ago_is_evicted_unless_it_is_in_use() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("cache");
    let settings = Settings { most_bytes: 1, ..Settings::default() };
    let tight = Cache::open(&dir, settings).await.unwrap();
    for name in ["one", "two", "three"] {
        stub(&home.path().join(name), name, "1.59.1");
    }
    let one = prepare(&tight, &home.path().join("one")).await.unwrap();
    let two = prepare(&tight, &home.path().join("two")).await.unwrap();
    assert_eq!(entries(&dir.join("bundles")).len(), 2, "in use, both");
    drop(one);
    let three = prepare(&tight, &home.path().join("three")).await.unwrap();
    let kept = entries(&dir.join("bundles"));
    assert_eq!(kept.len(), 2, "{kept:?}");
    for project in [&two, &three] {
        assert!(kept.contains(&project.sha256().to_string()), "{kept:?}");
    }
    assert_eq!(entries(&dir.join("modules")).len(), 2);
    // What was evicted can be made again.
    prepare(&tight, &home.path().join("one")).await.unwrap();
}

#[tokio::test]
async fn a_project_that_cannot_run_is_refused_with_the_remedy_and_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("cache");
    let cache = cache(&dir).await;
    let refused = async |name: &str, playwright: &str, change: &dyn Fn(&Path)| {
        let p = home.path().join(name);
        stub(&p, name, playwright);
        change(&p);
        let error = prepare(&cache, &p).await.unwrap_err();
        assert_eq!(error.fault().reason, Reason::ProjectInvalid, "{error}");
        error
    };
    let error = refused("new", "1.65.1", &|_| {}).await;
    assert!(error.to_string().contains(r#"Pin "@playwright/test": "1.59.1""#), "{error}");
    let error =
        refused("no-config", "1.59.1", &|p| fs::remove_file(p.join("appwright.config.ts")).unwrap()).await;
    assert!(matches!(error, Error::NoConfig));
    let error = refused("stale-lock", "1.59.1", &|p| {
        let text = fs::read_to_string(p.join("package.json")).unwrap();
        let text = text.replace(r#""dependencies":{"#, r#""dependencies":{"left-pad":"1.3.0","#);
        fs::write(p.join("package.json"), text).unwrap();
    })
    .await;
    // npm's own words are kept: they say which package.
    assert!(
        matches!(&error, Error::NpmRefused { code, log } if code == "EUSAGE" && log.contains("left-pad")),
        "{error}"
    );
    let error = refused("bad-json", "1.59.1", &|p| fs::write(p.join("package.json"), "{").unwrap()).await;
    assert!(matches!(error, Error::BadPackageJson(_)));
    for kind in ["bundles", "modules"] {
        assert!(
            entries(&dir.join(kind)).iter().all(|name| name.len() == 64),
            "{:?}",
            entries(&dir.join(kind))
        );
    }
}

#[tokio::test]
async fn a_damaged_bundle_is_refused_and_can_be_sent_again() {
    let home = tempfile::tempdir().unwrap();
    let cache = cache(&home.path().join("cache")).await;
    stub(&home.path().join("p"), "p", "1.59.1");
    let packed = qgjob::bundle::collect(&home.path().join("p")).unwrap().pack().unwrap();
    let broken = home.path().join("broken");
    fs::write(&broken, b"not a bundle").unwrap();
    let error = cache.prepare(packed.sha256, &broken).await.unwrap_err();
    assert!(matches!(error, Error::Archive(_)), "{error}");
    prepare(&cache, &home.path().join("p")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_one_playwright_although_node_modules_is_a_link() {
    let scene = Scene::of(&[(
        "tests/one.spec.js",
        r#"const { test, expect } = require("appwright");
        test("one copy", async () => {
          const mine = require.resolve("@playwright/test");
          const theirs = require.resolve("@playwright/test", { paths: [require.resolve("appwright")] });
          expect(mine).toBe(theirs);
          expect(Object.keys(require.cache).filter((file) => file.endsWith("/@playwright/test/index.js"))).toHaveLength(1);
        });"#,
    )])
    .await;
    let done = scene.run("tests/one.spec.js", |_| {}).await;
    assert!(done.tries.iter().all(|one| one.error.is_none()), "{:?}", done.tries);
    assert_eq!(done.tries.len(), 1);
}

/// Runs again, as its own process, with a disk of 64 KiB mounted where the cache is.
const SMALL_DISK: &str = "QGJOB_TEST_SMALL_DISK";

#[test]
fn a_full_disk_is_the_agents_fault_and_leaves_no_half() {
    let home = tempfile::tempdir().unwrap();
    let (disk, p) = (home.path().join("disk"), home.path().join("p"));
    fs::create_dir(&disk).unwrap();
    stub(&p, "p", "1.59.1");
    let noise: String = (0..200_000_u32)
        .map(|n| char::from(b'a' + (n.wrapping_mul(2_654_435_761) >> 27) as u8 % 26))
        .collect();
    write(&p, &[("large.txt", &noise)]);
    let script = r#"mount -t tmpfs -o size=64k none "$1" && exec "$2" --exact --ignored runner_story::preparing::on_a_small_disk"#;
    let done = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .args([&disk, &std::env::current_exe().unwrap()])
        .env(SMALL_DISK, home.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

#[tokio::test]
#[ignore = "run by a_full_disk_is_the_agents_fault_and_leaves_no_half, which mounts the disk"]
async fn on_a_small_disk() {
    let home = std::path::PathBuf::from(std::env::var_os(SMALL_DISK).unwrap());
    let cache = cache(&home.join("disk")).await;
    let error = prepare(&cache, &home.join("p")).await.unwrap_err();
    assert!(matches!(error, Error::DiskFull(_)), "{error}");
    assert_eq!(error.fault().reason, Reason::AgentFault);
    assert!(entries(&home.join("disk/bundles")).is_empty(), "{:?}", entries(&home.join("disk/bundles")));
}
