//! The index decides as the scanning model does, whatever happens.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::*;
use super::scanning::Scanning;
use super::world::device_id;

const CLASSES: usize = 3;

#[derive(Debug, Clone)]
enum Step {
    Submit {
        org: u32,
        version: u32,
        class: usize,
        priority: u8,
        concurrency: Option<u32>,
        lengths: Vec<u32>,
        install: u32,
        age: u32,
        barred: Vec<u128>,
    },
    Decide(u128),
    Claim(u128),
    ClaimAll,
    Finish(u128),
    Lost(u128),
    Undo(u128),
    Remove(usize),
    Promote(usize),
    Requeue(usize),
    Device {
        number: u128,
        classes: Vec<usize>,
        installed: Vec<u32>,
        up: bool,
    },
    Up(u128, bool),
    RemoveDevice(u128),
    Org {
        org: u32,
        weight: u32,
        cap: Option<u32>,
        paused: bool,
    },
    PauseVersion(u32, u32, bool),
    ConcurrencyLimit {
        org: u32,
        concurrency: u32,
        limit: u32,
    },
    InstallTakes {
        version: u32,
        class: usize,
        install: u32,
    },
    /// Quarters of a second.
    Pass(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let device = 0u128..5;
    let submit = (
        (
            (0u32..3, 0u32..4, 0..CLASSES, prop::sample::select(vec![1u8, 5, 5, 5, 10])),
            prop::option::weighted(0.4, 0u32..2),
        ),
        prop::collection::vec(4u32..2000, 1..12),
        (4u32..300, 0u32..20_000, prop::collection::vec(0u128..5, 0..3)),
    )
        .prop_map(|(((org, version, class, priority), concurrency), lengths, (install, age, barred))| {
            Step::Submit { org, version, class, priority, concurrency, lengths, install, age, barred }
        });
    let put = (
        device.clone(),
        prop::collection::btree_set(0..CLASSES, 0..=CLASSES),
        prop::collection::btree_set(0u32..4, 0..3),
        prop::bool::weighted(0.8),
    )
        .prop_map(|(number, classes, installed, up)| Step::Device {
            number,
            classes: classes.into_iter().collect(),
            installed: installed.into_iter().collect(),
            up,
        });
    let org = (0u32..3, 1u32..4, prop::option::weighted(0.3, 0u32..3), prop::bool::weighted(0.2))
        .prop_map(|(org, weight, cap, paused)| Step::Org { org, weight, cap, paused });
    prop_oneof![
        6 => submit,
        2 => device.clone().prop_map(Step::Decide),
        8 => device.clone().prop_map(Step::Claim),
        1 => Just(Step::ClaimAll),
        6 => device.clone().prop_map(Step::Finish),
        2 => device.clone().prop_map(Step::Lost),
        1 => device.clone().prop_map(Step::Undo),
        2 => (0usize..40).prop_map(Step::Remove),
        1 => (0usize..40).prop_map(Step::Promote),
        1 => (0usize..40).prop_map(Step::Requeue),
        2 => put,
        2 => (device.clone(), any::<bool>()).prop_map(|(number, up)| Step::Up(number, up)),
        1 => device.prop_map(Step::RemoveDevice),
        1 => org,
        1 => (0u32..3, 0u32..4, any::<bool>()).prop_map(|(org, version, paused)| Step::PauseVersion(org, version, paused)),
        1 => (0u32..3, 0u32..2, 1u32..4).prop_map(|(org, concurrency, limit)| Step::ConcurrencyLimit { org, concurrency, limit }),
        1 => (0u32..4, 0..CLASSES, 4u32..500).prop_map(|(version, class, install)| Step::InstallTakes { version, class, install }),
        8 => (0u32..4000).prop_map(Step::Pass),
    ]
}

/// The index and the model, which must agree.
struct Both {
    index: Placement,
    model: Scanning,
    classes: Vec<Class>,
    now: f64,
    submitted: Vec<(job::Id, Waiting)>,
    /// Devices that found nothing, and until when.
    parked: BTreeMap<device::Id, f64>,
}

impl Both {
    fn new(parameters: Parameters) -> Self {
        let mut index = Placement::new(parameters);
        let pools = [index.add_pool(), index.add_pool()];
        let pool_of_class = [pools[0], pools[0], pools[1]];
        let classes: Vec<Class> = pool_of_class.iter().map(|pool| index.add_class(*pool)).collect();
        let model = Scanning::new(parameters, &pool_of_class);
        let mut both =
            Self { index, model, classes, now: 0.0, submitted: Vec::new(), parked: BTreeMap::new() };
        for number in 0..4 {
            let classes = if number < 3 { vec![0, 1] } else { vec![0] };
            both.apply(&Step::Device { number, classes, installed: Vec::new(), up: true });
        }
        both
    }

    fn decide(&mut self, device: device::Id) -> Decision {
        let decision = self.index.decide(device, self.now);
        assert_eq!(decision, self.model.decide(device, self.now), "{device} at {}", self.now);
        if let Decision::Wait { until } = decision
            && self.model.is_free(device)
        {
            self.parked.insert(device, until.unwrap_or(f64::INFINITY));
        } else {
            self.parked.remove(&device);
        }
        decision
    }

    /// Who is not worth asking finds nothing.
    fn check_waking(&mut self) {
        for device in self.index.worth_asking(self.parked.keys().copied()) {
            self.parked.remove(&device);
        }
        let now = self.now;
        let model = &self.model;
        self.parked.retain(|device, until| *until > now && model.is_free(*device));
        for device in self.parked.clone().into_keys() {
            assert!(matches!(self.decide(device), Decision::Wait { .. }), "{device} was not woken");
        }
    }

    fn enqueue(&mut self, id: job::Id, waiting: Waiting) {
        self.index.enqueue(id, waiting.clone(), self.now);
        self.model.enqueue(id, waiting, false, self.now);
    }

    fn put_device(&mut self, id: device::Id, state: DeviceState) {
        self.index.put_device(id, state.clone(), self.now);
        self.model.put_device(id, state, self.now);
    }

    fn apply(&mut self, step: &Step) {
        let now = self.now;
        match step {
            Step::Submit { org, version, class, priority, concurrency, lengths, install, age, barred } => {
                let class = self.classes[*class];
                let group = GroupKey {
                    org: Org(*org),
                    version: Version(*version),
                    class,
                    priority: *priority,
                    concurrency: concurrency.map(Concurrency),
                };
                for length in lengths {
                    let id = job::Id(self.submitted.len() as u128);
                    let waiting = Waiting {
                        group,
                        app: App(*version / 2),
                        install_s: f64::from(*install) / 4.0,
                        predicted_s: f64::from(*length) / 4.0,
                        enqueued_at: now - f64::from(*age) / 4.0,
                        barred: barred.iter().copied().map(device_id).collect(),
                    };
                    self.submitted.push((id, waiting.clone()));
                    self.enqueue(id, waiting);
                }
            }
            Step::Decide(device) => _ = self.decide(device_id(*device)),
            Step::Claim(device) => {
                if let Decision::Run(run) = self.decide(device_id(*device)) {
                    self.index.start(device_id(*device), run.job, now).unwrap();
                    self.model.start(device_id(*device), run.job, now);
                }
            }
            Step::ClaimAll => self.claim_all(),
            Step::Finish(device) => {
                self.index.finish(device_id(*device), now);
                self.model.end(device_id(*device), now, true, false);
            }
            Step::Lost(device) => {
                self.index.lost(device_id(*device), now);
                self.model.end(device_id(*device), now, false, false);
            }
            Step::Undo(device) => {
                self.index.undo(device_id(*device), now);
                self.model.end(device_id(*device), now, false, true);
            }
            Step::Remove(at) => {
                if let Some(id) = self.model.jobs().get(*at) {
                    self.index.remove(*id, now);
                    self.model.remove(*id, now);
                }
            }
            Step::Promote(at) => {
                if let Some(id) = self.model.jobs().get(*at) {
                    self.index.promote(*id, now);
                    self.model.promote(*id, now);
                }
            }
            Step::Requeue(at) => {
                if let Some((id, waiting)) = self.submitted.get(*at).cloned() {
                    self.enqueue(id, waiting);
                }
            }
            Step::Device { number, classes, installed, up } => {
                let installed = installed
                    .iter()
                    .map(|version| Installed { app: App(10 + version), version: Version(*version) });
                let state = DeviceState {
                    classes: classes.iter().map(|class| self.classes[*class]).collect(),
                    installed: installed.collect(),
                    capacity_apps: 2,
                    up: *up,
                    installs: 3,
                };
                self.put_device(device_id(*number), state);
            }
            Step::Up(number, up) => {
                if let Some(state) = self.model.device(device_id(*number)).cloned() {
                    self.put_device(device_id(*number), DeviceState { up: *up, ..state });
                }
            }
            Step::RemoveDevice(device) => {
                self.index.remove_device(device_id(*device), now);
                self.model.remove_device(device_id(*device), now);
            }
            Step::Org { org, weight, cap, paused } => {
                self.index.set_weight(Org(*org), *weight);
                self.index.set_cap(Org(*org), *cap);
                self.index.set_org_paused(Org(*org), *paused);
                self.model.set_rules(Org(*org), *weight, *cap, *paused);
            }
            Step::PauseVersion(org, version, paused) => {
                self.index.set_version_paused(Org(*org), Version(*version), *paused, now);
                self.model.set_version_paused(Org(*org), Version(*version), *paused, now);
            }
            Step::ConcurrencyLimit { org, concurrency, limit } => {
                self.index.set_concurrency_limit(Org(*org), Concurrency(*concurrency), *limit, now);
                self.model.set_concurrency_limit(Org(*org), Concurrency(*concurrency), *limit, now);
            }
            Step::InstallTakes { version, class, install } => {
                let (class, install_s) = (self.classes[*class], f64::from(*install) / 4.0);
                self.index.set_install_s(Version(*version), class, install_s, now);
                self.model.set_install_s(Version(*version), class, install_s, now);
            }
            Step::Pass(quarters) => self.now += f64::from(*quarters) / 4.0,
        }
    }

    /// All devices ask at once: those that go on without an install first, then the others, the less worn first.
    fn claim_all(&mut self) {
        let asking: Vec<device::Id> = (0..5).map(device_id).collect();
        let mut expected = Vec::new();
        let mut others = Vec::new();
        for device in asking.iter().copied() {
            match self.model.decide(device, self.now) {
                Decision::Run(run) if !run.install => {
                    self.model.start(device, run.job, self.now);
                    expected.push((device, Decision::Run(run)));
                }
                Decision::Run(_) => others.push(device),
                wait => expected.push((device, wait)),
            }
        }
        others.sort_by_key(|device| self.model.device(*device).map(|state| state.installs));
        for device in others {
            let decision = self.model.decide(device, self.now);
            if let Decision::Run(run) = &decision {
                self.model.start(device, run.job, self.now);
            }
            expected.push((device, decision));
        }
        assert_eq!(self.index.claim_all(&asking, self.now), expected);
    }

    fn check(&self) {
        let jobs = self.model.jobs();
        let running = jobs.iter().filter(|job| self.model.device_of(**job).is_some()).count();
        assert_eq!(self.index.waiting(), jobs.len() - running, "no job is lost or made");
        for job in jobs {
            assert_eq!(self.index.device_of(job), self.model.device_of(job));
            assert_eq!(self.index.why(job, self.now).is_none(), self.index.device_of(job).is_some());
        }
        for class in &self.classes {
            assert_eq!(self.index.devices_up(*class), self.model.devices_up(*class));
        }
        for number in 0..5 {
            assert_eq!(self.index.device(device_id(number)), self.model.device(device_id(number)));
        }
    }
}

/// Nothing is left over when all jobs are gone.
fn empties(mut both: Both) {
    for job in both.model.jobs() {
        both.index.remove(job, both.now);
    }
    let index = &both.index;
    assert_eq!(index.waiting(), 0);
    assert!(index.jobs.is_empty() && index.running.is_empty() && index.by_key.is_empty());
    assert!(index.by_version.is_empty() && index.groups.iter().all(Option::is_none));
    assert!(index.concurrency.values().all(|state| state.running == 0), "only limits are kept");
    assert!(index.pools.iter().all(|pool| pool.weight == 0));
    assert!(index.orgs.values().all(|org| org.running == 0 && org.shares.is_empty()));
    for class in &index.classes {
        assert!(class.queued == 0 && class.closed.is_empty());
        assert!(class.open.ranked(false).next().is_none() && class.open.ranked(true).next().is_none());
    }
    assert!(index.devices.values().all(|device| device.hold.is_none()));
}

proptest! {
    #[test]
    fn the_index_decides_as_a_scan_of_everything_does(
        steps in prop::collection::vec(step(), 1..120),
        checks_waking in any::<bool>(),
        share_factor in prop::sample::select(vec![1.0, 4.0]),
        priority_worth_s in prop::sample::select(vec![0.0, 300.0]),
        spread_installs in prop::sample::select(vec![0.5, 4.0]),
    ) {
        let parameters =
            Parameters { share_factor, priority_worth_s, spread_installs, ..Parameters::default() };
        let mut both = Both::new(parameters);
        for step in &steps {
            both.apply(step);
            both.check();
            if checks_waking {
                both.check_waking();
            }
        }
        for device in 0..5 {
            both.decide(device_id(device));
        }
        empties(both);
    }
}
