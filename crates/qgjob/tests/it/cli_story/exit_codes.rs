//! Every exit code, reached by the real program. A code without a way to it does not compile.

use nix::sys::signal::Signal;
use qgjob_core::model::exit::ExitCode;

use super::agent::{FakeAgent, Play};
use super::desk::{Desk, Done};
use crate::proxy::{Fate, Proxy};

const BASE: &[&str] = &["submit", "--org-id=qualgent", "--app-version-id=xyz123"];

/// What becomes of each test file.
fn play(test: &str) -> Play {
    match test {
        "tests/fails.spec.js" => Play::Fails("no"),
        "tests/faults.spec.js" => Play::Faults("device_fault"),
        "tests/invalid.spec.js" => Play::Faults("project_invalid"),
        "tests/times-out.spec.js" => Play::TimesOut,
        "tests/empty.spec.js" => Play::NoTests,
        _ => Play::Passes,
    }
}

struct Place {
    desk: Desk,
    /// A job that no device takes.
    waits: String,
}

impl Place {
    async fn submit(&self, test: &str, flags: &[&str]) -> Done {
        let test = format!("--test=tests/{test}.spec.js");
        self.desk.qgjob(&[BASE, &[&test, "--retries=0", "--wait"], flags].concat()).await
    }

    /// The same through a proxy.
    async fn at(&self, proxy: &Proxy, args: &[&str]) -> Done {
        let token = self.desk.admin_token();
        self.desk.qgjob_with(&[("QGJOB_SERVER", &proxy.url), ("QGJOB_TOKEN", &token)], args).await
    }

    async fn stopped_by(&self, signal: Signal) -> Done {
        let watching = self.desk.start(&["status", &self.waits, "--watch"]).has_begun().await;
        watching.signal(signal);
        watching.done().await
    }

    /// Does what ends with `code`.
    async fn reach(&self, code: ExitCode) -> Done {
        let desk = &self.desk;
        match code {
            ExitCode::Ok => self.submit("passes", &[]).await,
            ExitCode::TestsFailed => self.submit("fails", &[]).await,
            ExitCode::Usage => self.submit("invalid", &[]).await,
            ExitCode::NoTests => self.submit("empty", &[]).await,
            ExitCode::Auth => desk.qgjob_with(&[("QGJOB_TOKEN", "qgj_pat_wrong")], &["list"]).await,
            ExitCode::NotFound => desk.qgjob(&["status", "job_00000000000000000000000000"]).await,
            ExitCode::Conflict => {
                let over = self.submit("passes", &["-o", "name"]).await;
                let job = desk.qgjob(&["status", over.out.trim(), "-o", "json"]).await.json();
                desk.qgjob(&["cancel", job["job_list"][0]["id"].as_str().unwrap()]).await
            }
            ExitCode::Infra => self.submit("faults", &[]).await,
            ExitCode::QueueDeadline => {
                self.submit("late", &["--target=browserstack", "--queue-timeout=1s"]).await
            }
            ExitCode::TimedOut => self.submit("times-out", &[]).await,
            ExitCode::Cancelled => {
                let job = desk
                    .qgjob(
                        &[BASE, &["--test=tests/late.spec.js", "--target=browserstack", "-o", "name"]]
                            .concat(),
                    )
                    .await;
                let waiting = desk.start(&["wait", job.out.trim()]);
                assert_eq!(desk.qgjob(&["cancel", job.out.trim()]).await.code, 0);
                waiting.done().await
            }
            ExitCode::Unreachable => desk.qgjob(&["list", "--server=http://127.0.0.1:1"]).await,
            ExitCode::WaitTimeout => desk.qgjob(&["wait", &self.waits, "--wait-timeout=100ms"]).await,
            ExitCode::Quota => {
                let limited = Proxy::start(&desk.address, |_| Fate::Refused(429, Some(3_600))).await;
                self.at(&limited, &["list"]).await
            }
            ExitCode::Internal => {
                let over = self.submit("passes", &["-o", "name"]).await;
                // "Over", and no word on how.
                let confused =
                    Proxy::start(&desk.address, |_| Fate::Altered("\"exit_code\":0", "\"exit_code\":null"))
                        .await;
                self.at(&confused, &["wait", over.out.trim()]).await
            }
            ExitCode::Interrupted => self.stopped_by(Signal::SIGINT).await,
            ExitCode::BrokenPipe => {
                let script =
                    "\"$QGJOB\" list --limit=200 -o json | head -n1 > /dev/null; exit ${PIPESTATUS[0]}";
                desk.bash(script).await
            }
            ExitCode::Terminated => self.stopped_by(Signal::SIGTERM).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_exit_code_is_reached() {
    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    let names = ["passes", "fails", "invalid", "empty", "faults", "times-out", "late"];
    // So many jobs that no pipe holds their list.
    let many = (0..200).map(|at| format!("many-{at}"));
    for name in names.into_iter().map(str::to_owned).chain(many) {
        std::fs::write(desk.project().join(format!("tests/{name}.spec.js")), "// a test\n").unwrap();
    }
    let many = [BASE, &["--test=tests/many-*.spec.js", "--target=browserstack", "-o", "json"]].concat();
    let many = desk.qgjob(&many).await.json();
    let waits = many["jobs"][0]["job_id"].as_str().unwrap().to_owned();
    let agent = FakeAgent::start(&desk, &["p1"], play).await;
    let place = Place { desk, waits };
    let mut reached = Vec::new();
    for code in ExitCode::ALL {
        let done = place.reach(code).await;
        assert_eq!(done.code, i32::from(u8::from(code)), "{code:?}: {done:?}");
        reached.push(done.code);
        // A verdict and a reader that left need no word; whatever else is not 0 says why.
        let is_verdict = ExitCode::WORST_FIRST.contains(&code) && code != ExitCode::Internal;
        if !is_verdict && !matches!(code, ExitCode::BrokenPipe | ExitCode::Internal) {
            assert!(!done.err.trim().is_empty(), "{code:?}: {done:?}");
        }
    }
    assert_eq!(reached.len(), 18);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_jobs_the_worst_counts() {
    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    let names = ["passes", "fails", "invalid", "empty", "faults", "times-out", "late"];
    for name in names {
        std::fs::write(desk.project().join(format!("tests/{name}.spec.js")), "// a test\n").unwrap();
    }
    let agent = FakeAgent::start(&desk, &["p1"], play).await;
    let run = async |names: &[&str]| {
        let tests: Vec<String> = names.iter().map(|name| format!("--test=tests/{name}.spec.js")).collect();
        let tests: Vec<&str> = tests.iter().map(String::as_str).collect();
        desk.qgjob(&[BASE, &tests, &["--retries=0", "--wait", "-o", "name"]].concat()).await
    };
    let mut runs = Vec::new();
    for (names, code) in [
        (&["passes", "fails", "invalid", "faults"][..], 1),
        (&["passes", "invalid", "faults", "times-out"], 2),
        (&["passes", "faults", "times-out", "empty"], 10),
        (&["passes", "times-out", "empty"], 12),
        (&["passes", "empty"], 3),
        (&["passes"], 0),
    ] {
        let done = run(names).await;
        assert_eq!(done.code, code, "{names:?}: {done:?}");
        runs.push((done.out.trim().to_owned(), code));
    }
    // The same order among runs as among the jobs of one.
    for worst in 0..runs.len() {
        let ids: Vec<&str> = runs[worst..].iter().rev().map(|(id, _)| id.as_str()).collect();
        let done = desk.qgjob(&[&["wait"], &ids[..]].concat()).await;
        assert_eq!(done.code, runs[worst].1, "{done:?}");
    }
    agent.stop().await;
}
