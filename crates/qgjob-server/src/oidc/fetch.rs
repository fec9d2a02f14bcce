//! Fetching an issuer's keys: its discovery document (OpenID Connect Discovery 1.0, section 4), and the keys (RFC 7517) where
//! that says they are. Both must be at the issuer itself; redirects are not followed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use jsonwebtoken::DecodingKey;
use qgjob_core::model::name::IssuerUrl;
use reqwest::{Client, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// For all of it.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Most bytes of a document. GitHub's keys have about 6,000.
const MAX_BYTES: usize = 256 * 1024;
/// Most keys that are looked at.
const MAX_KEYS: usize = 100;

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct RsaKey {
    kty: String,
    kid: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    n: String,
    e: String,
}

/// The keys for RS256 by their `kid`.
pub(super) async fn keys(issuer: &IssuerUrl) -> Result<HashMap<String, DecodingKey>, String> {
    match tokio::time::timeout(TIMEOUT, fetch(issuer)).await {
        Ok(result) => result,
        Err(_) => Err("it took longer than 5 s".to_owned()),
    }
}

async fn fetch(issuer: &IssuerUrl) -> Result<HashMap<String, DecodingKey>, String> {
    let base = issuer.as_str().trim_end_matches('/');
    let url: Url = format!("{base}/.well-known/openid-configuration").parse().map_err(|_| "no address")?;
    let mut client = Client::builder()
        .user_agent(concat!("qgjob/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none());
    if is_this_machine(&url) {
        client = client.no_proxy();
    }
    let client = client.build().map_err(|error| innermost(&error))?;
    let discovery: Discovery = get(&client, url.clone()).await?;
    if discovery.issuer != issuer.as_str() {
        return Err(format!("its discovery document is of {:?}", discovery.issuer));
    }
    let at: Url = discovery.jwks_uri.parse().map_err(|_| "its jwks_uri is no address")?;
    // An issuer of https never leads to http: the origin holds the scheme.
    if at.origin() != url.origin() || !at.username().is_empty() {
        return Err(format!("its jwks_uri {at} is not at the issuer"));
    }
    let set: KeySet = get(&client, at).await?;
    let usable = set.keys.into_iter().take(MAX_KEYS).filter_map(usable);
    Ok(usable.fold(HashMap::new(), |mut keys, (kid, key)| {
        keys.entry(kid).or_insert(key);
        keys
    }))
}

/// The key, if it is one for RS256; sets may hold others.
fn usable(key: serde_json::Value) -> Option<(String, DecodingKey)> {
    let key: RsaKey = serde_json::from_value(key).ok()?;
    let fits = key.kty == "RSA"
        && key.usage.is_none_or(|usage| usage == "sig")
        && key.alg.is_none_or(|alg| alg == "RS256");
    let made = DecodingKey::from_rsa_components(&key.n, &key.e).ok().filter(|_| fits)?;
    Some((key.kid, made))
}

async fn get<T: DeserializeOwned>(client: &Client, url: Url) -> Result<T, String> {
    let request = client.get(url.clone()).header("accept", "application/json");
    let mut response = request.send().await.map_err(|error| format!("{url}: {}", innermost(&error)))?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(format!("{url} answered {}", response.status()));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| format!("{url}: {}", innermost(&error)))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_BYTES {
            return Err(format!("{url} answered more than {MAX_BYTES} bytes"));
        }
    }
    serde_json::from_slice(&bytes).map_err(|error| format!("{url}: {error}"))
}

fn is_this_machine(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// The outer messages repeat the address; the innermost says what happened.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
