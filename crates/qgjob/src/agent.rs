//! The agent: owns devices and runs attempts on them.

pub mod adb;
pub mod apk;
pub mod appium;
pub mod gateway;
pub mod process;
pub mod sdk;
pub mod shims;
