//! `pm`, also known as `cmd package`.

use bytes::Bytes;

use super::{Outcome, dumpsys, operands};
use crate::device::{Attempt, InstallSession, Package, State};

/// Options of `pm` that take a value.
const WITH_VALUE: [&str; 9] =
    ["--user", "-i", "-S", "--install-location", "--abi", "--originating-uri", "--referrer", "-p", "--pkg"];

pub(super) fn run(state: &mut State, args: &[&str], stdin: &Bytes) -> Option<Outcome> {
    let (&verb, args) = args.split_first()?;
    let names = operands(args, &WITH_VALUE);
    let name = names.last().copied().unwrap_or_default();
    Some(match verb {
        "install" => install(state, args, &names, stdin),
        "install-create" => create(state, args),
        "install-write" => write(state, &names, stdin),
        "install-commit" => commit(state, name),
        "install-abandon" => {
            state.install_sessions.remove(&name.parse().ok()?);
            Outcome::ok("Success\n")
        }
        "uninstall" => {
            if state.uninstall(name, args.contains(&"-k")) {
                Outcome::ok("Success\n")
            } else {
                Outcome::refused(
                    1,
                    format!("Failure [DELETE_FAILED_INTERNAL_ERROR: {name} not installed for 0]\n"),
                )
            }
        }
        "clear" if state.clear(name) => Outcome::ok("Success\n"),
        "clear" => Outcome::refused(1, "Failed\n"),
        "path" => path(state, name),
        "dump" => Outcome::ok(dumpsys::package(state, name)),
        "list" => return list(state, args, &names),
        "grant" | "revoke" => grant(state, verb, &names),
        "resolve-activity" => resolve(state, name),
        "has-feature" => Outcome::ok("false\n"),
        "compile" | "dump-profiles" | "trim-caches" => Outcome::ok("Success\n"),
        "disable-user" | "enable" | "set-install-location" | "bg-dexopt-job" => Outcome::default(),
        _ => return None,
    })
}

fn answer(attempt: Attempt) -> Outcome {
    let outcome = match attempt.result {
        Ok(()) => Outcome::ok("Success\n"),
        Err(reason) => Outcome::refused(1, format!("Failure [{reason}]\n")),
    };
    Outcome { pause: attempt.time, ..outcome }
}

/// The options of an install that change what is allowed.
fn session(args: &[&str]) -> InstallSession {
    InstallSession {
        allow_downgrade: args.contains(&"-d"),
        allow_test_only: args.contains(&"-t"),
        apks: Vec::new(),
    }
}

/// From a file on the phone, or with `-S` from the bytes that are sent along.
fn install(state: &mut State, args: &[&str], paths: &[&str], stdin: &Bytes) -> Outcome {
    let mut session = session(args);
    if args.contains(&"-S") {
        session.apks.push(stdin.clone());
    }
    for path in paths.iter().filter(|path| **path != "-") {
        let Some(file) = state.file(path) else {
            return Outcome::refused(1, format!("Error: failed to open {path}\n"));
        };
        session.apks.push(file.content.bytes.clone());
    }
    answer(state.install(session))
}

fn create(state: &mut State, args: &[&str]) -> Outcome {
    let id = state.install_sessions.keys().last().map_or(1_000_001, |last| last + 1);
    state.install_sessions.insert(id, session(args));
    Outcome::ok(format!("Success: created install session [{id}]\n"))
}

fn write(state: &mut State, names: &[&str], stdin: &Bytes) -> Outcome {
    let [id, _, from @ ..] = names else {
        return Outcome::refused(1, "Error: install-write needs a session\n");
    };
    let bytes = match from.first().filter(|path| **path != "-") {
        Some(path) => match state.file(path) {
            Some(file) => file.content.bytes.clone(),
            None => return Outcome::refused(1, format!("Error: failed to open {path}\n")),
        },
        None => stdin.clone(),
    };
    let Some(session) = id.parse().ok().and_then(|id: u64| state.install_sessions.get_mut(&id)) else {
        return Outcome::refused(
            1,
            format!("Failure [INSTALL_FAILED_INVALID_INSTALL_LOCATION: no session {id}]\n"),
        );
    };
    let length = bytes.len();
    session.apks.push(bytes);
    Outcome::ok(format!("Success: streamed {length} bytes\n"))
}

fn commit(state: &mut State, id: &str) -> Outcome {
    match id.parse().ok().and_then(|id: u64| state.install_sessions.remove(&id)) {
        Some(session) => answer(state.install(session)),
        None => Outcome::refused(1, format!("Failure [no install session {id}]\n")),
    }
}

fn path(state: &State, name: &str) -> Outcome {
    match state.packages.get(name) {
        Some(package) => {
            Outcome::ok(package.paths().map(|(path, _)| format!("package:{path}\n")).collect::<String>())
        }
        None => Outcome { code: 1, ..Outcome::default() },
    }
}

fn list(state: &State, args: &[&str], names: &[&str]) -> Option<Outcome> {
    match names {
        ["packages", filter @ ..] => {
            let wanted =
                |package: &&Package| filter.iter().all(|part| package.manifest.package.contains(part));
            let line = |package: &Package| {
                let name = &package.manifest.package;
                let file =
                    if args.contains(&"-f") { format!("/data/app/{name}/base.apk=") } else { String::new() };
                let version = if args.contains(&"--show-versioncode") {
                    format!(" versionCode:{}", state.told_version(package))
                } else {
                    String::new()
                };
                format!("package:{file}{name}{version}\n")
            };
            // Everything here was installed by somebody; there are no system packages.
            let system_only = args.contains(&"-s");
            let listed = state.packages.values().filter(wanted).filter(|_| !system_only).map(line);
            Some(Outcome::ok(listed.collect::<String>()))
        }
        ["instrumentation", ..] => {
            let lines = state.packages.values().flat_map(|package| {
                let name = &package.manifest.package;
                package.manifest.instrumentation.iter().map(move |instrumentation| {
                    let runner = crate::apk::full_class(name, &instrumentation.runner);
                    format!("instrumentation:{name}/{runner} (target={})\n", instrumentation.target)
                })
            });
            Some(Outcome::ok(lines.collect::<String>()))
        }
        ["features", ..] => Some(Outcome::ok("feature:android.hardware.touchscreen\n")),
        ["users", ..] => Some(Outcome::ok("Users:\n\tUserInfo{0:Owner:c13} running\n")),
        _ => None,
    }
}

fn grant(state: &mut State, verb: &str, names: &[&str]) -> Outcome {
    let [name, permissions @ ..] = names else { return Outcome::refused(1, "Error: no package specified\n") };
    let Some(package) = state.packages.get_mut(*name) else {
        return Outcome::failed(255, format!("Error: Unknown package: {name}\n"));
    };
    for permission in permissions {
        package.granted.retain(|known| known != permission);
        if verb == "grant" {
            package.granted.push((*permission).to_owned());
        }
    }
    Outcome::default()
}

fn resolve(state: &State, name: &str) -> Outcome {
    let activity = state.packages.get(name).and_then(|package| package.manifest.launchable.clone());
    Outcome::ok(match activity {
        Some(activity) => format!(
            "priority=0 preferredOrder=0 match=0x108000 specificIndex=-1 isDefault=true\n{name}/{activity}\n"
        ),
        None => "No activity found\n".to_owned(),
    })
}
