mod health;
mod limits;

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::{Board, Proposal, Waiting};
use crate::model::build::Build;
use crate::model::device::{self, Device, Installed, Proof, State};
use crate::model::event::Fact;
use crate::model::job::{Conclusion, Reason, Status};
use crate::model::selector::{Platform, Selector, Target};
use crate::model::sha256::Sha256;
use crate::model::{agent, attempt, group, job};
use crate::queue::placement::Parameters;

fn at(second: i64) -> Timestamp {
    "2026-11-22T10:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(second)
}

fn build(version: u8) -> Build {
    Build {
        sha256: Sha256([version; 32]),
        size_bytes: 1,
        platform: Platform::Android,
        app_id: "dev.qgjob.demo".to_owned(),
        version_name: version.to_string(),
        version_code: version.to_string(),
        launch_activity: None,
    }
}

fn phone(id: u128, has: Option<u8>) -> Device {
    let entry = |version| Installed {
        app_id: "dev.qgjob.demo".to_owned(),
        sha256: Sha256([version; 32]),
        proof: Proof::DeviceHash,
        verified_at: at(0),
    };
    Device {
        id: device::Id(id),
        agent_id: agent::Id(1),
        serves: None,
        name: format!("phone-{id}"),
        serial: id.to_string(),
        platform: Platform::Android,
        kind: Target::Device,
        model: "Pixel 7".to_owned(),
        os_version: "14".to_owned(),
        tags: BTreeSet::new(),
        state: State::Idle,
        note: None,
        ledger: has.map(entry).into_iter().collect(),
        attempt_id: None,
        quarantine: None,
        seen_at: at(0),
    }
}

fn key(version: u8) -> group::Key {
    group::Key {
        org_id: "qualgent".parse().unwrap(),
        app_version_id: format!("v{version}").parse().unwrap(),
        platform: None,
        target: Target::Any,
        selector: Selector::default(),
        concurrency_group: None,
    }
}

/// A board with phones; a version's group has its number, and installs and jobs are thought to take 60 s.
fn board(phones: Vec<Device>) -> Board {
    Board::new(Parameters::default(), phones, at(0))
}

fn submit(board: &mut Board, version: u8, jobs: std::ops::Range<u128>, now: Timestamp) {
    submit_to(board, i64::from(version), key(version), Some(build(version)), jobs, now);
}

fn submit_to(
    board: &mut Board,
    id: group::Id,
    key: group::Key,
    build: Option<Build>,
    jobs: std::ops::Range<u128>,
    now: Timestamp,
) {
    board.put_group(id, key, build, 60.0, now);
    for job in jobs {
        board.put_waiting(job::Id(job), waiting(id, now), now);
    }
}

fn waiting(group: group::Id, now: Timestamp) -> Waiting {
    Waiting {
        group,
        priority: 5,
        queued_at: now,
        not_before: None,
        avoid: vec![],
        promoted_at: None,
        predicted_ms: 60_000,
    }
}

/// What devices claim when all of them ask.
fn ask(board: &mut Board, devices: &[u128], now: Timestamp) -> Vec<(u128, u128)> {
    let devices: Vec<device::Id> = devices.iter().map(|id| device::Id(*id)).collect();
    let pair = |proposal: Proposal| (proposal.device.0, proposal.job.0);
    board.propose(&devices, now).into_iter().map(pair).collect()
}

fn started(group: group::Id, device: u128) -> Fact {
    Fact::JobStarted {
        group_id: group,
        attempt_id: attempt::Id(1),
        number: 1,
        agent_id: agent::Id(1),
        device_id: device::Id(device),
        device_name: format!("phone-{device}"),
    }
}

fn ended(device: u128) -> Fact {
    Fact::AttemptEnded {
        attempt_id: attempt::Id(1),
        device_id: device::Id(device),
        outcome: attempt::Outcome::Passed,
        reason: None,
        detail: None,
        took: None,
    }
}

fn queued(group: group::Id, not_before: Option<Timestamp>, avoid: &[u128]) -> Fact {
    Fact::JobQueued {
        group_id: group,
        priority: 5,
        not_before,
        reason: Some(Reason::DeviceFault),
        detail: None,
        avoid: avoid.iter().map(|id| device::Id(*id)).collect(),
        promoted_at: None,
        predicted_ms: 60_000,
    }
}

fn completed(group: group::Id, from: Status) -> Fact {
    Fact::JobCompleted {
        group_id: group,
        from,
        conclusion: Conclusion::Cancelled,
        reason: Reason::Cancelled,
        detail: None,
        tests: Default::default(),
    }
}

#[test]
fn the_phone_that_has_the_build_takes_the_job() {
    let mut board = board(vec![phone(1, None), phone(2, Some(1))]);
    submit(&mut board, 1, 1..2, at(0));
    assert_eq!(ask(&mut board, &[1, 2], at(0)), [(2, 1)]);
}

#[test]
fn a_phone_that_is_about_to_ask_keeps_what_it_has_from_being_installed_elsewhere() {
    let mut board = board(vec![phone(1, Some(1)), phone(2, None)]);
    submit(&mut board, 1, 1..3, at(0));
    assert_eq!(ask(&mut board, &[1, 2], at(0)), [(1, 1)], "one job more is not worth an install");
    board.follow(job::Id(1), at(0), &started(1, 1));
    board.follow(job::Id(1), at(50), &ended(1));
    board.follow(job::Id(1), at(50), &completed(1, Status::Running));
    assert_eq!(ask(&mut board, &[2], at(50)), [], "phone 1 asks in a moment");
    assert_eq!(board.next_due(), Some(at(52)));
    assert_eq!(ask(&mut board, &[1, 2], at(51)), [(1, 2)]);
}

#[test]
fn a_phone_that_does_not_ask_again_loses_its_precedence() {
    let mut board = board(vec![phone(1, Some(1)), phone(2, None)]);
    submit(&mut board, 1, 1..2, at(0));
    assert_eq!(ask(&mut board, &[2], at(1)), [], "at the start every phone is about to ask");
    assert_eq!(ask(&mut board, &[2], at(2)), [(2, 1)]);
}

#[test]
fn a_retried_job_keeps_its_place_and_avoids_its_phone() {
    let mut board = board(vec![phone(1, None), phone(2, None)]);
    submit(&mut board, 1, 1..2, at(0));
    assert_eq!(ask(&mut board, &[1], at(10)), [(1, 1)]);
    board.follow(job::Id(1), at(10), &started(1, 1));
    board.follow(job::Id(1), at(20), &ended(1));
    board.follow(job::Id(1), at(20), &queued(1, Some(at(25)), &[1]));
    assert_eq!(board.waiting(job::Id(1)).unwrap().queued_at, at(0));
    assert_eq!(ask(&mut board, &[1, 2], at(20)), [], "it waits out its backoff");
    assert_eq!(board.next_due(), Some(at(25)));
    assert_eq!(ask(&mut board, &[1, 2], at(25)), [(2, 1)]);
}

#[test]
fn a_job_that_failed_on_every_phone_may_have_any() {
    let mut board = board(vec![phone(1, None), Device { state: State::Offline, ..phone(2, None) }]);
    submit(&mut board, 1, 1..2, at(0));
    assert_eq!(ask(&mut board, &[1], at(10)), [(1, 1)]);
    board.follow(job::Id(1), at(10), &started(1, 1));
    board.follow(job::Id(1), at(20), &ended(1));
    board.follow(job::Id(1), at(20), &queued(1, None, &[1]));
    assert_eq!(ask(&mut board, &[1], at(30)), [(1, 1)], "the other one is offline");
}

#[test]
fn a_label_without_a_build_waits_for_it() {
    let mut board = board(vec![phone(1, None)]);
    submit_to(&mut board, 1, key(1), None, 1..2, at(0));
    let group::Key { org_id, app_version_id, .. } = key(1);
    assert_eq!(ask(&mut board, &[1], at(1)), []);
    assert_eq!(board.without_build(&org_id, &app_version_id), [1]);
    assert!(board.without_build(&org_id, &key(2).app_version_id).is_empty());
    board.put_group(1, key(1), Some(build(1)), 60.0, at(2));
    assert_eq!(ask(&mut board, &[1], at(2)), [(1, 1)]);
    assert!(board.without_build(&org_id, &app_version_id).is_empty());
}

#[test]
fn targets_and_orgs_are_kept_apart() {
    let theirs = Device { serves: Some("other".parse().unwrap()), ..phone(2, None) };
    let mut board = board(vec![phone(1, None), theirs]);
    submit_to(&mut board, 1, group::Key { target: Target::Emulator, ..key(1) }, Some(build(1)), 1..2, at(0));
    submit(&mut board, 2, 2..3, at(0));
    assert_eq!(ask(&mut board, &[2], at(5)), [], "a phone serves its own org");
    assert_eq!(ask(&mut board, &[1, 2], at(5)), [(1, 2)], "a real device is no emulator");
    let other = group::Key { org_id: "other".parse().unwrap(), ..key(3) };
    submit_to(&mut board, 3, other, Some(build(3)), 3..4, at(6));
    assert_eq!(ask(&mut board, &[2], at(6)), [(2, 3)]);
}

#[test]
fn an_orgs_first_phone_of_its_own_needs_a_new_board() {
    let mut board = board(vec![phone(1, None)]);
    let theirs = Device { serves: Some("other".parse().unwrap()), ..phone(2, None) };
    assert!(board.put_devices(vec![phone(1, None), phone(2, None)], at(0)));
    assert!(!board.put_devices(vec![phone(1, None), theirs], at(0)));
}

#[test]
fn a_paused_app_version_starts_nothing_and_goes_on_later() {
    let mut board = board(vec![phone(1, None)]);
    submit(&mut board, 1, 1..3, at(0));
    let (org, label) = (key(1).org_id, key(1).app_version_id);
    board.set_paused(&org, &label, true, at(1));
    submit(&mut board, 1, 3..4, at(1));
    assert_eq!(ask(&mut board, &[1], at(2)), []);
    board.set_paused(&org, &label, false, at(3));
    assert_eq!(ask(&mut board, &[1], at(3)), [(1, 1)]);
}

#[test]
fn a_cancelled_job_holds_its_phone_until_its_attempt_ends() {
    let mut board = board(vec![phone(1, None)]);
    submit(&mut board, 1, 1..3, at(0));
    assert_eq!(ask(&mut board, &[1], at(1)), [(1, 1)]);
    board.follow(job::Id(1), at(1), &started(1, 1));
    board.follow(job::Id(1), at(2), &completed(1, Status::Running));
    assert_eq!(ask(&mut board, &[1], at(3)), [], "it is being cleaned");
    board.follow(job::Id(1), at(4), &ended(1));
    assert_eq!(ask(&mut board, &[1], at(4)), [(1, 2)]);
    board.follow(job::Id(2), at(5), &completed(1, Status::Queued));
    assert!(!board.knows(1), "a group without jobs is forgotten");
}

#[test]
fn what_the_store_refuses_is_taken_back() {
    let mut board = board(vec![phone(1, None), phone(2, None)]);
    submit(&mut board, 1, 1..2, at(0));
    assert_eq!(ask(&mut board, &[1], at(2)), [(1, 1)]);
    board.undo(device::Id(1), at(2));
    assert_eq!(ask(&mut board, &[2], at(3)), [(2, 1)]);
}

#[test]
fn what_another_server_started_is_followed() {
    let mut board = board(vec![phone(1, None), phone(2, None)]);
    submit(&mut board, 1, 1..3, at(0));
    assert_eq!(ask(&mut board, &[1], at(2)), [(1, 1)]);
    // The store gave phone 1 another job, and job 1 to phone 2.
    board.follow(job::Id(2), at(2), &started(1, 1));
    board.follow(job::Id(1), at(2), &started(1, 2));
    board.undo(device::Id(3), at(2));
    let running = board.group(1).unwrap().running.clone();
    assert_eq!(running, BTreeSet::from([device::Id(1), device::Id(2)]));
    assert_eq!(ask(&mut board, &[1, 2], at(3)), []);
}

#[test]
fn a_failed_install_leaves_what_the_ledger_says() {
    let mut board = board(vec![phone(1, Some(2))]);
    submit(&mut board, 1, 1..2, at(0));
    assert_eq!(ask(&mut board, &[1], at(2)), [(1, 1)]);
    board.follow(job::Id(1), at(2), &started(1, 1));
    board.follow(job::Id(1), at(9), &ended(1));
    board.follow(job::Id(1), at(9), &completed(1, Status::Running));
    submit(&mut board, 1, 4..5, at(10));
    submit(&mut board, 2, 5..6, at(11));
    assert_eq!(ask(&mut board, &[1], at(12)), [(1, 5)], "it still has version 2, which is no install");
}

#[test]
fn a_board_read_anew_goes_on_where_the_old_one_was() {
    let mut board = board(vec![phone(1, Some(1)), phone(2, None)]);
    board.put_group(1, key(1), Some(build(1)), 60.0, at(0));
    let waiting = waiting(1, at(0));
    board.put_running(job::Id(1), waiting.clone(), device::Id(1), at(5));
    board.put_waiting(job::Id(2), waiting, at(10));
    assert_eq!(ask(&mut board, &[1, 2], at(10)), [], "phone 1 serves the group");
    board.follow(job::Id(1), at(20), &ended(1));
    assert_eq!(ask(&mut board, &[1, 2], at(20)), [(1, 2)]);
}

#[test]
fn a_measured_install_does_not_make_jobs_of_unknown_length_worth_another() {
    for (predicted_ms, joins) in [(60_000, vec![]), (59_000, vec![(2, 2)])] {
        let mut board = board(vec![phone(1, Some(1)), phone(2, None)]);
        board.put_group(1, key(1), Some(build(1)), 60.0, at(0));
        for job in 1..4 {
            let waiting = Waiting { predicted_ms, ..waiting(1, at(0)) };
            board.put_waiting(job::Id(job), waiting, at(0));
        }
        board.set_install_s(1, 1.0, at(0));
        assert_eq!(ask(&mut board, &[1], at(3)), [(1, 1)]);
        board.set_install_s(1, 1.0, at(4));
        assert_eq!(ask(&mut board, &[2], at(5)), joins, "predicted {predicted_ms} ms");
    }
}
