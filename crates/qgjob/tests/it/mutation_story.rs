//! Real reports, changed at random: whatever becomes of them, nothing breaks, and `passed` is said only of what still
//! names every test as it was seen. The seed of a case that fails is told, and `QGJOB_MUTATION_SEED` runs it alone;
//! `QGJOB_MUTATION_CASES` runs more.

mod mutation;
mod witness;

use qgjob_core::model::attempt::Outcome;
use qgjob_core::model::evidence::Exit;
use qgjob_core::model::test_result::{TestOutcome, TryStatus};
use qgjob_simulation::random::Random;
use serde_json::Value;

use witness::Seen;

const GREEN: &[u8] = include_bytes!("../fixtures/playwright-report-green.json");
const RED: &[u8] = include_bytes!("../fixtures/playwright-report.json");
const CASES: u64 = 10_000;

/// The number of a variable of the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// What was seen, changed at random too: a runner may also lie about that.
fn alter(seen: &mut Seen, random: &mut Random) {
    if seen.tries.is_empty() {
        return;
    }
    let at = random.below(seen.tries.len());
    match random.below(6) {
        0 => _ = seen.tries.remove(at),
        1 => seen.tries[at].outcome = TestOutcome::Unexpected,
        2 => seen.tries[at].status = TryStatus::Interrupted,
        3 => seen.tries[at].test_id.push('0'),
        4 => seen.selected = seen.selected.wrapping_add([1, u32::MAX][random.below(2)]),
        _ => seen.tries.extend(seen.tries.get(at).cloned()),
    }
}

#[test]
fn a_true_report_is_judged_as_it_should_be() {
    for (text, outcome) in [(GREEN, Outcome::Passed), (RED, Outcome::Failed)] {
        let seen = Seen::of(&serde_json::from_slice(text).unwrap());
        let code = i32::from(outcome == Outcome::Failed);
        assert_eq!(seen.check(text, Exit::Code(code)), Some(outcome));
        assert_eq!(seen.check(text, Exit::Code(1 - code)), Some(Outcome::Errored));
        assert_eq!(seen.check(text, Exit::Signal(9)), Some(Outcome::Errored));
    }
}

#[test]
fn no_mutation_breaks_the_reader_or_passes_undeserved() {
    let bases: Vec<Value> = [GREEN, RED].map(|text| serde_json::from_slice(text).unwrap()).into();
    let seeds = match number("QGJOB_MUTATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("QGJOB_MUTATION_CASES").unwrap_or(CASES),
    };
    let cases = seeds.end - seeds.start;
    let (mut read, mut passed) = (0, 0);
    for seed in seeds {
        let mut random = Random::new(seed);
        let red = random.chance(0.2);
        let base = &bases[usize::from(red)];
        let text = mutation::mutate(base, &mut random);
        let mut seen = Seen::of(base);
        if random.chance(0.2) {
            alter(&mut seen, &mut random);
        }
        let exit = if random.chance(0.9) { Exit::Code(0) } else { Exit::Code(1) };
        let Ok(judged) = std::panic::catch_unwind(|| seen.check(&text, exit)) else {
            panic!("see above; again with QGJOB_MUTATION_SEED={seed}");
        };
        assert!(!(red && judged == Some(Outcome::Passed)), "seed {seed}: a failure was hidden");
        read += u32::from(judged.is_some());
        passed += u32::from(judged == Some(Outcome::Passed));
    }
    println!("{cases} mutations: {read} could be read, {passed} passed");
    // Else nothing is tested: some must change what matters, and some what does not.
    let fair = passed > 1_000 && read - passed > 1_000;
    assert!(cases < CASES || fair, "{read} read, {passed} passed");
}
