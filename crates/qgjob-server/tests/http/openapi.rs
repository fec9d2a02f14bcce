//! The committed description is the served one.

use qgjob_core::api::problem::Code;
use serde_json::Value;

use crate::world::{Expect, World};

const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");

#[tokio::test]
async fn the_committed_description_is_the_served_one() {
    let world = World::new().await;
    let served: Value = world.nobody().get("/api/v1/openapi.json").await.ok().await;
    let text = qgjob_server::http::openapi::text();
    if std::env::var_os("QGJOB_UPDATE").is_some() {
        std::fs::write(COMMITTED, &text).unwrap();
    }
    assert_eq!(served, serde_json::from_str::<Value>(&text).unwrap());
    let committed = std::fs::read_to_string(COMMITTED).unwrap_or_default();
    assert!(
        committed == text,
        "docs/openapi.json is not what the server serves: run \
         `QGJOB_UPDATE=1 cargo test -p qgjob-server --test http openapi` and look at the difference"
    );
}

#[tokio::test]
async fn every_operation_has_an_id_of_its_own_and_says_how_it_fails() {
    let world = World::new().await;
    let served: Value = world.nobody().get("/api/v1/openapi.json").await.ok().await;
    assert_eq!(served["info"]["title"], "qgjob");
    let mut ids = std::collections::HashSet::new();
    for (path, item) in served["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{method} {path}");
            assert!(operation["responses"]["default"].is_object(), "{method} {path}");
            let declared =
                operation["parameters"].as_array().unwrap().iter().filter(|one| one["in"] == "path").count();
            assert_eq!(declared, path.matches('{').count(), "{method} {path}");
        }
    }
    assert!(ids.len() > 50);
}

#[tokio::test]
async fn every_problem_is_explained_where_its_type_points() {
    let world = World::new().await;
    for code in Code::ALL {
        let shown: Value =
            world.nobody().get(&format!("/api/v1/problems/{}", code.as_str())).await.ok().await;
        assert_eq!(shown["status"], code.status());
    }
    let all: Value = world.nobody().get("/api/v1/problems").await.ok().await;
    assert_eq!(all.as_array().unwrap().len(), Code::ALL.len());
    let problem = world.nobody().get("/api/v1/problems/nonsense").await.problem("not_found").await;
    assert_eq!(problem.kind, "/api/v1/problems/not_found");
}
