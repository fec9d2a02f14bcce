//! The GitHub Action on a runner that keeps the real one's rules: what a workflow sees of each end, and that nothing a test
//! says is taken for a command.

mod cancels;
mod commands;
mod contents;
mod ends;
mod hostile;
mod outages;
mod real;
mod runner;

use std::path::Path;

use qgjob::ci::github::inputs;

use crate::cli_story::desk::Desk;
use runner::{Action, Runner};

/// A step that submits the desk's three tests for one app version.
fn three_tests(desk: &Desk) -> Runner {
    let home = desk.config().parent().and_then(Path::parent).unwrap().to_owned();
    Runner::new(&desk.project(), &home)
        .with("server", &format!("http://{}", desk.address))
        .with("org-id", "qualgent")
        .with("app-version-id", "xyz123")
        .with("test", "tests")
}

#[test]
fn the_program_and_the_action_have_the_same_inputs() {
    let action = Action::read();
    let known: std::collections::BTreeSet<_> = inputs::names().collect();
    let declared = action.inputs();
    assert_eq!(known, declared.iter().map(|(name, _)| name.as_str()).collect());
}

#[test]
fn the_page_shows_the_inputs_and_outputs_of_the_action() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/GITHUB.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let action = Action::read();
    let mut inputs = String::from("| input | meaning | default |\n|---|---|---|\n");
    for (name, input) in action.inputs() {
        let default = input.default.as_deref().filter(|text| !text.is_empty());
        let default = default.map(|text| format!("`{text}`")).unwrap_or_default();
        inputs.push_str(&format!("| `{name}` | {} | {default} |\n", input.description));
    }
    let mut outputs = String::from("| output | meaning |\n|---|---|\n");
    for (name, output) in action.outputs() {
        outputs.push_str(&format!("| `{name}` | {} |\n", output.description));
    }
    let expected =
        [("inputs", inputs), ("outputs", outputs)].iter().fold(page.clone(), |page, (mark, table)| {
            let (before, rest) = page.split_once(&format!("<!-- {mark} -->\n")).unwrap();
            let (_, after) = rest.split_once("<!-- end -->").unwrap();
            format!("{before}<!-- {mark} -->\n\n{table}\n<!-- end -->{after}")
        });
    if std::env::var_os("QGJOB_UPDATE_DOCS").is_some() {
        std::fs::write(&path, expected).unwrap();
        return;
    }
    assert_eq!(
        page, expected,
        "to update it: QGJOB_UPDATE_DOCS=1 cargo test -p qgjob --test it github_story"
    );
}
