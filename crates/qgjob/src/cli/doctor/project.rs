//! Whether the folder holds a project that an agent can run.

use std::path::Path;

use serde_json::Value;

use super::Check;
use crate::bundle::{self, find_project};
use crate::cli::failure::Failure;

/// The first version of Playwright whose own `device` option takes the name that AppWright uses.
const FIRST_BAD_PLAYWRIGHT: (u32, u32) = (1, 60);

pub fn checks(here: &Path) -> Vec<Check> {
    let Some(dir) = find_project(here) else {
        let detail = "no package.json here or above: not in a test project";
        return vec![Check::warn("project", detail, "run this in the project that holds your tests")];
    };
    let mut checks = vec![match bundle::collect(&dir) {
        Ok(bundle) => {
            Check::ok("project", format!("{} ({} test files)", dir.display(), bundle.tests().count()))
        }
        Err(error) => Check::fail("project", &Failure::usage(error.to_string())),
    }];
    checks.extend(versions(&dir));
    checks
}

fn versions(dir: &Path) -> Option<Check> {
    let read = |name: &str| serde_json::from_slice::<Value>(&std::fs::read(dir.join(name)).ok()?).ok();
    let lock = bundle::LOCKFILES.iter().find_map(|name| read(name))?;
    let locked = |package: &str| lock["packages"][format!("node_modules/{package}")]["version"].as_str();
    let Some(appwright) = locked("appwright") else {
        return Some(Check::warn(
            "runner",
            "the lockfile holds no appwright",
            "npm install --save-dev appwright",
        ));
    };
    let playwright = locked("@playwright/test").or(locked("playwright"))?;
    Some(if is_too_new(playwright) {
        let what = format!(
            "appwright {appwright} cannot run with Playwright {playwright}: 1.60 and later refuse it"
        );
        Check::fail(
            "runner",
            &Failure::usage(what).hint("npm install --save-dev --save-exact @playwright/test@1.59.1"),
        )
    } else {
        Check::ok("runner", format!("appwright {appwright}, Playwright {playwright}"))
    })
}

fn is_too_new(version: &str) -> bool {
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= FIRST_BAD_PLAYWRIGHT
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    fn project(playwright: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("package.json"), "{}").unwrap();
        let lock = format!(
            r#"{{"packages":{{"node_modules/appwright":{{"version":"0.1.46"}},"node_modules/@playwright/test":{{"version":"{playwright}"}}}}}}"#
        );
        std::fs::write(dir.path().join("package-lock.json"), lock).unwrap();
        dir
    }

    #[test]
    fn playwright_1_60_is_told_with_the_way_out() {
        let dir = project("1.60.0");
        let check = versions(dir.path()).unwrap();
        assert_eq!(check.state, State::Fail);
        assert!(check.hint.unwrap().contains("@playwright/test@1.59.1"));
    }

    #[test]
    fn playwright_1_59_is_good() {
        assert_eq!(versions(project("1.59.1").path()).unwrap().state, State::Ok);
        assert!(is_too_new("2.0.0") && !is_too_new("1.9.9"));
    }
}
