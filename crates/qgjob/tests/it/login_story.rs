//! A pipeline logs in with the id-token of its CI service: the real command line and server, and an issuer on this machine.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::routing::post;
use axum::{Json, Router};
use jiff::SignedDuration;
use qgjob::client::{Client, Error, Login, Secret, Source};
use qgjob_core::clock::{Clock, SteppedClock, SystemClock};
use qgjob_server::config::Config;
use qgjob_server::run::Server;
use qgjob_server::store::Rules;
use qgjob_server::store::sqlite::Sqlite;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::cli_story::agent::{FakeAgent, Play};
use crate::cli_story::desk::{Desk, Done, SEEDS_SUBMIT, redact};
use crate::issuer::{Issuer, REQUEST_TOKEN};

const ORG: &str = "--org-id=qualgent";

/// A desk with a server that trusts an issuer, and a pipeline that has nothing but what its CI service gives it.
struct Scene {
    desk: Desk,
    issuer: Issuer,
    pipeline: tempfile::TempDir,
}

impl Scene {
    async fn new(kind: &str) -> Self {
        let (mut desk, issuer) = (Desk::without_server(), Issuer::start().await);
        desk.server_args = vec![format!("--oidc-issuer={kind}={}", issuer.url)];
        desk.start_server().await;
        Self { desk, issuer, pipeline: tempfile::tempdir().unwrap() }
    }

    fn server(&self) -> String {
        format!("http://{}", self.desk.address)
    }

    async fn allow(&self, conditions: &[&str]) -> String {
        let issuer = format!("--issuer={}", self.issuer.url);
        let add = ["org", "oidc-policy", "add", ORG, &issuer, "-o", "name"];
        let done = self.desk.qgjob(&[&add[..], conditions].concat()).await;
        assert_eq!(done.code, 0, "{done:?}");
        done.out.trim().to_owned()
    }

    fn config(&self) -> PathBuf {
        self.pipeline.path().join("config")
    }

    /// Runs qgjob as a job of the pipeline, with this environment besides.
    async fn job(&self, env: &[(&str, &str)], args: &[&str]) -> Done {
        let (server, config) = (self.server(), self.config());
        let usual = [
            ("QGJOB_SERVER", server.as_str()),
            ("QGJOB_CONFIG_DIR", config.to_str().unwrap()),
            ("CI", "true"),
        ];
        self.desk.qgjob_with(&[&usual[..], env].concat(), args).await
    }

    /// Runs qgjob in a job of GitHub Actions.
    async fn github(&self, args: &[&str]) -> Done {
        let url = self.issuer.request_url();
        let env = [
            ("ACTIONS_ID_TOKEN_REQUEST_URL", url.as_str()),
            ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", REQUEST_TOKEN),
        ];
        self.job(&env, args).await
    }
}

/// Nothing that opens a door is in what a program said.
fn says_no_secret(done: &Done) {
    let said = format!("{}{}", done.out, done.err);
    for secret in ["qgj_ci_", REQUEST_TOKEN, "eyJ"] {
        assert!(!said.contains(secret), "{secret} in {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_github_submits_without_a_stored_token() {
    let scene = Scene::new("github").await;
    scene.allow(&["--match=repository_id=74", "--match=ref=refs/heads/main", "--max-priority=high"]).await;
    scene.desk.bind_app("xyz123").await;
    let agent = FakeAgent::start(&scene.desk, &["p1"], |_| Play::Passes).await;
    let done = scene.github(&[SEEDS_SUBMIT, &["--watch", "-vvv"]].concat()).await;
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.err.contains("logged in with an id-token"), "{}", done.err);
    says_no_secret(&done);
    assert_eq!(scene.issuer.given(), 1, "one login is enough for a command");
    assert!(!scene.config().exists(), "nothing is kept where a fresh id-token is at hand");
    // Who submitted is told to whoever asks.
    let runs = scene.desk.qgjob(&["run", "list", "-o", "json"]).await.json();
    let run = runs["items"][0]["id"].as_str().unwrap().to_owned();
    let view = scene.desk.qgjob(&["run", "view", &run]).await.out;
    assert!(view.contains("submitted by octo/app run 4711 attempt 1 refs/heads/main by push"), "{view}");
    let whoami = scene.github(&["token", "whoami"]).await;
    assert_eq!(whoami.code, 0, "{whoami:?}");
    assert!(whoami.out.contains("may          submit,read,cancel, up to priority 8"), "{whoami:?}");
    // It is no more than a pipeline.
    for (args, code) in [
        (&["token", "list"][..], 4),
        (&["org", "pause", ORG], 4),
        (&["org", "oidc-policy", "list", ORG], 4),
        (&["queue", "pause", "xyz123", ORG], 4),
        (&["device", "list"], 4),
        (&["run", "view", &run], 0),
    ] {
        let done = scene.github(args).await;
        assert_eq!(done.code, code, "{args:?}: {done:?}");
        says_no_secret(&done);
    }
    let urgent = scene.github(&[SEEDS_SUBMIT, &["--priority=urgent"]].concat()).await;
    assert_eq!(urgent.code, 4, "{urgent:?}");
    assert!(urgent.err.contains("at most 8 is allowed"), "{urgent:?}");
    // A stored token comes first: nothing is asked of the CI service.
    let given = scene.issuer.given();
    assert_eq!(scene.desk.qgjob(&["list"]).await.code, 0);
    assert_eq!(scene.issuer.given(), given);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_a_job_share_its_only_id_token() {
    let scene = Scene::new("gitlab").await;
    scene.allow(&["--match=project_id=22"]).await;
    let claims = json!({"project_id": "22", "project_path": "group/app", "pipeline_id": "1212"});
    let id_token = scene.issuer.token(&scene.server(), claims);
    let env = [("QGJOB_ID_TOKEN", id_token.as_str())];
    // Two at a time, and one after them.
    let submit = [SEEDS_SUBMIT, &["-vvv"]].concat();
    let (first, second) = tokio::join!(scene.job(&env, &submit), scene.job(&env, &submit));
    let third = scene.job(&env, &["list", "-vvv"]).await;
    for done in [first, second, third] {
        assert_eq!(done.code, 0, "{done:?}");
        says_no_secret(&done);
        assert!(!done.err.contains(&id_token));
    }
    let tokens = scene.desk.qgjob(&["token", "list"]).await.out;
    assert_eq!(tokens.matches("group/app #1212").count(), 1, "{tokens}");
    // Whoever has the id-token alone comes too late.
    let thief = Scene { pipeline: tempfile::tempdir().unwrap(), ..scene };
    let done = thief.job(&env, &["list"]).await;
    assert_eq!(done.code, 4, "{done:?}");
    assert!(done.err.contains("the id-token was used before"), "{done:?}");
    assert!(!done.err.contains(&id_token));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_fails_says_why_and_what_to_do() {
    let scene = Scene::new("github").await;
    scene.allow(&["--match=repository_id=75"]).await;
    let url = scene.issuer.request_url();
    let ask = |token: &'static str, url: &str| {
        vec![
            ("ACTIONS_ID_TOKEN_REQUEST_URL".to_owned(), url.to_owned()),
            ("ACTIONS_ID_TOKEN_REQUEST_TOKEN".to_owned(), token.to_owned()),
        ]
    };
    let given = |text: String| vec![("QGJOB_ID_TOKEN".to_owned(), text)];
    let for_other = scene.issuer.token("https://other.example", json!({}));
    for (env, says) in [
        (
            ask("not-the-token", &url),
            "error: the CI service gives no id-token\n  cause: it answered 401 Unauthorized\n  hint:  give the job `permissions: { id-token: write }`",
        ),
        (ask("t", "http://runner.example/"), "cause: ACTIONS_ID_TOKEN_REQUEST_URL is not encrypted"),
        (
            ask(REQUEST_TOKEN, &url),
            "error: No policy lets this id-token in\n  cause: it is good, and no policy for this org lets it in\n  hint:  An admin",
        ),
        (
            given(for_other),
            "error: The id-token is not accepted\n  cause: its claim aud is \"https://other.example\", and this server is",
        ),
        (given("secret.secret".to_owned()), "error: QGJOB_ID_TOKEN holds no id-token"),
    ] {
        let env: Vec<(&str, &str)> =
            env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let done = scene.job(&env, &["list", ORG]).await;
        assert_eq!(done.code, 4, "{done:?}");
        assert!(done.err.contains(says), "{says}: {}", done.err);
        assert!(!done.err.contains("secret.secret"));
        says_no_secret(&done);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_keeps_policies_and_tests_them() {
    let scene = Scene::new("github").await;
    let policy = |text: &str| {
        redact(&text.replace(&scene.issuer.url, "ISSUER"))
            .replace("pol_01", "pol_ID")
            .split_inclusive('\n')
            .map(hide)
            .collect::<String>()
    };
    let issuer = format!("--issuer={}", scene.issuer.url);
    let add = [
        "org",
        "oidc-policy",
        "add",
        ORG,
        &issuer,
        "--match=repository_owner_id=65",
        "--match=ref=refs/heads/release/*",
        "--match=ref=refs/heads/main",
        "--may=submit,read",
    ];
    let added = scene.desk.qgjob(&add).await;
    insta::assert_snapshot!(policy(&added.out), @r"
    ✓ Added pol_ID of qualgent
      issuer       ISSUER
      match        ref=refs/heads/release/*|refs/heads/main repository_owner_id=65
      may          submit,read, up to priority 5
    ");
    let risky = [
        "org",
        "oidc-policy",
        "add",
        ORG,
        "--issuer=github",
        "--match=repository_id=7",
        "--match=event_name=workflow_run",
    ];
    let risky = scene.desk.qgjob(&risky).await;
    assert_eq!(risky.code, 0, "{risky:?}");
    assert!(risky.err.contains("warning: workflow_run runs with the rights of the repository"), "{risky:?}");
    let by_name = ["org", "oidc-policy", "add", ORG, "--issuer=github", "--match=repository=octo/app"];
    let by_name = scene.desk.qgjob(&by_name).await;
    assert_eq!(by_name.code, 2, "{by_name:?}");
    assert!(by_name.err.contains("must name repository_id or repository_owner_id"), "{by_name:?}");
    let listed = scene.desk.qgjob(&["org", "oidc-policy", "list", ORG]).await.out;
    let rows: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().skip(2).collect()).collect();
    let first = ["ref=refs/heads/release/*|refs/heads/main", "repository_owner_id=65", "submit,read", "5"];
    assert_eq!(rows[1], first, "{listed}");
    assert_eq!(
        rows[2],
        ["event_name=workflow_run", "repository_id=7", "submit,read,cancel", "5"],
        "{listed}"
    );
    let file = scene.pipeline.path().join("id-token.txt");
    let test = async |changes: Value| {
        std::fs::write(&file, scene.issuer.token(&scene.server(), changes) + "\n").unwrap();
        let flag = format!("--id-token-file={}", file.display());
        scene.desk.qgjob(&["org", "oidc-policy", "test", ORG, &flag]).await
    };
    let good = test(json!({})).await;
    assert_eq!(good.code, 0, "{good:?}");
    insta::assert_snapshot!(policy(&good.out), @r"
    The id-token is good: octo/app run 4711 attempt 1 refs/heads/main by push
      ✓ pol_ID  lets it in
      ✗ pol_ID  issuer is ISSUER, wanted https://token.actions.githubusercontent.com
    pol_ID counts
    ");
    let evil = test(json!({"ref": "refs/heads/main-evil", "event_name": "pull_request"})).await;
    assert_eq!(evil.code, 4, "{evil:?}");
    insta::assert_snapshot!(policy(&evil.out), @r#"
    The id-token is good: octo/app run 4711 attempt 1 refs/heads/main-evil by pull_request
      ✗ pol_ID  ref is "refs/heads/main-evil", wanted refs/heads/release/* or refs/heads/main
      ✗ pol_ID  issuer is ISSUER, wanted https://token.actions.githubusercontent.com
    No policy lets it in
    "#);
    let first = scene.desk.qgjob(&["org", "oidc-policy", "list", ORG, "-o", "name"]).await.out;
    let first = first.lines().next().unwrap();
    let removed = scene.desk.qgjob(&["org", "oidc-policy", "remove", &first[first.len() - 8..], ORG]).await;
    insta::assert_snapshot!(policy(&removed.out), @"✓ Removed pol_ID; the tokens that it let in are over");
    assert_eq!(test(json!({})).await.code, 4);
}

/// Ids of policies differ from run to run.
fn hide(line: &str) -> String {
    let mut words = Vec::new();
    for word in line.split(' ') {
        let id = word.starts_with("pol_");
        words.push(if id {
            format!("pol_ID{}", word.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_'))
        } else {
            word.to_owned()
        });
    }
    words.join(" ")
}

/// A server in this process, whose clock can be moved.
struct Moved {
    client: Client,
    issuer: Issuer,
    clock: Arc<SteppedClock>,
    _folder: tempfile::TempDir,
    stop: CancellationToken,
}

impl Moved {
    async fn new(source: impl FnOnce(&Issuer, &str) -> Source) -> Self {
        let (issuer, clock) = (Issuer::start().await, Arc::new(SteppedClock::at(SystemClock.now())));
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            data_dir: folder.path().join("data"),
            credential_file: Some(folder.path().join("admin.json")),
            oidc_issuers: vec![format!("github={}", issuer.url).parse().unwrap()],
            ..Config::default()
        };
        let store = Arc::new(Sqlite::open(&folder.path().join("qgjob.db"), Rules::default()).unwrap());
        let bound = Server::bind(config, store, clock.clone()).await.unwrap();
        let (url, stop) = (bound.url.clone(), CancellationToken::new());
        tokio::spawn(bound.serve(stop.clone()));
        let admin: Value =
            serde_json::from_slice(&std::fs::read(folder.path().join("admin.json")).unwrap()).unwrap();
        let server = url.parse().unwrap();
        let timeout = Duration::from_secs(30);
        let admin =
            Client::new(&server, Some(Secret::new(admin["token"].as_str().unwrap())), timeout).unwrap();
        let policy = json!({"issuer": issuer.url, "match": {"repository_id": ["74"]}});
        admin.add_policy(&"own".parse().unwrap(), &serde_json::from_value(policy).unwrap()).await.unwrap();
        let login =
            Login { source: source(&issuer, &url), org_id: Some("own".parse().unwrap()), folder: None };
        let client = Client::new(&server, None, timeout).unwrap().with_login(login);
        Self { client, issuer, clock, _folder: folder, stop }
    }
}

impl Drop for Moved {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_ended_too_early_is_made_again_once() {
    let github = |issuer: &Issuer, _: &str| Source::GitHub {
        url: issuer.request_url(),
        token: Secret::new(REQUEST_TOKEN),
    };
    let moved = Moved::new(github).await;
    let first = moved.client.whoami().await.unwrap().token.id;
    assert_eq!(moved.client.whoami().await.unwrap().token.id, first);
    assert_eq!(moved.issuer.given(), 1);
    // As when this machine slept.
    moved.clock.advance(SignedDuration::from_mins(31));
    let now = moved.clock.now().as_second();
    moved.issuer.set_claims(json!({"iat": now, "nbf": now, "exp": now + 300}));
    let second = moved.client.whoami().await.unwrap().token.id;
    assert_ne!(first, second);
    assert_eq!(moved.issuer.given(), 2);
    // Where there is no second id-token, the server's word is passed on.
    let given = |issuer: &Issuer, url: &str| Source::Given(Secret::new(issuer.token(url, json!({}))));
    let moved = Moved::new(given).await;
    moved.client.whoami().await.unwrap();
    moved.clock.advance(SignedDuration::from_mins(3));
    moved.client.whoami().await.unwrap();
    moved.clock.advance(SignedDuration::from_mins(28));
    match moved.client.whoami().await {
        Err(Error::Refused(problem)) => assert_eq!(problem.status, 401, "{problem:?}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_renewed_in_time_while_nothing_is_asked() {
    // Half an hour is too long for a test, so this server's tokens work for three seconds.
    let renewals = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&renewals);
    let token = || {
        let mut token = json!({"id": "tok_01kb4x9tq3m8e7w2n5r6v0zcha", "kind": "ci", "name": "x", "org_id": "own",
            "agent_id": null, "created_at": "2026-01-01T00:00:00Z", "expires_at": null});
        token["expires_in_ms"] = 3_000.into();
        token["schema"] = "x".into();
        token
    };
    let routes = Router::new()
        .route(
            "/api/v1/auth/oidc",
            post(move || async move {
                let mut made = token();
                made["secret"] = "qgj_ci_short".into();
                Json(made)
            }),
        )
        .route(
            "/api/v1/auth/renew",
            post(move || {
                counted.fetch_add(1, Ordering::SeqCst);
                async move { Json(token()) }
            }),
        )
        .route("/api/v1/whoami", axum::routing::get(move || async move { Json(token()) }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let serving = tokio::spawn(async move { axum::serve(listener, routes).await });
    let login = Login { source: Source::Given(Secret::new("a.b.c")), org_id: None, folder: None };
    let client = Client::new(&url, None, Duration::from_secs(30)).unwrap().with_login(login);
    client.whoami().await.unwrap();
    let renewed = async {
        while renewals.load(Ordering::SeqCst) < 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), renewed)
        .await
        .expect("it is renewed although nobody asks for anything");
    serving.abort();
}
