//! Packages on a device: what is installed, proven by the bytes that lie there.

use super::{Adb, Error, LONG, SHORT};

/// An installed app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    pub version_code: u64,
    pub version_name: String,
    /// SHA-256 of the installed base APK, as the device computed it: lower-case hex. Android keeps the file
    /// as it was installed, so this equals the hash of the build.
    pub sha256: String,
}

impl Adb {
    /// What is installed under this package name, or `None`.
    pub async fn installed(&self, serial: &str, package: &str) -> Result<Option<Installed>, Error> {
        check_name(package)?;
        let path = self.shell(serial, &format!("pm path {package}")).await?;
        // `pm path` fails for an unknown package, but with the same code as for its own trouble.
        let Some(base) = base_apk(&path.stdout) else {
            if path.stderr.trim().is_empty() && path.stdout.trim().is_empty() {
                return Ok(None);
            }
            return Err(Error::Command {
                serial: serial.to_owned(),
                command: format!("pm path {package}"),
                code: path.code,
                output: path.text(),
            });
        };
        let hash = format!("sha256sum '{base}'");
        let dump = format!("dumpsys package {package}");
        let (hash, dump) = tokio::try_join!(self.must(serial, &hash, LONG), self.must(serial, &dump, SHORT))?;
        let sha256 = hash.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
        if sha256.len() != 64 || !sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Error::Protocol(format!("sha256sum answered {hash:?}")));
        }
        let (version_code, version_name) = versions(&dump)
            .ok_or_else(|| Error::Protocol(format!("no versionCode of {package} in dumpsys")))?;
        Ok(Some(Installed { version_code, version_name, sha256 }))
    }

    /// Removes the app and its data. Returns whether there was one.
    pub async fn uninstall(&self, serial: &str, package: &str) -> Result<bool, Error> {
        check_name(package)?;
        let command = format!("pm uninstall {package}");
        let out = self.shell_within(serial, &command, LONG).await?;
        if out.stdout.contains("Success") {
            return Ok(true);
        }
        if self.installed(serial, package).await?.is_none() {
            return Ok(false);
        }
        Err(Error::Command { serial: serial.to_owned(), command, code: out.code, output: out.text() })
    }

    /// Stops the app, deletes its data and takes its permissions back (`pm clear`).
    ///
    /// # Errors
    /// [`Error::Command`] if the package is not installed or the device refuses.
    pub async fn clear(&self, serial: &str, package: &str) -> Result<(), Error> {
        check_name(package)?;
        let command = format!("pm clear {package}");
        let out = self.shell_within(serial, &command, LONG).await?;
        if out.stdout.contains("Success") {
            return Ok(());
        }
        Err(Error::Command { serial: serial.to_owned(), command, code: out.code, output: out.text() })
    }
}

/// Names reach the device's shell, so nothing but a package name may pass.
fn check_name(package: &str) -> Result<(), Error> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'.';
    if package.contains('.') && package.len() < 256 && package.bytes().all(fine) {
        return Ok(());
    }
    Err(Error::PackageName(package.to_owned()))
}

/// The base APK among the lines of `pm path`; an app bundle has splits beside it.
fn base_apk(text: &str) -> Option<&str> {
    let mut paths = text.lines().filter_map(|l| l.trim().strip_prefix("package:"));
    let first = paths.clone().next()?;
    let base = paths.find(|p| p.ends_with("/base.apk")).unwrap_or(first);
    (!base.contains('\'')).then_some(base)
}

fn versions(dump: &str) -> Option<(u64, String)> {
    // The section of installed packages comes before that of hidden system packages: the first match counts.
    let after = |key: &str| dump.split_once(key).map(|(_, rest)| rest);
    let code = after("versionCode=")?.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
    let name = after("versionName=").and_then(|r| r.lines().next()).unwrap_or_default().trim();
    Some((code, name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_a_package_name_reaches_the_shell() {
        assert!(check_name("dev.qgjob.demo").is_ok());
        for bad in ["", "demo", "a.b; reboot", "a.b$(id)", "a.b\nreboot", "-a.b c"] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_base_of_a_split_app_is_hashed() {
        let text = "package:/data/app/x/split_config.en.apk\npackage:/data/app/x/base.apk\n";
        assert_eq!(base_apk(text), Some("/data/app/x/base.apk"));
        assert_eq!(base_apk("package:/system/app/A.apk\n"), Some("/system/app/A.apk"));
        assert_eq!(base_apk(""), None);
    }

    #[test]
    fn versions_are_those_of_the_first_package_section() {
        let dump =
            "    versionCode=7 minSdk=24 targetSdk=29\n    versionName=1.4.2\nHidden:\n    versionCode=3\n";
        assert_eq!(versions(dump), Some((7, "1.4.2".to_owned())));
    }
}
