//! A test project in a folder of its own, with the example's packages.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::world::{Done, ORG, World, example};

/// An ordinary configuration, which plays a trick on the runner when the job's variables ask for one.
const CONFIG: &str = include_str!("appwright.config.ts");

/// A test that passes without a phone.
pub const PASSES: &str = r#"require("appwright").test("passes", async () => {});"#;
/// One that passes and one that fails.
pub const FAILS: &str = r#"const { test, expect } = require("appwright");
test("passes", async () => {});
test("fails", async () => { expect("left").toBe("right"); });"#;

/// One that passes on its second try.
pub const FLAKY: &str = r#"const { test, expect } = require("appwright");
test.describe.configure({ retries: 1 });
test("is flaky", async ({}, info) => { expect(info.retry).toBe(1); });"#;
/// One that passes, and one that fails and could be hidden.
pub const HIDES: &str = r#"const { test, expect } = require("appwright");
test("passes", async () => {});
test("is kept back", async () => { expect("left").toBe("right"); });"#;

/// Bytes that no packing makes smaller.
pub fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

pub struct Project {
    dir: tempfile::TempDir,
}

impl Project {
    /// A project with one test file, which passes.
    pub fn new() -> Self {
        let project = Self { dir: tempfile::Builder::new().prefix("project-").tempdir().unwrap() };
        for name in ["package.json", "package-lock.json", ".npmrc"] {
            std::fs::copy(example().join(name), project.path(name)).unwrap();
        }
        project.write("appwright.config.ts", CONFIG);
        project.write("tests/passes.spec.js", PASSES);
        project
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Replaces text in a file of the project.
    pub fn replace(&self, name: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.path(name)).unwrap();
        assert!(text.contains(from), "{from:?} in {text}");
        self.write(name, &text.replace(from, to));
    }

    /// Runs the command line here, without a server.
    pub async fn qgjob(&self, args: &[&str]) -> Done {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qgjob"));
        command.args(args).current_dir(self.dir()).env("QGJOB_CONFIG_DIR", self.dir());
        super::run(command).await
    }

    /// Runs the command line here, beside the world's server.
    pub async fn qgjob_in(&self, world: &World, args: &[&str]) -> Done {
        let mut command = world.command();
        command.args(args).current_dir(self.dir());
        super::run(command).await
    }

    /// Submits one test and answers the job's id.
    pub async fn submit(&self, world: &World, args: &[&str]) -> String {
        let done = self.qgjob_in(world, &[&["submit", ORG, "-o", "json"], args].concat()).await;
        assert_eq!(done.code, 0, "{done:?}");
        done.json()["job_id"].as_str().unwrap().to_owned()
    }
}
