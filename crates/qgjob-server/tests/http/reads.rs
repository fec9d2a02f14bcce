//! Reading: pages, ETags, long-polls, explain.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::{Caller, Expect, World, new_app_version, one_try};

#[tokio::test]
async fn a_walk_sees_each_run_once_while_others_are_made() {
    let world = World::new().await;
    let member = world.member("own").await;
    let mut before = BTreeSet::new();
    for _ in 0..25 {
        before.insert(member.submit("own", &["a.spec.js"]).await["run_id"].as_str().unwrap().to_owned());
    }
    let (mut seen, mut next) = (Vec::new(), Some("/api/v1/runs?limit=4".to_owned()));
    while let Some(path) = next {
        let reply = member.get(&path).await;
        let link = reply.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
        let page: Value = reply.ok().await;
        seen.extend(
            page["items"].as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap().to_owned()),
        );
        member.submit("own", &["b.spec.js"]).await;
        next = link.map(|link| link.split('>').next().unwrap().trim_start_matches('<').to_owned());
        assert_eq!(next.is_some(), page["next_cursor"].is_string());
    }
    let distinct: BTreeSet<_> = seen.iter().cloned().collect();
    assert_eq!(distinct.len(), seen.len(), "no run is seen twice");
    assert!(before.is_subset(&distinct), "no run that was there is missed");
}

#[tokio::test]
async fn a_walk_over_the_jobs_of_a_run_keeps_their_order() {
    let world = World::new().await;
    let member = world.member("own").await;
    let names: Vec<String> = (0..23).map(|at| format!("{at}.spec.js")).collect();
    let made = member.submit("own", &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let path = format!("/api/v1/jobs?run_id={}&limit=5", made["run_id"].as_str().unwrap());
    let seen: Vec<Value> = walk(&member, &path).await.into_iter().map(|job| job["test"].clone()).collect();
    assert_eq!(seen, names);
}

/// The items of all pages from `path` on.
async fn walk(caller: &Caller, path: &str) -> Vec<Value> {
    let (mut items, mut cursor) = (Vec::new(), String::new());
    loop {
        let page: Value = caller.get(&format!("{path}{cursor}")).await.ok().await;
        items.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={}", next.replace('+', "%2B")),
            None => return items,
        }
    }
}

#[tokio::test]
async fn every_long_list_comes_in_pages() {
    let world = World::new().await;
    let running = world.running("own").await;
    let member = world.member("own").await;
    let digest = member.upload("own", "app", b"app").await;
    let labels: Vec<String> = (0..5).map(|at| format!("feature/x+{at}")).collect();
    for label in &labels {
        let body = new_app_version("own", label, &digest, 3);
        member.post("/api/v1/app-versions", &body).await.status_is(StatusCode::CREATED).await;
        world.agent(label.split('/').next_back().unwrap()).await;
    }
    let listed = walk(&member, "/api/v1/app-versions?limit=2").await;
    let mut bound: Vec<&str> = listed
        .iter()
        .filter_map(|view| view["app_version_id"].as_str())
        .filter(|id| id.contains('+'))
        .collect();
    bound.sort_unstable();
    assert_eq!(bound, labels);
    let (job, run) = (running.lease.job_id, &running.run);
    let tries: Vec<Value> = (1..=3).map(|seq| one_try(seq, &format!("t{seq}"))).collect();
    let tries = json!({"epoch": running.lease.epoch, "tries": tries});
    let told = running.agent.caller.post(&running.attempt("/tests"), &tries).await;
    told.status_is(StatusCode::NO_CONTENT).await;
    for (path, at_least) in [
        ("agents".to_owned(), 6),
        ("devices".to_owned(), 6),
        ("tokens".to_owned(), 6),
        (format!("jobs/{job}/attempts"), 1),
        (format!("jobs/{job}/tests"), 3),
        (format!("jobs/{job}/artifacts"), 0),
        (format!("runs/{run}/tests"), 3),
        (format!("runs/{run}/artifacts"), 0),
    ] {
        let whole: Value = world.admin.get(&format!("/api/v1/{path}?limit=200")).await.ok().await;
        let paged = walk(&world.admin, &format!("/api/v1/{path}?limit=1")).await;
        assert_eq!(whole["items"], Value::Array(paged.clone()), "{path}");
        assert!(paged.len() >= at_least, "{path}: {}", paged.len());
    }
}

#[tokio::test]
async fn a_cursor_belongs_to_its_filters() {
    let world = World::new().await;
    let member = world.member("own").await;
    for _ in 0..3 {
        member.submit("own", &["a.spec.js"]).await;
    }
    let page: Value = member.get("/api/v1/runs?limit=1&status=queued").await.ok().await;
    let cursor = page["next_cursor"].as_str().unwrap();
    member
        .get(&format!("/api/v1/runs?limit=2&status=queued&cursor={cursor}"))
        .await
        .status_is(StatusCode::OK)
        .await;
    for path in [
        format!("/api/v1/runs?cursor={cursor}"),
        format!("/api/v1/runs?status=running&cursor={cursor}"),
        format!("/api/v1/jobs?status=queued&cursor={cursor}"),
        "/api/v1/runs?cursor=nonsense".to_owned(),
    ] {
        member.get(&path).await.problem("invalid_cursor").await;
    }
}

#[tokio::test]
async fn what_has_not_changed_is_not_sent_again() {
    let world = World::new().await;
    let member = world.member("own").await;
    let made = member.submit("own", &["a.spec.js"]).await;
    let job = made["job_id"].as_str().unwrap();
    for path in [format!("/api/v1/jobs/{job}"), format!("/api/v1/runs/{}", made["run_id"].as_str().unwrap())]
    {
        let tag = member.get(&path).await.headers()["etag"].to_str().unwrap().to_owned();
        let again = async |tag: &str| {
            member.request(Method::GET, &path).header("if-none-match", tag).send().await.unwrap()
        };
        let reply = again(&tag).await;
        assert_eq!(reply.headers()["etag"].to_str().unwrap(), tag);
        assert_eq!(reply.status_is(StatusCode::NOT_MODIFIED).await, "");
        again(&format!("\"other\", W/{tag}")).await.status_is(StatusCode::NOT_MODIFIED).await;
        again("\"other\"").await.status_is(StatusCode::OK).await;
    }
    let run = format!("/api/v1/runs/{}", made["run_id"].as_str().unwrap());
    let tag = member.get(&run).await.headers()["etag"].to_str().unwrap().to_owned();
    member.post(&format!("/api/v1/jobs/{job}/cancel"), &Value::Null).await.status_is(StatusCode::OK).await;
    let reply = member.request(Method::GET, &run).header("if-none-match", tag).send().await.unwrap();
    reply.status_is(StatusCode::OK).await;
}

#[tokio::test]
async fn a_long_poll_answers_at_once_on_a_change_and_304_at_the_end() {
    let world = World::new().await;
    let member = world.member("own").await;
    let made = member.submit("own", &["a.spec.js"]).await;
    let job = format!("/api/v1/jobs/{}", made["job_id"].as_str().unwrap());
    let run = format!("/api/v1/runs/{}", made["run_id"].as_str().unwrap());
    for path in [&job, &run] {
        let version = member.get(path).await.ok::<Value>().await["version"].as_u64().unwrap();
        let began = Instant::now();
        let reply = member.get(&format!("{path}?wait=300ms&since={version}")).await;
        reply.status_is(StatusCode::NOT_MODIFIED).await;
        assert!(began.elapsed() >= Duration::from_millis(300));
    }
    let waits = [&job, &run].map(|path| {
        let (member, path) = (member.clone(), path.clone());
        tokio::spawn(async move {
            let version = member.get(&path).await.ok::<Value>().await["version"].as_u64().unwrap();
            let reply: Value = member.get(&format!("{path}?wait=30s&since={version}")).await.ok().await;
            reply["conclusion"].as_str().unwrap().to_owned()
        })
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let began = Instant::now();
    member.post(&format!("{job}/cancel"), &Value::Null).await.status_is(StatusCode::OK).await;
    for wait in waits {
        assert_eq!(wait.await.unwrap(), "cancelled");
    }
    assert!(began.elapsed() < Duration::from_secs(10));
    member.get(&format!("{job}?wait=soon")).await.problem("invalid_request").await;
}

#[tokio::test]
async fn a_job_explains_itself_in_every_status() {
    let world = World::new().await;
    let member = world.member("own").await;
    let made = member.submit("own", &["a.spec.js"]).await;
    let code = async |job: &str| {
        let explained: Value = member.get(&format!("/api/v1/jobs/{job}/explain")).await.ok().await;
        explained["reasons"][0]["code"].as_str().unwrap().to_owned()
    };
    let job = made["job_id"].as_str().unwrap();
    let mut why = code(job).await;
    for _ in 0..50 {
        if why == "build_missing" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        why = code(job).await;
    }
    assert_eq!(why, "build_missing");
    let running = world.running("own").await;
    // The agent took the oldest job, which waited for the same build.
    assert_eq!(running.lease.job_id.to_string(), job);
    assert_eq!(code(job).await, "running");
    member.post(&format!("/api/v1/jobs/{job}/cancel"), &Value::Null).await.status_is(StatusCode::OK).await;
    assert_eq!(code(job).await, "ended");
}
