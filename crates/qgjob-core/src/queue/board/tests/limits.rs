//! Limits on the board, by events and when it is read anew.

use super::*;
use crate::model::limits::{Limited, OrgLimits};
use crate::model::name::OrgId;

fn qualgent() -> OrgId {
    "qualgent".parse().unwrap()
}

fn org_changed(max_running: Option<u32>, paused: bool) -> Fact {
    Fact::OrgChanged { limits: OrgLimits { weight: 1, max_running, paused } }
}

/// A group of jobs that name `staging`.
fn submit_named(board: &mut Board, version: u8, jobs: std::ops::Range<u128>, now: Timestamp) {
    let key = group::Key { concurrency_group: Some("staging".parse().unwrap()), ..key(version) };
    submit_to(board, i64::from(version) + 10, key, Some(build(version)), jobs, now);
}

#[test]
fn an_org_that_is_paused_or_at_its_cap_gets_nothing_more() {
    let mut board = board(vec![phone(1, Some(1)), phone(2, Some(2))]);
    submit(&mut board, 1, 1..2, at(0));
    submit(&mut board, 2, 2..3, at(0));
    board.follow_limit(&qualgent(), at(0), &org_changed(None, true));
    assert_eq!(ask(&mut board, &[1, 2], at(1)), []);
    board.follow_limit(&qualgent(), at(2), &org_changed(Some(1), false));
    assert_eq!(ask(&mut board, &[1, 2], at(3)), [(1, 1)]);
    board.follow(job::Id(1), at(3), &started(1, 1));
    board.follow(job::Id(1), at(9), &completed(1, Status::Running));
    assert_eq!(ask(&mut board, &[2], at(9)), [], "a cancelled job counts until its device is clean");
    board.follow(job::Id(1), at(10), &ended(1));
    assert_eq!(ask(&mut board, &[2], at(10)), [(2, 2)]);
}

#[test]
fn jobs_of_a_concurrency_group_take_turns_over_versions() {
    let mut board = board(vec![phone(1, Some(1)), phone(2, Some(2)), phone(3, Some(2))]);
    submit_named(&mut board, 1, 1..2, at(0));
    submit_named(&mut board, 2, 2..3, at(0));
    submit(&mut board, 2, 3..4, at(1));
    assert_eq!(
        ask(&mut board, &[1, 2], at(3)),
        [(1, 1), (2, 3)],
        "a job that names nothing does not wait for it"
    );
    let limit = Fact::ConcurrencyChanged { concurrency_group: "staging".parse().unwrap(), limit: 2 };
    board.follow_limit(&qualgent(), at(4), &limit);
    assert_eq!(ask(&mut board, &[3], at(4)), [(3, 2)]);
}

#[test]
fn a_promoted_job_comes_first_and_stays_so_when_it_is_queued_again() {
    let mut board = board(vec![phone(1, None)]);
    submit(&mut board, 1, 1..2, at(0));
    submit(&mut board, 2, 2..3, at(1));
    board.follow(job::Id(2), at(2), &Fact::JobPromoted { group_id: 2 });
    assert_eq!(ask(&mut board, &[1], at(5)), [(1, 2)]);
    board.follow(job::Id(2), at(5), &started(2, 1));
    board.follow(job::Id(2), at(9), &ended(1));
    let again = |promoted_at| match queued(2, None, &[]) {
        Fact::JobQueued { group_id, priority, not_before, reason, detail, avoid, predicted_ms, .. } => {
            Fact::JobQueued {
                group_id,
                priority,
                not_before,
                reason,
                detail,
                avoid,
                promoted_at,
                predicted_ms,
            }
        }
        other => other,
    };
    board.follow(job::Id(2), at(9), &again(Some(at(2))));
    assert_eq!(ask(&mut board, &[1], at(10)), [(1, 2)]);
}

#[test]
fn a_board_read_anew_knows_all_limits_and_who_was_promoted() {
    let mut board = board(vec![phone(1, None), phone(2, None)]);
    let limits = Limited {
        org: OrgLimits { weight: 3, max_running: Some(1), paused: false },
        paused: ["v1".parse().unwrap()].into(),
        concurrency: [("staging".parse().unwrap(), 2)].into(),
    };
    board.put_limits(&qualgent(), &limits, at(0));
    submit(&mut board, 1, 1..2, at(0));
    submit(&mut board, 2, 2..3, at(1));
    board.put_group(3, key(3), Some(build(3)), 60.0, at(0));
    let promoted = Waiting {
        group: 3,
        priority: 1,
        queued_at: at(2),
        not_before: None,
        avoid: vec![],
        promoted_at: Some(at(3)),
        predicted_ms: 60_000,
    };
    board.put_waiting(job::Id(3), promoted, at(4));
    assert_eq!(ask(&mut board, &[1, 2], at(5)), [(1, 3)], "one job at a time, the promoted one first");
}
