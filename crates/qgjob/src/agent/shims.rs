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
