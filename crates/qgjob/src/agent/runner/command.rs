//! The command line and the environment of a runner.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::selection::Selection;
use super::{Plan, Setting};
use crate::agent::process::{Launch, Output};
use crate::agent::shims::{JobEnv, Shims};
use crate::agent::workspace::CONFIG;

/// The runner's own limit on the whole run is this much later than the agent's: a net below a net.
const NET: Duration = Duration::from_secs(30);

/// Runs the selected tests of one test file.
pub(super) fn test(plan: &Plan, selection: &Selection, shims: &Shims) -> Launch {
    let chosen = selection.arguments(&plan.dir.test_list());
    let launch = playwright(&plan.setting)
        .args(chosen)
        .args(arguments(plan, selection))
        .envs(environment(plan, shims));
    let launch = launch.output(Output::Piped);
    match &plan.records {
        Some(records) => launch.recorded_in(records),
        None => launch,
    }
}

/// Playwright's command line, called as `npx appwright` would in the end, in an environment that begins with
/// the job's own variables: everything set later wins over them.
pub(super) fn playwright(setting: &Setting) -> Launch {
    let job = setting.env.iter().map(|(name, value)| (name.to_string(), value.clone()));
    Launch::new("node")
        .args(["node_modules/@playwright/test/cli.js", "test"])
        // Two words: AppWright's global setup looks for "--config" and "--project" alone.
        .args(["--config", CONFIG])
        .of_project()
        .dir(&setting.workspace)
        .envs(job)
        .envs(setting.tools.env.clone())
        .env("PATH", &setting.tools.path)
        // Suites look at it: `forbidOnly: !!process.env.CI`.
        .env("CI", "1")
        .env("QGJOB_UDID", &setting.udid)
        .env("QGJOB_APP_ID", &setting.app_id)
        .env("QGJOB_APP", setting.app.display().to_string())
}

/// Everything after the configuration.
pub(super) fn arguments(plan: &Plan, selection: &Selection) -> Vec<String> {
    let attempt_ms = plan.timeout.as_millis() as u64;
    // 0 means none, which is AppWright's default.
    let test_ms = match plan.project.timeout_ms {
        0 => attempt_ms,
        own => own.min(attempt_ms),
    };
    let mut arguments = vec![
        "--project".to_owned(),
        plan.project.name.clone(),
        "--workers=1".to_owned(),
        format!("--retries={}", plan.test_retries),
        format!("--timeout={}", test_ms.max(1)),
        format!("--global-timeout={}", (plan.timeout + NET).as_millis()),
        format!("--output={}", plan.dir.results().display()),
        "--reporter=list,json,blob".to_owned(),
    ];
    let file = file_argument(&plan.setting.workspace.join(plan.test.as_str()));
    match selection {
        Selection::At { lines, .. } => {
            arguments.extend(lines.iter().map(|line| format!("{file}:{line}")));
        }
        Selection::All | Selection::Only(_) | Selection::AllBut(_) | Selection::Nothing => {
            arguments.push(file)
        }
    }
    arguments
}

fn environment(plan: &Plan, shims: &Shims) -> BTreeMap<String, String> {
    let mut env = shims.env(&JobEnv {
        gateway_port: plan.gateway_port,
        events: &plan.dir.events(),
        app_id: &plan.setting.app_id,
        path: &plan.setting.tools.path,
        node_options: None,
    });
    let mut set = |name: &str, value: String| env.insert(name.to_owned(), value);
    set("PLAYWRIGHT_JSON_OUTPUT_FILE", plan.dir.report().display().to_string());
    set("PLAYWRIGHT_BLOB_OUTPUT_FILE", plan.dir.blob().display().to_string());
    set("PLAYWRIGHT_HTML_OUTPUT_DIR", plan.dir.temporary().join("html").display().to_string());
    set("TMPDIR", plan.dir.temporary().display().to_string());
    env
}

/// The argument that means exactly the file at `path`.
///
/// Playwright takes a file argument for a regular expression that may match anywhere and in any case, unless
/// it stands between slashes; and it cuts `:12` off the end for a line number, which `$/` prevents. Behind that
/// a line number may follow.
pub(super) fn file_argument(path: &Path) -> String {
    format!("/^{}$/", escaped(&path.display().to_string()))
}

/// The text as a regular expression of JavaScript that means just it.
pub(super) fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if "\\^$.*+?()[]{}|/-".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::runner::{AttemptDir, PlaywrightProject, Tools};

    fn plan(dir: &Path, timeout_ms: u64) -> Plan {
        let setting = Setting {
            workspace: "/w".into(),
            tools: Tools::default(),
            env: BTreeMap::from([
                ("CI".parse().unwrap(), "no".to_owned()),
                ("BASE".parse().unwrap(), "x".to_owned()),
            ]),
            udid: "S".to_owned(),
            app_id: "a.b".to_owned(),
            app: "/a.apk".into(),
        };
        Plan {
            setting,
            test: "tests/a.spec.js".parse().unwrap(),
            shard: None,
            only: vec![],
            project: PlaywrightProject {
                name: "two words".to_owned(),
                timeout_ms,
                ..PlaywrightProject::default()
            },
            gateway_port: 1,
            timeout: Duration::from_secs(60),
            test_retries: 0,
            dir: AttemptDir::create(&dir.join("attempt")).unwrap(),
            records: None,
        }
    }

    fn arguments_for(timeout_ms: u64) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        arguments(&plan(dir.path(), timeout_ms), &Selection::All)
    }

    #[test]
    fn trap_9_the_project_is_a_word_of_its_own() {
        let arguments = arguments_for(0);
        let at = arguments.iter().position(|a| a == "--project").unwrap();
        assert_eq!(arguments[at + 1], "two words");
    }

    #[test]
    fn trap_10_limits_are_always_given_and_the_projects_own_is_kept_when_it_is_shorter() {
        for (own, told) in [(0, 60_000), (5_000, 5_000), (600_000, 60_000)] {
            let arguments = arguments_for(own);
            for wanted in
                [&format!("--timeout={told}"), "--global-timeout=90000", "--retries=0", "--workers=1"]
            {
                assert!(arguments.iter().any(|a| a == wanted), "{wanted} in {arguments:?}");
            }
        }
    }

    #[test]
    fn trap_8_a_file_argument_means_one_file() {
        assert_eq!(file_argument(Path::new("/w/a.spec.js")), r"/^\/w\/a\.spec\.js$/");
        assert_eq!(file_argument(Path::new("/w/[id](x)+$.js")), r"/^\/w\/\[id\]\(x\)\+\$\.js$/");
    }
}
