//! Forecasts: what jobs and installs will take, from the store's history and from what it tells as attempts end. Each server
//! has its own, made from the same facts.

use std::sync::{Arc, Mutex, MutexGuard};

use qgjob_core::model::attempt::Took;
use qgjob_core::model::build::Build;
use qgjob_core::model::event::{Event, Fact};
use qgjob_core::model::group;
use qgjob_core::model::name::{AppVersionId, OrgId, TestPath};
use qgjob_core::model::selector::Target;
use qgjob_core::queue::forecast::{Forecast, PRIOR_S, Remembered};

use crate::store::{self, Store};

/// Attempts of before the start that are learned from.
const HISTORY: u32 = 10_000;
/// Groups and app versions whose builds are remembered.
const BUILDS: usize = 2_000;

/// See the module.
pub struct Forecasts {
    store: Arc<dyn Store>,
    forecast: Mutex<Forecast>,
    /// A label never changes its build: what was read once stays true.
    builds_of_groups: Mutex<Remembered<group::Id, Arc<Build>>>,
    apps_of_versions: Mutex<Remembered<(OrgId, AppVersionId), Arc<str>>>,
}

impl Forecasts {
    /// Learns from the store's history.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn start(store: Arc<dyn Store>) -> store::Result<Arc<Self>> {
        let forecasts = Self {
            store,
            forecast: Mutex::default(),
            builds_of_groups: Mutex::new(Remembered::new(BUILDS)),
            apps_of_versions: Mutex::new(Remembered::new(BUILDS)),
        };
        for (org, took) in forecasts.store.history(HISTORY).await? {
            forecasts.note(&org, &took).await?;
        }
        Ok(Arc::new(forecasts))
    }

    /// Learns from the attempts that ended.
    pub async fn learn(&self, events: &[Event]) {
        for event in events {
            if let (Fact::AttemptEnded { took: Some(took), .. }, Some(org)) = (&event.fact, &event.org_id)
                && let Err(error) = self.note(org, took).await
            {
                tracing::warn!(%error, group = took.group_id, "nothing is learned from an attempt: its group cannot be read");
            }
        }
    }

    async fn note(&self, org: &OrgId, took: &Took) -> store::Result<()> {
        let Some(build) = self.build_of(took.group_id).await? else { return Ok(()) };
        let mut forecast = self.forecast();
        if !took.is_shard {
            forecast.note_job(org, &build.app_id, &took.test, seconds(took.held_ms));
        }
        if let Some(install) = took.install {
            forecast.note_install(&build, install.kind, seconds(install.duration_ms));
        }
        Ok(())
    }

    /// How long a job of each of the test files will hold its device, an install not counted, in milliseconds.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn jobs_ms(
        &self,
        org: &OrgId,
        version: &AppVersionId,
        tests: &[TestPath],
    ) -> store::Result<Vec<u64>> {
        let app = self.app_of(org, version).await?;
        let forecast = self.forecast().jobs_s(org, app.as_deref(), tests);
        Ok(forecast.into_iter().map(|seconds| (seconds * 1_000.0).round() as u64).collect())
    }

    /// How long it will take to install the build on a device of the slowest of the kinds, in seconds, at least 1.
    /// Without a kind the slowest is not known, and the prior holds.
    pub fn install_s(&self, build: &Build, kinds: impl IntoIterator<Item = Target>) -> f64 {
        let forecast = self.forecast();
        let slowest = kinds.into_iter().map(|kind| forecast.install_s(build, kind)).reduce(f64::max);
        slowest.unwrap_or(PRIOR_S)
    }

    async fn build_of(&self, id: group::Id) -> store::Result<Option<Arc<Build>>> {
        let known = lock(&self.builds_of_groups).get(&id).cloned();
        if known.is_some() {
            return Ok(known);
        }
        let build = self.store.group(id).await?.and_then(|group| group.build).map(Arc::new);
        if let Some(build) = &build {
            lock(&self.builds_of_groups).put(id, Arc::clone(build));
        }
        Ok(build)
    }

    async fn app_of(&self, org: &OrgId, version: &AppVersionId) -> store::Result<Option<Arc<str>>> {
        let key = (org.clone(), version.clone());
        let known = lock(&self.apps_of_versions).get(&key).cloned();
        if known.is_some() {
            return Ok(known);
        }
        let app = self.store.app_version(org, version).await?.map(|found| Arc::from(found.build.app_id));
        if let Some(app) = &app {
            lock(&self.apps_of_versions).put(key, Arc::clone(app));
        }
        Ok(app)
    }

    fn forecast(&self) -> MutexGuard<'_, Forecast> {
        lock(&self.forecast)
    }
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().expect("no thread panics while holding it")
}
