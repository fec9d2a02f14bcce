//! qgjob's own placement: the code that the server asks, fed with a workload.

use std::sync::Arc;

use qgjob_core::model::{device, job};
use qgjob_core::queue::placement::{
    self, App, Class, DeviceState, GroupKey, Installed, Org, Parameters, Placement, Version, Waiting,
};

use super::{Decision, End, Policy};
use crate::fleet::Fleet;
use crate::workload::Workload;

/// The placement at work.
#[derive(Debug)]
pub struct Qgjob<'a> {
    workload: &'a Workload,
    placement: Placement,
    classes: Vec<Class>,
    /// For each kind of device, the classes it serves.
    of_kind: Vec<Arc<[Class]>>,
    /// Whether a device was last known as one that takes jobs.
    up: Vec<bool>,
}

impl<'a> Qgjob<'a> {
    /// The placement for a workload, all devices up.
    pub fn new(workload: &'a Workload, parameters: Parameters) -> Self {
        let mut placement = Placement::new(parameters);
        let pools: Vec<_> = (0..workload.classes).map(|_| placement.add_pool()).collect();
        let classes: Vec<Class> =
            workload.pools().into_iter().map(|pool| placement.add_class(pools[pool])).collect();
        let of_kind = workload.kinds.iter();
        let of_kind = of_kind.map(|serves| serves.iter().map(|&class| classes[class]).collect()).collect();
        let up = vec![true; workload.devices.len()];
        let mut policy = Self { workload, placement, classes, of_kind, up };
        for (at, details) in workload.devices.iter().enumerate() {
            policy.put(0.0, at, details.installed.iter().copied());
        }
        policy
    }

    /// Tells the placement what is known of a device.
    fn put(&mut self, now: f64, device: usize, installed: impl Iterator<Item = (usize, usize)>) {
        let state = DeviceState {
            classes: Arc::clone(&self.of_kind[self.workload.devices[device].kind]),
            installed: installed
                .map(|(app, version)| Installed { app: App(number(app)), version: Version(number(version)) })
                .collect(),
            capacity_apps: self.workload.apps_per_device,
            up: self.up[device],
            installs: self.placement.device(device_id(device)).map_or(0, |known| known.installs),
        };
        self.placement.put_device(device_id(device), state, now);
    }
}

impl Policy for Qgjob<'_> {
    fn name(&self) -> &str {
        "qgjob"
    }

    fn arrive(&mut self, now: f64, group: usize) {
        let details = &self.workload.groups[group];
        for (at, job) in details.jobs.iter().enumerate() {
            let waiting = Waiting {
                group: GroupKey {
                    org: Org(number(details.org)),
                    version: Version(number(details.version)),
                    class: self.classes[details.class],
                    priority: details.priority,
                    concurrency: None,
                },
                app: App(number(details.app)),
                install_s: details.install_s,
                predicted_s: job.predicted_s,
                enqueued_at: details.submitted_at,
                barred: Vec::new(),
            };
            self.placement.enqueue(job_id(group, at), waiting, now);
        }
    }

    fn requeue(&mut self, now: f64, _group: usize, _job: usize, avoid: usize) {
        self.placement.lost(device_id(avoid), now);
    }

    fn decide(&mut self, now: f64, device: usize, _fleet: &Fleet) -> Decision {
        match self.placement.claim(device_id(device), now) {
            placement::Decision::Run(run) => {
                let job::Id(id) = run.job;
                Decision::Start { group: (id >> 32) as usize, job: (id & u128::from(u32::MAX)) as usize }
            }
            placement::Decision::Wait { until } => Decision::Wait { until: until.unwrap_or(f64::INFINITY) },
        }
    }

    fn finish(&mut self, now: f64, device: usize, end: End) {
        // Otherwise the device holds the job until it is requeued.
        if end.settles() {
            self.placement.finish(device_id(device), now);
        }
    }

    fn gone(&mut self, now: f64, device: usize, fleet: &Fleet) {
        self.up[device] = false;
        self.put(now, device, fleet.installed(device));
    }

    fn here(&mut self, now: f64, device: usize, fleet: &Fleet) {
        if !self.up[device] {
            self.up[device] = true;
            self.put(now, device, fleet.installed(device));
        }
    }

    fn blames(&self) -> bool {
        true
    }
}

fn device_id(device: usize) -> device::Id {
    device::Id(device as u128)
}

fn job_id(group: usize, job: usize) -> job::Id {
    job::Id((group as u128) << 32 | job as u128)
}

/// Numbers of a workload are places in its lists, or made up by its generators; all are small.
fn number(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}
