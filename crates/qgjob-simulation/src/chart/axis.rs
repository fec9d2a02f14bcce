//! Times on the axis of a chart.

/// Distances between ticks, in seconds.
const STEPS: [f64; 20] = [
    1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0, 3_600.0, 7_200.0, 10_800.0,
    21_600.0, 43_200.0, 86_400.0, 172_800.0, 604_800.0,
];
const MOST_TICKS: f64 = 14.0;

/// Where to put ticks from 0 to `end_s`: a few, at round times.
pub(super) fn ticks(end_s: f64) -> Vec<f64> {
    let step = STEPS.into_iter().find(|step| end_s / step <= MOST_TICKS).unwrap_or(end_s / MOST_TICKS);
    (0..=(end_s / step) as u32).map(|at| f64::from(at) * step).collect()
}

/// A time for people: `45 s`, `20 min`, `1 h 30`, `2 d 03 h`.
pub(super) fn span(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    let (hours, minutes) = (whole / 3_600, whole / 60 % 60);
    match whole {
        0 => "0".to_owned(),
        1..120 => format!("{whole} s"),
        120..3_600 if whole.is_multiple_of(60) => format!("{minutes} min"),
        120..3_600 => format!("{minutes} min {:02}", whole % 60),
        3_600..172_800 if minutes == 0 => format!("{hours} h"),
        3_600..172_800 => format!("{hours} h {minutes:02}"),
        _ => format!("{} d {:02} h", hours / 24, hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_few_and_round() {
        assert_eq!(ticks(100.0), [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 100.0]);
        for end in [3.0, 77.0, 4_400.0, 36_000.0, 1e6, 1e8] {
            let count = ticks(end).len();
            assert!((3..=15).contains(&count), "{end}: {count}");
        }
    }

    #[test]
    fn times_read_well_at_their_edges() {
        let spans: Vec<_> = [0.0, 119.0, 120.0, 150.0, 3_600.0, 5_400.0, 172_800.0].map(span).into();
        assert_eq!(spans, ["0", "119 s", "2 min", "2 min 30", "1 h", "1 h 30", "2 d 00 h"]);
    }
}
