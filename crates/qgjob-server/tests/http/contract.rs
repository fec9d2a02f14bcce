//! What holds for every route: errors, ids of requests, methods, bodies.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::{Expect, World};

#[tokio::test]
async fn what_is_not_there_is_a_problem() {
    let world = World::new().await;
    for path in [
        "/",
        "/api",
        "/api/v1/nonsense",
        "/agent/v1/nonsense",
        "/api/v2/runs",
        "/api/v1/runs/",
        "//api/v1/runs",
    ] {
        world.nobody().get(path).await.problem("not_found").await;
    }
    let reply = world.nobody().request(Method::PUT, "/api/v1/runs").send().await.unwrap();
    assert!(reply.headers().contains_key("allow"));
    reply.problem("method_not_allowed").await;
    for path in [
        "/api/v1/runs/x",
        "/api/v1/jobs/x",
        "/api/v1/devices/x",
        "/api/v1/agents/x",
        "/api/v1/artifacts/x/content",
        "/api/v1/uploads/x",
    ] {
        world.admin.get(path).await.problem("not_found").await;
    }
}

#[tokio::test]
async fn a_problem_names_the_path_of_its_request() {
    let world = World::new().await;
    let problem = world.admin.get("/api/v1/runs?limit=0").await.problem("invalid_request").await;
    assert_eq!(problem.instance.as_deref(), Some("/api/v1/runs"));
    let problem = world.nobody().get("/nonsense/%0A").await.problem("not_found").await;
    assert_eq!(problem.instance.as_deref(), Some("/nonsense/%0A"));
}

#[tokio::test]
async fn what_the_caller_cannot_read_is_not_sent() {
    let world = World::new().await;
    let running = world.running("own").await;
    let (job, lease) = (format!("/api/v1/jobs/{}", running.job), &running.lease);
    let ask = async |path: &str, accept: &str| {
        running.member.request(Method::GET, path).header("accept", accept).send().await.unwrap()
    };
    for (path, accept) in [
        ("/api/v1/runs".to_owned(), "application/xml"),
        ("/api/v1/runs".to_owned(), "text/html, application/json;q=0"),
        (job.clone(), "text/event-stream"),
        (format!("{job}/events"), "application/json"),
        (format!("{job}/logs"), "application/json"),
    ] {
        ask(&path, accept).await.problem("not_acceptable").await;
    }
    let agent = running.agent.caller.request(Method::POST, &running.attempt("/renew"));
    let renewal = agent.header("accept", "application/xml").json(&json!({"epoch": lease.epoch}));
    renewal.send().await.unwrap().problem("not_acceptable").await;
    for (path, accept) in [
        ("/api/v1/runs".to_owned(), "application/json"),
        ("/api/v1/runs".to_owned(), "text/html, */*;q=0.1"),
        ("/api/v1/openapi.json".to_owned(), "application/*"),
        (format!("{job}/events"), "text/event-stream"),
        (format!("{job}/logs"), "text/plain"),
        ("/livez".to_owned(), "application/xml"),
    ] {
        ask(&path, accept).await.error_for_status().unwrap();
    }
}

#[tokio::test]
async fn a_request_keeps_its_id_or_gets_one() {
    let world = World::new().await;
    let send = async |id: &str| {
        let request = world.nobody().request(Method::GET, "/nonsense").header("x-request-id", id);
        request.send().await.unwrap()
    };
    assert_eq!(send("from-the-client").await.headers()["x-request-id"], "from-the-client");
    for bad in ["", "two words", &"x".repeat(129)] {
        assert!(send(bad).await.headers()["x-request-id"].to_str().unwrap().starts_with("req_"), "{bad}");
    }
    assert!(
        world.nobody().get("/livez").await.headers()["x-request-id"].to_str().unwrap().starts_with("req_")
    );
}

#[tokio::test]
async fn bodies_must_be_json_and_say_so() {
    let world = World::new().await;
    let send = async |media_type: &str, body: &str| {
        let request = world.admin.request(Method::POST, "/api/v1/tokens").header("content-type", media_type);
        request.body(body.to_owned()).send().await.unwrap()
    };
    send("text/plain", "{}").await.problem("unsupported_media_type").await;
    send("application/jsonx", "{}").await.problem("unsupported_media_type").await;
    for bad in ["", "{", "{}{}", "\u{0}", "[1,]"] {
        send("application/json", bad).await.problem("malformed_body").await;
    }
    let deep = "[".repeat(10_000);
    send("application/json", &deep).await.problem("malformed_body").await;
    let problem =
        send("application/json; charset=utf-8", r#"{"kind": "api"}"#).await.problem("invalid_request").await;
    assert_eq!(problem.errors[0].pointer, "/name");
}

#[tokio::test]
async fn unknown_parameters_are_refused() {
    let world = World::new().await;
    for path in [
        "/api/v1/runs?colour=red",
        "/api/v1/jobs?status=sleeping",
        "/api/v1/jobs?run_id=x",
        "/api/v1/runs?limit=201",
        "/api/v1/runs?limit=0",
        "/api/v1/runs?label=x",
    ] {
        world.admin.get(path).await.problem("invalid_request").await;
    }
}

#[tokio::test]
async fn the_server_says_what_it_is_and_how_it_fares() {
    let world = World::with(|config| config.metrics_listen = Some("127.0.0.1:0".parse().unwrap())).await;
    let version: Value = world.nobody().get("/api/v1/version").await.ok().await;
    assert_eq!(version["api"][0], "v1");
    for path in ["/livez", "/readyz", "/healthz"] {
        assert_eq!(world.nobody().get(path).await.status_is(StatusCode::OK).await, "ok\n");
    }
    let verbose: Value = world.nobody().get("/readyz?verbose").await.ok().await;
    let names: Vec<_> =
        verbose["checks"].as_array().unwrap().iter().map(|check| check["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["store", "disk", "draining"]);

    let running = world.running("own").await;
    running.finish().await.status_is(StatusCode::OK).await;
    let text = world.admin.get("/metrics").await.status_is(StatusCode::OK).await;
    for line in [
        "qgjob_jobs_submitted_total{target=\"any\"} 1",
        "qgjob_jobs_completed_total{conclusion=\"passed\"} 1",
        "qgjob_attempts_total{outcome=\"passed\"} 1",
        "qgjob_devices{state=\"idle\",platform=\"android\"} 1",
        "qgjob_agents{state=\"online\"} 1",
        "qgjob_queue_wait_seconds_count 1",
        "qgjob_job_duration_seconds_count 1",
    ] {
        assert!(text.contains(line), "{line} is not in:\n{text}");
    }
    assert!(text.contains(
        "qgjob_http_requests_total{route=\"/agent/v1/attempts/{id}/finish\",method=\"POST\",code=\"200\"} 1"
    ));
    assert!(!text.contains(&running.job) && !text.contains("own"), "no label names a job or an org");
    let open = reqwest::get(format!("{}/metrics", world.metrics_url.as_ref().unwrap())).await.unwrap();
    assert!(open.status_is(StatusCode::OK).await.contains("qgjob_build_info"));
}

#[tokio::test]
async fn a_full_disk_makes_the_server_not_ready() {
    let world = World::with_limits(|limits| limits.disk_free = u64::MAX).await;
    let text = world.nobody().get("/readyz?verbose").await.status_is(StatusCode::SERVICE_UNAVAILABLE).await;
    assert!(text.contains("\"ready\":false") && text.contains("bytes free"), "{text}");
    world.nobody().get("/livez").await.status_is(StatusCode::OK).await;
}
