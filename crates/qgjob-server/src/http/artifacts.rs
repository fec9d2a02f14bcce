//! Bytes of artifacts. They come from tests, so a browser must neither run nor show them as part of this site.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use qgjob_core::model::artifact;

use super::App;
use super::auth::Member;
use super::content;
use super::problem::Rejection;

/// The bytes of an artifact; `Range` is understood.
#[utoipa::path(get, path = "/artifacts/{id}/content", tag = "artifacts",
    responses((status = 200, content_type = "application/octet-stream"), (status = 206, content_type = "application/octet-stream")))]
pub async fn read(
    State(app): State<App>,
    member: Member,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Rejection> {
    let not_found = || Rejection::not_found(format_args!("artifact {id}"));
    let parsed: artifact::Id = id.parse().map_err(|_| not_found())?;
    let (artifact, org) = app.store.artifact(&member.scope, parsed).await?.ok_or_else(not_found)?;
    let mut response = content::blob(&app, &org, artifact.sha256, &headers).await?;
    if response.status().is_success() {
        let headers = response.headers_mut();
        let media_type = HeaderValue::from_str(&artifact.media_type);
        headers.insert(
            header::CONTENT_TYPE,
            media_type.unwrap_or(HeaderValue::from_static("application/octet-stream")),
        );
        headers.insert(header::CONTENT_DISPOSITION, attachment(&artifact.name));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers
            .insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=3600, immutable"));
    }
    Ok(response)
}

/// Names the file for whoever saves it: the last part of the path, every byte outside the plain ones encoded.
fn attachment(name: &str) -> HeaderValue {
    let last = name.rsplit('/').next().unwrap_or(name);
    let encoded: String = last
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect();
    let value = format!("attachment; filename*=UTF-8''{encoded}");
    HeaderValue::from_str(&value).expect("an encoded name is a header value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_cannot_leave_its_header() {
        assert_eq!(attachment("a/b \"x\"\r\n.png"), "attachment; filename*=UTF-8''b%20%22x%22%0D%0A.png");
    }
}
