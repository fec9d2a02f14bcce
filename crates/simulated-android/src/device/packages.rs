//! Installed packages.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::State;
use crate::apk::{self, Apk, Manifest};
use crate::app::{Screens, Variables};
use crate::blob::{self, Blob};
use crate::truth::{Clear, Install, Installed, RefusedInstall, Uninstall, is_helper};

#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) manifest: Manifest,
    pub(crate) screens: Screens,
    pub(crate) apk: Blob,
    pub(crate) splits: Vec<(String, Blob)>,
    pub(crate) variables: Variables,
    /// Permissions granted at run time.
    pub(crate) granted: Vec<String>,
    /// Since 1970.
    pub(crate) installed: Duration,
    /// Since 1970.
    pub(crate) updated: Duration,
}

/// An install in several steps, as `adb install-multiple` makes it.
#[derive(Debug, Default)]
pub(crate) struct InstallSession {
    pub(crate) allow_downgrade: bool,
    pub(crate) allow_test_only: bool,
    pub(crate) apks: Vec<Bytes>,
}

/// Why an install failed, as `pm` prints it between brackets.
type Refusal = String;

/// How an install went.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) result: Result<(), Refusal>,
    /// How long the phone takes over it.
    pub(crate) time: Duration,
}

impl Package {
    /// The APK files of the package with their contents, base first.
    pub(crate) fn paths(&self) -> impl Iterator<Item = (String, &Blob)> {
        let folder = format!("/data/app/{}", self.manifest.package);
        let base = (format!("{folder}/base.apk"), &self.apk);
        let splits = self.splits.iter().map(move |(name, blob)| (format!("{folder}/split_{name}.apk"), blob));
        std::iter::once(base).chain(splits)
    }

    pub(crate) fn as_installed(&self) -> Installed {
        Installed {
            package: self.manifest.package.clone(),
            version_code: self.manifest.version_code,
            version_name: self.manifest.version_name.clone(),
            sha256: self.apk.sha256.clone(),
            helper: is_helper(&self.manifest.package),
        }
    }
}

impl State {
    /// Installs what was sent: one base APK and any splits of it.
    pub(crate) fn install(&mut self, session: InstallSession) -> Attempt {
        let mut base: Option<(Bytes, Apk)> = None;
        let mut splits = Vec::new();
        for bytes in session.apks {
            let apk = match apk::read(&bytes) {
                Ok(apk) => apk,
                Err(error) => {
                    return self
                        .refuse("", format!("INSTALL_PARSE_FAILED_NOT_APK: Failed to parse APK: {error:#}"));
                }
            };
            match apk.manifest.split.clone() {
                Some(name) => splits.push((name, apk.manifest.package, blob::intern(bytes))),
                None if base.is_none() => base = Some((bytes, apk)),
                None => {
                    return self.refuse("", "INSTALL_FAILED_INVALID_APK: more than one base APK".to_owned());
                }
            }
        }
        let Some((bytes, apk)) = base else {
            return self.refuse("", "INSTALL_FAILED_INVALID_APK: no base APK".to_owned());
        };
        let package = apk.manifest.package.clone();
        let allow = (session.allow_downgrade, session.allow_test_only);
        if let Some(reason) = self.objection(&apk, allow) {
            return self.refuse(&package, reason);
        }
        if splits.iter().any(|(_, owner, _)| *owner != package) {
            return self
                .refuse(&package, "INSTALL_FAILED_INVALID_APK: a split of another package".to_owned());
        }
        let splits = splits.into_iter().map(|(name, _, blob)| (name, blob)).collect();
        self.accept(bytes, apk, splits);
        Attempt { result: Ok(()), time: self.install_time(&package) }
    }

    fn install_time(&self, package: &str) -> Duration {
        if is_helper(package) {
            return Duration::ZERO;
        }
        self.standing.slow_install.max(Duration::from_millis(self.config.install_ms))
    }

    fn refuse(&mut self, package: &str, message: String) -> Attempt {
        let order = self.truth.next();
        self.truth.refused_installs.push(RefusedInstall {
            order,
            package: package.to_owned(),
            message: message.clone(),
        });
        self.note('W', "PackageManager", &format!("{package} not installed: {message}"));
        Attempt { result: Err(message), time: self.install_time(package) }
    }

    fn objection(&mut self, apk: &Apk, (downgrade, test_only): (bool, bool)) -> Option<Refusal> {
        let Manifest { package, version_code, min_sdk, .. } = &apk.manifest;
        if self.standing.storage_full {
            return Some("INSTALL_FAILED_INSUFFICIENT_STORAGE".to_owned());
        }
        if !is_helper(package)
            && let Some((message, times)) = self.standing.reject.take()
        {
            self.standing.reject = (times > 1).then(|| (message.clone(), times - 1));
            return Some(message);
        }
        if !apk.signed {
            return Some(format!("INSTALL_PARSE_FAILED_NO_CERTIFICATES: no signature in {package}"));
        }
        if *min_sdk > self.config.sdk {
            let sdk = self.config.sdk;
            return Some(format!("INSTALL_FAILED_OLDER_SDK: Requires API {min_sdk}, this phone has {sdk}"));
        }
        if apk.manifest.test_only && !test_only {
            return Some("INSTALL_FAILED_TEST_ONLY: installPackageLI".to_owned());
        }
        let old = self.packages.get(package)?.manifest.version_code;
        (*version_code < old && !downgrade).then(|| {
            format!(
                "INSTALL_FAILED_VERSION_DOWNGRADE: Downgrade detected: {version_code} is older than {old}"
            )
        })
    }

    fn accept(&mut self, bytes: Bytes, apk: Apk, splits: Vec<(String, Blob)>) {
        let Apk { manifest, screens, .. } = apk;
        let package = manifest.package.clone();
        let helper = is_helper(&package);
        let sent = blob::intern(bytes);
        let corrupted = !helper && self.standing.corrupt > 0;
        let kept = if corrupted {
            self.standing.corrupt -= 1;
            corrupt(&sent.bytes)
        } else {
            sent.clone()
        };
        // An update ends what runs, but keeps the app's data.
        self.stop(&package);
        let order = self.truth.next();
        let took_ms = u64::try_from(self.install_time(&package).as_millis()).unwrap_or(u64::MAX);
        self.truth.installs.push(Install {
            order,
            package: package.clone(),
            version_code: manifest.version_code,
            version_name: manifest.version_name.clone(),
            sha256: sent.sha256.clone(),
            bytes: sent.bytes.len() as u64,
            helper,
            corrupted,
            took_ms,
        });
        self.note('I', "PackageManager", &format!("installed {package} {}", manifest.version_name));
        let updated = self.now();
        let old = self.packages.remove(&package);
        let kept_data = self.kept_data.remove(&package).unwrap_or_default();
        let (installed, variables, granted) =
            old.map_or((updated, kept_data, Vec::new()), |old| (old.installed, old.variables, old.granted));
        let screens = screens.unwrap_or_else(|| Screens::bare(&package));
        let new = Package { manifest, screens, apk: kept, splits, variables, granted, installed, updated };
        self.packages.insert(package, new);
    }

    /// False when the package is not installed.
    pub(crate) fn uninstall(&mut self, package: &str, keep_data: bool) -> bool {
        self.stop(package);
        let Some(gone) = self.packages.remove(package) else { return false };
        if keep_data {
            self.kept_data.insert(package.to_owned(), gone.variables);
        }
        let order = self.truth.next();
        self.truth.uninstalls.push(Uninstall {
            order,
            package: package.to_owned(),
            helper: is_helper(package),
        });
        self.note('I', "PackageManager", &format!("uninstalled {package}"));
        true
    }

    /// Forgets the data of an app. False when it is not installed.
    pub(crate) fn clear(&mut self, package: &str) -> bool {
        self.stop(package);
        let Some(known) = self.packages.get_mut(package) else { return false };
        known.variables.clear();
        known.granted.clear();
        let order = self.truth.next();
        self.truth.clears.push(Clear { order, package: package.to_owned() });
        self.note('I', "ActivityManager", &format!("cleared {package}"));
        true
    }

    /// The version code that the phone admits to.
    pub(crate) fn told_version(&self, package: &Package) -> u64 {
        let name = &package.manifest.package;
        self.standing.lies.get(name).copied().unwrap_or(package.manifest.version_code)
    }
}

fn corrupt(bytes: &Bytes) -> Blob {
    let mut broken = BytesMut::from(&bytes[..]);
    let middle = broken.len() / 2;
    broken[middle] ^= 0xff;
    blob::intern(broken.freeze())
}
