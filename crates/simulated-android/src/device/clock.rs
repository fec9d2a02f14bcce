//! Dates as Android prints them, in UTC.

use std::time::Duration;

/// `2026-01-31 23:59:59`.
pub(super) fn date_time(since_1970: Duration) -> String {
    let seconds = since_1970.as_secs();
    let (year, month, day) = date(seconds / 86_400);
    let of_day = seconds % 86_400;
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

/// `01-31 23:59:59.123`, as `logcat` begins its lines.
pub(super) fn log_stamp(since_1970: Duration) -> String {
    format!("{}.{:03}", &date_time(since_1970)[5..], since_1970.subsec_millis())
}

/// Howard Hinnant's days-to-civil rule, in which years begin in March so that leap days come last.
fn date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_match_the_calendar() {
        assert_eq!(date_time(Duration::ZERO), "1970-01-01 00:00:00");
        assert_eq!(date_time(Duration::from_secs(1_709_251_199)), "2024-02-29 23:59:59");
        assert_eq!(log_stamp(Duration::from_millis(1_767_225_600_042)), "01-01 00:00:00.042");
    }
}
