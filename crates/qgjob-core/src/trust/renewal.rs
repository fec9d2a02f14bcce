//! How long a pipeline stays logged in.

use jiff::{SignedDuration, Timestamp};

/// How long a token of kind `ci` works without being renewed.
pub const LIFE: SignedDuration = SignedDuration::from_mins(30);
/// Until when, from its making, it can be renewed while nothing that it submitted runs: uploads take their time.
const IDLE: SignedDuration = SignedDuration::from_hours(2);
/// Until when, from its making, it can be renewed at all.
const LONGEST: SignedDuration = SignedDuration::from_hours(24);

/// Until when a token works that was made at `made_at` and is renewed now; none when it cannot be renewed any more. `busy`: a
/// run that it submitted is not over.
pub fn until(made_at: Timestamp, now: Timestamp, busy: bool) -> Option<Timestamp> {
    let last = made_at + if busy { LONGEST } else { IDLE };
    (now < last).then(|| last.min(now + LIFE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_lasts_as_long_as_its_run_and_never_longer_than_a_day() {
        let at = |minutes| Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes);
        for (now, busy, until_) in [
            (0, false, Some(30)),
            (95, false, Some(120)),
            (119, false, Some(120)),
            (120, false, None),
            (120, true, Some(150)),
            (24 * 60 - 1, true, Some(24 * 60)),
            (24 * 60, true, None),
        ] {
            assert_eq!(until(at(0), at(now), busy), until_.map(at), "{now} {busy}");
        }
    }
}
