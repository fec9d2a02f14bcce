//! What really happened to a phone, for tests to compare with what others believe.

use serde::{Deserialize, Serialize};

/// Everything that happened to one phone since it started or since its truth was last reset.
///
/// `order` numbers rise by one per recorded fact of any kind, so facts of different lists can be put in sequence.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Truth {
    /// Successful installs of any package, helper packages included.
    pub installs: Vec<Install>,
    /// Installs the phone said no to.
    pub refused_installs: Vec<RefusedInstall>,
    pub uninstalls: Vec<Uninstall>,
    /// `pm clear` of installed packages.
    pub clears: Vec<Clear>,
    /// Launches of apps under test. Bringing a running app back to the front is not a launch.
    pub app_starts: Vec<AppStart>,
    /// Apps under test that died without being asked to.
    pub crashes: Vec<Clear>,
    /// `am instrument` runs that came up, which is what Appium does once per session.
    pub instrumentation_sessions: u64,
    /// Sessions created at UiAutomator2's server.
    pub automation_sessions: u64,
    pub taps: Vec<Tap>,
    /// Pictures taken of the screen, by any way.
    pub screenshots: u64,
    pub reboots: u64,
    /// Shell commands and services that are not simulated, as they were asked for. Empty when all went as it should.
    pub unknown: Vec<String>,
    /// What is installed now.
    pub installed: Vec<Installed>,
    /// The `order` of the next fact.
    pub next_order: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Install {
    pub order: u64,
    pub package: String,
    pub version_code: u64,
    pub version_name: String,
    /// Of the bytes that were sent, as lowercase hexadecimal.
    pub sha256: String,
    pub bytes: u64,
    /// Part of the automation itself (`io.appium.*`), not an app under test.
    pub helper: bool,
    /// The phone kept other bytes than were sent, because of a fault.
    pub corrupted: bool,
    /// Milliseconds that the phone was made to take for it: its `install_ms`, or more by a fault.
    pub took_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedInstall {
    pub order: u64,
    /// Empty when the APK could not be read.
    pub package: String,
    /// The failure as `pm install` printed it, without brackets.
    pub message: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uninstall {
    pub order: u64,
    pub package: String,
    pub helper: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clear {
    pub order: u64,
    pub package: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppStart {
    pub order: u64,
    pub package: String,
    pub activity: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tap {
    pub order: u64,
    pub package: String,
    /// The element's id in the app's screens file.
    pub element: String,
    pub text: String,
}

/// A package on the phone now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    pub package: String,
    pub version_code: u64,
    pub version_name: String,
    /// Of the bytes on the phone, as lowercase hexadecimal.
    pub sha256: String,
    pub helper: bool,
}

impl Truth {
    /// Installs of apps under test, in order.
    pub fn app_installs(&self) -> Vec<&Install> {
        self.installs.iter().filter(|install| !install.helper).collect()
    }

    /// Uninstalls of apps under test, in order.
    pub fn app_uninstalls(&self) -> Vec<&Uninstall> {
        self.uninstalls.iter().filter(|uninstall| !uninstall.helper).collect()
    }

    /// The apps under test that are installed now.
    pub fn installed_apps(&self) -> Vec<&Installed> {
        self.installed.iter().filter(|installed| !installed.helper).collect()
    }

    /// The order number for the next fact.
    pub(crate) fn next(&mut self) -> u64 {
        self.next_order += 1;
        self.next_order - 1
    }
}

/// Whether a package belongs to the automation rather than to the team whose app is tested.
pub(crate) fn is_helper(package: &str) -> bool {
    package.starts_with("io.appium.")
}
