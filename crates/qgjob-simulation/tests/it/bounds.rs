//! No policy is better than the bounds, on any workload.

use proptest::prelude::*;
use qgjob_simulation::bounds;
use qgjob_simulation::metrics::Yardstick;
use qgjob_simulation::policy::Choice;
use qgjob_simulation::workload::exported::{DeviceEntry, Document, InstalledEntry, JobEntry, SCHEMA};

use super::replayed;

const CLASSES: [&str; 3] = ["emulator", "tablet", "phone"];

fn device() -> impl Strategy<Value = DeviceEntry> {
    let serves = prop::sample::select(vec![vec![0], vec![0, 1], vec![2]]);
    let installed = prop::option::of((0_u8..2, 0_u8..3));
    (serves, installed).prop_map(|(serves, installed)| DeviceEntry {
        name: "device".to_owned(),
        classes: serves.into_iter().map(|class| CLASSES[class].to_owned()).collect(),
        installed: installed
            .into_iter()
            .map(|(org, version)| InstalledEntry {
                org: format!("org{org}"),
                app: None,
                version: version.to_string(),
            })
            .collect(),
    })
}

fn job() -> impl Strategy<Value = JobEntry> {
    let who = (0_u8..3, 0_u8..3, 0_usize..3);
    let times = (0_u8..4, 5.0..200.0_f64, 0.5..2.0_f64);
    (who, times, 1_u8..=10).prop_map(|((org, version, class), (at, duration_s, error), priority)| JobEntry {
        org: format!("org{org}"),
        app: None,
        version: version.to_string(),
        class: CLASSES[class].to_owned(),
        priority,
        run: None,
        submitted_at: f64::from(at) * 70.0,
        duration_s,
        predicted_s: Some(duration_s * error),
        install_s: None,
    })
}

fn document() -> impl Strategy<Value = Document> {
    // One device of each kind at least, so that every job can run.
    let kinds = [vec![0, 1], vec![2]].map(|serves| DeviceEntry {
        name: "device".to_owned(),
        classes: serves.into_iter().map(|class| CLASSES[class].to_owned()).collect(),
        installed: Vec::new(),
    });
    (prop::collection::vec(device(), 0..5), prop::collection::vec(job(), 1..40), 5.0..90.0_f64, 1_usize..3)
        .prop_map(move |(devices, jobs, install_s, apps)| Document {
            schema: SCHEMA.to_owned(),
            name: None,
            devices: devices.into_iter().chain(kinds.clone()).collect(),
            jobs,
            install_s: Some(install_s),
            apps_per_device: Some(apps),
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(192) })]

    #[test]
    fn no_policy_beats_a_bound(document in document()) {
        let workload = document.workload().unwrap();
        let yardstick = Yardstick::of(&workload);
        for choice in Choice::all() {
            let (_, measured) = replayed(&choice, &workload);
            let metrics = &measured.metrics;
            let least = 1.0 - 1e-9;
            prop_assert!(metrics.makespan_over_bound >= least, "{}: {metrics:?}", choice.name());
            prop_assert!(metrics.completion_over_bound >= least, "{}: {metrics:?}", choice.name());
            prop_assert!(metrics.installs_over_bound >= least, "{}: {metrics:?}", choice.name());
            for run in &measured.runs {
                prop_assert!(run.completion_s >= yardstick.ideal_s[run.run] * least, "{}", choice.name());
            }
        }
    }
}

#[test]
fn bounds_at_their_edges() {
    assert_eq!(bounds::installs_within(100.0, 10.0, 110.0, 0), 1, "one device does it just in time");
    assert_eq!(bounds::installs_within(101.0, 10.0, 110.0, 0), 2);
    assert_eq!(bounds::installs_within(1.0, 10.0, 11.0, 1), 0, "a warm device does it all");
    assert_eq!(bounds::installs_within(300.0, 10.0, 110.0, 1), 2, "two beside the warm one");
}

#[test]
fn a_bound_is_reached_where_it_can_be() {
    let job = |duration_s: f64| JobEntry {
        org: "org".to_owned(),
        app: None,
        version: "1".to_owned(),
        class: "phone".to_owned(),
        priority: 5,
        run: None,
        submitted_at: 0.0,
        duration_s,
        predicted_s: None,
        install_s: None,
    };
    let phone =
        DeviceEntry { name: "phone".to_owned(), classes: vec!["phone".to_owned()], installed: Vec::new() };
    let document = Document {
        schema: SCHEMA.to_owned(),
        name: None,
        devices: vec![phone.clone(), phone],
        jobs: vec![job(100.0), job(100.0), job(100.0), job(100.0)],
        install_s: Some(10.0),
        apps_per_device: None,
    };
    let workload = document.workload().unwrap();
    assert_eq!(bounds::makespan(&workload), 210.0);
    assert_eq!(bounds::mean_completion(&workload), 210.0);
    let (_, measured) = replayed(&Choice::named("fifo").unwrap(), &workload);
    assert_eq!(measured.metrics.makespan_s, 210.0);
}
