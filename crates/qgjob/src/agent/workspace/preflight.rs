//! What is known not to work is told before a device is kept busy with it.

use std::fs;
use std::path::Path;

use super::Error;
use crate::bundle::is_test_file;

/// The first Playwright whose settings collide with AppWright's `device` fixture.
const FIRST_BAD: (u32, u32) = (1, 60);

/// Checks the packages that a project has in `modules`.
pub(super) fn check(modules: &Path) -> Result<(), Error> {
    let Some(playwright) = version(&modules.join("@playwright/test")) else {
        return Err(Error::NoPackage { package: "@playwright/test@1.59.1" });
    };
    if version(&modules.join("appwright")).is_none() {
        return Err(Error::NoPackage { package: "appwright" });
    }
    if numbers(&playwright).is_none_or(|found| found >= FIRST_BAD) {
        return Err(Error::PlaywrightTooNew { found: playwright });
    }
    // npm does this when the project's own version does not satisfy AppWright.
    match version(&modules.join("appwright/node_modules/@playwright/test")) {
        Some(second) => Err(Error::PlaywrightTwice { first: playwright, second }),
        None => Ok(()),
    }
}

fn version(package: &Path) -> Option<String> {
    let text = fs::read(package.join("package.json")).ok()?;
    let json: serde_json::Value = serde_json::from_slice(&text).ok()?;
    Some(json.get("version")?.as_str()?.to_owned())
}

fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Up to three test files below `root` whose names are most like `wanted`.
pub(super) fn nearest(root: &Path, wanted: &str) -> Vec<String> {
    let mut tests = Vec::new();
    gather(root, root, &mut tests);
    let mut tests: Vec<(f64, String)> =
        tests.into_iter().map(|test| (strsim::normalized_damerau_levenshtein(wanted, &test), test)).collect();
    tests.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    tests.into_iter().take(3).map(|(_, test)| test).collect()
}

fn gather(root: &Path, dir: &Path, tests: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.is_dir() {
            gather(root, &path, tests);
        } else if let Some(name) = path.strip_prefix(root).ok().and_then(Path::to_str)
            && is_test_file(name)
        {
            tests.push(name.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(modules: &Path, name: &str, version: &str) {
        let dir = modules.join(name);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("package.json"), format!(r#"{{"version":"{version}"}}"#)).unwrap();
    }

    #[test]
    fn trap_1_playwright_1_60_and_later_is_refused_with_the_remedy() {
        for (found, good) in [
            ("1.59.1", true),
            ("1.46.1", true),
            ("1.60.0", false),
            ("1.65.1", false),
            ("2.0.0", false),
            ("next", false),
        ] {
            let dir = tempfile::tempdir().unwrap();
            package(dir.path(), "appwright", "0.1.1");
            package(dir.path(), "@playwright/test", found);
            match check(dir.path()) {
                Ok(()) => assert!(good, "{found}"),
                Err(error) => {
                    assert!(!good && matches!(error, Error::PlaywrightTooNew { .. }), "{found}: {error}");
                    assert!(error.to_string().contains(r#""@playwright/test": "1.59.1""#), "{error}");
                }
            }
        }
    }

    #[test]
    fn two_playwrights_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        package(dir.path(), "appwright", "0.1.1");
        package(dir.path(), "@playwright/test", "1.40.0");
        package(dir.path(), "appwright/node_modules/@playwright/test", "1.65.1");
        assert!(matches!(check(dir.path()), Err(Error::PlaywrightTwice { .. })));
    }

    #[test]
    fn missing_packages_are_named() {
        let dir = tempfile::tempdir().unwrap();
        assert!(check(dir.path()).unwrap_err().to_string().contains("@playwright/test"));
        package(dir.path(), "@playwright/test", "1.59.1");
        assert!(check(dir.path()).unwrap_err().to_string().contains("appwright"));
    }
}
