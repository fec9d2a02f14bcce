//! What a decision costs with few and with very many groups, in five shapes: 10,000 devices in 4 pools, 10 classes, each
//! device busy and asking again when it is done.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Instant;

use qgjob_core::model::{device, job};
use qgjob_core::queue::placement::{
    App, Class, Decision, DeviceState, GroupKey, Org, Parameters, Placement, Version, Waiting,
};

use super::{Check, Target, check};
use crate::metrics::Nanoseconds;
use crate::moment::Moment;
use crate::random::Random;

const DEVICES: usize = 10_000;
const POOLS: usize = 4;
const CLASSES: usize = 10;
const FEW: usize = 100;
const MANY: usize = 100_000;
/// Decisions that are timed in each shape.
const DECISIONS: usize = 100_000;
/// Rounds that they are split into.
const ROUNDS: usize = 10;
/// So many decisions until new groups come.
const RENEWAL: usize = 40;

/// How groups are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// 1,000 orgs, groups of all sizes.
    Mixed,
    /// One org.
    OneOrg,
    /// As many orgs as groups.
    OrgPerGroup,
    /// One to three jobs each.
    TinyGroups,
    /// All of one age.
    SameAge,
}

const SHAPES: [Shape; 5] =
    [Shape::Mixed, Shape::OneOrg, Shape::OrgPerGroup, Shape::TinyGroups, Shape::SameAge];

pub(super) fn checks() -> Vec<Check> {
    let few = SHAPES.map(|shape| Load::new(shape, FEW).run());
    let many = SHAPES.map(|shape| Load::new(shape, MANY).run());
    let worst = |value: fn(&Nanoseconds) -> f64| many.iter().map(value).fold(0.0, f64::max);
    let growth = few.iter().zip(&many).map(|(few, many)| many.p50 / few.p50.max(1.0)).fold(0.0, f64::max);
    let p50 = worst(|times| times.p50);
    let p99 = worst(|times| times.p99);
    vec![
        check("N", "decision p50 at 100,000 groups, worst shape, ns", p50, Target::AtMost(5_000.0)),
        check("N", "decision p99 at 100,000 groups, worst shape, ns", p99, Target::AtMost(20_000.0)),
        check("N", "decision p50 at 100,000 groups / at 100", growth, Target::AtMost(6.0)),
    ]
}

struct Load {
    shape: Shape,
    groups: usize,
    placement: Placement,
    classes: Vec<Class>,
    random: Random,
    next_group: usize,
    next_job: u128,
    now: f64,
}

impl Load {
    fn new(shape: Shape, groups: usize) -> Self {
        let mut placement = Placement::new(Parameters::default());
        let pools: Vec<_> = (0..POOLS).map(|_| placement.add_pool()).collect();
        let classes: Vec<Class> = (0..CLASSES).map(|at| placement.add_class(pools[at % POOLS])).collect();
        let served: Vec<Arc<[Class]>> =
            (0..POOLS).map(|pool| classes.iter().copied().skip(pool).step_by(POOLS).collect()).collect();
        for device in 0..DEVICES {
            let state = DeviceState {
                classes: Arc::clone(&served[device % POOLS]),
                installed: Vec::new(),
                capacity_apps: 4,
                up: true,
                installs: 0,
            };
            placement.put_device(device::Id(device as u128), state, 0.0);
        }
        let random = Random::new(7);
        let mut load =
            Self { shape, groups, placement, classes, random, next_group: 0, next_job: 0, now: 0.0 };
        for group in 0..groups {
            load.now = if shape == Shape::SameAge { 0.0 } else { group as f64 * 0.01 };
            load.add_group();
        }
        load
    }

    fn add_group(&mut self) {
        let group = self.next_group;
        self.next_group += 1;
        let orgs = match self.shape {
            Shape::OneOrg => 1,
            Shape::OrgPerGroup => usize::MAX,
            _ => 1_000.min(self.groups),
        };
        let org = if orgs == usize::MAX { group } else { self.random.below(orgs) };
        let jobs = match self.shape {
            Shape::TinyGroups => 1 + self.random.below(3),
            // With very many groups a few jobs each are as many as a server would ever hold.
            _ if self.groups == MANY => 1 + self.random.below(15),
            _ => self.random.log_uniform(20.0, 300.0) as usize,
        };
        let key = GroupKey {
            org: Org(org as u32),
            version: Version(group as u32),
            class: self.classes[self.random.below(CLASSES)],
            priority: [3, 5, 5, 5, 7, 9][self.random.below(6)],
            concurrency: None,
        };
        let install_s = self.random.log_normal(60.0, 0.6).clamp(10.0, 180.0);
        for _ in 0..jobs {
            let waiting = Waiting {
                group: key,
                app: App((group % 5_000) as u32),
                install_s,
                predicted_s: self.random.log_normal(75.0, 0.85).clamp(20.0, 600.0),
                enqueued_at: self.now,
                barred: Vec::new(),
            };
            self.placement.enqueue(job::Id(self.next_job), waiting, self.now);
            self.next_job += 1;
        }
    }

    fn run(mut self) -> Nanoseconds {
        let mut busy: BinaryHeap<Reverse<(Moment, usize)>> = BinaryHeap::new();
        for device in 0..DEVICES {
            let stagger = self.random.between(0.0, 300.0);
            busy.push(Reverse((Moment(self.now + stagger), device)));
        }
        let mut took_ns = Vec::with_capacity(DECISIONS);
        while let Some(Reverse((at, device))) = busy.pop() {
            self.now = at.0;
            let id = device::Id(device as u128);
            self.placement.finish(id, self.now);
            let before = Instant::now();
            let decision = self.placement.claim(id, self.now);
            took_ns.push(u32::try_from(before.elapsed().as_nanos()).unwrap_or(u32::MAX));
            let lasts_s =
                if matches!(decision, Decision::Run(_)) { self.random.between(20.0, 300.0) } else { 60.0 };
            busy.push(Reverse((Moment(self.now + lasts_s), device)));
            if took_ns.len() == DECISIONS + DEVICES {
                break;
            }
            if took_ns.len().is_multiple_of(RENEWAL) {
                let renewed = if self.shape == Shape::TinyGroups { RENEWAL / 2 } else { 1 };
                (0..renewed).for_each(|_| self.add_group());
            }
        }
        // Every device's first decision finds an empty one: not what is usual.
        quietest(&took_ns[DEVICES.min(took_ns.len())..])
    }
}

/// The quantiles of the quietest of several rounds: what else the machine does can only add to them.
fn quietest(took_ns: &[u32]) -> Nanoseconds {
    let rounds = took_ns.chunks(DECISIONS / ROUNDS).map(Nanoseconds::of);
    rounds
        .reduce(|least, round| Nanoseconds { p50: least.p50.min(round.p50), p99: least.p99.min(round.p99) })
        .unwrap_or(Nanoseconds { p50: 0.0, p99: 0.0 })
}
