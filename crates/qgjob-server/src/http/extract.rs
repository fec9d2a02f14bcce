//! Reading requests: every mistake becomes a problem that names the field.

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use futures_util::StreamExt;
use qgjob_core::api::problem::{Code, Problem};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::App;
use super::problem::Rejection;

/// The most mistakes that one answer names.
const MOST_ERRORS: usize = 20;

/// A JSON body: UTF-8, within the limit, with no unknown field.
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = Rejection;

    async fn from_request(request: Request, app: &App) -> Result<Self, Rejection> {
        read(request, app.config.limits.json_body).await.map(Self)
    }
}

/// The body of a report that an agent makes of an attempt: as [`Body`], with room for many results.
#[derive(Debug)]
pub struct LongBody<T>(pub T);

impl<T: DeserializeOwned> FromRequest<App> for LongBody<T> {
    type Rejection = Rejection;

    async fn from_request(request: Request, app: &App) -> Result<Self, Rejection> {
        read(request, app.config.limits.report).await.map(Self)
    }
}

async fn read<T: DeserializeOwned>(request: Request, most: u64) -> Result<T, Rejection> {
    let given =
        request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let media_type = given.split(';').next().unwrap_or("").trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        let detail = format!("the content type is {given:?}, not application/json");
        return Err(Rejection::new(Code::UnsupportedMediaType, detail));
    }
    let bytes = bytes(request.into_body(), "bytes of the body", most).await?;
    // Most bodies have no mistake. Those that do are read again, to find its place.
    if let Ok(whole) = serde_json::from_slice(&bytes) {
        return Ok(whole);
    }
    let unreadable = |error| Rejection::new(Code::MalformedBody, format!("the body is no JSON: {error}"));
    parse(serde_json::from_slice(&bytes).map_err(unreadable)?)
}

/// Reads a whole body of at most `most` bytes.
///
/// # Errors
/// `too_large`, or `malformed_body` when the connection breaks.
pub async fn bytes(body: axum::body::Body, what: &'static str, most: u64) -> Result<Vec<u8>, Rejection> {
    let (mut bytes, mut stream) = (Vec::new(), body.into_data_stream());
    while let Some(piece) = stream.next().await {
        let piece =
            piece.map_err(|_| Rejection::new(Code::MalformedBody, "the body ended before its time"))?;
        let size = (bytes.len() + piece.len()) as u64;
        if size > most {
            return Err(Rejection::too_large(what, most, size));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// Reads `value`. Mistakes are found one by one: each is noted with its place, taken out, and the rest read again.
/// A required field that was taken out is missed before flattened options are read, so it can hide their mistakes.
fn parse<T: DeserializeOwned>(mut value: Value) -> Result<T, Rejection> {
    let mut problem = Problem::new(Code::InvalidRequest, "the body is not as described");
    let mut removed = Vec::new();
    while problem.errors.len() < MOST_ERRORS {
        let (pointer, detail) = match serde_path_to_error::deserialize::<_, T>(&value) {
            Ok(whole) if problem.errors.is_empty() => return Ok(whole),
            Ok(_) => break,
            Err(error) => place::<T>(&error, &value),
        };
        let missing = quoted(&detail, "missing field `").is_some();
        if missing && removed.contains(&pointer) {
            break;
        }
        problem = problem.field(pointer.clone(), detail);
        if missing || !remove(&mut value, &pointer) {
            break;
        }
        removed.push(pointer);
    }
    Err(problem.into())
}

/// Where and what a mistake is. Inside flattened structures the path is lost; then the field is the one without which
/// the mistake is another.
fn place<T: DeserializeOwned>(
    error: &serde_path_to_error::Error<serde_json::Error>,
    value: &Value,
) -> (String, String) {
    let detail = error.inner().to_string();
    let pointer = error.path().iter().fold(String::new(), |pointer, segment| match segment {
        serde_path_to_error::Segment::Map { key } => pointer + "/" + &escape(key),
        serde_path_to_error::Segment::Seq { index } => format!("{pointer}/{index}"),
        _ => pointer,
    });
    if let Some(field) = quoted(&detail, "missing field `") {
        return (format!("{pointer}/{}", escape(field)), detail);
    }
    let Some(fields) = value.pointer(&pointer).and_then(Value::as_object) else {
        return (pointer, detail);
    };
    let unknown = quoted(&detail, "unknown field `").filter(|field| fields.contains_key(*field));
    if let Some(field) = unknown {
        return (format!("{pointer}/{}", escape(field)), detail);
    }
    if pointer.is_empty() {
        for field in fields.keys().take(100) {
            let mut without = fields.clone();
            without.remove(field);
            let now =
                serde_json::from_value::<T>(Value::Object(without)).err().map(|error| error.to_string());
            let misses_it = now.as_deref().and_then(|now| quoted(now, "missing field `")) == Some(field);
            if now.as_ref() != Some(&detail) && !misses_it {
                return (format!("/{}", escape(field)), detail);
            }
        }
    }
    (pointer, detail)
}

fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

fn quoted<'a>(detail: &'a str, before: &str) -> Option<&'a str> {
    detail.strip_prefix(before)?.split('`').next()
}

/// Takes out what `pointer` names.
fn remove(value: &mut Value, pointer: &str) -> bool {
    let Some((parent, last)) = pointer.rsplit_once('/') else { return false };
    match value.pointer_mut(parent) {
        Some(Value::Object(fields)) => fields.remove(&last.replace("~1", "/").replace("~0", "~")).is_some(),
        Some(Value::Array(items)) => match last.parse::<usize>() {
            Ok(index) if index < items.len() => {
                items.remove(index);
                true
            }
            _ => false,
        },
        _ => false,
    }
}

/// Parameters after the `?`.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<App> for Query<T> {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Rejection> {
        let read = axum::extract::Query::<T>::try_from_uri(&parts.uri);
        read.map(|query| Self(query.0)).map_err(|error| {
            let detail =
                std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            Rejection::new(Code::InvalidRequest, format!("a parameter is not as described: {detail}"))
        })
    }
}

/// A duration such as `30s`, `1500ms`, `1m` or `30` (seconds).
///
/// # Errors
/// `invalid_request` that names the parameter.
pub fn wait(text: Option<&str>, most: std::time::Duration) -> Result<std::time::Duration, Rejection> {
    let Some(text) = text else { return Ok(std::time::Duration::ZERO) };
    let wrong = || Rejection::field("wait", format!("{text:?} is not a duration like 30s"));
    let seconds = text.parse::<u32>().map(|seconds| jiff::SignedDuration::from_secs(i64::from(seconds)));
    let signed = match seconds {
        Ok(seconds) => seconds,
        Err(_) => text.parse().map_err(|_| wrong())?,
    };
    Ok(std::time::Duration::try_from(signed).map_err(|_| wrong())?.min(most))
}

/// A header that must hold a number.
///
/// # Errors
/// `invalid_request` that names the header.
pub fn number(headers: &HeaderMap, name: &'static str) -> Result<u64, Rejection> {
    let text = headers.get(name).and_then(|value| value.to_str().ok());
    let number = text.and_then(|text| text.parse().ok());
    number.ok_or_else(|| Rejection::field(name, format!("the header {name} must hold a number")))
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;
    use qgjob_core::api::runs::NewRun;
    use serde_json::json;

    use super::*;

    fn mistakes(value: Value) -> Vec<String> {
        let rejection = parse::<NewRun>(value).expect_err("the body has a mistake");
        let problem = rejection.into_response().extensions_mut().remove::<std::sync::Arc<Problem>>().unwrap();
        problem.errors.iter().map(|error| error.pointer.clone()).collect()
    }

    fn good() -> Value {
        json!({"org_id": "own", "app_version_id": "v1", "bundle_sha256": "0".repeat(64), "tests": ["a.spec.js"]})
    }

    fn with(changes: Value) -> Value {
        let mut value = good();
        value.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        value
    }

    #[test]
    fn a_good_body_is_read() {
        assert!(parse::<NewRun>(with(json!({"priority": 7, "selector": {"model": "Pixel"}}))).is_ok());
    }

    #[test]
    fn every_mistake_is_named_by_its_place() {
        let bad = with(json!({"tests": ["ok.js", "../x", "/y"], "priority": 11, "colour": 1}));
        let mut found = mistakes(bad);
        found.sort();
        // The second bad test moved up when the first was taken out.
        assert_eq!(found, ["/colour", "/priority", "/tests/1", "/tests/1"]);
    }

    #[test]
    fn mistakes_inside_flattened_options_are_found() {
        assert_eq!(mistakes(with(json!({"reset": "sometimes"}))), ["/reset"]);
        assert_eq!(mistakes(with(json!({"selector": {"colour": 1}}))), ["/selector"]);
        assert_eq!(mistakes(with(json!({"env": {"LD_PRELOAD": "x"}}))), ["/env"]);
    }

    #[test]
    fn a_missing_field_is_named() {
        let mut bad = good();
        bad.as_object_mut().unwrap().remove("tests");
        assert_eq!(mistakes(bad), ["/tests"]);
        assert_eq!(mistakes(json!([1])), [""]);
    }

    #[test]
    fn a_wait_is_seconds_or_a_duration_and_never_longer_than_allowed() {
        let most = std::time::Duration::from_secs(60);
        assert_eq!(wait(Some("30s"), most).unwrap().as_secs(), 30);
        assert_eq!(wait(Some("30"), most).unwrap().as_secs(), 30);
        assert_eq!(wait(Some("1500ms"), most).unwrap().as_millis(), 1500);
        assert_eq!(wait(Some("1h"), most).unwrap(), most);
        assert_eq!(wait(None, most).unwrap().as_secs(), 0);
        assert!(wait(Some("soon"), most).is_err() && wait(Some("-1s"), most).is_err());
    }
}
