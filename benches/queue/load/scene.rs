//! What the load needs to be there: a project, an app, and labels.

use std::io::Result;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::http::{Caller, Connection};

/// How many labels the load makes where none were made for it: as many groups.
const LABELS: usize = 20;
/// The tenant.
pub const ORG: &str = "bench";

/// A server that is ready for load.
pub struct Scene {
    /// An admin.
    pub admin: Caller,
    /// The project, as uploaded.
    pub bundle: String,
    /// The app that the devices have.
    pub app: Option<String>,
    /// How many labels the jobs are spread over: `v0`, `v1` and so on.
    labels: usize,
}

impl Scene {
    /// Uploads and binds what is needed; what is there already stays.
    pub async fn set(address: &str, token: &str) -> Result<Self> {
        let admin = Caller::new(address, token);
        let mut connection = admin.connect().await?;
        let bundle = upload(&mut connection, "bundle", b"a project").await?;
        let app_bytes = b"an app";
        let app = upload(&mut connection, "app", app_bytes).await?;
        for label in 0..LABELS {
            let build = json!({"sha256": app, "size_bytes": app_bytes.len(), "platform": "android",
                "app_id": "dev.qgjob.bench", "version_name": "1.0", "version_code": "1"});
            let body = json!({"org_id": ORG, "app_version_id": format!("v{label}"), "build": build});
            connection.post::<Value>("/api/v1/app-versions", body.to_string().as_bytes()).await?;
        }
        Ok(Self { admin, bundle, app: Some(app), labels: LABELS })
    }

    /// What `scale-store` put into a store: as many labels, none of whose builds a device has.
    pub fn found(address: &str, token: &str, labels: usize) -> Self {
        Self { admin: Caller::new(address, token), bundle: "07".repeat(32), app: None, labels }
    }

    /// The body of a submit of `tests` jobs; `number` makes it differ from others.
    pub fn run(&self, number: usize, tests: usize) -> String {
        let first = number * tests;
        let tests: Vec<String> = (first..first + tests).map(|at| format!("{:?}", test_path(at))).collect();
        format!(
            r#"{{"org_id":"{ORG}","app_version_id":"v{}","bundle_sha256":"{}","tests":[{}],"priority":{},
            "labels":{{"branch":"main","commit":"3f9a1c0b7d"}},"env":{{"LOCALE":"en_GB"}}}}"#,
            number % self.labels,
            self.bundle,
            tests.join(","),
            1 + number * 7 % 10
        )
    }
}

/// The test of the job with this number.
pub fn test_path(number: usize) -> String {
    format!("suite/login/{number}.spec.js")
}

/// The number of the job with this test.
pub fn number_of(test: &str) -> usize {
    let name = test.rsplit('/').next().unwrap_or(test);
    name.split('.').next().and_then(|number| number.parse().ok()).expect("a test of this load")
}

async fn upload(connection: &mut Connection, kind: &str, bytes: &[u8]) -> Result<String> {
    let sha256: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let body = json!({"org_id": ORG, "kind": kind, "size_bytes": bytes.len(), "sha256": sha256});
    let begun: Value = connection.post("/api/v1/uploads", body.to_string().as_bytes()).await?;
    if let Some(id) = begun["upload_id"].as_str() {
        let path = format!("/api/v1/uploads/{id}");
        let headers = "content-type: application/octet-stream\r\nupload-offset: 0\r\n";
        connection.call("PATCH", &path, headers, bytes).await?;
        connection.call("POST", &format!("{path}/complete"), "", b"").await?;
    }
    Ok(sha256)
}
