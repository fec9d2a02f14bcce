//! Bytes between an agent and the server: logs and artifacts come, apps and bundles go.

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use qgjob_core::api::agents::{ArtifactTicket, LogReply, NewArtifact};
use qgjob_core::api::problem::Code;
use qgjob_core::model::artifact::{self, Artifact};
use qgjob_core::model::attempt::{self, Epoch};
use qgjob_core::model::event::LogStream;
use serde::Deserialize;
use utoipa::IntoParams;

use super::super::App;
use super::super::auth::Agent;
use super::super::content;
use super::super::extract::{self, Body, Query};
use super::super::problem::Rejection;
use super::{check_name, held, leased, no_such};
use crate::app::tickets::Ticket;
use crate::store::Report;

/// Whose lease it is.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct EpochQuery {
    /// The lease's fencing number.
    pub epoch: Epoch,
}

/// Appends bytes to a log, beginning at the header `Upload-Offset`. Bytes that the server has already are accepted
/// when they are the same; others are refused with `offset_mismatch`, which says where to continue. Beyond 200 MiB
/// bytes are accepted and dropped.
#[utoipa::path(patch, path = "/attempts/{id}/logs/{stream}", tag = "agent protocol",
    params(EpochQuery, ("stream" = LogStream, Path), ("id" = String, Path), ("Upload-Offset" = u64, Header, description = "Where the bytes begin")),
    request_body(content_type = "application/octet-stream"), responses((status = 200, body = LogReply)))]
pub async fn log(
    State(app): State<App>,
    Agent(agent_id): Agent,
    Path((id, stream)): Path<(String, String)>,
    Query(query): Query<EpochQuery>,
    headers: HeaderMap,
    request: Request,
) -> Result<Json<LogReply>, Rejection> {
    let stream: LogStream = stream.parse().map_err(|_| no_such("log stream"))?;
    let (attempt, _) = leased(&app, agent_id, &id, query.epoch).await?;
    let offset = extract::number(&headers, "upload-offset")?;
    let bytes =
        extract::bytes(request.into_body(), "bytes of a piece of a log", app.config.limits.log_piece).await?;
    let offset = app.logs.append(attempt.id, stream, offset, &bytes).await?;
    app.metrics.log_bytes.inc_by(bytes.len() as u64);
    Ok(Json(LogReply { offset }))
}

/// Announces an artifact. When the org has the bytes already, nothing need be sent.
#[utoipa::path(post, path = "/attempts/{id}/artifacts", tag = "agent protocol", request_body = NewArtifact,
    responses((status = 201, body = ArtifactTicket)))]
pub async fn announce(
    State(app): State<App>,
    Agent(agent_id): Agent,
    Path(id): Path<String>,
    Body(new): Body<NewArtifact>,
) -> Result<(StatusCode, Json<ArtifactTicket>), Rejection> {
    let (attempt, job) = leased(&app, agent_id, &id, new.epoch).await?;
    let limits = &app.config.limits;
    check_name(&new.name)?;
    if new.size_bytes > limits.artifact {
        return Err(Rejection::too_large("bytes of an artifact", limits.artifact, new.size_bytes));
    }
    if !(1..=128).contains(&new.media_type.len())
        || !new.media_type.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
    {
        return Err(Rejection::field("/media_type", "must be a media type like image/png"));
    }
    let ticket =
        |artifact_id, upload| Ok((StatusCode::CREATED, Json(ArtifactTicket { artifact_id, upload })));
    let known = app.store.artifacts(job.id).await?;
    let own: Vec<_> = known.into_iter().filter(|artifact| artifact.attempt_id == attempt.id).collect();
    if let Some(same) = own.iter().find(|artifact| artifact.name == new.name && artifact.sha256 == new.sha256)
    {
        return ticket(same.id, false);
    }
    if let Some(same) = app.tickets.same(attempt.id, &new) {
        return ticket(same, true);
    }
    let (limit, given) =
        (u64::from(limits.artifacts_per_attempt), (own.len() + app.tickets.count(attempt.id) + 1) as u64);
    if given > limit {
        return Err(Rejection::too_large("artifacts of an attempt", limit, given));
    }
    let now = app.clock.now();
    let artifact_id = artifact::Id::new(now, app.clock.random());
    let has_blob = app.store.blob(&job.org_id, new.sha256).await? == Some(new.size_bytes);
    if has_blob && app.blobs.size(&job.org_id, new.sha256).await?.is_some() {
        keep(&app, agent_id, artifact_id, attempt.id, job.id, &new).await?;
        return ticket(artifact_id, false);
    }
    app.tickets.add(artifact_id, Ticket { attempt_id: attempt.id, new, made_at: now });
    ticket(artifact_id, true)
}

async fn keep(
    app: &App,
    agent_id: qgjob_core::model::agent::Id,
    id: artifact::Id,
    attempt_id: attempt::Id,
    job_id: qgjob_core::model::job::Id,
    new: &NewArtifact,
) -> Result<(), Rejection> {
    let now = app.clock.now();
    let what = Artifact {
        id,
        job_id,
        attempt_id,
        name: new.name.clone(),
        media_type: new.media_type.clone(),
        size_bytes: new.size_bytes,
        sha256: new.sha256,
        created_at: now,
    };
    Ok(app.store.add_artifact(now, Report { agent_id, attempt_id, epoch: new.epoch, what }).await??)
}

/// Sends the bytes of an announced artifact. They are durable when this answers.
#[utoipa::path(put, path = "/attempts/{id}/artifacts/{artifact_id}", tag = "agent protocol",
    request_body(content_type = "application/octet-stream"), responses((status = 204)))]
pub async fn send(
    State(app): State<App>,
    Agent(agent_id): Agent,
    Path((id, artifact_id)): Path<(String, String)>,
    request: Request,
) -> Result<StatusCode, Rejection> {
    let (attempt, job) = held(&app, agent_id, &id).await?;
    let artifact_id: artifact::Id = artifact_id.parse().map_err(|_| no_such("artifact"))?;
    let Some(Ticket { new, .. }) = app.tickets.find(artifact_id, attempt.id) else {
        // A repeat of a send whose answer was lost.
        let known = app.store.artifacts(job.id).await?.iter().any(|known| known.id == artifact_id);
        return if known { Ok(StatusCode::NO_CONTENT) } else { Err(no_such("artifact")) };
    };
    leased(&app, agent_id, &id, new.epoch).await?;
    let path = app.blobs.scratch();
    let arrived = content::save(request.into_body(), &path, new.size_bytes).await;
    let kept = async {
        let (size, sha256) = arrived?;
        if size != new.size_bytes || sha256 != new.sha256 {
            let detail = format!(
                "{size} bytes with SHA-256 {sha256} came, declared were {} with {}",
                new.size_bytes, new.sha256
            );
            return Err(Rejection::new(Code::ChecksumMismatch, detail));
        }
        app.blobs.adopt(&job.org_id, sha256, &path).await?;
        app.store.add_blob(app.clock.now(), &job.org_id, sha256, size).await?;
        keep(&app, agent_id, artifact_id, attempt.id, job.id, &new).await
    };
    if let Err(rejection) = kept.await {
        _ = tokio::fs::remove_file(&path).await;
        return Err(rejection);
    }
    app.tickets.remove(artifact_id);
    app.metrics.artifact_bytes.inc_by(new.size_bytes);
    Ok(StatusCode::NO_CONTENT)
}

/// The bytes of the app (`app`) or the project (`bundle`) of an attempt that the agent holds; `Range` is understood.
#[utoipa::path(get, path = "/attempts/{id}/inputs/{input}", tag = "agent protocol",
    params(("id" = String, Path), ("input" = String, Path, description = "`app` or `bundle`")),
    responses((status = 200, content_type = "application/octet-stream"), (status = 206, content_type = "application/octet-stream")))]
pub async fn input(
    State(app): State<App>,
    Agent(agent_id): Agent,
    Path((id, input)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Rejection> {
    let (attempt, job) = held(&app, agent_id, &id).await?;
    if attempt.outcome.is_some() {
        return Err(no_such("attempt"));
    }
    let sha256 = match input.as_str() {
        "bundle" => job.spec.bundle_sha256,
        "app" => {
            let bound = app.store.app_version(&job.org_id, &job.app_version_id).await?;
            bound.ok_or_else(|| no_such("app version"))?.build.sha256
        }
        _ => return Err(no_such("input")),
    };
    content::blob(&app, &job.org_id, sha256, &headers).await
}
