//! Splitting the tests of long files into shards, by the times that their latest run recorded.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use crate::model::shard::{Shard, Shards};
use crate::model::test_result::Try;

/// A file with more units is not split: their names would be carried by each of its jobs.
const MOST_UNITS: usize = 1_000;

/// What is never divided: a test, or tests that must run as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// The titles that name it, and all that is below them.
    pub titles: Vec<String>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// A test file that is submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// How long it is expected to hold a device, in milliseconds.
    pub predicted_ms: u64,
    /// What its latest run recorded; empty when there is nothing to split it by.
    pub units: Vec<Unit>,
}

/// What the files of a run meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// How long an install takes, in milliseconds.
    pub install_ms: u64,
    /// Devices that could run the jobs.
    pub devices: usize,
    /// The most jobs that the run may have; at least one for each file.
    pub most_jobs: usize,
}

/// One job of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Which of its tests; none for all of them.
    pub shard: Option<Shard>,
    /// How long it is expected to hold a device, in milliseconds: its share of what the file is expected to.
    pub predicted_ms: u64,
}

/// The units of a file, from all tries of one run of it. None at all when the runner did not say what must run as one.
pub fn units(tries: &[Try]) -> Vec<Unit> {
    let mut last: HashMap<&str, &Try> = HashMap::new();
    for one in tries {
        let kept = last.entry(&one.test_id).or_insert(one);
        if one.retry >= kept.retry {
            *kept = one;
        }
    }
    let mut took: BTreeMap<&[String], u64> = BTreeMap::new();
    for one in last.into_values() {
        let Some(titles) = one.unit.and_then(|unit| one.title.get(..unit as usize)) else {
            return Vec::new();
        };
        *took.entry(titles).or_default() += one.duration_ms;
    }
    let mut units: Vec<Unit> = Vec::new();
    // What is below the titles of another comes right after it, and is selected with it.
    for (titles, took_ms) in took {
        match units.last_mut().filter(|above| titles.starts_with(&above.titles)) {
            Some(above) => above.took_ms += took_ms,
            None => units.push(Unit { titles: titles.to_vec(), took_ms }),
        }
    }
    if units.len() > MOST_UNITS { Vec::new() } else { units }
}

/// The jobs of each file, at least one. `auto` splits a file that takes longer than two installs and a device's share of
/// the run's work together: into as many parts as make none of them longer than that. When the run would have too many
/// jobs, the longest files are split first.
pub fn split(wish: Shards, files: &[File], room: Room) -> Vec<Vec<Part>> {
    let work_ms: u64 = files.iter().map(|file| file.predicted_ms).sum();
    let worth_ms = (2 * room.install_ms + work_ms / room.devices.max(1) as u64).max(1);
    let wanted = |file: &File| {
        let parts = match wish {
            Shards::Auto => file.predicted_ms.div_ceil(worth_ms).clamp(1, u64::from(Shards::MOST)) as usize,
            Shards::AtMost(parts) => parts as usize,
        };
        parts.min(file.units.len()).max(1)
    };
    let mut longest_first: Vec<usize> = (0..files.len()).collect();
    longest_first.sort_by_key(|at| (Reverse(files[*at].predicted_ms), *at));
    let mut more = room.most_jobs.saturating_sub(files.len());
    let mut jobs = vec![Vec::new(); files.len()];
    for at in longest_first {
        let parts = wanted(&files[at]).min(1 + more);
        more -= parts - 1;
        jobs[at] = parts_of(&files[at], parts);
    }
    jobs
}

/// The file in so many parts; at most as many as it has units.
fn parts_of(file: &File, parts: usize) -> Vec<Part> {
    if parts < 2 {
        return vec![Part { shard: None, predicted_ms: file.predicted_ms }];
    }
    let mut heaps = longest_first(&file.units, parts);
    // The last shard runs what the others do not name: with the most units it is the least likely to find all of its own
    // gone from the file.
    heaps.sort_by_key(Vec::len);
    let whole_ms: u64 = file.units.iter().map(|unit| unit.took_ms).sum();
    let share = |units: &[&Unit]| match whole_ms {
        0 => file.predicted_ms / parts as u64,
        _ => {
            let took_ms: u64 = units.iter().map(|unit| unit.took_ms).sum();
            (u128::from(file.predicted_ms) * u128::from(took_ms) / u128::from(whole_ms)) as u64
        }
    };
    let names = |units: &[&Unit]| units.iter().map(|unit| unit.titles.clone()).collect::<Vec<_>>();
    let others: Vec<&Unit> = heaps[..parts - 1].iter().flatten().copied().collect();
    let shards = (1..).zip(&heaps).map(|(index, units)| {
        let tests = if index as usize == parts { names(&others) } else { names(units) };
        Part { shard: Some(Shard { index, of: parts as u32, tests }), predicted_ms: share(units) }
    });
    shards.collect()
}

/// Each unit goes, the longest first, to the part that has the least: no part is longer than another by more than the
/// longest unit. No part is empty.
fn longest_first(units: &[Unit], parts: usize) -> Vec<Vec<&Unit>> {
    let mut sorted: Vec<&Unit> = units.iter().collect();
    sorted.sort_by_key(|unit| (Reverse(unit.took_ms), &unit.titles));
    let mut heaps: Vec<(u64, Vec<&Unit>)> = vec![(0, Vec::new()); parts];
    for unit in sorted {
        let least = heaps.iter_mut().min_by_key(|(took_ms, units)| (*took_ms, units.len()));
        let (took_ms, units) = least.expect("there is a part");
        *took_ms += unit.took_ms;
        units.push(unit);
    }
    heaps.into_iter().map(|(_, units)| units).collect()
}
