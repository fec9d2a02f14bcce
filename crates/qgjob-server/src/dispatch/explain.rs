//! Why a job waits, read from the board.

use qgjob_core::api::explain::{Why, WhyCode};
use qgjob_core::api::queue::GroupView;
use qgjob_core::model::device::{Device, State};
use qgjob_core::model::job::{Job, Status};
use qgjob_core::queue::board::{self, Group};

use super::Dispatch;
use crate::store::Scope;

impl Dispatch {
    /// The groups with waiting or running jobs that the scope sees, those that wait longest first.
    pub fn queue(&self, scope: &Scope) -> Vec<GroupView> {
        let board = self.board();
        let mut views: Vec<GroupView> = board
            .groups()
            .filter(|group| scope.sees(&group.key.org_id))
            .map(|group| GroupView {
                key: group.key.clone(),
                app_sha256: group.build.as_ref().map(|build| build.sha256),
                queued: group.waiting.len() as u32,
                running: group.running.len() as u32,
                top_priority: group.waiting.values().map(|waiting| waiting.priority).max(),
                oldest_queued_at: group.waiting.values().map(|waiting| waiting.queued_at).min(),
                warm_devices: warm(group, &board.fitting(group).collect::<Vec<_>>()),
            })
            .collect();
        views.sort_by(|a, b| (a.oldest_queued_at, &a.key).cmp(&(b.oldest_queued_at, &b.key)));
        views
    }

    /// Why a scheduled or queued job waits, most important first; never empty.
    pub fn explain(&self, job: &Job) -> Vec<Why> {
        let now = self.clock.now();
        let because = |code, detail: String| Why { code, detail };
        let mut reasons = Vec::new();
        if job.status == Status::Scheduled
            && let Some(due) = job.not_before
        {
            return vec![because(WhyCode::NotDue, format!("it is scheduled for {due}"))];
        }
        if let Some(due) = job.not_before.filter(|due| *due > now) {
            let why = job.reason.map_or("an attempt ended early", |reason| reason.as_str());
            reasons
                .push(because(WhyCode::Backoff, format!("after {why} it is tried again, not before {due}")));
        }
        let board = self.board();
        let Some(group) = board.groups().find(|group| group.waiting.contains_key(&job.id)) else {
            reasons.push(because(WhyCode::WaitsForWarmDevice, "it is about to start".to_owned()));
            return reasons;
        };
        if group.build.is_none() {
            let detail = format!(
                "app version {} has no build yet: upload it with `qgjob app upload --app-version-id={} <file>`",
                job.app_version_id, job.app_version_id
            );
            reasons.push(because(WhyCode::BuildMissing, detail));
            return reasons;
        }
        let fitting: Vec<&Device> = board.fitting(group).collect();
        let up: Vec<&Device> = fitting.iter().copied().filter(|device| board::is_up(device)).collect();
        if fitting.is_empty() {
            let wanted = match job.spec.selector.is_empty() {
                true => job.spec.target.to_string(),
                false => format!("{} with {}", job.spec.target, job.spec.selector),
            };
            let detail = format!("no device that is known fits target {wanted} and the build's platform");
            reasons.push(because(WhyCode::NoMatchingDevice, detail));
            return reasons;
        }
        if up.is_empty() {
            let all: Vec<String> =
                fitting.iter().map(|device| format!("{} is {}", device.name, device.state)).collect();
            reasons.push(because(WhyCode::MatchingDevicesOffline, all.join(", ")));
            return reasons;
        }
        let own = &group.waiting[&job.id];
        let ahead = group.waiting.iter().filter(|(id, other)| {
            (std::cmp::Reverse(other.priority), other.queued_at, **id)
                < (std::cmp::Reverse(own.priority), own.queued_at, job.id)
        });
        match ahead.count() {
            0 => {}
            1 => reasons.push(because(WhyCode::AheadInGroup, "1 job of its group is before it".to_owned())),
            n => reasons.push(because(WhyCode::AheadInGroup, format!("{n} jobs of its group are before it"))),
        }
        let busy = up.iter().filter(|device| device.state == State::Busy);
        if busy.clone().count() == up.len() {
            let names: Vec<&str> = busy.map(|device| device.name.as_str()).collect();
            let detail = format!("every device that fits is busy: {}", names.join(", "));
            reasons.push(because(WhyCode::MatchingDevicesBusy, detail));
        } else if reasons.is_empty() {
            let idle: Vec<&Device> =
                up.iter().copied().filter(|device| device.state == State::Idle).collect();
            let detail = match (warm(group, &idle), warm(group, &up)) {
                (idle, _) if !idle.is_empty() => {
                    format!("{} already has the build and is about to take it", idle.join(" or "))
                }
                (_, busy) if busy.is_empty() => "a free device is about to take it".to_owned(),
                (_, busy) => {
                    let other = group.patient_until(now).map_or_else(String::new, |until| {
                        format!("; if nothing of its group starts until {until}, another device installs the build")
                    });
                    format!("it is held for {}, which has the build and is busy{other}", busy.join(" or "))
                }
            };
            reasons.push(because(WhyCode::WaitsForWarmDevice, detail));
        }
        reasons
    }
}

fn warm(group: &Group, devices: &[&Device]) -> Vec<String> {
    let has = |device: &&&Device| {
        board::is_up(device) && group.build.as_ref().is_some_and(|build| board::has(device, build))
    };
    let mut names: Vec<String> = devices.iter().filter(has).map(|device| device.name.clone()).collect();
    names.sort();
    names
}
