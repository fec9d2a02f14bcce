#![allow(clippy::unwrap_used, reason = "all of this is tests, also what is outside of test functions")]

mod bounds;
mod charts;
mod documents;
mod histories;
mod replays;
mod targets;

use qgjob_simulation::engine::Trace;
use qgjob_simulation::metrics::{self, Measured, Yardstick};
use qgjob_simulation::policy::Choice;
use qgjob_simulation::report;
use qgjob_simulation::workload::Workload;
use qgjob_simulation::workload::catalogue::{self, Changes};

fn named(name: &str, seed: u64, devices: Option<usize>) -> Workload {
    catalogue::named(name).unwrap().draw(seed, Changes { devices, load: None })
}

fn replayed(choice: &Choice, workload: &Workload) -> (Trace, Measured) {
    let trace = report::replay(choice, workload, 1);
    let measured = metrics::measure(workload, &Yardstick::of(workload), &trace);
    (trace, measured)
}
