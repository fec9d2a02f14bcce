//! `kill -9`: what was acknowledged is there afterwards. A child process submits and prints what was accepted; the
//! parent kills it at random moments and opens the same file, again and again.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use qgjob_core::model::run;

use super::*;
use crate::store::conformance::world::key;
use crate::store::{Scope, Submission};

const KILLS: u32 = 24;
const PATH: &str = "QGJOB_TEST_CRASH_STORE";
const ROUND: &str = "QGJOB_TEST_CRASH_ROUND";

/// The child's part: without the variable it has nothing to do.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let (Ok(path), Ok(round)) = (std::env::var(PATH), std::env::var(ROUND)) else { return };
    let store = Arc::new(Sqlite::open(Path::new(&path), Rules::default()).unwrap());
    let mut world = World::new(store.clone()).await;
    // Ids are drawn anew in each process: another hour for each round keeps them apart.
    world.wait(3600 * round.parse::<i64>().unwrap());
    for number in 0.. {
        let mut submits = tokio::task::JoinSet::new();
        for lane in 0..8 {
            let text = format!("{round}-{number}-{lane}");
            let submission = Submission { key: key(&text, 1), ..world.submission(5, |_| ()) };
            let (store, now) = (Arc::clone(&store), world.now);
            submits.spawn(async move {
                let accepted = store.submit(now, vec![submission]).await.unwrap().remove(0).unwrap();
                // One write per line: what the parent reads is whole.
                std::io::stdout().write_all(format!("accepted {}\n", accepted.run.id).as_bytes()).unwrap();
            });
        }
        submits.join_all().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("qgjob.db");
    let mut acknowledged: Vec<run::Id> = Vec::new();
    for round in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::sqlite::tests::crash::child", "--nocapture"])
            .env(PATH, &path)
            .env(ROUND, round.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let before = acknowledged.len();
        // A different number of lines each time, and some microseconds: the kill falls into any part of a commit.
        let lines = 1 + (round as usize * 37) % 90;
        let mut output = output.lines().map_while(std::io::Result::ok);
        let accepted =
            |line: String| line.strip_prefix("accepted ").and_then(|id| id.parse::<run::Id>().ok());
        acknowledged.extend(output.by_ref().filter_map(accepted).take(lines));
        std::thread::sleep(Duration::from_micros(u64::from(round) * 137 % 2000));
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged.extend(output.filter_map(accepted));
        assert!(acknowledged.len() >= before + lines, "the child worked");

        let store = fresh(&folder);
        for id in &acknowledged[before..] {
            let (run, _) = store.run(&Scope::All, *id).await.unwrap().expect("I1: an accepted run exists");
            assert_eq!(run.jobs.queued, 5, "whole");
        }
        drop(store);
    }
    let store: Arc<dyn Store> = Arc::new(fresh(&folder));
    for id in &acknowledged {
        assert!(store.run(&Scope::All, *id).await.unwrap().is_some(), "I1: and goes on to exist");
    }
    // The whole history is sound, whatever was cut.
    conformance::history::check(&*store).await;
}
