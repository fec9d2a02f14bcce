//! The action through the whole system: real server, agent, AppWright and Appium; only the phones are simulated.

use super::runner::{Runner, Step};
use crate::world::{BUGGY, GOOD, World, example};

async fn step(world: &World, label: &str, test: &str) -> Step {
    // The project is in a folder of the repository.
    let runner = Runner::new(example().parent().unwrap(), &world.bench.path("config"))
        .with("server", &world.url())
        .with("token", &world.token())
        .with("org-id", "qualgent")
        .with("app-version-id", label.split_once('=').unwrap().1)
        .with("project-dir", "appwright-demo")
        .with("test", test)
        .with("test-retries", "1");
    let step = runner.main().await;
    assert_eq!(runner.orphans(), Vec::<String>::new());
    assert_eq!(runner.post(&step).await.code, 0);
    step
}

#[tokio::test(flavor = "multi_thread")]
async fn passed_failed_and_flaky_tests_of_a_real_project() {
    let world = World::new(1).await;
    let passed = step(&world, GOOD, "tests/onboarding.spec.js").await;
    let told = ["conclusion", "passed", "failed", "flaky", "total"];
    assert_eq!(
        (passed.code, told.map(|name| passed.output(name))),
        (0, ["passed", "2", "0", "0", "2"]),
        "{}",
        passed.log
    );
    assert!(passed.console.annotations.is_empty(), "{:?}", passed.console.annotations);
    assert!(passed.summary.unwrap().starts_with("## ✅ passed"));

    let failed = step(&world, BUGGY, "tests/known-bug.spec.js").await;
    assert_eq!(
        (failed.code, told.map(|name| failed.output(name))),
        (1, ["failed", "0", "1", "0", "1"]),
        "{}",
        failed.log
    );
    let [error] = failed.errors()[..] else { panic!("{:?}", failed.console.annotations) };
    assert_eq!(error.file.as_deref(), Some("appwright-demo/tests/known-bug.spec.js"));
    let text = std::fs::read_to_string(example().join("tests/known-bug.spec.js")).unwrap();
    let line = text.lines().nth(error.line.unwrap() as usize - 1).unwrap();
    assert!(line.contains("test("), "{error:?} is at {line:?}");
    assert!(error.message.contains("on phone-1 (job_"), "{error:?}");
    assert!(failed.summary.unwrap().starts_with("## ❌ failed"));

    let flaky = step(&world, GOOD, "tests/flaky.spec.js").await;
    assert_eq!(
        (flaky.code, told.map(|name| flaky.output(name))),
        (0, ["passed", "0", "0", "1", "1"]),
        "{}",
        flaky.log
    );
    let [warning] = flaky.warnings()[..] else { panic!("{:?}", flaky.console.annotations) };
    assert!(warning.title.starts_with("flaky: "), "{warning:?}");
    assert_eq!(warning.file.as_deref(), Some("appwright-demo/tests/flaky.spec.js"));
    assert!(flaky.errors().is_empty() && flaky.summary.unwrap().contains("Flaky"));
}
