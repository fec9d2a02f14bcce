//! The tools that an agent on this machine needs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Check;

/// Name, what makes it tell its version, and where to get it.
const TOOLS: [(&str, &[&str], &str); 4] = [
    ("adb", &["version"], "install the Android platform tools: apt install adb, or set ANDROID_HOME"),
    (
        "java",
        &["-version"],
        "install a Java runtime: apt install default-jre-headless; Appium's driver signs its server with it",
    ),
    ("node", &["--version"], "install Node 20 or later"),
    ("npm", &["--version"], "install npm; it comes with Node"),
];

pub fn checks() -> Vec<Check> {
    let mut checks: Vec<_> = TOOLS.iter().map(|(name, args, hint)| of_tool(name, args, hint)).collect();
    checks.push(match find("aapt2").or_else(|| find("aapt")) {
        Some(path) => Check::ok("aapt", path.display().to_string()),
        None => Check::warn(
            "aapt",
            "not found; only an agent on this machine needs it",
            "apt install aapt, or install the Android build tools and set ANDROID_HOME",
        ),
    });
    checks
}

fn of_tool(name: &'static str, args: &[&str], hint: &str) -> Check {
    let Some(path) = find(name) else {
        return Check::warn(name, "not found; only an agent on this machine needs it", hint);
    };
    let output = Command::new(&path).args(args).stdin(Stdio::null()).output();
    let text = match output {
        Ok(output) if output.status.success() => [output.stdout, output.stderr].concat(),
        _ => return Check::warn(name, format!("{} does not start", path.display()), hint),
    };
    let text = String::from_utf8_lossy(&text);
    let version = text.lines().next().unwrap_or_default().trim().to_owned();
    if name == "node" && major(&version) < 20 {
        return Check::warn(name, format!("{version} is too old"), hint);
    }
    Check::ok(name, format!("{version} ({})", path.display()))
}

fn major(version: &str) -> u32 {
    version.trim_start_matches('v').split('.').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The tool on the path, or in the Android SDK.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    for sdk in ["ANDROID_HOME", "ANDROID_SDK_ROOT"].iter().filter_map(std::env::var_os) {
        let sdk = Path::new(&sdk);
        places.push(sdk.join("platform-tools"));
        let versions = std::fs::read_dir(sdk.join("build-tools")).into_iter().flatten().flatten();
        places.extend(versions.map(|version| version.path()));
    }
    places.into_iter().map(|place| place.join(name)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_node_compare_by_number() {
        assert_eq!((major("v20.11.1"), major("v9.0.0"), major("?")), (20, 9, 0));
    }

    #[test]
    fn what_does_not_exist_is_not_found() {
        assert_eq!(find("qgjob-no-such-tool"), None);
        assert!(find("sh").is_some());
    }
}
