//! When a waiting job should start: the placement, replayed in virtual time.

use std::collections::BTreeSet;

use super::fleet::Hold;
use super::seconds::{Seconds, bounded, moment};
use super::{Decision, Placement};
use crate::model::job;

/// A job that has outlived its prediction goes on for this share of it. It may end at any moment, and nothing tells
/// when; a tenth neither promises its device at once nor keeps it from others for long.
const OVERDUE: f64 = 0.1;

/// What happens to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    Ends,
    Asks,
}

impl Placement {
    /// When a waiting job should start if nothing comes and nothing fails: all free devices ask, and each job ends
    /// `stretch` times its predicted duration and install after its start. So a caller that asks with 0.7, 1 and 1.5
    /// has a range. Of equal numbers the answer is always the same.
    ///
    /// None if the job does not wait, if nothing that will happen starts it (it is paused, no device of its class is
    /// up), or if it does not start within `most_decisions`.
    ///
    /// Costs a copy of the placement, and the decisions.
    pub fn expected_start(&self, job: job::Id, now: f64, stretch: f64, most_decisions: usize) -> Option<f64> {
        let mut now = moment(now);
        let group = self.group(self.jobs.get(&job).filter(|job| !job.running)?.group);
        let org_paused = self.orgs.get(&group.key.org).is_some_and(|org| org.paused);
        if org_paused || group.paused || self.devices_up(group.key.class) == 0 {
            return None;
        }
        let stretch = bounded(stretch, 0.0, 1e6);
        let mut placement = self.clone();
        let mut free = BTreeSet::new();
        let mut agenda = BTreeSet::new();
        for (device, known) in &self.devices {
            match &known.hold {
                Some(hold) => _ = agenda.insert((hold.should_end(now, stretch), Next::Ends, *device)),
                None if known.state.up => _ = free.insert(*device),
                None => {}
            }
        }
        let mut asking = free.clone();
        let mut left = most_decisions;
        loop {
            left = left.checked_sub(asking.len())?;
            for (device, decision) in placement.claim_all(&Vec::from_iter(asking), now) {
                match decision {
                    Decision::Run(run) if run.job == job => return Some(now),
                    Decision::Run(_) => {
                        free.remove(&device);
                        let hold = placement.devices.get(&device).and_then(|known| known.hold.as_ref());
                        agenda.extend(hold.map(|hold| (hold.should_end(now, stretch), Next::Ends, device)));
                    }
                    Decision::Wait { until } => {
                        agenda.extend(until.map(|until| (Seconds::new(until), Next::Asks, device)));
                    }
                }
            }
            let (next, ..) = *agenda.first()?;
            now = next.get();
            asking = BTreeSet::new();
            while agenda.first().is_some_and(|(at, ..)| *at == next)
                && let Some((_, what, device)) = agenda.pop_first()
            {
                if what == Next::Ends {
                    placement.finish(device, now);
                    free.insert(device);
                }
                asking.insert(device);
            }
            asking.extend(placement.worth_asking(free.iter().copied()));
        }
    }
}

impl Hold {
    /// When the device should be free if all takes `stretch` times what was predicted.
    fn should_end(&self, now: f64, stretch: f64) -> Seconds {
        let lasts_s = stretch * (self.end - self.started);
        let end = self.started + lasts_s;
        Seconds::new(if end > now { end } else { now + OVERDUE * lasts_s })
    }
}
