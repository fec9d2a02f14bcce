//! `am` and `monkey`: starting and stopping apps.

use super::{Outcome, operands, option};
use crate::apk;
use crate::device::State;

pub(super) fn run(state: &mut State, args: &[&str]) -> Option<Outcome> {
    let (&verb, args) = args.split_first()?;
    let package = operands(args, &["--user"]).last().copied().unwrap_or_default();
    Some(match verb {
        "start" | "start-activity" => start(state, args),
        "startservice" | "start-service" | "start-foreground-service" => {
            let component = option(args, "-n").or_else(|| args.iter().copied().find(|arg| arg.contains('/')));
            if let Some((package, _)) = component.and_then(|component| component.split_once('/')) {
                state.start_service(package);
            }
            Outcome::ok("Starting service\n")
        }
        "force-stop" | "kill" | "crash" => {
            if verb == "crash" {
                state.crash(package);
            } else {
                state.stop(package);
            }
            Outcome::default()
        }
        "broadcast" => Outcome::ok("Broadcasting: Intent\nBroadcast completed: result=-1, data=\"\"\n"),
        "get-current-user" => Outcome::ok("0\n"),
        "send-trim-memory" | "stopservice" | "stop-service" => Outcome::default(),
        _ => return None,
    })
}

fn start(state: &mut State, args: &[&str]) -> Outcome {
    let component = option(args, "-n").unwrap_or_default();
    let Some((package, activity)) = component.split_once('/') else {
        return Outcome::ok("Starting: Intent { }\nError: Activity not started, unable to resolve Intent\n");
    };
    if args.contains(&"-S") {
        state.stop(package);
    }
    let running = state.apps.contains_key(package);
    if !has_activity(state, package, activity) || !state.start(package, activity) {
        return Outcome::ok(format!(
            "Starting: Intent {{ cmp={component} }}\nError type 3\nError: Activity class {{{component}}} does not exist.\n"
        ));
    }
    let launch = if running { "HOT" } else { "COLD" };
    Outcome::ok(format!(
        "Starting: Intent {{ cmp={component} }}\nStatus: ok\nLaunchState: {launch}\nActivity: {component}\nTotalTime: 120\nWaitTime: 130\nComplete\n"
    ))
}

/// Only the activity that a launcher would start is known by name; helper packages start any.
fn has_activity(state: &State, package: &str, activity: &str) -> bool {
    state.packages.get(package).is_some_and(|known| {
        let launchable = known.manifest.launchable.as_deref();
        crate::truth::is_helper(package) || launchable == Some(&apk::full_class(package, activity))
    })
}

/// `monkey -p PACKAGE -c android.intent.category.LAUNCHER 1` is a common way to start an app by package alone.
pub(super) fn monkey(state: &mut State, args: &[&str]) -> Outcome {
    let package = option(args, "-p").unwrap_or_default();
    let activity = state.packages.get(package).and_then(|known| known.manifest.launchable.clone());
    match activity {
        Some(activity) => {
            state.start(package, &activity);
            Outcome::ok("Events injected: 1\n")
        }
        None => Outcome::refused(252, "** No activities found to run, monkey aborted.\n"),
    }
}
