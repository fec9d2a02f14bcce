//! Id-tokens that are refused, each for what is wrong with it, and none of which gives a token.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use qgjob_core::clock::{Clock, SystemClock};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::Scene;
use crate::issuer::{Issuer, Key, Mood, changed, unsigned};
use crate::world::{Expect, World};

const INVALID: &str = "id_token_invalid";
const NOT_ALLOWED: &str = "id_token_not_allowed";

/// What is wrong with it, the id-token, the problem's code, and a part of what the problem says.
type Case = (&'static str, String, &'static str, &'static str);

/// Those that differ from a good one by claims alone.
fn by_claims(scene: &Scene) -> Vec<Case> {
    let now = SystemClock.now().as_second();
    let (own, here) = (scene.issuer.url.clone(), scene.world.url.clone());
    let cases: Vec<(&str, Value, &str, &str)> = vec![
        ("no iss", json!({"iss": null}), INVALID, "issuer is not trusted"),
        ("an issuer with a slash more", json!({"iss": format!("{own}/")}), INVALID, "issuer is not trusted"),
        ("an issuer with a path", json!({"iss": format!("{own}/evil")}), INVALID, "issuer is not trusted"),
        ("an issuer that goes on", json!({"iss": format!("{own}1")}), INVALID, "issuer is not trusted"),
        (
            "an issuer before an @",
            json!({"iss": format!("{own}@evil.example")}),
            INVALID,
            "issuer is not trusted",
        ),
        ("an issuer in capitals", json!({"iss": own.to_uppercase()}), INVALID, "issuer is not trusted"),
        ("several issuers", json!({"iss": [own]}), INVALID, "issuer is not trusted"),
        ("another known issuer", json!({"iss": "https://gitlab.com"}), INVALID, "issuer is not trusted"),
        ("no aud", json!({"aud": null}), INVALID, "aud is missing"),
        ("another aud", json!({"aud": "https://other.example"}), INVALID, "aud"),
        ("the usual aud of GitHub", json!({"aud": "https://github.com/octo"}), INVALID, "aud"),
        ("an aud that goes on", json!({"aud": format!("{here}1")}), INVALID, "aud"),
        ("an aud with a slash more", json!({"aud": format!("{here}/")}), INVALID, "aud"),
        ("a list of one aud", json!({"aud": [here]}), INVALID, "aud is a list"),
        ("a list of several auds", json!({"aud": [here, "https://other.example"]}), INVALID, "aud is a list"),
        ("no exp", json!({"exp": null}), INVALID, "exp is missing"),
        ("over", json!({"iat": now - 400, "exp": now - 61}), INVALID, "exp is over"),
        ("an exp as text", json!({"exp": (now + 300).to_string()}), INVALID, "exp is not whole seconds"),
        ("an exp with a fraction", json!({"exp": now as f64 + 300.5}), INVALID, "exp is not whole seconds"),
        ("an exp beyond all calendars", json!({"exp": i64::MAX}), INVALID, "exp is not whole seconds"),
        ("an exp below zero", json!({"exp": -1}), INVALID, "exp is not whole seconds"),
        ("no iat", json!({"iat": null}), INVALID, "iat is missing"),
        ("from the future", json!({"iat": now + 3_600, "exp": now + 7_200}), INVALID, "iat is in the future"),
        ("not good yet", json!({"nbf": now + 3_600}), INVALID, "nbf is in the future"),
        ("an nbf as text", json!({"nbf": "now"}), INVALID, "nbf is not whole seconds"),
        ("no jti", json!({"jti": null}), INVALID, "jti is missing"),
        ("an empty jti", json!({"jti": ""}), INVALID, "jti is not 1 to 256"),
        ("a jti that is a number", json!({"jti": 7}), INVALID, "jti is no text"),
        ("a long jti", json!({"jti": "j".repeat(257)}), INVALID, "jti is not 1 to 256"),
        ("no sub", json!({"sub": null}), INVALID, "sub is missing"),
        ("another repository", json!({"repository_id": "75"}), NOT_ALLOWED, "no policy"),
        (
            "a fork by the same name",
            json!({"repository_id": "666", "repository_owner_id": "667"}),
            NOT_ALLOWED,
            "no policy",
        ),
        ("a repository without id", json!({"repository_id": null}), NOT_ALLOWED, "no policy"),
        ("an id with a zero before", json!({"repository_id": "074"}), NOT_ALLOWED, "no policy"),
        ("an id with a space", json!({"repository_id": "74 "}), NOT_ALLOWED, "no policy"),
        ("an id with a fraction", json!({"repository_id": 74.0}), NOT_ALLOWED, "no policy"),
        ("a list of ids", json!({"repository_id": ["74"]}), NOT_ALLOWED, "no policy"),
        ("a branch that goes on", json!({"ref": "refs/heads/main-evil"}), NOT_ALLOWED, "no policy"),
        ("a branch in capitals", json!({"ref": "refs/heads/Main"}), NOT_ALLOWED, "no policy"),
        ("a branch with a line break", json!({"ref": "refs/heads/main\n"}), NOT_ALLOWED, "no policy"),
        (
            "a branch that holds a good one",
            json!({"ref": "refs/heads/evil/refs/heads/main"}),
            NOT_ALLOWED,
            "no policy",
        ),
        ("a tag by the name of a branch", json!({"ref": "refs/tags/main"}), NOT_ALLOWED, "no policy"),
        ("a level too deep for *", json!({"ref": "refs/heads/release/a/b"}), NOT_ALLOWED, "no policy"),
        ("a branch that is a wildcard", json!({"ref": "*"}), NOT_ALLOWED, "no policy"),
        (
            "pull_request_target",
            json!({"event_name": "pull_request_target"}),
            NOT_ALLOWED,
            "pull_request_target event",
        ),
        ("workflow_run", json!({"event_name": "workflow_run"}), NOT_ALLOWED, "workflow_run event"),
        ("an event by another case", json!({"event_name": "Push"}), NOT_ALLOWED, "Push event"),
        ("no event", json!({"event_name": null}), NOT_ALLOWED, "no policy"),
    ];
    let signed = |(what, changes, code, says)| (what, scene.token(changes), code, says);
    cases.into_iter().map(signed).collect()
}

/// Those that are wrong in how they are made.
fn by_form(scene: &Scene) -> Vec<Case> {
    let (key, stranger) = (scene.issuer.key(), Key::new("key-1"));
    let claims = scene.issuer.claims(&scene.world.url);
    let text = claims.to_string();
    let good = key.sign(&claims);
    let parts: Vec<&str> = good.split('.').collect();
    let with = |changes: Value| changed(key.header(), changes).to_string();
    let signed = |header: Value| key.sign_with(&RSA_PKCS1_SHA256, &with(header), &text);
    let hs256 = |secret: &[u8]| {
        let message = unsigned(&with(json!({"alg": "HS256"})), &text);
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
    };
    // Signed with a good header's key, but the header that is shown says less.
    let relabelled = |alg: &str| {
        let header = URL_SAFE_NO_PAD.encode(with(json!({"alg": alg})));
        format!("{header}.{}.{}", parts[1], parts[2])
    };
    let twice = |name: &str, value: &str| text.replacen('{', &format!("{{\"{name}\":{value},"), 1);
    let evil = json!({"repository_id": "74"});
    let other_claims = URL_SAFE_NO_PAD.encode(changed(claims.clone(), json!({"actor": "evil"})).to_string());
    let mut broken = URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
    broken[0] ^= 1;
    vec![
        (
            "alg none without a signature",
            format!("{}.", unsigned(&with(json!({"alg": "none"})), &text)),
            INVALID,
            "not signed",
        ),
        ("alg none with a signature", relabelled("none"), INVALID, "alg RS256"),
        ("alg None", relabelled("None"), INVALID, "alg RS256"),
        ("no alg", signed(json!({"alg": null})), INVALID, "alg RS256"),
        ("HS256 with the public key", hs256(&key.public_der()), INVALID, "alg RS256"),
        ("HS256 with the public key's text", hs256(key.jwk().to_string().as_bytes()), INVALID, "alg RS256"),
        (
            "RS384",
            key.sign_with(&RSA_PKCS1_SHA384, &with(json!({"alg": "RS384"})), &text),
            INVALID,
            "alg RS256",
        ),
        (
            "RS512",
            key.sign_with(&RSA_PKCS1_SHA512, &with(json!({"alg": "RS512"})), &text),
            INVALID,
            "alg RS256",
        ),
        (
            "PS256",
            key.sign_with(&RSA_PSS_SHA256, &with(json!({"alg": "PS256"})), &text),
            INVALID,
            "alg RS256",
        ),
        (
            "PS256 that says RS256",
            key.sign_with(&RSA_PSS_SHA256, &with(json!({})), &text),
            INVALID,
            "signature",
        ),
        (
            "RS384 that says RS256",
            key.sign_with(&RSA_PKCS1_SHA384, &with(json!({})), &text),
            INVALID,
            "signature",
        ),
        ("ES256", relabelled("ES256"), INVALID, "alg RS256"),
        ("no kid", signed(json!({"kid": null})), INVALID, "kid"),
        ("a kid that is a number", signed(json!({"kid": 1})), INVALID, "kid"),
        ("an unknown kid", signed(json!({"kid": "key-9"})), INVALID, "no key of this kid"),
        ("a kid that is a path", signed(json!({"kid": "../../etc/passwd"})), INVALID, "no key of this kid"),
        ("another typ", signed(json!({"typ": "at+jwt"})), INVALID, "typ"),
        (
            "a key of its own",
            stranger.sign_with(&RSA_PKCS1_SHA256, &with(json!({"jwk": stranger.jwk()})), &text),
            INVALID,
            "holds more",
        ),
        ("keys elsewhere", signed(json!({"jku": "https://evil.example/keys"})), INVALID, "holds more"),
        ("a certificate elsewhere", signed(json!({"x5u": "https://evil.example/x"})), INVALID, "holds more"),
        ("a certificate of its own", signed(json!({"x5c": ["MIIB"]})), INVALID, "holds more"),
        ("something critical", signed(json!({"crit": ["exp"]})), INVALID, "holds more"),
        ("unencoded", signed(json!({"b64": false, "crit": ["b64"]})), INVALID, "holds more"),
        ("compressed", signed(json!({"zip": "DEF"})), INVALID, "holds more"),
        (
            "two algs",
            key.sign_with(&RSA_PKCS1_SHA256, &with(json!({})).replacen('{', "{\"alg\":\"none\",", 1), &text),
            INVALID,
            "twice",
        ),
        (
            "a repository twice",
            key.sign_with(&RSA_PKCS1_SHA256, &with(json!({})), &twice("repository_id", "\"75\"")),
            INVALID,
            "twice",
        ),
        (
            "an issuer twice",
            key.sign_with(&RSA_PKCS1_SHA256, &with(json!({})), &twice("iss", "\"https://evil.example\"")),
            INVALID,
            "twice",
        ),
        (
            "claims that are a list",
            key.sign_with(&RSA_PKCS1_SHA256, &with(json!({})), "[1]"),
            INVALID,
            "no JSON object",
        ),
        (
            "claims that are no JSON",
            key.sign_with(&RSA_PKCS1_SHA256, &with(json!({})), "{"),
            INVALID,
            "no JSON",
        ),
        ("a stranger's key by the same name", stranger.sign(&claims), INVALID, "signature"),
        (
            "other claims under a good signature",
            format!("{}.{other_claims}.{}", parts[0], parts[2]),
            INVALID,
            "signature",
        ),
        (
            "one bit of the signature",
            format!("{}.{}.{}", parts[0], parts[1], URL_SAFE_NO_PAD.encode(broken)),
            INVALID,
            "signature",
        ),
        ("half a signature", good[..good.len() - 174].to_owned(), INVALID, "signature"),
        ("no signature", format!("{}.{}", parts[0], parts[1]), INVALID, "three parts"),
        ("two signatures", format!("{good}.{}", parts[2]), INVALID, "three parts"),
        ("five parts, as if encrypted", format!("{good}.{}.{}", parts[2], parts[2]), INVALID, "three parts"),
        (
            "JSON form",
            json!({"payload": parts[1], "protected": parts[0], "signature": parts[2]}).to_string(),
            INVALID,
            "three parts",
        ),
        ("a space before", format!(" {good}"), INVALID, "base64url"),
        ("a line break behind", format!("{good}\n"), INVALID, "base64url"),
        ("padding", format!("{good}="), INVALID, "base64url"),
        (
            "base64 instead of base64url",
            format!("{}.{}.{}", parts[0], STANDARD.encode(text.as_bytes()), parts[2]),
            INVALID,
            "",
        ),
        ("nothing", String::new(), INVALID, "three parts"),
        ("the word Bearer before", format!("Bearer {good}"), INVALID, "base64url"),
        ("1 MB", format!("{}.{}", "a".repeat(1_000_000), good), INVALID, "at most 16384"),
        (
            "17 KiB of claims",
            key.sign(&changed(claims.clone(), json!({"x": "x".repeat(13_000)}))),
            INVALID,
            "at most 16384",
        ),
        ("a token of this server", scene.world.admin.token.clone().unwrap(), INVALID, "three parts"),
        ("few claims", key.sign(&evil), INVALID, "issuer is not trusted"),
    ]
}

#[tokio::test]
async fn bad_id_tokens_are_refused_each_for_its_own_reason() {
    let scene = Scene::new().await;
    scene.allow("own", json!({})).await;
    let cases: Vec<Case> = by_claims(&scene).into_iter().chain(by_form(&scene)).collect();
    assert!(cases.len() >= 90, "{}", cases.len());
    for (what, token, code, says) in cases {
        for org in [Some("own"), None] {
            let problem = scene.log_in(&token, org).await.problem(code).await;
            assert!(problem.detail.contains(says), "{what}: {}", problem.detail);
            let text = serde_json::to_string(&problem).unwrap();
            assert!(token.is_empty() || !text.contains(&token), "{what}: the problem repeats the id-token");
        }
    }
    assert_eq!(scene.tokens_of_pipelines().await, 0, "none of them gave a token");
    // The one that they were made of is good.
    scene.log_in(&scene.token(json!({})), Some("own")).await.status_is(StatusCode::CREATED).await;
    assert_eq!(scene.tokens_of_pipelines().await, 1);
    assert!(scene.issuer.fetches() <= 2, "all of this cost {} fetches", scene.issuer.fetches());
}

#[tokio::test]
async fn good_ones_that_look_unusual_get_in() {
    let scene = Scene::new().await;
    scene.allow("own", json!({})).await;
    let now = SystemClock.now().as_second();
    for (what, changes) in [
        ("an id as a number", json!({"repository_id": 74})),
        ("a release", json!({"ref": "refs/heads/release/1.2"})),
        ("a pull request, which the policy names", json!({"event_name": "pull_request"})),
        ("over for less than the leeway", json!({"iat": now - 300, "exp": now - 30})),
        ("from a clock that is ahead by less than the leeway", json!({"iat": now + 30, "nbf": now + 30})),
        ("no nbf", json!({"nbf": null})),
        ("an owner that was renamed", json!({"repository": "new-name/app", "repository_owner": "new-name"})),
    ] {
        let answer = scene.log_in(&scene.token(changes), Some("own")).await;
        assert_eq!(answer.status(), StatusCode::CREATED, "{what}: {}", answer.text().await.unwrap());
    }
    let bare = scene.issuer.key().sign_with(
        &RSA_PKCS1_SHA256,
        &json!({"alg": "RS256", "kid": "key-1"}).to_string(),
        &scene.issuer.claims(&scene.world.url).to_string(),
    );
    scene.log_in(&bare, Some("own")).await.status_is(StatusCode::CREATED).await;
}

#[tokio::test]
async fn an_environment_and_a_workflow_can_be_asked_for() {
    let scene = Scene::new().await;
    let conditions = json!({"repository_owner_id": ["65"], "environment": ["prod"],
        "workflow_ref": ["octo/app/.github/workflows/mobile.yml@refs/heads/*"]});
    scene.allow("own", json!({"match": conditions})).await;
    for (changes, let_in) in [
        (json!({"environment": "prod"}), true),
        (json!({}), false),
        (json!({"environment": "prod-2"}), false),
        (
            json!({"environment": "prod", "workflow_ref": "octo/app/.github/workflows/evil.yml@refs/heads/main"}),
            false,
        ),
        (
            json!({"environment": "prod", "workflow_ref": "octo/app/.github/workflows/mobile.yml@refs/pull/1/merge"}),
            false,
        ),
        (json!({"environment": "prod", "event_name": "pull_request"}), false),
        (json!({"environment": "prod", "event_name": "workflow_dispatch"}), true),
    ] {
        let answer = scene.log_in(&scene.token(changes.clone()), Some("own")).await;
        match let_in {
            true => _ = answer.status_is(StatusCode::CREATED).await,
            false => _ = answer.problem(NOT_ALLOWED).await,
        }
    }
}

#[tokio::test]
async fn an_own_audience_is_the_only_one_of_its_policy() {
    let scene = Scene::new().await;
    scene.allow("own", json!({"audience": "qgjob-tests"})).await;
    let for_it = scene.issuer.token("qgjob-tests", json!({}));
    scene.log_in(&scene.token(json!({})), Some("own")).await.problem(NOT_ALLOWED).await;
    scene.log_in(&for_it, Some("own")).await.status_is(StatusCode::CREATED).await;
}

#[tokio::test]
async fn gitlab_names_its_owners_and_forks_in_its_own_way() {
    let issuer = Issuer::start().await;
    let trusted = format!("gitlab={}", issuer.url).parse().unwrap();
    let world = World::with(|config| config.oidc_issuers.push(trusted)).await;
    let path = "/api/v1/orgs/own/oidc-policies";
    let policy = json!({"issuer": issuer.url, "match": {"project_id": ["22"], "ref_type": ["branch"]}});
    world.admin.post(path, &policy).await.status_is(StatusCode::CREATED).await;
    let github_only = json!({"issuer": issuer.url, "match": {"repository_id": ["74"]}});
    world.admin.post(path, &github_only).await.problem("invalid_request").await;
    let claims = json!({"project_id": "22", "project_path": "group/app", "namespace_id": "72", "pipeline_id": "1212",
        "job_id": "99", "ref": "main", "ref_path": "refs/heads/main", "pipeline_source": "merge_request_event",
        "repository_id": null, "event_name": null});
    for (changes, code) in [
        (json!({}), None),
        (json!({"job_project_id": "22"}), None),
        (json!({"job_project_id": "23"}), Some("the code of a fork")),
        (json!({"project_id": "23", "job_project_id": "22"}), Some("the code of a fork")),
        (json!({"project_id": "23"}), Some("no policy")),
        (json!({"ref_type": "tag"}), Some("no policy")),
    ] {
        let claims = changed(claims.clone(), changes.clone());
        let mut all = changed(issuer.claims(&world.url), claims.clone());
        all = changed(all, changes.clone());
        let body = json!({"token": issuer.key().sign(&all), "org_id": "own"});
        let answer = world.nobody().post("/api/v1/auth/oidc", &body).await;
        match code {
            None => {
                let made: Value = answer.ok().await;
                let run = &made["ci"]["run"];
                assert_eq!((&run["repository"], &run["run_id"]), (&json!("group/app"), &json!("1212")));
                assert_eq!((&run["attempt"], &run["event"]), (&json!("99"), &json!("merge_request_event")));
            }
            Some(says) => {
                let problem = answer.problem(NOT_ALLOWED).await;
                assert!(problem.detail.contains(says), "{changes}: {}", problem.detail);
            }
        }
    }
}

#[tokio::test]
async fn an_id_token_without_a_name_works_once_too() {
    let issuer = Issuer::start().await;
    let trusted = issuer.url.parse().unwrap();
    let world = World::with(|config| config.oidc_issuers.push(trusted)).await;
    let path = "/api/v1/orgs/own/oidc-policies";
    let policy = |conditions: Value| json!({"issuer": issuer.url, "match": conditions});
    let loose = policy(json!({"organization_slug": ["acme*"]}));
    world.admin.post(path, &loose).await.problem("invalid_request").await;
    let bound = policy(json!({"organization_id": ["0184990a"], "build_branch": ["main"]}));
    world.admin.post(path, &bound).await.status_is(StatusCode::CREATED).await;
    // As Buildkite makes them.
    let changes = |number: u32| json!({"jti": null, "organization_id": "0184990a", "build_branch": "main", "build_number": number});
    let log_in = async |token: &str| {
        world.nobody().post("/api/v1/auth/oidc", &json!({"token": token, "org_id": "own"})).await
    };
    for number in [1, 2] {
        let token = issuer.token(&world.url, changes(number));
        log_in(&token).await.status_is(StatusCode::CREATED).await;
        log_in(&token).await.problem("id_token_used").await;
    }
    let foreign = issuer.token(&world.url, changed(changes(3), json!({"organization_id": "0184990b"})));
    log_in(&foreign).await.problem(NOT_ALLOWED).await;
}

#[tokio::test]
async fn an_issuer_that_misbehaves_lets_nobody_in() {
    let moods = [
        Mood::Fails,
        Mood::Silent,
        Mood::Huge,
        Mood::RedirectsDiscovery,
        Mood::RedirectsKeys,
        Mood::NamesForeignKeys,
        Mood::IsAnother,
        Mood::Babbles,
    ];
    let mut issuers = Vec::new();
    for mood in moods {
        let issuer = Issuer::start().await;
        issuer.set_mood(mood);
        issuers.push(issuer);
    }
    // One that is not there at all.
    let gone = Issuer::start().await;
    let gone_url = gone.url.clone();
    let token_of_gone = |world: &World| gone.token(&world.url, json!({}));
    let urls: Vec<String> =
        issuers.iter().map(|issuer| issuer.url.clone()).chain([gone_url.clone()]).collect();
    let world = World::with(|config| {
        config.oidc_issuers = urls.iter().map(|url| format!("github={url}").parse().unwrap()).collect();
    })
    .await;
    for url in &urls {
        let policy = json!({"issuer": url, "match": {"repository_id": ["74"]}});
        world
            .admin
            .post("/api/v1/orgs/own/oidc-policies", &policy)
            .await
            .status_is(StatusCode::CREATED)
            .await;
    }
    let last = token_of_gone(&world);
    drop(gone);
    let tokens = issuers.iter().map(|issuer| issuer.token(&world.url, json!({}))).chain([last]);
    let world = &world;
    let sends = tokens.map(|token| async move {
        let body = json!({"token": token, "org_id": "own"});
        let problem =
            world.nobody().post("/api/v1/auth/oidc", &body).await.problem("issuer_unavailable").await;
        assert!(
            problem.retry_after_ms.is_some() && !problem.detail.contains("127.0.0.1"),
            "{}",
            problem.detail
        );
    });
    futures_util::future::join_all(sends).await;
    for (issuer, mood) in issuers.iter().zip(moods) {
        assert!(issuer.asked() <= 2, "{mood:?} was asked {} times", issuer.asked());
    }
    assert_eq!(
        issuers[3].fetches() + issuers[5].fetches(),
        0,
        "neither redirect nor foreign address was followed"
    );
    assert_eq!(issuers[4].fetches(), 1);
}
