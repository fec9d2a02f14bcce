//! The phone's shell: enough of `sh` and of Android's commands for adb, Appium and test tools.

mod activity;
mod dumpsys;
mod files;
mod package;
mod syntax;
mod system;
mod tools;

use std::time::Duration;

use bytes::Bytes;

use crate::device::State;
use syntax::{Joint, Redirect, Step};

/// What a command line did.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) out: Vec<u8>,
    pub(crate) err: Vec<u8>,
    pub(crate) code: u8,
    /// How long the phone waits before it answers.
    pub(crate) pause: Duration,
}

impl Outcome {
    fn ok(out: impl Into<Vec<u8>>) -> Self {
        Self { out: out.into(), ..Self::default() }
    }

    fn failed(code: u8, err: impl Into<Vec<u8>>) -> Self {
        Self { err: err.into(), code, ..Self::default() }
    }

    /// Some of Android's commands print their complaints to stdout.
    fn refused(code: u8, out: impl Into<Vec<u8>>) -> Self {
        Self { out: out.into(), code, ..Self::default() }
    }
}

/// The last plain command of a line, which is what keeps running when `adb logcat` sends `export …; exec logcat`.
pub(crate) fn last_command(line: &str) -> Vec<String> {
    let steps = syntax::parse(line).unwrap_or_default();
    let command = steps.into_iter().last().and_then(|step| step.pipeline.into_iter().last());
    let mut words = command.map(|command| command.words).unwrap_or_default();
    if words.first().is_some_and(|first| first == "exec") {
        words.remove(0);
    }
    words
}

/// Runs a command line. `stdin` is what the first command that wants it reads.
pub(crate) fn run(state: &mut State, line: &str, stdin: &Bytes) -> Outcome {
    let steps = match syntax::parse(line) {
        Ok(steps) => steps,
        Err(message) => {
            state.unknown(line);
            return Outcome::failed(2, format!("/system/bin/sh: {message}\n"));
        }
    };
    let mut total = Outcome::default();
    for Step { joint, pipeline } in steps {
        let goes = match joint {
            Joint::Then => true,
            Joint::And => total.code == 0,
            Joint::Or => total.code != 0,
        };
        if !goes {
            continue;
        }
        let mut input = stdin.clone();
        let last = pipeline.len() - 1;
        for (index, command) in pipeline.into_iter().enumerate() {
            let previous = total.code.to_string();
            if let [name, code @ ..] = command.words.as_slice()
                && name == "exit"
            {
                total.code = code.first().and_then(|code| code.parse().ok()).unwrap_or(total.code);
                return total;
            }
            let words: Vec<String> = command.words.iter().map(|word| word.replace("$?", &previous)).collect();
            let mut outcome = execute(state, &words, &input);
            for redirect in &command.redirects {
                apply(state, redirect, &mut outcome);
            }
            total.err.append(&mut outcome.err);
            total.pause += outcome.pause;
            total.code = outcome.code;
            if index == last {
                total.out.append(&mut outcome.out);
            } else {
                input = Bytes::from(outcome.out);
            }
        }
    }
    total
}

fn apply(state: &mut State, redirect: &Redirect, outcome: &mut Outcome) {
    match redirect {
        Redirect::ErrToOut => outcome.out.append(&mut outcome.err),
        Redirect::Err(path) => {
            let err = std::mem::take(&mut outcome.err);
            files::write(state, path, err, false);
        }
        Redirect::Out { path, append } => {
            let out = std::mem::take(&mut outcome.out);
            files::write(state, path, out, *append);
        }
    }
}

fn execute(state: &mut State, words: &[String], stdin: &Bytes) -> Outcome {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let words = words.strip_prefix(&["exec"]).unwrap_or(&words);
    let Some((&name, args)) = words.split_first() else { return Outcome::default() };
    let package_service = match (name, args.first()) {
        ("pm", _) => Some(args),
        ("cmd", Some(&"package")) => Some(&args[1..]),
        _ => None,
    };
    let outcome = match (package_service, name) {
        (Some(_), _) | (_, "am") if state.booting() => {
            return Outcome::failed(20, "cmd: Can't find service: package\n");
        }
        (Some(args), _) => package::run(state, args, stdin),
        (None, "am") => activity::run(state, args),
        (None, "monkey") => Some(activity::monkey(state, args)),
        (None, "dumpsys") => dumpsys::run(state, args),
        (None, _) => files::run(state, name, args, stdin)
            .or_else(|| tools::run(name, args, stdin))
            .or_else(|| system::run(state, name, args)),
    };
    outcome.unwrap_or_else(|| {
        state.unknown(&words.join(" "));
        Outcome::failed(127, format!("/system/bin/sh: {name}: inaccessible or not found\n"))
    })
}

/// Splits options from operands. Options in `with_value` take the next word along.
fn operands<'a>(args: &[&'a str], with_value: &[&str]) -> Vec<&'a str> {
    let mut operands = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if with_value.contains(arg) {
            args.next();
        } else if !arg.starts_with('-') || *arg == "-" {
            operands.push(*arg);
        }
    }
    operands
}

/// The word after an option.
fn option<'a>(args: &[&'a str], name: &str) -> Option<&'a str> {
    let at = args.iter().position(|arg| *arg == name)?;
    args.get(at + 1).copied()
}
