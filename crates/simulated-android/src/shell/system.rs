//! Commands about the phone as a whole: properties, settings, screen, input, processes, time.

use regex::Regex;

use super::{Outcome, files, operands};
use crate::device::State;
use crate::{screen, ui};

pub(super) fn run(state: &mut State, name: &str, args: &[&str]) -> Option<Outcome> {
    Some(match name {
        "stop" | "start" => Outcome::default(),
        "getprop" => getprop(state, args),
        "setprop" => {
            if let [name, value] = args {
                state.properties.insert((*name).to_owned(), (*value).to_owned());
            }
            Outcome::default()
        }
        "settings" => settings(state, args),
        "wm" => match args {
            ["size", ..] => Outcome::ok(format!("Physical size: {}x{}\n", screen::WIDTH, screen::HEIGHT)),
            ["density", ..] => Outcome::ok("Physical density: 420\n"),
            _ => Outcome::default(),
        },
        "input" => input(state, args),
        "screencap" => screencap(state, args),
        "uiautomator" => uiautomator(state, args),
        "logcat" => logcat(state, args),
        "ps" => ps(state),
        "pidof" | "pgrep" => pidof(state, name, args),
        "kill" | "killall" => kill(state, args),
        "date" => date(state, args),
        "whoami" => Outcome::ok("shell\n"),
        "id" => Outcome::ok("uid=2000(shell) gid=2000(shell)\n"),
        "uname" => Outcome::ok("Linux localhost 5.15.0 simulated x86_64 Android\n"),
        "df" => Outcome::ok(
            "Filesystem     1K-blocks    Used Available Use% Mounted on\n/dev/simulated   8000000 2000000   6000000  25% /data\n",
        ),
        "ime" if matches!(args, ["list", ..]) => Outcome::ok("io.appium.settings/.UnicodeIME\n"),
        "cmd" => return command(args),
        // Accepted and without effect: nothing here has radios, keyboards, media or a lock screen.
        "appops" | "svc" | "ime" | "media" | "service" | "locksettings" | "run-as" | "bmgr"
        | "device_config" => Outcome::default(),
        _ => return None,
    })
}

fn command(args: &[&str]) -> Option<Outcome> {
    match args.first().copied()? {
        "uimode" => Some(Outcome::ok("Night mode: no\n")),
        "window" | "notification" | "wifi" | "phone" | "location" | "connectivity" | "statusbar"
        | "appops" | "-w" | "bluetooth_manager" | "settings" => Some(Outcome::default()),
        _ => None,
    }
}

fn getprop(state: &State, args: &[&str]) -> Outcome {
    if let Some(name) = args.first() {
        return Outcome::ok(state.property(name) + "\n");
    }
    let lines = state.properties.keys().map(|name| format!("[{name}]: [{}]\n", state.property(name)));
    Outcome::ok(lines.collect::<String>())
}

fn settings(state: &mut State, args: &[&str]) -> Outcome {
    let args = operands(args, &["--user"]);
    match args.as_slice() {
        ["put", space, name, value, ..] => {
            state.settings.insert(format!("{space}/{name}"), (*value).to_owned());
            Outcome::default()
        }
        ["delete", space, name] => {
            let removed = state.settings.remove(&format!("{space}/{name}")).is_some();
            Outcome::ok(format!("Deleted {} rows\n", u8::from(removed)))
        }
        ["get", space, name] => {
            let value = state.settings.get(&format!("{space}/{name}")).map_or("null", String::as_str);
            Outcome::ok(format!("{value}\n"))
        }
        ["list", space] => {
            let prefix = format!("{space}/");
            let line = |(name, value): (&String, &String)| {
                name.strip_prefix(&prefix).map(|name| format!("{name}={value}\n"))
            };
            Outcome::ok(state.settings.iter().filter_map(line).collect::<String>())
        }
        _ => Outcome::failed(255, "Invalid settings command\n"),
    }
}

fn input(state: &mut State, args: &[&str]) -> Outcome {
    let number = |text: &str| text.parse::<f64>().unwrap_or(-1.0);
    match args {
        ["touchscreen", rest @ ..] => return input(state, rest),
        ["tap", x, y] => state.tap_at(number(x), number(y)),
        ["swipe", x1, y1, x2, y2, ..] => state.touch((number(x1), number(y1)), (number(x2), number(y2))),
        ["text", text] => state.type_text(&text.replace("%s", " ")),
        ["keyevent", keys @ ..] => {
            for key in keys {
                let key = match *key {
                    "KEYCODE_HOME" | "HOME" => 3,
                    "KEYCODE_BACK" | "BACK" => 4,
                    other => other.parse().unwrap_or(0),
                };
                state.press(key);
            }
        }
        _ => return Outcome::failed(1, "Error: Unknown input command\n"),
    }
    Outcome::default()
}

fn screencap(state: &mut State, args: &[&str]) -> Outcome {
    let picture = screen::photograph(state);
    match operands(args, &["-d"]).first() {
        Some(path) => {
            files::write(state, path, picture, false);
            Outcome::default()
        }
        None => Outcome::ok(picture),
    }
}

/// `uiautomator dump [FILE]`: the screen as XML, without an automation server.
fn uiautomator(state: &mut State, args: &[&str]) -> Outcome {
    match args {
        ["dump", "/dev/tty"] => Outcome::ok(ui::source(state) + "UI hierchary dumped to: /dev/tty\n"),
        ["dump", rest @ ..] => {
            let path = rest.last().copied().unwrap_or("/sdcard/window_dump.xml");
            files::write(state, path, ui::source(state).into_bytes(), false);
            Outcome::ok(format!("UI hierchary dumped to: {path}\n"))
        }
        _ => Outcome::failed(1, "only 'uiautomator dump' is simulated\n"),
    }
}

/// `logcat -d` and the options that change nothing here; `logcat` that follows is a service of its own.
fn logcat(state: &mut State, args: &[&str]) -> Outcome {
    if args.contains(&"-c") {
        state.log_lines.clear();
        return Outcome::default();
    }
    if !args.contains(&"-d") {
        return Outcome::default();
    }
    let lines = state.log_lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    Outcome::ok(format!("--------- beginning of main\n{lines}"))
}

fn ps(state: &State) -> Outcome {
    let row = |(name, pid): (String, u32)| format!("u0_a150 {pid} 1 1000000 100000 0 0 S {name}\n");
    let rows: String = state.processes().into_iter().map(row).collect();
    Outcome::ok(format!("USER PID PPID VSZ RSS WCHAN ADDR S NAME\n{rows}"))
}

fn pidof(state: &State, tool: &str, args: &[&str]) -> Outcome {
    let Some(wanted) = operands(args, &["-s"]).last().copied() else {
        return Outcome::ok(format!("usage: {tool} NAME\n"));
    };
    let matches = |name: &str| match tool {
        "pidof" => name == wanted,
        _ => Regex::new(wanted).is_ok_and(|pattern| pattern.is_match(name)),
    };
    let pids: Vec<String> = state
        .processes()
        .into_iter()
        .filter(|(name, _)| matches(name))
        .map(|(_, pid)| pid.to_string())
        .collect();
    if pids.is_empty() {
        return Outcome { code: 1, ..Outcome::default() };
    }
    let separator = if tool == "pidof" { " " } else { "\n" };
    Outcome::ok(pids.join(separator) + "\n")
}

fn kill(state: &mut State, args: &[&str]) -> Outcome {
    for wanted in operands(args, &["-s"]) {
        let hit = |(name, pid): &(String, u32)| name == wanted || pid.to_string() == wanted;
        let victim = state.processes().into_iter().find(hit);
        match victim {
            Some((package, _)) => state.stop(&package),
            None => return Outcome::failed(1, format!("kill: {wanted}: No such process\n")),
        }
    }
    Outcome::default()
}

fn date(state: &State, args: &[&str]) -> Outcome {
    let now = state.now();
    let text = state.date_time(now).replace(' ', "T");
    match args.first() {
        Some(&"+%s") => Outcome::ok(format!("{}\n", now.as_secs())),
        _ => Outcome::ok(format!("{text}+0000\n")),
    }
}
