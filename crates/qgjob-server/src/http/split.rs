//! From the test files of a run to its jobs: whole, or split into shards by what their latest run recorded.

use qgjob_core::api::bounds::MOST_JOBS;
use qgjob_core::api::runs::NewRun;
use qgjob_core::model::job::Job;
use qgjob_core::model::shard::Shards;
use qgjob_core::queue::forecast::PRIOR_S;
use qgjob_core::queue::shards::{self, File, Part, Room};

use super::App;
use super::problem::Rejection;
use crate::store::Scope;

/// The jobs of each test file of `run`. A job that is `retried` keeps its shard, whatever was recorded since.
///
/// # Errors
/// When the store cannot be read.
pub async fn parts(app: &App, run: &NewRun, retried: Option<&Job>) -> Result<Vec<Vec<Part>>, Rejection> {
    if let Some(Job { spec, predicted_ms, .. }) = retried.filter(|job| job.spec.shard.is_some()) {
        return Ok(vec![vec![Part { shard: spec.shard.clone(), predicted_ms: *predicted_ms }]]);
    }
    let predicted_ms = app.forecasts.jobs_ms(&run.org_id, &run.app_version_id, &run.tests).await?;
    match run.options.shards {
        None => Ok(predicted_ms.into_iter().map(|ms| vec![Part { shard: None, predicted_ms: ms }]).collect()),
        Some(wish) => split(app, run, wish, predicted_ms).await,
    }
}

async fn split(
    app: &App,
    run: &NewRun,
    wish: Shards,
    predicted_ms: Vec<u64>,
) -> Result<Vec<Vec<Part>>, Rejection> {
    let build = app.store.app_version(&run.org_id, &run.app_version_id).await?.map(|found| found.build);
    let app_id = build.as_ref().map(|build| build.app_id.as_str());
    let recorded = app.store.recorded(&run.org_id, app_id, &run.tests).await?;
    let files = predicted_ms.into_iter().zip(recorded).map(|(predicted_ms, tries)| {
        let units = shards::units(&tries);
        // What was learned of the whole file may be older than what its tests took last.
        let took_ms = units.iter().map(|unit| unit.took_ms).sum();
        File { predicted_ms: predicted_ms.max(took_ms), units }
    });
    let files: Vec<File> = files.collect();
    let key = run.options.group(&run.org_id, &run.app_version_id);
    let mut devices = app.store.devices(&Scope::Org(run.org_id.clone())).await?;
    let platform = build.as_ref().map(|build| build.platform);
    devices.retain(|device| device.is_up() && key.accepts(device, platform));
    let install_s = match &build {
        Some(build) => app.forecasts.install_s(build, devices.iter().map(|device| device.kind)),
        None => PRIOR_S,
    };
    let install_ms = (install_s * 1_000.0).round() as u64;
    let room = Room { install_ms, devices: devices.len(), most_jobs: MOST_JOBS };
    Ok(shards::split(wish, &files, room))
}
