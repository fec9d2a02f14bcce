//! Numbers for what the placement knows by number only: orgs, apps, versions, classes.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use super::super::placement::{App, Class, Concurrency, GroupKey, Org, Placement, Pool, Version};
use super::{Board, Group, Numbered};
use crate::model::build::Build;
use crate::model::device::Device;
use crate::model::group;
use crate::model::name::{ConcurrencyGroup, OrgId};
use crate::model::selector::{Platform, Selector, Target};
use crate::model::sha256::Sha256;
use jiff::Timestamp;

/// Numbers, given once and never taken back.
#[derive(Debug)]
pub(super) struct Numbers {
    orgs: HashMap<OrgId, Org>,
    apps: HashMap<(Platform, String), App>,
    versions: HashMap<Sha256, Version>,
    classes: HashMap<Requirements, Class>,
    concurrency: HashMap<(OrgId, ConcurrencyGroup), Concurrency>,
    /// One for each platform: no device of one can help the other.
    pools: HashMap<Platform, Pool>,
    /// Orgs that have devices of their own.
    with_own_devices: BTreeSet<OrgId>,
}

/// What the jobs of a class ask of a device.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Requirements {
    /// The build's platform.
    build: Platform,
    platform: Option<Platform>,
    target: Target,
    selector: Selector,
    /// Only if the org has devices of its own: all others may use the same devices.
    org: Option<OrgId>,
}

impl Requirements {
    pub(super) fn are_met_by(&self, device: &Device) -> bool {
        let platforms = [self.platform, Some(self.build)];
        group::suits(device, self.target, platforms, self.org.as_ref(), &self.selector)
    }
}

fn number<K: Eq + Hash, N: Copy>(known: &mut HashMap<K, N>, key: K, make: impl FnOnce(u32) -> N) -> N {
    let next = known.len() as u32;
    *known.entry(key).or_insert_with(|| make(next))
}

impl Numbers {
    pub(super) fn new(with_own_devices: impl Iterator<Item = OrgId>) -> Self {
        Self {
            orgs: HashMap::new(),
            apps: HashMap::new(),
            versions: HashMap::new(),
            classes: HashMap::new(),
            concurrency: HashMap::new(),
            pools: HashMap::new(),
            with_own_devices: with_own_devices.collect(),
        }
    }

    pub(super) fn given(&self) -> usize {
        self.orgs.len() + self.apps.len() + self.versions.len() + self.classes.len() + self.concurrency.len()
    }

    pub(super) fn knows_devices_of(&self, org: &OrgId) -> bool {
        self.with_own_devices.contains(org)
    }

    pub(super) fn org(&mut self, org: &OrgId) -> Org {
        match self.orgs.get(org) {
            Some(known) => *known,
            None => number(&mut self.orgs, org.clone(), Org),
        }
    }

    pub(super) fn app(&mut self, platform: Platform, app_id: &str) -> App {
        number(&mut self.apps, (platform, app_id.to_owned()), App)
    }

    pub(super) fn version(&mut self, sha256: Sha256) -> Version {
        number(&mut self.versions, sha256, Version)
    }

    pub(super) fn concurrency(&mut self, org: &OrgId, name: &ConcurrencyGroup) -> Concurrency {
        number(&mut self.concurrency, (org.clone(), name.clone()), Concurrency)
    }

    /// Whether the placement's group is, or holds, a group of the board.
    pub(super) fn are_of(&self, key: &GroupKey, group: &Group) -> bool {
        let Some(build) = &group.build else { return false };
        self.orgs.get(&group.key.org_id) == Some(&key.org)
            && self.versions.get(&build.sha256) == Some(&key.version)
            && self.classes.get(&self.requirements(&group.key, build)) == Some(&key.class)
            && key.concurrency
                == group
                    .key
                    .concurrency_group
                    .as_ref()
                    .and_then(|name| self.concurrency.get(&(group.key.org_id.clone(), name.clone())).copied())
    }

    fn requirements(&self, key: &group::Key, build: &Build) -> Requirements {
        Requirements {
            build: build.platform,
            platform: key.platform,
            target: key.target,
            selector: key.selector.clone(),
            org: self.knows_devices_of(&key.org_id).then(|| key.org_id.clone()),
        }
    }

    /// The classes that a device meets.
    pub(super) fn met_by(&self, device: &Device) -> Vec<Class> {
        let met = self.classes.iter().filter(|(requirements, _)| requirements.are_met_by(device));
        let mut classes: Vec<Class> = met.map(|(_, class)| *class).collect();
        classes.sort_unstable();
        classes
    }

    /// The class of a group's jobs, and whether it is new.
    fn class(&mut self, key: &group::Key, build: &Build, placement: &mut Placement) -> (Class, bool) {
        let requirements = self.requirements(key, build);
        if let Some(known) = self.classes.get(&requirements) {
            return (*known, false);
        }
        let pool = *self.pools.entry(build.platform).or_insert_with(|| placement.add_pool());
        let class = placement.add_class(pool);
        self.classes.insert(requirements, class);
        (class, true)
    }
}

impl Board {
    /// The numbers of a group that has a build. A class that is new is made known to the devices that meet it.
    pub(super) fn numbered(&mut self, group: group::Id, now: Timestamp) -> Option<Numbered> {
        let group = self.groups.get(&group)?;
        let build = group.build.as_ref()?;
        let (class, is_new) = self.numbers.class(&group.key, build, &mut self.placement);
        let numbered = Numbered {
            org: self.numbers.org(&group.key.org_id),
            app: self.numbers.app(build.platform, &build.app_id),
            version: self.numbers.version(build.sha256),
            class,
            concurrency: group
                .key
                .concurrency_group
                .as_ref()
                .map(|name| self.numbers.concurrency(&group.key.org_id, name)),
        };
        if is_new {
            self.classify_devices(now);
        }
        Some(numbered)
    }
}
