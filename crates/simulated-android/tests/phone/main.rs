//! The phone as the real adb client and server see it.

mod automation;
mod basics;
mod faults;
mod hosting;
mod packages;
mod world;
