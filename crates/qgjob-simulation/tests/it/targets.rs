//! The targets of the benchmark that are soon checked; `make bench-placement` checks all.

use qgjob_simulation::policy::Choice;

use super::{named, replayed};

#[test]
fn bursts_meet_their_targets() {
    for (name, makespan, installs) in [("a1", 1.02, 50.0), ("a2", 1.16, 330.0), ("a3", 1.18, 350.0)] {
        let own = Choice::named("qgjob").unwrap();
        let measured = [0, 1, 2].map(|seed| replayed(&own, &named(name, seed, None)).1.metrics);
        let mean = |value: fn(&qgjob_simulation::metrics::Metrics) -> f64| {
            measured.iter().map(value).sum::<f64>() / measured.len() as f64
        };
        assert!(mean(|metrics| metrics.makespan_over_bound) <= makespan, "{name}: {measured:#?}");
        assert!(mean(|metrics| metrics.installs) <= installs, "{name}: {measured:#?}");
    }
}

#[test]
fn a_stream_of_commits_meets_its_targets() {
    let (_, measured) = replayed(&Choice::named("qgjob").unwrap(), &named("b5", 10, None));
    let metrics = measured.metrics;
    assert!(metrics.installs_over_bound <= 1.13, "{metrics:#?}");
    assert!(metrics.slowdown.mean <= 1.20, "{metrics:#?}");
    assert!(metrics.jain >= 0.96, "{metrics:#?}");
}

#[test]
fn devices_are_blamed_only_for_what_they_do() {
    let own = Choice::named("qgjob").unwrap();
    let (_, holes) = replayed(&own, &named("f-black-holes", 0, None));
    let faults = holes.metrics.faults;
    assert!(faults.good_jobs_failed <= 15.0 && faults.quarantines > 0.0, "{faults:?}");
    let (_, builds) = replayed(&own, &named("f-broken-builds", 0, None));
    assert_eq!(builds.metrics.faults.healthy_quarantined, 0.0, "{:?}", builds.metrics.faults);
}
