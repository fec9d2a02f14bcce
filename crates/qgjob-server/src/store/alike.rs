//! What every store concludes alike from what it keeps.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use qgjob_core::model::device::Installed;
use qgjob_core::model::refusal::Refusal;
use qgjob_core::model::{agent, device};

/// How long an idempotency key is remembered.
pub(super) const KEY_KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);

/// An operator's word counts most, then whether the device can be reached.
pub(super) fn device_state(online: bool, drained: bool, held: bool, quarantined: bool) -> device::State {
    match (drained, online, held, quarantined) {
        (true, ..) => device::State::Drained,
        (false, false, ..) => device::State::Offline,
        (false, true, true, _) => device::State::Busy,
        (false, true, false, true) => device::State::Quarantined,
        (false, true, false, false) => device::State::Idle,
    }
}

pub(super) fn agent_state(online: bool, draining: bool) -> agent::State {
    match (online, draining) {
        (false, _) => agent::State::Offline,
        (true, true) => agent::State::Draining,
        (true, false) => agent::State::Online,
    }
}

/// Whether two ledgers name the same bytes, whenever that was verified.
pub(super) fn same_apps(before: &[Installed], now: &[Installed]) -> bool {
    let has = |ledger: &[Installed], one: &Installed| {
        ledger.iter().any(|other| other.app_id == one.app_id && other.sha256 == one.sha256)
    };
    before.len() == now.len() && now.iter().all(|one| has(before, one))
}

/// Milliseconds from one time to another; 0 when the clock was set back between them.
pub(super) fn between_ms(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.duration_since(from).as_millis()).unwrap_or(0)
}

/// `now` and a while, as long as the calendar allows.
pub(super) fn after(now: Timestamp, wait: Duration) -> Result<Timestamp, Refusal> {
    let wait = SignedDuration::try_from(wait).ok().and_then(|wait| now.checked_add(wait).ok());
    wait.ok_or_else(|| Refusal::Invalid("the time is too long".to_owned()))
}
