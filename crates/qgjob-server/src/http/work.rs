//! The agent protocol, `/agent/v1`: registration, calls, claims, and reports on attempts. An agent touches only what
//! it leases; everything else is not found.

pub mod bytes;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use qgjob_core::api::agents::{
    ClaimReply, ClaimRequest, FinishReply, FinishReport, Heartbeat, HeartbeatReply, HeldReply, PhaseReport,
    Registered, Registration, Renewal, TestsReport,
};
use qgjob_core::api::problem::Code;
use qgjob_core::model::attempt::{self, Attempt, Epoch};
use qgjob_core::model::device;
use qgjob_core::model::job::Job;
use qgjob_core::model::refusal::Refusal;
use qgjob_core::model::token::{self, Kind, Token, secret};
use qgjob_core::model::{agent, agent::State as AgentState};
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::auth::{Agent, Newcomer};
use super::extract::{self, Body, LongBody, Query};
use super::problem::Rejection;
use crate::credential::hash;
use crate::store::{Finish, PhaseChange, Report, Seen};

/// Registers an agent. The registration token works once; an agent of the same name is replaced.
#[utoipa::path(post, path = "/register", tag = "agent protocol", request_body = Registration,
    responses((status = 201, body = Registered)))]
pub async fn register(
    State(app): State<App>,
    caller: Newcomer,
    Body(body): Body<Registration>,
) -> Result<(StatusCode, Json<Registered>), Rejection> {
    for (pointer, text) in [("/name", &body.name), ("/version", &body.version)] {
        if !(1..=64).contains(&text.len()) || text.chars().any(char::is_control) {
            return Err(Rejection::field(pointer, "must be 1 to 64 bytes without control characters"));
        }
    }
    let now = app.clock.now();
    let org_id = caller.token.org_id;
    let agent = agent::Agent {
        id: agent::Id::new(now, app.clock.random()),
        name: body.name,
        serves: org_id.clone(),
        version: body.version,
        state: AgentState::Online,
        seen_at: now,
        created_at: now,
    };
    let token = Token {
        id: token::Id::new(now, app.clock.random()),
        kind: Kind::Agent,
        name: agent.name.clone(),
        org_id,
        agent_id: Some(agent.id),
        created_at: now,
        expires_at: None,
        ci: None,
    };
    let secret = secret(Kind::Agent, [app.clock.random(), app.clock.random()]);
    let session = (token, hash(&secret));
    let agent = app.store.register_agent(now, caller.hash, agent, session).await??;
    Ok((StatusCode::CREATED, Json(Registered { agent_id: agent.id, token: secret })))
}

/// Notes the agent's devices, renews the leases of what it runs, and tells what to do about each.
#[utoipa::path(post, path = "/heartbeat", tag = "agent protocol", request_body = Heartbeat,
    responses((status = 200, body = HeartbeatReply)))]
pub async fn heartbeat(
    State(app): State<App>,
    Agent(agent_id): Agent,
    Body(body): Body<Heartbeat>,
) -> Result<Json<HeartbeatReply>, Rejection> {
    let now = app.clock.now();
    let devices =
        body.devices.into_iter().map(|device| (device::Id::new(now, app.clock.random()), device)).collect();
    let seen = Seen {
        agent_id,
        fresh: body.fresh,
        devices,
        held: body.attempts,
        lease: app.config.lease,
        random: app.clock.random(),
    };
    let reply = app.store.agents_seen(now, vec![seen]).await?.pop().expect("one answer for one call")?;
    let devices = reply.devices.into_iter().collect();
    Ok(Json(HeartbeatReply { devices, attempts: reply.held, drain: reply.drain }))
}

/// How long to wait.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields, default)]
pub struct ClaimQuery {
    /// How long to wait for work: `30s`. At most 60 s.
    pub wait: Option<String>,
}

/// Leases jobs for free devices, or answers without leases when the wait is over.
#[utoipa::path(post, path = "/claim", tag = "agent protocol", request_body = ClaimRequest, params(ClaimQuery),
    responses((status = 200, body = ClaimReply)))]
pub async fn claim(
    State(app): State<App>,
    Agent(agent_id): Agent,
    Query(query): Query<ClaimQuery>,
    Body(body): Body<ClaimRequest>,
) -> Result<Json<ClaimReply>, Rejection> {
    let wait = extract::wait(query.wait.as_deref(), app.config.limits.wait)?;
    if !(1..=128).contains(&body.claim_id.len()) {
        return Err(Rejection::field("/claim_id", "must be 1 to 128 bytes"));
    }
    Ok(Json(app.dispatch.claim(agent_id, body, wait).await?))
}

/// The attempt that a path names. The store's verbs refuse an attempt that this agent never held.
///
/// # Errors
/// `not_found`.
fn named(text: &str) -> Result<attempt::Id, Rejection> {
    text.parse().map_err(|_| Rejection::not_found(format_args!("attempt {text}")))
}

/// The attempt that a path names, if this agent holds or held it.
///
/// # Errors
/// `not_found`.
async fn held(app: &App, agent_id: agent::Id, text: &str) -> Result<(Attempt, Job), Rejection> {
    let found = app.store.attempt(named(text)?).await?;
    let own = found.filter(|(attempt, _)| attempt.agent_id == agent_id);
    own.ok_or_else(|| Rejection::not_found(format_args!("attempt {text}")))
}

/// As [`held`], and the lease must live under `epoch`.
///
/// # Errors
/// `not_found`, `lease_lost`.
async fn leased(
    app: &App,
    agent_id: agent::Id,
    text: &str,
    epoch: Epoch,
) -> Result<(Attempt, Job), Rejection> {
    let (attempt, job) = held(app, agent_id, text).await?;
    if attempt.epoch != epoch || attempt.outcome.is_some() {
        return Err(Refusal::LeaseLost { epoch }.into());
    }
    Ok((attempt, job))
}

/// Renews one lease.
#[utoipa::path(post, path = "/attempts/{id}/renew", tag = "agent protocol", request_body = Renewal,
    responses((status = 200, body = HeldReply)))]
pub async fn renew(
    State(app): State<App>,
    Agent(agent_id): Agent,
    Path(id): Path<String>,
    Body(body): Body<Renewal>,
) -> Result<Json<HeldReply>, Rejection> {
    let (Attempt { id: attempt_id, .. }, _) = held(&app, agent_id, &id).await?;
    let report = Report { agent_id, attempt_id, epoch: body.epoch, what: () };
    let reply = app.store.renew(app.clock.now(), app.config.lease, vec![report]).await?;
    Ok(Json(reply.into_iter().next().expect("one answer for one report")?))
}

/// Notes what the attempt does now.
#[utoipa::path(post, path = "/attempts/{id}/phase", tag = "agent protocol", request_body = PhaseReport,
    responses((status = 204)))]
pub async fn phase(
    State(app): State<App>,
    Agent(agent_id): Agent,
    Path(id): Path<String>,
    Body(body): Body<PhaseReport>,
) -> Result<StatusCode, Rejection> {
    let attempt_id = named(&id)?;
    let what = PhaseChange { phase: body.phase, install: body.install };
    let report = Report { agent_id, attempt_id, epoch: body.epoch, what };
    app.store.set_phase(app.clock.now(), vec![report]).await?.pop().expect("one answer for one report")?;
    Ok(StatusCode::NO_CONTENT)
}

/// Notes tries of tests that ended. Tries that were sent before are ignored.
#[utoipa::path(post, path = "/attempts/{id}/tests", tag = "agent protocol", request_body = TestsReport,
    responses((status = 204)))]
pub async fn tests(
    State(app): State<App>,
    Agent(agent_id): Agent,
    Path(id): Path<String>,
    LongBody(body): LongBody<TestsReport>,
) -> Result<StatusCode, Rejection> {
    let (limit, given) = (u64::from(app.config.limits.tries_per_report), body.tries.len() as u64);
    if given > limit {
        return Err(Rejection::too_large("tries", limit, given));
    }
    if let Some(at) =
        body.tries.iter().position(|one| one.error.as_ref().is_some_and(|error| error.len() > 16 * 1024))
    {
        return Err(Rejection::field(&format!("/tries/{at}/error"), "must be at most 16 KiB"));
    }
    let report = Report { agent_id, attempt_id: named(&id)?, epoch: body.epoch, what: body.tries };
    app.store.add_tries(app.clock.now(), vec![report]).await?.pop().expect("one answer for one report")?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends an attempt. Repeating it answers as the first time; under an old epoch it is kept as evidence and refused
/// with `lease_lost`.
#[utoipa::path(post, path = "/attempts/{id}/finish", tag = "agent protocol", request_body = FinishReport,
    responses((status = 200, body = FinishReply)))]
pub async fn finish(
    State(app): State<App>,
    Agent(agent_id): Agent,
    Path(id): Path<String>,
    LongBody(body): LongBody<FinishReport>,
) -> Result<Json<FinishReply>, Rejection> {
    let attempt_id = named(&id)?;
    let mut evidence = body.evidence;
    if let Some(fault) = &mut evidence.fault {
        // A long story is cut, not refused: its reason must not be lost.
        fault.detail.truncate(fault.detail.floor_char_boundary(8 * 1024));
    }
    // A verdict must not outlive the log that explains it.
    app.logs.seal(attempt_id).await?;
    let what = Finish { evidence, random: app.clock.random() };
    let report = Report { agent_id, attempt_id, epoch: body.epoch, what };
    let answer =
        app.store.finish(app.clock.now(), vec![report]).await?.pop().expect("one answer for one report");
    if let Err(Refusal::LeaseLost { .. }) = &answer {
        app.metrics.stale_reports.inc();
    }
    let finished = answer?;
    Ok(Json(FinishReply { outcome: finished.judgement.outcome, conclusion: finished.conclusion }))
}

/// Refuses a name of a file that is not a plain relative path.
///
/// # Errors
/// `invalid_request`.
fn check_name(name: &str) -> Result<(), Rejection> {
    let plain = |part: &str| !matches!(part, "" | "." | "..");
    let good = (1..=512).contains(&name.len())
        && name.split('/').all(plain)
        && !name.contains('\\')
        && !name.chars().any(char::is_control);
    if good {
        return Ok(());
    }
    Err(Rejection::field("/name", "must be a relative path of at most 512 bytes with no '.' or '..' part"))
}

/// A word of the path that is none of those allowed.
fn no_such(what: &str) -> Rejection {
    Rejection::new(Code::NotFound, format!("{what} not found"))
}
