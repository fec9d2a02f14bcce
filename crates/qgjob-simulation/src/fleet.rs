//! The devices as policies may see them: who is idle, and what is installed where.

use crate::workload::Workload;

/// An app version on a device.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Installed {
    app: usize,
    version: usize,
    used_at: f64,
}

/// The devices.
#[derive(Debug, Clone)]
pub struct Fleet {
    kind: Vec<usize>,
    installed: Vec<Vec<Installed>>,
    apps_per_device: usize,
    /// Idle devices of each kind, the one that became idle last at the end.
    idle: Vec<Vec<usize>>,
    /// Where a device stands in its kind's list, if it does.
    place: Vec<Option<usize>>,
    /// Seconds that each device was busy, up to its last attempt's end.
    pub busy_s: Vec<f64>,
    pub(crate) away: Vec<bool>,
    pub(crate) recovering: Vec<bool>,
    pub(crate) quarantined: Vec<bool>,
}

impl Fleet {
    pub(crate) fn new(workload: &Workload) -> Self {
        let devices = workload.devices.len();
        let installed = workload.devices.iter().map(|device| {
            let there = device.installed.iter();
            there.map(|&(app, version)| Installed { app, version, used_at: f64::NEG_INFINITY }).collect()
        });
        let mut fleet = Self {
            kind: workload.devices.iter().map(|device| device.kind).collect(),
            installed: installed.collect(),
            apps_per_device: workload.apps_per_device,
            idle: vec![Vec::new(); workload.kinds.len()],
            place: vec![None; devices],
            busy_s: vec![0.0; devices],
            away: vec![false; devices],
            recovering: vec![false; devices],
            quarantined: vec![false; devices],
        };
        for device in 0..devices {
            fleet.park(device);
        }
        fleet
    }

    /// Whether a device has a version.
    pub fn has(&self, device: usize, version: usize) -> bool {
        self.installed[device].iter().any(|there| there.version == version)
    }

    /// The versions on a device, each with its app.
    pub fn installed(&self, device: usize) -> impl Iterator<Item = (usize, usize)> {
        self.installed[device].iter().map(|there| (there.app, there.version))
    }

    /// The idle devices of a kind, the one that became idle last at the end.
    pub fn idle(&self, kind: usize) -> &[usize] {
        &self.idle[kind]
    }

    pub(crate) fn idle_with(&self, kind: usize, version: usize) -> Vec<usize> {
        self.idle[kind].iter().copied().filter(|&device| self.has(device, version)).collect()
    }

    pub(crate) fn is_idle(&self, device: usize) -> bool {
        self.place[device].is_some()
    }

    pub(crate) fn is_available(&self, device: usize) -> bool {
        !self.away[device] && !self.recovering[device] && !self.quarantined[device]
    }

    pub(crate) fn park(&mut self, device: usize) {
        if self.place[device].is_none() {
            let idle = &mut self.idle[self.kind[device]];
            self.place[device] = Some(idle.len());
            idle.push(device);
        }
    }

    pub(crate) fn take(&mut self, device: usize) {
        let Some(place) = self.place[device].take() else { return };
        let idle = &mut self.idle[self.kind[device]];
        idle.swap_remove(place);
        if let Some(&moved) = idle.get(place) {
            self.place[moved] = Some(place);
        }
    }

    /// Puts a version on a device in place of another of its app or, when the device is full, of the least recently
    /// used. Returns whether it was there already.
    pub(crate) fn install(&mut self, device: usize, app: usize, version: usize, now: f64) -> bool {
        let new = Installed { app, version, used_at: now };
        let installed = &mut self.installed[device];
        if let Some(same_app) = installed.iter_mut().find(|there| there.app == app) {
            let had = same_app.version == version;
            *same_app = new;
            return had;
        }
        if installed.len() >= self.apps_per_device {
            let oldest = (0..installed.len())
                .min_by(|&a, &b| installed[a].used_at.total_cmp(&installed[b].used_at))
                .unwrap_or_default();
            installed.swap_remove(oldest);
        }
        installed.push(new);
        false
    }

    pub(crate) fn wipe(&mut self, device: usize) {
        self.installed[device].clear();
    }
}
