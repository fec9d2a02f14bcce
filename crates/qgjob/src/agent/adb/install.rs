//! Installing an APK by streaming it into the device's package service, and what its refusals mean.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Adb, Error, within};

/// Base time for an installation, plus a second per [`SLOWEST_RATE`] bytes: a bad cable still moves that much.
const BASE: Duration = Duration::from_secs(120);
const SLOWEST_RATE: u64 = 1 << 20;

/// What to do about a refused installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// The build cannot be installed on this kind of device, now or later: a problem of the app.
    RefuseBuild,
    /// What is installed stands in the way (newer version, other signature): uninstall it and try again.
    UninstallFirst,
    /// The device is full, busy or locked down: a problem of the device, other devices may do better.
    AvoidDevice,
}

/// A refusal by the device's package service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct InstallFailure {
    /// `INSTALL_FAILED_…` or `INSTALL_PARSE_FAILED_…`, or `UNKNOWN`.
    pub code: String,
    /// Everything the device said.
    pub message: String,
}

impl InstallFailure {
    fn parse(answer: &str) -> InstallFailure {
        let start = answer.find("INSTALL_");
        let code = start.map_or("UNKNOWN", |at| {
            let rest = &answer[at..];
            &rest[..rest
                .find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))
                .unwrap_or(rest.len())]
        });
        InstallFailure { code: code.to_owned(), message: answer.trim().to_owned() }
    }

    pub fn advice(&self) -> Advice {
        match self.code.as_str() {
            "INSTALL_FAILED_VERSION_DOWNGRADE"
            | "INSTALL_FAILED_UPDATE_INCOMPATIBLE"
            | "INSTALL_FAILED_ALREADY_EXISTS"
            | "INSTALL_FAILED_SHARED_USER_INCOMPATIBLE"
            | "INSTALL_FAILED_PERMISSION_MODEL_DOWNGRADE"
            | "INSTALL_FAILED_UID_CHANGED"
            | "INSTALL_FAILED_CONFLICTING_PROVIDER" => Advice::UninstallFirst,
            "INSTALL_FAILED_INVALID_APK"
            | "INSTALL_FAILED_OLDER_SDK"
            | "INSTALL_FAILED_NEWER_SDK"
            | "INSTALL_FAILED_DEPRECATED_SDK_VERSION"
            | "INSTALL_FAILED_NO_MATCHING_ABIS"
            | "INSTALL_FAILED_CPU_ABI_INCOMPATIBLE"
            | "INSTALL_FAILED_MISSING_SHARED_LIBRARY"
            | "INSTALL_FAILED_MISSING_FEATURE"
            | "INSTALL_FAILED_MISSING_SPLIT"
            | "INSTALL_FAILED_DEXOPT"
            | "INSTALL_FAILED_BAD_SIGNATURE"
            | "INSTALL_FAILED_TEST_ONLY"
            | "INSTALL_FAILED_DUPLICATE_PERMISSION" => Advice::RefuseBuild,
            code if code.starts_with("INSTALL_PARSE_FAILED_") => Advice::RefuseBuild,
            _ => Advice::AvoidDevice,
        }
    }
}

/// Why an app is not on the device now.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The device looked at the app and said no.
    #[error("the device refused the app: {0}")]
    Refused(#[from] InstallFailure),
    /// The device was not reached, or was lost on the way.
    #[error(transparent)]
    Adb(#[from] Error),
    #[error("cannot read the app: {0}")]
    File(std::io::Error),
}

impl Adb {
    /// Installs an APK, replacing what is there and granting all permissions it asks for. Test-only builds
    /// are accepted. Does not downgrade: see [`Advice::UninstallFirst`].
    pub async fn install(&self, serial: &str, apk: &Path) -> Result<(), InstallError> {
        let mut file = tokio::fs::File::open(apk).await.map_err(InstallError::File)?;
        let size = file.metadata().await.map_err(InstallError::File)?.len();
        let limit = BASE + Duration::from_secs(size / SLOWEST_RATE);
        let answer = within("package install", limit, async {
            let stream = self.exec(serial, &format!("cmd package install -S {size} -r -t -g")).await?;
            let (mut reader, mut writer) = stream.into_split();
            let send = async {
                // A device that refuses early closes its side; its answer says why, so the failed write does not count.
                let _ = tokio::io::copy(&mut file, &mut writer).await;
                let _ = writer.flush().await;
            };
            let mut answer = Vec::new();
            let receive = async {
                let _ = reader.read_to_end(&mut answer).await;
            };
            tokio::join!(send, receive);
            Ok(String::from_utf8_lossy(&answer).into_owned())
        })
        .await?;
        if answer.contains("Success") {
            return Ok(());
        }
        if answer.trim().is_empty() {
            let reason = "it said nothing at the end of the installation".to_owned();
            return Err(Error::DeviceGone { serial: serial.to_owned(), reason }.into());
        }
        Err(InstallFailure::parse(&answer).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_its_advice() {
        for (answer, code, advice) in [
            (
                "Failure [INSTALL_FAILED_VERSION_DOWNGRADE: Downgrade detected: Update version code 6 is older than current 7]\n",
                "INSTALL_FAILED_VERSION_DOWNGRADE",
                Advice::UninstallFirst,
            ),
            (
                "Failure [INSTALL_PARSE_FAILED_NO_CERTIFICATES]",
                "INSTALL_PARSE_FAILED_NO_CERTIFICATES",
                Advice::RefuseBuild,
            ),
            (
                "Failure [INSTALL_FAILED_INSUFFICIENT_STORAGE]",
                "INSTALL_FAILED_INSUFFICIENT_STORAGE",
                Advice::AvoidDevice,
            ),
            ("Exception occurred while executing 'install':", "UNKNOWN", Advice::AvoidDevice),
        ] {
            let failure = InstallFailure::parse(answer);
            assert_eq!((failure.code.as_str(), failure.advice()), (code, advice));
        }
    }
}
