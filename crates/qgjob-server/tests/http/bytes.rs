//! Uploads, artifacts and inputs: resumed, checked, in parts.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::{Caller, Expect, World, new_app_version, new_upload, sha256};

async fn send(caller: &Caller, id: &str, offset: u64, bytes: &[u8]) -> reqwest::Response {
    let request =
        caller.request(Method::PATCH, &format!("/api/v1/uploads/{id}")).header("upload-offset", offset);
    request.body(bytes.to_vec()).send().await.unwrap()
}

async fn begin(caller: &Caller, bytes: &[u8]) -> String {
    let begun: Value = caller.post("/api/v1/uploads", &new_upload("own", "app", bytes)).await.ok().await;
    begun["upload_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_upload_is_resumed_where_it_stopped_even_after_a_restart() {
    let world = World::new().await;
    let member = world.member("own").await;
    let bytes: Vec<u8> = (0..100_000_u32).map(|at| (at % 251) as u8).collect();
    let id = begin(&member, &bytes).await;
    let sent: Value = send(&member, &id, 0, &bytes[..40_000]).await.ok().await;
    assert_eq!(sent["offset"], 40_000);
    for wrong in [0, 39_999, 40_001] {
        let problem = send(&member, &id, wrong, &bytes[40_000..]).await.problem("offset_mismatch").await;
        assert_eq!(problem.expected_offset, Some(40_000));
    }
    let early = member.post(&format!("/api/v1/uploads/{id}/complete"), &Value::Null).await;
    assert_eq!(early.problem("offset_mismatch").await.expected_offset, Some(40_000));
    let folder = world.stop().await;
    let world = World::at(folder, |_| {}).await;
    let member = Caller::new(&world.url, member.token.as_ref().unwrap());
    let stands: Value = member.get(&format!("/api/v1/uploads/{id}")).await.ok().await;
    assert_eq!((stands["offset"].as_u64(), stands["exists"].as_bool()), (Some(40_000), Some(false)));
    send(&member, &id, 40_000, &bytes[40_000..]).await.status_is(StatusCode::OK).await;
    let done: Value = member.post(&format!("/api/v1/uploads/{id}/complete"), &Value::Null).await.ok().await;
    assert_eq!(done["exists"], true);
    let again: Value = member.post("/api/v1/uploads", &new_upload("own", "app", &bytes)).await.ok().await;
    assert_eq!((again["exists"].as_bool(), &again["upload_id"]), (Some(true), &Value::Null));
    let folders = std::fs::read_dir(world.folder.path().join("data/uploads")).unwrap().count();
    assert_eq!(folders, 0, "nothing is left of the upload");
}

#[tokio::test]
async fn a_large_file_comes_in_one_piece() {
    let world = World::new().await;
    let member = world.member("own").await;
    let bytes = vec![9; 5 * 1024 * 1024];
    let digest = member.upload("own", "app", &bytes).await;
    let known: Value = member.post("/api/v1/uploads", &new_upload("own", "app", &bytes)).await.ok().await;
    assert_eq!((known["exists"].as_bool(), digest), (Some(true), sha256(&bytes)));
}

#[tokio::test]
async fn more_bytes_than_declared_are_refused() {
    let world = World::new().await;
    let member = world.member("own").await;
    let id = begin(&member, b"12345").await;
    send(&member, &id, 0, b"123456").await.problem("too_large").await;
    let stands: Value = member.get(&format!("/api/v1/uploads/{id}")).await.ok().await;
    assert!(stands["offset"].as_u64().unwrap() <= 5);
}

#[tokio::test]
async fn other_bytes_than_declared_are_refused_and_forgotten() {
    let world = World::new().await;
    let member = world.member("own").await;
    let id = begin(&member, b"12345").await;
    send(&member, &id, 0, b"1234x").await.status_is(StatusCode::OK).await;
    member
        .post(&format!("/api/v1/uploads/{id}/complete"), &Value::Null)
        .await
        .problem("checksum_mismatch")
        .await;
    member.get(&format!("/api/v1/uploads/{id}")).await.problem("not_found").await;
    let label = new_app_version("own", "v1", &sha256(b"12345"), 5);
    member.post("/api/v1/app-versions", &label).await.problem("not_uploaded").await;
}

#[tokio::test]
async fn the_same_bytes_of_two_orgs_are_two_blobs() {
    let world = World::new().await;
    let (own, other) = (world.member("own").await, world.member("other").await);
    let digest = own.upload("own", "app", b"the app").await;
    let theirs: Value =
        other.post("/api/v1/uploads", &new_upload("other", "app", b"the app")).await.ok().await;
    assert_eq!(theirs["exists"], false, "nobody learns what others have");
    let label = new_app_version("other", "v1", &digest, 7);
    other.post("/api/v1/app-versions", &label).await.problem("not_uploaded").await;
}

#[tokio::test]
async fn a_label_never_changes_its_build() {
    let world = World::new().await;
    let member = world.member("own").await;
    let (one, two) = (member.upload("own", "app", b"one").await, member.upload("own", "app", b"two").await);
    let bind = async |label: &str, digest: &str| {
        member.post("/api/v1/app-versions", &new_app_version("own", label, digest, 3)).await
    };
    bind("feature/x+1", &one).await.status_is(StatusCode::CREATED).await;
    bind("feature/x+1", &one).await.status_is(StatusCode::OK).await;
    let problem = bind("feature/x+1", &two).await.problem("app_version_conflict").await;
    assert!(problem.detail.contains(&one) && problem.detail.contains(&two), "{}", problem.detail);
    for path in ["feature/x+1", "feature%2Fx%2B1", "feature/x+1?org_id=own"] {
        let shown: Value = member.get(&format!("/api/v1/app-versions/{path}")).await.ok().await;
        assert_eq!(shown["build"]["sha256"].as_str(), Some(one.as_str()), "{path}");
    }
    let admins: Value = world.admin.get("/api/v1/app-versions/feature%2Fx%2B1?org_id=own").await.ok().await;
    assert_eq!(admins["app_version_id"], "feature/x+1");
    world.admin.get("/api/v1/app-versions/feature%2Fx%2B1").await.problem("invalid_request").await;
    let mut wrong = new_app_version("own", "v2", &one, 4);
    member.post("/api/v1/app-versions", &wrong).await.problem("invalid_request").await;
    wrong["app_version_id"] = json!("-v2");
    member.post("/api/v1/app-versions", &wrong).await.problem("invalid_request").await;
}

#[tokio::test]
async fn an_artifact_is_checked_kept_once_and_served_harmless() {
    let world = World::new().await;
    let running = world.running("own").await;
    let (agent, path) = (&running.agent.caller, running.attempt("/artifacts"));
    let page = b"<script>alert(1)</script>";
    let body = json!({"epoch": running.lease.epoch, "name": "report/in dex.html", "media_type": "text/html",
        "size_bytes": page.len(), "sha256": sha256(page)});
    let ticket: Value = agent.post(&path, &body).await.ok().await;
    assert_eq!(ticket["upload"], true);
    let id = ticket["artifact_id"].as_str().unwrap();
    let put = async |bytes: &[u8]| {
        agent.request(Method::PUT, &format!("{path}/{id}")).body(bytes.to_vec()).send().await.unwrap()
    };
    put(b"other bytes").await.problem("checksum_mismatch").await;
    put(&[page.as_slice(), b"x"].concat()).await.problem("too_large").await;
    for _ in 0..2 {
        put(page).await.status_is(StatusCode::NO_CONTENT).await;
    }
    let again: Value = agent.post(&path, &body).await.ok().await;
    assert_eq!((again["artifact_id"].as_str(), again["upload"].as_bool()), (Some(id), Some(false)));
    let mut copy = body.clone();
    copy["name"] = json!("copy.html");
    let known: Value = agent.post(&path, &copy).await.ok().await;
    assert_eq!(known["upload"], false, "the org has the bytes");
    let listed: Value =
        running.member.get(&format!("/api/v1/jobs/{}/artifacts", running.job)).await.ok().await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);

    let content = format!("/api/v1/artifacts/{id}/content");
    let whole = running.member.get(&content).await;
    let header = |name: &str| whole.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-disposition"), "attachment; filename*=UTF-8''in%20dex.html");
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert!(header("content-security-policy").contains("sandbox"));
    assert_eq!(whole.bytes().await.unwrap().as_ref(), page);
    let part = async |range: &str| {
        running.member.request(Method::GET, &content).header("range", range).send().await.unwrap()
    };
    let some = part("bytes=1-6").await;
    assert_eq!(some.headers()["content-range"], format!("bytes 1-6/{}", page.len()).as_str());
    assert_eq!(some.status_is(StatusCode::PARTIAL_CONTENT).await, "script");
    let outside = part("bytes=99-").await;
    assert_eq!(outside.headers()["content-range"], format!("bytes */{}", page.len()).as_str());
    outside.problem("range_not_satisfiable").await;
    let scratch = world.folder.path().join("data/blobs/.scratch");
    assert_eq!(std::fs::read_dir(scratch).unwrap().count(), 0, "nothing is left of refused bytes");
}

#[tokio::test]
async fn an_agent_reads_the_inputs_of_what_it_holds() {
    let world = World::new().await;
    let running = world.running("own").await;
    let agent = &running.agent.caller;
    for (input, expected) in [("app", "app of own"), ("bundle", "a bundle")] {
        let path = running.attempt(&format!("/inputs/{input}"));
        assert_eq!(agent.get(&path).await.status_is(StatusCode::OK).await, expected);
        let part = agent.request(Method::GET, &path).header("range", "bytes=2-").send().await.unwrap();
        assert_eq!(part.status_is(StatusCode::PARTIAL_CONTENT).await, expected[2..]);
    }
    agent.get(&running.attempt("/inputs/secrets")).await.problem("not_found").await;
    running.finish().await.status_is(StatusCode::OK).await;
    agent.get(&running.attempt("/inputs/app")).await.problem("not_found").await;
}
