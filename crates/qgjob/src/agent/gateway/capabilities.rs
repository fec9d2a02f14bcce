//! What becomes of the capabilities that a client asks for.

use serde_json::{Map, Value};

/// In which state each session finds the app. AppWright opens one session per test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// Installed, without data and with all permissions: what AppWright's own reinstallation achieves.
    ClearData,
    /// As the session before left it, but started anew.
    None,
}

/// Capabilities that choose a device or install an app: decided by the agent, whoever asks.
const DECIDED: &[&str] = &[
    "udid",
    "deviceName",
    "platformVersion",
    "avd",
    "app",
    "fullReset",
    "noReset",
    "enforceAppInstall",
    "skipUninstall",
    "forceAppLaunch",
    "systemPort",
];

/// Rewrites the body of `POST /session` in place. Returns false if it has no capabilities to rewrite.
///
/// Without `app`, Appium does not install anything and never uninstalls; it then needs `appPackage` and
/// `appActivity`, which are kept. With `noReset: false` it stops the app, clears its data and grants the
/// permissions again, which `pm clear` takes away. Clearing the data here instead would gain nothing: a
/// session takes a second either way, most of it for starting the instrumentation, and `pm clear` some 10 ms.
///
/// `system_port` is where the host reaches the driver's server on the device. Left to itself the driver takes the
/// first free port from 8200 on; its guard against taking another's is a file in the temporary folder, of which each
/// device's Appium has its own. Two sessions that start at once would forward one port, and one test would drive the
/// other's device.
pub fn rewrite(body: &mut Value, serial: &str, reset: Reset, system_port: u16) -> bool {
    // Old clients send this besides; a server that reads it must not find other wishes in it.
    if let Some(legacy) = body.get_mut("desiredCapabilities").and_then(Value::as_object_mut) {
        strip(legacy);
    }
    let Some(capabilities) = body.get_mut("capabilities").and_then(Value::as_object_mut) else {
        return false;
    };
    if let Some(sets) = capabilities.get_mut("firstMatch").and_then(Value::as_array_mut) {
        sets.iter_mut().filter_map(Value::as_object_mut).for_each(strip);
    }
    let always = capabilities.entry("alwaysMatch").or_insert_with(|| Value::Object(Map::new()));
    let Some(always) = always.as_object_mut() else { return false };
    strip(always);
    always.insert("appium:udid".to_owned(), serial.into());
    always.insert("appium:systemPort".to_owned(), system_port.into());
    let keep = reset != Reset::ClearData;
    always.insert("appium:noReset".to_owned(), keep.into());
    if keep {
        // Otherwise Appium leaves a running app on the screen where the last test ended.
        always.insert("appium:forceAppLaunch".to_owned(), true.into());
    }
    true
}

fn strip(set: &mut Map<String, Value>) {
    for name in DECIDED {
        set.remove(*name);
        set.remove(&format!("appium:{name}"));
    }
    if let Some(options) = set.get_mut("appium:options").and_then(Value::as_object_mut) {
        strip(options);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What AppWright 0.1.1 sends.
    fn appwright() -> Value {
        json!({"capabilities": {
            "alwaysMatch": {
                "appium:deviceName": "Pixel 7", "appium:automationName": "uiautomator2",
                "appium:platformVersion": "14", "appium:appActivity": "a.b.Main", "appium:appPackage": "a.b",
                "platformName": "android", "appium:autoGrantPermissions": true, "appium:app": "../app.apk",
                "appium:autoAcceptAlerts": true, "appium:fullReset": true
            },
            "firstMatch": [{}]
        }})
    }

    #[test]
    fn trap_6_the_udid_decides_and_not_the_name_or_version_of_a_device() {
        let mut body = appwright();
        body["capabilities"]["firstMatch"] =
            json!([{"appium:udid": "other"}, {"appium:platformVersion": "9"}]);
        body["capabilities"]["alwaysMatch"]["appium:options"] =
            json!({"udid": "other", "systemPort": 8200, "adbExecTimeout": 9});
        assert!(rewrite(&mut body, "emulator-5554", Reset::ClearData, 4711));
        let caps = &body["capabilities"];
        assert_eq!(caps["alwaysMatch"]["appium:udid"], "emulator-5554");
        assert_eq!(caps["firstMatch"], json!([{}, {}]));
        assert_eq!(caps["alwaysMatch"]["appium:options"], json!({"adbExecTimeout": 9}));
        assert!(caps["alwaysMatch"].get("appium:deviceName").is_none());
        assert!(caps["alwaysMatch"].get("appium:platformVersion").is_none());
    }

    #[test]
    fn trap_7_no_path_of_an_app_reaches_appium_so_it_cannot_be_relative_to_the_wrong_folder() {
        let mut body = appwright();
        rewrite(&mut body, "x", Reset::ClearData, 4711);
        let always = &body["capabilities"]["alwaysMatch"];
        assert!(always.get("appium:app").is_none());
        assert!(always.get("appium:fullReset").is_none());
        assert_eq!(always["appium:noReset"], false);
        for kept in [
            "appium:appPackage",
            "appium:appActivity",
            "appium:autoGrantPermissions",
            "appium:autoAcceptAlerts",
            "platformName",
        ] {
            assert!(always.get(kept).is_some(), "{kept}");
        }
    }

    #[test]
    fn the_port_of_the_drivers_server_is_the_sessions_own_whatever_the_client_asks() {
        let mut body = appwright();
        body["capabilities"]["alwaysMatch"]["appium:systemPort"] = json!(8200);
        body["capabilities"]["firstMatch"] = json!([{"appium:systemPort": 8200}, {"systemPort": 8201}]);
        assert!(rewrite(&mut body, "x", Reset::ClearData, 4711));
        assert_eq!(body["capabilities"]["alwaysMatch"]["appium:systemPort"], 4711);
        assert_eq!(body["capabilities"]["firstMatch"], json!([{}, {}]), "W3C refuses a name in both");
    }

    #[test]
    fn keeping_data_still_starts_the_app_anew() {
        let mut body = appwright();
        rewrite(&mut body, "x", Reset::None, 4711);
        let always = &body["capabilities"]["alwaysMatch"];
        assert_eq!(
            (&always["appium:noReset"], &always["appium:forceAppLaunch"]),
            (&json!(true), &json!(true))
        );
    }

    #[test]
    fn a_body_without_capabilities_is_not_accepted() {
        assert!(!rewrite(&mut json!({"desiredCapabilities": {"udid": "x"}}), "x", Reset::None, 4711));
        assert!(!rewrite(&mut json!([]), "x", Reset::None, 4711));
        assert!(!rewrite(&mut json!({"capabilities": {"alwaysMatch": 3}}), "x", Reset::None, 4711));
    }
}
