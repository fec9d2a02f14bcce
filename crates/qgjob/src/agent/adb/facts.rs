//! What a device is: model, Android version, processor, emulator or not.

use std::collections::BTreeMap;

use super::{Adb, Error, SHORT};

/// The properties of a device that a selector can ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceFacts {
    /// The name adb knows it by: `emulator-5554`, `R58M1234`, `10.0.0.7:5555`.
    pub serial: String,
    pub manufacturer: String,
    pub model: String,
    /// The Android version as users say it: `14`, `8.1.0`.
    pub release: String,
    /// The API level, 0 if the device does not say.
    pub sdk: u32,
    /// The preferred processor architecture, `arm64-v8a` for instance.
    pub abi: String,
    pub is_emulator: bool,
    /// The name of the virtual device, for emulators that tell it.
    pub avd: Option<String>,
}

impl Adb {
    /// All properties of the device, in one call.
    pub async fn getprop(&self, serial: &str) -> Result<BTreeMap<String, String>, Error> {
        Ok(parse(&self.must(serial, "getprop", SHORT).await?))
    }

    /// Whether Android is up. Until then `pm` and `am` answer with errors.
    pub async fn boot_completed(&self, serial: &str) -> Result<bool, Error> {
        Ok(self.must(serial, "getprop sys.boot_completed", SHORT).await?.trim() == "1")
    }

    pub async fn facts(&self, serial: &str) -> Result<DeviceFacts, Error> {
        Ok(facts(serial, &self.getprop(serial).await?))
    }
}

fn facts(serial: &str, props: &BTreeMap<String, String>) -> DeviceFacts {
    let get = |name: &str| props.get(name).cloned().unwrap_or_default();
    let avd =
        ["ro.boot.qemu.avd_name", "ro.kernel.qemu.avd_name"].iter().find_map(|n| props.get(*n)).cloned();
    DeviceFacts {
        serial: serial.to_owned(),
        manufacturer: get("ro.product.manufacturer"),
        model: get("ro.product.model"),
        release: get("ro.build.version.release"),
        sdk: get("ro.build.version.sdk").parse().unwrap_or(0),
        abi: get("ro.product.cpu.abi"),
        // Old images set the first, new ones the second.
        is_emulator: get("ro.kernel.qemu") == "1" || get("ro.boot.qemu") == "1",
        avd,
    }
}

/// `[name]: [value]` by line; a value may contain line breaks.
fn parse(text: &str) -> BTreeMap<String, String> {
    let mut props = BTreeMap::new();
    for entry in text.replace("\r\n", "\n").split("]\n") {
        if let Some((name, value)) = entry.trim_start_matches('[').split_once("]: [") {
            props.insert(name.to_owned(), value.trim_end_matches(']').to_owned());
        }
    }
    props
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_may_be_empty_and_may_span_lines() {
        let props = parse("[a.b]: [1]\n[empty]: []\n[two]: [x\ny]\n[ro.product.model]: [Pixel 7]\n");
        assert_eq!(props["a.b"], "1");
        assert_eq!(props["empty"], "");
        assert_eq!(props["two"], "x\ny");
        assert_eq!(props["ro.product.model"], "Pixel 7");
    }

    #[test]
    fn an_emulator_is_known_by_either_property() {
        for name in ["ro.kernel.qemu", "ro.boot.qemu"] {
            assert!(facts("e", &parse(&format!("[{name}]: [1]\n"))).is_emulator);
        }
        assert!(!facts("e", &parse("[ro.product.model]: [SM-G991B]\n")).is_emulator);
    }
}
