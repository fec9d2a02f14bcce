//! Agents and their devices.

use jiff::Timestamp;
use qgjob_core::api::agents::ReportedDevice;
use qgjob_core::model::agent::{self, Agent};
use qgjob_core::model::attempt;
use qgjob_core::model::build::Build;
use qgjob_core::model::device::{self, Device, Installed, Proof, Quarantine};
use qgjob_core::model::event::Fact;
use qgjob_core::model::name::OrgId;
use qgjob_core::model::refusal::Refusal;
use qgjob_core::model::sha256::Sha256;
use qgjob_core::model::token::{self, Kind, Token};
use qgjob_core::queue::verdict::Judgement;

use super::attempts;
use super::needs::Needs;
use super::rows::{AgentRow, DeviceRow};
use super::transaction::{Verb, not_found};
use super::work::{About, Work};
use crate::store::alike::same_apps;
use crate::store::{Seen, SeenReply};

fn load(work: &Work, id: agent::Id) -> Verb<AgentRow> {
    work.agents.get(&id).cloned().ok_or_else(|| not_found(format!("agent {id}")))
}

fn change(work: &mut Work, id: agent::Id) -> Verb<&mut AgentRow> {
    work.agents.change(&id).ok_or_else(|| not_found(format!("agent {id}")))
}

/// The device as it shows now.
fn load_device(work: &Work, id: device::Id) -> Verb<Device> {
    let row = work.devices.get(&id).ok_or_else(|| not_found(format!("device {id}")))?;
    Ok(work.shown(row))
}

fn change_device(work: &mut Work, id: device::Id) -> Verb<&mut DeviceRow> {
    work.devices.change(&id).ok_or_else(|| not_found(format!("device {id}")))
}

fn devices_of(work: &Work, id: agent::Id) -> Vec<Device> {
    let own = work.devices.iter().map(|(_, row)| row).filter(|row| row.device.agent_id == id);
    own.map(|row| work.shown(row)).collect()
}

fn tell_agent(work: &mut Work, now: Timestamp, agent: &Agent, state: agent::State) {
    work.tell(now, About::org(agent.serves.as_ref()), Fact::AgentChanged { agent_id: agent.id, state });
}

fn tell_device(
    work: &mut Work,
    now: Timestamp,
    serves: Option<&OrgId>,
    id: device::Id,
    state: device::State,
) {
    work.tell(now, About::org(serves), Fact::DeviceChanged { device_id: id, state });
}

fn end_sessions(work: &mut Work, id: agent::Id) {
    let own = work.tokens.iter().filter(|(_, (token, _))| token.agent_id == Some(id));
    let own: Vec<token::Id> = own.map(|(id, _)| *id).collect();
    own.iter().for_each(|id| work.tokens.remove(id));
}

pub(super) fn register_needs(registration: Sha256, agent: &Agent, needs: &mut Needs) {
    needs.tickets.insert(registration);
    needs.agent_names.insert(agent.name.clone());
}

/// Takes over the devices of the agent that had the name. What that one was running runs out with its leases, or is
/// lost with the new agent's first call.
pub(super) fn register(
    work: &mut Work,
    now: Timestamp,
    registration: Sha256,
    agent: &Agent,
    session: &(Token, Sha256),
) -> Verb<Agent> {
    let is_live = |token: &Token| token.expires_at.is_none_or(|end| end > now);
    let ticket = work.tokens.iter().find(|(_, (_, hash))| *hash == registration);
    let ticket = ticket
        .map(|(_, (token, _))| token.clone())
        .filter(|token| token.kind == Kind::Registration && is_live(token));
    let ticket = ticket.ok_or_else(|| not_found("registration token"))?;
    work.tokens.remove(&ticket.id);
    // A ticket of one org makes agents of that org only.
    let serves = ticket.org_id.or_else(|| agent.serves.clone());
    let agent = Agent { serves, state: agent::State::Online, ..agent.clone() };
    let replaced = work.agents.iter().find(|(_, row)| row.agent.name == agent.name);
    let replaced = replaced.map(|(_, row)| row.shown());
    if let Some(old) = &replaced {
        if old.serves != agent.serves {
            let what = format!("an agent named {:?} is registered for another org", agent.name);
            return Err(Refusal::Invalid(what).into());
        }
        for device in devices_of(work, old.id) {
            change_device(work, device.id)?.device.agent_id = agent.id;
        }
        end_sessions(work, old.id);
        work.agents.remove(&old.id);
        tell_agent(work, now, old, agent::State::Offline);
    }
    work.agents.add(agent.id, AgentRow { agent: agent.clone(), online: true, draining: false });
    work.tokens.add(session.0.id, session.clone());
    tell_agent(work, now, &agent, agent::State::Online);
    Ok(agent)
}

pub(super) fn seen_needs(seen: &Seen, needs: &mut Needs) {
    needs.agents.insert(seen.agent_id);
    needs.devices_of.insert(seen.agent_id);
    needs.held.extend(seen.held.iter().map(|held| held.attempt_id));
    if seen.fresh {
        needs.lost_of.insert(seen.agent_id);
    }
}

pub(super) fn seen(work: &mut Work, now: Timestamp, seen: &Seen) -> Verb<SeenReply> {
    let before = load(work, seen.agent_id)?;
    let agent = before.agent.clone();
    let row = change(work, agent.id)?;
    (row.online, row.agent.seen_at) = (true, now);
    let (state, drain) = (row.state(), row.draining);
    if before.state() == agent::State::Offline {
        tell_agent(work, now, &agent, state);
    }
    if seen.fresh {
        lose(work, now, agent.id, seen.random)?;
    }
    let known = devices_of(work, agent.id);
    let mut devices: Vec<(String, device::Id)> = Vec::with_capacity(seen.devices.len());
    for (new_id, reported) in &seen.devices {
        if devices.iter().any(|(serial, _)| *serial == reported.serial) {
            return Err(Refusal::Invalid(format!("device {:?} is reported twice", reported.serial)).into());
        }
        let before = known.iter().find(|device| device.serial == reported.serial);
        let id = before.map_or(*new_id, |device| device.id);
        note_device(work, now, &agent, id, before, reported)?;
        devices.push((reported.serial.clone(), id));
    }
    let absent = |device: &&Device| seen.devices.iter().all(|(_, reported)| reported.serial != device.serial);
    for device in known.iter().filter(absent) {
        set_offline(work, now, device)?;
    }
    let held: Verb<Vec<_>> =
        seen.held.iter().map(|held| attempts::renew(work, now, seen.lease, agent.id, *held)).collect();
    Ok(SeenReply { devices, held: held?, drain })
}

/// The attempts of the agent and those that hold its devices are lost.
fn lose(work: &mut Work, now: Timestamp, id: agent::Id, random: u128) -> Verb<u32> {
    let owner = |device: device::Id| work.devices.get(&device).map(|row| row.device.agent_id);
    let live = work.attempts.iter().map(|(_, row)| row).filter(|row| row.is_live());
    let mut own: Vec<_> = live
        .map(|row| &row.attempt)
        .filter(|attempt| attempt.agent_id == id || owner(attempt.device_id) == Some(id))
        .collect();
    own.sort_by_key(|attempt| attempt.epoch);
    let ids: Vec<attempt::Id> = own.into_iter().map(|attempt| attempt.id).collect();
    attempts::end_all(work, now, &ids, &Judgement::lost(), random)
}

fn note_device(
    work: &mut Work,
    now: Timestamp,
    agent: &Agent,
    id: device::Id,
    before: Option<&Device>,
    reported: &ReportedDevice,
) -> Verb<()> {
    let noted = Device {
        id,
        agent_id: agent.id,
        serves: agent.serves.clone(),
        name: reported.name.clone(),
        serial: reported.serial.clone(),
        platform: reported.platform,
        kind: reported.kind,
        model: reported.model.clone(),
        os_version: reported.os_version.clone(),
        tags: reported.tags.clone(),
        state: device::State::Offline,
        note: reported.note.clone(),
        ledger: reported.ledger.clone(),
        attempt_id: None,
        quarantine: before.and_then(|device| device.quarantine.clone()),
        seen_at: now,
    };
    match work.devices.change(&id) {
        Some(row) => (row.device, row.online) = (noted, reported.online),
        None => {
            work.devices.add(id, DeviceRow { device: noted, online: reported.online, drained: false });
        }
    }
    let state = load_device(work, id)?.state;
    // Busy and idle are told by the start and the end of attempts.
    let reach = |state| if state == device::State::Busy { device::State::Idle } else { state };
    if before.is_none_or(|before| {
        reach(before.state) != reach(state) || !same_apps(&before.ledger, &reported.ledger)
    }) {
        tell_device(work, now, agent.serves.as_ref(), id, state);
    }
    Ok(())
}

/// Enters a build into the device's ledger: its agent has just proven it to be there. The next claim must find it,
/// whether or not the agent has called in between.
pub(super) fn note_install(work: &mut Work, now: Timestamp, id: device::Id, build: &Build) -> Verb<()> {
    let device = load_device(work, id)?;
    let (app_id, sha256) = (build.app_id.clone(), build.sha256);
    let entry = Installed { app_id, sha256, proof: Proof::DeviceHash, verified_at: now };
    let mut ledger = device.ledger.clone();
    ledger.retain(|installed| installed.app_id != entry.app_id);
    ledger.push(entry);
    let is_news = !same_apps(&device.ledger, &ledger);
    change_device(work, id)?.device.ledger = ledger;
    if is_news {
        tell_device(work, now, device.serves.as_ref(), id, device.state);
    }
    Ok(())
}

fn set_offline(work: &mut Work, now: Timestamp, device: &Device) -> Verb<()> {
    if work.devices.get(&device.id).is_some_and(|row| row.online) {
        change_device(work, device.id)?.online = false;
    }
    if !matches!(device.state, device::State::Offline | device::State::Drained) {
        tell_device(work, now, device.serves.as_ref(), device.id, device::State::Offline);
    }
    Ok(())
}

/// Marks agents offline that have not called since `since`, with their devices; answers how many.
pub(super) fn silence(work: &mut Work, now: Timestamp, since: Timestamp) -> Verb<u32> {
    let silent = work.agents.iter().map(|(_, row)| row).filter(|row| row.online && row.agent.seen_at < since);
    let silent: Vec<Agent> = silent.map(AgentRow::shown).collect();
    for agent in &silent {
        change(work, agent.id)?.online = false;
        for device in devices_of(work, agent.id) {
            set_offline(work, now, &device)?;
        }
        tell_agent(work, now, agent, agent::State::Offline);
    }
    Ok(silent.len() as u32)
}

pub(super) fn set_device_drained(
    work: &mut Work,
    now: Timestamp,
    id: device::Id,
    drained: bool,
) -> Verb<Device> {
    let before = load_device(work, id)?;
    change_device(work, id)?.drained = drained;
    if let Some(quarantine) = before.quarantine.as_ref().filter(|own| own.is_in_force() && !drained) {
        let ended = Quarantine { ended_at: Some(now), ..quarantine.clone() };
        return set_device_quarantine(work, now, id, &ended);
    }
    let device = load_device(work, id)?;
    if device.state != before.state {
        tell_device(work, now, device.serves.as_ref(), id, device.state);
    }
    Ok(device)
}

/// Tells of it even if the device's state stays: it may be busy with its probe.
pub(super) fn set_device_quarantine(
    work: &mut Work,
    now: Timestamp,
    id: device::Id,
    quarantine: &Quarantine,
) -> Verb<Device> {
    let device = load_device(work, id)?;
    if !quarantine.is_news_after(device.quarantine.as_ref()) {
        return Ok(device);
    }
    change_device(work, id)?.device.quarantine = Some(quarantine.clone());
    let device = load_device(work, id)?;
    tell_device(work, now, device.serves.as_ref(), id, device.state);
    Ok(device)
}

pub(super) fn set_agent_draining(
    work: &mut Work,
    now: Timestamp,
    id: agent::Id,
    draining: bool,
) -> Verb<Agent> {
    let before = load(work, id)?.state();
    let row = change(work, id)?;
    row.draining = draining;
    let agent = row.shown();
    if agent.state != before {
        tell_agent(work, now, &agent, agent.state);
    }
    Ok(agent)
}

pub(super) fn remove_needs(id: agent::Id, needs: &mut Needs) {
    needs.agents.insert(id);
    needs.devices_of.insert(id);
    needs.sessions_of.insert(id);
    needs.lost_of.insert(id);
}

pub(super) fn remove(work: &mut Work, now: Timestamp, id: agent::Id, random: u128) -> Verb<()> {
    let agent = load(work, id)?.shown();
    lose(work, now, id, random)?;
    for device in devices_of(work, id) {
        work.devices.remove(&device.id);
        tell_device(work, now, device.serves.as_ref(), device.id, device::State::Offline);
    }
    end_sessions(work, id);
    work.agents.remove(&id);
    tell_agent(work, now, &agent, agent::State::Offline);
    Ok(())
}

/// The agents that have been silent since a time, and their devices.
pub(super) fn silent_needs(ids: impl IntoIterator<Item = agent::Id>, needs: &mut Needs) {
    needs.agents.extend(ids);
    needs.devices_of.clone_from(&needs.agents);
}
