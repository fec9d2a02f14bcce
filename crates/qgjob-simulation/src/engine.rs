//! The engine: devices, time and faults. It asks a [`Policy`] whenever a device is free, and writes down what happened.

mod agenda;
mod blame;

use std::time::Instant;

use crate::fleet::Fleet;
use crate::policy::{Decision, End, Policy};
use crate::random::Random;
use crate::workload::Workload;
use agenda::Agenda;
use blame::{Blame, Judgement};

/// How long a server waits for a device that left before it gives the job to another.
const LEASE_S: f64 = 60.0;
/// How long a device is away that a job took down.
const REBOOT_S: f64 = 45.0;
/// A black hole breaks a job within this time.
const BREAKS_WITHIN_S: f64 = 8.0;

/// One job on one device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attempt {
    /// The device.
    pub device: usize,
    /// The group.
    pub group: usize,
    /// The job's place in its group.
    pub job: usize,
    /// When the device began with it.
    pub started: f64,
    /// Seconds for the install before it; 0 when the device had the version.
    pub install_s: f64,
    /// When the device was done with it.
    pub ended: f64,
    /// How it ended.
    pub end: End,
}

/// What happened.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    /// Every attempt, in the order of their ends.
    pub attempts: Vec<Attempt>,
    /// What each decision took, in nanoseconds of the machine's time: the only part that differs from replay to
    /// replay.
    pub decision_ns: Vec<u32>,
    /// How often a device was put in quarantine.
    pub quarantines: usize,
    /// How often that was a device without fault.
    pub healthy_quarantined: usize,
}

/// Replays a workload; `seed` draws the faults.
///
/// # Panics
/// When a policy leaves jobs undone although devices are free, or starts a job that does not wait.
pub fn replay(workload: &Workload, policy: &mut dyn Policy, seed: u64) -> Trace {
    Engine::new(workload, policy, seed).run()
}

#[derive(Debug, Clone, Copy)]
enum Event {
    /// A run arrives.
    Arrive(usize),
    /// A device ends its attempt of this number, unless the device left meanwhile.
    End(usize, u64),
    /// Idle devices of a kind ask again.
    Ask(usize),
    /// A device leaves.
    Leave(usize),
    /// A device that left is back.
    Return(usize),
    /// A device that broke a job, or that a job took down, may take another.
    Recovered(usize),
    /// The lease of an attempt is over whose device left.
    Expire(usize, u64),
    /// The quarantine of a device ends.
    Readmit(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Fine,
    Breaks,
    TakesDeviceDown,
}

#[derive(Debug, Clone, Copy)]
struct Current {
    group: usize,
    job: usize,
    started: f64,
    install_s: f64,
    number: u64,
    fate: Fate,
}

struct Engine<'a> {
    workload: &'a Workload,
    policy: &'a mut dyn Policy,
    now: f64,
    agenda: Agenda<Event>,
    random: Random,
    fleet: Fleet,
    current: Vec<Option<Current>>,
    last_group: Vec<Option<usize>>,
    /// For each kind, when its idle devices ask again.
    ask_at: Vec<f64>,
    serving_kinds: Vec<Vec<usize>>,
    /// Whether several groups of the run may share an install.
    several_groups: Vec<bool>,
    tries: Vec<Vec<u8>>,
    /// What a device ran when it left, until its lease is over or it is back and says that it runs nothing.
    leased: Vec<Option<Current>>,
    blame: Option<Blame>,
    jobs_left: usize,
    started: u64,
    trace: Trace,
}

impl<'a> Engine<'a> {
    fn new(workload: &'a Workload, policy: &'a mut dyn Policy, seed: u64) -> Self {
        let mut agenda = Agenda::default();
        let mut random = Random::new(seed ^ 0x5151);
        if let Some(churn) = workload.churn {
            for device in 0..workload.devices.len() {
                agenda.add(random.exponential(churn.mean_up_s), Event::Leave(device));
            }
        }
        for (run, details) in workload.runs.iter().enumerate() {
            agenda.add(details.submitted_at, Event::Arrive(run));
        }
        let devices = workload.devices.len();
        let blame = policy.blames().then(|| Blame::new(workload));
        Self {
            workload,
            policy,
            now: 0.0,
            agenda,
            random,
            fleet: Fleet::new(workload),
            current: vec![None; devices],
            last_group: vec![None; devices],
            ask_at: vec![f64::INFINITY; workload.kinds.len()],
            serving_kinds: workload.serving_kinds(),
            several_groups: workload.runs.iter().map(|run| run.groups.len() > 1).collect(),
            tries: workload.groups.iter().map(|group| vec![0; group.jobs.len()]).collect(),
            leased: vec![None; devices],
            blame,
            jobs_left: workload.jobs(),
            started: 0,
            trace: Trace::default(),
        }
    }

    fn run(mut self) -> Trace {
        while self.jobs_left > 0 {
            let Some((at, event)) = self.agenda.next() else { break };
            self.now = at;
            match event {
                Event::Arrive(run) => self.arrive(run),
                Event::End(device, number) => self.end(device, number),
                Event::Ask(kind) => {
                    if self.ask_at[kind] <= self.now {
                        self.ask_at[kind] = f64::INFINITY;
                    }
                    self.offer(kind, None);
                }
                Event::Leave(device) => self.leave(device),
                Event::Return(device) => {
                    if let Some(churn) = self.workload.churn {
                        let next = self.now + self.random.exponential(churn.mean_up_s);
                        self.agenda.add(next, Event::Leave(device));
                    }
                    self.fleet.away[device] = false;
                    self.expire(device);
                    self.welcome(device);
                }
                Event::Recovered(device) => {
                    self.fleet.recovering[device] = false;
                    self.welcome(device);
                }
                Event::Readmit(device) => {
                    self.fleet.quarantined[device] = false;
                    self.welcome(device);
                }
                Event::Expire(device, number) => {
                    if self.leased[device].is_some_and(|leased| leased.number == number) {
                        self.expire(device);
                    }
                }
            }
        }
        assert!(
            self.jobs_left == 0,
            "{}: {} jobs of {} were never started",
            self.policy.name(),
            self.jobs_left,
            self.workload.name
        );
        self.trace
    }

    fn arrive(&mut self, run: usize) {
        let workload = self.workload;
        let groups = &workload.runs[run].groups;
        for &group in groups {
            self.policy.arrive(self.now, group);
        }
        for &group in groups {
            let version = self.several_groups[run].then_some(workload.groups[group].version);
            self.offer_class(workload.groups[group].class, version);
        }
    }

    fn offer_class(&mut self, class: usize, version: Option<usize>) {
        for at in 0..self.serving_kinds[class].len() {
            self.offer(self.serving_kinds[class][at], version);
        }
    }

    /// Lets idle devices of a kind ask, those that have the version first, until one has to wait: the others would
    /// be told the same.
    fn offer(&mut self, kind: usize, version: Option<usize>) {
        if let Some(version) = version {
            for device in self.fleet.idle_with(kind, version) {
                if self.ask(device).is_some() {
                    break;
                }
            }
        }
        if self.policy.tells_devices_apart() {
            for device in self.fleet.idle(kind).to_vec() {
                self.ask(device);
            }
            return;
        }
        while !self.fleet.idle(kind).is_empty() {
            let at = self.policy.next_to_ask(&self.fleet, kind);
            let device = self.fleet.idle(kind)[at];
            if let Some(until) = self.ask(device) {
                self.ask_again(kind, until);
                return;
            }
        }
    }

    /// Lets a device ask. When it has to wait it stays or becomes idle, and the answer is until when.
    fn ask(&mut self, device: usize) -> Option<f64> {
        let before = Instant::now();
        let decision = self.policy.decide(self.now, device, &self.fleet);
        let took = before.elapsed().as_nanos();
        self.trace.decision_ns.push(u32::try_from(took).unwrap_or(u32::MAX));
        match decision {
            Decision::Start { group, job } => {
                self.start(device, group, job);
                None
            }
            Decision::Wait { until } => {
                self.fleet.park(device);
                Some(until)
            }
        }
    }

    fn ask_again(&mut self, kind: usize, until: f64) {
        if until.is_finite() && until < self.ask_at[kind] {
            self.ask_at[kind] = until;
            self.agenda.add(until.max(self.now), Event::Ask(kind));
        }
    }

    fn start(&mut self, device: usize, group: usize, job: usize) {
        let details = &self.workload.groups[group];
        let other_group = self.last_group[device] != Some(group);
        let again = self.policy.reinstalls() && other_group;
        let had = self.fleet.install(device, details.app, details.version, self.now);
        let install_s = if had && !again { 0.0 } else { details.install_s };
        let (fate, runs_s) = self.fate(device, group, job);
        self.started += 1;
        self.fleet.take(device);
        self.last_group[device] = Some(group);
        let number = self.started;
        self.current[device] = Some(Current { group, job, started: self.now, install_s, number, fate });
        self.agenda.add(self.now + install_s + runs_s, Event::End(device, number));
    }

    /// What will become of an attempt, and after how many seconds of running.
    fn fate(&mut self, device: usize, group: usize, job: usize) -> (Fate, f64) {
        let job = &self.workload.groups[group].jobs[job];
        let crash_rate = self.workload.groups[group].crash_rate;
        let fault_rate = self.workload.devices[device].fault_rate;
        if crash_rate > 0.0 && self.random.chance(crash_rate) {
            (Fate::Breaks, job.duration_s * 0.3)
        } else if job.poison {
            (Fate::TakesDeviceDown, job.duration_s * 0.5)
        } else if fault_rate > 0.0 && self.random.chance(fault_rate) {
            (Fate::Breaks, job.duration_s.min(BREAKS_WITHIN_S))
        } else {
            (Fate::Fine, job.duration_s)
        }
    }

    fn end(&mut self, device: usize, number: u64) {
        let Some(current) = self.current[device].filter(|current| current.number == number) else { return };
        let before = self.last_group[device];
        match current.fate {
            Fate::Fine => {
                if let Some(blame) = &mut self.blame {
                    blame.fine(self.workload.groups[current.group].version, device);
                }
                self.close(device, End::Done);
            }
            Fate::Breaks | Fate::TakesDeviceDown => self.broke(device, &current),
        }
        self.welcome(device);
        // The device left a group, which may now want another; time has passed for all.
        let kind = self.workload.devices[device].kind;
        if self.last_group[device] != before && !self.fleet.idle(kind).is_empty() {
            self.offer(kind, None);
        }
    }

    /// Writes the attempt of a device down; the device is free.
    fn close(&mut self, device: usize, end: End) -> Option<Current> {
        let current = self.current[device].take()?;
        let Current { group, job, started, install_s, .. } = current;
        self.trace.attempts.push(Attempt { device, group, job, started, install_s, ended: self.now, end });
        self.fleet.busy_s[device] += self.now - started;
        self.policy.finish(self.now, device, end);
        self.jobs_left -= usize::from(end.settles());
        Some(current)
    }

    fn broke(&mut self, device: usize, current: &Current) {
        let Current { group, job, .. } = *current;
        self.tries[group][job] += 1;
        let tries = self.tries[group][job];
        let took_down = current.fate == Fate::TakesDeviceDown;
        let judgement = match &mut self.blame {
            Some(blame) => {
                let version = self.workload.groups[group].version;
                blame.broke(self.now, version, device, tries, took_down)
            }
            None => Judgement { gives_up: tries >= blame::MAX_ATTEMPTS, out_until: None, pause_s: 0.0 },
        };
        if let Some(until) = judgement.out_until {
            self.fleet.quarantined[device] = true;
            self.trace.quarantines += 1;
            self.trace.healthy_quarantined += usize::from(self.workload.devices[device].fault_rate == 0.0);
            self.agenda.add(until, Event::Readmit(device));
        }
        let recovers_s = if took_down { judgement.pause_s.max(REBOOT_S) } else { judgement.pause_s };
        if recovers_s > 0.0 {
            self.fleet.recovering[device] = true;
            self.agenda.add(self.now + recovers_s, Event::Recovered(device));
        }
        self.close(device, if judgement.gives_up { End::GaveUp } else { End::Broke });
        if !self.fleet.is_available(device) {
            self.policy.gone(self.now, device, &self.fleet);
        }
        if !judgement.gives_up {
            self.requeue(group, job, device);
        }
    }

    fn requeue(&mut self, group: usize, job: usize, avoid: usize) {
        self.policy.requeue(self.now, group, job, avoid);
        let details = &self.workload.groups[group];
        self.offer_class(details.class, Some(details.version));
    }

    fn leave(&mut self, device: usize) {
        let Some(churn) = self.workload.churn else { return };
        let away_s = self.random.exponential(churn.mean_down_s).max(10.0);
        self.agenda.add(self.now + away_s, Event::Return(device));
        self.fleet.take(device);
        self.fleet.away[device] = true;
        if self.random.chance(churn.wiped) {
            self.fleet.wipe(device);
        }
        if let Some(current) = self.close(device, End::Lost) {
            self.leased[device] = Some(current);
            self.agenda.add(self.now + LEASE_S, Event::Expire(device, current.number));
        }
        self.policy.gone(self.now, device, &self.fleet);
    }

    fn expire(&mut self, device: usize) {
        if let Some(Current { group, job, .. }) = self.leased[device].take() {
            self.requeue(group, job, device);
        }
    }

    /// A device that may be free asks.
    fn welcome(&mut self, device: usize) {
        if !self.fleet.is_available(device) || self.current[device].is_some() || self.fleet.is_idle(device) {
            return;
        }
        self.policy.here(self.now, device, &self.fleet);
        if let Some(until) = self.ask(device) {
            self.ask_again(self.workload.devices[device].kind, until);
        }
    }
}
