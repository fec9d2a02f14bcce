//! `dumpsys`, in the shape that Appium and people's scripts search.

use std::fmt::Write;

use super::Outcome;
use crate::device::State;

pub(super) fn run(state: &State, args: &[&str]) -> Option<Outcome> {
    let text = match args {
        ["package", package, ..] => self::package(state, package),
        ["activity", "services", package, ..] => services(state, package),
        ["activity", ..] => {
            let (package, activity) = state.focus();
            format!("  mResumedActivity: ActivityRecord{{1 u0 {package}/{activity} t12}}\n")
        }
        ["window", ..] => window(state),
        ["power", ..] => "mWakefulness=Awake\nDisplay Power: state=ON\n".to_owned(),
        ["battery", ..] => "Current Battery Service state:\n  level: 100\n  status: 2\n".to_owned(),
        ["input_method", ..] => "mInputShown=false\n".to_owned(),
        ["input", ..] => "SurfaceOrientation: 0\n".to_owned(),
        ["display", ..] => format!("  cur={}x{}\n", crate::screen::WIDTH, crate::screen::HEIGHT),
        _ => String::new(),
    };
    Some(Outcome::ok(text))
}

pub(super) fn package(state: &State, name: &str) -> String {
    let Some(package) = state.packages.get(name) else {
        return format!("Unable to find package: {name}\n");
    };
    let manifest = &package.manifest;
    let mut text = String::new();
    let mut line = |indent: usize, content: &str| {
        writeln!(text, "{:indent$}{content}", "").expect("writing to a string cannot fail");
    };
    if let Some(activity) = &manifest.launchable {
        line(0, "Activity Resolver Table:");
        line(2, "Non-Data Actions:");
        line(6, "android.intent.action.MAIN:");
        line(8, &format!("a1b2c3 {name}/{activity} filter d4e5f6"));
        line(10, "Action: \"android.intent.action.MAIN\"");
        line(10, "Category: \"android.intent.category.LAUNCHER\"");
        line(0, "");
    }
    line(0, "Packages:");
    line(2, &format!("Package [{name}] (a1b2c3d):"));
    line(4, "userId=10150");
    line(4, &format!("codePath=/data/app/{name}"));
    let version = state.told_version(package);
    line(4, &format!("versionCode={version} minSdk={} targetSdk={}", manifest.min_sdk, manifest.target_sdk));
    line(4, &format!("versionName={}", manifest.version_name));
    let debuggable = if manifest.debuggable { "DEBUGGABLE " } else { "" };
    line(4, &format!("flags=[ {debuggable}HAS_CODE ALLOW_CLEAR_USER_DATA ]"));
    line(4, &format!("firstInstallTime={}", state.date_time(package.installed)));
    line(4, &format!("lastUpdateTime={}", state.date_time(package.updated)));
    line(4, "requested permissions:");
    for permission in &manifest.permissions {
        line(6, permission);
    }
    line(4, "install permissions:");
    for permission in &manifest.permissions {
        line(6, &format!("{permission}: granted=true"));
    }
    line(4, "User 0: ceDataInode=1 installed=true hidden=false suspended=false stopped=false");
    line(6, "runtime permissions:");
    for permission in &package.granted {
        line(8, &format!("{permission}: granted=true"));
    }
    text
}

fn services(state: &State, package: &str) -> String {
    let title = "ACTIVITY MANAGER SERVICES (dumpsys activity services)\n";
    if state.services.contains_key(package) {
        format!(
            "{title}  * ServiceRecord{{1 u0 {package}/.ForegroundService}}\n    isForeground=true foregroundId=1\n"
        )
    } else {
        format!("{title}  (nothing)\n")
    }
}

fn window(state: &State) -> String {
    let (package, activity) = state.focus();
    format!(
        "WINDOW MANAGER\n  mCurrentFocus=Window{{a1b2c3d u0 {package}/{activity}}}\n  \
         mFocusedApp=ActivityRecord{{1 u0 {package}/{activity} t12}}\n  \
         mShowingLockscreen=false mShowingDream=false mDreamingLockscreen=false\n  \
         KeyguardController:\n    mKeyguardShowing=false\n    KeyguardShowing=false\n  mScreenOnFully=true\n"
    )
}
