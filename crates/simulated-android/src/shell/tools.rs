//! The small tools that command lines and pipes are made of. They know nothing of the phone.

use std::time::Duration;

use bytes::Bytes;
use regex::Regex;

use super::{Outcome, operands, option};

pub(super) fn run(name: &str, args: &[&str], stdin: &Bytes) -> Option<Outcome> {
    Some(match name {
        "echo" => echo(args),
        "true" | ":" | "export" | "sync" => Outcome::default(),
        "false" => Outcome { code: 1, ..Outcome::default() },
        "sleep" => {
            let seconds = args.first().and_then(|seconds| seconds.parse().ok()).unwrap_or(0.0);
            let pause = Duration::try_from_secs_f64(seconds).unwrap_or_default();
            Outcome { pause, ..Outcome::default() }
        }
        "grep" => grep(args, stdin),
        "head" => head(args, stdin),
        _ => return None,
    })
}

fn echo(args: &[&str]) -> Outcome {
    let (newline, args) = match args {
        ["-n", rest @ ..] => ("", rest),
        _ => ("\n", args),
    };
    Outcome::ok(args.join(" ") + newline)
}

fn grep(args: &[&str], stdin: &Bytes) -> Outcome {
    let flag = |letter| args.iter().any(|arg| arg.starts_with('-') && arg.contains(letter));
    let Some(pattern) = option(args, "-e").or_else(|| operands(args, &["-m"]).first().copied()) else {
        return Outcome::failed(2, "grep: no pattern\n");
    };
    let source = if flag('F') { regex::escape(pattern) } else { pattern.to_owned() };
    let source = if flag('i') { format!("(?i){source}") } else { source };
    let Ok(pattern) = Regex::new(&source) else { return Outcome::failed(2, "grep: bad pattern\n") };
    let text = String::from_utf8_lossy(stdin);
    let found: Vec<&str> = text.lines().filter(|line| pattern.is_match(line) != flag('v')).collect();
    let code = u8::from(found.is_empty());
    let out = match (flag('q'), flag('c')) {
        (true, _) => String::new(),
        (_, true) => format!("{}\n", found.len()),
        _ => found.iter().map(|line| format!("{line}\n")).collect(),
    };
    Outcome { out: out.into_bytes(), code, ..Outcome::default() }
}

fn head(args: &[&str], stdin: &Bytes) -> Outcome {
    let count = option(args, "-n").or_else(|| args.iter().find_map(|arg| arg.strip_prefix('-')));
    let count = count.and_then(|count| count.parse().ok()).unwrap_or(10);
    let text = String::from_utf8_lossy(stdin);
    Outcome::ok(text.lines().take(count).map(|line| format!("{line}\n")).collect::<String>())
}
