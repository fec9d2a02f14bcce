//! Reports at the end of commands that wait, and afterwards: written for every verdict, and missing in silence for none.

use std::path::Path;

use serde_json::Value;

use super::agent::{FakeAgent, Play};
use super::desk::{Desk, Done, SEEDS_SUBMIT};
use crate::readers;

const HOSTILE: &str = "</pre><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">\u{1b}[31m ]]>&x;";

fn play(test: &str) -> Play {
    match test {
        "tests/login.spec.js" => Play::Fails(HOSTILE),
        "tests/cart.spec.js" => Play::Flaky,
        _ => Play::Passes,
    }
}

async fn submit(desk: &Desk, test: &str, flags: &[&str]) -> Done {
    let test = format!("--test={test}");
    let submit = ["submit", "--org-id=qualgent", "--app-version-id=xyz123", &test];
    desk.qgjob(&[&submit, flags].concat()).await
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_is_written_for_every_verdict() {
    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    let _agent = FakeAgent::start(&desk, &["pixel-7-01"], |test| match test {
        "tests/login.spec.js" => Play::TimesOut,
        "tests/cart.spec.js" => Play::NoTests,
        other => play(other),
    })
    .await;
    let junit = desk.project().join("out/junit.xml");
    for (test, code, cases) in [
        ("tests/onboarding.spec.js", 0, [1, 0, 0]),
        ("tests/login.spec.js", 12, [1, 0, 1]),
        ("tests/cart.spec.js", 3, [1, 0, 1]),
        ("tests", 12, [3, 0, 2]),
    ] {
        let done =
            submit(&desk, test, &["--junit=out/junit.xml", "--report-json=out/run.json", "--html=out"]).await;
        assert_eq!(done.code, code, "{test}: {done:?}");
        let xml = readers::junit(&junit);
        assert_eq!(xml["stated"], xml["counted"]);
        let counted = ["tests", "failures", "errors"].map(|word| xml["counted"][word].as_u64().unwrap());
        assert_eq!(counted, cases, "{test}: {xml}");
        let json: Value = serde_json::from_str(&read(&desk.project().join("out/run.json"))).unwrap();
        assert_eq!(json["schema"], "qgjob.report/v1");
        assert!(read(&desk.project().join("out/index.html")).contains("<h1>"));
        // What is written now must not be taken for the next run's.
        std::fs::write(&junit, "stale").unwrap();
    }
    // A submit that fails before there is a run leaves no report of an earlier one.
    desk.qgjob(&[SEEDS_SUBMIT, &["--test=tests/none.spec.js", "--junit=out/junit.xml"]].concat()).await;
    assert!(!junit.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_cannot_be_written_is_told_and_makes_no_verdict_better() {
    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    let project = desk.project();
    std::fs::write(project.join("file"), "in the way").unwrap();
    // Told before anything is sent.
    let done = submit(&desk, "tests/onboarding.spec.js", &["--junit=file/junit.xml"]).await;
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.err.contains("cannot write file/junit.xml"), "{done:?}");
    assert!(desk.qgjob(&["run", "list", "-o", "name"]).await.out.is_empty(), "nothing was submitted");
    // The folder is taken away while the tests run.
    for (test, code) in [("tests/onboarding.spec.js", 2), ("tests/login.spec.js", 1)] {
        let gone = project.join("reports");
        let flags = ["--html=reports", "--reconnect-timeout=1m", "-o", "jsonl", "--watch"];
        let test = format!("--test={test}");
        let submit = ["submit", "--org-id=qualgent", "--app-version-id=xyz123", &test];
        let running = desk.start(&[&submit[..], &flags].concat()).has_begun().await;
        std::fs::remove_dir_all(&gone).unwrap();
        std::fs::write(&gone, "in the way").unwrap();
        let agent = FakeAgent::start(&desk, &["pixel-7-01"], play).await;
        let done = running.done().await;
        agent.stop().await;
        assert_eq!(done.code, code, "{done:?}");
        assert!(done.err.contains("cannot write reports/index.html"), "{done:?}");
        std::fs::remove_file(&gone).unwrap();
    }
    let several = desk
        .qgjob(&["wait", "job_01kb4x9tq3m8e7w2n5r6v0zcha", "run_01kb4x9tq3m8e7w2n5r6v0zcha", "--junit=x.xml"])
        .await;
    assert_eq!(several.code, 2, "{several:?}");
    assert!(several.err.contains("one run or job, not of 2"), "{several:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_as_json_is_rendered_without_the_server() {
    let mut desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    let agent = FakeAgent::start(&desk, &["pixel-7-01"], play).await;
    let done =
        submit(&desk, "tests", &["--report-json=run.json", "--html=page", "--artifacts=files", "-o", "json"])
            .await;
    assert_eq!(done.code, 1, "{done:?}");
    let id = done.json()["id"].as_str().unwrap().to_owned();
    let online = |form: &'static str| {
        let (desk, id) = (&desk, id.clone());
        async move { desk.qgjob(&["report", form, "--run-id", &id]).await.out }
    };
    let told = [online("junit").await, online("markdown").await];
    // The files of each job are apart.
    assert_eq!(readers::files(&desk.project().join("files")).len(), 3);
    let job = desk.qgjob(&["list", "--conclusion=failed", "-o", "name"]).await.out.trim().to_owned();
    let one = desk.qgjob(&["report", "markdown", "--job-id", &job]).await;
    assert!(one.out.starts_with("## ❌ failed: 1 of 1 test failed\n"), "{one:?}");
    agent.stop().await;
    desk.kill_server();
    for (form, online) in ["junit", "markdown"].into_iter().zip(told) {
        let offline = desk.qgjob(&["report", form, "--from=run.json"]).await;
        assert_eq!((offline.code, &offline.out), (0, &online), "{form}: {}", offline.err);
    }
    let done = desk.qgjob(&["report", "html", "--from=run.json", "--out=again.html"]).await;
    assert_eq!(done.code, 0, "{done:?}");
    let page = readers::shown(&desk.project().join("again.html"), "</footer>");
    // What the error says is shown, and nothing of it ran.
    assert!(page.contains("<title>failed · "), "{page:.400}");
    assert!(page.contains("&lt;script&gt;document.title='owned'&lt;/script&gt;"), "{page}");
    let done = desk.qgjob(&["report", "allure", "--from=run.json", "--out=results"]).await;
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(
        readers::allure(&readers::files(&desk.project().join("results"))).len(),
        4,
        "one for each try"
    );
    for (text, why) in [
        ("{}", "it names no schema"),
        ("[]", "it names no schema"),
        ("{\"schema\":\"qgjob.run/v1\"}", "its schema is \"qgjob.run/v1\""),
        ("{\"schema\":\"qgjob.report/v1\"}", "missing field"),
        ("no json", "expected ident"),
    ] {
        std::fs::write(desk.project().join("bad.json"), text).unwrap();
        let done = desk.qgjob(&["report", "junit", "--from=bad.json"]).await;
        assert_eq!(done.code, 2, "{done:?}");
        assert!(done.err.contains(why) && done.err.contains("qgjob report json"), "{text}: {done:?}");
    }
    let blob = desk.qgjob(&["report", "blob", "--from=run.json"]).await;
    assert_eq!(blob.code, 2, "the server alone has blobs: {blob:?}");
}
