//! The small files that make an unmodified AppWright run under the agent's rules.
//!
//! AppWright starts its own Appium on a fixed port, reinstalls the driver before every test, and asks macOS
//! for the app's id. Each of these habits is met from outside: by programs of the same name first on the
//! `PATH`, by a module loaded into node, and by a reporter that tells what happens while it happens.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const PROGRAMS: &[(&str, &str)] = &[
    ("npx", include_str!("shims/npx")),
    ("pkill", include_str!("shims/pkill")),
    ("osascript", include_str!("shims/osascript")),
];
const PRELOAD: &str = include_str!("shims/preload.cjs");
const REPORTER: &str = include_str!("shims/reporter.cjs");

/// The shims of one attempt, written to its folder.
#[derive(Debug, Clone)]
pub struct Shims {
    bin: PathBuf,
    preload: PathBuf,
    reporter: PathBuf,
}

/// What the environment of a job must say besides what the host's says.
#[derive(Debug, Clone)]
pub struct JobEnv<'a> {
    /// Where AppWright's connections to port 4723 go.
    pub gateway_port: u16,
    /// The file to which the reporter appends its events.
    pub events: &'a Path,
    /// Package or bundle id of the app under test.
    pub app_id: &'a str,
    /// The `PATH` that the job would have otherwise.
    pub path: &'a str,
    /// The `NODE_OPTIONS` that the job would have otherwise.
    pub node_options: Option<&'a str>,
}

impl Shims {
    /// Writes the files below `dir`, which must exist, must be absolute, and belongs to the shims.
    pub fn write(dir: &Path) -> io::Result<Shims> {
        let bin = dir.join("bin");
        fs::create_dir_all(&bin)?;
        for (name, text) in PROGRAMS {
            let path = bin.join(name);
            fs::write(&path, text)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        let (preload, reporter) = (dir.join("preload.cjs"), dir.join("reporter.cjs"));
        fs::write(&preload, PRELOAD)?;
        fs::write(&reporter, REPORTER)?;
        Ok(Shims { bin, preload, reporter })
    }

    /// The variables that put the shims to work.
    pub fn env(&self, job: &JobEnv<'_>) -> BTreeMap<String, String> {
        let show = |p: &Path| p.display().to_string();
        let require = format!("--require={}", quoted(&show(&self.preload)));
        let node_options = match job.node_options {
            Some(own) if !own.trim().is_empty() => format!("{require} {own}"),
            _ => require,
        };
        [
            ("PATH", format!("{}:{}", show(&self.bin), job.path)),
            ("NODE_OPTIONS", node_options),
            ("PW_TEST_REPORTER", show(&self.reporter)),
            ("QGJOB_EVENTS", show(job.events)),
            ("QGJOB_GATEWAY_PORT", job.gateway_port.to_string()),
            ("QGJOB_APP_ID", job.app_id.to_owned()),
            // Otherwise every WebDriver call is logged to stdout.
            ("WDIO_LOG_LEVEL", "error".to_owned()),
            // AppWright's HTML reporter would otherwise open a browser or serve its report for ever.
            ("PLAYWRIGHT_HTML_OPEN", "never".to_owned()),
            ("npm_config_update_notifier", "false".to_owned()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }
}

/// As node reads `NODE_OPTIONS`: blanks separate, double quotes hold together, a backslash escapes.
fn quoted(path: &str) -> String {
    format!("\"{}\"", path.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::process::{Launch, Output as To};
    use std::process::Output;
    use std::time::Duration;
    use tokio::io::{AsyncBufReadExt, BufReader};

    struct Job {
        dir: tempfile::TempDir,
        env: BTreeMap<String, String>,
    }

    impl Job {
        /// A job in a folder whose name has a blank, with stand-ins for the real programs on its `PATH`.
        fn new(gateway_port: u16) -> Job {
            let dir = tempfile::Builder::new().prefix("job one ").tempdir().unwrap();
            let real = dir.path().join("real");
            fs::create_dir(&real).unwrap();
            for name in ["npx", "pkill"] {
                let path = real.join(name);
                fs::write(&path, format!("#!/bin/sh\necho real {name} \"$@\"\n")).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            }
            let shims = Shims::write(dir.path()).unwrap();
            let path = format!("{}:{}", real.display(), std::env::var("PATH").unwrap());
            let env = shims.env(&JobEnv {
                gateway_port,
                events: &dir.path().join("events.ndjson"),
                app_id: "dev.qgjob.demo",
                path: &path,
                node_options: Some("--no-warnings"),
            });
            Job { dir, env }
        }

        fn launch(&self, program: &str, args: &[&str]) -> Launch {
            // Found on the job's PATH, as AppWright finds it, and not on that of this test.
            Launch::new("/usr/bin/env").args([program]).args(args.iter().copied()).envs(self.env.clone())
        }

        async fn run(&self, program: &str, args: &[&str]) -> Output {
            self.launch(program, args).finish(Duration::from_secs(30)).await.unwrap()
        }
    }

    fn text(out: &Output) -> String {
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }

    #[tokio::test]
    async fn trap_2_the_driver_is_neither_removed_nor_installed_per_test() {
        let job = Job::new(4000);
        for verb in ["uninstall", "install"] {
            let out = job.run("npx", &["appium", "driver", verb, "uiautomator2"]).await;
            assert_eq!((out.status.code(), text(&out).as_str()), (Some(0), ""));
        }
        assert!(text(&job.run("npx", &["appium", "driver", "list"]).await).contains("uiautomator2"));
        assert!(!job.run("npx", &["appium", "plugin", "install", "x"]).await.status.success());
    }

    #[tokio::test]
    async fn trap_3_a_second_server_start_is_answered_at_once_and_ends_on_sigterm() {
        let job = Job::new(4711);
        for _ in 0..2 {
            let mut npx = job.launch("npx", &["appium"]).output(To::Piped).spawn().unwrap();
            let mut lines = BufReader::new(npx.stdout().unwrap()).lines();
            let line = lines.next_line().await.unwrap().unwrap();
            assert!(line.contains("Appium REST http interface listener started"), "{line}");
            assert!(npx.exited().unwrap().is_none());
            nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(npx.id() as i32),
                nix::sys::signal::Signal::SIGTERM,
            )
            .unwrap();
            tokio::time::timeout(Duration::from_secs(5), npx.wait()).await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn npx_of_anything_else_reaches_the_real_npx_with_its_arguments_whole() {
        let job = Job::new(4000);
        for args in [&["playwright", "test", "--grep", "two words"][..], &["--yes", "cowsay"], &[]] {
            let out = job.run("npx", args).await;
            assert_eq!(text(&out), format!("real npx {}", args.join(" ")).trim());
        }
        let out = job.run("npx", &["-y", "appium", "driver", "list"]).await;
        assert!(text(&out).starts_with("uiautomator2"));
    }

    #[tokio::test]
    async fn trap_4_pkill_of_appium_ends_nothing_and_any_other_pkill_is_real() {
        let job = Job::new(4000);
        assert_eq!(text(&job.run("pkill", &["-f", "appium"]).await), "");
        assert_eq!(text(&job.run("pkill", &["-f", "my-server"]).await), "real pkill -f my-server");
    }

    #[tokio::test]
    async fn trap_5_osascript_answers_on_linux_with_the_id_of_the_app() {
        let out = Job::new(4000).run("osascript", &["-e", "id of app \"/builds/demo.apk\""]).await;
        assert_eq!((out.status.code(), text(&out).as_str()), (Some(0), "dev.qgjob.demo"));
    }

    #[tokio::test]
    async fn trap_3_port_4723_leads_to_the_gateway_and_other_ports_lead_where_they_say() {
        let servers = async || {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let router = axum::Router::new().fallback(move || async move { format!("port {port}") });
            tokio::spawn(async move { axum::serve(listener, router).await });
            port
        };
        let (gateway, other) = (servers().await, servers().await);
        let job = Job::new(gateway);
        let script = "(async () => { for (const url of process.argv.slice(1)) { \
             const byFetch = await (await fetch(url)).text(); \
             const byHttp = await new Promise((ok, bad) => require('http').get(url, r => { let t = ''; r.on('data', d => t += d); r.on('end', () => ok(t)); }).on('error', bad)); \
             console.log(byFetch, byHttp); } })()";
        let other_url = format!("http://127.0.0.1:{other}/");
        let urls = ["http://localhost:4723/status", "http://127.0.0.1:4723/status", &other_url];
        let out = job.run("node", &[&["-e", script][..], &urls].concat()).await;
        let want = [gateway, gateway, other].map(|p| format!("port {p} port {p}")).join("\n");
        assert_eq!(text(&out), want, "{}", String::from_utf8_lossy(&out.stderr));
    }

    #[tokio::test]
    async fn the_reporter_writes_one_line_per_event_whatever_the_tests_throw_at_it() {
        let job = Job::new(4000);
        let script = r#"
            const Events = require(process.env.PW_TEST_REPORTER);
            const reporter = new Events();
            const suite = { type: 'project', title: 'device' };
            const file = { type: 'file', parent: suite, _parallelMode: 'none' };
            const group = { type: 'describe', parent: file, _parallelMode: 'serial', titlePath: () => ['', 'device', 'a.spec.js', 'group'] };
            const test = { id: 't1', parent: group, location: { file: '/p/a.spec.js', line: 3 },
              titlePath: () => ['', 'device', 'a.spec.js', 'group', 'works'], outcome: () => 'unexpected', ok: () => false,
              expectedStatus: 'passed', retries: 1, annotations: [{ type: 'issue', description: 12n }] };
            const circle = { message: '\u001b[31mbad\u001b[0m ' + 'x'.repeat(100000), location: { file: 'f', line: 1, column: 1n } };
            circle.location.file = circle.location;
            reporter.onBegin({ version: '1.59.1', workers: 1n }, { allTests: () => [test, { ...test, parent: { type: 'describe', parent: file } }] });
            reporter.onTestBegin(test, { retry: 0, workerIndex: 0 });
            reporter.onStdOut(Buffer.from('two\nlines'), test);
            reporter.onStdErr('err', undefined);
            reporter.onTestEnd(test, { retry: 0, status: 'failed', duration: 5, errors: [circle, {}], attachments: [{ name: 'trace', path: '/t.zip', contentType: 'application/zip' }] });
            reporter.onTestEnd({ id: 'broken' }, {});
            reporter.onError({ message: 'top' });
            reporter.onEnd({ status: 'failed', duration: 9 });
        "#;
        let out = job.run("node", &["-e", script]).await;
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        assert!(String::from_utf8_lossy(&out.stderr).contains("events are incomplete"));
        let events: Vec<serde_json::Value> = fs::read_to_string(job.dir.path().join("events.ndjson"))
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let names: Vec<&str> = events.iter().map(|e| e["event"].as_str().unwrap()).collect();
        assert_eq!(names, ["begin", "test-begin", "stdout", "stderr", "test-end", "error", "end"]);
        let listed = &events[0]["tests"][0];
        assert_eq!(listed["title"], serde_json::json!(["group", "works"]));
        assert_eq!(listed["unit"], 1, "the suite is serial");
        assert_eq!(events[0]["tests"][1].get("unit"), None, "another Playwright may not have the field");
        assert_eq!(
            (&listed["project"], &listed["line"], &events[0]["workers"]),
            (&"device".into(), &3.into(), &"1".into())
        );
        assert_eq!(events[2]["text"], "two\nlines");
        let message = events[4]["errors"][0]["message"].as_str().unwrap();
        assert!(message.starts_with("bad xxx") && message.ends_with("characters cut]"));
        assert!(message.len() < 20_000);
        assert_eq!(events[4]["errors"][0]["location"]["file"]["file"], "[circular]");
        assert_eq!(events[4]["attachments"][0]["path"], "/t.zip");
    }
}
