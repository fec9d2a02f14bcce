//! Failures on the board: who is left out, who proves itself, whose jobs end.

use super::*;
use crate::model::attempt::Choice;
use crate::model::device::Quarantine;
use crate::queue::board::Ruling;

fn end(device: u128, outcome: attempt::Outcome, reason: Reason, detail: &str) -> Fact {
    Fact::AttemptEnded {
        attempt_id: attempt::Id(1),
        device_id: device::Id(device),
        outcome,
        reason: Some(reason),
        detail: Some(detail.to_owned()),
        took: None,
    }
}

/// A job of the version's group runs on a phone and ends so; whatever becomes of it is not the matter.
fn runs(board: &mut Board, version: u8, job: u128, fact: &Fact, now: Timestamp) {
    let group = i64::from(version);
    let &Fact::AttemptEnded { device_id, .. } = fact else { panic!("{fact:?} is no end") };
    submit(board, version, job..job + 1, now);
    board.follow(job::Id(job), now, &started(group, device_id.0));
    board.follow(job::Id(job), now, fact);
    board.follow(job::Id(job), now, &completed(group, Status::Running));
}

fn fails(board: &mut Board, version: u8, device: u128, now: Timestamp) {
    let fault = end(device, attempt::Outcome::Errored, Reason::DeviceFault, "unplugged");
    runs(board, version, 1000 + device, &fault, now);
}

fn passes(board: &mut Board, version: u8, device: u128, now: Timestamp) {
    runs(board, version, 1000 + device, &ended(device), now);
}

fn phones(count: u128) -> Vec<Device> {
    (1..=count).map(|id| phone(id, None)).collect()
}

/// Twelve phones of which the first has failed three times with a version that passes on the others.
fn with_a_bad_phone() -> (Board, Quarantine) {
    let mut board = board(phones(12));
    (2..=12).for_each(|device| passes(&mut board, 1, device, at(0)));
    for now in [10, 20, 40] {
        assert_eq!(board.take_rulings(), []);
        fails(&mut board, 1, 1, at(now));
    }
    let quarantine = quarantine(&mut board, 1);
    (board, quarantine)
}

/// The only ruling: of this phone.
fn quarantine(board: &mut Board, phone: u128) -> Quarantine {
    let rulings = board.take_rulings();
    match rulings.as_slice() {
        [Ruling::Quarantine { device, quarantine }] if device.0 == phone => quarantine.clone(),
        _ => panic!("not a quarantine of phone {phone}: {rulings:?}"),
    }
}

#[test]
fn a_phone_that_fails_is_asked_ever_later() {
    let mut board = board(phones(2));
    passes(&mut board, 1, 2, at(0));
    submit(&mut board, 1, 1..2, at(0));
    fails(&mut board, 1, 1, at(10));
    assert_eq!(ask(&mut board, &[1], at(14)), []);
    assert_eq!(board.next_due(), Some(at(15)));
    assert_eq!(ask(&mut board, &[1], at(15)), [(1, 1)]);
    board.undo(device::Id(1), at(15));
    fails(&mut board, 1, 1, at(20));
    assert_eq!((ask(&mut board, &[1], at(29)), board.next_due()), (vec![], Some(at(30))));
}

#[test]
fn a_phone_that_fails_again_and_again_is_out_and_then_proves_itself() {
    let (mut board, quarantine) = with_a_bad_phone();
    assert_eq!((quarantine.since, quarantine.until, quarantine.in_a_row), (at(40), at(640), 1));
    assert_eq!(quarantine.evidence, "3 of the last 3 attempts failed: device_fault 3 times");
    submit(&mut board, 1, 1..2, at(50));
    submit(&mut board, 2, 2..3, at(45));
    assert_eq!(ask(&mut board, &[1], at(639)), [], "it is out");
    assert_eq!(board.next_due(), Some(at(640)));
    let probe = board.propose(&[device::Id(1)], at(640)).remove(0);
    assert_eq!(probe.job, job::Id(1), "nothing is known of version 2");
    assert_eq!(probe.choice, Choice::Probe);
    board.follow(job::Id(1), at(640), &started(1, 1));
    board.follow(job::Id(1), at(700), &ended(1));
    let left = self::quarantine(&mut board, 1);
    assert_eq!(left, Quarantine { ended_at: Some(at(700)), ..quarantine });
    assert_eq!(ask(&mut board, &[1], at(700)), [(1, 2)], "it is trusted again");
}

#[test]
fn a_phone_that_fails_its_probe_is_out_for_twice_as_long() {
    let (mut board, _) = with_a_bad_phone();
    let mut minutes = vec![];
    let mut now = 640;
    for _ in 0..5 {
        fails(&mut board, 1, 1, at(now));
        let quarantine = quarantine(&mut board, 1);
        minutes.push(quarantine.until.duration_since(at(now)).as_mins());
        now += quarantine.until.duration_since(at(now)).as_secs();
    }
    assert_eq!(minutes, [20, 40, 80, 160, 160]);
}

#[test]
fn a_probe_may_be_any_job_if_there_is_no_better() {
    let (mut board, quarantine) = with_a_bad_phone();
    submit(&mut board, 2, 2..3, at(45));
    assert_eq!(ask(&mut board, &[1], quarantine.until), [(1, 2)]);
}

#[test]
fn a_probe_that_is_given_back_proves_nothing() {
    let (mut board, quarantine) = with_a_bad_phone();
    submit(&mut board, 1, 1..3, at(50));
    assert_eq!(ask(&mut board, &[1], quarantine.until), [(1, 1)]);
    board.follow(job::Id(1), quarantine.until, &started(1, 1));
    let back = end(1, attempt::Outcome::Released, Reason::Released, "the agent leaves");
    board.follow(job::Id(1), quarantine.until, &back);
    assert_eq!(board.take_rulings(), []);
    let again = board.propose(&[device::Id(1)], quarantine.until).remove(0);
    assert_eq!(again.choice, Choice::Probe);
}

#[test]
fn a_probe_respects_limits() {
    let (mut board, quarantine) = with_a_bad_phone();
    submit(&mut board, 1, 1..2, at(50));
    let limits = crate::model::limits::OrgLimits { weight: 1, max_running: Some(0), paused: false };
    board.follow_limit(&key(1).org_id, at(50), &Fact::OrgChanged { limits });
    assert_eq!(ask(&mut board, &[1], quarantine.until), []);
}

#[test]
fn what_the_store_says_of_a_quarantine_holds() {
    let (_, quarantine) = with_a_bad_phone();
    let out = Device { state: State::Quarantined, quarantine: Some(quarantine.clone()), ..phone(1, None) };
    let mut board = board(vec![out.clone(), phone(2, None)]);
    submit(&mut board, 1, 1..2, at(50));
    assert_eq!(ask(&mut board, &[1], at(100)), [], "a server that starts anew knows it");
    let enabled = Quarantine { ended_at: Some(at(110)), ..quarantine };
    board.put_devices(
        vec![Device { state: State::Idle, quarantine: Some(enabled), ..out }, phone(2, None)],
        at(110),
    );
    assert_eq!(ask(&mut board, &[1], at(110)), [(1, 1)], "an operator knows better");
    let mut now = 120;
    passes(&mut board, 1, 2, at(now));
    let again = loop {
        fails(&mut board, 1, 1, at(now));
        match board.take_rulings().pop() {
            Some(Ruling::Quarantine { quarantine, .. }) => break quarantine,
            _ => now += 1,
        }
    };
    assert_eq!(again.in_a_row, 2, "what it had behind it counts");
}

#[test]
fn a_board_read_anew_keeps_what_was_learned() {
    let (mut old, quarantine) = with_a_bad_phone();
    let mut board = board(phones(12));
    board.put_health(old.health());
    submit(&mut board, 1, 1..2, at(50));
    assert_eq!(ask(&mut board, &[1], at(100)), []);
    assert_eq!(board.rests_until(device::Id(1), at(100)), Some(quarantine.until));
    assert_eq!(old.take_rulings(), []);
}

#[test]
fn no_more_than_a_tenth_goes_at_once() {
    let mut board = board(phones(12));
    (3..=12).for_each(|device| passes(&mut board, 1, device, at(0)));
    for now in 1..10 {
        fails(&mut board, 1, 1, at(now));
        fails(&mut board, 1, 2, at(now));
    }
    let out = quarantine(&mut board, 1);
    assert_eq!(out.since, at(3));
    fails(&mut board, 1, 2, at(602));
    assert_eq!(board.take_rulings(), [], "phone 1 went less than 10 min ago");
    fails(&mut board, 1, 2, at(603));
    assert_eq!(quarantine(&mut board, 2).since, at(603));
}

#[test]
fn what_no_device_can_help_is_not_held_against_one() {
    let mut board = board(phones(2));
    passes(&mut board, 1, 2, at(0));
    for (outcome, reason) in [
        (attempt::Outcome::Lost, Reason::LeaseLost),
        (attempt::Outcome::Released, Reason::Released),
        (attempt::Outcome::Cancelled, Reason::Cancelled),
        (attempt::Outcome::TimedOut, Reason::Timeout),
        (attempt::Outcome::Errored, Reason::NoTests),
        (attempt::Outcome::Errored, Reason::ProjectInvalid),
        (attempt::Outcome::Errored, Reason::RunnerCrashed),
        (attempt::Outcome::Errored, Reason::ReportContradicts),
    ] {
        for _ in 0..9 {
            runs(&mut board, 1, 1001, &end(1, outcome, reason, ""), at(1));
        }
        assert_eq!(board.take_rulings(), [], "{outcome} {reason}");
        assert_eq!(board.rests_until(device::Id(1), at(1)), None, "{outcome} {reason}");
    }
}

#[test]
fn the_jobs_of_a_build_that_fails_everywhere_end_and_no_phone_is_blamed() {
    let mut board = board(phones(4));
    submit(&mut board, 1, 1..4, at(0));
    submit(&mut board, 2, 4..5, at(0));
    (1..=3).for_each(|device| fails(&mut board, 1, device, at(10)));
    assert_eq!(board.take_rulings(), []);
    fails(&mut board, 1, 4, at(10));
    let rulings = board.take_rulings();
    let [Ruling::GiveUp { jobs, detail }] = rulings.as_slice() else { panic!("{rulings:?}") };
    assert_eq!(*jobs, [job::Id(1), job::Id(2), job::Id(3)]);
    let seen =
        (1..=4).map(|id| format!("phone-{id} device_fault (unplugged)")).collect::<Vec<_>>().join("; ");
    let short = build(1).sha256.short();
    assert_eq!(
        *detail,
        format!(
            "build {short} failed on 4 of 4 devices that tried it, for reasons other than its tests, and is not tried before \
             2026-11-22T10:10:10Z: {seen}"
        )
    );
    assert_eq!(ask(&mut board, &[1], at(20)), [(1, 4)], "others go on");
    // The store ends them; what comes later ends, too, for a while.
    (1..=3).for_each(|job| board.follow(job::Id(job), at(20), &completed(1, Status::Queued)));
    submit(&mut board, 1, 5..6, at(609));
    assert!(matches!(&board.take_rulings()[..], [Ruling::GiveUp { jobs, .. }] if *jobs == [job::Id(5)]));
    submit(&mut board, 1, 6..7, at(610));
    assert_eq!((board.take_rulings(), ask(&mut board, &[2], at(610))), (vec![], vec![(2, 6)]));
    fails(&mut board, 1, 2, at(620));
    submit(&mut board, 1, 7..8, at(621));
    assert!(matches!(&board.take_rulings()[..], [Ruling::GiveUp { .. }]), "one more failure is enough");
}

#[test]
fn the_jobs_of_a_build_that_no_phone_can_install_end() {
    let mut board = board(phones(9));
    submit(&mut board, 1, 1..2, at(0));
    for device in 1..=3 {
        assert_eq!(board.take_rulings(), []);
        let refused = end(device, attempt::Outcome::Errored, Reason::InstallFault, "NO_MATCHING_ABIS");
        runs(&mut board, 1, 1000 + device, &refused, at(10));
    }
    assert!(matches!(&board.take_rulings()[..], [Ruling::GiveUp { jobs, .. }] if *jobs == [job::Id(1)]));
}

#[test]
fn agents_that_fail_break_no_build() {
    let mut board = board(phones(9));
    submit(&mut board, 1, 1..2, at(0));
    for device in 1..=9 {
        let full = end(device, attempt::Outcome::Errored, Reason::AgentFault, "the disk is full");
        runs(&mut board, 1, 1000 + device, &full, at(10));
    }
    assert_eq!(board.take_rulings(), []);
}

#[test]
fn a_phone_that_is_alone_shares_the_blame_with_the_build() {
    let mut board = board(phones(1));
    let failures = (1..9).find(|now| {
        fails(&mut board, 1, 1, at(*now));
        !board.take_rulings().is_empty()
    });
    assert_eq!(failures, Some(5));
}

#[test]
fn a_hub_without_power_breaks_no_build() {
    let mut board = board(phones(9));
    submit(&mut board, 1, 1..2, at(0));
    board.put_devices(
        phones(9).into_iter().map(|phone| Device { state: State::Offline, ..phone }).collect(),
        at(9),
    );
    (1..=9).for_each(|device| fails(&mut board, 1, device, at(10)));
    assert_eq!(board.take_rulings(), []);
}

#[test]
fn a_build_of_another_org_is_another_build() {
    let mut board = board(phones(4));
    let theirs = group::Key { org_id: "other".parse().unwrap(), ..key(1) };
    submit_to(&mut board, 7, theirs, Some(build(1)), 1..2, at(0));
    (1..=4).for_each(|device| fails(&mut board, 1, device, at(10)));
    assert_eq!((board.take_rulings(), ask(&mut board, &[1], at(20))), (vec![], vec![(1, 1)]));
}

#[test]
fn a_paused_job_of_a_broken_build_ends_when_it_goes_on() {
    let mut board = board(phones(4));
    submit(&mut board, 1, 1..2, at(0));
    let (org, label) = (key(1).org_id, key(1).app_version_id);
    board.set_paused(&org, &label, true, at(1));
    (1..=4).for_each(|device| fails(&mut board, 1, device, at(10)));
    assert_eq!(board.take_rulings(), []);
    board.set_paused(&org, &label, false, at(20));
    assert!(matches!(&board.take_rulings()[..], [Ruling::GiveUp { jobs, .. }] if *jobs == [job::Id(1)]));
}

#[test]
fn a_build_that_passes_in_time_is_spared() {
    let mut board = board(phones(8));
    (1..=3).for_each(|device| fails(&mut board, 1, device, at(10)));
    (5..=7).for_each(|device| passes(&mut board, 1, device, at(10)));
    submit(&mut board, 1, 1..2, at(0));
    fails(&mut board, 1, 4, at(20));
    passes(&mut board, 1, 8, at(20));
    assert_eq!(board.take_rulings(), [], "half of the phones are fine");
    assert_eq!(ask(&mut board, &[8], at(30)), [(8, 1)]);
}
