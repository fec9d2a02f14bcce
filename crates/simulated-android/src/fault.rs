//! Ways in which a phone can be made to misbehave.

use serde::{Deserialize, Serialize};

/// Something that goes wrong with a phone. In JSON: `{"kind": "reject_install", "message": "…", "times": 2}`.
///
/// Faults about installs concern apps under test only, so that the automation's own helper packages do not use
/// them up; `storage_full` concerns every install.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// Drops all adb connections and refuses new ones until [`Fault::Replug`].
    Unplug,
    /// Ends `unplug`, `offline` and `unauthorized`.
    Replug,
    /// The phone accepts connections but never answers: `adb devices` shows `offline`.
    Offline,
    /// The phone has not been told to trust this computer: `adb devices` shows `unauthorized`.
    Unauthorized,
    /// The next `times` installs of apps fail with `message`, such as `INSTALL_FAILED_VERIFICATION_FAILURE`.
    RejectInstall {
        message: String,
        #[serde(default = "once")]
        times: u32,
    },
    /// Every install of an app answers `ms` milliseconds late; 0 ends it.
    SlowInstall { ms: u64 },
    /// Every UiAutomator2 command takes `ms` milliseconds longer; 0 ends it.
    Slow { ms: u64 },
    /// Connections drop, what ran is gone, what was installed stays. `sys.boot_completed` is empty and the package
    /// service is missing for `ms` milliseconds.
    Reboot { ms: u64 },
    /// `dumpsys package` and `pm list packages` report this version code for a package. `null` ends the lie.
    LieAboutVersion { package: String, version_code: Option<u64> },
    /// The next `times` installs of apps keep other bytes than were sent, so that `sha256sum` differs.
    CorruptInstall {
        #[serde(default = "once")]
        times: u32,
    },
    /// The app under test that is on the screen dies.
    Crash,
    /// Every install fails with `INSTALL_FAILED_INSUFFICIENT_STORAGE` until [`Fault::Heal`].
    StorageFull,
    /// UiAutomator2's server accepts connections but answers nothing until [`Fault::Heal`].
    HangInstrumentation,
    /// UiAutomator2's server dies, as when Android kills it for memory.
    KillInstrumentation,
    /// Ends every standing fault and plugs the phone in. What was corrupted stays corrupted.
    Heal,
}

fn once() -> u32 {
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_written_as_documented() {
        let parse = |json| serde_json::from_str::<Fault>(json);
        assert_eq!(parse(r#"{"kind":"unplug"}"#).unwrap(), Fault::Unplug);
        assert_eq!(
            parse(r#"{"kind":"reject_install","message":"NO"}"#).unwrap(),
            Fault::RejectInstall { message: "NO".into(), times: 1 }
        );
        assert!(parse(r#"{"kind":"explode"}"#).is_err());
        assert!(parse(r#"{"kind":"slow","ms":1,"typo":2}"#).is_err());
    }
}
