//! What a job and an install will take, from what the latest ones took. What is unknown is judged by what is nearest to it:
//!
//! - a job by its test file with its app, or else with another app of the org; then by the app's jobs, the org's, the prior;
//! - an install by its build on that kind of device; then by the app's installs there, all installs there, the prior.
//!
//! A forecast from the latest 9 of one thing is their **median**: one run that hung or one slow network must not move what
//! placement does, and a mean or an exponential average follows it. What is next nearest has one vote in it, as
//! if it were a run, so that one or two runs alone cannot mislead either. A forecast from many different things, of
//! which the one in question is none, is the value at two thirds of the latest 63: the durations of test files are
//! skewed, and there is their mean, without what a few endless ones add to it.

mod recent;
mod remembered;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use crate::model::build::Build;
use crate::model::name::{OrgId, TestPath};
use crate::model::selector::Target;
use crate::model::sha256::Sha256;

use recent::Recent;
pub use remembered::Remembered;

/// What is expected of a job or an install of which nothing is known, in seconds.
pub const PRIOR_S: f64 = 60.0;
/// Test files, and likewise builds, that are remembered; of those that ran longest ago the oldest quarter goes when there
/// are more. A file takes about 300 bytes.
const FILES: usize = 20_000;
/// Apps, and likewise orgs, that are remembered.
const APPS: usize = 2_000;
/// Apps that a test file is remembered with.
const APPS_OF_FILE: usize = 4;
/// An install is never free.
const LEAST_INSTALL_S: f64 = 1.0;

/// The latest of one thing.
type Same = Recent<9>;
/// The latest of many things.
type Mixed = Recent<63>;

/// See the module. Durations are seconds, finite and not negative.
#[derive(Debug)]
pub struct Forecast {
    /// Per app, that with the latest run last.
    files: Remembered<(OrgId, TestPath), Vec<(String, Same)>>,
    apps: Remembered<(OrgId, String), Mixed>,
    orgs: Remembered<OrgId, Mixed>,
    installs: Remembered<(Sha256, Target), Same>,
    installs_of_app: Remembered<(String, Target), Mixed>,
    installs_on_kind: HashMap<Target, Mixed>,
}

impl Default for Forecast {
    fn default() -> Self {
        Self {
            files: Remembered::new(FILES),
            apps: Remembered::new(APPS),
            orgs: Remembered::new(APPS),
            installs: Remembered::new(FILES),
            installs_of_app: Remembered::new(APPS),
            installs_on_kind: HashMap::new(),
        }
    }
}

impl Forecast {
    /// A job of the test file with the app came to a verdict and held its device for so long, its install not counted.
    pub fn note_job(&mut self, org: &OrgId, app_id: &str, test: &TestPath, seconds: f64) {
        self.orgs.of(org.clone()).add(seconds);
        self.apps.of((org.clone(), app_id.to_owned())).add(seconds);
        let apps = self.files.of((org.clone(), test.clone()));
        let (app, mut runs) = match apps.iter().position(|(app, _)| app == app_id) {
            Some(at) => apps.remove(at),
            None => (app_id.to_owned(), Same::default()),
        };
        runs.add(seconds);
        if apps.len() == APPS_OF_FILE {
            apps.remove(0);
        }
        apps.push((app, runs));
    }

    /// How long a job of each of the test files will hold its device, an install not counted. `app_id` is not known while
    /// the app version has no build.
    pub fn jobs_s(&self, org: &OrgId, app_id: Option<&str>, tests: &[TestPath]) -> Vec<f64> {
        let of_org = self.orgs.get(org).map_or(PRIOR_S, |runs| runs.at_two_thirds(PRIOR_S));
        let of_app = app_id.and_then(|app| self.apps.get(&(org.clone(), app.to_owned())));
        let unknown = of_app.map_or(of_org, |runs| runs.at_two_thirds(of_org));
        let of_file = |test: &TestPath| {
            let apps = self.files.get(&(org.clone(), test.clone()))?;
            let same_app = apps.iter().find(|(app, _)| Some(app.as_str()) == app_id);
            same_app.or(apps.last()).map(|(_, runs)| runs.median(unknown))
        };
        tests.iter().map(|test| of_file(test).unwrap_or(unknown)).collect()
    }

    /// The build was installed on a device of the kind in so many seconds.
    pub fn note_install(&mut self, build: &Build, kind: Target, seconds: f64) {
        self.installs_on_kind.entry(kind).or_default().add(seconds);
        self.installs_of_app.of((build.app_id.clone(), kind)).add(seconds);
        self.installs.of((build.sha256, kind)).add(seconds);
    }

    /// How long it will take to install the build on a device of the kind, at least 1 second.
    pub fn install_s(&self, build: &Build, kind: Target) -> f64 {
        let on_kind = self.installs_on_kind.get(&kind).map_or(PRIOR_S, |runs| runs.at_two_thirds(PRIOR_S));
        let of_app = self.installs_of_app.get(&(build.app_id.clone(), kind));
        let of_app = of_app.map_or(on_kind, |runs| runs.at_two_thirds(on_kind));
        let of_build = self.installs.get(&(build.sha256, kind)).map_or(of_app, |runs| runs.median(of_app));
        of_build.max(LEAST_INSTALL_S)
    }
}
