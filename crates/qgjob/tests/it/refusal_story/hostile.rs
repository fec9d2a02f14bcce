//! Bundles that no command line of ours would make, sent as an attacker would: by hand.

use std::path::Path;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use sha2::Digest;
use tar::{EntryType, Header};

use super::project::{Project, noise};
use crate::device_bench::test_cache;
use crate::world::World;

/// A bundle that must be refused.
pub struct Hostile {
    pub what: &'static str,
    /// What the job's detail must say.
    pub told: &'static str,
    bytes: Vec<u8>,
}

/// The file that a bundle would leave outside if it got through. Each run of the tests has its own.
fn mark() -> String {
    format!("qgjob-was-here-{}", std::process::id())
}

fn all() -> Vec<Hostile> {
    let hostile = |what, told, bytes| Hostile { what, told, bytes };
    let elsewhere = std::env::temp_dir().display().to_string();
    let (climbing, absolute) = (format!("../{}", mark()), format!("{elsewhere}/{}", mark()));
    let through = format!("out/{}", mark());
    let file = |name: &str| entry(name, EntryType::Regular, "", b"got out");
    let whole = pack(&[entry("noise", EntryType::Regular, "", &noise(100_000))]);
    vec![
        hostile("a name that climbs", "qgjob-was-here", pack(&[file(&climbing)])),
        hostile("an absolute name", "qgjob-was-here", pack(&[file(&absolute)])),
        hostile(
            "a link and a file through it",
            "only files and folders",
            pack(&[entry("out", EntryType::Symlink, &elsewhere, b""), file(&through)]),
        ),
        hostile(
            "a second name of a file of the host",
            "only files and folders",
            pack(&[entry("passwd", EntryType::Link, "/etc/passwd", b"")]),
        ),
        hostile("a device", "only files and folders", pack(&[entry("zero", EntryType::Char, "", b"")])),
        hostile(
            "a bomb",
            "times its size",
            pack(&[entry("zeros", EntryType::Regular, "", &vec![0; 64 << 20])]),
        ),
        hostile("no archive at all", "damaged", b"#!/bin/sh\nexit 0\n".to_vec()),
        hostile("half an archive", "damaged", whole[..whole.len() / 2].to_vec()),
    ]
}

/// A header and its content. The name is taken as it is: the tar crate's own setters refuse hostile ones.
fn entry(name: &str, kind: EntryType, link: &str, content: &[u8]) -> (Header, Vec<u8>) {
    let mut header = Header::new_ustar();
    let old = header.as_old_mut();
    old.name[..name.len()].copy_from_slice(name.as_bytes());
    old.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    (header, content.to_vec())
}

fn pack(entries: &[(Header, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (header, content) in entries {
        builder.append(header, content.as_slice()).unwrap();
    }
    zstd::encode_all(builder.into_inner().unwrap().as_slice(), 3).unwrap()
}

/// Submits a run with each hostile bundle; answers their jobs.
pub async fn submit_all(world: &World) -> Vec<(Hostile, String)> {
    let mut jobs = Vec::new();
    for hostile in all() {
        let sha256 = upload(world, &hostile.bytes).await;
        jobs.push((hostile, submit(world, &sha256, "tests/passes.spec.js").await));
    }
    jobs
}

/// Submits a file that the bundle does not hold, which the command line would not do.
pub async fn submit_unlisted_test(world: &World) -> String {
    let project = Project::new();
    let mut packed = qgjob::bundle::collect(project.dir()).unwrap().pack().unwrap();
    let mut bytes = Vec::new();
    std::io::copy(&mut packed.file, &mut bytes).unwrap();
    submit(world, &upload(world, &bytes).await, "tests/pases.spec.js").await
}

fn call(world: &World, method: Method, path: &str) -> RequestBuilder {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    client.request(method, format!("{}/api/v1/{path}", world.url())).bearer_auth(world.token())
}

async fn answer(request: RequestBuilder) -> Value {
    let answer = request.send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert!(status.is_success(), "{status}: {text}");
    serde_json::from_str(&text).unwrap()
}

async fn upload(world: &World, bytes: &[u8]) -> String {
    let sha256: String = sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let new = json!({
        "org_id": "qualgent", "kind": "bundle", "size_bytes": bytes.len(), "sha256": sha256,
    });
    let begun = answer(call(world, Method::POST, "uploads").json(&new)).await;
    // Another case may have sent the same bytes.
    if let Some(id) = begun["upload_id"].as_str() {
        let piece = call(world, Method::PATCH, &format!("uploads/{id}")).header("upload-offset", 0);
        answer(piece.body(bytes.to_vec())).await;
        answer(call(world, Method::POST, &format!("uploads/{id}/complete"))).await;
    }
    sha256
}

async fn submit(world: &World, sha256: &str, test: &str) -> String {
    let run = json!({
        "org_id": "qualgent", "app_version_id": "xyz123", "bundle_sha256": sha256, "tests": [test],
    });
    let key = format!("refusal-{sha256}-{test}").chars().take(64).collect::<String>();
    let made = answer(call(world, Method::POST, "runs").header("idempotency-key", key).json(&run)).await;
    made["job_id"].as_str().unwrap().to_owned()
}

/// Checks that no bundle left anything where it should not, nor a half of itself where it should.
pub fn nothing_escaped() {
    let kept = test_cache().join("agent/projects");
    assert!(kept.is_dir(), "{}", kept.display());
    for (root, depth) in [(kept, 4), (std::env::temp_dir(), 1)] {
        find(&root, depth, &|name| assert!(!name.contains(&mark()), "{name} in {}", root.display()));
    }
    for hostile in all() {
        let sha256: String =
            sha2::Sha256::digest(&hostile.bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let unpacked = test_cache().join("agent/projects/bundles").join(sha256);
        assert!(!unpacked.exists(), "{}: {}", hostile.what, unpacked.display());
    }
}

fn find(dir: &Path, depth: u32, check: &dyn Fn(&str)) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.filter_map(Result::ok) {
        check(&entry.file_name().to_string_lossy());
        if depth > 1 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            find(&entry.path(), depth - 1, check);
        }
    }
}
