//! Logging in without a stored token: the CI service vouches for the job with an id-token, and the server gives a token for
//! it, which is renewed for as long as the program runs. docs/KEYLESS.md tells what for.

mod kept;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use qgjob_core::api::logins::{LoggedIn, NewLogin, Renewed};
use qgjob_core::model::name::OrgId;
use qgjob_core::trust::id_token::MAX_BYTES;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::{Client, Credential, Error, Result, Secret, is_loopback};
use kept::Kept;

/// For one question to the CI service.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the CI service is asked, and the pause after the first time, which doubles.
const ASK: (u32, Duration) = (4, Duration::from_millis(500));
/// How long to wait with the next try to renew after one that failed for reasons that pass.
const RENEW_PAUSE: Duration = Duration::from_secs(20);

/// Where id-tokens come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// The runner of GitHub Actions gives one each time it is asked.
    GitHub {
        /// `ACTIONS_ID_TOKEN_REQUEST_URL`.
        url: String,
        /// `ACTIONS_ID_TOKEN_REQUEST_TOKEN`.
        token: Secret,
    },
    /// There is one, `QGJOB_ID_TOKEN`, which works once.
    Given(Secret),
}

/// How to log in.
#[derive(Debug, Clone)]
pub struct Login {
    /// Where id-tokens come from.
    pub source: Source,
    /// The org to log in to; none: the one that lets the id-token in.
    pub org_id: Option<OrgId>,
    /// The folder where a login with an id-token that works once is kept for the job's next command.
    pub folder: Option<PathBuf>,
}

/// A login, made when it is first needed.
pub(super) struct Session {
    login: Login,
    held: Mutex<Option<Held>>,
    /// Whether somebody sees to it that it is renewed.
    is_tended: AtomicBool,
}

struct Held {
    secret: Secret,
    renew_at: Instant,
    ends_at: Instant,
    kept: Option<Kept>,
}

impl Held {
    fn new(secret: Secret, left: Duration, kept: Option<Kept>) -> Self {
        let now = Instant::now();
        Self { secret, renew_at: now + left / 2, ends_at: now + left, kept }
    }
}

type Working<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl Session {
    pub(super) fn new(login: Login) -> Arc<Self> {
        Arc::new(Self { login, held: Mutex::new(None), is_tended: AtomicBool::new(false) })
    }

    /// A token that works. In a box, because logging in calls the server like everything else does.
    pub(super) fn token<'a>(self: &'a Arc<Self>, client: &'a Client) -> Working<'a, Result<Secret>> {
        Box::pin(async move {
            let mut held = self.held.lock().await;
            if let Some(mut now) = held.take() {
                if now.renew_at <= Instant::now() && !self.renew(client, &mut now).await {
                    // It cannot be renewed any more: perhaps there is a fresh id-token. If not, it works until its end.
                    match self.log_in(client).await {
                        Ok(new) => now = new,
                        Err(error) if now.ends_at <= Instant::now() => return Err(error),
                        Err(error) => {
                            tracing::debug!(%error, "no second login");
                            now.renew_at = now.ends_at;
                        }
                    }
                }
                return Ok(held.insert(now).secret.clone());
            }
            let new = self.log_in(client).await?;
            if !self.is_tended.swap(true, Ordering::Relaxed) {
                tokio::spawn(tend(Arc::downgrade(self), client.with(Credential::None)));
            }
            Ok(held.insert(new).secret.clone())
        })
    }

    /// The server does not know the token any more.
    pub(super) async fn forget(&self, secret: &Secret) {
        let mut held = self.held.lock().await;
        if held.as_ref().is_some_and(|now| now.secret == *secret)
            && let Some(Held { kept: Some(kept), .. }) = held.take()
        {
            kept.remove().await;
        }
    }

    /// Renews the login, unless that has to wait. Answers whether it can go on to be used.
    async fn renew(&self, client: &Client, now: &mut Held) -> bool {
        let own = client.with(Credential::Token(now.secret.clone()));
        let renewed = own.call(Method::POST, "api/v1/auth/renew").repeatable().answer::<Renewed>().await;
        match renewed {
            Ok(renewed) => {
                let left = Duration::from_millis(renewed.expires_in_ms);
                if let Some(kept) = &now.kept {
                    kept.save(&now.secret, left).await;
                }
                // Near the last end that it can have, half of what is left is soon over again.
                let next = Instant::now() + (left / 2).max(RENEW_PAUSE);
                (now.renew_at, now.ends_at) = (next, Instant::now() + left);
                true
            }
            Err(error) => {
                tracing::debug!(%error, "the login was not renewed");
                now.renew_at = Instant::now() + RENEW_PAUSE;
                error.is_passing() && Instant::now() < now.ends_at
            }
        }
    }

    async fn log_in(&self, client: &Client) -> Result<Held> {
        let own = client.with(Credential::None);
        match &self.login.source {
            Source::GitHub { url, token } => {
                let id_token = ask(url, token, &client.origin()).await?;
                self.exchange(&own, &id_token, None).await
            }
            Source::Given(id_token) => {
                // Not by the org: it works once, whichever org is meant.
                let name = [client.origin().as_str(), id_token.expose()].join("\n");
                let kept = match &self.login.folder {
                    Some(folder) => Kept::open(folder, &name).await,
                    None => None,
                };
                if let Some((secret, left, kept)) = kept.as_ref().and_then(Kept::found) {
                    tracing::debug!("the login of an earlier command goes on");
                    return Ok(Held::new(secret, left, Some(kept)));
                }
                self.exchange(&own, id_token, kept).await
            }
        }
    }

    async fn exchange(&self, client: &Client, id_token: &Secret, kept: Option<Kept>) -> Result<Held> {
        let new = NewLogin { org_id: self.login.org_id.clone(), token: id_token.expose().to_owned() };
        let made: LoggedIn = client.call(Method::POST, "api/v1/auth/oidc").json(&new).answer().await?;
        let org = made.token.org_id.as_ref().map(ToString::to_string).unwrap_or_default();
        tracing::info!(token = %made.token.id, org, "logged in with an id-token");
        let (secret, left) = (Secret::new(made.secret), Duration::from_millis(made.expires_in_ms));
        if let Some(kept) = &kept {
            kept.save(&secret, left).await;
        }
        Ok(Held::new(secret, left, kept.map(Kept::unlocked)))
    }
}

/// Renews the login in time, also while nothing is asked of the server for long, as long as somebody uses it.
async fn tend(session: Weak<Session>, client: Client) {
    loop {
        let Some(now) = session.upgrade() else { return };
        let renew_at = now.held.lock().await.as_ref().map(|held| held.renew_at);
        drop(now);
        let pause = renew_at.map_or(RENEW_PAUSE, |at| at.saturating_duration_since(Instant::now()));
        // Never in a rush, and never so long that a program that is done would be held back for it.
        tokio::time::sleep(pause.max(Duration::from_secs(1))).await;
        let Some(now) = session.upgrade() else { return };
        if let Err(error) = now.token(&client).await {
            tracing::debug!(%error, "the login is over");
            return now.is_tended.store(false, Ordering::Relaxed);
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    value: String,
}

/// Asks GitHub's runner for an id-token for `audience`.
async fn ask(url: &str, token: &Secret, audience: &str) -> Result<Secret> {
    let wrong = |cause: String| Error::IdToken { cause };
    let mut url: Url =
        url.parse().map_err(|_| wrong("ACTIONS_ID_TOKEN_REQUEST_URL is no address".to_owned()))?;
    if url.scheme() != "https" && !is_loopback(&url) {
        return Err(wrong("ACTIONS_ID_TOKEN_REQUEST_URL is not encrypted".to_owned()));
    }
    let mut builder =
        reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(ASK_TIMEOUT);
    if is_loopback(&url) {
        builder = builder.no_proxy();
    }
    let http = builder.build().map_err(|error| wrong(error.to_string()))?;
    url.query_pairs_mut().append_pair("audience", audience);
    let mut bearer = HeaderValue::try_from(format!("Bearer {}", token.expose()))
        .map_err(|_| wrong("ACTIONS_ID_TOKEN_REQUEST_TOKEN cannot be sent in a header".to_owned()))?;
    bearer.set_sensitive(true);
    let (tries, mut pause) = ASK;
    let mut last = String::new();
    for number in 1..=tries {
        let request =
            http.get(url.clone()).header(AUTHORIZATION, bearer.clone()).header(ACCEPT, "application/json");
        match request.send().await {
            Ok(response) if response.status().is_success() => return read(response).await,
            Ok(response) => {
                last = format!("it answered {}", response.status());
                if response.status().is_client_error() {
                    break;
                }
            }
            Err(error) => last = super::innermost(&error),
        }
        if number < tries {
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }
    Err(wrong(last))
}

async fn read(mut response: reqwest::Response) -> Result<Secret> {
    let wrong = |cause: &str| Error::IdToken { cause: cause.to_owned() };
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| wrong(&super::innermost(&error)))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > 4 * MAX_BYTES {
            return Err(wrong("it answered too much"));
        }
    }
    // What the parser says could quote the id-token.
    let answer: Answer =
        serde_json::from_slice(&bytes).map_err(|_| wrong("its answer cannot be understood"))?;
    Ok(Secret::new(answer.value))
}
