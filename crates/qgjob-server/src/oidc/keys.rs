//! The keys of one issuer, kept and fetched as seldom as will do: strangers choose which key they name, and must not be able to
//! make this server call others.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::DecodingKey;
use qgjob_core::model::name::IssuerUrl;
use qgjob_core::trust::id_token::Fault;
use tokio::sync::Mutex;

use super::Error;
use super::fetch;

/// How long keys are used before they are fetched anew.
const FRESH: SignedDuration = SignedDuration::from_hours(1);
/// How long they are used when they cannot be fetched anew.
const STALE: SignedDuration = SignedDuration::from_hours(24);
/// The shortest time between two fetches while there are keys, whatever is asked for.
const PAUSE: SignedDuration = SignedDuration::from_secs(60);
/// The same while there are none.
const PAUSE_WITHOUT: SignedDuration = SignedDuration::from_secs(5);

type Found = Arc<HashMap<String, DecodingKey>>;

/// The keys of one issuer.
#[derive(Clone)]
pub(super) struct Keys(Arc<Kept>);

struct Kept {
    issuer: IssuerUrl,
    known: RwLock<Option<(Timestamp, Found)>>,
    /// When a fetch was tried last. Held while one is under way.
    tried: Mutex<Option<Timestamp>>,
}

impl Keys {
    pub(super) fn of(issuer: IssuerUrl) -> Self {
        Self(Arc::new(Kept { issuer, known: RwLock::default(), tried: Mutex::default() }))
    }

    /// The key of this name.
    pub(super) async fn get(&self, kid: &str, now: Timestamp) -> Result<DecodingKey, Error> {
        if let Some(key) = self.0.fresh(kid, now) {
            return Ok(key);
        }
        // In a task of its own: a caller who hangs up must not end the fetch that others wait for.
        let (kept, kid) = (Arc::clone(&self.0), kid.to_owned());
        let fetching = tokio::spawn(async move { kept.fetch(&kid, now).await });
        fetching.await.unwrap_or_else(|_| Err(unavailable(now + PAUSE_WITHOUT, now)))
    }
}

impl Kept {
    /// What is known and still to be used at `now`, and whether it is fresh.
    fn known(&self, now: Timestamp) -> Option<(bool, Found)> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let (since, keys) = known.as_ref()?;
        (now < *since + STALE).then(|| (now < *since + FRESH, Arc::clone(keys)))
    }

    fn fresh(&self, kid: &str, now: Timestamp) -> Option<DecodingKey> {
        let (_, keys) = self.known(now).filter(|(fresh, _)| *fresh)?;
        keys.get(kid).cloned()
    }

    /// The key, fetched if that may be done now.
    async fn fetch(&self, kid: &str, now: Timestamp) -> Result<DecodingKey, Error> {
        let mut tried = self.tried.lock().await;
        // Somebody may have fetched it while this waited.
        if let Some(key) = self.fresh(kid, now) {
            return Ok(key);
        }
        let known = self.known(now);
        let pause = if known.is_some() { PAUSE } else { PAUSE_WITHOUT };
        if tried.is_none_or(|tried| tried + pause <= now) {
            *tried = Some(now);
            match fetch::keys(&self.issuer).await {
                Ok(keys) => {
                    tracing::debug!(issuer = %self.issuer, keys = keys.len(), "fetched the issuer's keys");
                    let found = keys.get(kid).cloned();
                    *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some((now, Arc::new(keys)));
                    return found.ok_or_else(|| Fault::Key.into());
                }
                Err(why) => tracing::warn!(issuer = %self.issuer, why, "the issuer's keys cannot be fetched"),
            }
        }
        let next = tried.map_or(now, |tried| tried + pause);
        match known {
            // Old keys are better than none, but do not tell that there is no such key.
            Some((fresh, keys)) => match keys.get(kid) {
                Some(key) => Ok(key.clone()),
                None if fresh => Err(Fault::Key.into()),
                None => Err(unavailable(next, now)),
            },
            None => Err(unavailable(next, now)),
        }
    }
}

fn unavailable(next: Timestamp, now: Timestamp) -> Error {
    let wait = next.duration_since(now).as_millis();
    Error::Unavailable { retry_after_ms: u64::try_from(wait).unwrap_or(0).max(1_000) }
}
