//! A project becomes a bundle, and a bundle becomes the project again on the agent.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use qgjob::archive::{self, Limits};
use qgjob::bundle::{self, Error, SelectError};

const PROJECT: &[(&str, &str)] = &[
    ("package.json", "{}"),
    ("package-lock.json", "{}"),
    ("appwright.config.ts", "export default {};"),
    (".npmrc", "audit=false"),
    (".gitignore", "*.log\nbuild/\nsecret.env\n"),
    (".qgjobignore", "app/\n"),
    ("tests/login.spec.js", "login"),
    ("tests/logout.spec.js", "logout"),
    ("tests/cart/add.test.ts", "add"),
    ("tests/cart/[id].spec.mts", "id"),
    ("tests/support.js", "support"),
    ("app/main.kt", "not for the tests"),
    ("build/demo.apk", "built"),
    ("debug.log", "noise"),
    ("secret.env", "TOKEN=1"),
    ("node_modules/x/index.js", "x"),
    ("packages/a/node_modules/y/index.js", "y"),
    ("test-results/trace.zip", "old"),
];

fn project() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in PROJECT {
        write(dir.path(), name, content);
    }
    dir
}

fn write(root: &Path, name: &str, content: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn names(dir: &Path) -> Vec<String> {
    bundle::collect(dir).unwrap().files().iter().map(|file| file.name.clone()).collect()
}

fn git(dir: &Path, args: &[&str]) {
    let done = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.com"])
        .args(args)
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

const CHOSEN: [&str; 10] = [
    ".gitignore",
    ".npmrc",
    ".qgjobignore",
    "appwright.config.ts",
    "package-lock.json",
    "package.json",
    "tests/cart/[id].spec.mts",
    "tests/cart/add.test.ts",
    "tests/login.spec.js",
    "tests/logout.spec.js",
];

#[test]
fn ignore_files_decide_with_git_and_without() {
    let dir = project();
    let mut expected: Vec<&str> = CHOSEN.to_vec();
    expected.push("tests/support.js");
    assert_eq!(names(dir.path()), expected);
    git(dir.path(), &["init", "-q"]);
    assert_eq!(names(dir.path()), expected);
}

#[test]
fn what_git_tracks_is_sent_although_it_is_ignored() {
    let dir = project();
    git(dir.path(), &["init", "-q"]);
    git(dir.path(), &["add", "-f", "secret.env", "app/main.kt", "node_modules/x/index.js"]);
    let names = names(dir.path());
    assert!(names.contains(&"secret.env".to_owned()), "{names:?}");
    // .qgjobignore and the folders that are never sent stand above git.
    assert!(!names.iter().any(|name| name.starts_with("app/") || name.contains("node_modules")), "{names:?}");
}

#[test]
fn a_project_inside_a_larger_repository_follows_the_ignore_files_above_it() {
    let dir = tempfile::tempdir().unwrap();
    git(dir.path(), &["init", "-q"]);
    write(dir.path(), ".gitignore", "*.secret\n");
    for (name, content) in PROJECT {
        write(&dir.path().join("e2e"), name, content);
    }
    write(&dir.path().join("e2e"), "a.secret", "x");
    let inside = dir.path().join("e2e");
    assert!(!names(&inside).contains(&"a.secret".to_owned()));
    assert_eq!(bundle::find_project(&inside.join("tests/cart")), Some(fs::canonicalize(&inside).unwrap()));
}

#[test]
fn the_same_content_has_the_same_hash_and_other_content_another() {
    let (one, two) = (project(), project());
    // Times and the rights of others are no content.
    let file = fs::File::open(two.path().join("package.json")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    fs::set_permissions(two.path().join("tests/login.spec.js"), fs::Permissions::from_mode(0o600)).unwrap();
    let hash = |dir: &Path| bundle::collect(dir).unwrap().pack().unwrap().sha256;
    assert_eq!(hash(one.path()), hash(two.path()));
    fs::set_permissions(two.path().join("tests/login.spec.js"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_ne!(hash(one.path()), hash(two.path()));
    write(one.path(), "tests/login.spec.js", "changed");
    assert_ne!(hash(one.path()), hash(project().path()));
}

#[test]
fn the_agent_unpacks_what_was_packed() {
    let dir = project();
    let long = format!("tests/{}/{}.spec.js", "d".repeat(150), "ü".repeat(110));
    write(dir.path(), &long, "long");
    let bundle = bundle::collect(dir.path()).unwrap();
    let packed = bundle.pack().unwrap();
    assert_eq!(packed.size_bytes, packed.file.metadata().unwrap().len());
    let out = tempfile::tempdir().unwrap();
    let dest = out.path().join("bundle");
    let done = archive::extract(packed.file, &dest, &Limits::default()).unwrap();
    assert_eq!((done.files, done.bytes), (bundle.files().len() as u64, bundle.size_bytes()));
    for file in bundle.files() {
        assert_eq!(fs::read(dest.join(&file.name)).unwrap(), fs::read(dir.path().join(&file.name)).unwrap());
    }
}

#[test]
fn a_project_that_cannot_run_is_told_what_is_missing() {
    let dir = project();
    fs::rename(dir.path().join("package-lock.json"), dir.path().join("away.lock")).unwrap();
    let error = bundle::collect(dir.path()).unwrap_err();
    assert!(matches!(error, Error::NoLockfile(_)));
    assert!(error.to_string().contains("npm install --package-lock-only"), "{error}");
    fs::rename(dir.path().join("away.lock"), dir.path().join("npm-shrinkwrap.json")).unwrap();
    bundle::collect(dir.path()).unwrap();
    write(dir.path(), ".gitignore", "npm-shrinkwrap.json");
    let error = bundle::collect(dir.path()).unwrap_err();
    assert!(matches!(error, Error::NeededFileIgnored { file: "npm-shrinkwrap.json" }));
    fs::remove_file(dir.path().join("package.json")).unwrap();
    assert!(matches!(bundle::collect(dir.path()), Err(Error::NoPackageJson(_))));
}

#[test]
fn what_an_agent_would_refuse_is_refused_before_it_is_sent() {
    let dir = project();
    write(dir.path(), "tests/LOGIN.spec.js", "twin");
    assert!(matches!(bundle::collect(dir.path()), Err(Error::Alike { .. })));
    fs::remove_file(dir.path().join("tests/LOGIN.spec.js")).unwrap();
    write(dir.path(), "tests/a:b.js", "drive");
    assert!(matches!(bundle::collect(dir.path()), Err(Error::Name { .. })));
    fs::remove_file(dir.path().join("tests/a:b.js")).unwrap();
    let few = Limits { entries: 3, ..Limits::default() };
    assert!(matches!(bundle::collect_within(dir.path(), few), Err(Error::TooManyFiles { most: 3, .. })));
    let tight = Limits { unpacked_bytes: 20, ..Limits::default() };
    let error = bundle::collect_within(dir.path(), tight).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }));
    assert!(error.to_string().contains(".qgjobignore"), "{error}");
    let narrow = Limits { packed_bytes: 20, ..Limits::default() };
    let error = bundle::collect_within(dir.path(), narrow).unwrap().pack().unwrap_err();
    assert!(matches!(error, Error::PackedTooLarge { most: 20 }), "{error}");
}

#[test]
fn links_inside_the_project_are_sent_as_files_and_others_refused() {
    let dir = project();
    symlink("login.spec.js", dir.path().join("tests/alias.spec.js")).unwrap();
    let packed = bundle::collect(dir.path()).unwrap().pack().unwrap();
    let out = tempfile::tempdir().unwrap();
    archive::extract(packed.file, &out.path().join("b"), &Limits::default()).unwrap();
    let alias = out.path().join("b/tests/alias.spec.js");
    assert!(!fs::symlink_metadata(&alias).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(alias).unwrap(), "login");
    for (target, word) in [("/etc/passwd", "leaves"), ("nowhere", "nothing"), ("cart", "folder")] {
        let link = dir.path().join("tests/bad");
        symlink(target, &link).unwrap();
        let error = bundle::collect(dir.path()).unwrap_err();
        assert!(matches!(error, Error::Link { .. }) && error.to_string().contains(word), "{target}: {error}");
        fs::remove_file(link).unwrap();
    }
}

#[test]
fn a_file_that_changes_while_it_is_packed_is_noticed() {
    let dir = project();
    let bundle = bundle::collect(dir.path()).unwrap();
    write(dir.path(), "tests/login.spec.js", "longer than it was");
    assert!(matches!(bundle.pack(), Err(Error::Changed { name }) if name == "tests/login.spec.js"));
}

/// What `--test VALUE` means, said in the folder `cwd` of the project.
fn select(dir: &Path, cwd: &str, values: &[&str]) -> Result<Vec<String>, SelectError> {
    let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
    let tests = bundle::collect(dir).unwrap().select(&dir.join(cwd), &values)?;
    Ok(tests.iter().map(|test| test.as_str().to_owned()).collect())
}

#[test]
fn tests_are_named_by_file_folder_or_glob_from_anywhere_in_the_project() {
    let dir = project();
    let all =
        ["tests/cart/[id].spec.mts", "tests/cart/add.test.ts", "tests/login.spec.js", "tests/logout.spec.js"];
    let whole = dir.path().join("tests/login.spec.js").display().to_string();
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("", &["tests/login.spec.js"], &all[2..3]),
        ("", &["./tests/../tests/login.spec.js"], &all[2..3]),
        ("", &[&whole], &all[2..3]),
        ("tests", &["login.spec.js"], &all[2..3]),
        // Not there from here, so taken from the project's folder.
        ("tests/cart", &["tests/login.spec.js"], &all[2..3]),
        ("tests/cart", &["../login.spec.js", "add.test.ts"], &all[1..3]),
        ("", &["tests"], &all),
        ("", &["."], &all),
        ("tests", &["cart/"], &all[..2]),
        ("", &["tests/*.spec.js"], &all[2..]),
        ("", &["tests/**"], &all),
        ("tests", &["log{in,out}.spec.js"], &all[2..]),
        // A pattern's characters in a name that exists are just characters.
        ("", &["tests/cart/[id].spec.mts"], &all[..1]),
        // Said twice, meant once; the order is the names'.
        ("", &["tests/logout.spec.js", "tests", "tests/login.spec.js"], &all),
        // Any script may be a test if it is named: testMatch is the project's to set.
        ("", &["tests/support.js"], &["tests/support.js"]),
    ];
    for (cwd, values, expected) in cases {
        assert_eq!(select(dir.path(), cwd, values).unwrap(), *expected, "{values:?} in {cwd:?}");
    }
}

#[test]
fn a_wrong_test_is_told_with_the_nearest_right_ones() {
    let dir = project();
    match select(dir.path(), "", &["tests/logn.spec.js"]) {
        Err(SelectError::Unknown { nearest, .. }) => {
            assert_eq!(nearest[0], "tests/login.spec.js");
            assert_eq!(nearest.len(), 3);
        }
        other => panic!("{other:?}"),
    }
    // The right name in the wrong folder.
    let error = select(dir.path(), "", &["spec/add.test.ts"]).unwrap_err();
    assert!(error.to_string().contains("did you mean tests/cart/add.test.ts"), "{error}");
    assert!(matches!(select(dir.path(), "", &["tests/*.spec.rb"]), Err(SelectError::NoMatch { .. })));
    assert!(matches!(select(dir.path(), "", &["tests/[z-a]*"]), Err(SelectError::BadGlob { .. })));
    assert!(matches!(select(dir.path(), "", &["../other.spec.js"]), Err(SelectError::Outside { .. })));
    assert!(matches!(select(dir.path(), "", &["package.json"]), Err(SelectError::NotATest { .. })));
    assert!(matches!(select(dir.path(), "", &["debug.log"]), Err(SelectError::Ignored { .. })));
    assert!(matches!(select(dir.path(), "", &["packages"]), Err(SelectError::EmptyFolder { .. })));
}
