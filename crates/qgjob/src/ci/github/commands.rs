//! Workflow commands, written as the runner reads them: one line each, `::name key=value,…::data`.
//!
//! The runner takes every line of a step's output for a command that looks like one, also in the older form `##[name]data`
//! anywhere in the line. What others wrote (titles and errors of tests, names of files, what a server says) is therefore
//! printed only inside a [`Guard`], or escaped as the data of a command. Rules as in the runner's `ActionCommand.cs` and
//! `ActionCommandManager.cs`, and in the toolkit's `command.ts`.

use crate::text::tame;

/// The runner cuts longer messages, counted in UTF-16 units; ours say that they were cut.
const LONGEST_MESSAGE: usize = 4_000;
const LONGEST_TITLE: usize = 250;
/// A mask of fewer characters would hide harmless text all over the log.
const SHORTEST_MASK: usize = 4;

/// How an annotation looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Red.
    Error,
    /// Yellow.
    Warning,
}

impl Level {
    fn command(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// A message shown at a line of the repository, or at the workflow run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    /// How it looks.
    pub level: Level,
    /// File, relative to the repository.
    pub file: Option<String>,
    /// Line of the file, from 1.
    pub line: Option<u32>,
    /// Its head.
    pub title: String,
    /// Its text; may have several lines.
    pub message: String,
}

impl Annotation {
    /// The command that shows it. A command without data is none to the runner, so an empty message repeats the title.
    pub fn command(&self) -> String {
        let mut properties = Vec::new();
        if let Some(file) = &self.file {
            properties.push(format!("file={}", property(&clean(file))));
            let line = self.line.filter(|line| *line > 0);
            properties.extend(line.map(|line| format!("line={line},endLine={line}")));
        }
        let title = cut(&clean(&self.title), LONGEST_TITLE);
        properties.push(format!("title={}", property(&title)));
        let message = clean(self.message.trim());
        let message = if message.is_empty() { title } else { cut(&message, LONGEST_MESSAGE) };
        format!("::{} {}::{}", self.level.command(), properties.join(","), data(&message))
    }
}

/// Opens a group of lines that can be folded.
pub fn group(title: &str) -> String {
    format!("::group::{}", data(&clean(title)))
}

/// Closes the group.
pub const END_GROUP: &str = "::endgroup::";

/// Hides each line of a secret in what the job prints from now on.
pub fn masks(secret: &str) -> impl Iterator<Item = String> + '_ {
    let lines = secret.lines().map(str::trim).filter(|line| line.len() >= SHORTEST_MASK);
    lines.map(|line| format!("::add-mask::{}", data(line)))
}

/// What stands between its two commands is no command, whatever it says. The word that ends it must not be guessed, so it
/// is made of 128 random bits and used once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    word: String,
}

impl Guard {
    /// A guard of its own.
    pub fn new(random: u128) -> Self {
        Self { word: format!("qgjob-{random:032x}") }
    }

    /// From here on nothing is a command.
    pub fn close(&self) -> String {
        format!("::stop-commands::{}", self.word)
    }

    /// From here on commands count again.
    pub fn open(&self) -> String {
        format!("::{}::", self.word)
    }
}

/// An output or a state in one of the runner's files. The delimiter must not be guessed by who wrote the value.
pub fn assignment(name: &str, value: &str, random: u128) -> String {
    let end = format!("qgjob_{random:032x}");
    format!("{name}<<{end}\n{value}\n{end}\n")
}

/// Lines and tabs stay; colours, other control characters and what some programs take for the end of a line go.
fn clean(text: &str) -> String {
    tame(text, false).replace(['\u{2028}', '\u{2029}'], " ")
}

/// At most `most` UTF-16 units.
fn cut(text: &str, most: usize) -> String {
    let mut units = 0;
    for (at, c) in text.char_indices() {
        units += c.len_utf16();
        if units > most {
            return format!("{}…", &text[..at]);
        }
    }
    text.to_owned()
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotation(title: &str, message: &str) -> Annotation {
        Annotation {
            level: Level::Error,
            file: Some("a,b:c/%41.spec.js".into()),
            line: Some(12),
            title: title.into(),
            message: message.into(),
        }
    }

    #[test]
    fn nothing_ends_a_command_or_begins_another() {
        let text = annotation(
            "x::y,z=1\n::error::w",
            "50%0A%\r\n::set-output name=a::b\u{2028}\x1b[31m##[add-path]/x",
        );
        assert_eq!(
            text.command(),
            "::error file=a%2Cb%3Ac/%2541.spec.js,line=12,endLine=12,title=x%3A%3Ay%2Cz=1%0A%3A%3Aerror%3A%3Aw\
             ::50%250A%25%0A::set-output name=a::b ##[add-path]/x"
        );
    }

    #[test]
    fn long_messages_are_cut_where_the_runner_counts() {
        for long in ["x".repeat(9_000), "😀".repeat(5_000), "%\n".repeat(5_000)] {
            let command = annotation("t", &long).command();
            let message = command.split_once("title=t::").unwrap().1.replace("%0A", "\n").replace("%25", "%");
            assert!(message.encode_utf16().count() <= 4_096 && message.ends_with('…'));
        }
    }

    #[test]
    fn an_annotation_is_never_without_data() {
        assert!(annotation("head", " \n").command().ends_with("title=head::head"));
        let nowhere = Annotation { file: None, line: Some(3), ..annotation("t", "m") };
        assert_eq!(nowhere.command(), "::error title=t::m");
    }

    #[test]
    fn short_lines_of_secrets_are_not_masked() {
        let masked: Vec<_> = masks("abc\nabcd\r\n  50%off \n").collect();
        assert_eq!(masked, ["::add-mask::abcd", "::add-mask::50%25off"]);
    }

    #[test]
    fn a_value_cannot_end_its_assignment() {
        let text = assignment("results", "a\nqgjob_0\nb=c", 7);
        let (head, rest) = text.split_once('\n').unwrap();
        let end = head.strip_prefix("results<<").unwrap();
        assert_eq!(rest, format!("a\nqgjob_0\nb=c\n{end}\n"));
        assert_ne!(assignment("a", "", 1), assignment("a", "", 2));
    }
}
