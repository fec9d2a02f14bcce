//! Who may do what, and the first start.

use std::os::unix::fs::PermissionsExt;

use qgjob_core::model::token::{Kind, secret};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::{Caller, Expect, World, credential_file};

/// What needs no token.
pub const OPEN: &[&str] = &[
    "/livez",
    "/readyz",
    "/api/v1/version",
    "/api/v1/problems",
    "/api/v1/problems/{code}",
    "/api/v1/openapi.json",
    "/api/v1/auth/oidc",
];

/// What only an admin may do.
const ADMIN: &[&str] =
    &["/devices/{id}/", "/agents", "/tokens", "/metrics", "/orgs/{org_id}/pause", "/orgs/{org_id}/resume"];

pub struct Operation {
    pub method: Method,
    pub pattern: String,
    pub path: String,
}

pub async fn operations(world: &World) -> Vec<Operation> {
    let served: Value = world.nobody().get("/api/v1/openapi.json").await.ok().await;
    let mut found = Vec::new();
    for (pattern, item) in served["paths"].as_object().unwrap() {
        let path =
            pattern.replace("{stream}", "test?epoch=1").replace("{code}", "busy").replace("{input}", "app");
        let path = path
            .replace("{app_version_id}/", "v1/")
            .replace("{app_version_id}", "v1?org_id=own")
            .replace("{org_id}", "own")
            .replace("{name}", "staging")
            .replace("{artifact_id}", "x")
            .replace("{id}", "x");
        for method in item.as_object().unwrap().keys() {
            let method = method.to_uppercase().parse().unwrap();
            found.push(Operation { method, pattern: pattern.clone(), path: path.clone() });
        }
    }
    assert!(found.len() > 50);
    found
}

#[tokio::test]
async fn nothing_but_the_listed_routes_is_open() {
    let world = World::new().await;
    let unknown = Caller::new(&world.url, &secret(Kind::Admin, [1, 2]));
    let typo = Caller::new(&world.url, "qgj_adm_nonsense");
    for Operation { method, pattern, path } in operations(&world).await {
        let reply = world.nobody().request(method.clone(), &path).send().await.unwrap();
        if OPEN.contains(&pattern.as_str()) {
            // An id-token is shown in the body.
            let wanted =
                if method == Method::POST { StatusCode::UNSUPPORTED_MEDIA_TYPE } else { StatusCode::OK };
            assert_eq!(reply.status(), wanted, "{method} {path}");
            continue;
        }
        assert_eq!(reply.headers()["www-authenticate"], "Bearer realm=\"qgjob\"", "{method} {path}");
        reply.problem("unauthenticated").await;
        for caller in [&unknown, &typo] {
            let reply = caller.request(method.clone(), &path).send().await.unwrap();
            reply.problem("unauthenticated").await;
        }
    }
}

#[tokio::test]
async fn each_kind_of_token_keeps_to_its_routes() {
    let world = World::new().await;
    let member = world.member("own").await;
    let agent = world.agent("one").await;
    for Operation { method, pattern, path } in operations(&world).await {
        if OPEN.contains(&pattern.as_str()) || pattern.ends_with("/whoami") || pattern.ends_with("/renew") {
            continue;
        }
        let send = async |caller: &Caller| {
            caller.request(method.clone(), &path).json(&json!({})).send().await.unwrap()
        };
        let for_agents = pattern.starts_with("/agent/v1");
        if for_agents {
            send(&member).await.problem("forbidden").await;
            send(&world.admin).await.problem("forbidden").await;
        } else {
            send(&agent.caller).await.problem("forbidden").await;
        }
        let rest = pattern.trim_start_matches("/api/v1");
        if !for_agents && ADMIN.iter().any(|prefix| rest.starts_with(prefix)) {
            send(&member).await.problem("forbidden").await;
        }
    }
}

#[tokio::test]
async fn things_of_other_orgs_are_not_found() {
    let world = World::new().await;
    let own = world.running("own").await;
    own.log(0, b"secret").await.status_is(StatusCode::OK).await;
    let path = own.attempt("/artifacts");
    let body = json!({"epoch": own.lease.epoch, "name": "a.txt", "media_type": "text/plain", "size_bytes": 3,
        "sha256": crate::world::sha256(b"abc")});
    let ticket: Value = own.agent.caller.post(&path, &body).await.ok().await;
    let artifact = ticket["artifact_id"].as_str().unwrap();
    let put = own
        .agent
        .caller
        .request(Method::PUT, &format!("{path}/{artifact}"))
        .body("abc")
        .send()
        .await
        .unwrap();
    put.status_is(StatusCode::NO_CONTENT).await;
    let upload = crate::world::new_upload("own", "app", b"another");
    let upload: Value = own.member.post("/api/v1/uploads", &upload).await.ok().await;
    let upload = upload["upload_id"].as_str().unwrap();
    let (job, run) = (&own.job, &own.run);
    let other = world.member("other").await;
    let reads = [
        format!("/runs/{run}"),
        format!("/runs/{run}/events"),
        format!("/runs/{run}/tests"),
        format!("/runs/{run}/artifacts"),
        format!("/jobs/{job}"),
        format!("/jobs/{}", &job[job.len() - 10..]),
        format!("/jobs/{job}/attempts"),
        format!("/jobs/{job}/tests"),
        format!("/jobs/{job}/artifacts"),
        format!("/jobs/{job}/explain"),
        "/queue/v1?org_id=own".to_owned(),
        "/orgs/own/quotas".to_owned(),
        "/orgs/own/concurrency-groups".to_owned(),
        format!("/jobs/{job}/logs"),
        format!("/jobs/{job}/events"),
        format!("/artifacts/{artifact}/content"),
        format!("/uploads/{upload}"),
        "/app-versions/v1".to_owned(),
        "/app-versions/v1?org_id=own".to_owned(),
    ];
    for path in reads {
        let path = format!("/api/v1{path}");
        other.get(&path).await.problem("not_found").await;
        let theirs = own.member.get(&path).await;
        assert!(theirs.status().is_success(), "{path}: {}", theirs.status());
    }
    for path in [
        format!("/runs/{run}/cancel"),
        format!("/jobs/{job}/cancel"),
        format!("/jobs/{job}/retry"),
        format!("/jobs/{job}/promote"),
        "/queue/v1/pause?org_id=own".to_owned(),
        "/queue/v1/resume?org_id=own".to_owned(),
        format!("/uploads/{upload}/complete"),
    ] {
        other.post(&format!("/api/v1{path}"), &Value::Null).await.problem("not_found").await;
    }
    for path in ["/api/v1/runs", "/api/v1/jobs", "/api/v1/app-versions"] {
        let page: Value = other.get(path).await.ok().await;
        assert_eq!(page["items"], json!([]), "{path}");
    }
    assert_eq!(other.get("/api/v1/queue").await.ok::<Value>().await, json!([]));
    let shown: Value = own.member.get(&format!("/api/v1/jobs/{job}")).await.ok().await;
    assert_eq!(shown["status"], "running", "nothing that the other org sent had an effect");
}

#[tokio::test]
async fn a_shared_device_does_not_tell_an_org_what_others_installed() {
    let world = World::new().await;
    let (own, other) = (world.member("own").await, world.member("other").await);
    let agent = world.agent("one").await;
    let (mine, theirs) =
        (own.upload("own", "app", b"mine").await, other.upload("other", "app", b"theirs").await);
    let line = |app: &str, sha256: &str| json!({"app_id": app, "sha256": sha256, "proof": "device_hash", "verified_at": "2026-11-22T10:00:00Z"});
    let mut beat = agent.heartbeat(false);
    beat["devices"][0]["ledger"] = json!([line("a", &mine), line("b", &theirs)]);
    agent.caller.post("/agent/v1/heartbeat", &beat).await.status_is(StatusCode::OK).await;
    for (caller, expected) in [(&own, vec!["a"]), (&other, vec!["b"]), (&world.admin, vec!["a", "b"])] {
        let list: Value = caller.get("/api/v1/devices").await.ok().await;
        let one: Value = caller.get(&format!("/api/v1/devices/{}", agent.device)).await.ok().await;
        for device in [&list["items"][0], &one] {
            let apps: Vec<_> = device["ledger"]
                .as_array()
                .unwrap()
                .iter()
                .map(|line| line["app_id"].as_str().unwrap())
                .collect();
            assert_eq!(apps, expected);
        }
    }
}

#[tokio::test]
async fn a_body_that_names_another_org_is_forbidden() {
    let world = World::new().await;
    let member = world.member("own").await;
    let run = json!({"org_id": "other", "app_version_id": "v1", "bundle_sha256": "0".repeat(64), "tests": ["a.js"]});
    let upload = crate::world::new_upload("other", "app", b"x");
    let label = crate::world::new_app_version("other", "v1", &"0".repeat(64), 1);
    let key = json!({"org_id": "other", "idempotency_key": "k"});
    for (path, body) in
        [("runs", run), ("uploads", upload), ("app-versions", label), ("runs/cancel-by-key", key)]
    {
        member.post(&format!("/api/v1/{path}"), &body).await.problem("forbidden").await;
    }
}

#[tokio::test]
async fn a_removed_token_stops_working_at_once() {
    let world = World::new().await;
    let member = world.member("own").await;
    let me: Value = member.get("/api/v1/whoami").await.ok().await;
    assert_eq!((me["kind"].as_str(), me["org_id"].as_str()), (Some("api"), Some("own")));
    let path = format!("/api/v1/tokens/{}", me["id"].as_str().unwrap());
    world.admin.delete(&path).await.status_is(StatusCode::NO_CONTENT).await;
    member.get("/api/v1/whoami").await.problem("unauthenticated").await;
    world.admin.delete(&path).await.problem("not_found").await;
}

#[tokio::test]
async fn secrets_are_shown_once_and_kept_nowhere() {
    let world = World::new().await;
    let body = json!({"kind": "api", "name": "ci", "org_id": "own"});
    let made: Value = world.admin.post("/api/v1/tokens", &body).await.ok().await;
    let secret = made["secret"].as_str().unwrap().to_owned();
    let listed = world.admin.get("/api/v1/tokens").await.status_is(StatusCode::OK).await;
    assert!(listed.contains("\"ci\"") && !listed.contains(&secret));
    let admin = world.admin.token.clone().unwrap();
    let folder = world.stop().await;
    for file in ["qgjob.db", "qgjob.db-wal"] {
        let bytes = std::fs::read(folder.path().join(file)).unwrap_or_default();
        for secret in [&secret, &admin] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{file}");
        }
    }
}

#[tokio::test]
async fn tokens_are_described_right_or_refused() {
    let world = World::new().await;
    for (body, pointer) in [
        (json!({"kind": "api", "name": "x"}), "/org_id"),
        (json!({"kind": "agent", "name": "x"}), "/kind"),
        (json!({"kind": "admin", "name": ""}), "/name"),
        (json!({"kind": "admin", "name": "x".repeat(65)}), "/name"),
        (json!({"kind": "admin", "name": "x", "ttl_ms": 1}), "/ttl_ms"),
    ] {
        let problem = world.admin.post("/api/v1/tokens", &body).await.problem("invalid_request").await;
        assert_eq!(problem.errors[0].pointer, pointer, "{body}");
    }
}

#[tokio::test]
async fn a_first_start_writes_one_credential_that_only_its_owner_reads() {
    let world = World::new().await;
    let file = credential_file(&world.folder);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let before: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(before["server"], world.url);
    let folder = world.stop().await;
    let world = World::at(folder, |_| {}).await;
    let after: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!((&after["token"], after["server"].as_str()), (&before["token"], Some(world.url.as_str())));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let tokens: Value = world.admin.get("/api/v1/tokens").await.ok().await;
    assert_eq!(tokens["items"].as_array().unwrap().len(), 1, "a second start makes no second admin");
    let left: Vec<_> =
        std::fs::read_dir(world.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".new")), "{left:?}");
}

#[tokio::test]
async fn away_from_loopback_the_credential_stays_in_the_data_folder() {
    let folder = tempfile::tempdir().unwrap();
    let store = std::sync::Arc::new(
        qgjob_server::store::sqlite::Sqlite::open(
            &folder.path().join("db"),
            qgjob_server::store::Rules::default(),
        )
        .unwrap(),
    );
    let config = qgjob_server::config::Config {
        listen: "0.0.0.0:0".parse().unwrap(),
        data_dir: folder.path().join("data"),
        credential_file: Some(credential_file(&folder)),
        ..Default::default()
    };
    let clock = std::sync::Arc::new(qgjob_core::clock::SystemClock);
    let bound = qgjob_server::run::Server::bind(config, store, clock).await.unwrap();
    assert_eq!(bound.credential.unwrap(), folder.path().join("data/admin-credential.json"));
    assert!(!credential_file(&folder).exists());
}
