//! The packages of a project: `npm ci`, once per lockfile.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use qgjob_core::model::sha256::Sha256;
use serde_json::Value;
use sha2::Digest;

use super::Error;
use crate::agent::process::Launch;
use crate::bundle::LOCKFILES;

/// How much of npm's output goes into an error.
const LOG_TAIL: usize = 4 * 1024;

/// npm's error codes that are the project's fault: another machine would see the same.
const PROJECT_CODES: &[&str] = &[
    "EUSAGE",
    "EJSONPARSE",
    "ETARGET",
    "ENOVERSIONS",
    "ERESOLVE",
    "EINVALIDPACKAGENAME",
    "EINVALIDTAGNAME",
    "EUNSUPPORTEDPROTOCOL",
    "EBADENGINE",
    "EBADPLATFORM",
    "ENOLOCK",
    "EOVERRIDE",
    "EDUPLICATEWORKSPACE",
];

/// What is to be installed.
#[derive(Debug)]
pub(super) struct Wanted {
    key: String,
    lockfile: &'static str,
    /// Packages of the project's own, by path: npm needs their folders, so the whole project is copied.
    own_packages: bool,
}

impl Wanted {
    /// Reads what the project in `dir` depends on. Its key says all that decides what npm installs.
    pub(super) fn read(dir: &Path, bundle: Sha256, node_major: &str) -> Result<Wanted, Error> {
        let read = |name: &str| fs::read(dir.join(name));
        let package = read("package.json").map_err(|_| Error::NoPackageJson)?;
        let package: Value =
            serde_json::from_slice(&package).map_err(|e| Error::BadPackageJson(e.to_string()))?;
        let lockfile =
            LOCKFILES.into_iter().find(|name| dir.join(name).is_file()).ok_or(Error::NoLockfile)?;
        let lock = read(lockfile).map_err(|source| Error::io(&dir.join(lockfile), source))?;
        let own_packages = package.get("workspaces").is_some() || has_links(&lock);
        let mut hash = sha2::Sha256::new();
        let mut add = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        add(node_major.as_bytes());
        add(lockfile.as_bytes());
        add(&lock);
        // npm compares these with the lockfile and refuses when they differ, so they count as well.
        for field in [
            "dependencies",
            "devDependencies",
            "optionalDependencies",
            "peerDependencies",
            "overrides",
            "workspaces",
        ] {
            add(package.get(field).map(Value::to_string).unwrap_or_default().as_bytes());
        }
        add(&read(".npmrc").unwrap_or_default());
        if own_packages {
            add(&bundle.0);
        }
        Ok(Wanted { key: Sha256(hash.finalize().into()).to_string(), lockfile, own_packages })
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Installs to `dir/node_modules`. Scripts of packages are not run.
    pub(super) async fn install(&self, project: &Path, dir: &Path, timeout: Duration) -> Result<(), Error> {
        if self.own_packages {
            super::copy(project, dir)?;
        } else {
            for name in ["package.json", self.lockfile, ".npmrc"] {
                let (from, to) = (project.join(name), dir.join(name));
                if from.is_file() {
                    fs::copy(&from, &to).map_err(|source| Error::io(&to, source))?;
                }
            }
        }
        let flags =
            ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--include=dev"];
        let done = Launch::new("npm").args(flags).dir(dir).finish(timeout).await?;
        if !done.status.success() {
            let mut log = String::from_utf8_lossy(&done.stdout).into_owned();
            log.push_str(&String::from_utf8_lossy(&done.stderr));
            return Err(refusal(&log, dir));
        }
        // A project without dependencies gets no folder from npm; what is missing is told by the checks.
        let modules = dir.join("node_modules");
        fs::create_dir_all(&modules).map_err(|source| Error::io(&modules, source))
    }
}

/// Whether the lockfile links to folders of the project.
fn has_links(lock: &[u8]) -> bool {
    let Ok(lock) = serde_json::from_slice::<Value>(lock) else { return false };
    let Some(packages) = lock.get("packages").and_then(Value::as_object) else { return false };
    packages.values().any(|package| {
        let file =
            package.get("resolved").and_then(Value::as_str).is_some_and(|from| from.starts_with("file:"));
        file || package.get("link") == Some(&Value::Bool(true))
    })
}

fn refusal(log: &str, dir: &Path) -> Error {
    let code = log.lines().find_map(|line| line.trim().strip_prefix("npm error code "));
    let code = code.unwrap_or("no code").trim().to_owned();
    if code == "ENOSPC" || log.contains("ENOSPC") {
        return Error::DiskFull(PathBuf::from(dir));
    }
    let log = tail(log);
    match PROJECT_CODES.contains(&code.as_str()) {
        true => Error::NpmRefused { code, log },
        false => Error::NpmFailed { code, log },
    }
}

/// The end of npm's output, without the line that names a log file nobody else can read.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| !line.contains("A complete log of this run") && !line.trim().is_empty())
        .collect();
    let text = lines.join("\n");
    let from = text.len().saturating_sub(LOG_TAIL);
    let from = (from..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    text[from..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use qgjob_core::model::job::Reason;

    #[test]
    fn npms_codes_tell_whose_fault_it_is() {
        let said = |code: &str| {
            refusal(&format!("npm error code {code}\nnpm error text\n"), Path::new("d")).reason()
        };
        for project in ["EUSAGE", "EJSONPARSE", "ETARGET"] {
            assert_eq!(said(project), Reason::ProjectInvalid, "{project}");
        }
        for agent in ["ENOTFOUND", "ECONNRESET", "ETIMEDOUT", "E503", "EACCES", "ENOSPC", "EINTEGRITY"] {
            assert_eq!(said(agent), Reason::AgentFault, "{agent}");
        }
        let full = refusal("npm warn tar TAR_ENTRY_ERROR ENOSPC: no space left on device\n", Path::new("d"));
        assert!(matches!(full, Error::DiskFull(_)));
    }

    #[test]
    fn the_tail_keeps_the_end_and_whole_characters() {
        let log = format!(
            "{}\nnpm error the end\nnpm error A complete log of this run can be found in: x\n",
            "ü".repeat(9000)
        );
        let tail = tail(&log);
        assert!(tail.ends_with("npm error the end") && tail.len() <= LOG_TAIL, "{}", tail.len());
    }

    #[test]
    fn own_packages_are_seen_in_the_lockfile() {
        assert!(has_links(br#"{"packages":{"node_modules/a":{"resolved":"a","link":true}}}"#));
        assert!(has_links(br#"{"packages":{"node_modules/a":{"resolved":"file:a-1.0.0.tgz"}}}"#));
        assert!(!has_links(br#"{"packages":{"node_modules/a":{"version":"1.0.0"}}}"#));
        assert!(!has_links(b"no json"));
    }
}
