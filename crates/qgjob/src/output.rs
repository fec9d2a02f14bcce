//! What commands print: results to stdout, messages to stderr, each in the form that was asked for.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::config::Environment;

/// The form of results.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people; may change.
    #[default]
    Text,
    /// One JSON document.
    Json,
    /// One JSON document per line, as things happen.
    Jsonl,
    /// Ids alone, one per line.
    Name,
    /// Nothing.
    None,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless the environment says otherwise.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Green: good.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Red: bad.
pub const BAD: Style = AnsiColor::Red.on_default();
/// Yellow: look here.
pub const WARN: Style = AnsiColor::Yellow.on_default();
/// Less important.
pub const DIM: Style = Style::new().dimmed();
/// More important.
pub const BOLD: Style = Style::new().bold();

/// Where and how to print.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// The form of results.
    pub format: Format,
    /// Whether messages besides errors are left out.
    pub quiet: bool,
    /// Whether results are coloured.
    pub color: bool,
    /// Whether messages are coloured.
    pub color_messages: bool,
    /// Whether a person watches: a display may be redrawn on stderr.
    pub live: bool,
}

impl Output {
    /// Decides by flags, environment and where the streams lead.
    pub fn new(format: Format, quiet: bool, color: ColorChoice, progress: bool, env: &Environment) -> Self {
        let dumb = env.get("TERM") == Some("dumb");
        let (out, err) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        let colored = |terminal: bool| match color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => wants_color(env, terminal),
        };
        let live = progress && !quiet && !dumb && out && err && format == Format::Text;
        Self { format, quiet, color: colored(out), color_messages: colored(err), live }
    }

    /// Prints a line of text for people.
    ///
    /// # Errors
    /// When stdout is gone.
    pub fn line(&self, text: impl AsRef<str>) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_ref().as_bytes())?;
        out.write_all(b"\n")?;
        out.flush()
    }

    /// Prints bytes as they are.
    ///
    /// # Errors
    /// When stdout is gone.
    pub fn raw(&self, bytes: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()
    }

    /// Prints one object: as JSON, or its name; `text` makes the text for people.
    ///
    /// # Errors
    /// When stdout is gone.
    pub fn object(
        &self,
        value: &impl Serialize,
        name: &str,
        text: impl FnOnce() -> String,
    ) -> io::Result<()> {
        match self.format {
            Format::Text => self.line(text().trim_end_matches('\n')),
            Format::Json => self.line(pretty(value)),
            Format::Jsonl => self.line(compact(value)),
            Format::Name => self.line(name),
            Format::None => Ok(()),
        }
    }

    /// Prints a list.
    ///
    /// # Errors
    /// When stdout is gone.
    pub fn list(&self, list: &List) -> io::Result<()> {
        match self.format {
            Format::Text if list.rows.is_empty() => {
                self.note(format!("No {}.", list.what));
                Ok(())
            }
            Format::Text => {
                self.line(table(list.headers, &list.rows))?;
                if list.next_cursor.is_some() {
                    self.note("There are more; use --limit or --cursor to see them.");
                }
                Ok(())
            }
            Format::Json => self.line(pretty(&serde_json::json!({
                "schema": "qgjob.list/v1",
                "items": list.items,
                "next_cursor": list.next_cursor,
            }))),
            Format::Jsonl => list.items.iter().try_for_each(|item| self.line(compact(item))),
            Format::Name => list.names.iter().try_for_each(|name| self.line(name)),
            Format::None => Ok(()),
        }
    }

    /// Tells something besides the result.
    pub fn note(&self, text: impl AsRef<str>) {
        if !self.quiet {
            eprint_line(text.as_ref());
        }
    }

    /// Tells of a danger.
    pub fn warn(&self, text: impl AsRef<str>) {
        if !self.quiet {
            eprint_line(&format!("{} {}", paint(self.color_messages, WARN, "warning:"), text.as_ref()));
        }
    }

    /// Colours a part of a result.
    pub fn paint<'a>(&self, style: Style, text: &'a str) -> Cow<'a, str> {
        paint(self.color, style, text)
    }
}

/// A list to be printed.
#[derive(Debug, Default)]
pub struct List {
    /// What it lists, in the plural.
    pub what: &'static str,
    /// Heads of the columns.
    pub headers: &'static [&'static str],
    /// Cells.
    pub rows: Vec<Vec<String>>,
    /// Ids.
    pub names: Vec<String>,
    /// Objects.
    pub items: Vec<Value>,
    /// Where the next page starts.
    pub next_cursor: Option<String>,
}

impl List {
    /// An empty list.
    pub fn new(what: &'static str, headers: &'static [&'static str]) -> Self {
        Self { what, headers, ..Self::default() }
    }

    /// Adds an item.
    pub fn push(&mut self, name: impl ToString, item: &impl Serialize, row: Vec<String>) {
        self.names.push(name.to_string());
        self.items.push(serde_json::to_value(item).expect("wire types are JSON"));
        self.rows.push(row);
    }
}

/// Writes to stderr; a message that nobody can read any more is no reason to fail.
pub fn eprint_line(text: &str) {
    _ = writeln!(io::stderr().lock(), "{text}");
}

/// JSON for eyes and programs.
pub fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("wire types are JSON")
}

/// JSON on one line.
pub fn compact(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("wire types are JSON")
}

fn paint(color: bool, style: Style, text: &str) -> Cow<'_, str> {
    if color { format!("{style}{text}{style:#}").into() } else { text.into() }
}

fn wants_color(env: &Environment, terminal: bool) -> bool {
    if env.get("NO_COLOR").is_some() {
        return false;
    }
    if env.get("CLICOLOR_FORCE").is_some_and(|value| value != "0") {
        return true;
    }
    terminal && env.get("TERM") != Some("dumb") && env.get("CLICOLOR") != Some("0")
}

/// Columns with their heads, without lines.
pub fn table(headers: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = comfy_table::Table::new();
    table
        .load_style(comfy_table::presets::NOTHING)
        .set_content_arrangement(comfy_table::ContentArrangement::Disabled);
    table.set_header(headers.iter().copied());
    for row in rows {
        table.add_row(row.iter().map(|cell| plain(cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let text = table.to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// A text from elsewhere on one line, without control characters.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c == '\n' || c == '\t' { ' ' } else { c }).filter(|c| !c.is_control()).collect()
}

/// A text from elsewhere with its lines, tabs and, if wanted, its colours; all other control sequences are taken
/// out, so that the output of a test cannot move the cursor or rename the window.
pub fn tame(text: &str, colors: bool) -> String {
    let mut done = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_control() && c != '\n' && c != '\t') {
        done.push_str(&rest[..at]);
        rest = &rest[at..];
        let Some(after) = rest.strip_prefix('\x1b') else {
            let mut chars = rest.chars();
            chars.next();
            rest = chars.as_str();
            continue;
        };
        let (sequence, next) = escape(after);
        let sgr = sequence.starts_with('[')
            && sequence.ends_with('m')
            && sequence[1..sequence.len() - 1].bytes().all(|b| b.is_ascii_digit() || b == b';' || b == b':');
        if colors && sgr {
            done.push('\x1b');
            done.push_str(sequence);
        }
        rest = next;
    }
    done.push_str(rest);
    done
}

/// Splits what follows an escape character into the rest of its sequence and what comes after it.
fn escape(text: &str) -> (&str, &str) {
    let end = match text.as_bytes().first() {
        // Control sequence: parameters, then one final byte.
        Some(b'[') => text[1..].find(|c: char| ('@'..='~').contains(&c)).map(|at| at + 2),
        // Strings (titles, links, device control) end with a bell or an escape and a backslash.
        Some(b']' | b'P' | b'X' | b'^' | b'_') => text.find(['\x07', '\x1b', '\u{9c}']).map(|at| {
            let terminator = if text[at..].starts_with("\x1b\\") {
                2
            } else {
                text[at..].chars().next().map_or(0, char::len_utf8)
            };
            at + terminator
        }),
        Some(_) => text.chars().next().map(char::len_utf8),
        None => None,
    };
    text.split_at(end.unwrap_or(text.len()))
}

/// A span of time for people: `420 ms`, `3.1 s`, `31 s`, `1m 12s`, `2h 05m`.
pub fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..10_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        10_000..60_000 => format!("{} s", ms / 1_000),
        60_000..3_600_000 => format!("{}m {:02}s", ms / 60_000, ms / 1_000 % 60),
        3_600_000..172_800_000 => format!("{}h {:02}m", ms / 3_600_000, ms / 60_000 % 60),
        _ => format!("{}d {:02}h", ms / 86_400_000, ms / 3_600_000 % 24),
    }
}

/// The time between two instants; zero when they are in the wrong order.
pub fn between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.as_millisecond() - from.as_millisecond()).unwrap_or(0)
}

/// A size for people.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} KB", bytes.div_ceil(1_000)),
        1_000_000..1_000_000_000 => format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10),
        _ => format!("{}.{} GB", bytes / 1_000_000_000, bytes / 100_000_000 % 10),
    }
}

/// One thing and several: `1 test`, `2 tests`.
pub fn count(number: impl Into<u64>, noun: &str) -> String {
    let number = number.into();
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_well_at_their_edges() {
        let spans: Vec<_> = [0, 999, 1_000, 9_999, 10_000, 59_999, 60_000, 3_599_999, 3_600_000, 172_800_000]
            .map(span)
            .into();
        assert_eq!(
            spans,
            ["0 ms", "999 ms", "1.0 s", "9.9 s", "10 s", "59 s", "1m 00s", "59m 59s", "1h 00m", "2d 00h"]
        );
    }

    #[test]
    fn the_environment_decides_about_colour() {
        assert!(wants_color(&Environment::default(), true) && !wants_color(&Environment::default(), false));
        assert!(!wants_color(&Environment::from([("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")]), true));
        assert!(wants_color(&Environment::from([("NO_COLOR", "")]), true), "an empty value does not count");
        assert!(wants_color(&Environment::from([("CLICOLOR_FORCE", "1")]), false));
        assert!(!wants_color(&Environment::from([("TERM", "dumb")]), true));
        assert!(!wants_color(&Environment::from([("CLICOLOR", "0")]), true));
    }

    #[test]
    fn only_colours_survive_of_control_sequences() {
        let hostile =
            "a\x1b[31mred\x1b[0m\x1b[2J\x1b]0;title\x07b\x1b]8;;http://x\x1b\\link\r\x08\tc\nd\x1bc\u{9b}2J";
        assert_eq!(tame(hostile, true), "a\x1b[31mred\x1b[0mblink\tc\nd2J");
        assert_eq!(tame(hostile, false), "aredblink\tc\nd2J");
        assert_eq!(tame("cut \x1b[31", true), "cut ");
        assert_eq!(tame("cut \x1b", true), "cut ");
        assert_eq!(tame("\x1b[?25l\x1b[>4;2m", true), "");
    }

    #[test]
    fn a_table_has_no_trailing_blanks_and_no_control_characters() {
        let text = table(&["A", "B"], &[vec!["x\x1b[2J\ny".into(), String::new()]]);
        assert_eq!(text, "A       B\nx[2J y");
    }

    #[test]
    fn one_is_singular() {
        assert_eq!((count(1_u32, "test"), count(0_u32, "test")), ("1 test".into(), "0 tests".into()));
    }
}
