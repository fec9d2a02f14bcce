#![allow(clippy::unwrap_used, reason = "all of this is tests, also what is outside of test functions")]

mod adb_story;
mod appium_story;
mod architecture;
mod bundle_story;
mod cli_story;
mod crash_story;
mod device_bench;
mod docs;
mod gateway_story;
mod github_story;
#[expect(dead_code, reason = "the tests of the server use the rest")]
mod issuer;
mod login_story;
mod main_story;
mod mutation_story;
mod pipeline_story;
mod proxy;
mod readers;
mod refusal_story;
mod report_story;
mod runner_story;
mod simulation_story;
mod world;
