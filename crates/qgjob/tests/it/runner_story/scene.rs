//! A project, prepared as the agent does it, and a runner for its files.

use std::collections::BTreeMap;
use std::fs;
use std::io::copy;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use qgjob::agent::runner::{
    AppWright, AttemptDir, Finished, Plan, PlaywrightProject, Running, Setting, Tools, Wish,
};
use qgjob::agent::workspace::{Cache, Error, Project, Settings, Workspace};
use qgjob::bundle;
use qgjob_core::model::evidence::{Evidence, Stop};
use qgjob_core::model::rerun::NamedTest;
use qgjob_core::model::selector::{Platform, Target};
use qgjob_core::model::shard::Shard;
use qgjob_core::queue::verdict::{Asked, Judgement, judge};

/// The example's packages, so that all tests share one installation.
const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/appwright-demo");

pub const CONFIG: &str = r#"
import { defineConfig, Platform } from "appwright";
const buildPath = process.env.QGJOB_APP;
export default defineConfig({
  projects: [
    { name: "an emulator", use: { platform: Platform.ANDROID, device: { provider: "emulator" }, buildPath } },
    { name: "a device", use: { platform: Platform.ANDROID, device: { provider: "local-device", udid: process.env.QGJOB_UDID }, buildPath } },
  ],
});
"#;

/// Where packages stay between runs of the tests.
pub fn test_cache() -> PathBuf {
    match std::env::var_os("QGJOB_TEST_CACHE") {
        Some(dir) => dir.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-cache"),
    }
}

pub struct Scene {
    pub home: tempfile::TempDir,
    pub project: Project,
    workspaces: std::sync::Mutex<Vec<Workspace>>,
    count: AtomicU32,
}

/// Writes a project with these files to `dir`.
pub fn write(dir: &Path, files: &[(&str, &str)]) {
    for (name, content) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

/// Packs the project in `dir` and prepares it, as submit and agent would.
pub async fn prepare(cache: &Cache, dir: &Path) -> Result<Project, Error> {
    let mut packed = bundle::collect(dir).unwrap().pack().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    copy(&mut packed.file, &mut file.as_file()).unwrap();
    cache.prepare(packed.sha256, file.path()).await
}

impl Scene {
    /// A project of these files, with AppWright installed.
    pub async fn of(files: &[(&str, &str)]) -> Scene {
        let home = tempfile::tempdir().unwrap();
        let source = home.path().join("source");
        fs::create_dir(&source).unwrap();
        for name in ["package.json", "package-lock.json", ".npmrc"] {
            fs::copy(Path::new(EXAMPLE).join(name), source.join(name)).unwrap();
        }
        write(&source, &[("appwright.config.ts", CONFIG)]);
        write(&source, files);
        let cache = Cache::open(&test_cache(), Settings::default()).await.unwrap();
        let project = prepare(&cache, &source).await.unwrap();
        Scene { home, project, workspaces: std::sync::Mutex::default(), count: AtomicU32::new(0) }
    }

    /// A fresh working copy, in which `test` can be run.
    pub async fn setting(&self, test: &str) -> (Setting, AttemptDir) {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let at = |what: &str| self.home.path().join(format!("{what}-{number}"));
        let workspace = self.project.working_copy(&at("work"), &test.parse().unwrap()).await.unwrap();
        // AppWright wants an ANDROID_HOME, but without a device looks into it for nothing.
        let env = BTreeMap::from([("ANDROID_HOME".to_owned(), self.home.path().display().to_string())]);
        let setting = Setting {
            workspace: workspace.dir().to_owned(),
            tools: Tools { env, ..Tools::host() },
            env: BTreeMap::new(),
            udid: "SERIAL".to_owned(),
            app_id: "dev.qgjob.demo".to_owned(),
            app: Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/demo.apk"),
        };
        self.workspaces.lock().unwrap().push(workspace);
        (setting, AttemptDir::create(&at("attempt")).unwrap())
    }

    pub async fn plan(&self, test: &str) -> Plan {
        let (setting, dir) = self.setting(test).await;
        let project =
            AppWright::project(&setting, &wish(Target::Device), self.project.notes(), &dir).await.unwrap();
        assert_eq!(project.name, "a device");
        Plan {
            setting,
            test: test.parse().unwrap(),
            shard: None,
            only: vec![],
            project,
            gateway_port: 9,
            timeout: Duration::from_secs(60),
            test_retries: 0,
            dir,
            records: None,
        }
    }

    /// Starts the tests of a file; `change` may alter the plan.
    pub fn start(&self, test: &str, change: impl FnOnce(&mut Plan)) -> Running {
        let mut plan =
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(self.plan(test)));
        change(&mut plan);
        AppWright::start(plan).unwrap()
    }

    pub async fn run(&self, test: &str, change: impl FnOnce(&mut Plan)) -> Finished {
        self.start(test, change).wait().await.unwrap()
    }

    /// What the server would make of it.
    pub fn judge(&self, test: &str, done: &Finished, stopped: Option<Stop>) -> Judgement {
        self.judge_shard(test, None, done, stopped)
    }

    /// The same of a shard.
    pub fn judge_shard(
        &self,
        test: &str,
        shard: Option<&Shard>,
        done: &Finished,
        stopped: Option<Stop>,
    ) -> Judgement {
        self.judge_named(test, shard, &[], done, stopped)
    }

    /// The same of a job that names tests.
    pub fn judge_named(
        &self,
        test: &str,
        shard: Option<&Shard>,
        only: &[NamedTest],
        done: &Finished,
        stopped: Option<Stop>,
    ) -> Judgement {
        let evidence = Evidence {
            stopped,
            fault: None,
            exit: Some(done.exit),
            selected: done.selected,
            report: done.report.clone(),
        };
        let asked = Asked { test: &test.parse().unwrap(), shard, only };
        judge(asked, &evidence, &done.tries, stopped == Some(Stop::Cancelled))
    }
}

pub fn wish(kind: Target) -> Wish {
    Wish { platform: Platform::Android, kind, model: "Pixel 7".to_owned() }
}

pub async fn project_for(scene: &Scene, test: &str, kind: Target) -> Result<PlaywrightProject, String> {
    let (setting, dir) = scene.setting(test).await;
    let found = AppWright::project(&setting, &wish(kind), scene.project.notes(), &dir).await;
    found.map_err(|error| error.to_string())
}

/// Whether a process runs, zombies not counted.
pub fn alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z')))
}
