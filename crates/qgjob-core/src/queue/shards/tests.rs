use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::model::test_result::{TestOutcome, TryStatus};

fn a_try(title: &[&str], unit: Option<u32>, retry: u32, duration_ms: u64) -> Try {
    Try {
        seq: 1,
        test_id: title.join("/"),
        title: title.iter().map(|title| (*title).to_owned()).collect(),
        unit,
        file: "tests/a.spec.js".to_owned(),
        line: 1,
        retry,
        status: TryStatus::Passed,
        by_suite: None,
        outcome: TestOutcome::Expected,
        duration_ms,
        error: None,
        files: Vec::new(),
    }
}

fn found(tries: &[Try]) -> Vec<(Vec<&str>, u64)> {
    let units = units(tries).into_iter();
    let leaked = units.map(|unit| {
        let titles = unit.titles.into_iter().map(|title| &*title.leak()).collect();
        (titles, unit.took_ms)
    });
    leaked.collect()
}

fn unit(name: &str, took_ms: u64) -> Unit {
    Unit { titles: vec![name.to_owned()], took_ms }
}

const ROOM: Room = Room { install_ms: 0, devices: 1, most_jobs: 1_000 };

#[test]
fn a_test_is_a_unit_and_so_is_a_serial_suite() {
    let tries = [
        a_try(&["login", "works"], Some(2), 0, 10),
        a_try(&["order", "pays"], Some(1), 0, 20),
        a_try(&["order", "later", "arrives"], Some(1), 0, 30),
        a_try(&["about"], Some(1), 0, 5),
    ];
    assert_eq!(found(&tries), [(vec!["about"], 5), (vec!["login", "works"], 10), (vec!["order"], 50)]);
    let serial = [a_try(&["a"], Some(0), 0, 1), a_try(&["b"], Some(0), 0, 2)];
    assert_eq!(found(&serial), [(vec![], 3)], "a file that is serial is one unit");
}

#[test]
fn what_another_unit_would_select_is_part_of_it() {
    let anonymous = [a_try(&["a"], Some(1), 0, 1), a_try(&["b"], Some(0), 0, 2)];
    assert_eq!(found(&anonymous), [(vec![], 3)], "a serial suite without a title has its parent's");
    let alike =
        [a_try(&["x"], Some(1), 0, 1), a_try(&["x", "y"], Some(2), 0, 2), a_try(&["x y"], Some(1), 0, 4)];
    assert_eq!(found(&alike), [(vec!["x"], 3), (vec!["x y"], 4)]);
}

#[test]
fn a_test_took_what_its_last_try_took() {
    let tries = [a_try(&["a"], Some(1), 1, 7), a_try(&["a"], Some(1), 0, 30_000)];
    assert_eq!(found(&tries), [(vec!["a"], 7)]);
}

#[test]
fn what_must_run_as_one_is_known_of_all_tests_or_the_file_stays_whole() {
    assert_eq!(found(&[a_try(&["a"], Some(1), 0, 1), a_try(&["b"], None, 0, 1)]), []);
    assert_eq!(found(&[a_try(&["a"], Some(2), 0, 1)]), [], "more titles than there are");
}

#[test]
fn auto_splits_what_is_longer_than_two_installs_and_a_share_of_the_work() {
    let file =
        |predicted_ms| File { predicted_ms, units: (0..9).map(|n| unit(&n.to_string(), 10)).collect() };
    let room = Room { install_ms: 30, devices: 4, most_jobs: 1_000 };
    let parts = |files: &[File]| split(Shards::Auto, files, room).iter().map(Vec::len).collect::<Vec<_>>();
    // 60 for the installs and 700 / 4 for the work make 235.
    assert_eq!(parts(&[file(500), file(200)]), [3, 1]);
    assert_eq!(parts(&[file(235), file(465)]), [1, 2]);
    let alone = Room { devices: 1, ..room };
    assert_eq!(split(Shards::Auto, &[file(9_000)], alone)[0].len(), 1, "one device gains nothing");
    let unknown = File { predicted_ms: 9_000, units: vec![] };
    assert_eq!(parts(&[unknown]), [1], "nothing is recorded");
}

#[test]
fn the_longest_files_are_split_first_when_there_would_be_too_many_jobs() {
    let file =
        |predicted_ms| File { predicted_ms, units: (0..9).map(|n| unit(&n.to_string(), 10)).collect() };
    let files = [file(10), file(30), file(20)];
    let room = Room { most_jobs: 7, ..ROOM };
    let parts: Vec<_> = split(Shards::AtMost(4), &files, room).iter().map(Vec::len).collect();
    assert_eq!(parts, [1, 4, 2]);
}

fn files() -> impl Strategy<Value = Vec<File>> {
    let units = proptest::collection::vec(prop_oneof![Just(0u64), 0..100_000u64], 0..40);
    let file = (0..3_000_000u64, units).prop_map(|(predicted_ms, took)| File {
        predicted_ms,
        units: took.into_iter().enumerate().map(|(at, took_ms)| unit(&at.to_string(), took_ms)).collect(),
    });
    proptest::collection::vec(file, 1..20)
}

proptest! {
    #[test]
    fn each_unit_is_in_one_shard_and_no_shard_is_longer_by_more_than_a_unit(
        files in files(), wish in prop_oneof![Just(Shards::Auto), (1..=50u32).prop_map(Shards::AtMost)],
        install_ms in 0..60_000u64, devices in 0..20usize, more in 0..50usize,
    ) {
        let room = Room { install_ms, devices, most_jobs: files.len() + more };
        let jobs = split(wish, &files, room);
        prop_assert_eq!(jobs.len(), files.len());
        prop_assert!(jobs.iter().map(Vec::len).sum::<usize>() <= room.most_jobs);
        for (file, parts) in files.iter().zip(&jobs) {
            if let Shards::AtMost(most) = wish {
                prop_assert!(parts.len() <= most as usize);
            }
            let [first, .., last] = parts.as_slice() else {
                prop_assert_eq!(parts, &[Part { shard: None, predicted_ms: file.predicted_ms }]);
                continue;
            };
            prop_assert!(parts.len() <= file.units.len());
            let shards: Vec<&Shard> = parts.iter().map(|part| part.shard.as_ref().unwrap()).collect();
            let numbers: Vec<_> = shards.iter().map(|shard| (shard.index as usize, shard.of as usize)).collect();
            prop_assert_eq!(numbers, (1..=parts.len()).map(|index| (index, parts.len())).collect::<Vec<_>>());
            let (last_shard, others) = shards.split_last().unwrap();
            let named: Vec<_> = others.iter().flat_map(|shard| &shard.tests).collect();
            prop_assert_eq!(&named, &last_shard.tests.iter().collect::<Vec<_>>(), "the last leaves what the others run");
            let once: BTreeSet<_> = named.iter().copied().collect();
            prop_assert_eq!(once.len(), named.len(), "no unit is named twice");
            let rest: Vec<_> = file.units.iter().filter(|unit| !once.contains(&unit.titles)).collect();
            prop_assert_eq!(rest.len() + named.len(), file.units.len(), "a name that is no unit's");
            let took = |titles: &Vec<String>| file.units.iter().find(|unit| unit.titles == *titles).unwrap().took_ms;
            let mut took: Vec<u64> = others.iter().map(|shard| shard.tests.iter().map(took).sum()).collect();
            took.push(rest.iter().map(|unit| unit.took_ms).sum());
            let longest = file.units.iter().map(|unit| unit.took_ms).max().unwrap();
            prop_assert!(took.iter().max().unwrap() - took.iter().min().unwrap() <= longest);
            prop_assert!(!rest.is_empty() && others.iter().all(|shard| !shard.tests.is_empty()), "an empty shard");
            let shares: u64 = parts.iter().map(|part| part.predicted_ms).sum();
            prop_assert!(shares <= file.predicted_ms && file.predicted_ms - shares <= parts.len() as u64);
            prop_assert!(first.predicted_ms <= file.predicted_ms && last.predicted_ms <= file.predicted_ms);
        }
    }
}
