//! Whom this server believes about pipelines: the issuers that the operator trusts, their keys, and the signatures of
//! id-tokens. What an id-token must be like is the rules' (`qgjob_core::trust`).

mod fetch;
mod keys;

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, crypto};
use qgjob_core::model::name::IssuerUrl;
use qgjob_core::model::policy::{Kind, Trusted};
use qgjob_core::model::sha256::Sha256;
use qgjob_core::trust::claims::Claims;
use qgjob_core::trust::id_token::{Fault, IdToken};
use sha2::Digest;

use self::keys::Keys;

/// How long ago an id-token may have ended to be good for a test of policies.
const TESTED: SignedDuration = SignedDuration::from_hours(24);

/// Why an id-token is not believed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Because of what it is.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// Nobody knows: the issuer's keys could not be had.
    #[error("the issuer's keys could not be fetched")]
    Unavailable {
        /// When it may be tried again.
        retry_after_ms: u64,
    },
}

/// The issuers and their keys.
pub struct Oidc {
    here: String,
    issuers: HashMap<IssuerUrl, (Kind, Keys)>,
}

/// An id-token of a trusted issuer, if it is what it says.
pub struct Signed<'t> {
    issuer: IssuerUrl,
    token: IdToken<'t>,
}

impl Oidc {
    /// Trusts the known issuers and `more`. `url` is how users reach this server: its origin is the audience of id-tokens.
    pub fn new(more: &[Trusted], url: &str) -> Self {
        let here = reqwest::Url::parse(url)
            .map_or_else(|_| url.to_owned(), |url| url.origin().ascii_serialization());
        let all = Trusted::known().into_iter().chain(more.iter().cloned());
        let issuers =
            all.map(|Trusted { kind, issuer }| (issuer.clone(), (kind, Keys::of(issuer)))).collect();
        Self { here, issuers }
    }

    /// The audience that id-tokens are wanted for: `scheme://host:port`.
    pub fn here(&self) -> &str {
        &self.here
    }

    /// Whose rules the issuer's id-tokens follow, if it is trusted.
    pub fn kind(&self, issuer: &IssuerUrl) -> Option<Kind> {
        self.issuers.get(issuer).map(|(kind, _)| *kind)
    }

    /// The issuers that are trusted.
    pub fn issuers(&self) -> impl Iterator<Item = &IssuerUrl> {
        self.issuers.keys()
    }

    /// Reads an id-token, of which nothing is to be believed yet.
    ///
    /// # Errors
    /// When it has not the form of one, or nobody who is trusted is said to have issued it.
    pub fn read<'t>(&self, text: &'t str) -> Result<Signed<'t>, Error> {
        let token = IdToken::read(text)?;
        let issuer = token.issuer().and_then(|issuer| issuer.parse().ok());
        let issuer = issuer.filter(|issuer| self.issuers.contains_key(issuer)).ok_or(Fault::Issuer)?;
        Ok(Signed { issuer, token })
    }

    /// Checks signature and claims. `now` is for the keys, `at` is when the claims must be good.
    ///
    /// # Errors
    /// When it is not to be believed, or that cannot be found out.
    pub async fn check(
        &self,
        signed: &Signed<'_>,
        now: Timestamp,
        at: Timestamp,
    ) -> Result<(Kind, Claims), Error> {
        let Signed { issuer, token } = signed;
        let (kind, keys) = self.issuers.get(issuer).ok_or(Fault::Issuer)?;
        let key = keys.get(&token.kid, now).await?;
        // Always RS256: the token does not choose.
        match crypto::verify(token.signature, token.message.as_bytes(), &key, Algorithm::RS256) {
            Ok(true) => {}
            Ok(false) | Err(_) => return Err(Fault::Signature.into()),
        }
        let mut claims = token.claims.clone();
        // Buildkite and CircleCI give their id-tokens no name. What is signed is one: it cannot be changed and stay signed.
        if *kind == Kind::Other && !claims.contains_key("jti") {
            let digest = Sha256(sha2::Sha256::digest(token.message.as_bytes()).into());
            claims.insert("jti".to_owned(), format!("sha256:{digest}").into());
        }
        Ok((*kind, Claims::check(claims, issuer, at)?))
    }
}

impl Signed<'_> {
    /// Who is said to have issued it.
    pub fn issuer(&self) -> &IssuerUrl {
        &self.issuer
    }

    /// The latest instant until `now`, and not more than a day before it, at which it was not over.
    pub fn newest_before(&self, now: Timestamp) -> Timestamp {
        let end = self.token.claims.get("exp").and_then(serde_json::Value::as_i64);
        let end = end.and_then(|end| Timestamp::from_second(end).ok());
        end.filter(|end| *end < now && *end > now - TESTED).unwrap_or(now)
    }
}
