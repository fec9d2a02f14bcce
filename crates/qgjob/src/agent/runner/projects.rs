//! Which project of a Playwright configuration an attempt runs.

use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use qgjob_core::model::selector::{Platform, Target};
use qgjob_core::model::sha256::Sha256;
use serde::{Deserialize, Serialize};
use sha2::Digest;

use super::{AttemptDir, Error, Setting, ansi, command};

const REPORTER: &str = include_str!("projects.cjs");
const LOAD_TIMEOUT: Duration = Duration::from_secs(120);
/// How much of what Playwright said about a bad configuration is told.
const MOST_OUTPUT: usize = 4 * 1024;

/// A project in a Playwright configuration, as far as AppWright is concerned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaywrightProject {
    pub name: String,
    /// `android` or `ios`.
    pub platform: Option<String>,
    /// `emulator`, `local-device`, `browserstack` or `lambdatest`.
    pub provider: Option<String>,
    pub device_name: Option<String>,
    /// Playwright's root folder, from which it names test files, as seen from the working copy.
    pub root: String,
    /// Playwright's version.
    pub playwright: Option<String>,
    /// For each test; 0 means none.
    pub timeout_ms: u64,
}

impl fmt::Display for PlaywrightProject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
        write!(
            f,
            "{:?} (platform {}, provider {})",
            self.name,
            or_none(&self.platform),
            or_none(&self.provider)
        )
    }
}

/// The device that a project is wanted for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    pub platform: Platform,
    pub kind: Target,
    pub model: String,
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "platform \"{}\" and provider \"{}\"", self.platform, self.provider().unwrap_or("any"))
    }
}

impl Wish {
    /// AppWright's word for the kind of device.
    fn provider(&self) -> Option<&'static str> {
        match self.kind {
            Target::Emulator | Target::Simulator => Some("emulator"),
            Target::Device => Some("local-device"),
            Target::Browserstack => Some("browserstack"),
            Target::Any => None,
        }
    }

    fn is_local(&self) -> bool {
        self.kind != Target::Browserstack
    }
}

/// The project that fits best; none if there is none that fits.
///
/// The gateway decides which device is used, so any local provider of the right platform can run on any local
/// device: an exact provider is preferred, then the right device's name, then the first in the file.
pub(super) fn choose<'a>(projects: &'a [PlaywrightProject], wish: &Wish) -> Option<&'a PlaywrightProject> {
    let platform = wish.platform.to_string();
    let fits = |project: &&PlaywrightProject| {
        let provider = project.provider.as_deref();
        let local = matches!(provider, None | Some("emulator" | "local-device"));
        project.platform.as_deref() == Some(&platform) && local == wish.is_local()
    };
    let score = |project: &PlaywrightProject| {
        let provider = wish.provider().is_some_and(|wanted| project.provider.as_deref() == Some(wanted));
        let model = project.device_name.as_deref() == Some(&wish.model);
        (provider, model)
    };
    // `max_by_key` takes the last of equals, and the first is wanted.
    let best = projects.iter().rev().filter(fits).max_by_key(|project| score(project));
    best.or(match projects {
        // A project that says nothing of platforms is taken at its word.
        [only] if only.platform.is_none() => Some(only),
        _ => None,
    })
}

/// All projects of the configuration.
pub(super) async fn list(
    setting: &Setting,
    notes: &Path,
    dir: &AttemptDir,
) -> Result<Vec<PlaywrightProject>, Error> {
    let note = notes.join(format!("projects-{}.json", fingerprint(setting)));
    if let Some(known) = fs::read(&note).ok().and_then(|text| serde_json::from_slice(&text).ok()) {
        return Ok(known);
    }
    let (reporter, out) = (dir.temporary().join("projects.cjs"), dir.temporary().join("projects.json"));
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| Error::Io { path, source }
    };
    fs::write(&reporter, REPORTER).map_err(failed(&reporter))?;
    let done = command::playwright(setting)
        // A pattern that no path matches, so that no test file is loaded.
        .args(["--list", "--pass-with-no-tests", "--reporter=null", "/^$/"])
        .env("PW_TEST_REPORTER", reporter.display().to_string())
        .env("QGJOB_PROJECTS", out.display().to_string())
        .env("TMPDIR", dir.temporary().display().to_string())
        .finish(LOAD_TIMEOUT)
        .await?;
    let found: Vec<PlaywrightProject> =
        match fs::read(&out).ok().and_then(|text| serde_json::from_slice(&text).ok()) {
            Some(found) => found,
            None => {
                let said = [done.stdout, done.stderr].concat();
                return Err(Error::Configuration {
                    output: ansi::plain(&String::from_utf8_lossy(&said), MOST_OUTPUT),
                });
            }
        };
    // Under another name first: attempts of one bundle may do this at once.
    let half = tempfile::NamedTempFile::new_in(notes).map_err(failed(notes))?;
    serde_json::to_writer(&half, &found).map_err(|e| failed(&note)(e.into()))?;
    half.persist(&note).map_err(|e| failed(&note)(e.error))?;
    Ok(found)
}

/// What a configuration may look at besides its own bundle.
fn fingerprint(setting: &Setting) -> String {
    let mut hash = sha2::Sha256::new();
    for (name, value) in &setting.env {
        hash.update(format!("{}={}:{value}\n", name.as_str(), value.len()));
    }
    Sha256(hash.finalize().into()).short()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(name: &str, platform: &str, provider: &str, device: &str) -> PlaywrightProject {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let (platform, provider, device_name) = (some(platform), some(provider), some(device));
        PlaywrightProject {
            name: name.to_owned(),
            platform,
            provider,
            device_name,
            ..PlaywrightProject::default()
        }
    }

    fn chosen(projects: &[PlaywrightProject], platform: Platform, kind: Target) -> Option<&str> {
        let wish = Wish { platform, kind, model: "Pixel 7".to_owned() };
        choose(projects, &wish).map(|project| project.name.as_str())
    }

    #[test]
    fn platform_and_provider_decide() {
        let all = [
            project("setup", "", "", ""),
            project("emu", "android", "emulator", ""),
            project("phone", "android", "local-device", ""),
            project("sim", "ios", "emulator", ""),
            project("cloud", "android", "browserstack", ""),
        ];
        for (platform, kind, name) in [
            (Platform::Android, Target::Emulator, Some("emu")),
            (Platform::Android, Target::Device, Some("phone")),
            (Platform::Ios, Target::Simulator, Some("sim")),
            (Platform::Ios, Target::Device, Some("sim")),
            (Platform::Android, Target::Browserstack, Some("cloud")),
            (Platform::Ios, Target::Browserstack, None),
        ] {
            assert_eq!(chosen(&all, platform, kind), name, "{platform} {kind}");
        }
    }

    #[test]
    fn among_equals_the_devices_name_decides_and_then_the_order() {
        let named =
            [project("a", "android", "emulator", "Pixel 6"), project("b", "android", "emulator", "Pixel 7")];
        assert_eq!(chosen(&named, Platform::Android, Target::Emulator), Some("b"));
        let alike = [project("a", "android", "emulator", ""), project("b", "android", "emulator", "")];
        assert_eq!(chosen(&alike, Platform::Android, Target::Emulator), Some("a"));
    }

    #[test]
    fn the_only_project_runs_unless_it_is_for_something_else() {
        assert_eq!(chosen(&[project("x", "", "", "")], Platform::Android, Target::Device), Some("x"));
        assert_eq!(chosen(&[project("x", "ios", "emulator", "")], Platform::Android, Target::Device), None);
        assert_eq!(chosen(&[], Platform::Android, Target::Device), None);
    }

    #[test]
    fn a_refusal_names_what_is_there_and_what_is_wanted() {
        let wish = Wish { platform: Platform::Android, kind: Target::Device, model: String::new() };
        let error = Error::NoProject { wish, found: vec![project("iphone", "ios", "local-device", "")] };
        let text = error.to_string();
        assert!(
            text.contains("\"iphone\" (platform ios") && text.contains("provider \"local-device\""),
            "{text}"
        );
    }
}
