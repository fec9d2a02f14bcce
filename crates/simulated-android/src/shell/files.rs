//! Commands about files.

use bytes::{Bytes, BytesMut};

use super::{Outcome, operands};
use crate::blob;
use crate::device::{File, State};

pub(super) fn run(state: &mut State, name: &str, args: &[&str], stdin: &Bytes) -> Option<Outcome> {
    let paths = operands(args, &["-c", "-m"]);
    Some(match name {
        "cat" => cat(state, &paths, stdin),
        "ls" => ls(state, args, &paths),
        "rm" => rm(state, args, &paths),
        "mkdir" => {
            state.directories.extend(paths.iter().map(|path| path.trim_end_matches('/').to_owned()));
            Outcome::default()
        }
        "touch" => {
            for path in paths {
                let old = state.file(path).map(|file| file.content.bytes.to_vec()).unwrap_or_default();
                write(state, path, old, false);
            }
            Outcome::default()
        }
        "chmod" | "chown" => Outcome::default(),
        "cp" | "mv" => copy(state, name, &paths),
        "stat" => stat(state, args, &paths),
        "sha256sum" => {
            each_file(state, name, &paths, |path, file| format!("{}  {path}\n", file.content.sha256))
        }
        "wc" => each_file(state, name, &paths, |path, file| format!("{} {path}\n", file.content.bytes.len())),
        "test" | "[" => test(state, args),
        _ => return None,
    })
}

/// Writes a file, as a redirection does.
pub(super) fn write(state: &mut State, path: &str, content: Vec<u8>, append: bool) {
    if path == "/dev/null" {
        return;
    }
    let mut bytes = BytesMut::new();
    if append && let Some(old) = state.files.get(path) {
        bytes.extend_from_slice(&old.content.bytes);
    }
    bytes.extend_from_slice(&content);
    let modified = state.now_seconds();
    let file = File { content: blob::intern(bytes.freeze()), mode: 0o644, modified };
    state.files.insert(path.to_owned(), file);
}

fn missing(name: &str, path: &str) -> Outcome {
    Outcome::failed(1, format!("{name}: {path}: No such file or directory\n"))
}

fn each_file(state: &State, name: &str, paths: &[&str], line: impl Fn(&str, &File) -> String) -> Outcome {
    let mut total = Outcome::default();
    for path in paths {
        match state.file(path) {
            Some(file) => total.out.extend(line(path, &file).into_bytes()),
            None => {
                let mut missing = missing(name, path);
                total.err.append(&mut missing.err);
                total.code = 1;
            }
        }
    }
    total
}

fn cat(state: &State, paths: &[&str], stdin: &Bytes) -> Outcome {
    if paths.is_empty() {
        return Outcome::ok(&stdin[..]);
    }
    let mut total = Outcome::default();
    for path in paths {
        match state.file(path) {
            Some(file) => total.out.extend_from_slice(&file.content.bytes),
            // Appium looks for web views among the phone's sockets; there are none.
            None if *path == "/proc/net/unix" => {}
            None => {
                total.err.append(&mut missing("cat", path).err);
                total.code = 1;
            }
        }
    }
    total
}

fn ls(state: &State, args: &[&str], paths: &[&str]) -> Outcome {
    let long = args.iter().any(|arg| arg.starts_with('-') && arg.contains('l'));
    let line = |name: &str, file: Option<&File>| match file {
        Some(file) if long => {
            let size = file.content.bytes.len();
            let date = state.date_time(std::time::Duration::from_secs(u64::from(file.modified)));
            format!("-rw-r--r-- 1 shell shell {size} {} {name}\n", &date[..16])
        }
        None if long => format!("drwxr-xr-x 2 shell shell 4096 2026-01-01 00:00 {name}\n"),
        _ => format!("{name}\n"),
    };
    let mut total = Outcome::default();
    for path in if paths.is_empty() { &["/"] } else { paths } {
        if let Some(file) = state.file(path) {
            total.out.extend(line(path, Some(&file)).into_bytes());
        } else if state.is_directory(path) {
            for (name, file) in state.list(path) {
                total.out.extend(line(&name, file.as_ref()).into_bytes());
            }
        } else {
            total.err.append(&mut missing("ls", path).err);
            total.code = 1;
        }
    }
    total
}

fn rm(state: &mut State, args: &[&str], paths: &[&str]) -> Outcome {
    let flag = |letter| args.iter().any(|arg| arg.starts_with('-') && arg.contains(letter));
    let (force, recursive) = (flag('f'), flag('r') || flag('R'));
    let mut total = Outcome::default();
    for path in paths {
        let removed = if let Some(folder) = path.strip_suffix("/*") {
            let names = state.list(folder);
            for (name, file) in &names {
                if file.is_some() || recursive {
                    remove(state, &format!("{folder}/{name}"));
                }
            }
            !names.is_empty()
        } else if state.files.contains_key(*path) || (recursive && state.is_directory(path)) {
            remove(state, path.trim_end_matches('/'));
            true
        } else {
            false
        };
        if !removed && !force {
            total.err.append(&mut missing("rm", path).err);
            total.code = 1;
        }
    }
    total
}

fn remove(state: &mut State, path: &str) {
    let below = format!("{path}/");
    state.files.retain(|known, _| known != path && !known.starts_with(&below));
    state.directories.retain(|known| known != path && !known.starts_with(&below));
}

fn copy(state: &mut State, name: &str, paths: &[&str]) -> Outcome {
    let [from, to] = paths else { return Outcome::failed(1, format!("{name}: needs two paths\n")) };
    let Some(file) = state.file(from) else { return missing(name, from) };
    let to = match from.rsplit_once('/') {
        Some((_, base)) if state.is_directory(to) => format!("{}/{base}", to.trim_end_matches('/')),
        _ => (*to).to_owned(),
    };
    if name == "mv" {
        state.files.remove(*from);
    }
    state.files.insert(to, file);
    Outcome::default()
}

/// `stat` with the formats `%s` (size), `%Y` (modified), `%a` (mode) and `%n` (name); without one, the size.
fn stat(state: &State, args: &[&str], paths: &[&str]) -> Outcome {
    let format = super::option(args, "-c").unwrap_or("%s");
    each_file(state, "stat", paths, |path, file| {
        let line = format
            .replace("%s", &file.content.bytes.len().to_string())
            .replace("%Y", &file.modified.to_string())
            .replace("%a", &format!("{:o}", file.mode & 0o777))
            .replace("%n", path);
        line + "\n"
    })
}

fn test(state: &State, args: &[&str]) -> Outcome {
    let args: Vec<&str> = args.iter().copied().filter(|arg| *arg != "]").collect();
    let holds = match args.as_slice() {
        ["!", kind, path] => !exists(state, kind, path),
        [kind, path] => exists(state, kind, path),
        [left, "=" | "==", right] => left == right,
        [left, "!=", right] => left != right,
        [text] => !text.is_empty(),
        _ => false,
    };
    Outcome { code: u8::from(!holds), ..Outcome::default() }
}

fn exists(state: &State, kind: &str, path: &str) -> bool {
    match kind {
        "-f" | "-s" => state.file(path).is_some(),
        "-d" => state.is_directory(path),
        "-e" | "-r" | "-w" => state.file(path).is_some() || state.is_directory(path),
        "-n" => !path.is_empty(),
        "-z" => path.is_empty(),
        _ => false,
    }
}
