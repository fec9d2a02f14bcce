//! Agents and their devices.

use jiff::Timestamp;
use qgjob_core::api::agents::ReportedDevice;
use qgjob_core::model::agent::{self, Agent};
use qgjob_core::model::build::Build;
use qgjob_core::model::device::{self, Device, Installed, Proof, Quarantine};
use qgjob_core::model::event::Fact;
use qgjob_core::model::name::OrgId;
use qgjob_core::model::refusal::Refusal;
use qgjob_core::model::run;
use qgjob_core::model::sha256::Sha256;
use qgjob_core::model::token::{Kind, Token};
use qgjob_core::queue::verdict::Judgement;

use super::attempts;
use super::library::{delete_token, delete_tokens_of, insert_token, live_token};
use super::rows::{self, At, Bin, Json, Word};
use super::transaction::{About, Stop, Tx, Verb, not_found};
use crate::store::alike::same_apps;
use crate::store::{Seen, SeenReply};

pub(super) fn load(tx: &Tx<'_>, id: agent::Id) -> Verb<Agent> {
    let found = tx.first("SELECT * FROM agents WHERE id = ?1", [Bin(id.0)], rows::agent)?;
    found.ok_or_else(|| not_found(format!("agent {id}")))
}

fn load_device(tx: &Tx<'_>, id: device::Id) -> Verb<Device> {
    let found = tx.first(&format!("{} WHERE d.id = ?1", rows::DEVICE), [Bin(id.0)], rows::device)?;
    found.ok_or_else(|| not_found(format!("device {id}")))
}

fn devices_of(tx: &Tx<'_>, id: agent::Id) -> Verb<Vec<Device>> {
    Ok(tx.all(&format!("{} WHERE d.agent_id = ?1 ORDER BY d.id", rows::DEVICE), [Bin(id.0)], rows::device)?)
}

fn tell_agent(tx: &mut Tx<'_>, now: Timestamp, agent: &Agent, state: agent::State) {
    let about = About { org_id: agent.serves.as_ref(), run_id: None, job_id: None };
    tx.tell(now, about, Fact::AgentChanged { agent_id: agent.id, state });
}

fn tell_device(
    tx: &mut Tx<'_>,
    now: Timestamp,
    serves: Option<&OrgId>,
    id: device::Id,
    state: device::State,
) {
    let about = About { org_id: serves, run_id: None, job_id: None };
    tx.tell(now, about, Fact::DeviceChanged { device_id: id, state });
}

/// Takes over the devices of the agent that had the name. What that one was running runs out with its leases, or is
/// lost with the new agent's first call.
pub(super) fn register(
    tx: &mut Tx<'_>,
    now: Timestamp,
    registration: Sha256,
    agent: &Agent,
    session: &(Token, Sha256),
) -> Verb<Agent> {
    let ticket =
        live_token(tx.connection(), registration, now)?.filter(|token| token.kind == Kind::Registration);
    let ticket = ticket.ok_or_else(|| not_found("registration token"))?;
    delete_token(tx, ticket.id)?;
    // A ticket of one org makes agents of that org only.
    let serves = ticket.org_id.or_else(|| agent.serves.clone());
    let agent = Agent { serves, state: agent::State::Online, ..agent.clone() };
    let replaced = tx.first("SELECT * FROM agents WHERE name = ?1", [&agent.name], rows::agent)?;
    if let Some(old) = &replaced {
        if old.serves != agent.serves {
            let what = format!("an agent named {:?} is registered for another org", agent.name);
            return Err(Refusal::Invalid(what).into());
        }
        // The name is unique and devices need their agent: the old row keeps its place until the devices have moved.
        tx.change(
            "UPDATE agents SET name = ?2 WHERE id = ?1",
            (Bin(old.id.0), format!("{} (replaced)", old.id)),
        )?;
    }
    let sql = "INSERT INTO agents (id, name, serves, version, online, draining, seen_at, created_at)
        VALUES (?1, ?2, ?3, ?4, 1, 0, ?5, ?6)";
    let (serves, seen_at) = (agent.serves.as_ref().map(Word), At(agent.seen_at));
    tx.change(sql, (Bin(agent.id.0), &agent.name, serves, &agent.version, seen_at, At(agent.created_at)))?;
    if let Some(old) = replaced {
        tx.change("UPDATE devices SET agent_id = ?2 WHERE agent_id = ?1", (Bin(old.id.0), Bin(agent.id.0)))?;
        delete_tokens_of(tx, old.id)?;
        tx.change("DELETE FROM agents WHERE id = ?1", [Bin(old.id.0)])?;
        tell_agent(tx, now, &old, agent::State::Offline);
    }
    insert_token(tx, &session.0, session.1)?;
    tell_agent(tx, now, &agent, agent::State::Online);
    Ok(agent)
}

pub(super) fn seen(tx: &mut Tx<'_>, now: Timestamp, seen: &Seen) -> Verb<SeenReply> {
    let agent = load(tx, seen.agent_id)?;
    tx.change("UPDATE agents SET online = 1, seen_at = ?2 WHERE id = ?1", (Bin(agent.id.0), At(now)))?;
    if agent.state == agent::State::Offline {
        let back = load(tx, agent.id)?.state;
        tell_agent(tx, now, &agent, back);
    }
    if seen.fresh {
        lose(tx, now, agent.id, seen.random)?;
    }
    let known = devices_of(tx, agent.id)?;
    let mut devices = Vec::with_capacity(seen.devices.len());
    for (new_id, reported) in &seen.devices {
        if devices.iter().any(|(serial, _)| *serial == reported.serial) {
            return Err(Refusal::Invalid(format!("device {:?} is reported twice", reported.serial)).into());
        }
        let before = known.iter().find(|device| device.serial == reported.serial);
        let id = before.map_or(*new_id, |device| device.id);
        note_device(tx, now, &agent, id, before, reported)?;
        devices.push((reported.serial.clone(), id));
    }
    let absent = |device: &&Device| seen.devices.iter().all(|(_, reported)| reported.serial != device.serial);
    for device in known.iter().filter(absent) {
        set_offline(tx, now, device)?;
    }
    let held: Verb<Vec<_>> =
        seen.held.iter().map(|held| attempts::renew(tx, now, seen.lease, agent.id, *held)).collect();
    let draining = "SELECT draining FROM agents WHERE id = ?1";
    let drain = tx.first(draining, [Bin(agent.id.0)], |row| row.get(0))?.unwrap_or(false);
    Ok(SeenReply { devices, held: held?, drain })
}

/// The attempts of the agent and those that hold its devices are lost.
fn lose(tx: &mut Tx<'_>, now: Timestamp, id: agent::Id, random: u128) -> Verb<u32> {
    // Without a word SQLite walks all attempts by their epochs.
    let sql = attempts::select(
        "INDEXED BY attempts_live_device WHERE ended_at IS NULL
         AND (agent_id = ?1 OR device_id IN (SELECT id FROM devices WHERE agent_id = ?1)) ORDER BY epoch",
    );
    let live = tx.all(&sql, [Bin(id.0)], attempts::read)?;
    attempts::end_all(tx, now, live, &Judgement::lost(), random)
}

fn note_device(
    tx: &mut Tx<'_>,
    now: Timestamp,
    agent: &Agent,
    id: device::Id,
    before: Option<&Device>,
    reported: &ReportedDevice,
) -> Verb<()> {
    let sql = "INSERT INTO devices (id, agent_id, serves, serial, name, platform, kind, model, os_version, tags, note,
            ledger, online, drained, seen_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, 0, ?14)
        ON CONFLICT (id) DO UPDATE SET serves = excluded.serves, name = excluded.name, platform = excluded.platform,
            kind = excluded.kind, model = excluded.model, os_version = excluded.os_version, tags = excluded.tags,
            note = excluded.note, ledger = excluded.ledger, online = excluded.online, seen_at = excluded.seen_at";
    tx.change(
        sql,
        rusqlite::params![
            Bin(id.0),
            Bin(agent.id.0),
            agent.serves.as_ref().map(Word),
            reported.serial,
            reported.name,
            Word(reported.platform),
            Word(reported.kind),
            reported.model,
            reported.os_version,
            Json(&reported.tags),
            reported.note,
            Json(&reported.ledger),
            reported.online,
            At(now)
        ],
    )?;
    let state = load_device(tx, id)?.state;
    // Busy and idle are told by the start and the end of attempts.
    let reach = |state| if state == device::State::Busy { device::State::Idle } else { state };
    if before.is_none_or(|before| {
        reach(before.state) != reach(state) || !same_apps(&before.ledger, &reported.ledger)
    }) {
        tell_device(tx, now, agent.serves.as_ref(), id, state);
    }
    Ok(())
}

/// Enters the run's build into the device's ledger: its agent has just proven it to be there. The next claim must
/// find it, whether or not the agent has called in between.
pub(super) fn note_install(tx: &mut Tx<'_>, now: Timestamp, id: device::Id, run: run::Id) -> Verb<()> {
    let sql = "SELECT v.build FROM runs r JOIN app_versions v
        ON v.org_id = r.org_id AND v.app_version_id = r.app_version_id WHERE r.id = ?1";
    let build: Option<Build> = tx.first(sql, [Bin(run.0)], |row| rows::json(row, "build"))?;
    let build = build.ok_or_else(|| Stop::Corrupt(format!("run {run} was started without a build")))?;
    let device = load_device(tx, id)?;
    let entry =
        Installed { app_id: build.app_id, sha256: build.sha256, proof: Proof::DeviceHash, verified_at: now };
    let mut ledger = device.ledger.clone();
    ledger.retain(|installed| installed.app_id != entry.app_id);
    ledger.push(entry);
    tx.change("UPDATE devices SET ledger = ?2 WHERE id = ?1", (Bin(id.0), Json(&ledger)))?;
    if !same_apps(&device.ledger, &ledger) {
        tell_device(tx, now, device.serves.as_ref(), id, device.state);
    }
    Ok(())
}

fn set_offline(tx: &mut Tx<'_>, now: Timestamp, device: &Device) -> Verb<()> {
    tx.change("UPDATE devices SET online = 0 WHERE id = ?1 AND online = 1", [Bin(device.id.0)])?;
    if !matches!(device.state, device::State::Offline | device::State::Drained) {
        tell_device(tx, now, device.serves.as_ref(), device.id, device::State::Offline);
    }
    Ok(())
}

/// Marks agents offline that have not called since `since`, with their devices; answers how many.
pub(super) fn silence(tx: &mut Tx<'_>, now: Timestamp, since: Timestamp) -> Verb<u32> {
    let silent =
        tx.all("SELECT * FROM agents WHERE online = 1 AND seen_at < ?1", [At(since)], rows::agent)?;
    for agent in &silent {
        tx.change("UPDATE agents SET online = 0 WHERE id = ?1", [Bin(agent.id.0)])?;
        for device in devices_of(tx, agent.id)? {
            set_offline(tx, now, &device)?;
        }
        tell_agent(tx, now, agent, agent::State::Offline);
    }
    Ok(silent.len() as u32)
}

pub(super) fn set_device_drained(
    tx: &mut Tx<'_>,
    now: Timestamp,
    id: device::Id,
    drained: bool,
) -> Verb<Device> {
    let before = load_device(tx, id)?;
    tx.change("UPDATE devices SET drained = ?2 WHERE id = ?1", (Bin(id.0), drained))?;
    if let Some(quarantine) = before.quarantine.as_ref().filter(|own| own.is_in_force() && !drained) {
        let ended = Quarantine { ended_at: Some(now), ..quarantine.clone() };
        return set_device_quarantine(tx, now, id, &ended);
    }
    let device = load_device(tx, id)?;
    if device.state != before.state {
        tell_device(tx, now, device.serves.as_ref(), id, device.state);
    }
    Ok(device)
}

/// Tells of it even if the device's state stays: it may be busy with its probe.
pub(super) fn set_device_quarantine(
    tx: &mut Tx<'_>,
    now: Timestamp,
    id: device::Id,
    quarantine: &Quarantine,
) -> Verb<Device> {
    let device = load_device(tx, id)?;
    if !quarantine.is_news_after(device.quarantine.as_ref()) {
        return Ok(device);
    }
    tx.change("UPDATE devices SET quarantine = ?2 WHERE id = ?1", (Bin(id.0), Json(quarantine)))?;
    let device = load_device(tx, id)?;
    tell_device(tx, now, device.serves.as_ref(), id, device.state);
    Ok(device)
}

pub(super) fn set_agent_draining(
    tx: &mut Tx<'_>,
    now: Timestamp,
    id: agent::Id,
    draining: bool,
) -> Verb<Agent> {
    let before = load(tx, id)?;
    tx.change("UPDATE agents SET draining = ?2 WHERE id = ?1", (Bin(id.0), draining))?;
    let agent = load(tx, id)?;
    if agent.state != before.state {
        tell_agent(tx, now, &agent, agent.state);
    }
    Ok(agent)
}

pub(super) fn remove(tx: &mut Tx<'_>, now: Timestamp, id: agent::Id, random: u128) -> Verb<()> {
    let agent = load(tx, id)?;
    lose(tx, now, id, random)?;
    for device in devices_of(tx, id)? {
        tx.change("DELETE FROM devices WHERE id = ?1", [Bin(device.id.0)])?;
        tell_device(tx, now, device.serves.as_ref(), device.id, device::State::Offline);
    }
    delete_tokens_of(tx, id)?;
    tx.change("DELETE FROM agents WHERE id = ?1", [Bin(id.0)])?;
    tell_agent(tx, now, &agent, agent::State::Offline);
    Ok(())
}
