//! Resumable uploads of apps and bundles.

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use qgjob_core::api::problem::{Code, Problem};
use qgjob_core::api::uploads::{Kind, NewUpload, UploadView};

use super::App;
use super::auth::Member;
use super::extract::{self, Body};
use super::problem::Rejection;
use crate::blobs::uploads::{Upload, digest};

/// Begins an upload, unless the org has the bytes already. What is not completed within 24 h is thrown away.
#[utoipa::path(post, path = "/uploads", tag = "uploads", request_body = NewUpload,
    responses((status = 200, body = UploadView, description = "The bytes are known"), (status = 201, body = UploadView)))]
pub async fn begin(
    State(app): State<App>,
    member: Member,
    Body(what): Body<NewUpload>,
) -> Result<(StatusCode, Json<UploadView>), Rejection> {
    member.may_write(&what.org_id)?;
    let (name, limit) = match what.kind {
        Kind::App => ("bytes of an app", app.config.limits.app),
        Kind::Bundle => ("bytes of a bundle", app.config.limits.bundle),
    };
    if what.size_bytes > limit {
        return Err(Rejection::too_large(name, limit, what.size_bytes));
    }
    if what.size_bytes == 0 {
        return Err(Rejection::field("/size_bytes", "an empty file is neither an app nor a bundle"));
    }
    let known = app.store.blob(&what.org_id, what.sha256).await?.is_some();
    if known && let Some(size) = app.blobs.size(&what.org_id, what.sha256).await? {
        return Ok((StatusCode::OK, Json(UploadView { upload_id: None, exists: true, offset: size })));
    }
    let upload = app.uploads.begin(app.clock.now(), app.clock.random(), what).await?;
    Ok((StatusCode::CREATED, Json(UploadView { upload_id: Some(upload.id), exists: false, offset: 0 })))
}

/// An upload as it stands: `offset` is where it continues.
#[utoipa::path(get, path = "/uploads/{id}", tag = "uploads", responses((status = 200, body = UploadView)))]
pub async fn show(
    State(app): State<App>,
    member: Member,
    Path(id): Path<String>,
) -> Result<Json<UploadView>, Rejection> {
    let (upload, offset) = find(&app, &member, &id).await?;
    Ok(Json(UploadView { upload_id: Some(upload.id), exists: false, offset }))
}

async fn find(app: &App, member: &Member, id: &str) -> Result<(Upload, u64), Rejection> {
    let found = app.uploads.find(id).await?.filter(|(upload, _)| member.scope.sees(&upload.what.org_id));
    found.ok_or_else(|| Rejection::not_found(format_args!("upload {id}")))
}

/// Sends bytes that begin at the header `Upload-Offset`. What arrived before a broken connection is kept.
#[utoipa::path(patch, path = "/uploads/{id}", tag = "uploads",
    params(("Upload-Offset" = u64, Header, description = "How many bytes the server has")),
    request_body(content_type = "application/octet-stream"), responses((status = 200, body = UploadView)))]
pub async fn send(
    State(app): State<App>,
    member: Member,
    Path(id): Path<String>,
    headers: HeaderMap,
    request: Request,
) -> Result<Json<UploadView>, Rejection> {
    let offset = extract::number(&headers, "upload-offset")?;
    find(&app, &member, &id).await?;
    let _guard = app.uploads.lock(&id).await;
    // Read again: another request may have written meanwhile.
    let (upload, arrived) = find(&app, &member, &id).await?;
    if offset != arrived {
        let problem =
            Problem::new(Code::OffsetMismatch, format!("the server has {arrived} bytes of this upload"));
        return Err(Problem { expected_offset: Some(arrived), ..problem }.into());
    }
    let room = upload.what.size_bytes - arrived;
    let (written, _) = super::content::save(request.into_body(), &app.uploads.part(&id), room).await?;
    Ok(Json(UploadView { upload_id: Some(upload.id), exists: false, offset: arrived + written }))
}

/// Completes an upload: the bytes are checked against the declared SHA-256 and are durable when this answers.
#[utoipa::path(post, path = "/uploads/{id}/complete", tag = "uploads", responses((status = 200, body = UploadView)))]
pub async fn complete(
    State(app): State<App>,
    member: Member,
    Path(id): Path<String>,
) -> Result<Json<UploadView>, Rejection> {
    find(&app, &member, &id).await?;
    let _guard = app.uploads.lock(&id).await;
    let (Upload { what, .. }, arrived) = find(&app, &member, &id).await?;
    if arrived != what.size_bytes {
        let detail = format!("{arrived} of {} bytes have arrived", what.size_bytes);
        return Err(
            Problem { expected_offset: Some(arrived), ..Problem::new(Code::OffsetMismatch, detail) }.into()
        );
    }
    let part = app.uploads.part(&id);
    let found = digest(part.clone()).await?;
    if found != what.sha256 {
        app.uploads.remove(&id).await?;
        let detail = format!("the bytes have SHA-256 {found}, declared was {}", what.sha256);
        return Err(Rejection::new(Code::ChecksumMismatch, detail));
    }
    app.blobs.adopt(&what.org_id, what.sha256, &part).await?;
    app.store.add_blob(app.clock.now(), &what.org_id, what.sha256, what.size_bytes).await?;
    app.uploads.remove(&id).await?;
    Ok(Json(UploadView { upload_id: None, exists: true, offset: arrived }))
}
