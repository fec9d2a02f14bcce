//! The app: what its file says about itself, and its upload.

use std::path::Path;

use qgjob_core::api::app_versions::{AppVersionView, NewAppVersion};
use qgjob_core::api::uploads::Kind;
use qgjob_core::model::build::Build;
use qgjob_core::model::exit::ExitCode;
use qgjob_core::model::name::{AppVersionId, OrgId};
use qgjob_core::model::selector::Platform;

use super::blocking;
use crate::agent::apk::Apk;
use crate::cli::Context;
use crate::cli::failure::{Failure, Result};
use crate::client::{Client, Upload, sha256_of_file};
use crate::output::size;

/// What the file of an app says about itself.
pub async fn read_build(path: &Path) -> Result<Build> {
    let owned = path.to_owned();
    let apk = blocking(move || Apk::read(&owned)).await?.map_err(|error| {
        Failure::usage(format!("{} cannot be used as an app", path.display()))
            .cause(error.to_string())
            .hint("give the .apk that is installed on devices")
    })?;
    let (sha256, size_bytes) = sha256_of_file(path).await?;
    let version_code = apk.version_code.to_string();
    Ok(Build {
        sha256,
        size_bytes,
        platform: Platform::Android,
        app_id: apk.package,
        version_name: apk.version_name.unwrap_or_else(|| version_code.clone()),
        version_code,
        launch_activity: apk.launch_activity,
    })
}

/// Uploads a build unless the server has it, and binds the label to it.
pub async fn upload_build(
    context: &Context,
    client: &Client,
    org_id: &OrgId,
    app_version_id: &AppVersionId,
    build: &Build,
    path: &Path,
) -> Result<AppVersionView> {
    if let Some(bound) = client.app_version(Some(org_id), app_version_id).await? {
        if let Some(failure) = bound_to_another(&bound, build, path) {
            return Err(failure);
        }
        context.output.done(format!("App {} (bound to {app_version_id} before)", describe(build)));
        return Ok(bound);
    }
    let file = std::fs::File::open(path)
        .map_err(|cause| crate::client::Error::File { path: path.display().to_string(), cause })?;
    let name = path.display().to_string();
    let upload = Upload {
        org_id,
        kind: Kind::App,
        file,
        name: &name,
        size_bytes: build.size_bytes,
        sha256: build.sha256,
    };
    let bar = progress(context, build.size_bytes);
    let sent = client.upload(upload, |bytes| bar.set_position(bytes)).await;
    bar.finish_and_clear();
    let how = if sent? { "uploaded" } else { "known, not uploaded again" };
    context.output.done(format!("App {} ({how})", describe(build)));
    let new = NewAppVersion {
        org_id: org_id.clone(),
        app_version_id: app_version_id.clone(),
        build: build.clone(),
    };
    Ok(client.bind_app_version(&new).await?)
}

/// Why the build in `path` cannot take the label: a label never changes its build.
pub fn bound_to_another(bound: &AppVersionView, build: &Build, path: &Path) -> Option<Failure> {
    let version = &bound.app_version;
    let label = &version.app_version_id;
    (version.build.sha256 != build.sha256).then(|| {
        Failure::new(ExitCode::Conflict, format!("app version {label} is bound to another build"))
            .cause(format!(
                "{label} → sha256 {} (bound {}); {} is sha256 {}",
                version.build.sha256,
                version.created_at,
                path.display(),
                build.sha256
            ))
            .hint(format!(
                "use a new label, for instance --app-version-id={label}-{}",
                &build.sha256.short()[..6]
            ))
    })
}

fn describe(build: &Build) -> String {
    format!(
        "{} {} · {} · sha256 {}…",
        build.app_id,
        build.version_name,
        size(build.size_bytes),
        build.sha256.short()
    )
}

fn progress(context: &Context, bytes: u64) -> indicatif::ProgressBar {
    if !context.output.live {
        return indicatif::ProgressBar::hidden();
    }
    let style = indicatif::ProgressStyle::with_template(
        "Uploading the app {bar:30} {bytes} of {total_bytes}, {eta} left",
    );
    indicatif::ProgressBar::new(bytes).with_style(style.expect("the template is constant"))
}
