//! Replays are the same every time, and what happens in them could happen.

use std::collections::HashMap;
use std::fmt::Write;

use qgjob_simulation::policy::{Choice, End};
use qgjob_simulation::report::{self, Source};
use qgjob_simulation::workload::Workload;
use qgjob_simulation::workload::catalogue::{self, Changes};

use super::{named, replayed};

#[test]
fn the_workloads_are_those_of_the_study() {
    let facts = |name, seed| {
        let workload = named(name, seed, None);
        let work: f64 = workload.groups.iter().map(|group| group.work()).sum();
        let installs: f64 = workload.groups.iter().map(|group| group.install_s).sum();
        format!("{} runs, {} jobs, {work:.3} s, {installs:.3} s", workload.runs.len(), workload.jobs())
    };
    // What the study's own generators give for these seeds.
    assert_eq!(facts("a2", 0), "40 runs, 2000 jobs, 205129.501 s, 2400.000 s");
    assert_eq!(facts("d1", 0), "6198 runs, 24954 jobs, 1848967.266 s, 374496.162 s");
    assert_eq!(facts("d4", 0), "788 runs, 81520 jobs, 8657142.536 s, 77950.140 s");
}

#[test]
fn each_policy_does_what_it_did() {
    // A load at which devices are idle now and then, so that it matters which of them asks first.
    let changes = Changes { devices: Some(40), load: Some(0.25) };
    let source = Source::Named(catalogue::named("d4").unwrap(), changes);
    let comparison = report::compare(&source, &[3], &Choice::all(), 2);
    let mut table = String::new();
    for result in &comparison.policies {
        let metrics = &result.metrics;
        writeln!(
            table,
            "{:14} {:5} installs {:6.3} makespan {:.3} run {:5.0} {:5.0} slowdown {:6.3} jain {:.3}",
            result.policy,
            metrics.installs,
            metrics.installs_over_bound,
            metrics.makespan_over_bound,
            metrics.completion_s.mean,
            metrics.completion_s.p95,
            metrics.slowdown.mean,
            metrics.jain
        )
        .unwrap();
    }
    insta::assert_snapshot!(table, @r"
    qgjob            280 installs  1.651 makespan 1.008 run  1499  2850 slowdown  1.587 jain 0.926
    fifo             407 installs  2.068 makespan 1.021 run  1719  4003 slowdown  1.998 jain 0.938
    priority-fifo    404 installs  2.025 makespan 1.022 run  1675  4003 slowdown  1.890 jain 0.938
    round-robin      407 installs  2.474 makespan 1.026 run  1671  3064 slowdown  1.764 jain 0.906
    one-device        79 installs  3.550 makespan 2.200 run 11647 30295 slowdown 12.486 jain 0.823
    least-used       402 installs  2.088 makespan 1.004 run  1705  3964 slowdown  1.996 jain 0.941
    random           407 installs  2.317 makespan 1.020 run  1799  4012 slowdown  2.107 jain 0.937
    sticky-30s       231 installs  1.980 makespan 1.059 run  1991  4055 slowdown  2.271 jain 0.983
    ");
}

#[test]
fn a_seed_says_everything() {
    let source = Source::Named(catalogue::named("d4").unwrap(), Changes { devices: Some(30), load: None });
    let compared = |threads| {
        let mut comparison = report::compare(&source, &[5, 6], &Choice::all(), threads);
        for result in &mut comparison.policies {
            result.metrics.decision_ns.p50 = 0.0;
            result.metrics.decision_ns.p99 = 0.0;
        }
        comparison
    };
    assert_eq!(compared(1), compared(4));
}

#[test]
fn what_happens_could_happen() {
    for (name, devices) in [("a3", 9), ("b9", 30), ("d1", 12), ("d2b", 15)] {
        let workload = named(name, 2, Some(devices));
        for choice in Choice::all() {
            let (trace, measured) = replayed(&choice, &workload);
            let what = format!("{name}, {}", choice.name());
            assert_eq!(trace.attempts.len(), workload.jobs(), "{what}: each job has one attempt");
            assert!(trace.attempts.iter().all(|attempt| attempt.end == End::Done), "{what}");
            let faults = measured.metrics.faults;
            assert_eq!((faults.jobs_lost, faults.jobs_done_twice), (0.0, 0.0), "{what}");
            possible(&workload, &trace.attempts, choice.name() == "random", &what);
        }
    }
}

/// Whether each device does one thing at a time, of what it can serve, and installs what it lacks.
fn possible(
    workload: &Workload,
    attempts: &[qgjob_simulation::engine::Attempt],
    reinstalls: bool,
    what: &str,
) {
    let mut by_device: HashMap<usize, Vec<_>> = HashMap::new();
    for attempt in attempts {
        by_device.entry(attempt.device).or_default().push(*attempt);
    }
    for (device, mut attempts) in by_device {
        attempts.sort_by(|a, b| a.started.total_cmp(&b.started));
        let mut free = 0.0;
        let mut installed: Vec<(usize, usize)> = Vec::new();
        for attempt in attempts {
            let group = &workload.groups[attempt.group];
            assert!(attempt.started >= free, "{what}: device {device} does two things at once");
            assert!(attempt.started >= group.submitted_at, "{what}: before it was submitted");
            assert!(workload.kinds[workload.devices[device].kind].contains(&group.class), "{what}");
            let took = attempt.ended - attempt.started - attempt.install_s;
            assert!((took - group.jobs[attempt.job].duration_s).abs() < 1e-6, "{what}: took {took}");
            free = attempt.ended;

            let had = installed.contains(&(group.app, group.version));
            if !reinstalls {
                assert_eq!(attempt.install_s == 0.0, had, "{what}: device {device} at {}", attempt.started);
            }
            installed.retain(|(app, _)| *app != group.app);
            if installed.len() == workload.apps_per_device {
                installed.remove(0);
            }
            installed.push((group.app, group.version));
        }
    }
}

#[test]
fn with_faults_each_job_is_over_once() {
    for name in ["d4", "f-black-holes", "f-weak-devices", "f-broken-builds", "f-poison"] {
        let workload = named(name, 1, Some(60));
        for choice in Choice::all() {
            let (trace, measured) = replayed(&choice, &workload);
            let faults = measured.metrics.faults;
            assert_eq!((faults.jobs_lost, faults.jobs_done_twice), (0.0, 0.0), "{name}, {}", choice.name());
            assert!(faults.attempts > 0.0, "{name}, {}: nothing broke", choice.name());
            let over = trace.attempts.iter().filter(|attempt| attempt.end.settles()).count();
            assert_eq!(over, workload.jobs(), "{name}, {}", choice.name());
        }
    }
}
