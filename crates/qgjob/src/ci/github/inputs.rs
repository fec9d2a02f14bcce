//! The inputs of the action, as the runner sets them, and the command line that they mean: the action is `qgjob submit`
//! in another spelling.

use crate::config::Environment;

/// What becomes of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// The value of a flag of `qgjob submit`.
    Flag(&'static str),
    /// One flag for each line.
    Lines(&'static str),
    /// Read by the action itself.
    Own,
}

/// Every input of `action.yml`: its name, what becomes of it, and whether it says what is run. What only says how it is
/// waited for and shown does not change the key of a run.
const INPUTS: &[(&str, Use, bool)] = &[
    ("server", Use::Flag("--server"), false),
    ("token", Use::Own, false),
    ("org-id", Use::Flag("--org-id"), true),
    ("app-version-id", Use::Flag("--app-version-id"), true),
    ("app", Use::Flag("--app"), true),
    ("test", Use::Lines("--test"), true),
    ("project-dir", Use::Own, true),
    ("platform", Use::Flag("--platform"), true),
    ("target", Use::Flag("--target"), true),
    ("device", Use::Flag("--device"), true),
    ("priority", Use::Flag("--priority"), true),
    ("shards", Use::Flag("--shards"), true),
    ("reset", Use::Flag("--reset"), true),
    ("concurrency-group", Use::Flag("--concurrency-group"), true),
    ("timeout", Use::Flag("--timeout"), true),
    ("queue-timeout", Use::Flag("--queue-timeout"), true),
    ("reconnect-timeout", Use::Flag("--reconnect-timeout"), false),
    ("retries", Use::Flag("--retries"), true),
    ("test-retries", Use::Flag("--test-retries"), true),
    ("env", Use::Lines("--env"), true),
    ("label", Use::Lines("--label"), true),
    ("name", Use::Flag("--name"), true),
    ("mode", Use::Own, false),
    ("rerun", Use::Own, false),
    ("fail-on-flaky", Use::Own, false),
    ("annotations", Use::Own, false),
    ("summary", Use::Own, false),
    ("junit", Use::Own, false),
    ("artifacts", Use::Own, false),
    ("log-level", Use::Own, false),
    ("binary", Use::Own, false),
    ("matrix", Use::Own, true),
];

/// An input that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the input {name} cannot be {value:?}")]
pub struct BadInput {
    /// Its name.
    pub name: &'static str,
    /// What was given.
    pub value: String,
    /// What could have been.
    pub expected: String,
}

/// Inputs that are not empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inputs {
    values: Vec<(&'static str, String)>,
}

impl Inputs {
    /// What the runner set: `INPUT_` and the name in capitals; dashes stay. Blanks around values do not count.
    pub fn of(env: &Environment) -> Self {
        let value = |name: &str| env.get(&format!("INPUT_{}", name.to_ascii_uppercase())).map(str::trim);
        let values = INPUTS.iter().filter_map(|(name, ..)| {
            let value = value(name).filter(|value| !value.is_empty())?;
            Some((*name, value.to_owned()))
        });
        Self { values: values.collect() }
    }

    /// The same without one.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.values.retain(|(other, _)| *other != name);
        self
    }

    /// The value of an input.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.iter().find(|(other, _)| *other == name).map(|(_, value)| value.as_str())
    }

    /// A yes or no, in the words of YAML.
    ///
    /// # Errors
    /// When it is neither.
    pub fn is_on(&self, name: &'static str, default: bool) -> Result<bool, BadInput> {
        match self.get(name) {
            None => Ok(default),
            Some("true" | "True" | "TRUE") => Ok(true),
            Some("false" | "False" | "FALSE") => Ok(false),
            Some(value) => Err(bad(name, value, "true or false")),
        }
    }

    /// One of `words`, the first of which is the default.
    ///
    /// # Errors
    /// When it is none of them.
    pub fn choice<'a>(&self, name: &'static str, words: &[&'a str]) -> Result<&'a str, BadInput> {
        let Some(value) = self.get(name) else { return Ok(words[0]) };
        words.iter().copied().find(|word| *word == value).ok_or_else(|| bad(name, value, &words.join(", ")))
    }

    /// The flags of `qgjob submit` that say the same.
    pub fn flags(&self) -> Vec<String> {
        let mut flags = Vec::new();
        for (name, how, _) in INPUTS {
            let Some(value) = self.get(name) else { continue };
            match how {
                // With =, since a value may begin with a dash.
                Use::Flag(flag) => flags.push(format!("{flag}={value}")),
                Use::Lines(flag) => {
                    let lines = value.lines().map(str::trim).filter(|line| !line.is_empty());
                    flags.extend(lines.map(|line| format!("{flag}={line}")));
                }
                Use::Own => {}
            }
        }
        flags
    }

    /// Those that say what is run: part of the key of the run.
    pub fn of_run(&self) -> Vec<(&str, &str)> {
        let of_run = INPUTS.iter().filter(|(_, _, of_run)| *of_run);
        of_run.filter_map(|(name, ..)| Some((*name, self.get(name)?))).collect()
    }
}

/// The input whose flag is `flag`.
pub fn of_flag(flag: &str) -> Option<&'static str> {
    let found =
        INPUTS.iter().find(|(_, how, _)| matches!(how, Use::Flag(own) | Use::Lines(own) if *own == flag));
    found.map(|(name, ..)| *name)
}

/// The names of all inputs.
pub fn names() -> impl Iterator<Item = &'static str> {
    INPUTS.iter().map(|(name, ..)| *name)
}

fn bad(name: &'static str, value: &str, expected: &str) -> BadInput {
    BadInput { name, value: value.to_owned(), expected: expected.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs<const N: usize>(pairs: [(&str, &str); N]) -> Inputs {
        Inputs::of(&Environment::from(pairs))
    }

    #[test]
    fn inputs_become_flags() {
        let inputs = inputs([
            ("INPUT_ORG-ID", "qualgent"),
            ("INPUT_TEST", "tests/a.spec.js\n\n  tests/b*\n"),
            ("INPUT_NAME", "-x y"),
            ("INPUT_PRIORITY", "  "),
            ("INPUT_TOKEN", "qgj_secret"),
        ]);
        assert_eq!(
            inputs.flags(),
            ["--org-id=qualgent", "--test=tests/a.spec.js", "--test=tests/b*", "--name=-x y"]
        );
    }

    #[test]
    fn what_is_no_choice_is_told_with_the_name_of_the_input() {
        let inputs = inputs([("INPUT_MODE", "never"), ("INPUT_SUMMARY", "yes")]);
        assert_eq!(inputs.choice("rerun", &["failed", "all"]), Ok("failed"), "the first is the default");
        let error = inputs.choice("mode", &["wait", "async"]).unwrap_err();
        assert_eq!(
            (error.to_string().as_str(), error.expected.as_str()),
            ("the input mode cannot be \"never\"", "wait, async")
        );
        assert_eq!(inputs.is_on("summary", true).unwrap_err().name, "summary");
        assert_eq!(inputs.is_on("annotations", true), Ok(true));
    }

    #[test]
    fn what_is_only_waited_for_and_shown_does_not_change_the_run() {
        let of_run = |name: &str| {
            let name = format!("INPUT_{name}");
            inputs([("INPUT_TEST", "a"), (&name, "x")]).of_run().len()
        };
        for name in
            ["TOKEN", "SUMMARY", "ANNOTATIONS", "RECONNECT-TIMEOUT", "MODE", "RERUN", "SERVER", "BINARY"]
        {
            assert_eq!(of_run(name), 1, "{name}");
        }
        for name in ["MATRIX", "ENV", "LABEL", "TIMEOUT", "APP", "PROJECT-DIR"] {
            assert_eq!(of_run(name), 2, "{name}");
        }
    }
}
