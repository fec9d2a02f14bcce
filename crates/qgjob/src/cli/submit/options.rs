//! From flags and `qgjob.toml` to the options of a run.

use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use qgjob_core::api::bounds;
use qgjob_core::api::runs::JobOptions;
use qgjob_core::clock::Clock;
use qgjob_core::model::name::{AppVersionId, TestPath};
use qgjob_core::model::run::Labels;

use super::{Submit, beside, value};
use crate::cli::failure::{Failure, Result};
use crate::config::Settings;
use crate::config::project;

impl Submit {
    pub(super) fn app_version(&self, project: &project::Submit) -> Result<AppVersionId> {
        let of_project = || of_text("app_version_id", project.app_version_id.as_deref());
        match self.app_version_id.clone() {
            Some(given) => Ok(given),
            None => of_project()?.ok_or_else(|| {
                Failure::usage("no app version is named").hint(
                    "add --app-version-id=<label>: any label for the build under test, such as the commit; with --app=<file> it is bound to that file",
                )
            }),
        }
    }

    pub(super) fn app_path(&self, settings: &Settings, project: &project::Submit) -> Option<PathBuf> {
        self.app.clone().or_else(|| project.app.as_ref().map(|path| beside(settings, path)))
    }

    pub(super) fn labels(&self, project: &project::Submit) -> Result<Labels> {
        let mut labels = Labels::new();
        let flags = self.label.iter().map(|(key, value)| (key, value));
        for (key, value) in project.labels.iter().chain(flags) {
            labels.insert(key.parse()?, value.parse()?);
        }
        Ok(labels)
    }

    pub(super) fn options(&self, project: &project::Submit, clock: &dyn Clock) -> Result<JobOptions> {
        let default = JobOptions::default();
        let priority = project.priority.as_ref().map(ToString::to_string);
        let mut options = JobOptions {
            platform: either(self.platform, "platform", project.platform.as_deref())?,
            target: either(self.target, "target", project.target.as_deref())?.unwrap_or_default(),
            selector: either(self.device.clone(), "device", project.device.as_deref())?.unwrap_or_default(),
            priority: either(self.priority, "priority", priority.as_deref())?.unwrap_or_default(),
            timeout_ms: millis(self.timeout, "timeout", project.timeout.as_deref())?
                .unwrap_or(default.timeout_ms),
            queue_timeout_ms: millis(self.queue_timeout, "queue_timeout", project.queue_timeout.as_deref())?
                .unwrap_or(default.queue_timeout_ms),
            infra_retries: self.retries.or(project.retries).unwrap_or(default.infra_retries),
            test_retries: self.test_retries.or(project.test_retries).unwrap_or(default.test_retries),
            reset: either(self.reset, "reset", project.reset.as_deref())?.unwrap_or_default(),
            not_before: self.not_before.map(|when| when.resolve(clock)).transpose()?,
            concurrency_group: either(
                self.concurrency_group.clone(),
                "concurrency_group",
                project.concurrency_group.as_deref(),
            )?,
            shards: either(
                self.shards,
                "shards",
                project.shards.as_ref().map(ToString::to_string).as_deref(),
            )?,
            ..default
        };
        let flags = self.env.iter().map(|(name, value)| (name, value));
        for (name, value) in project.env.iter().chain(flags) {
            options.env.insert(name.parse()?, value.clone());
        }
        Ok(options)
    }

    /// Refuses what the server would refuse after everything is uploaded.
    pub(super) fn check(
        &self,
        tests: &[TestPath],
        labels: &Labels,
        options: &JobOptions,
        clock: &dyn Clock,
    ) -> Result<()> {
        let exceeded = bounds::exceeded(tests, self.name.as_deref(), labels, options, clock.now());
        if exceeded.is_empty() {
            return Ok(());
        }
        let failure = Failure::usage("the run is not as the server takes it");
        Err(exceeded.iter().fold(failure, |failure, field| {
            failure.cause(format!("{} {}", flag(&field.pointer), field.detail))
        }))
    }
}

/// The flag, or the key below `[submit]`, of a field of the request.
fn flag(pointer: &str) -> String {
    match pointer.trim_start_matches('/') {
        "timeout_ms" => "--timeout".to_owned(),
        "queue_timeout_ms" => "--queue-timeout".to_owned(),
        "infra_retries" => "--retries".to_owned(),
        "selector" => "--device".to_owned(),
        "labels" => "--label".to_owned(),
        "tests" => "--test".to_owned(),
        other => match other.split_once('/') {
            Some((name, of)) => format!("--{name} {of}"),
            None => format!("--{}", other.replace('_', "-")),
        },
    }
}

fn either<T: FromStr<Err: Display>>(flag: Option<T>, key: &str, text: Option<&str>) -> Result<Option<T>> {
    match flag {
        Some(given) => Ok(Some(given)),
        None => of_text(key, text),
    }
}

fn of_text<T: FromStr<Err: Display>>(key: &str, text: Option<&str>) -> Result<Option<T>> {
    text.map(str::parse).transpose().map_err(|error| wrong(key, error))
}

fn millis(flag: Option<Duration>, key: &str, text: Option<&str>) -> Result<Option<u64>> {
    let span = match flag {
        Some(given) => Some(given),
        None => text.map(value::span).transpose().map_err(|error| wrong(key, error))?,
    };
    Ok(span.map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
}

fn wrong(key: &str, error: impl Display) -> Failure {
    Failure::usage(format!("qgjob.toml: submit.{key}: {error}"))
}
