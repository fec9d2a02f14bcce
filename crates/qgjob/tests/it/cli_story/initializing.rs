//! `qgjob init`: what it finds out, what it writes, what it leaves alone.

use std::fs;
use std::path::Path;

use super::desk::{Desk, Done};

const ORG: &str = "--org-id=qualgent";
const SERVER: &str = "--server=https://farm.example";
const WORKFLOW: &str = ".github/workflows/qgjob.yml";

/// The desk's project with a pinned AppWright.
fn desk() -> Desk {
    let desk = Desk::without_server();
    let lock = r#"{"lockfileVersion":3,"packages":{"node_modules/appwright":{"version":"0.1.46"},"node_modules/@playwright/test":{"version":"1.59.1"}}}"#;
    write(&desk, "package-lock.json", lock);
    desk
}

fn write(desk: &Desk, name: &str, text: &str) {
    let path = desk.project().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn read(desk: &Desk, name: &str) -> String {
    fs::read_to_string(desk.project().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Every file of the project with its text, without git's own.
fn snapshot(dir: &Path) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with(".git") {
            files.extend(snapshot(&path));
        } else if path.is_file() {
            files.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
    files.sort();
    files
}

fn succeeded(done: Done) -> Done {
    assert_eq!(done.code, 0, "{done:?}");
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_gets_its_configuration_and_its_workflow() {
    let desk = desk();
    let done = succeeded(desk.qgjob(&["init", ORG]).await);
    assert_eq!(done.err, "", "there was nothing to warn of");
    insta::assert_snapshot!(done.out, @r#"
    ✓ Wrote qgjob.toml
    ✓ Wrote .github/workflows/qgjob.yml
    Put in before you commit, or run this again with the flag and --force:
      https://qgjob.example.com: the address of your server, as CI reaches it (--server)
      YOUR_ORG/qgjob/action@0000000000000000000000000000000000000000: where your copy of qgjob is, and a commit of it (--action-ref)
    Next:
      qgjob doctor
      let the server know whom to let in from CI: docs/CI.md, "The login"
      the workflow builds no app: jobs wait until `qgjob app upload --app-version-id=<commit> <file>`, or run this again with --app and --build
      read what was written, then commit it
    "#);
    insta::assert_snapshot!(read(&desk, "qgjob.toml"), @r#"
    # What `qgjob submit` sends when flags do not say. All keys: `qgjob help config`.

    org_id = "qualgent"

    [submit]
    # Files, folders and globs, relative to this file.
    tests = ["tests"]
    "#);
    let before = snapshot(&desk.project());
    let again = succeeded(desk.qgjob(&["init", ORG]).await);
    assert!(again.out.starts_with("✓ Unchanged: qgjob.toml\n✓ Unchanged: .github"), "{again:?}");
    assert_eq!(snapshot(&desk.project()), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_flags_say_is_in_the_files_and_the_configuration_is_used() {
    let mut desk = desk();
    desk.start_server().await;
    let sha = "0123456789abcdef0123456789abcdef01234567";
    let action = format!("--action-ref=acme/qgjob/action@{sha}");
    let flags =
        ["init", ORG, SERVER, "--app-version-id=xyz123", "--test=tests/login.spec.js", &action, "-o", "json"];
    let done = succeeded(desk.qgjob(&flags).await).json();
    assert_eq!(done["schema"], "qgjob.init/v1");
    assert_eq!(done["placeholders"], serde_json::json!([]));
    assert_eq!(done["files"][1], serde_json::json!({ "path": WORKFLOW, "state": "written" }));
    let workflow = read(&desk, WORKFLOW);
    for line in [
        "server: https://farm.example",
        "app-version-id: \"xyz123\"",
        &format!("uses: acme/qgjob/action@{sha}"),
    ] {
        assert!(workflow.contains(line), "{line} is not in {workflow}");
    }
    // The server in qgjob.toml does not count, since there is no credential for it.
    let submitted = succeeded(desk.qgjob(&["submit", "-o", "json"]).await);
    assert!(submitted.err.contains("https://farm.example"), "{submitted:?}");
    let submitted = submitted.json();
    assert_eq!((&submitted["org_id"], &submitted["app_version_id"]), (&"qualgent".into(), &"xyz123".into()));
    assert_eq!(submitted["jobs"][0]["test"], "tests/login.spec.js");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_overwritten_and_nothing_written_beside_it() {
    let desk = desk();
    for mine in ["qgjob.toml", WORKFLOW] {
        write(&desk, mine, "# mine\n");
        let before = snapshot(&desk.project());
        let refused = desk.qgjob(&["init", ORG]).await;
        assert_eq!((refused.code, refused.out.as_str()), (6, ""), "{refused:?}");
        assert!(
            refused.err.contains(&format!("{mine} exists")) && refused.err.contains("--force"),
            "{refused:?}"
        );
        assert_eq!(snapshot(&desk.project()), before, "{mine}");
        fs::remove_file(desk.project().join(mine)).unwrap();
    }
    // Not even readable as a qgjob.toml: that is what --force is for.
    write(&desk, "qgjob.toml", "no toml\n");
    let refused = desk.qgjob(&["init", ORG]).await;
    assert_eq!(refused.code, 6, "{refused:?}");
    let forced = succeeded(desk.qgjob(&["init", ORG, "--force"]).await);
    assert!(forced.out.starts_with("✓ Overwrote qgjob.toml\n✓ Wrote .github"), "{forced:?}");
    assert!(read(&desk, "qgjob.toml").contains("qualgent"));

    write(&desk, "qgjob.toml", "org_id = \"mine\"\n[submit]\ntests = [\"tests\"]\n");
    let beside = succeeded(desk.qgjob(&["init", "--no-config", "--app-version-id=1", "--force"]).await);
    assert!(beside.out.starts_with("✓ Overwrote .github"), "{beside:?}");
    assert!(read(&desk, "qgjob.toml").contains("mine"));
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_workflow_cannot_be_written_there_is_no_configuration() {
    let desk = desk();
    write(&desk, ".github", "a file where a folder must be\n");
    let before = snapshot(&desk.project());
    let failed = desk.qgjob(&["init", ORG, "--ci=github"]).await;
    assert_eq!(failed.code, 2, "{failed:?}");
    assert!(failed.err.contains("nothing was written"), "{failed:?}");
    assert_eq!(snapshot(&desk.project()), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ci_is_the_one_that_the_project_uses() {
    for (sign, ci, file) in [
        (None, "github", WORKFLOW),
        (Some(".github/workflows/a.yml"), "github", WORKFLOW),
        (Some(".gitlab-ci.yml"), "gitlab", ".gitlab/qgjob.yml"),
        (Some(".gitlab/a.md"), "gitlab", ".gitlab-ci.yml"),
        (Some(".buildkite/hooks"), "buildkite", ".buildkite/pipeline.yml"),
        (Some(".buildkite/pipeline.yml"), "buildkite", ".buildkite/pipeline.qgjob.yml"),
        (Some(".circleci/config.yml"), "circleci", ".circleci/qgjob.yml"),
    ] {
        let desk = desk();
        if let Some(sign) = sign {
            write(&desk, sign, "theirs\n");
        }
        let done = succeeded(desk.qgjob(&["init", ORG, "-o", "json"]).await).json();
        assert_eq!((&done["ci"], &done["files"][1]["path"]), (&ci.into(), &file.into()), "{sign:?}");
        if let Some(sign) = sign {
            assert_eq!(read(&desk, sign), "theirs\n");
            let joined = done["next"].to_string().contains(file);
            assert_eq!(joined, file.contains("qgjob") && ci != "github", "{done}");
        }
        // What it wrote itself it recognizes.
        let again = succeeded(desk.qgjob(&["init", ORG, "-o", "json"]).await).json();
        assert_eq!(again["files"][1], serde_json::json!({ "path": file, "state": "unchanged" }));
    }
    let desk = desk();
    succeeded(desk.bash("git init -q . && git remote add origin git@gitlab.example.com:a/b.git").await);
    assert_eq!(succeeded(desk.qgjob(&["init", ORG, "-o", "json"]).await).json()["ci"], "gitlab");
    write(&desk, ".circleci/config.yml", "theirs\n");
    let unclear = desk.qgjob(&["init", ORG, "--force"]).await;
    assert_eq!(unclear.code, 2, "{unclear:?}");
    assert!(
        unclear.err.contains("several CIs: gitlab, circleci") && unclear.err.contains("--ci"),
        "{unclear:?}"
    );
    let none = succeeded(desk.qgjob(&["init", ORG, "--ci=none", "-o", "name"]).await);
    assert_eq!(none.out, "qgjob.toml\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_below_the_root_of_its_checkout_is_named_in_the_workflow() {
    let desk = desk();
    succeeded(
        desk.bash("git init -q . && mkdir -p e2e android && mv package.json package-lock.json tests e2e/")
            .await,
    );
    write(&desk, "android/gradlew", "#!/bin/sh\n");
    let e2e = desk.project().join("e2e");
    let done = succeeded(desk.qgjob_in(&e2e, &["init", ORG, "--ci=buildkite"]).await);
    assert!(done.out.contains("Wrote e2e/qgjob.toml\n✓ Wrote .buildkite/pipeline.yml"), "{done:?}");
    let workflow = read(&desk, ".buildkite/pipeline.yml");
    for line in
        ["cd android && ./gradlew assembleDebug", "--project-dir=e2e", "APP: android/app/build/outputs/"]
    {
        assert!(workflow.contains(line), "{line} is not in {workflow}");
    }
    // From the root, as CI does it, that qgjob.toml is the one that counts.
    let plan = desk.qgjob(&["submit", "--project-dir=e2e", "--app-version-id=1", "-n", "-o", "json"]).await;
    let plan = succeeded(plan).json();
    assert_eq!((&plan["org_id"], plan["tests"].as_array().unwrap().len()), (&"qualgent".into(), 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_is_told_before_anything_is_written() {
    let desk = desk();
    let before = snapshot(&desk.project());
    for (flags, said) in [
        (&["--no-input"][..], "add --org-id"),
        (&[ORG, "--server=farm.example"], "no address of a server"),
        (&[ORG, "--app-version-id=no label"], "app version id"),
        (&[ORG, "--test=tests/logni.spec.js"], "tests/login.spec.js"),
        (&[ORG, "--action-ref=acme/qgjob/action@v1"], "a tag can be moved"),
        (&[ORG, "--app=app.apk"], "--build"),
        (&[ORG, "--build=make"], "--app"),
        (&[ORG, "--app=../app.apk", "--build=make"], "inside the checkout"),
        (&[ORG, "--app=app.apk", "--build=a\nb"], "one line"),
        (&[ORG, "--project-dir=/"], "no test project"),
        (&["--no-config", "--ci=none"], "nothing to write"),
    ] {
        let refused = desk.qgjob(&[&["init"], flags].concat()).await;
        assert_eq!(refused.code, 2, "{flags:?}: {refused:?}");
        assert!(refused.err.contains(said), "{said:?} is not in {refused:?}");
        assert_eq!(snapshot(&desk.project()), before, "{flags:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_shows_and_writes_nothing() {
    let desk = desk();
    let before = snapshot(&desk.project());
    let shown = succeeded(desk.qgjob(&["init", ORG, "--dry-run", "--ci=none"]).await);
    assert!(shown.out.starts_with("--- qgjob.toml\n# What"), "{shown:?}");
    assert_eq!(snapshot(&desk.project()), before);
}

/// Runs a command line on a terminal, typing `typed`.
async fn on_a_terminal(desk: &Desk, command: &str, typed: &str) -> Done {
    // `script` makes the terminal; it shows on it what is typed, too.
    desk.bash(&format!("printf '{typed}' | script -qec '\"$QGJOB\" {command}' /dev/null")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_what_is_missing_is_asked_for() {
    let desk = desk();
    let done = succeeded(on_a_terminal(&desk, "init", "https://farm.example\\nqualgent\\n").await);
    assert!(done.out.contains("as CI reaches it [https://qgjob.example.com]:"), "{done:?}");
    assert!(read(&desk, "qgjob.toml").contains("server = \"https://farm.example\"\norg_id = \"qualgent\"\n"));
    for quiet in ["CI=true", "QGJOB_NO_INPUT=1"] {
        let asked = desk
            .bash(&format!("export {quiet}; rm -f qgjob.toml; script -qec '\"$QGJOB\" init --ci=none' /dev/null < /dev/null"))
            .await;
        assert_eq!(asked.code, 2, "{quiet}: {asked:?}");
        assert!(
            asked.out.contains("no org is named") && !asked.out.contains("as CI reaches it"),
            "{asked:?}"
        );
    }
}
