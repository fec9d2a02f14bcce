//! The phone as the real adb client and server see it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod automation;
mod basics;
mod faults;
mod hosting;
mod packages;
mod world;
