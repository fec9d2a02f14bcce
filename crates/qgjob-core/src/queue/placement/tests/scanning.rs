//! The policy once more, slow and plain: lists, no index, every number counted anew by looking at everything. What it
//! shares with the index is what the policy leaves to the moment of the last look: whether a group wants a device,
//! whether an org is over its share.

use std::collections::{BTreeMap, BTreeSet};

use super::super::*;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Verdict {
    wants: bool,
    reopens_at: Option<f64>,
}

#[derive(Debug)]
struct Group {
    key: GroupKey,
    promoted: bool,
    app: App,
    since: f64,
    size_s: f64,
    install_s: f64,
    last_launch: f64,
    last_look: Verdict,
}

#[derive(Debug, Clone)]
struct Job {
    group: usize,
    predicted_s: f64,
    enqueued_at: f64,
    barred: Vec<device::Id>,
}

#[derive(Debug, Clone)]
struct Hold {
    group: usize,
    job: job::Id,
    end: f64,
    started: f64,
    launch_before: f64,
    installed_before: Option<Vec<Installed>>,
}

#[derive(Debug)]
struct Device {
    state: DeviceState,
    hold: Option<Hold>,
}

#[derive(Debug, Clone, Copy)]
struct Rules {
    weight: u32,
    cap: Option<u32>,
    paused: bool,
}

pub(super) struct Scanning {
    parameters: Parameters,
    pools: Vec<Pool>,
    /// In the order in which they came to be; those without jobs are kept and never looked at.
    groups: Vec<Group>,
    devices: BTreeMap<device::Id, Device>,
    jobs: BTreeMap<job::Id, Job>,
    orgs: BTreeMap<Org, Rules>,
    over_at_last_look: BTreeSet<(Org, Pool)>,
    paused_versions: BTreeSet<(Org, Version)>,
    concurrency_limits: BTreeMap<(Org, Concurrency), u32>,
}

type Order = (bool, f64, usize);

impl Scanning {
    pub(super) fn new(parameters: Parameters, pool_of_class: &[Pool]) -> Self {
        Self {
            parameters,
            pools: pool_of_class.to_vec(),
            groups: Vec::new(),
            devices: BTreeMap::new(),
            jobs: BTreeMap::new(),
            orgs: BTreeMap::new(),
            over_at_last_look: BTreeSet::new(),
            paused_versions: BTreeSet::new(),
            concurrency_limits: BTreeMap::new(),
        }
    }

    fn pool(&self, class: Class) -> Pool {
        self.pools[class.at()]
    }

    fn rules(&self, org: Org) -> Rules {
        self.orgs.get(&org).copied().unwrap_or(Rules { weight: 1, cap: None, paused: false })
    }

    fn holds(&self) -> impl Iterator<Item = (&Device, &Hold)> {
        self.devices.values().filter_map(|device| Some((device, device.hold.as_ref()?)))
    }

    fn runs(&self, job: job::Id) -> bool {
        self.holds().any(|(_, hold)| hold.job == job)
    }

    fn up(&self, class: Class) -> usize {
        self.devices
            .values()
            .filter(|device| device.state.up && device.state.classes.contains(&class))
            .count()
    }

    fn up_in_pool(&self, pool: Pool) -> usize {
        let meets = |device: &&Device| device.state.classes.iter().any(|class| self.pool(*class) == pool);
        self.devices.values().filter(|device| device.state.up).filter(meets).count()
    }

    /// The jobs of a group that wait, in the order in which they start.
    fn waiting_in(&self, group: usize) -> Vec<(job::Id, &Job)> {
        let jobs = self.jobs.iter().filter(|(id, job)| job.group == group && !self.runs(**id));
        let mut jobs: Vec<_> = jobs.map(|(id, job)| (*id, job)).collect();
        jobs.sort_by(|(_, a), (_, b)| {
            (a.enqueued_at - 5.0 * a.predicted_s).total_cmp(&(b.enqueued_at - 5.0 * b.predicted_s))
        });
        jobs
    }

    fn waits(&self, group: usize) -> bool {
        let key = self.groups[group].key;
        let paused = self.paused_versions.contains(&(key.org, key.version));
        !paused && !self.is_full(key) && !self.waiting_in(group).is_empty()
    }

    fn shares_concurrency(&self, group: usize, key: GroupKey) -> bool {
        let other = self.groups[group].key;
        key.concurrency.is_some() && (other.org, other.concurrency) == (key.org, key.concurrency)
    }

    fn is_full(&self, key: GroupKey) -> bool {
        key.concurrency.is_some_and(|concurrency| {
            let running = self.holds().filter(|(_, hold)| self.shares_concurrency(hold.group, key)).count();
            running >= *self.concurrency_limits.get(&(key.org, concurrency)).unwrap_or(&1) as usize
        })
    }

    /// Looks at those that share a group's concurrency group, if that became full or is so no longer.
    fn touch_sharing(&mut self, group: usize, was_full: bool, now: f64) {
        let key = self.groups[group].key;
        if self.is_full(key) != was_full {
            for other in 0..self.groups.len() {
                if other != group && self.shares_concurrency(other, key) && self.is_there(other) {
                    self.touch_group(other, now);
                }
            }
        }
    }

    fn is_there(&self, group: usize) -> bool {
        self.jobs.values().any(|job| job.group == group) || self.holds().any(|(_, hold)| hold.group == group)
    }

    fn key_of(&self, group: usize) -> f64 {
        let group = &self.groups[group];
        let head_start = if group.promoted {
            1e9
        } else {
            self.parameters.priority_worth_s * f64::from(group.key.priority)
        };
        group.since - head_start + group.size_s
    }

    /// One that is served comes later by an install among those that want a device.
    fn key_to_join(&self, group: usize) -> f64 {
        let served = !self.serving(group).is_empty();
        self.key_of(group) + if served { self.groups[group].install_s } else { 0.0 }
    }

    fn serving(&self, group: usize) -> Vec<f64> {
        let holds = self.holds().filter(|(device, hold)| device.state.up && hold.group == group);
        holds.map(|(_, hold)| hold.end).collect()
    }

    fn work_s(&self, group: usize, now: f64) -> f64 {
        let running: f64 = self.serving(group).iter().map(|end| end - now).sum();
        self.waiting_in(group).iter().map(|(_, job)| job.predicted_s).sum::<f64>() + running.max(0.0)
    }

    fn look(&self, group: usize, now: f64) -> Verdict {
        let (parameters, known) = (&self.parameters, &self.groups[group]);
        if !self.waits(group) {
            return Verdict { wants: false, reopens_at: None };
        }
        let waiting: Vec<f64> = self.waiting_in(group).iter().map(|(_, job)| job.predicted_s).collect();
        let unstarted: f64 = waiting.iter().sum();
        let ends = self.serving(group);
        let longest = waiting.iter().copied().chain(ends.iter().map(|end| end - now)).fold(0.0, f64::max);
        let class = known.key.class;
        let others = (0..self.groups.len()).filter(|other| self.groups[*other].key.class == class);
        let queued = others.filter(|other| self.waits(*other)).count() as f64;
        let per_device = queued / self.up(class).max(1) as f64;
        let worth = (parameters.spread_installs * known.install_s)
            .max(parameters.spread_longest * longest)
            .max(parameters.crowding * (unstarted * known.install_s * per_device).sqrt());
        let patience_ends = known.last_launch + parameters.patience_installs * known.install_s;
        let wants =
            ends.is_empty() || self.work_s(group, now) > worth * ends.len() as f64 || now >= patience_ends;
        Verdict { wants, reopens_at: (!wants).then_some(patience_ends) }
    }

    fn touch_group(&mut self, group: usize, now: f64) {
        self.groups[group].last_look = self.look(group, now);
    }

    fn running(&self, org: Org, pool: Option<Pool>) -> usize {
        let holds = self.holds().map(|(_, hold)| self.groups[hold.group].key);
        holds.filter(|key| key.org == org && pool.is_none_or(|pool| self.pool(key.class) == pool)).count()
    }

    fn is_over(&self, org: Org, pool: Pool) -> bool {
        let in_pool = |job: &&Job| self.pool(self.groups[job.group].key.class) == pool;
        let orgs: BTreeSet<Org> =
            self.jobs.values().filter(in_pool).map(|job| self.groups[job.group].key.org).collect();
        let weights = orgs.iter().map(|org| self.rules(*org)).filter(|rules| !rules.paused);
        let weight: u32 = weights.map(|rules| rules.weight).sum();
        let devices = self.up_in_pool(pool) as f64;
        let fair = devices * f64::from(self.rules(org).weight) / f64::from(weight.max(1));
        let most = fair.max((self.parameters.share_factor * fair).min(0.5 * devices));
        self.running(org, Some(pool)) as f64 > most
    }

    fn touch_org(&mut self, org: Org) {
        let pools: BTreeSet<Pool> = self.pools.iter().copied().collect();
        for pool in pools {
            if self.is_over(org, pool) {
                self.over_at_last_look.insert((org, pool));
            } else {
                self.over_at_last_look.remove(&(org, pool));
            }
        }
    }

    fn is_held(&self, org: Org) -> bool {
        let rules = self.rules(org);
        rules.paused || rules.cap.is_some_and(|cap| self.running(org, None) >= cap as usize)
    }

    fn is_barred(&self, device: device::Id, job: &Job, class: Class) -> bool {
        let can = |(id, other): (&device::Id, &Device)| {
            other.state.up && other.state.classes.contains(&class) && !job.barred.contains(id)
        };
        job.barred.contains(&device) && self.devices.iter().any(can)
    }

    fn for_device(&self, device: device::Id, group: usize) -> Vec<(job::Id, f64)> {
        let class = self.groups[group].key.class;
        let jobs = self.waiting_in(group).into_iter();
        let jobs = jobs.filter(|(_, job)| !self.is_barred(device, job, class));
        jobs.map(|(id, job)| (id, job.predicted_s)).collect()
    }

    fn seen_from(&self, state: &DeviceState, group: usize, key: f64) -> f64 {
        let most = state.classes.iter().map(|class| self.up(*class)).max().unwrap_or(0).max(1);
        let few = self.up(self.groups[group].key.class) as f64 / most as f64;
        key - self.parameters.scarcity_s * (1.0 - few)
    }

    /// The first of the groups that a device may take jobs of.
    fn first(
        &self,
        device: device::Id,
        allow: impl Fn(usize, &DeviceState) -> bool,
        key_of: impl Fn(&Self, usize) -> f64,
        over: impl Fn(Org, Pool) -> bool,
    ) -> Option<Order> {
        let state = &self.devices[&device].state;
        let groups = (0..self.groups.len()).filter(|group| {
            let key = self.groups[*group].key;
            state.classes.contains(&key.class)
                && self.waits(*group)
                && !self.is_held(key.org)
                && !self.for_device(device, *group).is_empty()
                && allow(*group, state)
        });
        let order = |group: usize| {
            let key = self.groups[group].key;
            (over(key.org, self.pool(key.class)), self.seen_from(state, group, key_of(self, group)), group)
        };
        groups.map(order).min_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)))
    }

    fn cold(&mut self, device: device::Id, now: f64) -> Option<Order> {
        loop {
            let allow = |group: usize, state: &DeviceState| {
                let version = self.groups[group].key.version;
                self.groups[group].last_look.wants
                    && state.installed.iter().all(|installed| installed.version != version)
            };
            let flagged = |org, pool| self.over_at_last_look.contains(&(org, pool));
            let found = self.first(device, allow, Self::key_to_join, flagged)?;
            let key = self.groups[found.2].key;
            if self.is_over(key.org, self.pool(key.class)) != found.0 {
                self.touch_org(key.org);
            } else if !self.look(found.2, now).wants {
                self.touch_group(found.2, now);
            } else {
                return Some(found);
            }
        }
    }

    pub(super) fn decide(&mut self, device: device::Id, now: f64) -> Decision {
        let free = self.devices.get(&device).filter(|known| known.state.up && known.hold.is_none());
        let Some(known) = free else { return Decision::Wait { until: None } };
        let mut until: Option<f64> = None;
        let classes = known.state.classes.clone();
        for class in classes.iter().copied() {
            loop {
                let closed = (0..self.groups.len()).filter(|group| self.groups[*group].key.class == class);
                let due = closed.filter_map(|group| Some((self.groups[group].last_look.reopens_at?, group)));
                let Some((time, group)) = due.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))) else {
                    break;
                };
                if time > now {
                    until = Some(until.map_or(time, |until| until.min(time)));
                    break;
                }
                self.touch_group(group, now);
            }
        }
        let has = |group: usize, state: &DeviceState| {
            state.installed.iter().any(|installed| installed.version == self.groups[group].key.version)
        };
        let warm = self.first(device, has, Self::key_of, |org, pool| self.is_over(org, pool));
        let cold = self.cold(device, now);
        let (pick, install) = match (warm, cold) {
            (None, None) => return Decision::Wait { until },
            (Some(warm), None) => (warm, false),
            (None, Some(cold)) => (cold, true),
            (Some(warm), Some(cold)) => {
                let after = self.parameters.break_after_s;
                let leaves = if warm.0 == cold.0 {
                    cold.1 + after < warm.1
                } else {
                    let serving = self.serving(warm.2).len().max(1) as f64;
                    warm.0 && self.work_s(warm.2, now) / serving > after
                };
                (if leaves { cold } else { warm }, leaves)
            }
        };
        let (job, _) = self.for_device(device, pick.2)[0];
        Decision::Run(Run { job, group: self.groups[pick.2].key, install })
    }

    pub(super) fn enqueue(&mut self, id: job::Id, waiting: Waiting, promoted: bool, now: f64) {
        self.remove(id, now);
        let since = if promoted { now } else { waiting.enqueued_at };
        let mut there = (0..self.groups.len()).filter(|group| self.is_there(*group));
        let known = there.find(|group| {
            self.groups[*group].key == waiting.group && self.groups[*group].promoted == promoted
        });
        let group = known.unwrap_or_else(|| {
            self.groups.push(Group {
                key: waiting.group,
                promoted,
                app: waiting.app,
                since,
                size_s: 0.0,
                install_s: waiting.install_s,
                last_launch: now,
                last_look: Verdict { wants: false, reopens_at: None },
            });
            self.groups.len() - 1
        });
        let devices = self.up_in_pool(self.pool(waiting.group.class)).max(1) as f64;
        let known = &mut self.groups[group];
        known.since = known.since.min(since).max(since - 3600.0);
        known.size_s += self.parameters.size_penalty * waiting.predicted_s / devices;
        known.install_s = waiting.install_s;
        let Waiting { predicted_s, enqueued_at, barred, .. } = waiting;
        self.jobs.insert(id, Job { group, predicted_s, enqueued_at, barred });
        self.touch_group(group, now);
        self.touch_org(self.groups[group].key.org);
    }

    pub(super) fn remove(&mut self, id: job::Id, now: f64) {
        let Some(job) = self.jobs.remove(&id) else { return };
        let was_full = self.is_full(self.groups[job.group].key);
        for device in self.devices.values_mut() {
            device.hold.take_if(|hold| hold.job == id);
        }
        self.touch_group(job.group, now);
        self.touch_sharing(job.group, was_full, now);
        self.touch_org(self.groups[job.group].key.org);
    }

    pub(super) fn promote(&mut self, id: job::Id, now: f64) {
        let Some(job) = self.jobs.get(&id).filter(|_| !self.runs(id)).cloned() else { return };
        let group = &self.groups[job.group];
        if !group.promoted {
            let Job { predicted_s, enqueued_at, barred, .. } = job;
            let (app, install_s) = (group.app, group.install_s);
            let waiting = Waiting { group: group.key, app, install_s, predicted_s, enqueued_at, barred };
            self.enqueue(id, waiting, true, now);
        }
    }

    pub(super) fn start(&mut self, device: device::Id, job: job::Id, now: f64) {
        let Job { group, predicted_s: lasts, .. } = self.jobs[&job];
        let was_full = self.is_full(self.groups[group].key);
        let known = &mut self.groups[group];
        let state = &mut self.devices.get_mut(&device).unwrap().state;
        let before = state.installed.clone();
        let install = before.iter().all(|installed| installed.version != known.key.version);
        state.installed.retain(|installed| installed.app != known.app);
        if state.installed.len() >= state.capacity_apps {
            state.installed.remove(0);
        }
        state.installed.push(Installed { app: known.app, version: known.key.version });
        state.installs += u64::from(install);
        let hold = Hold {
            group,
            job,
            end: now + lasts + if install { known.install_s } else { 0.0 },
            started: now,
            launch_before: known.last_launch,
            installed_before: install.then_some(before),
        };
        known.last_launch = now;
        self.devices.get_mut(&device).unwrap().hold = Some(hold);
        self.touch_group(group, now);
        self.touch_sharing(group, was_full, now);
        self.touch_org(self.groups[group].key.org);
    }

    /// Ends what a device runs; `bars` is set when it was lost, `undoes` when it never began.
    pub(super) fn end(&mut self, device: device::Id, now: f64, is_over: bool, undoes: bool) {
        let Some(hold) = self.devices.get(&device).and_then(|known| known.hold.clone()) else { return };
        let was_full = self.is_full(self.groups[hold.group].key);
        self.devices.get_mut(&device).unwrap().hold = None;
        if is_over {
            self.jobs.remove(&hold.job);
        } else if !undoes {
            let job = self.jobs.get_mut(&hold.job).unwrap();
            if !job.barred.contains(&device) {
                job.barred.push(device);
            }
        }
        if undoes {
            let group = &mut self.groups[hold.group];
            if group.last_launch == hold.started {
                group.last_launch = hold.launch_before;
            }
            if let Some(installed) = hold.installed_before {
                let state = &mut self.devices.get_mut(&device).unwrap().state;
                state.installed = installed;
                state.installs -= 1;
            }
        }
        self.touch_group(hold.group, now);
        self.touch_sharing(hold.group, was_full, now);
        self.touch_org(self.groups[hold.group].key.org);
    }

    pub(super) fn put_device(&mut self, id: device::Id, state: DeviceState, now: f64) {
        let old = self.devices.remove(&id);
        let was_up = old.as_ref().is_some_and(|old| old.state.up);
        let up = state.up;
        let mut hold = old.and_then(|old| old.hold);
        hold.iter_mut().for_each(|hold| hold.installed_before = None);
        let group = hold.as_ref().map(|hold| hold.group).filter(|_| was_up != up);
        self.devices.insert(id, Device { state, hold });
        group.into_iter().for_each(|group| self.touch_group(group, now));
    }

    pub(super) fn remove_device(&mut self, id: device::Id, now: f64) {
        self.end(id, now, false, false);
        self.devices.remove(&id);
    }

    pub(super) fn set_rules(&mut self, org: Org, weight: u32, cap: Option<u32>, paused: bool) {
        self.orgs.insert(org, Rules { weight, cap, paused });
        self.touch_org(org);
    }

    pub(super) fn set_install_s(&mut self, version: Version, class: Class, install_s: f64, now: f64) {
        for group in 0..self.groups.len() {
            let key = self.groups[group].key;
            if key.version == version && key.class == class && self.is_there(group) {
                self.groups[group].install_s = install_s;
                self.touch_group(group, now);
            }
        }
    }

    pub(super) fn set_version_paused(&mut self, org: Org, version: Version, paused: bool, now: f64) {
        match paused {
            true => _ = self.paused_versions.insert((org, version)),
            false => _ = self.paused_versions.remove(&(org, version)),
        }
        for group in 0..self.groups.len() {
            let key = self.groups[group].key;
            if key.org == org && key.version == version && self.is_there(group) {
                self.touch_group(group, now);
            }
        }
    }

    pub(super) fn set_concurrency_limit(&mut self, org: Org, concurrency: Concurrency, limit: u32, now: f64) {
        let named = (0..self.groups.len()).filter(|group| {
            let key = self.groups[*group].key;
            key.org == org && key.concurrency == Some(concurrency) && self.is_there(*group)
        });
        let named: Vec<usize> = named.collect();
        let was_full = named.first().map(|group| self.is_full(self.groups[*group].key));
        self.concurrency_limits.insert((org, concurrency), limit);
        if was_full != named.first().map(|group| self.is_full(self.groups[*group].key)) {
            named.into_iter().for_each(|group| self.touch_group(group, now));
        }
    }

    pub(super) fn device(&self, id: device::Id) -> Option<&DeviceState> {
        self.devices.get(&id).map(|known| &known.state)
    }

    pub(super) fn is_free(&self, id: device::Id) -> bool {
        self.devices.get(&id).is_some_and(|known| known.state.up && known.hold.is_none())
    }

    pub(super) fn devices_up(&self, class: Class) -> u32 {
        self.up(class) as u32
    }

    pub(super) fn device_of(&self, job: job::Id) -> Option<device::Id> {
        let runs = |device: &Device| device.hold.as_ref().is_some_and(|hold| hold.job == job);
        self.devices.iter().find(|(_, device)| runs(device)).map(|(id, _)| *id)
    }

    /// All jobs that wait or run.
    pub(super) fn jobs(&self) -> Vec<job::Id> {
        self.jobs.keys().copied().collect()
    }
}
