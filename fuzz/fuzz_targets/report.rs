//! Any bytes as the report of a run of which all was seen: the agent's reading never breaks, and the server's verdict is
//! `passed` only for a report that may be believed.
#![no_main]

#[path = "../../crates/qgjob/tests/it/mutation_story/witness.rs"]
mod witness;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use qgjob_core::model::evidence::Exit;
use witness::Seen;

const GREEN: &[u8] = include_bytes!("../../crates/qgjob/tests/fixtures/playwright-report-green.json");

static SEEN: LazyLock<Seen> =
    LazyLock::new(|| Seen::of(&serde_json::from_slice(GREEN).expect("the fixture is a report")));

fuzz_target!(|text: &[u8]| {
    SEEN.check(text, Exit::Code(0));
});
