//! The form of an id-token: a signed JWT (RFC 7519) in compact form (RFC 7515, section 7.1), and nothing that would let the
//! token choose how it is checked (RFC 8725, sections 3.1 and 3.5).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::json;

/// Most bytes of an id-token. Those of GitHub and GitLab have about 2,000.
pub const MAX_BYTES: usize = 16 * 1024;

/// What stands in the header of an honest id-token. Anything else could name a key, or ask for something not understood here.
const HEADER: [&str; 5] = ["alg", "kid", "typ", "x5t", "x5t#S256"];

/// Why an id-token is not believed. The texts depend on the token and on time alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is too long.
    #[error("it has {0} bytes, at most {MAX_BYTES} are allowed")]
    TooLong(usize),
    /// It has not the form of one.
    #[error("it is no signed JWT: {0}")]
    Form(&'static str),
    /// Its header asks for another way of checking.
    #[error("its header {0}")]
    Header(&'static str),
    /// Nobody is trusted to issue it.
    #[error("its issuer is not trusted by this server")]
    Issuer,
    /// The issuer has no such key.
    #[error("its issuer has no key of this kid")]
    Key,
    /// The issuer did not sign this.
    #[error("its signature is not its issuer's")]
    Signature,
    /// A claim is missing, or not what it must be.
    #[error("its claim {name} {why}")]
    Claim {
        /// Which.
        name: &'static str,
        /// Why.
        why: String,
    },
    /// It was issued for somebody else.
    #[error("its claim aud is {given:?}, and this server is {wanted:?}")]
    Audience {
        /// For whom.
        given: String,
        /// Who this is.
        wanted: String,
    },
}

/// An id-token that has the right form. Nothing in it is to be believed before its signature is checked.
#[derive(Debug, Clone)]
pub struct IdToken<'t> {
    /// Which of the issuer's keys is said to have signed it.
    pub kid: String,
    /// What is signed.
    pub message: &'t str,
    /// The signature, in base64url.
    pub signature: &'t str,
    /// What it says.
    pub claims: Map<String, Value>,
}

impl<'t> IdToken<'t> {
    /// Reads `text`.
    ///
    /// # Errors
    /// Why it is no id-token that could be checked with RS256.
    pub fn read(text: &'t str) -> Result<Self, Fault> {
        if text.len() > MAX_BYTES {
            return Err(Fault::TooLong(text.len()));
        }
        let parts: Vec<&str> = text.split('.').collect();
        let [header, claims, signature] = parts[..] else {
            return Err(Fault::Form("it has not three parts"));
        };
        if signature.is_empty() {
            return Err(Fault::Form("it is not signed"));
        }
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Fault::Form("it is no base64url"));
        decode(signature)?;
        let kid = kid(&json::object(&decode(header)?).map_err(Fault::Header)?)?;
        let claims = json::object(&decode(claims)?)
            .map_err(|why| Fault::Claim { name: "set", why: why.to_owned() })?;
        let message = &text[..text.len() - signature.len() - 1];
        Ok(Self { kid, message, signature, claims })
    }

    /// Who is said to have issued it.
    pub fn issuer(&self) -> Option<&str> {
        self.claims.get("iss")?.as_str()
    }
}

/// Checks the header; answers its `kid`.
fn kid(header: &Map<String, Value>) -> Result<String, Fault> {
    if header.get("alg").and_then(Value::as_str) != Some("RS256") {
        return Err(Fault::Header("does not say alg RS256"));
    }
    let typ = header.get("typ").map(|typ| typ.as_str().unwrap_or_default());
    if typ.is_some_and(|typ| !typ.eq_ignore_ascii_case("JWT")) {
        return Err(Fault::Header("says another typ than JWT"));
    }
    if header.keys().any(|name| !HEADER.contains(&name.as_str())) {
        return Err(Fault::Header("holds more than alg, kid, typ and x5t"));
    }
    match header.get("kid").and_then(Value::as_str) {
        Some(kid) if (1..=256).contains(&kid.len()) => Ok(kid.to_owned()),
        _ => Err(Fault::Header("has no kid of 1 to 256 bytes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, claims: &str) -> String {
        format!("{}.{}.AAAA", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn the_form_is_that_of_one_signature_with_rs256() {
        let good = token(r#"{"alg":"RS256","kid":"k","typ":"JWT","x5t":"k"}"#, r#"{"iss":"i"}"#);
        let read = IdToken::read(&good).unwrap();
        assert_eq!((read.kid.as_str(), read.issuer(), read.signature), ("k", Some("i"), "AAAA"));
        assert_eq!(format!("{}.AAAA", read.message), good);
        for header in [
            r#"{"alg":"none","kid":"k"}"#,
            r#"{"alg":"rs256","kid":"k"}"#,
            r#"{"alg":["RS256"],"kid":"k"}"#,
            r#"{"alg":"RS256","alg":"none","kid":"k"}"#,
            r#"{"alg":"RS256"}"#,
            r#"{"alg":"RS256","kid":""}"#,
            r#"{"alg":"RS256","kid":7}"#,
            r#"{"alg":"RS256","kid":"k","typ":"at+jwt"}"#,
            r#"{"alg":"RS256","kid":"k","typ":1}"#,
            r#"{"alg":"RS256","kid":"k","crit":[]}"#,
            r#"{"alg":"RS256","kid":"k","jwk":{}}"#,
            r#"{"alg":"RS256","kid":"k","jku":"https://evil.example"}"#,
            r#"{"alg":"RS256","kid":"k","x5u":"https://evil.example"}"#,
            r#"{"alg":"RS256","kid":"k","x5c":[]}"#,
            r#"{"alg":"RS256","kid":"k","b64":false}"#,
            r#"{"alg":"RS256","kid":"k","zip":"DEF"}"#,
        ] {
            let fault = IdToken::read(&token(header, "{}")).unwrap_err();
            assert!(matches!(fault, Fault::Header(_)), "{header}: {fault}");
        }
        for text in [
            "",
            "a",
            "a.b",
            &format!("{good}.AAAA"),
            &format!("{good}="),
            &format!(" {good}"),
            &format!("{good}\n"),
            &good.replace(".AAAA", "."),
            &good.replace(".AAAA", ".A+/A"),
            &good[..20],
        ] {
            assert!(matches!(IdToken::read(text), Err(Fault::Form(_))), "{text}");
        }
        let long = "a".repeat(MAX_BYTES + 1);
        assert_eq!(IdToken::read(&long).unwrap_err(), Fault::TooLong(MAX_BYTES + 1));
    }
}
