//! The tools of the host that a job or the agent needs, and how to get those that are missing.
//!
//! AppWright wants an `ANDROID_HOME` with certain files in it. Where the host has a complete SDK, that is
//! used. Elsewhere (Debian's `adb` and `aapt` packages make no SDK) one is laid out of links.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Where Debian's Android packages put their files.
const DEBIAN_TOOLS: &str = "/usr/lib/android-sdk/build-tools/debian";
const DEBIAN_ADB: &str = "/usr/lib/android-sdk/platform-tools";
const DEBIAN_APKSIGNER_JAR: &str = "/usr/share/java/apksigner.jar";

/// The version folder of the laid-out build tools. Any will do that looks like a version.
const BUILD_TOOLS_VERSION: &str = "29.0.3";

/// A tool that the host lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    pub tool: &'static str,
    /// What does not work without it.
    pub purpose: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is missing ({}): {}", self.tool, self.purpose, self.remedy)
    }
}

/// Why there is no SDK to work with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}", .0.iter().map(Missing::to_string).collect::<Vec<_>>().join("\n"))]
    Missing(Vec<Missing>),
    #[error("cannot lay out an Android SDK in {dir}: {source}")]
    Layout { dir: PathBuf, source: io::Error },
}

/// Where the host keeps its tools, as its environment says.
#[derive(Debug, Clone, Default)]
pub struct Host {
    pub path: OsString,
    pub android_home: Option<PathBuf>,
    pub java_home: Option<PathBuf>,
}

impl Host {
    pub fn from_env() -> Host {
        let dir = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        Host {
            path: std::env::var_os("PATH").unwrap_or_default(),
            android_home: dir("ANDROID_HOME").or_else(|| dir("ANDROID_SDK_ROOT")),
            java_home: dir("JAVA_HOME"),
        }
    }

    /// Everything an agent for Android needs and this host lacks, node and npm included.
    pub fn missing(&self) -> Vec<Missing> {
        let node = self.on_path("node").is_none().then_some(Missing {
            tool: "node",
            purpose: "Appium and AppWright run on it",
            remedy: "install Node.js 20 or later (apt-get install nodejs)",
        });
        let npm = self.on_path("npm").is_none().then_some(Missing {
            tool: "npm",
            purpose: "it installs Appium and the packages of a test project",
            remedy: "apt-get install npm",
        });
        node.into_iter().chain(npm).chain(self.tools().err().into_iter().flatten()).collect()
    }

    fn on_path(&self, program: &str) -> Option<PathBuf> {
        std::env::split_paths(&self.path).map(|dir| dir.join(program)).find(|p| is_program(p))
    }

    /// The first of: the host's own SDK, Debian's folder, the `PATH`.
    fn tool(&self, program: &str, sdk_dir: Option<PathBuf>, debian_dir: &str) -> Option<PathBuf> {
        [sdk_dir, Some(PathBuf::from(debian_dir))]
            .into_iter()
            .flatten()
            .map(|dir| dir.join(program))
            .find(|p| is_program(p))
            .or_else(|| self.on_path(program))
    }

    fn tools(&self) -> Result<Tools, Vec<Missing>> {
        let sdk = self.android_home.as_deref();
        let build_tools = sdk.and_then(newest_build_tools);
        let build_tool = |program| self.tool(program, build_tools.clone(), DEBIAN_TOOLS);
        let mut missing = Vec::new();
        let mut need = |found: Option<PathBuf>, tool, purpose, remedy| {
            if found.is_none() {
                missing.push(Missing { tool, purpose, remedy });
            }
            found.unwrap_or_default()
        };
        let tools = Tools {
            adb: need(
                self.tool("adb", sdk.map(|d| d.join("platform-tools")), DEBIAN_ADB),
                "adb",
                "the way to every Android device",
                "apt-get install adb",
            ),
            aapt: need(build_tool("aapt"), "aapt", "AppWright reads the APK with it", "apt-get install aapt"),
            zipalign: need(
                build_tool("zipalign"),
                "zipalign",
                "the UiAutomator2 driver asks for it",
                "apt-get install zipalign",
            ),
            apksigner: need(
                build_tool("apksigner"),
                "apksigner",
                "the UiAutomator2 driver checks signatures with it",
                "apt-get install apksigner",
            ),
            java_home: need(
                self.java(),
                "java",
                "apksigner runs on it, and AppWright insists on JAVA_HOME",
                "apt-get install default-jre-headless",
            ),
            aapt2: build_tool("aapt2"),
            apksigner_jar: build_tools
                .map(|d| d.join("lib/apksigner.jar"))
                .into_iter()
                .chain([PathBuf::from(DEBIAN_APKSIGNER_JAR)])
                .find(|p| p.is_file()),
        };
        if missing.is_empty() { Ok(tools) } else { Err(missing) }
    }

    fn java(&self) -> Option<PathBuf> {
        let given = self.java_home.clone().filter(|home| is_program(&home.join("bin/java")));
        // /usr/bin/java is a link to a link to <home>/bin/java.
        given.or_else(|| {
            let java = fs::canonicalize(self.on_path("java")?).ok()?;
            Some(java.parent()?.parent()?.to_path_buf())
        })
    }
}

#[derive(Debug)]
struct Tools {
    adb: PathBuf,
    aapt: PathBuf,
    aapt2: Option<PathBuf>,
    zipalign: PathBuf,
    apksigner: PathBuf,
    apksigner_jar: Option<PathBuf>,
    java_home: PathBuf,
}

/// An SDK that AppWright, Appium and its driver accept.
#[derive(Debug, Clone)]
pub struct Sdk {
    pub android_home: PathBuf,
    pub java_home: PathBuf,
    pub adb: PathBuf,
    /// Laid out by us, so that the list of virtual devices is ours to write.
    laid_out: bool,
}

impl Sdk {
    /// The host's SDK if it is complete, otherwise one made of links in `dir`, which is created or renewed.
    ///
    /// # Errors
    /// [`Error::Missing`] names every tool that is nowhere to be found, and the package that has it.
    pub fn find(host: &Host, dir: &Path) -> Result<Sdk, Error> {
        let tools = host.tools().map_err(Error::Missing)?;
        if let Some(home) = host.android_home.as_deref().filter(|home| is_complete(home)) {
            let adb = home.join("platform-tools/adb");
            return Ok(Sdk {
                android_home: home.to_path_buf(),
                java_home: tools.java_home,
                adb,
                laid_out: false,
            });
        }
        let failed = |source| Error::Layout { dir: dir.to_path_buf(), source };
        lay_out(dir, &tools).map_err(failed)?;
        let sdk = Sdk {
            android_home: dir.to_path_buf(),
            java_home: tools.java_home,
            adb: tools.adb,
            laid_out: true,
        };
        sdk.list_avds(&[]).map_err(failed)?;
        Ok(sdk)
    }

    /// Makes `emulator -list-avds` answer with these names. AppWright's emulator provider refuses to run
    /// if there are none, although the emulator to be used is running already. Without effect on an SDK of
    /// the host.
    pub fn list_avds(&self, names: &[String]) -> io::Result<()> {
        if !self.laid_out {
            return Ok(());
        }
        let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
        let lines: String = names
            .iter()
            .map(|n| format!("    echo {}\n", n.chars().map(plain).collect::<String>()))
            .collect();
        let script = format!(
            "#!/bin/sh\n# Stands in for the emulator: the agent does not start any, it lists those that run.\ncase \"$1\" in\n  -list-avds|--list-avds)\n{lines}    ;;\n  *) echo 'qgjob: the agent starts no emulators' >&2; exit 1 ;;\nesac\n"
        );
        let path = self.android_home.join("emulator/emulator");
        let half = path.with_extension("half");
        fs::write(&half, script)?;
        fs::set_permissions(&half, fs::Permissions::from_mode(0o755))?;
        fs::rename(half, path)
    }

    /// The variables that lead a job, or Appium, to this SDK.
    pub fn env(&self) -> [(String, String); 2] {
        [
            ("ANDROID_HOME".to_owned(), self.android_home.display().to_string()),
            ("JAVA_HOME".to_owned(), self.java_home.display().to_string()),
        ]
    }

    /// `path` with this SDK's `adb` first.
    pub fn path(&self, path: &str) -> String {
        format!("{}:{path}", self.android_home.join("platform-tools").display())
    }
}

fn lay_out(dir: &Path, tools: &Tools) -> io::Result<()> {
    let build_tools = dir.join("build-tools").join(BUILD_TOOLS_VERSION);
    for sub in ["platform-tools", "emulator"] {
        fs::create_dir_all(dir.join(sub))?;
    }
    fs::create_dir_all(build_tools.join("lib"))?;
    let mut links = vec![
        (&tools.adb, dir.join("platform-tools/adb")),
        (&tools.aapt, build_tools.join("aapt")),
        (&tools.zipalign, build_tools.join("zipalign")),
        (&tools.apksigner, build_tools.join("apksigner")),
    ];
    links.extend(tools.aapt2.as_ref().map(|t| (t, build_tools.join("aapt2"))));
    links.extend(tools.apksigner_jar.as_ref().map(|t| (t, build_tools.join("lib/apksigner.jar"))));
    for (target, link) in links {
        match fs::remove_file(&link) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => symlink(target, link)?,
        }
    }
    Ok(())
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

fn is_complete(home: &Path) -> bool {
    is_program(&home.join("platform-tools/adb"))
        && is_program(&home.join("emulator/emulator"))
        && newest_build_tools(home).is_some_and(|dir| is_program(&dir.join("aapt")))
}

/// The folder of the highest version below `build-tools`.
fn newest_build_tools(home: &Path) -> Option<PathBuf> {
    fs::read_dir(home.join("build-tools"))
        .ok()?
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let version: Vec<u32> =
                path.file_name()?.to_str()?.split('.').map(|n| n.parse().ok()).collect::<Option<_>>()?;
            Some((version, path))
        })
        .max()
        .map(|(_, path)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn a_complete_sdk_of_the_host_is_used_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("sdk");
        for tool in ["platform-tools/adb", "emulator/emulator"] {
            program(&home.join(tool));
        }
        for tool in ["aapt", "zipalign", "apksigner"] {
            program(&home.join("build-tools/34.0.0").join(tool));
            program(&home.join("build-tools/9.0.0").join(tool));
        }
        let java = dir.path().join("java");
        program(&java.join("bin/java"));
        let host =
            Host { path: OsString::new(), android_home: Some(home.clone()), java_home: Some(java.clone()) };
        let sdk = Sdk::find(&host, &dir.path().join("laid")).unwrap();
        assert_eq!((sdk.android_home, sdk.java_home), (home.clone(), java));
        assert!(!dir.path().join("laid").exists());
        assert_eq!(newest_build_tools(&home), Some(home.join("build-tools/34.0.0")));
    }

    #[test]
    fn without_an_sdk_one_is_laid_out_of_links_and_its_emulator_lists_the_given_names() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host { android_home: None, ..Host::from_env() };
        let sdk = Sdk::find(&host, dir.path()).unwrap();
        assert!(is_complete(&sdk.android_home));
        sdk.list_avds(&["Pixel 7 API 34".to_owned(), "a;reboot".to_owned()]).unwrap();
        let list = || {
            let out = std::process::Command::new(sdk.android_home.join("emulator/emulator"))
                .arg("-list-avds")
                .output()
                .unwrap();
            String::from_utf8(out.stdout).unwrap()
        };
        assert_eq!(list(), "Pixel_7_API_34\na_reboot\n");
        // Laying it out again over itself is fine: an agent restarts.
        Sdk::find(&host, dir.path()).unwrap();
        assert_eq!(list(), "");
    }

    #[test]
    fn a_missing_tool_is_named_with_the_package_that_has_it() {
        let empty = Host::default();
        let text: Vec<String> = empty.missing().iter().map(Missing::to_string).collect();
        for (tool, remedy) in
            [("node", "nodejs"), ("npm", "apt-get install npm"), ("java", "default-jre-headless")]
        {
            assert!(text.iter().any(|t| t.starts_with(tool) && t.contains(remedy)), "{text:?}");
        }
    }
}
