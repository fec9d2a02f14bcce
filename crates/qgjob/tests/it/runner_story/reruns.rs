//! Reruns of real files: what failed runs again, and what must run with it, and nothing else.

use std::collections::BTreeSet;

use qgjob::agent::runner::{Finished, Plan};
use qgjob_core::model::attempt::Outcome;
use qgjob_core::model::job::{Job, Reason};
use qgjob_core::model::rerun::NamedTest;
use qgjob_core::model::test_result::Counts;
use qgjob_core::queue::reruns::{again, settle};
use qgjob_core::queue::verdict::Judgement;
use serde_json::json;

use super::scene::Scene;

const FILE: &str = "tests/long.spec.js";
/// `FAIL` names the tests that fail, and `SKIP` those that the suite skips.
const LONG: &str = r#"const { test } = require("appwright");
    const named = (variable, name) => (process.env[variable] || "").split(",").includes(name);
    const check = (name) => { if (named("FAIL", name)) throw new Error("asked to"); };
    test("plain", async () => { test.skip(named("SKIP", "plain")); check("plain"); });
    for (const n of [1, 10, 100]) test(`costs ${n}`, async () => check(`costs ${n}`));
    test.describe("outer", () => {
      test("a › b", async () => check("a › b"));
      test("tagged (v1.0)", { tag: ["@slow", "@ui"] }, async () => check("tagged"));
      test("plain", async () => check("outer plain"));
    });
    test.describe.serial("order", () => {
      test("pays", async () => check("pays"));
      test("arrives", async () => check("arrives"));
      test("thanks", async () => check("thanks"));
    });
    test.describe("hooked", () => {
      test.beforeAll(async () => check("hook"));
      test("one", async () => {});
      test("two", async () => {});
    });
    test.skip("later", async () => {});"#;
const ALL: u32 = 13;

/// The attempt's job, as the server has it then.
fn job(judged: &Judgement) -> Job {
    let conclusion = judged.conclusion();
    let id = "01kb4x9tpz0000000000000000";
    let job = json!({
        "id": format!("job_{id}"), "run_id": format!("run_{id}"), "org_id": "acme", "app_version_id": "v1", "test": FILE,
        "bundle_sha256": "0".repeat(64), "platform": null, "target": "any", "selector": {}, "priority": 5, "timeout_ms": 1,
        "infra_retries": 0, "test_retries": 0, "reset": "none", "env": {}, "status": "completed", "conclusion": conclusion,
        "reason": judged.reason, "detail": null, "phase": null, "attempts": 1, "infra_faults": 0, "avoid": [],
        "not_before": null, "promoted_at": null, "queue_deadline": "2026-11-28T12:00:00Z", "predicted_ms": 1,
        "device_id": null, "tests": judged.tests, "created_at": "2026-11-28T10:00:00Z", "started_at": null,
        "finished_at": null, "version": 1
    });
    serde_json::from_value(job).unwrap()
}

fn set(plan: &mut Plan, name: &str, value: &str) {
    plan.setting.env.insert(name.parse().unwrap(), value.to_owned());
}

fn ran(done: &Finished) -> BTreeSet<String> {
    done.tries.iter().map(|one| one.title.join("/")).collect()
}

async fn repeat(scene: &Scene, only: &[NamedTest], change: impl FnOnce(&mut Plan)) -> (Finished, Judgement) {
    let done = scene
        .run(FILE, |plan| {
            plan.only = only.to_vec();
            change(plan);
        })
        .await;
    let judged = scene.judge_named(FILE, None, only, &done, None);
    (done, judged)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_runs_again_with_what_must_and_nothing_else() {
    let scene = Scene::of(&[(FILE, LONG)]).await;
    let order = ["order/pays", "order/arrives", "order/thanks"];
    for (fail, wanted) in [
        ("plain", &["plain"][..]),
        ("costs 10", &["costs 10"]),
        ("costs 1,costs 100", &["costs 1", "costs 100"]),
        ("a › b", &["outer/a › b"]),
        ("tagged", &["outer/tagged (v1.0)"]),
        ("arrives", &order),
        ("hook", &["hooked/one", "hooked/two"]),
        ("a › b,costs 1,pays", &["costs 1", "outer/a › b", order[0], order[1], order[2]]),
    ] {
        let whole = scene.run(FILE, |plan| set(plan, "FAIL", fail)).await;
        let judged = scene.judge(FILE, &whole, None);
        assert_eq!((judged.reason, judged.tests.total), (Reason::TestsFailed, ALL), "{fail}: {judged:?}");
        let again = again(&job(&judged), None, &whole.tries).unwrap();
        let wanted: BTreeSet<String> = wanted.iter().map(|title| (*title).to_owned()).collect();
        // A Playwright that has lists of tests, and, as far as the runner knows, one that has not.
        for version in [None, Some("1.55.1")] {
            let told = |plan: &mut Plan| {
                plan.project.playwright = version.map(str::to_owned).or(plan.project.playwright.take())
            };
            let (done, judged) = repeat(&scene, &again.kept.rerun.tests, told).await;
            assert_eq!(ran(&done), wanted, "{fail} {version:?}");
            assert_eq!(judged.outcome, Outcome::Passed, "{fail} {version:?}: {judged:?}");
            let qgjob_core::model::evidence::Report::Read { tests, .. } = &done.report else {
                panic!("{done:?}")
            };
            let settled = settle(&again.kept, &judged, tests, &done.tries).unwrap();
            let all = Counts { total: ALL, passed: ALL - 1, skipped: 1, ..Counts::default() };
            assert_eq!((settled.kept.had, settled.uncarried), (all, Counts::default()), "{fail} {version:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_still_fails_or_is_skipped_or_gone_is_not_green() {
    let scene = Scene::of(&[(FILE, LONG)]).await;
    let whole = scene.run(FILE, |plan| set(plan, "FAIL", "plain,tagged")).await;
    let only = again(&job(&scene.judge(FILE, &whole, None)), None, &whole.tries).unwrap().kept.rerun.tests;
    assert_eq!(only.len(), 2);
    for version in ["1.59.1", "1.55.1"] {
        let with = |name: &'static str, value: &'static str| {
            move |plan: &mut Plan| {
                set(plan, name, value);
                plan.project.playwright = Some(version.to_owned());
            }
        };
        let (_, judged) = repeat(&scene, &only, with("FAIL", "tagged")).await;
        assert_eq!((judged.reason, judged.tests.total), (Reason::TestsFailed, 2), "{judged:?}");
        let (_, judged) = repeat(&scene, &only, with("SKIP", "plain")).await;
        assert_eq!((judged.outcome, judged.reason), (Outcome::Errored, Reason::TestsMissing), "{judged:?}");
        let mut gone = only.clone();
        (gone[1].title, gone[1].unit) = (vec!["never was".to_owned()], Some(1));
        gone[1].test_id = "never was".to_owned();
        let (_, judged) = repeat(&scene, &gone, with("FAIL", "")).await;
        assert_eq!((judged.outcome, judged.reason), (Outcome::Errored, Reason::TestsMissing), "{judged:?}");
        let (_, judged) = repeat(&scene, &gone[1..], with("FAIL", "")).await;
        assert_eq!((judged.outcome, judged.reason), (Outcome::Errored, Reason::TestsMissing), "{judged:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_tests_cannot_be_told_apart_the_whole_file_runs() {
    let shared = r#"exports.tests = (test) => { test("shared", async () => { if (process.env.FAIL) throw new Error("asked to"); }); };"#;
    let own = r#"const { test } = require("appwright"); require("./shared.js").tests(test); test("own", async () => {});"#;
    let scene = Scene::of(&[("tests/shared.js", shared), (FILE, own)]).await;
    let whole = scene.run(FILE, |plan| set(plan, "FAIL", "shared")).await;
    let again = again(&job(&scene.judge(FILE, &whole, None)), None, &whole.tries).unwrap();
    let only = &again.kept.rerun.tests;
    assert_eq!((only.len(), only[0].unit), (1, None));
    let (done, judged) = repeat(&scene, only, |_| {}).await;
    assert_eq!(ran(&done).len(), 2);
    assert_eq!(judged.outcome, Outcome::Passed, "{judged:?}");
    let qgjob_core::model::evidence::Report::Read { tests, .. } = &done.report else { panic!("{done:?}") };
    let settled = settle(&again.kept, &judged, tests, &done.tries).unwrap();
    assert_eq!((settled.kept.had.total, settled.kept.had.passed, settled.uncarried.passed), (2, 2, 1));
}
