//! The reference pages of `docs/`, made from the code so that they cannot be wrong.

use std::fmt::Write;

use qgjob_core::api::problem::Code;
use qgjob_core::model::exit::ExitCode;

use super::{topics, tree};
use crate::config::VARIABLES;

const NOTE: &str =
    "<!-- Made from the code. To update: QGJOB_UPDATE_DOCS=1 cargo test -p qgjob --test it docs -->\n";

/// Every page: its path below the repository, and its text.
pub fn pages() -> Vec<(&'static str, String)> {
    vec![
        ("docs/CLI.md", cli()),
        ("docs/CONFIG.md", config()),
        ("docs/PROBLEMS.md", problems()),
        ("docs/EXIT-CODES.md", exit_codes()),
    ]
}

fn cli() -> String {
    let mut page = format!(
        "# The command line\n\n{NOTE}\nGlobal options work before and after a command; they are listed once, here.\n"
    );
    let mut root = tree().term_width(100);
    root.build();
    section(&mut page, &mut root, "qgjob", 0);
    page.push_str("\n# Topics\n");
    for (name, text) in topics::TOPICS {
        let text = text();
        let lines: Vec<_> = text.lines().map(str::trim_end).collect();
        write!(page, "\n## `qgjob help {name}`\n\n```text\n{}\n```\n", lines.join("\n"))
            .expect("a string grows");
    }
    page
}

fn section(page: &mut String, command: &mut clap::Command, path: &str, depth: usize) {
    let hashes = "#".repeat((depth + 2).min(4));
    if depth > 0 {
        // Repeated under each command they would drown what is special about it.
        let global: Vec<_> = command
            .get_arguments()
            .filter(|arg| arg.is_global_set() || arg.get_id() == "help" || arg.get_id() == "version")
            .map(|arg| arg.get_id().clone())
            .collect();
        let mut shown = command.clone();
        for id in global {
            shown = shown.mut_arg(id, |arg| arg.hide(true));
        }
        *command = shown;
    }
    let help = command.clone().bin_name(path).render_long_help().to_string();
    let lines: Vec<_> = help.lines().map(str::trim_end).collect();
    let help = lines.join("\n").replace("\n\n\n", "\n\n");
    write!(page, "\n{hashes} `{path}`\n\n```text\n{}\n```\n", help.trim_end()).expect("a string grows");
    for sub in command.get_subcommands_mut().filter(|sub| !sub.is_hide_set()) {
        let path = format!("{path} {}", sub.get_name());
        section(page, sub, &path, depth + 1);
    }
}

fn config() -> String {
    let example = include_str!("../../../../qgjob.example.toml");
    let mut page = format!("# Configuration\n\n{NOTE}\n");
    let text =
        topics::TOPICS.iter().find(|(name, _)| *name == "config").map(|(_, text)| text()).unwrap_or_default();
    write!(page, "```text\n{text}\n```\n\n## `qgjob.toml`\n\n```toml\n{example}```\n\n")
        .expect("a string grows");
    page.push_str("## Environment\n\n| variable | meaning |\n|---|---|\n");
    for (name, what) in VARIABLES {
        writeln!(page, "| `{name}` | {} |", what.replace('|', "\\|")).expect("a string grows");
    }
    let server = toml::to_string(&qgjob_server::config::Config::default()).unwrap_or_default();
    page.push_str("\n## The server\n\nDefaults of `qgjob server run --config FILE`; `qgjob server print-config` prints what is in force. ");
    write!(
        page,
        "Flags beat the file. Spans are texts like `30s`, sizes are bytes.\n\n```toml\n{server}```\n"
    )
    .expect("a string grows");
    page
}

fn problems() -> String {
    let mut page = format!(
        "# Problems\n\n{NOTE}\nErrors of the API are `application/problem+json` (RFC 9457) with one of these codes in `code`. The exit code is that of \
         a command that ends with it ([EXIT-CODES.md](EXIT-CODES.md)).\n\n| code | status | exit code | meaning | what to do |\n|---|---|---|---|---|\n"
    );
    for code in Code::ALL {
        let (word, status, exit) = (code.as_str(), code.status(), u8::from(code.exit_code()));
        writeln!(page, "| `{word}` | {status} | {exit} | {} | {} |", code.title(), code.what_to_do())
            .expect("a string grows");
    }
    page
}

fn exit_codes() -> String {
    let mut page = format!(
        "# Exit codes\n\n{NOTE}\nThe numbers never change. A command that watches ends with the server's verdict, never with what it read out of \
         text.\n\n| code | name | meaning | a pipeline should |\n|---|---|---|---|\n"
    );
    for code in ExitCode::ALL {
        let (name, meaning, pipeline) = code.explain();
        writeln!(page, "| {} | `{name}` | {meaning} | {pipeline} |", u8::from(code)).expect("a string grows");
    }
    writeln!(page, "\n{}\n\n{}", ExitCode::worst_first(), topics::EXIT_CODES).expect("a string grows");
    page
}
