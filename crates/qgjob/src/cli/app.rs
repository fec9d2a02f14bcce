//! `qgjob app`.

use std::path::PathBuf;

use qgjob_core::api::app_versions::AppVersionView;
use qgjob_core::model::exit::ExitCode;
use qgjob_core::model::name::{AppVersionId, OrgId};

use super::Context;
use super::failure::{Failure, Result};
use super::jobs::PageFlags;
use super::submit::{org, read_build, upload_build};
use crate::output::{self, GOOD, size};

/// App versions and their builds
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "Example:\n  qgjob app upload --app-version-id=xyz123 app.apk")]
pub enum App {
    /// Upload an app and bind a label to it; repeating it is harmless
    #[command(after_help = "Example:\n  qgjob app upload --org-id=qualgent --app-version-id=xyz123 app.apk")]
    Upload {
        /// The label
        #[arg(long, value_name = "LABEL")]
        app_version_id: AppVersionId,
        /// The app: an .apk
        file: PathBuf,
    },
    /// List labels, newest first
    #[command(after_help = "Example:\n  qgjob app list -o json")]
    List(PageFlags),
    /// Show the build that a label names
    #[command(after_help = "Example:\n  qgjob app view xyz123")]
    View {
        /// The label
        app_version_id: AppVersionId,
    },
}

impl App {
    pub async fn run(self, context: &Context) -> Result {
        let settings = context.settings()?;
        let client = context.client_of(&settings)?;
        match self {
            Self::Upload { app_version_id, file } => {
                let org_id = org(&settings)?;
                let build = read_build(&file).await?;
                let bound = upload_build(context, &client, &org_id, &app_version_id, &build, &file).await?;
                context.output.object(&bound, app_version_id.as_str(), || {
                    format!(
                        "{} {app_version_id} → sha256 {}",
                        context.output.paint(GOOD, "✓"),
                        bound.app_version.build.sha256
                    )
                })?;
            }
            Self::List(page) => {
                let headers =
                    &["APP VERSION", "ORG", "PLATFORM", "APP", "VERSION", "CODE", "SIZE", "SHA256", "BOUND"];
                let mut list = output::List::new("app versions", headers);
                let page = client.app_versions(&page.filter()).await?;
                list.next_cursor = page.next_cursor;
                for view in page.items {
                    let row = row(&view);
                    list.push(view.app_version.app_version_id.clone(), &view, row);
                }
                context.output.list(&list)?;
            }
            Self::View { app_version_id } => {
                let org_id: Option<OrgId> = settings.org_id.as_deref().map(str::parse).transpose()?;
                let found = client.app_version(org_id.as_ref(), &app_version_id).await?;
                let view = found.ok_or_else(|| {
                    Failure::new(ExitCode::NotFound, format!("app version {app_version_id} names no build"))
                        .hint(format!(
                            "bind it with `qgjob app upload --app-version-id={app_version_id} <file>`"
                        ))
                })?;
                context.output.object(&view, app_version_id.as_str(), || facts(&view))?;
            }
        }
        Ok(ExitCode::Ok)
    }
}

fn row(view: &AppVersionView) -> Vec<String> {
    let version = &view.app_version;
    let build = &version.build;
    vec![
        version.app_version_id.to_string(),
        version.org_id.to_string(),
        build.platform.to_string(),
        build.app_id.clone(),
        build.version_name.clone(),
        build.version_code.clone(),
        size(build.size_bytes),
        build.sha256.short(),
        version.created_at.to_string(),
    ]
}

fn facts(view: &AppVersionView) -> String {
    let version = &view.app_version;
    let build = &version.build;
    let facts = [
        ("org", version.org_id.to_string()),
        ("app", format!("{} {} ({})", build.app_id, build.version_name, build.version_code)),
        ("platform", build.platform.to_string()),
        ("sha256", build.sha256.to_string()),
        ("size", size(build.size_bytes)),
        ("activity", build.launch_activity.clone().unwrap_or_default()),
        ("bound", version.created_at.to_string()),
    ];
    let facts = facts.iter().filter(|(_, value)| !value.is_empty());
    facts.fold(version.app_version_id.to_string(), |text, (name, value)| {
        format!("{text}\n  {name:<9} {}", output::plain(value))
    })
}
