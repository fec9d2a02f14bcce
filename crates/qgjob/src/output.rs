//! What commands print: results to stdout, messages to stderr, each in the form that was asked for.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use serde::Serialize;
use serde_json::Value;

use crate::config::Environment;
pub use crate::text::{between, count, plain, size, span, tame};

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
    /// How many columns a terminal on stdout has; none when it is no terminal, whose lines can be of any length.
    pub width: Option<usize>,
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
        let width = out.then(|| usize::from(console::Term::stdout().size().1));
        Self { format, quiet, color: colored(out), color_messages: colored(err), live, width }
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

    /// Prints one object or, when what was asked for may be several, all of them as one list.
    ///
    /// # Errors
    /// When stdout is gone.
    pub fn objects(&self, objects: &[Object], several: bool) -> io::Result<()> {
        if several && self.format == Format::Json {
            let items: Vec<_> = objects.iter().map(|object| &object.json).collect();
            return self.line(pretty(&list_document(&items, None)));
        }
        objects.iter().try_for_each(|object| self.object(&object.json, &object.name, || object.text.clone()))
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
                self.line(self.table(list.headers, &list.rows))?;
                if list.next_cursor.is_some() {
                    self.note("There are more; use --limit or --cursor to see them.");
                }
                Ok(())
            }
            Format::Json => self.line(pretty(&list_document(&list.items, list.next_cursor.as_deref()))),
            Format::Jsonl => list.items.iter().try_for_each(|item| self.line(compact(item))),
            Format::Name => list.names.iter().try_for_each(|name| self.line(name)),
            Format::None => Ok(()),
        }
    }

    /// Columns with their heads, without lines. On a terminal, empty columns are left out, long cells are shortened,
    /// and what does not fit even so becomes one paragraph per row: a wrapped table cannot be read.
    pub fn table(&self, headers: &[&str], rows: &[Vec<String>]) -> String {
        match self.width {
            Some(width) => fitted(headers, rows, width),
            None => table(headers, rows),
        }
    }

    /// Breaks lines that are longer than the terminal between words; lines of a paragraph flow into each other, lines
    /// that are indented or tabular stay apart and go on below their last column.
    pub fn reflow(&self, text: &str) -> String {
        self.width.map_or_else(|| text.to_owned(), |width| reflowed(text, width.max(30)))
    }

    /// Cuts a line to the width of the terminal.
    pub fn cut(&self, line: &str) -> String {
        match self.width {
            Some(width) => console::truncate_str(line, width.max(20), "…").into_owned(),
            None => line.to_owned(),
        }
    }

    /// Tells that a step is done.
    pub fn done(&self, text: impl AsRef<str>) {
        self.note(format!("{} {}", paint(self.color_messages, GOOD, "✓"), text.as_ref()));
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

/// An object to be printed, in each form.
#[derive(Debug)]
pub struct Object {
    /// Its id.
    pub name: String,
    /// For programs.
    pub json: Value,
    /// For people.
    pub text: String,
}

impl Object {
    /// An object; `text` is what people see.
    pub fn new(name: impl ToString, json: &impl Serialize, text: impl Into<String>) -> Self {
        let json = serde_json::to_value(json).expect("wire types are JSON");
        Self { name: name.to_string(), json, text: text.into() }
    }
}

/// Something of the wire that does not name its schema, with its schema.
#[derive(Debug, Serialize)]
pub struct Typed<'a, T> {
    schema: String,
    #[serde(flatten)]
    item: &'a T,
}

/// Names the schema `qgjob.<kind>/v1` of an object.
pub fn typed<'a, T: Serialize>(kind: &str, item: &'a T) -> Typed<'a, T> {
    Typed { schema: format!("qgjob.{kind}/v1"), item }
}

fn list_document(items: &impl Serialize, next_cursor: Option<&str>) -> Value {
    serde_json::json!({ "schema": "qgjob.list/v1", "items": items, "next_cursor": next_cursor })
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

/// No column is made narrower.
const NARROWEST: usize = 12;
/// Between two columns.
const GAP: usize = 2;

fn fitted(headers: &[&str], rows: &[Vec<String>], width: usize) -> String {
    let used: Vec<usize> =
        (0..headers.len()).filter(|at| rows.iter().any(|row| !row[*at].trim().is_empty())).collect();
    let headers: Vec<&str> = used.iter().map(|at| headers[*at]).collect();
    let cells = |row: &Vec<String>| used.iter().map(|at| plain(&row[*at])).collect();
    let mut rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
    let measure = console::measure_text_width;
    let widest =
        |at: usize| rows.iter().map(|row| measure(&row[at])).chain([measure(headers[at])]).max().unwrap_or(0);
    let mut widths: Vec<usize> = (0..headers.len()).map(widest).collect();
    let full = |widths: &[usize]| widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
    while full(&widths) > width {
        let over = full(&widths) - width;
        let Some((at, longest)) = widths.iter().copied().enumerate().max_by_key(|(_, width)| *width) else {
            break;
        };
        let least = NARROWEST.max(measure(headers[at]));
        if longest <= least {
            return paragraphs(&headers, &rows);
        }
        // The widest gives way until another is as wide.
        let next = widths.iter().copied().filter(|width| *width < longest).max().unwrap_or(0);
        widths[at] = longest.saturating_sub(over).max(next.min(longest - 1)).max(least);
    }
    for row in &mut rows {
        for (cell, width) in row.iter_mut().zip(&widths) {
            *cell = shortened(cell, *width);
        }
    }
    table(&headers, &rows)
}

/// Keeps the part that tells most: the end of ids and paths, the beginning of all else.
fn shortened(cell: &str, width: usize) -> String {
    if console::measure_text_width(cell) <= width {
        return cell.to_owned();
    }
    if cell.contains(' ') || !cell.contains(['/', '_']) {
        return console::truncate_str(cell, width, "…").into_owned();
    }
    let mut end = String::new();
    for c in cell.chars().rev() {
        if console::measure_text_width(&end) + 1 >= width {
            break;
        }
        end.insert(0, c);
    }
    format!("…{end}")
}

/// One paragraph per row: its first cell, and the others below with their heads.
fn paragraphs(headers: &[&str], rows: &[Vec<String>]) -> String {
    let longest = headers.iter().skip(1).map(|head| head.len()).max().unwrap_or(0);
    let mut text = String::new();
    for row in rows {
        text.push_str(&format!("{}\n", row[0]));
        for (head, cell) in headers.iter().zip(row).skip(1).filter(|(_, cell)| !cell.is_empty()) {
            text.push_str(&format!("  {:<longest$}  {cell}\n", head.to_lowercase()));
        }
    }
    text.trim_end().to_owned()
}

fn reflowed(text: &str, width: usize) -> String {
    let is_prose = |line: &str| !line.starts_with(' ') && !line.contains("  ") && !line.is_empty();
    let mut lines: Vec<String> = Vec::new();
    let mut prose = false;
    for line in text.lines() {
        match lines.last_mut().filter(|_| prose && is_prose(line)) {
            Some(last) => *last = format!("{last} {line}"),
            None => lines.push(line.to_owned()),
        }
        prose = is_prose(line);
    }
    lines.iter().map(|line| broken(line, width)).collect::<Vec<_>>().join("\n")
}

fn broken(line: &str, width: usize) -> String {
    if console::measure_text_width(line) <= width {
        return line.to_owned();
    }
    let column = line.rfind("  ").map_or(0, |at| at + 2);
    let start = console::measure_text_width(&line[..column]);
    let (mut done, mut current) = (String::new(), line[..column].to_owned());
    let mut indent = " ".repeat(start);
    if column > 0 && start + 20 > width {
        // The last column has no room beside the others, so it goes below them.
        indent = " ".repeat(4);
        done = format!("{}\n", current.trim_end());
        current.clone_from(&indent);
    }
    let mut fresh = true;
    for word in line[column..].split(' ') {
        if !fresh && console::measure_text_width(&current) + 1 + console::measure_text_width(word) > width {
            done.push_str(current.trim_end());
            done.push('\n');
            current.clone_from(&indent);
            fresh = true;
        }
        if !fresh {
            current.push(' ');
        }
        current.push_str(word);
        fresh = false;
    }
    done + &current
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_table_has_no_trailing_blanks_and_no_control_characters() {
        let text = table(&["A", "B"], &[vec!["x\x1b[2J\ny".into(), String::new()]]);
        assert_eq!(text, "A       B\nx[2J y");
    }

    fn cells(rows: &[&[&str]]) -> Vec<Vec<String>> {
        rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect()
    }

    #[test]
    fn a_table_fits_the_terminal() {
        let headers = ["JOB", "STATUS", "NOTE", "TEST"];
        let rows = cells(&[
            &["job_01kb4x9tq3m8e7w2n5r6v0zcha", "queued", "", "tests/checkout/with-a-coupon.spec.js"],
            &["job_01kb4x9tq3m8e7w2n5r6v0zchb", "running", "", "tests/a.spec.js"],
        ]);
        assert_eq!(
            fitted(&headers, &rows, 200),
            "JOB                             STATUS   TEST\n\
             job_01kb4x9tq3m8e7w2n5r6v0zcha  queued   tests/checkout/with-a-coupon.spec.js\n\
             job_01kb4x9tq3m8e7w2n5r6v0zchb  running  tests/a.spec.js"
        );
        for width in 30..90 {
            let text = fitted(&headers, &rows, width);
            let widest = text.lines().map(console::measure_text_width).max().unwrap();
            let paragraphs = !text.starts_with("JOB");
            assert!(widest <= width || paragraphs, "{width}: {text}");
            assert!(text.contains("zcha") && text.contains("zchb"), "{width}: {text}");
        }
        assert_eq!(
            fitted(&headers, &rows[1..], 30),
            "job_01kb4x9tq3m8e7w2n5r6v0zchb\n  status  running\n  test    tests/a.spec.js"
        );
    }

    #[test]
    fn long_lines_break_between_words() {
        let text = "One paragraph of\ntwo lines.\n\n  -o json  a document that is one\nCODE  MEANING\n";
        assert_eq!(
            reflowed(text, 24),
            "One paragraph of two\nlines.\n\n  -o json\n    a document that is\n    one\nCODE  MEANING"
        );
        assert_eq!(reflowed("12  all good things come", 30), "12  all good things come");
        assert_eq!(
            reflowed("12  all good things come to an end", 30),
            "12  all good things come to an\n    end"
        );
    }
}
