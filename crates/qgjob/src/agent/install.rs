//! The right build on the device: proven, installed only when the device has other bytes.

use std::path::Path;
use std::time::Instant;

use qgjob_core::model::attempt::{Install, InstallAction};
use qgjob_core::model::build::Build;
use qgjob_core::model::evidence::Fault;
use qgjob_core::model::job::{Reason, Reset};

use super::adb::{self, Adb, Advice, InstallError, Installed};

/// Makes `build` the installed one and proves it by the device's own hash of the installed bytes.
///
/// # Errors
/// A fault: the device is gone, it refused the app, or it has something else than what was installed.
pub async fn ensure(
    adb: &Adb,
    serial: &str,
    build: &Build,
    apk: &Path,
    reset: Reset,
) -> Result<Install, Fault> {
    let started = Instant::now();
    let before = adb.installed(serial, &build.app_id).await.map_err(device_fault)?;
    let had_it = before.as_ref().is_some_and(|installed| is_the_build(installed, build));
    let action = match (&before, reset) {
        (None, _) => InstallAction::Cold,
        (Some(_), Reset::Reinstall) => InstallAction::Reset,
        (Some(_), _) if had_it => InstallAction::Avoided,
        (Some(_), _) => InstallAction::VersionChange,
    };
    if action == InstallAction::Reset {
        adb.uninstall(serial, &build.app_id).await.map_err(device_fault)?;
    }
    if action != InstallAction::Avoided {
        install(adb, serial, build, apk).await?;
        let after = adb.installed(serial, &build.app_id).await.map_err(device_fault)?;
        prove(after, build)?;
    }
    Ok(Install { action, duration_ms: started.elapsed().as_millis() as u64 })
}

fn is_the_build(installed: &Installed, build: &Build) -> bool {
    installed.sha256 == build.sha256.to_string() && installed.version_code.to_string() == build.version_code
}

fn prove(installed: Option<Installed>, build: &Build) -> Result<(), Fault> {
    let mismatch = |detail| Err(Fault { reason: Reason::BuildMismatch, detail });
    match installed {
        Some(installed) if is_the_build(&installed, build) => Ok(()),
        Some(installed) => mismatch(format!(
            "after the installation the device has {} version {} ({}), not version {} ({})",
            build.app_id,
            installed.version_code,
            &installed.sha256[..12],
            build.version_code,
            build.sha256.short(),
        )),
        None => mismatch(format!("after the installation the device does not have {}", build.app_id)),
    }
}

async fn install(adb: &Adb, serial: &str, build: &Build, apk: &Path) -> Result<(), Fault> {
    match adb.install(serial, apk).await {
        Err(InstallError::Refused(refused)) if refused.advice() == Advice::UninstallFirst => {
            tracing::info!(serial, %refused, "uninstalling what stands in the way");
            adb.uninstall(serial, &build.app_id).await.map_err(device_fault)?;
            adb.install(serial, apk).await.map_err(install_fault)
        }
        other => other.map_err(install_fault),
    }
}

fn install_fault(error: InstallError) -> Fault {
    match error {
        InstallError::Adb(error) => device_fault(error),
        InstallError::File(_) => Fault { reason: Reason::AgentFault, detail: error.to_string() },
        InstallError::Refused(_) => Fault { reason: Reason::InstallFault, detail: error.to_string() },
    }
}

/// What an adb error means for the attempt: the device did not do its part.
pub fn device_fault(error: adb::Error) -> Fault {
    Fault { reason: Reason::DeviceFault, detail: error.to_string() }
}
