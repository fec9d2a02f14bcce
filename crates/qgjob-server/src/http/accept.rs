//! Whether the caller can read what a route answers with.

use axum::http::{HeaderMap, header};
use qgjob_core::api::problem::Code;

use super::problem::Rejection;

/// Whether the caller can read what the route answers with, by the pattern of its path.
///
/// # Errors
/// `not_acceptable` when the request's `Accept` names nothing of that: the caller would not understand the answer.
pub fn check(route: &str, headers: &HeaderMap) -> Result<(), Rejection> {
    let offered = offered(route);
    if offered.is_empty() || accepts(headers, offered) {
        return Ok(());
    }
    Err(Rejection::new(Code::NotAcceptable, format!("the answer is {}", offered.join(" or "))))
}

/// What a route answers with, by the pattern of its path; empty when that can be anything.
fn offered(route: &str) -> &'static [&'static str] {
    let api = route.starts_with("/api/") || route.starts_with("/agent/");
    match route.rsplit('/').next() {
        _ if !api => &[],
        // Bytes that somebody else has made.
        Some("content" | "{input}") => &[],
        Some("events") => &["text/event-stream"],
        Some("logs") => &["text/plain", "text/event-stream"],
        _ => &["application/json"],
    }
}

fn accepts(headers: &HeaderMap, offered: &[&str]) -> bool {
    let values = headers.get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    let mut ranges =
        values.flat_map(|value| value.split(',')).filter(|range| !range.trim().is_empty()).peekable();
    ranges.peek().is_none() || ranges.any(|range| offered.iter().any(|media_type| covers(range, media_type)))
}

/// Whether a part of `Accept`, such as `text/*;q=0.5`, covers a media type.
fn covers(range: &str, media_type: &str) -> bool {
    let mut parts = range.split(';').map(str::trim);
    let range = parts.next().unwrap_or_default().to_ascii_lowercase();
    let refused = parts.any(|part| {
        let weight = part.strip_prefix("q=").or_else(|| part.strip_prefix("Q="));
        weight.is_some_and(|weight| weight.parse() == Ok(0.0))
    });
    let family = range.strip_suffix('*').filter(|family| family.ends_with('/'));
    !refused
        && (range == "*/*"
            || range == media_type
            || family.is_some_and(|family| media_type.starts_with(family)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_understood() {
        let accepts = |text: &str| {
            let headers = [(header::ACCEPT, text.parse().unwrap())].into_iter().collect();
            accepts(&headers, &["application/json"])
        };
        for good in [
            "",
            "*/*",
            "application/*",
            "Application/JSON; q=0.1",
            "text/html, */*;q=0.8",
            "a/b,application/json",
        ] {
            assert!(accepts(good), "{good}");
        }
        for bad in [
            "application/xml",
            "text/*",
            "*",
            "application/json;q=0",
            "application/json;q=0.000",
            "application",
        ] {
            assert!(!accepts(bad), "{bad}");
        }
    }
}
