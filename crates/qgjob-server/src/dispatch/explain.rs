//! Why a job waits, read from the board.

use jiff::{SignedDuration, Timestamp};
use qgjob_core::api::explain::{Ahead, ExpectedStart, Why, WhyCode};
use qgjob_core::api::queue::GroupView;
use qgjob_core::model::device::{Device, State};
use qgjob_core::model::group;
use qgjob_core::model::job::{self, Job, Status};
use qgjob_core::model::limits::Limits;
use qgjob_core::model::name::{AppVersionId, OrgId};
use qgjob_core::queue::board::{self, Board, Group};
use qgjob_core::queue::placement::{self, Reason};

use super::Dispatch;
use crate::store::Scope;

/// How far the start of a job is foreseen: decisions, of some microseconds each.
const MOST_DECISIONS: usize = 50_000;

impl Dispatch {
    /// The groups with waiting or running jobs that the scope sees, of one label if one is named, those that wait
    /// longest first.
    pub fn queue(&self, scope: &Scope, label: Option<&AppVersionId>, limits: &Limits) -> Vec<GroupView> {
        let board = self.board();
        let named = |group: &Group| label.is_none_or(|label| group.key.app_version_id == *label);
        let seen = board.groups().filter(|group| scope.sees(&group.key.org_id) && named(group));
        let mut views: Vec<GroupView> = seen.map(|group| view(&board, limits, group)).collect();
        views.sort_by(|a, b| (a.oldest_queued_at, &a.key).cmp(&(b.oldest_queued_at, &b.key)));
        views
    }

    /// How many jobs of each of an org's groups wait, and how many run.
    pub fn counts(&self, org: &OrgId) -> Vec<(group::Key, u32, u32)> {
        let board = self.board();
        let of_org = board.groups().filter(|group| group.key.org_id == *org);
        let count =
            |group: &Group| (group.key.clone(), group.waiting.len() as u32, group.running.len() as u32);
        of_org.map(count).collect()
    }

    /// Why a scheduled or queued job waits, most important first and never empty, who is before it, and when it should
    /// start. Of orgs that the scope does not see it tells no name.
    pub async fn explain(&self, scope: &Scope, job: &Job) -> (Vec<Why>, Vec<Ahead>, Option<ExpectedStart>) {
        let now = self.clock.now();
        let (reasons, ahead) = self.reasons(scope, job, now);
        let expected = match job.status {
            Status::Queued => self.expected_start(job.id, now).await,
            _ => None,
        };
        (reasons, ahead, expected)
    }

    /// Replayed on a copy, so that placement goes on meanwhile.
    async fn expected_start(&self, job: job::Id, now: Timestamp) -> Option<ExpectedStart> {
        let _one_at_a_time = self.foreseeing.lock().await;
        let outlook = self.board().outlook();
        let replay = move || {
            let start = |stretch| board::expected_start(&outlook, job, now, stretch, MOST_DECISIONS);
            start(1.0).map(|likely| ExpectedStart {
                earliest: start(0.7).map_or(likely, |earliest| earliest.min(likely)),
                likely,
                latest: start(1.5).map_or(likely, |latest| latest.max(likely)),
            })
        };
        tokio::task::spawn_blocking(replay).await.ok().flatten()
    }

    fn reasons(&self, scope: &Scope, job: &Job, now: Timestamp) -> (Vec<Why>, Vec<Ahead>) {
        if job.status == Status::Scheduled
            && let Some(due) = job.not_before
        {
            return (vec![because(WhyCode::NotDue, format!("it is scheduled for {due}"))], vec![]);
        }
        let board = self.board();
        let waits_in = board.waiting(job.id).and_then(|waiting| board.group(waiting.group));
        let Some(group) = waits_in else {
            return (vec![because(WhyCode::AboutToStart, "it is about to start".to_owned())], vec![]);
        };
        let mut reasons = held_back(&board, group, job, now);
        let why = board.why(job.id, now);
        if reasons.is_empty() {
            reasons = match &why {
                Some(why) => told(&board, group, job, why, now),
                None => vec![because(WhyCode::AboutToStart, "a device is about to start it".to_owned())],
            };
        }
        let ahead = why.map(|why| why.ahead).unwrap_or_default();
        (reasons, ahead.iter().map(|ahead| who(&board, scope, ahead)).collect())
    }
}

fn because(code: WhyCode, detail: String) -> Why {
    Why { code, detail }
}

fn view(board: &Board, limits: &Limits, group: &Group) -> GroupView {
    let waiting = || group.waiting.iter().filter_map(|job| board.waiting(*job));
    GroupView {
        key: group.key.clone(),
        app_sha256: group.build.as_ref().map(|build| build.sha256),
        queued: group.waiting.len() as u32,
        running: group.running.len() as u32,
        top_priority: waiting().map(|waiting| waiting.priority).max(),
        oldest_queued_at: waiting().map(|waiting| waiting.queued_at).min(),
        warm_devices: warm(group, board.fitting(group)),
        paused: limits.is_paused(&group.key.org_id, &group.key.app_version_id),
        org_paused: limits.org(&group.key.org_id).paused,
    }
}

/// What keeps the job from the placement, or leaves the placement nothing to decide.
fn held_back(board: &Board, group: &Group, job: &Job, now: Timestamp) -> Vec<Why> {
    let mut reasons = Vec::new();
    if let Some(due) = job.not_before.filter(|due| *due > now) {
        let why = job.reason.map_or("an attempt ended early", |reason| reason.as_str());
        reasons.push(because(WhyCode::Backoff, format!("after {why} it is tried again, not before {due}")));
    }
    let label = &job.app_version_id;
    if board.is_paused(&group.key) {
        let detail = format!("app version {label} is paused");
        reasons.push(because(WhyCode::AppVersionPaused, detail));
    }
    if group.build.is_none() {
        let detail = format!(
            "app version {label} has no build yet: upload it with `qgjob app upload --app-version-id={label} <file>`"
        );
        reasons.push(because(WhyCode::BuildMissing, detail));
    } else if board.fitting(group).next().is_none() {
        let wanted = match job.spec.selector.is_empty() {
            true => job.spec.target.to_string(),
            false => format!("{} with {}", job.spec.target, job.spec.selector),
        };
        let detail = format!("no device that is known fits target {wanted} and the build's platform");
        reasons.push(because(WhyCode::NoMatchingDevice, detail));
    }
    reasons
}

/// What the placement says, with names.
fn told(board: &Board, group: &Group, job: &Job, why: &placement::Why, now: Timestamp) -> Vec<Why> {
    let fitting: Vec<&Device> = board.fitting(group).collect();
    let rests = |device: &&Device| board.rests_until(device.id, now).is_some();
    let mut idle = fitting.iter().copied().filter(|device| device.state == State::Idle);
    let nobody_is_free = idle.all(|device| rests(&device));
    let holds = |reason: &&Reason| !(nobody_is_free && matches!(reason, Reason::Free { .. }));
    let told = why.reasons.iter().filter(holds).map(|reason| in_words(reason, group, job, &fitting));
    let mut reasons: Vec<Why> = resting(board, &fitting, now).into_iter().chain(told).collect();
    if why.groups_ahead > 0 {
        reasons.push(because(
            WhyCode::GroupsAhead,
            counted(why.groups_ahead, "group gets", "groups get", "a device first"),
        ));
    }
    if why.jobs_ahead > 0 {
        reasons.push(because(
            WhyCode::AheadInGroup,
            counted(why.jobs_ahead, "job", "jobs", "of its group before it"),
        ));
    }
    reasons
}

/// Devices that are up and not asked for a while, because they failed.
fn resting(board: &Board, fitting: &[&Device], now: Timestamp) -> Option<Why> {
    let up = fitting.iter().filter(|device| device.is_up());
    let rests = up.filter_map(|device| Some((device, board.rests_until(device.id, now)?)));
    let mut names: Vec<String> =
        rests.map(|(device, until)| format!("{} until {until:.0}", device.name)).collect();
    names.sort_unstable();
    let detail = || format!("after failures that are no verdict rests {}", names.join(", "));
    (!names.is_empty()).then(|| because(WhyCode::DevicesRest, detail()))
}

fn in_words(reason: &Reason, group: &Group, job: &Job, fitting: &[&Device]) -> Why {
    let org = &group.key.org_id;
    let in_state = |wanted: State| {
        let names = fitting.iter().filter(|device| device.state == wanted).map(|device| device.name.as_str());
        let mut names: Vec<&str> = names.collect();
        names.sort_unstable();
        names.join(", ")
    };
    match reason {
        Reason::OrgPaused => because(WhyCode::OrgPaused, format!("org {org} is paused")),
        Reason::VersionPaused => {
            because(WhyCode::AppVersionPaused, format!("app version {} is paused", job.app_version_id))
        }
        Reason::OrgAtCap { running, cap } => because(
            WhyCode::OrgAtCap,
            format!("org {org} runs {running} jobs and may run at most {cap} at a time"),
        ),
        Reason::ConcurrencyFull { running, limit } => {
            let name = group.key.concurrency_group.as_ref().map_or("", |name| name.as_str());
            let detail =
                format!("concurrency group {name} runs {running} jobs and may run at most {limit} at a time");
            because(WhyCode::ConcurrencyFull, detail)
        }
        Reason::NoDeviceUp { .. } => {
            let all = fitting.iter().map(|device| match &device.quarantine {
                Some(own) if device.state == State::Quarantined => {
                    format!("{} is quarantined until {:.0}", device.name, own.until)
                }
                _ => format!("{} is {}", device.name, device.state),
            });
            let mut all: Vec<String> = all.collect();
            all.sort_unstable();
            because(WhyCode::MatchingDevicesOffline, all.join(", "))
        }
        Reason::Served { devices, work_s, worth_s, joins_at } => {
            let names = warm(group, fitting.iter().copied()).join(", ");
            let (verb, them) = if *devices == 1 { ("works", "it has") } else { ("work", "they have") };
            let until = Timestamp::from_millisecond((joins_at * 1000.0) as i64).unwrap_or(Timestamp::MAX);
            let detail = format!(
                "{names} {verb} for its group, and {them} {} left of it; another device installs the build if that \
                 becomes more than {}, or if nothing of the group starts until {until:.0}",
                span(*work_s),
                span(*worth_s)
            );
            because(WhyCode::WaitsForWarmDevice, detail)
        }
        Reason::OrgOverShare { running, most } => {
            let detail = format!(
                "org {org} holds {running} devices, its share is {most:.0} while others have jobs, and those get the next ones"
            );
            because(WhyCode::OrgOverShare, detail)
        }
        Reason::Busy { .. } => {
            let detail = format!("every device that fits is busy: {}", in_state(State::Busy));
            because(WhyCode::MatchingDevicesBusy, detail)
        }
        Reason::Barred { .. } => {
            let detail = format!("it failed on {}, and another device is to run it", in_state(State::Idle));
            because(WhyCode::DevicesAvoided, detail)
        }
        Reason::Free { .. } => {
            because(WhyCode::AboutToStart, format!("{} may take it and is free", in_state(State::Idle)))
        }
    }
}

fn who(board: &Board, scope: &Scope, ahead: &placement::Ahead) -> Ahead {
    let key = board.named(&ahead.group).filter(|key| scope.sees(&key.org_id));
    Ahead {
        org_id: key.map(|key| key.org_id.clone()),
        app_version_id: key.map(|key| key.app_version_id.clone()),
        priority: ahead.group.priority,
        because: ahead.because,
    }
}

fn counted(number: usize, one: &str, many: &str, what: &str) -> String {
    format!("{number} {} {what}", if number == 1 { one } else { many })
}

fn span(seconds: f64) -> String {
    format!("{:#}", SignedDuration::from_secs(seconds.round() as i64))
}

fn warm<'a>(group: &Group, devices: impl Iterator<Item = &'a Device>) -> Vec<String> {
    let has =
        |device: &&Device| device.is_up() && group.build.as_ref().is_some_and(|build| device.has(build));
    let mut names: Vec<String> = devices.filter(has).map(|device| device.name.clone()).collect();
    names.sort();
    names
}
