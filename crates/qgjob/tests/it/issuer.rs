//! An issuer of id-tokens on this machine, with real RSA keys: what GitHub's or GitLab's is to a server, and what GitHub's
//! runner is to a job. Counts how often its keys are fetched, and can be made to misbehave.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{self, KeyPair as _, RsaEncoding};
use axum::Json;
use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use qgjob_core::clock::{Clock, SystemClock};
use serde_json::{Value, json};

/// What a job shows to get an id-token: `ACTIONS_ID_TOKEN_REQUEST_TOKEN`.
pub const REQUEST_TOKEN: &str = "the-jobs-own-request-token";

/// An RSA key with a name.
pub struct Key {
    pub kid: String,
    pair: KeyPair,
}

impl Key {
    pub fn new(kid: &str) -> Self {
        Self { kid: kid.to_owned(), pair: KeyPair::generate(KeySize::Rsa2048).unwrap() }
    }

    pub fn header(&self) -> Value {
        json!({"alg": "RS256", "typ": "JWT", "kid": self.kid, "x5t": self.kid})
    }

    pub fn jwk(&self) -> Value {
        let public = self.pair.public_key();
        let (n, e) = (public.modulus(), public.exponent());
        let text = |number: &[u8]| URL_SAFE_NO_PAD.encode(number);
        json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.kid,
            "n": text(n.big_endian_without_leading_zero()), "e": text(e.big_endian_without_leading_zero())})
    }

    /// The public key's DER, as somebody would take it for the secret of an HMAC.
    pub fn public_der(&self) -> Vec<u8> {
        let der: aws_lc_rs::encoding::PublicKeyX509Der<'_> =
            aws_lc_rs::encoding::AsDer::as_der(self.pair.public_key()).unwrap();
        der.as_ref().to_vec()
    }

    /// A token with these texts as header and claims, signed as `how` says.
    pub fn sign_with(&self, how: &'static dyn RsaEncoding, header: &str, claims: &str) -> String {
        let message = unsigned(header, claims);
        let mut signed = vec![0; self.pair.public_modulus_len()];
        self.pair.sign(how, &SystemRandom::new(), message.as_bytes(), &mut signed).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signed))
    }

    /// A token as the issuer makes them.
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_with(&signature::RSA_PKCS1_SHA256, &self.header().to_string(), &claims.to_string())
    }
}

/// Header and claims as they are signed.
pub fn unsigned(header: &str, claims: &str) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
}

/// How an issuer answers when it is asked for its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Well,
    Fails,
    Silent,
    Huge,
    RedirectsDiscovery,
    RedirectsKeys,
    NamesForeignKeys,
    IsAnother,
    Babbles,
}

struct Inner {
    url: String,
    key: Key,
    mood: Mutex<Mood>,
    shown: Mutex<Vec<Value>>,
    changes: Mutex<Value>,
    discoveries: AtomicUsize,
    fetches: AtomicUsize,
    given: AtomicUsize,
}

/// A running issuer.
pub struct Issuer {
    pub url: String,
    inner: Arc<Inner>,
    serving: tokio::task::JoinHandle<()>,
}

impl Issuer {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let key = Key::new("key-1");
        let inner = Arc::new(Inner {
            url: url.clone(),
            shown: Mutex::new(vec![key.jwk()]),
            key,
            mood: Mutex::new(Mood::Well),
            changes: Mutex::new(json!({})),
            discoveries: AtomicUsize::new(0),
            fetches: AtomicUsize::new(0),
            given: AtomicUsize::new(0),
        });
        let routes = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(keys))
            .route("/elsewhere", get(keys))
            .route("/token", get(id_token))
            .with_state(Arc::clone(&inner));
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { url, inner, serving }
    }

    /// The key that it signs with.
    pub fn key(&self) -> &Key {
        &self.inner.key
    }

    pub fn set_mood(&self, mood: Mood) {
        *self.inner.mood.lock().unwrap() = mood;
    }

    /// The keys that it shows from now on.
    pub fn show(&self, keys: Vec<Value>) {
        *self.inner.shown.lock().unwrap() = keys;
    }

    /// Claims of the id-tokens that it gives to jobs, in which they differ from the usual ones.
    pub fn set_claims(&self, changes: Value) {
        *self.inner.changes.lock().unwrap() = changes;
    }

    /// How often its keys were fetched.
    pub fn fetches(&self) -> usize {
        self.inner.fetches.load(Ordering::SeqCst)
    }

    /// How often it was asked for anything that leads to its keys.
    pub fn asked(&self) -> usize {
        self.fetches() + self.inner.discoveries.load(Ordering::SeqCst)
    }

    /// How many id-tokens it gave to jobs.
    pub fn given(&self) -> usize {
        self.inner.given.load(Ordering::SeqCst)
    }

    /// `ACTIONS_ID_TOKEN_REQUEST_URL`.
    pub fn request_url(&self) -> String {
        format!("{}/token?api-version=2.0", self.url)
    }

    /// What GitHub says of a push to main of octo/app, issued now for `audience`, with a `jti` of its own.
    pub fn claims(&self, audience: &str) -> Value {
        self.inner.claims(audience)
    }

    /// A good id-token with these changes; `null` takes a claim away.
    pub fn token(&self, audience: &str, changes: Value) -> String {
        self.key().sign(&changed(self.claims(audience), changes))
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// `claims` with `changes`; `null` takes a claim away.
pub fn changed(mut claims: Value, changes: Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => _ = claims.as_object_mut().unwrap().remove(name),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

impl Inner {
    fn claims(&self, audience: &str) -> Value {
        let now = SystemClock.now().as_second();
        json!({
            "jti": format!("{:032x}", SystemClock.random()), "iss": self.url, "aud": audience,
            "sub": "repo:octo/app:ref:refs/heads/main", "iat": now, "nbf": now - 600, "exp": now + 300,
            "ref": "refs/heads/main", "sha": "6dcb09b5b57875f334f61aebed695e2e4193db5e", "ref_type": "branch",
            "repository": "octo/app", "repository_owner": "octo", "repository_id": "74", "repository_owner_id": "65",
            "repository_visibility": "private", "actor": "octocat", "actor_id": "12", "workflow": "mobile tests",
            "head_ref": "", "base_ref": "", "event_name": "push", "run_id": "4711", "run_number": "10",
            "run_attempt": "1", "runner_environment": "github-hosted", "ref_protected": "true",
            "workflow_ref": "octo/app/.github/workflows/mobile.yml@refs/heads/main",
            "job_workflow_ref": "octo/app/.github/workflows/mobile.yml@refs/heads/main",
        })
    }
}

async fn discovery(State(inner): State<Arc<Inner>>) -> Response {
    inner.discoveries.fetch_add(1, Ordering::SeqCst);
    let mood = *inner.mood.lock().unwrap();
    let (url, mut keys) = (inner.url.clone(), format!("{}/keys", inner.url));
    if mood == Mood::NamesForeignKeys {
        keys = keys.replace("127.0.0.1", "localhost");
    }
    match mood {
        Mood::Fails => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Mood::Silent => std::future::pending().await,
        Mood::RedirectsDiscovery => Redirect::temporary("/elsewhere").into_response(),
        Mood::IsAnother => Json(json!({"issuer": format!("{url}/other"), "jwks_uri": keys})).into_response(),
        Mood::Babbles => "not JSON".into_response(),
        _ => Json(json!({"issuer": url, "jwks_uri": keys})).into_response(),
    }
}

async fn keys(State(inner): State<Arc<Inner>>) -> Response {
    inner.fetches.fetch_add(1, Ordering::SeqCst);
    let mood = *inner.mood.lock().unwrap();
    match mood {
        Mood::RedirectsKeys => Redirect::temporary("/elsewhere").into_response(),
        Mood::Huge => {
            let keys = inner.shown.lock().unwrap().clone();
            Json(json!({"keys": keys, "more": "x".repeat(1 << 20)})).into_response()
        }
        _ => Json(json!({"keys": *inner.shown.lock().unwrap()})).into_response(),
    }
}

#[derive(serde::Deserialize)]
struct Wanted {
    audience: Option<String>,
}

/// What GitHub's runner offers to a job that may have id-tokens.
async fn id_token(
    State(inner): State<Arc<Inner>>,
    headers: HeaderMap,
    Query(wanted): Query<Wanted>,
) -> Response {
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !shown.eq_ignore_ascii_case(&format!("bearer {REQUEST_TOKEN}")) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let Some(audience) = wanted.audience else { return StatusCode::BAD_REQUEST.into_response() };
    inner.given.fetch_add(1, Ordering::SeqCst);
    let changes = inner.changes.lock().unwrap().clone();
    let value = inner.key.sign(&changed(inner.claims(&audience), changes));
    Json(json!({"count": value.len(), "value": value})).into_response()
}
