//! Policies: what one must look like to be kept, and which one lets an id-token in.

use super::claims::Claims;
use super::glob;
use crate::model::name::{ClaimName, Pattern};
use crate::model::policy::{Conditions, Kind, Policy};

/// Most claims that a policy looks at, and most patterns for each.
const MOST: usize = 16;

/// Claims that name an owner or a project for good: numbers, which unlike names are never given to somebody else.
const fn owners(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Github => &["repository_id", "repository_owner_id"],
        Kind::Gitlab => &["project_id", "namespace_id"],
        Kind::Other => &[],
    }
}

/// Events of GitHub that only somebody with write access causes. Others must be named by a policy: behind them may be
/// strangers' code (`pull_request`, `workflow_run`), or strangers' code with the rights of the repository
/// (`pull_request_target`).
const OWN_EVENTS: [&str; 6] =
    ["push", "merge_group", "schedule", "workflow_dispatch", "repository_dispatch", "release"];

/// What is wrong with the conditions of a policy for an issuer of this kind: claim and rule.
pub fn unfit(conditions: &Conditions, kind: Kind) -> Option<(String, String)> {
    let whole = |why: String| Some((String::new(), why));
    if conditions.len() > MOST {
        return whole(format!("must name at most {MOST} claims"));
    }
    for (claim, patterns) in conditions {
        let wrong = |why: &str| Some((claim.to_string(), why.to_owned()));
        let has_wildcard = patterns.iter().any(|pattern| pattern.as_str().contains('*'));
        if patterns.is_empty() || patterns.len() > MOST {
            return wrong("must have 1 to 16 patterns");
        }
        if ["iss", "aud", "exp", "iat", "nbf", "jti"].contains(&claim.as_str()) {
            return wrong("is checked without a policy");
        }
        if owners(kind).contains(&claim.as_str()) && !patterns.iter().all(is_number) {
            return wrong("must be a number without wildcard: the id, not the name");
        }
        if kind == Kind::Github && claim.as_str() == "event_name" && has_wildcard {
            return wrong("must name each event, without wildcard");
        }
    }
    if is_bound(conditions, kind) {
        return None;
    }
    whole(match kind {
        Kind::Other => "must pin at least one claim to a text without wildcard".to_owned(),
        kind => format!(
            "must name {}: a number, which is never given to somebody else",
            owners(kind).join(" or ")
        ),
    })
}

/// Whether the conditions can be met by one owner only.
fn is_bound(conditions: &Conditions, kind: Kind) -> bool {
    let exact = |patterns: &[Pattern]| patterns.iter().all(|pattern| !pattern.as_str().contains('*'));
    let pins = |claim: &ClaimName| match kind {
        Kind::Other => true,
        kind => owners(kind).contains(&claim.as_str()),
    };
    conditions.iter().any(|(claim, patterns)| pins(claim) && !patterns.is_empty() && exact(patterns))
}

fn is_number(pattern: &Pattern) -> bool {
    let text = pattern.as_str();
    text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0')
}

/// The first thing that keeps a policy from letting the id-token in; none when it does. `here` is this server's address.
pub fn unmet(policy: &Policy, kind: Kind, claims: &Claims, here: &str) -> Option<String> {
    if policy.issuer != claims.issuer {
        return Some(format!("issuer is {}, wanted {}", claims.issuer, policy.issuer));
    }
    let audience = policy.audience.as_deref().unwrap_or(here);
    if claims.audience != audience {
        return Some(format!("aud is {:?}, wanted {audience:?}", claims.audience));
    }
    // Whoever changed what is trusted since the policy was added must not have widened it.
    if let Some((claim, why)) = unfit(&policy.conditions, kind) {
        return Some(format!("the policy is not fit for an issuer of kind {kind}: {claim} {why}"));
    }
    if claims.is_of_a_fork(kind) {
        return Some("the code is a fork's".to_owned());
    }
    for (claim, patterns) in &policy.conditions {
        let wanted = || patterns.iter().map(Pattern::as_str).collect::<Vec<_>>().join(" or ");
        match claims.get(claim.as_str()) {
            None => return Some(format!("{claim} is missing, wanted {}", wanted())),
            Some(found) if patterns.iter().any(|pattern| glob::matches(pattern.as_str(), &found)) => {}
            Some(found) => return Some(format!("{claim} is {found:?}, wanted {}", wanted())),
        }
    }
    let names_events = policy.conditions.keys().any(|claim| claim.as_str() == "event_name");
    if kind == Kind::Github && !names_events {
        let event = claims.get("event_name").unwrap_or_default();
        if !OWN_EVENTS.contains(&event.as_str()) {
            return Some(format!("event_name is {event:?}, which only a policy that names it lets in"));
        }
    }
    None
}

/// Whether an id-token is of an event that only a policy that names it lets in: what its holder may be told.
pub fn is_of_a_foreign_event(kind: Kind, claims: &Claims) -> Option<String> {
    let event = claims.get("event_name").filter(|_| kind == Kind::Github)?;
    (!OWN_EVENTS.contains(&event.as_str())).then_some(event)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::*;

    fn conditions(of: Value) -> Conditions {
        serde_json::from_value(of).unwrap()
    }

    fn claims(more: Value) -> Claims {
        let mut all = json!({"iss": "https://issuer.example", "sub": "s", "aud": "https://here.example", "jti": "j", "iat": 1,
            "exp": 400, "repository": "octo/app", "repository_id": "74", "repository_owner_id": "65", "ref": "refs/heads/main",
            "event_name": "push"});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let Value::Object(all) = all else { unreachable!() };
        Claims::check(all, &"https://issuer.example".parse().unwrap(), Timestamp::from_second(2).unwrap())
            .unwrap()
    }

    fn unmet_by(of: Value, more: Value) -> Option<String> {
        let policy = json!({"id": "pol_01kb4x9tq3m8e7w2n5r6v0zcha", "org_id": "o", "issuer": "https://issuer.example", "match": of,
            "may": ["read"], "max_priority": 5, "created_at": "2026-01-01T00:00:00Z"});
        let policy: Policy = serde_json::from_value(policy).unwrap();
        unmet(&policy, Kind::Github, &claims(more), "https://here.example")
    }

    #[test]
    fn a_policy_is_bound_to_an_owner_by_number() {
        for (kind, good) in [
            (Kind::Github, json!({"repository_id": ["74"]})),
            (Kind::Github, json!({"repository_owner_id": ["65", "66"], "ref": ["refs/heads/*"]})),
            (Kind::Gitlab, json!({"project_id": ["1"]})),
            (Kind::Gitlab, json!({"namespace_id": ["1"], "ref": ["main"]})),
            (Kind::Other, json!({"sub": ["exactly"], "branch": ["*"]})),
        ] {
            assert_eq!(unfit(&conditions(good.clone()), kind), None, "{good}");
        }
        for (kind, bad) in [
            (Kind::Github, json!({})),
            (Kind::Github, json!({"repository": ["octo/app"]})),
            (Kind::Github, json!({"repository_id": []})),
            (Kind::Github, json!({"repository_id": ["*"]})),
            (Kind::Github, json!({"repository_id": ["7*"]})),
            (Kind::Github, json!({"repository_id": ["octo/app"]})),
            (Kind::Github, json!({"repository_id": ["074"]})),
            (Kind::Github, json!({"repository_id": ["74"], "event_name": ["pull_request*"]})),
            (Kind::Github, json!({"repository_id": ["74"], "aud": ["x"]})),
            (Kind::Github, json!({"project_id": ["74"]})),
            (Kind::Gitlab, json!({"project_path": ["a/b"]})),
            (Kind::Other, json!({"sub": ["a*"]})),
        ] {
            assert!(unfit(&conditions(bad.clone()), kind).is_some(), "{kind} {bad}");
        }
    }

    #[test]
    fn all_conditions_must_be_met_and_the_first_that_is_not_is_told() {
        let main = json!({"repository_id": ["74"], "ref": ["refs/heads/main", "refs/heads/release/*"]});
        assert_eq!(unmet_by(main.clone(), json!({})), None);
        assert_eq!(unmet_by(main.clone(), json!({"repository_id": 74, "ref": "refs/heads/release/1"})), None);
        for (more, told) in [
            (json!({"repository_id": "75"}), "repository_id is \"75\", wanted 74"),
            (json!({"repository_id": 74.0}), "repository_id is missing, wanted 74"),
            (json!({"ref": "refs/heads/main-evil"}), "ref is \"refs/heads/main-evil\""),
            (json!({"ref": "refs/heads/main\n"}), "ref is"),
            (json!({"ref": ["refs/heads/main"]}), "ref is missing"),
            (json!({"aud": "https://there.example"}), "aud is"),
        ] {
            let found = unmet_by(main.clone(), more.clone()).unwrap_or_default();
            assert!(found.starts_with(told), "{more}: {found}");
        }
    }

    #[test]
    fn a_renamed_owner_is_not_the_owner() {
        let owner = json!({"repository_owner_id": ["65"], "repository": ["octo/app"]});
        assert_eq!(unmet_by(owner.clone(), json!({})), None);
        assert!(unmet_by(owner, json!({"repository_owner_id": "666"})).is_some());
    }

    #[test]
    fn events_that_strangers_cause_must_be_named() {
        let any = json!({"repository_id": ["74"]});
        for event in ["pull_request", "pull_request_target", "workflow_run", "issue_comment", "Push", ""] {
            assert!(unmet_by(any.clone(), json!({"event_name": event})).is_some(), "{event}");
        }
        let named = json!({"repository_id": ["74"], "event_name": ["push", "pull_request"]});
        for (event, let_in) in
            [("push", true), ("pull_request", true), ("pull_request_target", false), ("schedule", false)]
        {
            assert_eq!(unmet_by(named.clone(), json!({"event_name": event})).is_none(), let_in, "{event}");
        }
    }
}
