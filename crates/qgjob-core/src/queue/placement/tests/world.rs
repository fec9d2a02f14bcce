//! A small fleet, so that a test reads like a story.

use super::super::*;

pub(super) const APP: App = App(1);
pub(super) const INSTALL_S: f64 = 60.0;

pub(super) struct World {
    pub(super) placement: Placement,
    pub(super) pool: Pool,
    pub(super) class: Class,
    pub(super) now: f64,
    next_job: u128,
}

pub(super) fn device_id(number: u128) -> device::Id {
    device::Id(number)
}

impl World {
    /// A fleet of `devices` phones of one class, without jobs.
    pub(super) fn with_devices(devices: u128) -> Self {
        Self::with(Parameters::default(), devices)
    }

    pub(super) fn with(parameters: Parameters, devices: u128) -> Self {
        let mut placement = Placement::new(parameters);
        let pool = placement.add_pool();
        let class = placement.add_class(pool);
        let mut world = Self { placement, pool, class, now: 0.0, next_job: 0 };
        for number in 0..devices {
            world.add_device(number, &[class]);
        }
        world
    }

    pub(super) fn add_device(&mut self, number: u128, classes: &[Class]) {
        let state = DeviceState {
            classes: classes.into(),
            installed: Vec::new(),
            capacity_apps: 2,
            up: true,
            installs: 0,
        };
        self.placement.put_device(device_id(number), state, self.now);
    }

    pub(super) fn change_device(&mut self, number: u128, change: impl FnOnce(&mut DeviceState)) {
        let mut state = self.placement.device(device_id(number)).expect("the device is there").clone();
        change(&mut state);
        self.placement.put_device(device_id(number), state, self.now);
    }

    pub(super) fn install(&mut self, number: u128, version: u32) {
        self.change_device(number, |state| {
            state.installed.push(Installed { app: APP, version: Version(version) });
        });
    }

    /// A job of org 1, version `version`, priority 5, that should take `predicted_s`.
    pub(super) fn job(&self, version: u32, predicted_s: f64) -> Waiting {
        let group = GroupKey {
            org: Org(1),
            version: Version(version),
            class: self.class,
            priority: 5,
            concurrency: None,
        };
        Waiting {
            group,
            app: APP,
            install_s: INSTALL_S,
            predicted_s,
            enqueued_at: self.now,
            barred: Vec::new(),
        }
    }

    pub(super) fn put(&mut self, waiting: Waiting) -> job::Id {
        self.next_job += 1;
        let id = job::Id(self.next_job);
        self.placement.enqueue(id, waiting, self.now);
        id
    }

    /// Jobs of org 1 and priority 5, all alike.
    pub(super) fn submit(&mut self, version: u32, jobs: usize, predicted_s: f64) -> Vec<job::Id> {
        (0..jobs).map(|_| self.put(self.job(version, predicted_s))).collect()
    }

    pub(super) fn submit_for(&mut self, org: u32, version: u32, jobs: usize, predicted_s: f64) {
        for _ in 0..jobs {
            let mut waiting = self.job(version, predicted_s);
            waiting.group.org = Org(org);
            self.put(waiting);
        }
    }

    pub(super) fn submit_at_priority(&mut self, priority: u8, version: u32, jobs: usize, predicted_s: f64) {
        for _ in 0..jobs {
            let mut waiting = self.job(version, predicted_s);
            waiting.group.priority = priority;
            self.put(waiting);
        }
    }

    /// The version that the device takes a job of, and the job.
    pub(super) fn claim(&mut self, number: u128) -> Option<(u32, job::Id)> {
        match self.placement.claim(device_id(number), self.now) {
            Decision::Run(run) => Some((run.group.version.0, run.job)),
            Decision::Wait { .. } => None,
        }
    }

    /// The version that the device takes a job of.
    pub(super) fn version_for(&mut self, number: u128) -> Option<u32> {
        self.claim(number).map(|(version, _)| version)
    }

    pub(super) fn finish(&mut self, number: u128) {
        self.placement.finish(device_id(number), self.now);
    }
}
