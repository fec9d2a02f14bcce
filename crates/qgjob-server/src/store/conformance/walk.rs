//! Random walks: any sequence of verbs keeps the invariants, and after every step the store agrees with a model of
//! what it must hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use qgjob_core::api::agents::{Lease, Order};
use qgjob_core::api::runs::NewRun;
use qgjob_core::model::evidence::Stop;
use qgjob_core::model::job::{Conclusion, Status};
use qgjob_core::model::limits::{OrgChange, OrgLimits};
use qgjob_core::model::priority::Priority;
use qgjob_core::model::{attempt, device, job, run};

use super::history;
use super::world::{LEASE, Rack, World, acme, broken, key, stopped};
use crate::store::{Cancel, Scope, Store, Submission};

const DEVICES: usize = 3;
/// The concurrency group.
const STAGING: &str = "staging";

/// One step; the numbers choose among what there is.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    Submit { tests: usize, priority: u8, named: bool },
    SubmitKeyed { key: u8 },
    Claim { device: usize, job: usize },
    Renew { lease: usize },
    Pass { lease: usize },
    Fail { lease: usize },
    Break { lease: usize },
    Release { lease: usize },
    CancelJob { job: usize },
    CancelRun { run: usize },
    CancelKey { key: u8 },
    Wait { seconds: i64 },
    Sweep,
    Restart,
    Drain { device: usize, drained: bool },
    Quarantine { device: usize, seconds: i64 },
    GiveUp { job: usize },
    LimitOrg { max_running: Option<u32>, paused: bool },
    Pause { paused: bool },
    LimitConcurrency { limit: u32 },
}

/// Any step, those more often that lead somewhere.
pub fn step() -> impl Strategy<Value = Step> {
    let which = 0..100usize;
    prop_oneof![
        2 => (1..4usize, 1..=10u8, any::<bool>()).prop_map(|(tests, priority, named)| Step::Submit { tests, priority, named }),
        1 => (0..3u8).prop_map(|key| Step::SubmitKeyed { key }),
        6 => (0..3usize, which.clone()).prop_map(|(device, job)| Step::Claim { device, job }),
        2 => which.clone().prop_map(|lease| Step::Renew { lease }),
        2 => which.clone().prop_map(|lease| Step::Pass { lease }),
        1 => which.clone().prop_map(|lease| Step::Fail { lease }),
        3 => which.clone().prop_map(|lease| Step::Break { lease }),
        1 => which.clone().prop_map(|lease| Step::Release { lease }),
        1 => which.clone().prop_map(|job| Step::CancelJob { job }),
        1 => which.clone().prop_map(|run| Step::CancelRun { run }),
        1 => (0..3u8).prop_map(|key| Step::CancelKey { key }),
        3 => (1..20i64).prop_map(|seconds| Step::Wait { seconds }),
        2 => Just(Step::Sweep),
        1 => Just(Step::Restart),
        1 => (0..3usize, any::<bool>()).prop_map(|(device, drained)| Step::Drain { device, drained }),
        1 => (0..3usize, 1..20i64).prop_map(|(device, seconds)| Step::Quarantine { device, seconds }),
        1 => which.clone().prop_map(|job| Step::GiveUp { job }),
        1 => (prop::option::of(1..3u32), prop::bool::weighted(0.2))
            .prop_map(|(max_running, paused)| Step::LimitOrg { max_running, paused }),
        1 => prop::bool::weighted(0.3).prop_map(|paused| Step::Pause { paused }),
        1 => (1..3u32).prop_map(|limit| Step::LimitConcurrency { limit }),
    ]
}

#[derive(Debug, Clone, PartialEq)]
enum Place {
    Waits,
    Held(attempt::Id),
    Done(Conclusion),
}

#[derive(Debug)]
struct Job {
    id: job::Id,
    run: run::Id,
    /// Whether it names the concurrency group.
    named: bool,
    place: Place,
    queued_at: Timestamp,
    not_before: Option<Timestamp>,
    faults: u32,
    avoid: Vec<device::Id>,
}

#[derive(Debug)]
struct Held {
    lease: Lease,
    job: usize,
    until: Timestamp,
    live: bool,
    /// What the agent's own finish made of the job.
    answered: Option<Option<Conclusion>>,
}

#[derive(Default)]
struct Model {
    jobs: Vec<Job>,
    leases: Vec<Held>,
    runs: Vec<run::Id>,
    keys: BTreeMap<u8, Option<run::Id>>,
    drained: [bool; DEVICES],
    /// Since when, and until when, unless it was ended.
    quarantines: [Option<(Timestamp, Option<Timestamp>)>; DEVICES],
    org: OrgLimits,
    paused: bool,
    /// None: as it is when nobody set it.
    concurrency: Option<u32>,
}

impl Model {
    fn add(&mut self, run: run::Id, jobs: &[job::Job], now: Timestamp) {
        self.runs.push(run);
        self.jobs.extend(jobs.iter().map(|job| Job {
            id: job.id,
            run,
            named: job.spec.concurrency_group.is_some(),
            place: Place::Waits,
            queued_at: now,
            not_before: None,
            faults: 0,
            avoid: vec![],
        }));
    }

    fn cancel(&mut self, chosen: impl Fn(&Job) -> bool) {
        for job in self.jobs.iter_mut().filter(|job| chosen(job) && !matches!(job.place, Place::Done(_))) {
            job.place = Place::Done(Conclusion::Cancelled);
        }
    }

    /// Whether a device may get a job: it waits and is due, and the device is free.
    fn may_start(&self, device: usize, rack: &Rack, job: usize, now: Timestamp) -> bool {
        let id = rack.devices[device];
        let busy = self.leases.iter().any(|held| held.live && held.lease.device_id == id);
        let job = &self.jobs[job];
        job.place == Place::Waits
            && job.not_before.is_none_or(|at| at <= now)
            && !busy
            && !self.drained[device]
            && self.quarantines[device].is_none_or(|(_, until)| until.is_none_or(|until| until <= now))
            && self.limits_let(job)
    }

    fn limits_let(&self, job: &Job) -> bool {
        let live = || self.leases.iter().filter(|held| held.live);
        let named = live().filter(|held| self.jobs[held.job].named).count();
        !self.org.paused
            && !self.paused
            && self.org.max_running.is_none_or(|most| live().count() < most as usize)
            && (!job.named || named < self.concurrency.unwrap_or(1) as usize)
    }

    /// An attempt ends; if it holds its job, that ends with `conclusion` or, on an infrastructure fault, waits again.
    fn end(
        &mut self,
        at: usize,
        conclusion: Option<Conclusion>,
        fault: bool,
        now: Timestamp,
    ) -> Option<Conclusion> {
        let held = &mut self.leases[at];
        held.live = false;
        let job = &mut self.jobs[held.job];
        if job.place != Place::Held(held.lease.attempt_id) {
            let Place::Done(conclusion) = job.place else {
                panic!("an attempt lives whose job is elsewhere")
            };
            return Some(conclusion);
        }
        let conclusion = conclusion.or((fault && job.faults == 2).then_some(Conclusion::Errored));
        match conclusion {
            Some(conclusion) => job.place = Place::Done(conclusion),
            None => {
                (job.place, job.queued_at) = (Place::Waits, now);
                if fault {
                    job.faults += 1;
                    if !job.avoid.contains(&held.lease.device_id) {
                        job.avoid.push(held.lease.device_id);
                    }
                }
            }
        }
        conclusion
    }
}

/// Walks a fresh store through `steps`; panics where it does something else than the model.
pub async fn walk(store: Arc<dyn Store>, steps: &[Step]) {
    let mut w = World::new(store).await;
    let rack = w.rack("rack", DEVICES).await;
    let mut model = Model::default();
    for step in steps {
        take(&mut w, &mut model, &rack, *step).await;
        agree(&w, &mut model, &rack).await;
    }
    history::check(&*w.store).await;
}

async fn take(w: &mut World, model: &mut Model, rack: &Rack, step: Step) {
    match step {
        Step::Submit { tests, priority, named } => {
            let priority = Priority::try_from(priority).unwrap();
            let change = |run: &mut NewRun| {
                run.options.priority = priority;
                run.options.concurrency_group = named.then(|| STAGING.parse().unwrap());
            };
            let accepted = w.submit_with(tests, change).await;
            model.add(accepted.run.id, &accepted.jobs, w.now);
        }
        Step::SubmitKeyed { key: number } => {
            let submission = Submission { key: key(&format!("k{number}"), 1), ..w.submission(2, |_| ()) };
            let accepted = w.try_submit(submission).await.unwrap();
            let known = model.keys.insert(number, Some(accepted.run.id));
            assert_eq!(accepted.replayed, matches!(known, Some(Some(_))), "I2: one key, one run");
            match known {
                Some(Some(run)) => assert_eq!(run, accepted.run.id, "I2: one key, one run"),
                _ => model.add(accepted.run.id, &accepted.jobs, w.now),
            }
            if known == Some(None) {
                model.cancel(|job| job.run == accepted.run.id);
            }
        }
        Step::Claim { device, job } => {
            // The jobs that wait first: most of the others are over, and claiming those is seldom of interest.
            let mut jobs: Vec<usize> = (0..model.jobs.len()).collect();
            jobs.sort_by_key(|at| model.jobs[*at].place != Place::Waits);
            let Some(job) = jobs.get(job % (jobs.len() / 2 + 1)).copied() else { return };
            let expected = model.may_start(device, rack, job, w.now);
            let lease = w.claim_job(rack, device, model.jobs[job].id).await;
            let wanted = expected.then_some(model.jobs[job].id);
            assert_eq!(lease.as_ref().map(|lease| lease.job_id), wanted, "the job, or none");
            if let Some(lease) = lease {
                let newest = model.leases.last().map_or(0, |held| held.lease.epoch);
                assert!(lease.epoch > newest, "I3: epochs rise");
                model.jobs[job].place = Place::Held(lease.attempt_id);
                model.leases.push(Held { lease, job, until: w.now + LEASE, live: true, answered: None });
            }
        }
        Step::Renew { lease } => {
            let Some(held) = pick(&mut model.leases, lease) else { return };
            let expected = match (held.live, &model.jobs[held.job].place) {
                (false, _) => Order::Abandon,
                (true, Place::Done(_)) => Order::Cancel,
                (true, _) => Order::GoOn { lease_ms: LEASE.as_millis() as u64 },
            };
            if held.live {
                held.until = w.now + LEASE;
            }
            let lease = held.lease.clone();
            assert_eq!(w.renew(rack, &lease).await, expected);
        }
        Step::Pass { lease } | Step::Fail { lease } | Step::Break { lease } | Step::Release { lease } => {
            finish(w, model, rack, lease, step).await;
        }
        Step::CancelJob { job } => {
            let Some(job) = pick(&mut model.jobs, job) else { return };
            let id = job.id;
            let refused = matches!(job.place, Place::Done(conclusion) if conclusion != Conclusion::Cancelled);
            let answer = w.store.cancel(w.now, &Scope::All, Cancel::Job(id)).await.unwrap();
            assert_eq!(answer.is_err(), refused);
            model.cancel(|job| job.id == id);
        }
        Step::CancelRun { run } => {
            let Some(run) = pick(&mut model.runs, run).copied() else { return };
            w.store.cancel(w.now, &Scope::All, Cancel::Run(run)).await.unwrap().unwrap();
            model.cancel(|job| job.run == run);
        }
        Step::CancelKey { key: number } => {
            let (text, _) = key(&format!("k{number}"), 1).unwrap();
            w.store.cancel(w.now, &Scope::All, Cancel::Key(acme(), text)).await.unwrap().unwrap();
            if let Some(run) = *model.keys.entry(number).or_insert(None) {
                model.cancel(|job| job.run == run);
            }
        }
        Step::Wait { seconds } => {
            w.wait(seconds);
            w.heartbeat(rack, false, &[]).await.unwrap();
        }
        Step::Sweep => {
            let expired: Vec<_> = (0..model.leases.len())
                .filter(|at| model.leases[*at].live && model.leases[*at].until <= w.now)
                .collect();
            assert_eq!(w.sweep().await.leases_expired as usize, expired.len());
            for at in expired {
                model.end(at, None, true, w.now);
            }
        }
        Step::Restart => {
            w.heartbeat(rack, true, &[]).await.unwrap();
            for at in 0..model.leases.len() {
                if model.leases[at].live {
                    model.end(at, None, true, w.now);
                }
            }
        }
        Step::Drain { device, drained } => {
            model.drained[device] = drained;
            if let Some((_, until)) = model.quarantines[device].as_mut().filter(|_| !drained) {
                *until = None;
            }
            w.store.set_device_drained(w.now, rack.devices[device], drained).await.unwrap().unwrap();
        }
        Step::Quarantine { device, seconds } => {
            let (since, until) = (w.now, w.now + SignedDuration::from_secs(seconds));
            let evidence = "it failed".to_owned();
            let quarantine = device::Quarantine { since, until, in_a_row: 1, evidence, ended_at: None };
            if model.quarantines[device].is_none_or(|(known, _)| known < since) {
                model.quarantines[device] = Some((since, Some(until)));
            }
            let id = rack.devices[device];
            w.store.set_device_quarantine(w.now, id, quarantine).await.unwrap().unwrap();
        }
        Step::GiveUp { job } => {
            let Some(job) = pick(&mut model.jobs, job) else { return };
            if job.place == Place::Waits {
                job.place = Place::Done(Conclusion::Errored);
            }
            w.store.give_up(w.now, vec![job.id], "its build is broken").await.unwrap().remove(0).unwrap();
        }
        Step::LimitOrg { max_running, paused } => {
            model.org = OrgLimits { max_running, paused, ..model.org };
            let change = OrgChange { weight: None, max_running: Some(max_running), paused: Some(paused) };
            assert_eq!(w.store.change_org(w.now, &acme(), change).await.unwrap(), model.org);
        }
        Step::Pause { paused } => {
            model.paused = paused;
            w.store.set_app_version_paused(w.now, &acme(), &"v1".parse().unwrap(), paused).await.unwrap();
        }
        Step::LimitConcurrency { limit } => {
            model.concurrency = Some(limit);
            w.store.set_concurrency_limit(w.now, &acme(), &STAGING.parse().unwrap(), limit).await.unwrap();
        }
    }
}

async fn finish(w: &mut World, model: &mut Model, rack: &Rack, chosen: usize, step: Step) {
    if model.leases.is_empty() {
        return;
    }
    let at = chosen % model.leases.len();
    let (lease, live) = (model.leases[at].lease.clone(), model.leases[at].live);
    let answer = match step {
        Step::Pass { .. } if live => Ok(w.pass(rack, &lease).await),
        Step::Fail { .. } if live => Ok(w.fail(rack, &lease).await),
        Step::Release { .. } => w.try_finish(rack, &lease, stopped(Stop::Shutdown)).await,
        _ => w.try_finish(rack, &lease, broken()).await,
    };
    if !live {
        // I7: an attempt that is over answers as it did, or refuses; nothing changes.
        assert_eq!(answer.ok().map(|finished| finished.conclusion), model.leases[at].answered);
        return;
    }
    let (verdict, fault) = match step {
        Step::Pass { .. } => (Some(Conclusion::Passed), false),
        Step::Fail { .. } => (Some(Conclusion::Failed), false),
        Step::Release { .. } => (None, false),
        _ => (None, true),
    };
    let concluded = model.end(at, verdict, fault, w.now);
    assert_eq!(answer.unwrap().conclusion, concluded);
    model.leases[at].answered = Some(concluded);
}

fn pick<T>(things: &mut [T], chosen: usize) -> Option<&mut T> {
    let count = things.len();
    (count > 0).then(|| &mut things[chosen % count])
}

/// The store's rows say what the model says. The length of a backoff is drawn by the rules: it is only bounded here.
async fn agree(w: &World, model: &mut Model, rack: &Rack) {
    for job in &mut model.jobs {
        let stored = w.job(job.id).await;
        let (status, conclusion) = match job.place {
            Place::Waits => (Status::Queued, None),
            Place::Held(_) => (Status::Running, None),
            Place::Done(conclusion) => (Status::Completed, Some(conclusion)),
        };
        assert_eq!((stored.status, stored.conclusion), (status, conclusion), "job {}", job.id);
        assert_eq!((stored.infra_faults, &stored.avoid), (job.faults, &job.avoid), "job {}", job.id);
        if job.place == Place::Waits {
            let most = SignedDuration::from_secs(5 << job.faults.saturating_sub(1));
            assert!(stored.not_before.is_none_or(|at| at <= job.queued_at + most), "job {}", job.id);
            job.not_before = stored.not_before;
        }
    }
    for device in w.store.devices(&Scope::All).await.unwrap() {
        assert!(rack.devices.contains(&device.id));
        let held = model.leases.iter().find(|held| held.live && held.lease.device_id == device.id);
        assert_eq!(device.attempt_id, held.map(|held| held.lease.attempt_id), "I14: a device is freed");
    }
}
