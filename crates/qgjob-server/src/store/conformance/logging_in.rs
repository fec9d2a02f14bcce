//! Keyless logins: policies, id-tokens that work once, tokens that are renewed and end.

use jiff::SignedDuration;
use qgjob_core::model::ci::{CiRun, Grant, May};
use qgjob_core::model::event::Fact;
use qgjob_core::model::name::OrgId;
use qgjob_core::model::policy::{self, Policy};
use qgjob_core::model::refusal::Refusal;
use qgjob_core::model::sha256::Sha256;
use qgjob_core::model::token::{self, Kind, Token};

use super::world::{LEASE, World, acme, org};
use crate::store::{Answer, Cancel, Login, Scope, Submission};

const ISSUER: &str = "https://issuer.example";

fn ci_run() -> CiRun {
    let text = |text: &str| Some(text.to_owned());
    let (repository, run_id, attempt) = (text("octo/app"), text("4711"), text("1"));
    let (event, git_ref, sha) = (text("push"), text("refs/heads/main"), None);
    let (issuer, subject) = (ISSUER.parse().unwrap(), "repo:octo/app".to_owned());
    CiRun { issuer, subject, repository, run_id, attempt, event, git_ref, sha }
}

async fn add(w: &mut World, org: &OrgId) -> Policy {
    let policy = Policy {
        id: policy::Id::new(w.now, w.draw()),
        org_id: org.clone(),
        issuer: ISSUER.parse().unwrap(),
        audience: Some("https://here.example".to_owned()),
        conditions: serde_json::from_str(r#"{"repository_id":["74"],"ref":["refs/heads/*"]}"#).unwrap(),
        may: May::ALL.into(),
        max_priority: "high".parse().unwrap(),
        created_at: w.now,
    };
    w.store.add_policy(policy.clone()).await.unwrap().unwrap();
    policy
}

/// A login with an id-token of this name.
async fn log_in(w: &mut World, policy: &Policy, jti: &str) -> (Token, Sha256, Answer<()>) {
    let hash =
        Sha256(<[u8; 32]>::try_from([w.draw().to_be_bytes(), w.draw().to_be_bytes()].concat()).unwrap());
    let (may, max_priority) = (policy.may.clone(), policy.max_priority);
    let token = Token {
        id: token::Id::new(w.now, w.draw()),
        kind: Kind::Ci,
        name: "octo/app #4711".to_owned(),
        org_id: Some(policy.org_id.clone()),
        agent_id: None,
        created_at: w.now,
        expires_at: Some(w.now + SignedDuration::from_mins(30)),
        ci: Some(Box::new(Grant { policy_id: policy.id, may, max_priority, run: ci_run() })),
    };
    let login = Login {
        issuer: policy.issuer.clone(),
        jti: jti.to_owned(),
        keep_until: w.now + SignedDuration::from_mins(5),
        token: token.clone(),
        hash,
    };
    let answer = w.store.log_in(login).await.unwrap();
    (token, hash, answer)
}

async fn works(w: &World, hash: Sha256) -> bool {
    w.store.token_by_hash(hash, w.now).await.unwrap().is_some()
}

async fn sweep(w: &mut World) {
    let random = w.draw();
    w.store.sweep(w.now, LEASE, LEASE, random).await.unwrap();
}

pub async fn policies_are_kept_in_order_and_belong_to_their_org(w: &mut World) {
    let first = add(w, &acme()).await;
    w.wait(1);
    let second = add(w, &acme()).await;
    let other = add(w, &org("other")).await;
    assert_eq!(w.store.policies(Some(&acme())).await.unwrap(), [first.clone(), second.clone()]);
    assert_eq!(w.store.policies(None).await.unwrap().len(), 3);
    let foreign = w.store.remove_policy(w.now, &acme(), other.id).await.unwrap();
    assert!(matches!(foreign, Err(Refusal::NotFound { .. })), "{foreign:?}");
    w.store.remove_policy(w.now, &acme(), first.id).await.unwrap().unwrap();
    let again = w.store.remove_policy(w.now, &acme(), first.id).await.unwrap();
    assert!(matches!(again, Err(Refusal::NotFound { .. })), "{again:?}");
    assert_eq!(w.store.policies(Some(&acme())).await.unwrap(), [second]);
    let told: Vec<_> = w.events().await.iter().map(|event| event.fact.name()).collect();
    assert_eq!(told.iter().filter(|name| name.starts_with("oidc_policy.")).count(), 4, "{told:?}");
}

pub async fn an_org_has_a_bounded_number_of_policies(w: &mut World) {
    let mut policy = add(w, &acme()).await;
    for _ in 1..policy::MOST {
        policy.id = policy::Id::new(w.now, w.draw());
        w.store.add_policy(policy.clone()).await.unwrap().unwrap();
    }
    policy.id = policy::Id::new(w.now, w.draw());
    let refused = w.store.add_policy(policy).await.unwrap();
    assert!(matches!(refused, Err(Refusal::TooMany { limit: 100, given: 101, .. })), "{refused:?}");
}

pub async fn an_id_token_works_once(w: &mut World) {
    let policy = add(w, &acme()).await;
    let (token, hash, answer) = log_in(w, &policy, "jti-1").await;
    answer.unwrap();
    assert_eq!(w.store.token_by_hash(hash, w.now).await.unwrap(), Some(token.clone()), "with its grant");
    let (_, replayed, answer) = log_in(w, &policy, "jti-1").await;
    assert_eq!(answer, Err(Refusal::IdTokenUsed));
    assert!(!works(w, replayed).await, "a replay gives nothing");
    // For another org, too; and another issuer's may have the same name.
    let other = add(w, &org("other")).await;
    assert_eq!(log_in(w, &other, "jti-1").await.2, Err(Refusal::IdTokenUsed));
    let elsewhere = Policy { issuer: "https://elsewhere.example".parse().unwrap(), ..policy.clone() };
    log_in(w, &elsewhere, "jti-1").await.2.unwrap();
    let told: Vec<_> = w.events().await.into_iter().map(|event| event.fact).collect();
    let logins: Vec<_> = told.iter().filter(|fact| matches!(fact, Fact::CiLoggedIn { .. })).collect();
    let (policy_id, run) = (policy.id, Box::new(ci_run()));
    assert_eq!(logins.len(), 2);
    assert_eq!(logins[0], &Fact::CiLoggedIn { token_id: token.id, policy_id, run });
    // It is remembered until it is over.
    w.wait(5 * 60);
    sweep(w).await;
    assert_eq!(log_in(w, &policy, "jti-1").await.2, Err(Refusal::IdTokenUsed));
    w.wait(1);
    sweep(w).await;
    log_in(w, &policy, "jti-1").await.2.unwrap();
}

pub async fn of_many_that_show_one_id_token_one_gets_in(w: &mut World) {
    let policy = add(w, &acme()).await;
    let logins = (0..20).map(|_| {
        let token = Token {
            id: token::Id::new(w.now, w.draw()),
            kind: Kind::Ci,
            name: "x".to_owned(),
            org_id: Some(acme()),
            agent_id: None,
            created_at: w.now,
            expires_at: Some(w.now + SignedDuration::from_mins(30)),
            ci: Some(Box::new(Grant {
                policy_id: policy.id,
                may: May::ALL.into(),
                max_priority: policy.max_priority,
                run: ci_run(),
            })),
        };
        let hash = Sha256(<[u8; 32]>::try_from([w.draw().to_be_bytes(), [1; 16]].concat()).unwrap());
        let (issuer, jti, keep_until) =
            (policy.issuer.clone(), "same".to_owned(), w.now + SignedDuration::from_mins(5));
        Login { issuer, jti, keep_until, token, hash }
    });
    let logins: Vec<_> = logins.collect();
    let answers = futures_util::future::join_all(logins.into_iter().map(|login| w.store.log_in(login))).await;
    assert_eq!(answers.iter().filter(|answer| matches!(answer, Ok(Ok(())))).count(), 1);
}

pub async fn tokens_end_with_their_policy(w: &mut World) {
    let (policy, other) = (add(w, &acme()).await, add(w, &acme()).await);
    let (token, hash, _) = log_in(w, &policy, "jti-1").await;
    let (_, kept, _) = log_in(w, &other, "jti-2").await;
    assert!(works(w, hash).await && works(w, kept).await);
    w.store.remove_policy(w.now, &acme(), policy.id).await.unwrap().unwrap();
    assert!(!works(w, hash).await && works(w, kept).await);
    let renewed = w.store.renew_login(w.now, token.id).await.unwrap();
    assert!(matches!(renewed, Err(Refusal::NotFound { .. })), "{renewed:?}");
    let (_, _, late) = log_in(w, &policy, "jti-3").await;
    assert!(matches!(late, Err(Refusal::NotFound { .. })), "{late:?}");
    log_in(w, &other, "jti-3").await.2.unwrap();
}

pub async fn a_login_is_renewed_while_its_run_is_not_over(w: &mut World) {
    let policy = add(w, &acme()).await;
    let (token, hash, _) = log_in(w, &policy, "jti-1").await;
    let began = w.now;
    let submission = Submission { ci: Some((token.id, ci_run())), ..w.submission(1, |_| ()) };
    let accepted = w.try_submit(submission).await.unwrap();
    assert_eq!(accepted.run.ci.as_deref(), Some(&ci_run()));
    let (run, _) = w.store.run(&Scope::All, accepted.run.id).await.unwrap().unwrap();
    assert_eq!(run.ci.as_deref(), Some(&ci_run()), "it is kept with the run");
    // 150 minutes, each time just before the token ends.
    for _ in 0..5 {
        w.now += SignedDuration::from_mins(30) - SignedDuration::from_millis(1);
        assert!(works(w, hash).await);
        let renewed = w.store.renew_login(w.now, token.id).await.unwrap().unwrap();
        assert_eq!(renewed.expires_at, Some(w.now + SignedDuration::from_mins(30)));
    }
    assert!(w.now > began + SignedDuration::from_hours(2));
    w.store.cancel(w.now, &Scope::All, Cancel::Run(accepted.run.id)).await.unwrap().unwrap();
    assert_eq!(w.store.renew_login(w.now, token.id).await.unwrap(), Err(Refusal::LoginOver));
    assert!(works(w, hash).await, "until the end that it has");
    w.now += SignedDuration::from_mins(30);
    assert!(!works(w, hash).await);
    let late = w.store.renew_login(w.now, token.id).await.unwrap();
    assert!(matches!(late, Err(Refusal::NotFound { .. })), "{late:?}");
}

pub async fn tokens_of_pipelines_are_forgotten_a_day_after_their_end(w: &mut World) {
    let policy = add(w, &acme()).await;
    let (token, _, _) = log_in(w, &policy, "jti-1").await;
    let shown = async |w: &World| w.store.tokens().await.unwrap().iter().any(|known| known.id == token.id);
    w.now += SignedDuration::from_mins(24 * 60 + 30);
    sweep(w).await;
    assert!(shown(w).await);
    w.wait(1);
    sweep(w).await;
    assert!(!shown(w).await);
}
