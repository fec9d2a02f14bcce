//! The device side of adb: what `adbd` does on a phone.

pub(crate) mod connection;
pub(crate) mod listener;
pub(crate) mod message;
