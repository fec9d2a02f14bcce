//! A phone at protocol level: the device side of adb and UiAutomator2's REST server.
//!
//! The real `adb`, Appium, its UiAutomator2 driver and AppWright talk to it unchanged. Everything above the wire is
//! simulated: packages are real APK files, but their screens come from `assets/screens.json` inside the APK. What
//! is faithful and what is not is said in the crate's README.

mod adb;
mod apk;
mod app;
mod blob;
pub mod control;
mod device;
mod fault;
mod phone;
mod screen;
mod services;
mod shell;
mod smart_socket;
mod truth;
mod ui;
mod uia2;

pub use fault::Fault;
pub use phone::{Config, Phone};
pub use smart_socket::keep_connected;
pub use truth::{AppStart, Clear, Install, Installed, RefusedInstall, Tap, Truth, Uninstall};
