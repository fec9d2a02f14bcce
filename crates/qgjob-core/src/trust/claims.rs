//! What every id-token must say, whoever issued it: who, to whom, for whom, from when until when, and a name of its own, so
//! that it can be used once.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use super::id_token::Fault;
use crate::model::ci::CiRun;
use crate::model::name::IssuerUrl;
use crate::model::policy::Kind;

/// How far the issuer's clock and this server's may be apart.
pub const LEEWAY: SignedDuration = SignedDuration::from_secs(60);
/// Longest text of a claim that is looked at, in bytes.
const MAX_TEXT: usize = 1024;
/// Longest text of a claim that is kept.
const MAX_KEPT: usize = 256;

/// The claims of an id-token that its issuer has signed and that is good now. For whom it is, is not checked yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Claims {
    /// Who issued it.
    pub issuer: IssuerUrl,
    /// To whom.
    pub subject: String,
    /// For whom: exactly one.
    pub audience: String,
    /// Its own name, unique at its issuer.
    pub jti: String,
    /// Until when it is good, the leeway not counted.
    pub expires_at: Timestamp,
    all: Map<String, Value>,
}

impl Claims {
    /// Checks what a signed id-token of `issuer` says.
    ///
    /// # Errors
    /// The first claim that is missing or wrong.
    pub fn check(all: Map<String, Value>, issuer: &IssuerUrl, now: Timestamp) -> Result<Self, Fault> {
        if text(&all, "iss", MAX_TEXT)? != issuer.as_str() {
            return Err(Fault::Issuer);
        }
        let subject = text(&all, "sub", MAX_TEXT)?.to_owned();
        // An id-token for several could be taken by any of them and shown to the others.
        let audience = match all.get("aud") {
            Some(Value::Array(_)) => return Err(wrong("aud", "is a list, not one text")),
            _ => text(&all, "aud", MAX_TEXT)?.to_owned(),
        };
        let jti = text(&all, "jti", MAX_KEPT)?.to_owned();
        let expires_at = required(&all, "exp")?;
        let issued_at = required(&all, "iat")?;
        if expires_at + LEEWAY <= now {
            return Err(wrong("exp", "is over"));
        }
        if issued_at > now + LEEWAY {
            return Err(wrong("iat", "is in the future"));
        }
        if expires_at <= issued_at {
            return Err(wrong("exp", "is before iat"));
        }
        if instant(&all, "nbf")?.is_some_and(|from| from > now + LEEWAY) {
            return Err(wrong("nbf", "is in the future"));
        }
        Ok(Self { issuer: issuer.clone(), subject, audience, jti, expires_at, all })
    }

    /// A claim as the one text that it can be compared by: a text, a whole number, or a truth value. None when it is absent
    /// or anything else.
    pub fn get(&self, name: &str) -> Option<String> {
        match self.all.get(name)? {
            Value::String(text) if text.len() <= MAX_TEXT => Some(text.clone()),
            Value::Number(number) if number.is_u64() || number.is_i64() => Some(number.to_string()),
            Value::Bool(truth) => Some(truth.to_string()),
            _ => None,
        }
    }

    /// Whether the issuer says that the code comes from a fork. GitLab does, of merge requests that run in the project they
    /// are for. GitHub says nothing of the sort.
    pub fn is_of_a_fork(&self, kind: Kind) -> bool {
        let differs =
            |own: &str, of_job: &str| self.get(of_job).is_some_and(|id| self.get(own).as_ref() != Some(&id));
        kind == Kind::Gitlab && differs("project_id", "job_project_id")
    }

    /// What is to be remembered of it.
    pub fn run(&self, kind: Kind) -> CiRun {
        let [repository, run_id, attempt, event, git_ref, sha] = match kind {
            Kind::Github => ["repository", "run_id", "run_attempt", "event_name", "ref", "sha"],
            Kind::Gitlab => ["project_path", "pipeline_id", "job_id", "pipeline_source", "ref_path", "sha"],
            Kind::Other => [""; 6],
        };
        CiRun {
            issuer: self.issuer.clone(),
            subject: kept(&self.subject).unwrap_or_default(),
            repository: self.kept(repository),
            run_id: self.kept(run_id),
            attempt: self.kept(attempt),
            event: self.kept(event),
            git_ref: self.kept(git_ref),
            sha: self.kept(sha),
        }
    }

    fn kept(&self, name: &str) -> Option<String> {
        self.get(name).as_deref().and_then(kept)
    }
}

/// A text as it may be shown to people and kept: without control characters, cut to its bound.
fn kept(text: &str) -> Option<String> {
    let mut clean: String = text.chars().filter(|c| !c.is_control()).collect();
    clean.truncate(clean.floor_char_boundary(MAX_KEPT));
    Some(clean).filter(|clean| !clean.is_empty())
}

fn wrong(name: &'static str, why: impl Into<String>) -> Fault {
    Fault::Claim { name, why: why.into() }
}

fn text<'c>(all: &'c Map<String, Value>, name: &'static str, most: usize) -> Result<&'c str, Fault> {
    match all.get(name) {
        None => Err(wrong(name, "is missing")),
        Some(Value::String(text))
            if (1..=most).contains(&text.len()) && !text.chars().any(char::is_control) =>
        {
            Ok(text)
        }
        Some(Value::String(_)) => {
            Err(wrong(name, format!("is not 1 to {most} bytes without control characters")))
        }
        Some(_) => Err(wrong(name, "is no text")),
    }
}

fn required(all: &Map<String, Value>, name: &'static str) -> Result<Timestamp, Fault> {
    instant(all, name)?.ok_or_else(|| wrong(name, "is missing"))
}

/// A claim that must be seconds since 1970, whole and as a number; sums with the leeway stay inside the calendar.
fn instant(all: &Map<String, Value>, name: &'static str) -> Result<Option<Timestamp>, Fault> {
    let Some(value) = all.get(name) else { return Ok(None) };
    let seconds = value.as_i64().filter(|seconds| (0..=100_000_000_000).contains(seconds));
    let at = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
    at.map(Some).ok_or_else(|| wrong(name, "is not whole seconds since 1970"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn issuer() -> IssuerUrl {
        "https://issuer.example".parse().unwrap()
    }

    fn check(changes: Value) -> Result<Claims, Fault> {
        let mut all = json!({"iss": "https://issuer.example", "sub": "s", "aud": "a", "jti": "j", "iat": NOW, "exp": NOW + 300});
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => _ = all.as_object_mut().unwrap().remove(name),
                value => all[name] = value.clone(),
            }
        }
        let Value::Object(all) = all else { unreachable!() };
        Claims::check(all, &issuer(), Timestamp::from_second(NOW).unwrap())
    }

    #[test]
    fn times_are_held_to_their_leeway_at_the_edge() {
        for good in [
            json!({}),
            json!({"exp": NOW - 59, "iat": NOW - 300}),
            json!({"iat": NOW + 60}),
            json!({"nbf": NOW + 60}),
            json!({"nbf": NOW - 5}),
        ] {
            assert!(check(good.clone()).is_ok(), "{good}");
        }
        for (bad, claim) in [
            (json!({"exp": NOW - 60, "iat": NOW - 300}), "exp"),
            (json!({"iat": NOW + 61}), "iat"),
            (json!({"nbf": NOW + 61}), "nbf"),
            (json!({"exp": NOW - 30}), "exp"),
            (json!({"exp": null}), "exp"),
            (json!({"iat": null}), "iat"),
            (json!({"exp": (NOW + 300).to_string()}), "exp"),
            (json!({"exp": NOW as f64 + 300.5}), "exp"),
            (json!({"exp": 1e300}), "exp"),
            (json!({"exp": i64::MAX}), "exp"),
            (json!({"exp": -1}), "exp"),
            (json!({"nbf": "soon"}), "nbf"),
        ] {
            let fault = check(bad.clone()).unwrap_err();
            assert!(matches!(&fault, Fault::Claim { name, .. } if *name == claim), "{bad}: {fault}");
        }
    }

    #[test]
    fn who_and_for_whom_are_one_text_each() {
        assert_eq!(check(json!({"iss": "https://issuer.example.evil"})), Err(Fault::Issuer));
        assert_eq!(check(json!({"iss": "https://issuer.example/"})), Err(Fault::Issuer));
        for (bad, claim) in [
            (json!({"iss": null}), "iss"),
            (json!({"sub": null}), "sub"),
            (json!({"aud": null}), "aud"),
            (json!({"aud": ["a"]}), "aud"),
            (json!({"aud": ["a", "b"]}), "aud"),
            (json!({"aud": ""}), "aud"),
            (json!({"jti": null}), "jti"),
            (json!({"jti": ""}), "jti"),
            (json!({"jti": 7}), "jti"),
            (json!({"jti": "j".repeat(257)}), "jti"),
            (json!({"sub": "a\nb"}), "sub"),
        ] {
            let fault = check(bad.clone()).unwrap_err();
            assert!(matches!(&fault, Fault::Claim { name, .. } if *name == claim), "{bad}: {fault}");
        }
    }

    #[test]
    fn a_claim_has_one_text_or_none() {
        let claims =
            check(json!({"a": "74", "b": 74, "c": 74.0, "d": true, "e": ["74"], "f": "x".repeat(1025)}))
                .unwrap();
        let found = ["a", "b", "c", "d", "e", "f", "g"].map(|name| claims.get(name));
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(found, [text("74"), text("74"), None, text("true"), None, None, None]);
    }

    #[test]
    fn a_fork_is_known_where_the_issuer_tells_it() {
        let claims = check(json!({"project_id": "9", "job_project_id": "7"})).unwrap();
        assert!(claims.is_of_a_fork(Kind::Gitlab) && !claims.is_of_a_fork(Kind::Other));
        for own in [json!({"project_id": "7", "job_project_id": 7}), json!({"project_id": "7"})] {
            assert!(!check(own).unwrap().is_of_a_fork(Kind::Gitlab));
        }
    }

    #[test]
    fn what_is_kept_is_clean_and_short() {
        let claims =
            check(json!({"repository": "o/\u{1b}[31mr", "run_id": 7, "ref": "é".repeat(200)})).unwrap();
        let run = claims.run(Kind::Github);
        assert_eq!((run.repository.as_deref(), run.run_id.as_deref()), (Some("o/[31mr"), Some("7")));
        assert_eq!((run.git_ref.unwrap().len(), run.attempt), (256, None));
    }
}
