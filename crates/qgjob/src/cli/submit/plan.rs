//! `--dry-run`: what would be sent, and what would meet it.

use std::cmp::Reverse;
use std::path::Path;

use qgjob_core::model::build::Build;
use qgjob_core::model::device::{Device, State};
use qgjob_core::model::exit::ExitCode;
use qgjob_core::model::name::{AppVersionId, OrgId, TestPath};
use serde::Serialize;

use super::app::bound_to_another;
use crate::bundle::{Bundle, BundleFile};
use crate::cli::Context;
use crate::cli::failure::Result;
use crate::client::Client;
use crate::config::Settings;
use crate::output::{BOLD, Output, count, plain, size};

/// How many of the largest files are named.
const BIGGEST: usize = 5;

/// What would be submitted.
pub struct Plan<'a> {
    pub org_id: &'a OrgId,
    pub app_version_id: &'a AppVersionId,
    /// The app of `--app`, and its file.
    pub build: Option<(&'a Build, &'a Path)>,
    pub bundle: &'a Bundle,
    pub tests: &'a [TestPath],
    pub options: &'a qgjob_core::api::runs::JobOptions,
}

/// What the server knows.
struct Found {
    /// The build that the label is bound to.
    bound: Option<Build>,
    /// The devices that fit, and whether each has the build.
    devices: Vec<(Device, bool)>,
    /// How many devices there are.
    all: usize,
}

#[derive(Serialize)]
struct FileSize<'a> {
    name: &'a str,
    size_bytes: u64,
}

impl Plan<'_> {
    /// Prints it. Without a server, what the server would know is left out.
    ///
    /// # Errors
    /// When the label is bound to another build, as the submit would.
    pub async fn show(&self, context: &Context, settings: &Settings) -> Result {
        let found = match self.ask(&context.client_of(settings)?).await {
            Ok(found) => Some(found),
            Err(failure) if failure.exit == ExitCode::Unreachable => {
                context.output.warn(format!(
                    "{}: whether the app version has a build and which devices fit is not known",
                    failure.what
                ));
                None
            }
            Err(failure) => return Err(failure),
        };
        let names: Vec<_> = self.tests.iter().map(TestPath::as_str).collect();
        let document = self.document(found.as_ref());
        context.output.object(&document, &names.join("\n"), || self.text(context, found.as_ref()))?;
        Ok(ExitCode::Ok)
    }

    async fn ask(&self, client: &Client) -> Result<Found> {
        let bound = client.app_version(Some(self.org_id), self.app_version_id).await?;
        if let (Some(bound), Some((build, path))) = (&bound, self.build)
            && let Some(failure) = bound_to_another(bound, build, path)
        {
            return Err(failure);
        }
        let bound = bound.map(|view| view.app_version.build);
        let build = bound.as_ref().or(self.build.map(|(build, _)| build));
        let key = self.options.group(self.org_id, self.app_version_id);
        let mut devices = client.devices().await?;
        let all = devices.len();
        devices.retain(|device| key.accepts(device, build.map(|build| build.platform)));
        let pair = |device: Device| {
            let has_build = build.is_some_and(|build| device.has(build));
            (device, has_build)
        };
        let devices = devices.into_iter().map(pair).collect();
        Ok(Found { bound, devices, all })
    }

    fn biggest(&self) -> Vec<&BundleFile> {
        let mut files: Vec<_> = self.bundle.files().iter().collect();
        files.sort_by_key(|file| (Reverse(file.size_bytes), file.name.clone()));
        files.truncate(BIGGEST);
        files
    }

    fn document(&self, found: Option<&Found>) -> serde_json::Value {
        let devices = found.map(|found| {
            let devices = found.devices.iter().map(|(device, has_build)| {
                serde_json::json!({
                    "device_id": device.id,
                    "name": device.name,
                    "state": device.state,
                    "has_build": has_build,
                })
            });
            devices.collect::<Vec<_>>()
        });
        let biggest = self.biggest().into_iter();
        let biggest = biggest.map(|file| FileSize { name: &file.name, size_bytes: file.size_bytes });
        serde_json::json!({
            "schema": "qgjob.plan/v1",
            "org_id": self.org_id,
            "app_version_id": self.app_version_id,
            "build": self.build.map(|(build, _)| build),
            "app_version_has_build": found.map(|found| found.bound.is_some()),
            "project_dir": self.bundle.root(),
            "files": self.bundle.files().iter().map(|file| &file.name).collect::<Vec<_>>(),
            "file_count": self.bundle.files().len(),
            "biggest_files": biggest.collect::<Vec<_>>(),
            "size_bytes": self.bundle.size_bytes(),
            "tests": self.tests,
            "target": self.options.target,
            "selector": self.options.selector,
            "priority": self.options.priority,
            "matching_devices": devices,
        })
    }

    fn text(&self, context: &Context, found: Option<&Found>) -> String {
        let selector = &self.options.selector;
        let device = if selector.is_empty() { String::new() } else { format!(" ({selector})") };
        let mut text = format!(
            "Would queue {}{} for {} (org {})\n  app      {}\n  target   {}{device}, priority {}\n  project  {}, {}, {}\n",
            if self.options.shards.is_some() { "at least " } else { "" },
            count(self.tests.len() as u64, "job"),
            self.app_version_id,
            self.org_id,
            self.app(found),
            self.options.target,
            self.options.priority,
            self.bundle.root().display(),
            count(self.bundle.files().len() as u64, "file"),
            size(self.bundle.size_bytes())
        );
        let head = |text: &str| format!("\n{}\n", context.output.paint(BOLD, text));
        text.push_str(&head("Jobs"));
        self.tests.iter().for_each(|name| text.push_str(&format!("  {name}\n")));
        text.push_str(&head("Biggest files"));
        for file in self.biggest() {
            text.push_str(&format!("  {:>8}  {}\n", size(file.size_bytes), plain(&file.name)));
        }
        if let Some(found) = found {
            text.push_str(&head(&format!("Devices that fit: {} of {}", found.devices.len(), found.all)));
            text.push_str(&devices(&context.output, &found.devices));
        }
        text
    }

    fn app(&self, found: Option<&Found>) -> String {
        let describe = |build: &Build| {
            format!("{} {}, sha256 {}…", build.app_id, build.version_name, build.sha256.short())
        };
        match (self.build, found.map(|found| &found.bound)) {
            (_, Some(Some(bound))) => format!("{} (bound before)", describe(bound)),
            (Some((build, _)), _) => format!("{} (would be uploaded and bound)", describe(build)),
            (None, Some(None)) => "no build yet: the jobs would wait until `qgjob app upload`".to_owned(),
            (None, None) => "not known".to_owned(),
        }
    }
}

fn devices(output: &Output, devices: &[(Device, bool)]) -> String {
    if devices.is_empty() {
        return "  none: the jobs would wait; `qgjob device list` shows all devices\n".to_owned();
    }
    let rows: Vec<_> = devices.iter().map(|(device, has_build)| row(device, *has_build)).collect();
    let output = Output { width: output.width.map(|width| width.saturating_sub(2)), ..*output };
    let table = output.table(&["NAME", "STATE", "MODEL", "OS", "BUILD"], &rows);
    table.lines().map(|line| format!("  {line}\n")).collect()
}

fn row(device: &Device, has_build: bool) -> Vec<String> {
    let build = match (has_build, device.state) {
        (true, _) => "installed",
        (false, State::Offline | State::Drained | State::Quarantined) => "",
        (false, _) => "would be installed",
    };
    vec![
        device.name.clone(),
        device.state.to_string(),
        device.model.clone(),
        format!("{} {}", device.platform, device.os_version),
        build.to_owned(),
    ]
}
