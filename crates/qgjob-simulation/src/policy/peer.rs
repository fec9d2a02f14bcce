//! The rules of others: simple orders of groups, with and without loyalty to what is installed.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::{Decision, End, Policy};
use crate::fleet::Fleet;
use crate::moment::Moment;
use crate::random::Random;
use crate::workload::Workload;

/// In which order groups are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As they arrived.
    Arrival,
    /// By priority, then as they arrived.
    Priority,
    /// The one that was not served for longest.
    RoundRobin,
}

/// How many devices a group gets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Spread {
    /// As many as ask.
    Any,
    /// One, for good.
    One,
    /// Another only when none started a job of it for this many seconds (delay scheduling).
    Delay(f64),
}

/// Which idle device is asked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// The one that became idle last.
    Last,
    /// The one that was busy for the shortest time in all.
    LeastUsed,
    /// Any.
    Random,
}

/// A rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// What people call it.
    pub name: &'static str,
    /// Who else has it.
    pub of: &'static str,
    /// In which order groups are served.
    pub order: Order,
    /// Whether a device goes on with the versions it has while jobs for them wait.
    pub sticky: bool,
    /// How many devices a group gets.
    pub spread: Spread,
    /// Which idle device is asked first.
    pub pick: Pick,
    /// Whether a device installs whenever it turns to another group.
    pub reinstalls: bool,
}

const PLAIN: Rule = Rule {
    name: "fifo",
    of: "most queues",
    order: Order::Arrival,
    sticky: false,
    spread: Spread::Any,
    pick: Pick::Last,
    reinstalls: false,
};

/// Every rule.
pub const RULES: [Rule; 7] = [
    PLAIN,
    Rule { name: "priority-fifo", of: "BullMQ and its like", order: Order::Priority, ..PLAIN },
    Rule { name: "round-robin", of: "BullMQ's groups", order: Order::RoundRobin, ..PLAIN },
    Rule {
        name: "one-device",
        of: "earlier orchestrators: one device for a version",
        sticky: true,
        spread: Spread::One,
        ..PLAIN
    },
    Rule { name: "least-used", of: "appium-device-farm", pick: Pick::LeastUsed, ..PLAIN },
    Rule { name: "random", of: "Marathon", pick: Pick::Random, reinstalls: true, ..PLAIN },
    Rule { name: "sticky-30s", of: "delay scheduling", sticky: true, spread: Spread::Delay(30.0), ..PLAIN },
];

#[derive(Debug, Clone)]
struct Queue {
    waiting: VecDeque<usize>,
    devices: usize,
    last_start: f64,
    /// The one device that may serve it, under [`Spread::One`].
    owner: Option<usize>,
    /// Where it stands in `open`, if it does.
    open: Option<Moment>,
    /// Where it stands in `closed`, if it does.
    closed: Option<Moment>,
}

/// One of [`RULES`] at work.
#[derive(Debug)]
pub struct Peer<'a> {
    workload: &'a Workload,
    rule: Rule,
    queues: Vec<Queue>,
    /// For each class, the groups that any device may start.
    open: Vec<BTreeSet<(Moment, usize)>>,
    /// For each class, the groups that wait until another device may join them.
    closed: Vec<BTreeSet<(Moment, usize)>>,
    /// Groups with waiting jobs of each version.
    of_version: HashMap<usize, Vec<usize>>,
    /// Under [`Spread::One`], the groups with waiting jobs of each device.
    owned: Vec<BTreeSet<(Moment, usize)>>,
    running: Vec<Option<usize>>,
    random: Random,
}

impl<'a> Peer<'a> {
    /// The rule for a workload; `seed` is for those that draw lots.
    pub fn new(workload: &'a Workload, rule: Rule, seed: u64) -> Self {
        let queue = Queue {
            waiting: VecDeque::new(),
            devices: 0,
            last_start: f64::NEG_INFINITY,
            owner: None,
            open: None,
            closed: None,
        };
        Self {
            workload,
            rule,
            queues: vec![queue; workload.groups.len()],
            open: vec![BTreeSet::new(); workload.classes],
            closed: vec![BTreeSet::new(); workload.classes],
            of_version: HashMap::new(),
            owned: vec![BTreeSet::new(); workload.devices.len()],
            running: vec![None; workload.devices.len()],
            random: Random::new(seed ^ 0x1075),
        }
    }

    fn rank(&self, group: usize) -> Moment {
        let details = &self.workload.groups[group];
        Moment(match self.rule.order {
            Order::Arrival => details.submitted_at,
            Order::Priority => details.submitted_at - 1e7 * f64::from(details.priority),
            Order::RoundRobin => self.queues[group].last_start.max(details.submitted_at),
        })
    }

    /// When another device may join a group.
    fn joinable_at(&self, group: usize) -> f64 {
        let queue = &self.queues[group];
        match self.rule.spread {
            Spread::Delay(seconds) if queue.devices > 0 => queue.last_start + seconds,
            Spread::One if queue.owner.is_some() => f64::INFINITY,
            _ => f64::NEG_INFINITY,
        }
    }

    /// Puts a group where it belongs after anything about it changed.
    fn place(&mut self, now: f64, group: usize) {
        let class = self.workload.groups[group].class;
        if let Some(rank) = self.queues[group].open.take() {
            self.open[class].remove(&(rank, group));
        }
        if let Some(until) = self.queues[group].closed.take() {
            self.closed[class].remove(&(until, group));
        }
        if self.queues[group].waiting.is_empty() {
            return;
        }
        let joinable_at = self.joinable_at(group);
        if joinable_at <= now {
            let rank = self.rank(group);
            self.queues[group].open = Some(rank);
            self.open[class].insert((rank, group));
        } else if joinable_at.is_finite() {
            self.queues[group].closed = Some(Moment(joinable_at));
            self.closed[class].insert((Moment(joinable_at), group));
        }
    }

    /// Notes that a group has jobs again.
    fn wakes(&mut self, group: usize) {
        let version = self.workload.groups[group].version;
        self.of_version.entry(version).or_default().push(group);
        if let Some(owner) = self.queues[group].owner {
            let rank = self.rank(group);
            self.owned[owner].insert((rank, group));
        }
    }

    /// Notes that a group has no more jobs.
    fn sleeps(&mut self, group: usize) {
        let version = self.workload.groups[group].version;
        if let Some(groups) = self.of_version.get_mut(&version) {
            groups.retain(|&other| other != group);
        }
        if let Some(owner) = self.queues[group].owner {
            let rank = self.rank(group);
            self.owned[owner].remove(&(rank, group));
        }
    }

    fn warm(&self, device: usize, fleet: &Fleet) -> Option<usize> {
        let classes = &self.workload.kinds[self.workload.devices[device].kind];
        let versions = fleet.installed(device).map(|(_, version)| version);
        let groups = versions.filter_map(|version| self.of_version.get(&version)).flatten().copied();
        groups
            .filter(|&group| classes.contains(&self.workload.groups[group].class))
            .filter(|&group| self.queues[group].owner.is_none_or(|owner| owner == device))
            .map(|group| (self.rank(group), group))
            .min()
            .map(|(_, group)| group)
    }

    /// The first group that a device may join, or else when there may be one.
    fn cold(&mut self, now: f64, device: usize) -> Result<usize, f64> {
        let workload = self.workload;
        let classes = &workload.kinds[workload.devices[device].kind];
        let mut wait = f64::INFINITY;
        for &class in classes {
            while let Some(&(until, group)) = self.closed[class].first() {
                if until.0 > now {
                    wait = wait.min(until.0);
                    break;
                }
                self.place(now, group);
            }
        }
        let open = classes.iter().filter_map(|&class| self.open[class].first());
        open.chain(self.owned[device].first()).min().map(|&(_, group)| group).ok_or(wait)
    }

    fn start(&mut self, now: f64, device: usize, group: usize) -> Decision {
        let Some(job) = self.queues[group].waiting.pop_front() else {
            unreachable!("only groups with waiting jobs are chosen")
        };
        if self.queues[group].waiting.is_empty() {
            self.sleeps(group);
        }
        let queue = &mut self.queues[group];
        queue.devices += 1;
        queue.last_start = now;
        if self.rule.spread == Spread::One && queue.owner.is_none() {
            queue.owner = Some(device);
            if !self.queues[group].waiting.is_empty() {
                let rank = self.rank(group);
                self.owned[device].insert((rank, group));
            }
        }
        self.running[device] = Some(group);
        self.place(now, group);
        Decision::Start { group, job }
    }
}

impl Policy for Peer<'_> {
    fn name(&self) -> &str {
        self.rule.name
    }

    fn arrive(&mut self, now: f64, group: usize) {
        self.queues[group].waiting.extend(0..self.workload.groups[group].jobs.len());
        self.wakes(group);
        self.place(now, group);
    }

    fn requeue(&mut self, now: f64, group: usize, job: usize, _avoid: usize) {
        let slept = self.queues[group].waiting.is_empty();
        self.queues[group].waiting.push_front(job);
        if slept {
            self.wakes(group);
        }
        self.place(now, group);
    }

    fn decide(&mut self, now: f64, device: usize, fleet: &Fleet) -> Decision {
        let warm = if self.rule.sticky { self.warm(device, fleet) } else { None };
        match warm.map_or_else(|| self.cold(now, device), Ok) {
            Ok(group) => self.start(now, device, group),
            Err(until) => Decision::Wait { until },
        }
    }

    fn finish(&mut self, now: f64, device: usize, _end: End) {
        if let Some(group) = self.running[device].take() {
            self.queues[group].devices -= 1;
            self.place(now, group);
        }
    }

    fn next_to_ask(&mut self, fleet: &Fleet, kind: usize) -> usize {
        let idle = fleet.idle(kind);
        match self.rule.pick {
            Pick::Last => idle.len() - 1,
            Pick::Random => self.random.below(idle.len()),
            Pick::LeastUsed => {
                let used = |&at: &usize| (Moment(fleet.busy_s[idle[at]]), idle[at]);
                (0..idle.len()).min_by_key(used).unwrap_or_default()
            }
        }
    }

    fn tells_devices_apart(&self) -> bool {
        self.rule.spread == Spread::One
    }

    fn reinstalls(&self) -> bool {
        self.rule.reinstalls
    }
}
