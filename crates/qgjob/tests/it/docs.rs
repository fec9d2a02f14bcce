//! The reference pages are those of the code, and every command explains itself.

use std::path::Path;

use qgjob::cli::{reference, tree};

#[test]
fn reference_pages_are_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let update = std::env::var_os("QGJOB_UPDATE_DOCS").is_some();
    let mut stale = Vec::new();
    for (name, text) in reference::pages() {
        let path = root.join(name);
        if std::fs::read_to_string(&path).unwrap_or_default() == text {
            continue;
        }
        if update {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
        } else {
            stale.push(name);
        }
    }
    assert!(
        stale.is_empty(),
        "stale: {stale:?}. To update them: QGJOB_UPDATE_DOCS=1 cargo test -p qgjob --test it docs"
    );
}

#[test]
fn every_command_has_an_example_and_every_flag_a_meaning() {
    let mut tree = tree();
    tree.build();
    let mut missing = Vec::new();
    let mut commands = 0;
    walk(&tree, "qgjob", &mut |command, path| {
        commands += 1;
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let example = after.lines().any(|line| line.trim_start().contains(path));
        if !after.starts_with("Example") || !example {
            missing.push(format!("{path}: no example that calls it"));
        }
        if command.get_about().is_none() {
            missing.push(format!("{path}: not described"));
        }
        for arg in command.get_arguments().filter(|arg| arg.get_help().is_none()) {
            missing.push(format!("{path}: {} is not described", arg.get_id()));
        }
    });
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(commands > 40, "the walk saw only {commands} commands");
}

/// Visits every command but `help` copies, which clap adds below groups.
fn walk(command: &clap::Command, path: &str, visit: &mut impl FnMut(&clap::Command, &str)) {
    visit(command, path);
    for sub in command.get_subcommands() {
        walk(sub, &format!("{path} {}", sub.get_name()), visit);
    }
}

#[test]
fn no_two_commands_share_a_name() {
    fn check(command: &clap::Command) {
        let mut seen = std::collections::BTreeSet::new();
        for sub in command.get_subcommands() {
            let names = std::iter::once(sub.get_name()).chain(sub.get_all_aliases());
            for name in names {
                assert!(seen.insert(name.to_owned()), "{name} twice below {}", command.get_name());
            }
            check(sub);
        }
    }
    check(&tree());
    // Parses every default value and asserts what clap can assert about itself.
    tree().debug_assert();
}
