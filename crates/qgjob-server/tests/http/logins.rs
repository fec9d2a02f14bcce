//! Keyless login: which id-tokens get a token, and what that allows.

mod refused;

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::SignedDuration;
use qgjob_core::clock::{Clock, SteppedClock, SystemClock};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::auth::{OPEN, Operation, operations};
use crate::issuer::{Issuer, Key};
use crate::world::{Caller, Expect, World};

/// A server that trusts an issuer as it would trust GitHub.
struct Scene {
    world: World,
    issuer: Issuer,
    clock: Arc<SteppedClock>,
}

impl Scene {
    async fn new() -> Self {
        let (issuer, clock) = (Issuer::start().await, Arc::new(SteppedClock::at(SystemClock.now())));
        let trusted = format!("github={}", issuer.url).parse().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let world = World::ticking(folder, clock.clone(), |config| config.oidc_issuers.push(trusted)).await;
        Self { world, issuer, clock }
    }

    /// Lets id-tokens of octo/app in, for main and releases; changed by `changes`.
    async fn allow(&self, org: &str, changes: Value) -> String {
        // Their ids tell which is older, by the millisecond.
        self.clock.advance(SignedDuration::from_millis(1));
        let policy = json!({"issuer": self.issuer.url, "match": {"repository_id": ["74"], "ref": ["refs/heads/main",
            "refs/heads/release/*"], "event_name": ["push", "pull_request"]}, "max_priority": 8});
        let policy = crate::issuer::changed(policy, changes);
        let path = format!("/api/v1/orgs/{org}/oidc-policies");
        let made: Value = self.world.admin.post(&path, &policy).await.ok().await;
        made["id"].as_str().unwrap().to_owned()
    }

    fn token(&self, changes: Value) -> String {
        self.issuer.token(&self.world.url, changes)
    }

    async fn log_in(&self, token: &str, org: Option<&str>) -> Response {
        let mut body = json!({"token": token});
        if let Some(org) = org {
            body["org_id"] = org.into();
        }
        self.world.nobody().post("/api/v1/auth/oidc", &body).await
    }

    /// Somebody who logged in with a good id-token.
    async fn pipeline(&self, org: &str) -> Caller {
        let made: Value = self.log_in(&self.token(json!({})), Some(org)).await.ok().await;
        Caller::new(&self.world.url, made["secret"].as_str().unwrap())
    }

    async fn tokens_of_pipelines(&self) -> usize {
        let all: Value = self.world.admin.get("/api/v1/tokens?limit=200").await.ok().await;
        all["items"].as_array().unwrap().iter().filter(|token| token["kind"] == "ci").count()
    }
}

#[tokio::test]
async fn a_good_id_token_gives_a_token_that_submits() {
    let scene = Scene::new().await;
    let policy = scene.allow("own", json!({})).await;
    let made: Value = scene.log_in(&scene.token(json!({})), Some("own")).await.ok().await;
    let secret = made["secret"].as_str().unwrap();
    assert!(secret.starts_with("qgj_ci_"));
    assert_eq!(
        (&made["kind"], &made["org_id"], &made["name"]),
        (&json!("ci"), &json!("own"), &json!("octo/app #4711"))
    );
    assert_eq!(made["expires_in_ms"], 30 * 60 * 1_000);
    let pipeline = Caller::new(&scene.world.url, secret);
    let submitted = pipeline.submit("own", &["a.spec.js"]).await;
    let run: Value =
        pipeline.get(&format!("/api/v1/runs/{}", submitted["run_id"].as_str().unwrap())).await.ok().await;
    let expected = json!({"issuer": scene.issuer.url, "subject": "repo:octo/app:ref:refs/heads/main", "repository": "octo/app",
        "run_id": "4711", "attempt": "1", "event": "push", "ref": "refs/heads/main",
        "sha": "6dcb09b5b57875f334f61aebed695e2e4193db5e"});
    assert_eq!(run["ci"], expected, "the run tells which pipeline made it");
    let me: Value = pipeline.get("/api/v1/whoami").await.ok().await;
    let may = json!(["submit", "read", "cancel"]);
    assert_eq!(me["ci"], json!({"policy_id": policy, "may": may, "max_priority": 8, "run": expected}));
    // An org's own token says nothing of the kind.
    let member = scene.world.member("own").await;
    let theirs: Value = member.get(&format!("/api/v1/runs/{}", run["id"].as_str().unwrap())).await.ok().await;
    assert_eq!(theirs["ci"], expected);
    let plain = member.submit("own", &["b.spec.js"]).await;
    let plain: Value =
        member.get(&format!("/api/v1/runs/{}", plain["run_id"].as_str().unwrap())).await.ok().await;
    assert!(plain.get("ci").is_none());
}

#[tokio::test]
async fn an_id_token_works_once_also_after_a_restart() {
    let scene = Scene::new().await;
    scene.allow("own", json!({})).await;
    let token = scene.token(json!({}));
    scene.log_in(&token, Some("own")).await.status_is(StatusCode::CREATED).await;
    scene.log_in(&token, Some("own")).await.problem("id_token_used").await;
    scene.log_in(&token, None).await.problem("id_token_used").await;
    let Scene { world, issuer, clock } = scene;
    let (trusted, public) = (format!("github={}", issuer.url).parse().unwrap(), world.url.clone());
    let world = World::ticking(world.stop().await, clock.clone(), |config| {
        config.oidc_issuers.push(trusted);
        config.public_url = Some(public);
    })
    .await;
    let body = json!({"token": token, "org_id": "own"});
    world.nobody().post("/api/v1/auth/oidc", &body).await.problem("id_token_used").await;
    let all: Value = world.admin.get("/api/v1/tokens").await.ok().await;
    assert_eq!(all["items"].as_array().unwrap().iter().filter(|token| token["kind"] == "ci").count(), 1);
}

#[tokio::test]
async fn an_id_token_that_is_refused_for_now_is_not_used_up() {
    let scene = Scene::new().await;
    scene.allow("other", json!({})).await;
    let token = scene.token(json!({}));
    scene.log_in(&token, Some("own")).await.problem("id_token_not_allowed").await;
    scene.allow("own", json!({})).await;
    scene.log_in(&token, Some("own")).await.status_is(StatusCode::CREATED).await;
}

#[tokio::test]
async fn the_oldest_policy_that_is_met_counts() {
    let scene = Scene::new().await;
    let only_read =
        json!({"match": {"repository_id": ["74"], "ref": ["refs/heads/release/*"]}, "may": ["read"]});
    scene.allow("own", only_read).await;
    scene.allow("own", json!({"max_priority": 3})).await;
    scene.allow("own", json!({})).await;
    for (git_ref, may, most) in [
        ("refs/heads/release/1", json!(["read"]), 8),
        ("refs/heads/main", json!(["submit", "read", "cancel"]), 3),
    ] {
        let made: Value = scene.log_in(&scene.token(json!({"ref": git_ref})), Some("own")).await.ok().await;
        assert_eq!((&made["ci"]["may"], &made["ci"]["max_priority"]), (&may, &json!(most)), "{git_ref}");
    }
}

#[tokio::test]
async fn without_an_org_the_only_one_that_lets_it_in_is_meant() {
    let scene = Scene::new().await;
    scene.allow("own", json!({})).await;
    scene.allow("other", json!({"match": {"repository_id": ["75"]}})).await;
    let made: Value = scene.log_in(&scene.token(json!({})), None).await.ok().await;
    assert_eq!(made["org_id"], "own");
    scene.allow("third", json!({})).await;
    let problem = scene.log_in(&scene.token(json!({})), None).await.problem("id_token_not_allowed").await;
    assert_eq!(problem.errors[0].pointer, "/org_id");
    scene.log_in(&scene.token(json!({})), Some("third")).await.status_is(StatusCode::CREATED).await;
}

#[tokio::test]
async fn strangers_do_not_learn_which_orgs_have_policies() {
    let scene = Scene::new().await;
    scene.allow("own", json!({})).await;
    let (forged, foreign) = (Key::new("key-1"), json!({"repository_id": "75"}));
    let forged = forged.sign(&scene.issuer.claims(&scene.world.url));
    for token in [forged, scene.token(foreign), scene.token(json!({"event_name": "pull_request_target"}))] {
        let mut answers = BTreeSet::new();
        for org in ["own", "nobody"] {
            let answer = scene.log_in(&token, Some(org)).await;
            let status = answer.status();
            let problem: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
            answers.insert((status.as_u16(), problem["code"].to_string(), problem["detail"].to_string()));
        }
        assert_eq!(answers.len(), 1, "{answers:?}");
    }
}

#[tokio::test]
async fn an_issuer_that_no_policy_names_is_asked_nothing() {
    let scene = Scene::new().await;
    let problem = scene.log_in(&scene.token(json!({})), Some("own")).await.problem("id_token_invalid").await;
    assert!(problem.detail.contains("issuer is not trusted"), "{}", problem.detail);
    assert_eq!(scene.issuer.asked(), 0);
}

#[tokio::test]
async fn a_flood_of_unknown_keys_costs_one_fetch_a_minute() {
    let scene = Scene::new().await;
    scene.allow("own", json!({})).await;
    scene.log_in(&scene.token(json!({})), Some("own")).await.status_is(StatusCode::CREATED).await;
    assert_eq!(scene.issuer.fetches(), 1);
    // An issuer changes its key.
    let next = Key::new("key-2");
    scene.issuer.show(vec![next.jwk()]);
    let flood = async || {
        let sends = (0..100).map(|number| {
            let header = json!({"alg": "RS256", "kid": format!("unknown-{number}")}).to_string();
            let claims = scene.issuer.claims(&scene.world.url).to_string();
            let token = format!("{}.AAAA", crate::issuer::unsigned(&header, &claims));
            let scene = &scene;
            async move { scene.log_in(&token, Some("own")).await.problem("id_token_invalid").await }
        });
        for problem in futures_util::future::join_all(sends).await {
            assert!(problem.detail.contains("no key of this kid"), "{}", problem.detail);
        }
    };
    flood().await;
    assert_eq!(scene.issuer.fetches(), 1, "the keys were fetched less than a minute ago");
    let rotated = |scene: &Scene| next.sign(&scene.issuer.claims(&scene.world.url));
    scene.log_in(&rotated(&scene), Some("own")).await.problem("id_token_invalid").await;
    scene.clock.advance(SignedDuration::from_secs(60));
    flood().await;
    assert_eq!(scene.issuer.fetches(), 2);
    scene.log_in(&rotated(&scene), Some("own")).await.status_is(StatusCode::CREATED).await;
    // The old key is gone at its issuer, so it is no good here.
    scene.log_in(&scene.token(json!({})), Some("own")).await.problem("id_token_invalid").await;
    assert_eq!(scene.issuer.fetches(), 2);
}

#[tokio::test]
async fn keys_are_used_for_a_day_while_their_issuer_is_away() {
    let scene = Scene::new().await;
    scene.allow("own", json!({})).await;
    let log_in = async || {
        let now = scene.clock.now().as_second();
        scene.log_in(&scene.token(json!({"iat": now, "nbf": now, "exp": now + 300})), Some("own")).await
    };
    log_in().await.status_is(StatusCode::CREATED).await;
    scene.issuer.set_mood(crate::issuer::Mood::Fails);
    scene.clock.advance(SignedDuration::from_hours(23));
    log_in().await.status_is(StatusCode::CREATED).await;
    scene.clock.advance(SignedDuration::from_hours(1));
    let problem = log_in().await.problem("issuer_unavailable").await;
    assert!(problem.retry_after_ms.is_some());
    scene.issuer.set_mood(crate::issuer::Mood::Well);
    scene.clock.advance(SignedDuration::from_secs(60));
    log_in().await.status_is(StatusCode::CREATED).await;
}

#[tokio::test]
async fn a_token_ends_after_half_an_hour_unless_it_is_renewed() {
    let scene = Scene::new().await;
    scene.allow("own", json!({})).await;
    let (pipeline, lazy) = (scene.pipeline("own").await, scene.pipeline("own").await);
    scene.clock.advance(SignedDuration::from_mins(29));
    let renewed: Value = pipeline.post("/api/v1/auth/renew", &Value::Null).await.ok().await;
    assert_eq!(renewed["expires_in_ms"], 30 * 60 * 1_000);
    scene.clock.advance(SignedDuration::from_mins(1));
    lazy.get("/api/v1/whoami").await.problem("unauthenticated").await;
    lazy.post("/api/v1/auth/renew", &Value::Null).await.problem("unauthenticated").await;
    pipeline.get("/api/v1/whoami").await.status_is(StatusCode::OK).await;
    // Nothing that it submitted runs: two hours are enough.
    for _ in 0..4 {
        scene.clock.advance(SignedDuration::from_mins(25));
        pipeline.post("/api/v1/auth/renew", &Value::Null).await;
    }
    let idle = pipeline.post("/api/v1/auth/renew", &Value::Null).await;
    assert_eq!(idle.status(), StatusCode::UNAUTHORIZED, "it ended");
    let member = scene.world.member("own").await;
    member.post("/api/v1/auth/renew", &Value::Null).await.problem("forbidden").await;
}

#[tokio::test]
async fn a_token_is_renewed_for_as_long_as_its_run_but_not_for_ever() {
    let scene = Scene::new().await;
    scene.allow("own", json!({})).await;
    let pipeline = scene.pipeline("own").await;
    let body = crate::issuer::changed(
        pipeline.new_run("own", &["a.spec.js"]).await,
        json!({"queue_timeout_ms": 2 * 86_400_000}),
    );
    pipeline.post("/api/v1/runs", &body).await.status_is(StatusCode::CREATED).await;
    let mut minutes = 0;
    loop {
        scene.clock.advance(SignedDuration::from_mins(20));
        minutes += 20;
        if pipeline.post("/api/v1/auth/renew", &Value::Null).await.status() != StatusCode::OK {
            break;
        }
    }
    assert_eq!(minutes, 24 * 60);
}

#[tokio::test]
async fn a_token_may_do_what_is_listed_and_nothing_else() {
    const SUBMITS: &[(&str, &str)] = &[
        ("POST", "/runs"),
        ("POST", "/runs/{id}/rerun-failed"),
        ("POST", "/jobs"),
        ("POST", "/jobs/{id}/retry"),
        ("POST", "/uploads"),
        ("GET", "/uploads/{id}"),
        ("PATCH", "/uploads/{id}"),
        ("POST", "/uploads/{id}/complete"),
        ("POST", "/app-versions"),
    ];
    const CANCELS: &[(&str, &str)] =
        &[("POST", "/runs/{id}/cancel"), ("POST", "/runs/cancel-by-key"), ("POST", "/jobs/{id}/cancel")];
    const READS: &[&str] = &["runs", "jobs", "artifacts", "app-versions", "queue", "events"];
    let scene = Scene::new().await;
    let mut pipelines = Vec::new();
    for may in [json!(["submit", "read", "cancel"]), json!(["submit"]), json!(["read"]), json!(["cancel"])] {
        let org = format!("org-{}", pipelines.len());
        scene.allow(&org, json!({"may": may})).await;
        pipelines.push((may, scene.pipeline(&org).await));
    }
    let (mut allowed, mut refused) = (0, 0);
    for Operation { method, pattern, path } in operations(&scene.world).await {
        if OPEN.contains(&pattern.as_str()) || pattern.ends_with("/whoami") || pattern.ends_with("/renew") {
            continue;
        }
        let route = pattern.strip_prefix("/api/v1").unwrap_or("");
        let among = |list: &[(&str, &str)]| list.contains(&(method.as_str(), route));
        let noun = route.split('/').nth(1).unwrap_or("");
        let needed = match () {
            () if among(SUBMITS) => Some("submit"),
            () if among(CANCELS) => Some("cancel"),
            () if method == Method::GET && READS.contains(&noun) => Some("read"),
            () => None,
        };
        for (may, pipeline) in &pipelines {
            let is_allowed = needed.is_some_and(|needed| may.as_array().unwrap().contains(&needed.into()));
            // A stream does not end, so its answer's head must do. An own org is asked for where one is.
            let path = path.replace("org_id=own", "");
            let request = pipeline.request(method.clone(), &path).json(&json!({}));
            let status = request.send().await.unwrap().status();
            assert_eq!(status != StatusCode::FORBIDDEN, is_allowed, "{may} {method} {pattern}: {status}");
            if is_allowed { allowed += 1 } else { refused += 1 }
        }
    }
    assert!(allowed > 40 && refused > 150, "{allowed} {refused}");
}

#[tokio::test]
async fn a_token_keeps_to_its_org_and_its_priority() {
    let scene = Scene::new().await;
    scene.allow("own", json!({})).await;
    let pipeline = scene.pipeline("own").await;
    let body = pipeline.new_run("own", &["a.spec.js"]).await;
    for (priority, code) in
        [(9, Some("priority_too_high")), (10, Some("priority_too_high")), (8, None), (1, None)]
    {
        let run = crate::issuer::changed(body.clone(), json!({"priority": priority}));
        let mut job = crate::issuer::changed(run.clone(), json!({"tests": null}));
        job["test"] = "a.spec.js".into();
        for (path, body) in [("/api/v1/runs", run), ("/api/v1/jobs", job)] {
            let answer = pipeline.post(path, &body).await;
            match code {
                Some(code) => _ = answer.problem(code).await,
                None => _ = answer.status_is(StatusCode::CREATED).await,
            }
        }
    }
    // What somebody else asked for is not repeated with more than its own.
    let urgent = crate::issuer::changed(body.clone(), json!({"priority": 10}));
    let member = scene.world.member("own").await;
    let urgent: Value = member.post("/api/v1/runs", &urgent).await.ok().await;
    let job = urgent["job_id"].as_str().unwrap();
    pipeline.post(&format!("/api/v1/jobs/{job}/cancel"), &Value::Null).await.status_is(StatusCode::OK).await;
    pipeline
        .post(&format!("/api/v1/jobs/{job}/retry"), &Value::Null)
        .await
        .problem("priority_too_high")
        .await;
    let foreign = crate::issuer::changed(body, json!({"org_id": "other"}));
    pipeline.post("/api/v1/runs", &foreign).await.problem("forbidden").await;
    let theirs = scene.world.member("other").await.submit("other", &["a.spec.js"]).await;
    let theirs = format!("/api/v1/runs/{}", theirs["run_id"].as_str().unwrap());
    pipeline.get(&theirs).await.problem("not_found").await;
    pipeline.post(&format!("{theirs}/cancel"), &Value::Null).await.problem("not_found").await;
}

#[tokio::test]
async fn admins_decide_who_gets_in_and_members_see_it() {
    let scene = Scene::new().await;
    let policy = scene.allow("own", json!({})).await;
    let (member, stranger) = (scene.world.member("own").await, scene.world.member("other").await);
    let path = "/api/v1/orgs/own/oidc-policies";
    let listed: Value = member.get(path).await.ok().await;
    assert_eq!((&listed["items"][0]["id"], listed["items"].as_array().unwrap().len()), (&json!(policy), 1));
    let new = json!({"issuer": scene.issuer.url, "match": {"repository_id": ["1"]}});
    member.post(path, &new).await.problem("forbidden").await;
    member.delete(&format!("{path}/{policy}")).await.problem("forbidden").await;
    stranger.get(path).await.problem("not_found").await;
    let test = json!({"token": scene.token(json!({}))});
    stranger.post(&format!("{path}/test"), &test).await.problem("not_found").await;
    let pipeline = scene.pipeline("own").await;
    for answer in [pipeline.get(path).await, pipeline.post(&format!("{path}/test"), &test).await] {
        answer.problem("forbidden").await;
    }
    let other = format!("/api/v1/orgs/other/oidc-policies/{policy}");
    scene.world.admin.delete(&other).await.problem("not_found").await;
    scene.world.admin.delete(&format!("{path}/{policy}")).await.status_is(StatusCode::NO_CONTENT).await;
    pipeline.get("/api/v1/whoami").await.problem("unauthenticated").await;
}

#[tokio::test]
async fn a_policy_must_pin_an_owner_of_a_trusted_issuer() {
    let scene = Scene::new().await;
    for (changes, pointer) in [
        (json!({"issuer": "https://issuer.example"}), "/issuer"),
        (json!({"issuer": "http://gitlab.com"}), "/issuer"),
        (json!({"match": {}}), "/match"),
        (json!({"match": {"repository": ["octo/app"]}}), "/match"),
        (json!({"match": {"repository_owner": ["octo"]}}), "/match"),
        (json!({"match": {"repository_id": ["*"]}}), "/match/repository_id"),
        (json!({"match": {"repository_id": ["74"], "ref": []}}), "/match/ref"),
        (json!({"match": {"repository_id": ["74"], "event_name": ["pull*"]}}), "/match/event_name"),
        (json!({"match": {"repository_id": ["74"], "ref": ["a\nb"]}}), "/match/ref/0"),
        (json!({"audience": ""}), "/audience"),
        (json!({"may": []}), "/may"),
        (json!({"max_priority": 11}), "/max_priority"),
    ] {
        let policy = json!({"issuer": scene.issuer.url, "match": {"repository_id": ["74"]}});
        let policy = crate::issuer::changed(policy, changes.clone());
        let answer = scene.world.admin.post("/api/v1/orgs/own/oidc-policies", &policy).await;
        let problem = answer.problem("invalid_request").await;
        assert_eq!(problem.errors[0].pointer, pointer, "{changes}");
    }
}

#[tokio::test]
async fn a_test_says_for_each_policy_what_is_missing_and_uses_nothing_up() {
    let scene = Scene::new().await;
    let other = scene.allow("own", json!({"match": {"repository_id": ["75"]}})).await;
    let staged =
        scene.allow("own", json!({"match": {"repository_id": ["74"], "environment": ["prod"]}})).await;
    let good = scene.allow("own", json!({})).await;
    let member = scene.world.member("own").await;
    let test = async |token: &str| {
        member.post("/api/v1/orgs/own/oidc-policies/test", &json!({"token": token})).await
    };
    let token = scene.token(json!({}));
    for _ in 0..2 {
        let tested: Value = test(&token).await.ok().await;
        assert_eq!(tested["policy_id"], json!(good));
        assert_eq!(tested["run"]["repository"], "octo/app");
        assert_eq!(
            tested["policies"],
            json!([
                {"policy_id": other, "unmet": "repository_id is \"74\", wanted 75"},
                {"policy_id": staged, "unmet": "environment is missing, wanted prod"},
                {"policy_id": good, "unmet": null},
            ])
        );
    }
    assert_eq!(scene.tokens_of_pipelines().await, 0);
    scene.log_in(&token, Some("own")).await.status_is(StatusCode::CREATED).await;
    let tested: Value = test(&token).await.ok().await;
    assert_eq!(tested["policy_id"], json!(good), "one that was used can be tested still");
    scene.clock.advance(SignedDuration::from_hours(1));
    let tested: Value = test(&token).await.ok().await;
    assert_eq!(tested["policy_id"], json!(good), "and one that is over");
    scene.clock.advance(SignedDuration::from_hours(24));
    test(&token).await.problem("id_token_invalid").await;
    test("a.b.c").await.problem("id_token_invalid").await;
}
