//! Errors on the wire: `application/problem+json` (RFC 9457).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::exit::ExitCode;
use crate::model::refusal::Refusal;

/// An error as every endpoint answers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Where the code is explained: `/api/v1/problems/<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code's title.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The code, for programs.
    pub code: Code,
    /// What went wrong this time, for people.
    pub detail: String,
    /// The path of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The request, as in the header `x-request-id` and in the server's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Which fields of the request are wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// How long to wait before the same request can succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Where the server's copy of a log or upload ends, for `offset_mismatch`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_offset: Option<u64>,
}

/// A field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// JSON pointer into the request's body.
    pub pointer: String,
    /// What is wrong with it.
    pub detail: String,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident $word:literal $status:literal $exit:ident $title:literal $todo:literal;)+) => {
        /// Every kind of error, each with a status, an exit code and something to do.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Code { $($(#[$doc])* $variant,)+ }

        impl Code {
            /// Every code, in the order of the reference.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The HTTP status.
            pub fn status(self) -> u16 {
                match self { $(Self::$variant => $status),+ }
            }

            /// The exit code of a command that ends with it.
            pub fn exit_code(self) -> ExitCode {
                match self { $(Self::$variant => ExitCode::$exit),+ }
            }

            /// A short sentence.
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),+ }
            }

            /// What to do about it.
            pub fn what_to_do(self) -> &'static str {
                match self { $(Self::$variant => $todo),+ }
            }
        }
    };
}

codes! {
    /// The body, a parameter or a header is not as described.
    InvalidRequest "invalid_request" 422 Usage "The request is not as described"
        "Correct the fields named in `errors`; the API reference describes each.";
    /// The body is no JSON.
    MalformedBody "malformed_body" 400 Usage "The body cannot be read"
        "Send one JSON document in UTF-8 with `content-type: application/json`.";
    /// A cursor does not belong to these filters.
    InvalidCursor "invalid_cursor" 400 Usage "The cursor does not fit this list"
        "Start again without `cursor`, and keep the filters the same from page to page.";
    /// No token, or one that does not work.
    Unauthenticated "unauthenticated" 401 Auth "No valid token"
        "Send `Authorization: Bearer <token>`; the CLI reads QGJOB_TOKEN, QGJOB_TOKEN_FILE or its credentials file.";
    /// The token is good, but not for this.
    Forbidden "forbidden" 403 Auth "The token does not allow this"
        "Use a token of the kind and org that the operation needs.";
    /// An id-token is not what it must be.
    IdTokenInvalid "id_token_invalid" 401 Auth "The id-token is not accepted"
        "Get a fresh id-token for the address of this server from your CI service; docs/KEYLESS.md says what is checked.";
    /// An id-token was shown a second time.
    IdTokenUsed "id_token_used" 401 Auth "The id-token was used before"
        "Get a fresh id-token: each can be used once.";
    /// No policy lets the id-token in.
    IdTokenNotAllowed "id_token_not_allowed" 403 Auth "No policy lets this id-token in"
        "An admin of the server sees what is missing with `qgjob org oidc-policy test`.";
    /// The keys of an issuer of id-tokens cannot be had.
    IssuerUnavailable "issuer_unavailable" 503 Infra "The issuer of the id-token cannot be asked for its keys"
        "Try again after `Retry-After`; the server must reach the issuer's address.";
    /// A login cannot be renewed any more.
    LoginOver "login_over" 403 Auth "The login cannot be renewed any more"
        "Log in again with a fresh id-token.";
    /// The token does not allow so urgent jobs.
    PriorityTooHigh "priority_too_high" 403 Auth "The token does not allow so high a priority"
        "Ask for a lower priority, or have the policy changed that let the pipeline in.";
    /// No such thing, or not visible.
    NotFound "not_found" 404 NotFound "Not found"
        "Check the id; things of other orgs are not visible.";
    /// The method is not known here.
    MethodNotAllowed "method_not_allowed" 405 Usage "The method is not allowed here"
        "The API reference lists each path's methods.";
    /// The command does not fit the job's status.
    WrongStatus "wrong_status" 409 Conflict "The job or run is not in a status that allows this"
        "Look at its status; what has finished can be run again, not cancelled.";
    /// All of a run passed.
    NothingToRerun "nothing_to_rerun" 409 Conflict "Nothing failed"
        "Each job of the run passed, or the suite skipped its tests: there is nothing to run again.";
    /// The attempt's lease is over.
    LeaseLost "lease_lost" 409 Conflict "The lease is lost"
        "The agent must stop the attempt; what it still sends is kept as evidence and changes nothing.";
    /// A label names another build.
    AppVersionConflict "app_version_conflict" 409 Conflict "The app version is bound to another build"
        "Use a new app version id; a label never changes its build.";
    /// Bytes do not continue where the server's copy ends.
    OffsetMismatch "offset_mismatch" 409 Conflict "The bytes do not continue the server's copy"
        "Continue at `expected_offset`.";
    /// An idempotency key was used with another request.
    IdempotencyKeyReused "idempotency_key_reused" 422 Conflict "The idempotency key was used with another request"
        "Use a new key for a new request.";
    /// A blob was not uploaded.
    NotUploaded "not_uploaded" 422 Usage "Bytes that the request names are not on the server"
        "Upload them first with `POST /api/v1/uploads`.";
    /// Uploaded bytes are not what was declared.
    ChecksumMismatch "checksum_mismatch" 422 Usage "The bytes are not those that were declared"
        "Upload again; compare size and SHA-256 with the file.";
    /// A limit is exceeded.
    TooLarge "too_large" 413 Usage "Larger than allowed"
        "Send less; limits are listed by `qgjob server print-config`.";
    /// A `Range` lies outside the bytes.
    RangeNotSatisfiable "range_not_satisfiable" 416 Usage "The range lies outside the bytes"
        "Ask for a range that begins before the end given in `content-range`.";
    /// The agent's or server's protocol is not understood.
    UnsupportedMediaType "unsupported_media_type" 415 Usage "The content type is not supported"
        "Send `content-type: application/json`.";
    /// `Accept` names no form that the answer can have.
    NotAcceptable "not_acceptable" 406 Usage "The answer cannot have a form that is accepted"
        "Send `Accept: application/json`, or leave `Accept` out; the API reference says what each path answers with.";
    /// `If-Match` does not match.
    PreconditionFailed "precondition_failed" 412 Conflict "The thing has changed since you read it"
        "Read it again and repeat the change on what it is now.";
    /// Too many streams or requests.
    Busy "busy" 503 Infra "The server cannot take this now"
        "Try again after `Retry-After`.";
    /// No space left on the server.
    StorageFull "storage_full" 507 Infra "The server's disk is full"
        "Free space on the server; nothing that was accepted is lost.";
    /// A bug or a broken part.
    Internal "internal" 500 Infra "The server failed"
        "Look for the request id in the server's log and report it.";
}

impl Problem {
    /// A problem of kind `code`.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind: format!("/api/v1/problems/{}", code.as_str()),
            title: code.title().to_owned(),
            status: code.status(),
            code,
            detail: detail.into().into_owned(),
            instance: None,
            request_id: None,
            errors: Vec::new(),
            hint: Some(code.what_to_do().to_owned()),
            retry_after_ms: None,
            expected_offset: None,
        }
    }

    /// Names a field that is wrong.
    #[must_use]
    pub fn field(mut self, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        self.errors.push(FieldError { pointer: pointer.into(), detail: detail.into() });
        self
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let code = match &refusal {
            Refusal::NotFound { .. } => Code::NotFound,
            Refusal::WrongStatus { .. } => Code::WrongStatus,
            Refusal::LeaseLost { .. } => Code::LeaseLost,
            Refusal::LabelBound { .. } => Code::AppVersionConflict,
            Refusal::KeyReused => Code::IdempotencyKeyReused,
            Refusal::IdTokenUsed => Code::IdTokenUsed,
            Refusal::LoginOver => Code::LoginOver,
            Refusal::NotUploaded { .. } => Code::NotUploaded,
            Refusal::TooMany { .. } => Code::TooLarge,
            Refusal::LogOffset { .. } => Code::OffsetMismatch,
            Refusal::Invalid(_) => Code::InvalidRequest,
        };
        let expected_offset = match &refusal {
            Refusal::LogOffset { expected } => Some(*expected),
            _ => None,
        };
        Self { expected_offset, ..Self::new(code, refusal.to_string()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_of_a_code_is_its_form_on_the_wire() {
        for code in Code::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }

    #[test]
    fn every_status_is_an_error() {
        assert!(Code::ALL.iter().all(|code| (400..600).contains(&code.status())));
    }
}
