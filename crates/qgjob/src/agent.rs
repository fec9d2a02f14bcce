//! The agent: owns devices and runs attempts on them.

pub mod adb;
pub mod apk;
pub mod appium;
pub mod archive;
pub mod gateway;
pub mod process;
pub mod runner;
pub mod sdk;
pub mod shims;
pub mod workspace;
