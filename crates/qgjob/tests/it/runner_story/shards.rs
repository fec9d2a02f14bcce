//! Shards of real files: together they run each test once.

use std::collections::BTreeMap;

use qgjob::agent::runner::Finished;
use qgjob_core::model::attempt::Outcome;
use qgjob_core::model::evidence::Report;
use qgjob_core::model::job::Reason;
use qgjob_core::model::shard::{Shard, Shards};
use qgjob_core::queue::shards::{File, Room, split, units};

use super::scene::Scene;

const FILE: &str = "tests/long.spec.js";
const LONG: &str = r#"const { test, expect } = require("appwright");
    test.describe("outer", () => {
      test("inner", async () => {});
      test.describe.serial("order", () => {
        let paid = false;
        test("pays", async () => { paid = true; });
        test("arrives", async () => { expect(paid).toBe(true); });
      });
    });
    test("a › b", async () => {});
    test("[id] > #1", async () => {});
    test("second", async () => {});
    test.skip("later", async () => {});"#;

/// The titles of the tests that ran, or that the suite skipped, with how often.
fn ran<'a>(done: impl IntoIterator<Item = &'a Finished>) -> BTreeMap<String, u32> {
    let mut ran = BTreeMap::new();
    for one in done.into_iter().flat_map(|done| &done.tries) {
        *ran.entry(one.title.join("/")).or_default() += 1;
    }
    ran
}

/// The shards of a file that ran as a whole.
fn shards(whole: &Finished, parts: u32) -> Vec<Shard> {
    let file = File { predicted_ms: 60_000, units: units(&whole.tries) };
    let room = Room { install_ms: 0, devices: 1, most_jobs: 1_000 };
    let parts = split(Shards::AtMost(parts), &[file], room).remove(0);
    parts.into_iter().map(|part| part.shard.unwrap()).collect()
}

async fn run(scene: &Scene, shard: &Shard, playwright: Option<&str>) -> Finished {
    let change = |plan: &mut qgjob::agent::runner::Plan| {
        plan.shard = Some(shard.clone());
        if let Some(version) = playwright {
            plan.project.playwright = Some(version.to_owned());
        }
    };
    scene.run(FILE, change).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shards_of_a_file_run_each_test_once_and_serial_suites_whole() {
    let scene = Scene::of(&[(FILE, LONG)]).await;
    let whole = scene.run(FILE, |_| {}).await;
    let order = vec!["outer".to_owned(), "order".to_owned()];
    let found = units(&whole.tries);
    assert_eq!(found.len(), 6, "{found:?}");
    assert!(found.iter().any(|unit| unit.titles == order), "the serial suite is one: {found:?}");
    for parts in [2, 3, 6] {
        let shards = shards(&whole, parts);
        assert_eq!(shards.len(), parts as usize);
        let mut done = Vec::new();
        for shard in &shards {
            let finished = run(&scene, shard, None).await;
            let judged = scene.judge_shard(FILE, Some(shard), &finished, None);
            assert!(matches!(judged.outcome, Outcome::Passed | Outcome::Skipped), "{shard:?}: {judged:?}");
            let pays = ran([&finished]).contains_key("outer/order/pays");
            assert_eq!(ran([&finished]).contains_key("outer/order/arrives"), pays, "{shard:?}");
            done.push(finished);
        }
        assert_eq!(ran(&done), ran([&whole]), "{parts} shards");
        assert!(ran([&whole]).values().all(|times| *times == 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_tests_another_file_wrote_stays_whole() {
    let shared = r#"exports.tests = () => { require("appwright").test("shared", async () => {}); };"#;
    let scene = Scene::of(&[
        ("tests/shared.js", shared),
        (FILE, r#"require("./shared.js").tests(); require("appwright").test("own", async () => {});"#),
    ])
    .await;
    let whole = scene.run(FILE, |_| {}).await;
    assert_eq!(whole.tries.len(), 2);
    assert_eq!(units(&whole.tries), [], "no list can name them all");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_shard_runs_what_nobody_knew_of_and_the_others_what_is_left_of_theirs() {
    let before = Scene::of(&[(FILE, LONG)]).await;
    let shards = shards(&before.run(FILE, |_| {}).await, 2);
    let now = r#"const { test } = require("appwright");
        test("new", async () => {});
        test("second, renamed", async () => {});"#;
    let scene = Scene::of(&[(FILE, now)]).await;
    let gone = run(&scene, &shards[0], None).await;
    let judged = scene.judge_shard(FILE, Some(&shards[0]), &gone, None);
    assert_eq!((judged.outcome, judged.reason), (Outcome::Skipped, Reason::NoTests), "{judged:?}");
    let last = run(&scene, &shards[1], None).await;
    assert_eq!(scene.judge_shard(FILE, Some(&shards[1]), &last, None).outcome, Outcome::Passed);
    assert_eq!(ran([&gone, &last]).into_keys().collect::<Vec<_>>(), ["new", "second, renamed"]);

    let empty = Scene::of(&[(FILE, "require('appwright');")]).await;
    for shard in &shards {
        let done = run(&empty, shard, None).await;
        let judged = empty.judge_shard(FILE, Some(shard), &done, None);
        assert_ne!(judged.outcome, Outcome::Passed, "{shard}: {judged:?}");
        assert_eq!(judged.reason, Reason::NoTests);
    }
    let broken = Scene::of(&[(FILE, "require('appwright'); throw new Error('while loading');")]).await;
    for shard in &shards {
        let done = run(&broken, shard, None).await;
        let judged = broken.judge_shard(FILE, Some(shard), &done, None);
        assert_eq!(
            (judged.outcome, judged.reason),
            (Outcome::Failed, Reason::LoadError),
            "{shard}: {judged:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_playwright_without_test_lists_runs_the_whole_file_in_the_last_shard() {
    let scene = Scene::of(&[(FILE, LONG)]).await;
    let whole = scene.run(FILE, |_| {}).await;
    let shards = shards(&whole, 2);
    let first = run(&scene, &shards[0], Some("1.55.1")).await;
    assert_eq!(first.report, Report::Read { tests: vec![], errors: vec![] });
    let judged = scene.judge_shard(FILE, Some(&shards[0]), &first, None);
    assert_eq!((judged.outcome, judged.reason), (Outcome::Skipped, Reason::NoTests), "{judged:?}");
    let last = run(&scene, &shards[1], Some("1.55.1")).await;
    assert_eq!(ran([&last]), ran([&whole]));
    assert_eq!(scene.judge_shard(FILE, Some(&shards[1]), &last, None).outcome, Outcome::Passed);
}
