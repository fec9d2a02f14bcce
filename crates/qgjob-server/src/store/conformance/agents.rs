//! Agents, devices, tokens, labels.

use jiff::SignedDuration;
use qgjob_core::model::build::AppVersion;
use qgjob_core::model::device::{Quarantine, State};
use qgjob_core::model::event::Fact;
use qgjob_core::model::refusal::Refusal;
use qgjob_core::model::selector::Platform;
use qgjob_core::model::sha256::Sha256;
use qgjob_core::model::token::{Kind, Token};
use qgjob_core::model::{agent, device, job};

use super::world::{World, acme, org, phone};
use crate::store::{Listed, Scope};

pub async fn a_registration_token_works_once(w: &mut World) {
    let (ticket, hash) = w.token(Kind::Registration, None);
    w.store.add_token(ticket, hash).await.unwrap();
    let (first, second) = (w.agent("first"), w.agent("second"));
    let session = w.token(Kind::Agent, Some(first.id));
    let live = session.1;
    w.store.register_agent(w.now, hash, first.clone(), session).await.unwrap().unwrap();
    assert_eq!(w.store.token_by_hash(live, w.now).await.unwrap().unwrap().agent_id, Some(first.id));
    assert_eq!(w.store.token_by_hash(hash, w.now).await.unwrap(), None);
    let session = w.token(Kind::Agent, Some(second.id));
    w.store.register_agent(w.now, hash, second.clone(), session.clone()).await.unwrap().unwrap_err();
    let refused = w.store.register_agent(w.now, live, second, session).await.unwrap();
    assert!(matches!(refused, Err(Refusal::NotFound { .. })), "only a registration token registers");
    assert_eq!(w.store.agents().await.unwrap(), [first]);
}

pub async fn a_name_taken_again_keeps_its_devices(w: &mut World) {
    let old = w.rack("rack", 2).await;
    let accepted = w.submit(1).await;
    let group = w.group(&accepted).await;
    let lease = w.claim(&old, 0, group).await.unwrap();
    let new = w.rack("rack", 2).await;
    assert_ne!(new.id, old.id);
    assert_eq!(new.devices, old.devices);
    assert_eq!(w.store.token_by_hash(old.session, w.now).await.unwrap(), None, "the old session ended");
    assert_eq!(w.store.agents().await.unwrap().len(), 1);
    assert!(w.heartbeat(&old, false, &[&lease]).await.is_err());
    assert_eq!(w.job(lease.job_id).await.status, job::Status::Queued, "what the old process ran is lost");
    // A name does not change its org: that would hand devices over.
    let (ticket, hash) = w.token(Kind::Registration, None);
    w.store.add_token(Token { org_id: Some(org("other")), ..ticket }, hash).await.unwrap();
    let thief = w.agent("rack");
    let session = w.token(Kind::Agent, Some(thief.id));
    w.store.register_agent(w.now, hash, thief, session).await.unwrap().unwrap_err();
    assert_eq!(w.store.agents().await.unwrap()[0].id, new.id);
    assert!(w.store.token_by_hash(hash, w.now).await.unwrap().is_some(), "a refusal uses no token up");
}

pub async fn devices_come_and_go(w: &mut World) {
    let mut rack = w.rack("rack", 2).await;
    let gone = rack.reported.pop().unwrap();
    let mut renamed = rack.reported[0].clone();
    renamed.name = "renamed".to_owned();
    rack.reported[0] = renamed;
    w.heartbeat(&rack, false, &[]).await.unwrap();
    assert_eq!(w.device(rack.devices[1]).await.state, device::State::Offline);
    assert_eq!(w.device(rack.devices[0]).await.name, "renamed");
    rack.reported.push(gone.clone());
    let reply = w.heartbeat(&rack, false, &[]).await.unwrap();
    assert_eq!(reply.devices[1], (gone.serial.clone(), rack.devices[1]), "a serial keeps its id");
    rack.reported.push(gone);
    let twice = w.heartbeat(&rack, false, &[]).await.unwrap_err();
    assert!(matches!(twice, Refusal::Invalid(_)), "{twice}");
    assert_eq!(w.store.devices(&Scope::All).await.unwrap().len(), 2);
}

pub async fn a_fresh_process_holds_nothing(w: &mut World) {
    let accepted = w.submit(1).await;
    let group = w.group(&accepted).await;
    let rack = w.rack("rack", 1).await;
    let lease = w.claim(&rack, 0, group).await.unwrap();
    w.heartbeat(&rack, true, &[]).await.unwrap();
    let job = w.job(lease.job_id).await;
    assert_eq!((job.status, job.reason), (job::Status::Queued, Some(job::Reason::LeaseLost)));
    assert_eq!(w.device(rack.devices[0]).await.state, device::State::Idle);
}

pub async fn drained_devices_and_agents_take_nothing(w: &mut World) {
    let accepted = w.submit(3).await;
    let group = w.group(&accepted).await;
    let rack = w.rack("rack", 2).await;
    let lease = w.claim(&rack, 0, group).await.unwrap();
    let drained = w.store.set_device_drained(w.now, rack.devices[0], true).await.unwrap().unwrap();
    assert_eq!((drained.state, drained.attempt_id), (device::State::Drained, Some(lease.attempt_id)));
    w.heartbeat(&rack, false, &[&lease]).await.unwrap();
    w.pass(&rack, &lease).await;
    assert_eq!(w.claim(&rack, 0, group).await, None);
    w.store.set_device_drained(w.now, rack.devices[0], false).await.unwrap().unwrap();
    let agent = w.store.set_agent_draining(w.now, rack.id, true).await.unwrap().unwrap();
    assert_eq!(agent.state, agent::State::Draining);
    assert!(w.heartbeat(&rack, false, &[]).await.unwrap().drain);
    assert_eq!(w.claim(&rack, 0, group).await, None);
    w.store.set_agent_draining(w.now, rack.id, false).await.unwrap().unwrap();
    assert!(w.claim(&rack, 0, group).await.is_some());
    assert!(w.store.set_device_drained(w.now, device::Id(1), true).await.unwrap().is_err());
    assert!(w.store.set_agent_draining(w.now, agent::Id(1), true).await.unwrap().is_err());
}

fn quarantine(w: &World, minutes: i64, in_a_row: u32) -> Quarantine {
    let (since, until) = (w.now, w.now + SignedDuration::from_mins(minutes));
    Quarantine {
        since,
        until,
        in_a_row,
        evidence: "3 of the last 3 attempts failed".to_owned(),
        ended_at: None,
    }
}

pub async fn a_quarantine_keeps_a_device_out_until_its_time_is_over(w: &mut World) {
    let accepted = w.submit(3).await;
    let group = w.group(&accepted).await;
    let mut rack = w.rack("rack", 2).await;
    let device = rack.devices[0];
    let told = w.told("device.changed").await;
    let first = quarantine(w, 10, 1);
    let out = w.store.set_device_quarantine(w.now, device, first.clone()).await.unwrap().unwrap();
    assert_eq!((out.state, out.quarantine.as_ref()), (State::Quarantined, Some(&first)));
    let note = out.note.unwrap();
    assert!(note.contains("3 of the last 3") && note.contains("qgjob device enable rack-0"), "{note}");
    assert_eq!(w.told("device.changed").await, told + 1);
    let gauges = w.store.gauges().await.unwrap();
    assert!(gauges.devices.contains(&(State::Quarantined, Platform::Android, 1)), "{:?}", gauges.devices);
    assert_eq!(w.claim(&rack, 0, group).await, None);
    assert!(w.claim(&rack, 1, group).await.is_some(), "the other one is as before");
    w.heartbeat(&rack, true, &[]).await.unwrap();
    let again = w.rack("rack", 2).await;
    assert_eq!(
        w.device(device).await.state,
        State::Quarantined,
        "it is the device's, not the agent's process's"
    );
    rack.id = again.id;
    w.wait(600);
    let probe = w.claim(&rack, 0, group).await.unwrap();
    assert_eq!(w.device(device).await.state, State::Busy);
    w.wait(10);
    let longer = quarantine(w, 20, 2);
    w.store.set_device_quarantine(w.now, device, longer.clone()).await.unwrap().unwrap();
    w.finish(&rack, &probe, super::world::broken()).await;
    let told = w.told("device.changed").await;
    for old in [first.clone(), Quarantine { ended_at: Some(w.now), ..first }, longer.clone()] {
        let kept = w.store.set_device_quarantine(w.now, device, old).await.unwrap().unwrap();
        assert_eq!((kept.state, kept.quarantine.as_ref()), (State::Quarantined, Some(&longer)));
    }
    assert_eq!(w.told("device.changed").await, told, "what is known is not told again");
    w.wait(1200);
    let over = Quarantine { ended_at: Some(w.now), ..longer.clone() };
    w.store.set_device_quarantine(w.now, device, over.clone()).await.unwrap().unwrap();
    let back = w.store.set_device_quarantine(w.now, device, longer).await.unwrap().unwrap();
    assert_eq!((back.state, back.quarantine, back.note), (State::Idle, Some(over), None));
    let unknown = w.store.set_device_quarantine(w.now, device::Id(1), quarantine(w, 1, 1)).await.unwrap();
    assert!(matches!(unknown, Err(Refusal::NotFound { .. })));
}

pub async fn an_operator_ends_a_quarantine(w: &mut World) {
    let accepted = w.submit(1).await;
    let group = w.group(&accepted).await;
    let rack = w.rack("rack", 1).await;
    let given = quarantine(w, 10, 1);
    w.store.set_device_quarantine(w.now, rack.devices[0], given.clone()).await.unwrap().unwrap();
    w.wait(60);
    let drained = w.store.set_device_drained(w.now, rack.devices[0], true).await.unwrap().unwrap();
    assert_eq!((drained.state, drained.quarantine.as_ref()), (State::Drained, Some(&given)));
    let enabled = w.store.set_device_drained(w.now, rack.devices[0], false).await.unwrap().unwrap();
    assert_eq!(enabled.state, State::Idle);
    assert_eq!(enabled.quarantine, Some(Quarantine { ended_at: Some(w.now), ..given }));
    let events = w.events().await;
    let state = events.iter().rev().find_map(|event| match event.fact {
        Fact::DeviceChanged { state, .. } => Some(state),
        _ => None,
    });
    assert_eq!(state, Some(State::Idle));
    assert!(w.claim(&rack, 0, group).await.is_some());
}

pub async fn a_removed_agent_is_gone(w: &mut World) {
    let accepted = w.submit(1).await;
    let group = w.group(&accepted).await;
    let rack = w.rack("rack", 2).await;
    let lease = w.claim(&rack, 0, group).await.unwrap();
    let random = w.draw();
    w.store.remove_agent(w.now, rack.id, random).await.unwrap().unwrap();
    assert_eq!(w.store.agents().await.unwrap(), []);
    assert_eq!(w.store.devices(&Scope::All).await.unwrap(), []);
    assert_eq!(w.store.token_by_hash(rack.session, w.now).await.unwrap(), None);
    assert_eq!(w.job(lease.job_id).await.status, job::Status::Queued);
    let (_, name) = w.store.attempts(lease.job_id).await.unwrap().remove(0);
    assert_eq!(name, "rack-0", "history keeps the device's name");
    assert!(w.store.remove_agent(w.now, rack.id, random).await.unwrap().is_err());
}

pub async fn tokens_end(w: &mut World) {
    let (kept, kept_hash) = w.token(Kind::Admin, None);
    let (short, short_hash) = w.token(Kind::Api, None);
    let short = Token { expires_at: Some(w.now + jiff::SignedDuration::from_secs(10)), ..short };
    w.store.add_token(kept.clone(), kept_hash).await.unwrap();
    w.store.add_token(short.clone(), short_hash).await.unwrap();
    assert_eq!(w.store.token_by_hash(short_hash, w.now).await.unwrap(), Some(short));
    w.wait(10);
    assert_eq!(w.store.token_by_hash(short_hash, w.now).await.unwrap(), None);
    assert_eq!(w.store.token_by_hash(kept_hash, w.now).await.unwrap(), Some(kept.clone()));
    assert_eq!(w.store.token_by_hash(Sha256([99; 32]), w.now).await.unwrap(), None);
    assert_eq!(w.store.tokens().await.unwrap().len(), 2);
    w.store.remove_token(kept.id).await.unwrap().unwrap();
    assert_eq!(w.store.token_by_hash(kept_hash, w.now).await.unwrap(), None);
    assert!(w.store.remove_token(kept.id).await.unwrap().is_err());
}

pub async fn labels_are_bound_once(w: &mut World) {
    let again = w.app_version(&acme(), "v1", 1);
    let bound = w.store.bind_app_version(again.clone()).await.unwrap().unwrap();
    assert_eq!(bound, again);
    let other = w.app_version(&acme(), "v1", 2);
    let refusal = w.store.bind_app_version(other).await.unwrap().unwrap_err();
    let (bound, given) = (Sha256([1; 32]), Sha256([2; 32]));
    assert_eq!(refusal, Refusal::LabelBound { app_version_id: "v1".parse().unwrap(), bound, given });
    w.bind(&org("other"), "v1", 2).await;
    assert_eq!(w.told("app_version.created").await, 2);
    let found = w.store.app_version(&acme(), &"v1".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(found.build.sha256, bound);
    assert_eq!(w.store.app_versions(&Scope::Org(acme()), None, 10).await.unwrap(), [found]);
    let all = w.store.app_versions(&Scope::All, None, 10).await.unwrap();
    assert_eq!(all.len(), 2);
    let AppVersion { created_at, org_id, app_version_id, .. } = all[0].clone();
    let first = Listed { created_at, org_id, app_version_id };
    assert_eq!(w.store.app_versions(&Scope::All, Some(first), 10).await.unwrap(), all[1..]);
    let ours = w.rack_for("ours", Some(acme()), vec![phone("ours")]).await;
    assert_eq!(w.device(ours.devices[0]).await.serves, Some(acme()));
}
