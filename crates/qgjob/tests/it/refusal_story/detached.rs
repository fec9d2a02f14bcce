//! Tests that leave processes behind which carry nothing of the attempt: neither its group nor its environment.

use std::time::{Duration, Instant};

use super::project::Project;
use super::{End, ends, still_works};
use crate::device_bench::eventually;
use crate::world::{BUGGY, GOOD, World};

/// Starts a process in a session and with an environment of its own, whose parent ends at once; writes its number down.
const DETACH: &str = r#"const { test, expect } = require("appwright");
const { spawnSync } = require("child_process");
const { existsSync, readFileSync } = require("fs");
const sleep = (seconds) => new Promise((wake) => setTimeout(wake, seconds * 1000));
function detach(file) {
  const script = `sleep 600 > /dev/null 2>&1 & echo $! > ${file}.half; mv ${file}.half ${file}`;
  spawnSync("/usr/bin/setsid", ["/bin/sh", "-c", script], { env: { PATH: "/usr/bin:/bin" } });
  return Number(readFileSync(file, "utf8"));
}
"#;

const PASSED: End<'_> = End { code: 0, conclusion: "passed", reason: "tests_passed" };

#[tokio::test(flavor = "multi_thread")]
async fn what_a_test_detaches_ends_with_its_attempt_and_not_with_anothers() {
    let world = World::new(2).await;
    let project = Project::new();
    let (long, short, over) = (project.path("long"), project.path("short"), project.path("over"));
    let spec = format!(
        r#"{DETACH}test("needs its process until it is told", async () => {{
          const child = detach("{}");
          while (!existsSync("{}")) {{ process.kill(child, 0); await sleep(0.2); }}
          process.kill(child, 0);
        }});"#,
        long.display(),
        over.display()
    );
    project.write("tests/long.spec.js", &spec);
    let spec = format!(r#"{DETACH}test("leaves one", async () => {{ detach("{}"); }});"#, short.display());
    project.write("tests/short.spec.js", &spec);
    let submit = async |app: &str, name: &str| {
        let test = format!("--test=tests/{name}.spec.js");
        project.submit(&world, &[app, &test, "--retries=0", "--timeout=180s"]).await
    };
    let first = submit(GOOD, "long").await;
    // Appium's first start takes long on a busy machine.
    let deadline = Instant::now() + Duration::from_secs(120);
    while !long.exists() {
        assert!(Instant::now() < deadline, "the test did not start: {}", world.job(&first).await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // Another app version, so that it does not wait for the phone that has the first.
    let second = submit(BUGGY, "short").await;
    ends(&world, &second, PASSED, "a test that leaves a process").await;
    let number = |file| std::fs::read_to_string(file).unwrap().trim().parse::<i32>().unwrap();
    let (long, short) = (number(&long), number(&short));
    std::fs::write(&over, "").unwrap();
    ends(&world, &first, PASSED, "a test whose process is there until its end").await;
    eventually("both processes are ended", async || !sleeps(long) && !sleeps(short)).await;

    // With nothing else under way, a process ends with its attempt, and what belongs to the host goes on.
    std::fs::remove_file(project.path("short")).unwrap();
    let third = submit(BUGGY, "short").await;
    ends(&world, &third, PASSED, "a test that leaves a process").await;
    assert!(!sleeps(number(&project.path("short"))));
    still_works(&world).await;
}

/// Whether the process is still the one that was left.
fn sleeps(pid: i32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"sleep\x00600\x00"))
}
