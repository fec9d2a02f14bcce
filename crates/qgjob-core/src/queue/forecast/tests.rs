use proptest::prelude::*;

use super::*;
use crate::model::selector::Platform;

const APP: &str = "dev.qgjob.demo";

fn org(name: &str) -> OrgId {
    name.parse().unwrap()
}

fn test(name: &str) -> TestPath {
    format!("tests/{name}.spec.js").parse().unwrap()
}

fn build(version: u8, app_id: &str) -> Build {
    Build {
        sha256: Sha256([version; 32]),
        size_bytes: 1,
        platform: Platform::Android,
        app_id: app_id.to_owned(),
        version_name: "1".to_owned(),
        version_code: "1".to_owned(),
        launch_activity: None,
    }
}

/// Acme's forecast after the file ran for so long, the oldest first.
fn after(runs: &[f64]) -> Forecast {
    let mut forecast = Forecast::default();
    for seconds in runs {
        forecast.note_job(&org("acme"), APP, &test("login"), *seconds);
    }
    forecast
}

fn of_login(forecast: &Forecast) -> f64 {
    forecast.jobs_s(&org("acme"), Some(APP), &[test("login")])[0]
}

/// Whether `found` is within a hundredth of `wanted`.
fn near(found: f64, wanted: f64) -> bool {
    (found - wanted).abs() <= wanted * 0.01
}

#[test]
fn what_nobody_knows_gets_the_prior() {
    let forecast = Forecast::default();
    assert_eq!(forecast.jobs_s(&org("acme"), None, &[test("a"), test("b")]), [PRIOR_S, PRIOR_S]);
    assert_eq!(forecast.install_s(&build(1, APP), Target::Device), PRIOR_S);
}

#[test]
fn one_run_is_half_believed_and_three_are_believed() {
    let one = of_login(&after(&[10.0]));
    assert!(10.0 < one && one < 30.0, "{one}");
    assert!(near(of_login(&after(&[10.0, 10.0, 10.0])), 10.0));
}

#[test]
fn one_endless_run_among_nine_moves_nothing() {
    for place in 0..9 {
        let mut runs = [100.0, 102.0, 98.0, 101.0, 99.0, 100.0, 103.0, 97.0, 100.0];
        runs[place] *= 100.0;
        let found = of_login(&after(&runs));
        assert!((found - 100.0).abs() < 2.0, "the outlier at {place}: {found}");
    }
}

#[test]
fn a_file_that_became_slower_is_believed_after_half_its_latest_runs() {
    let mut forecast = after(&[20.0; 30]);
    (0..4).for_each(|_| forecast.note_job(&org("acme"), APP, &test("login"), 80.0));
    assert!(near(of_login(&forecast), 20.0));
    (0..2).for_each(|_| forecast.note_job(&org("acme"), APP, &test("login"), 80.0));
    assert!(near(of_login(&forecast), 80.0), "{}", of_login(&forecast));
}

#[test]
fn a_new_file_is_judged_by_its_app_and_else_by_its_org() {
    let mut forecast = Forecast::default();
    for at in 0..50 {
        forecast.note_job(&org("acme"), APP, &test(&at.to_string()), 10.0);
        forecast.note_job(&org("acme"), "dev.qgjob.other", &test(&at.to_string()), 300.0);
    }
    let new = |org: &OrgId, app| forecast.jobs_s(org, app, &[test("new")])[0];
    assert!(near(new(&org("acme"), Some(APP)), 10.0));
    assert!(near(new(&org("acme"), Some("dev.qgjob.other")), 300.0));
    let unknown_app = new(&org("acme"), None);
    assert!(10.0 < unknown_app && unknown_app <= 300.0, "{unknown_app}");
    assert_eq!(new(&org("other"), Some(APP)), PRIOR_S, "an org learns from its own jobs only");
}

#[test]
fn a_file_is_known_by_its_app_and_else_by_the_app_that_ran_it_last() {
    let mut forecast = after(&[10.0; 9]);
    (0..9).for_each(|_| forecast.note_job(&org("acme"), "dev.qgjob.demo.debug", &test("login"), 40.0));
    let with = |app| forecast.jobs_s(&org("acme"), app, &[test("login")])[0];
    assert!(near(with(Some(APP)), 10.0));
    assert!(near(with(Some("dev.qgjob.demo.debug")), 40.0));
    assert!(near(with(None), 40.0), "the app version has no build yet");
    assert!(near(with(Some("dev.qgjob.demo.release")), 40.0));
}

#[test]
fn the_prior_of_skewed_durations_is_their_mean() {
    // The 63 quantiles of an exponential distribution with mean 100 s; its median is 69 s.
    let mut forecast = Forecast::default();
    for at in 0..63 {
        let seconds = -100.0 * (1.0 - (f64::from(at) + 0.5) / 63.0).ln();
        forecast.note_job(&org("acme"), APP, &test(&at.to_string()), seconds);
    }
    let new = forecast.jobs_s(&org("acme"), Some(APP), &[test("new")])[0];
    assert!((90.0..115.0).contains(&new), "{new}");
}

#[test]
fn an_install_is_known_by_build_then_app_then_kind() {
    let mut forecast = Forecast::default();
    for version in 0..30 {
        forecast.note_install(&build(version, APP), Target::Device, 20.0);
        forecast.note_install(&build(version, "dev.qgjob.huge"), Target::Device, 200.0);
    }
    (0..9).for_each(|_| forecast.note_install(&build(1, APP), Target::Device, 35.0));
    assert!(near(forecast.install_s(&build(1, APP), Target::Device), 35.0));
    assert!(near(forecast.install_s(&build(99, APP), Target::Device), 20.0), "another version of the app");
    assert!(near(forecast.install_s(&build(99, "dev.qgjob.huge"), Target::Device), 200.0));
    let of_kind = forecast.install_s(&build(99, "dev.qgjob.new"), Target::Device);
    assert!((20.0..=200.0).contains(&of_kind), "{of_kind}");
    assert_eq!(forecast.install_s(&build(1, APP), Target::Emulator), PRIOR_S, "kinds are not mixed");
}

#[test]
fn an_install_is_never_free() {
    let mut forecast = Forecast::default();
    (0..100).for_each(|_| forecast.note_install(&build(1, APP), Target::Emulator, 0.0));
    assert_eq!(forecast.install_s(&build(1, APP), Target::Emulator), 1.0);
}

#[test]
fn files_that_ran_longest_ago_are_forgotten() {
    let mut forecast = Forecast::default();
    let files = FILES + FILES / 4;
    for at in 0..files {
        forecast.note_job(&org("acme"), APP, &test(&at.to_string()), 10.0);
        if at % 1_000 == 0 {
            forecast.note_job(&org("acme"), APP, &test("often"), 500.0);
        }
    }
    let of = |name: &str| forecast.jobs_s(&org("acme"), Some(APP), &[test(name)])[0];
    assert!(of("often") > 400.0, "what runs again and again stays");
    assert!(forecast.files.get(&(org("acme"), test("0"))).is_none());
    assert!(forecast.files.get(&(org("acme"), test(&(files - 1).to_string()))).is_some());
}

#[test]
fn a_file_with_many_apps_keeps_the_latest() {
    let mut forecast = Forecast::default();
    for at in 0..20 {
        forecast.note_job(&org("acme"), &format!("app.of.branch{at}"), &test("login"), 10.0);
    }
    assert_eq!(forecast.files.get(&(org("acme"), test("login"))).map(Vec::len), Some(APPS_OF_FILE));
}

proptest! {
    /// A forecast lies between the least and the greatest that could be behind it.
    #[test]
    fn a_forecast_is_in_range(runs in proptest::collection::vec(0.0f64..100_000.0, 1..40)) {
        let found = of_login(&after(&runs));
        let least = runs.iter().copied().fold(PRIOR_S, f64::min);
        let greatest = runs.iter().copied().fold(PRIOR_S, f64::max);
        prop_assert!(least * 0.99 <= found && found <= greatest * 1.01, "{found} of {runs:?}");
    }

    /// Of the latest nine, the order does not matter; what was before does not, either.
    #[test]
    fn only_the_latest_nine_of_a_file_count(
        before in proptest::collection::vec(0.0f64..1_000.0, 0..80),
        mut latest in proptest::collection::vec(0.0f64..1_000.0, 9),
    ) {
        let mut runs = latest.clone();
        latest.reverse();
        runs.splice(0..0, before.iter().copied());
        let mut forecasts = [after(&runs), after(&latest)];
        // The vote of the org and the app is the same for both.
        for forecast in &mut forecasts {
            (0..63).for_each(|_| forecast.note_job(&org("acme"), APP, &test("other"), 50.0));
        }
        prop_assert_eq!(of_login(&forecasts[0]), of_login(&forecasts[1]));
    }

    /// However many are written, the bound holds, and the latest is there.
    #[test]
    fn the_bound_holds(most in 1usize..20, keys in proptest::collection::vec(0u8..60, 1..200)) {
        let mut remembered = Remembered::<u8, u8>::new(most);
        for key in keys {
            *remembered.of(key) = key;
            prop_assert_eq!(remembered.get(&key), Some(&key));
            prop_assert!((0..60).filter(|key| remembered.get(key).is_some()).count() <= most);
        }
    }
}
