//! What a submit would run, held against a run that was made before.

use qgjob_core::api::runs::RunWithJobs;
use qgjob_core::model::name::OrgId;

use super::{Submit, blocking, bundle_failure, read_build, upload_build};
use crate::cli::Context;
use crate::cli::failure::Result;
use crate::client::Client;
use crate::config::Settings;

impl Submit {
    /// Whether `run` is about just what this would submit: the label, and the project as it is now. An app that is given is
    /// uploaded and bound to the label first, as by a submit.
    ///
    /// # Errors
    /// Exit code 6 when the label is bound to another build; else what is wrong with app, tests or project.
    pub async fn is_content_of(
        &self,
        context: &Context,
        settings: &Settings,
        client: &Client,
        org_id: &OrgId,
        run: &RunWithJobs,
    ) -> Result<bool> {
        let of_project =
            settings.project.as_ref().map(|project| project.file.submit.clone()).unwrap_or_default();
        let label = self.app_version(&of_project)?;
        if let Some(path) = self.app_path(settings, &of_project) {
            let build = read_build(&path).await?;
            upload_build(context, client, org_id, &label, &build, &path).await?;
        }
        let Some((bundle, _)) = self.tests(settings, &of_project).await? else { return Ok(false) };
        let packed = blocking(move || bundle.pack()).await?.map_err(bundle_failure)?;
        let has_it = run.job_list.iter().all(|job| job.job.spec.bundle_sha256 == packed.sha256);
        Ok(has_it && run.run.run.app_version_id == label)
    }
}
