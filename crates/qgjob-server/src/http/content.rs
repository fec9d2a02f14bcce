//! Bytes in and out: ranges of blobs, and bodies that go to a file.

use std::path::Path;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use qgjob_core::api::problem::Code;
use qgjob_core::model::name::OrgId;
use qgjob_core::model::sha256::Sha256;
use sha2::Digest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::io::ReaderStream;

use super::App;
use super::problem::Rejection;

/// Answers with a blob, or the part of it that `Range` asks for.
///
/// # Errors
/// `not_found` when the org has no such blob, `range_not_satisfiable`.
pub async fn blob(
    app: &App,
    org: &OrgId,
    sha256: Sha256,
    headers: &HeaderMap,
) -> Result<Response, Rejection> {
    let not_found = || Rejection::not_found(format_args!("blob {sha256}"));
    let size = app.blobs.size(org, sha256).await?.ok_or_else(not_found)?;
    let asked = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let (status, start, end) = match range(asked, size) {
        Asked::Whole => (StatusCode::OK, 0, size),
        Asked::Part(start, end) => (StatusCode::PARTIAL_CONTENT, start, end),
        Asked::Outside => {
            let mut response =
                Rejection::new(Code::RangeNotSatisfiable, format!("there are {size} bytes")).into_response();
            response.headers_mut().insert(header::CONTENT_RANGE, number(format!("bytes */{size}")));
            return Ok(response);
        }
    };
    let reader = app.blobs.open(org, sha256, start).await?.ok_or_else(not_found)?;
    let body = Body::from_stream(ReaderStream::with_capacity(reader.take(end - start), 64 * 1024));
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, number((end - start).to_string()));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::ETAG, number(format!("\"{sha256}\"")));
    if status == StatusCode::PARTIAL_CONTENT {
        headers.insert(header::CONTENT_RANGE, number(format!("bytes {start}-{}/{size}", end - 1)));
    }
    Ok(response)
}

fn number(text: String) -> HeaderValue {
    HeaderValue::from_str(&text).expect("digits and marks are a header value")
}

#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Whole,
    /// From the first byte to before the second.
    Part(u64, u64),
    Outside,
}

/// Understands one range; several, and other units, are answered with everything, as RFC 9110 allows.
fn range(text: Option<&str>, size: u64) -> Asked {
    let Some((first, last)) =
        text.and_then(|text| text.strip_prefix("bytes=")).and_then(|range| range.split_once('-'))
    else {
        return Asked::Whole;
    };
    match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => part(first, last.saturating_add(1).min(size)),
        (Ok(first), Err(_)) if last.is_empty() => part(first, size),
        (Err(_), Ok(last)) if first.is_empty() => part(size.saturating_sub(last), size),
        _ => Asked::Whole,
    }
}

fn part(start: u64, end: u64) -> Asked {
    if start < end { Asked::Part(start, end) } else { Asked::Outside }
}

/// Appends a body to the file at `path`, which is made if needed, and answers how many bytes came and their digest.
/// What has arrived stays when the connection breaks.
///
/// # Errors
/// `too_large` when more than `most` bytes come; `malformed_body` when the connection breaks.
pub async fn save(body: Body, path: &Path, most: u64) -> Result<(u64, Sha256), Rejection> {
    let mut file = tokio::fs::OpenOptions::new().create(true).append(true).open(path).await?;
    let (mut written, mut hash, mut stream) = (0, sha2::Sha256::new(), body.into_data_stream());
    let ended = loop {
        let piece = match stream.next().await {
            None => break Ok(()),
            Some(Ok(piece)) => piece,
            Some(Err(_)) => break Err(Rejection::new(Code::MalformedBody, "the body ended before its time")),
        };
        let size = written + piece.len() as u64;
        if size > most {
            break Err(Rejection::too_large("bytes of the body", most, size));
        }
        file.write_all(&piece).await?;
        hash.update(&piece);
        written = size;
    };
    file.flush().await?;
    ended.map(|()| (written, Sha256(hash.finalize().into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_understood() {
        for (text, expected) in [
            ("bytes=0-4", Asked::Part(0, 5)),
            ("bytes=5-", Asked::Part(5, 10)),
            ("bytes=-3", Asked::Part(7, 10)),
            ("bytes=-30", Asked::Part(0, 10)),
            ("bytes=8-99", Asked::Part(8, 10)),
            ("bytes=9-18446744073709551615", Asked::Part(9, 10)),
            ("bytes=10-", Asked::Outside),
            ("bytes=-0", Asked::Outside),
            ("bytes=4-2", Asked::Whole),
            ("bytes=0-1,4-5", Asked::Whole),
            ("items=0-1", Asked::Whole),
        ] {
            assert_eq!(range(Some(text), 10), expected, "{text}");
        }
    }
}
