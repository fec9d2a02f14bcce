//! What the runner makes of a step's output: workflow commands by the rules of its `ActionCommand.cs` and
//! `ActionCommandManager.cs`, and the limits on annotations.

use std::collections::BTreeMap;

/// Commands that the runner knows.
const KNOWN: &[&str] = &[
    "add-mask",
    "add-matcher",
    "add-path",
    "debug",
    "echo",
    "endgroup",
    "error",
    "group",
    "notice",
    "remove-matcher",
    "save-state",
    "set-env",
    "set-output",
    "stop-commands",
    "warning",
];
/// Of each level and step.
const MOST_ANNOTATIONS: usize = 10;
/// In UTF-16 units.
const LONGEST_MESSAGE: usize = 4_096;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    pub name: String,
    pub properties: BTreeMap<String, String>,
    pub data: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    pub level: String,
    pub file: Option<String>,
    pub line: Option<u32>,
    pub title: String,
    pub message: String,
}

/// The state of a step's output.
#[derive(Debug, Default)]
pub struct Console {
    /// The log as people see it, with what is masked masked.
    pub log: Vec<String>,
    /// Every command that was obeyed, in order.
    pub obeyed: Vec<Command>,
    pub annotations: Vec<Annotation>,
    /// Annotations over the limit, which nobody sees.
    pub dropped: usize,
    pub masks: Vec<String>,
    /// Whether a command made the step fail.
    pub failed: bool,
    stopped: Option<String>,
}

impl Console {
    /// Takes one line, as .NET reads lines: `\n`, `\r` and `\r\n` end one.
    pub fn line(&mut self, line: &str) {
        if !self.is_command(line) {
            let line = self.masks.iter().fold(line.to_owned(), |line, mask| line.replace(mask, "***"));
            self.log.push(line);
        }
    }

    fn is_command(&mut self, line: &str) -> bool {
        let stopped = self.stopped.clone();
        let known = |name: &str| {
            let same = |other: &str| other.eq_ignore_ascii_case(name);
            KNOWN.iter().any(|known| same(known)) || stopped.as_deref().is_some_and(same)
        };
        let Some(command) = current(line, &known).or_else(|| legacy(line, &known)) else { return false };
        if let Some(word) = &stopped {
            let resumes = command.name.eq_ignore_ascii_case(word);
            if resumes {
                self.stopped = None;
            }
            return resumes;
        }
        self.obey(command);
        true
    }

    fn obey(&mut self, mut command: Command) {
        command.name.make_ascii_lowercase();
        match command.name.as_str() {
            "stop-commands" => self.stopped = Some(command.data.clone()),
            "add-mask" => self.masks.push(command.data.clone()),
            // Disabled since 2020: the step fails.
            "set-env" | "add-path" => self.failed = true,
            "error" | "warning" | "notice" => self.annotate(&command),
            "group" => self.log.push(format!("▼ {}", command.data)),
            _ => {}
        }
        self.obeyed.push(command);
    }

    fn annotate(&mut self, command: &Command) {
        let level = &command.name;
        if self.annotations.iter().filter(|other| other.level == *level).count() == MOST_ANNOTATIONS {
            self.dropped += 1;
            return;
        }
        let property = |name: &str| command.properties.get(name).cloned();
        let units: Vec<u16> = command.data.encode_utf16().take(LONGEST_MESSAGE).collect();
        self.annotations.push(Annotation {
            level: level.clone(),
            file: property("file"),
            line: property("line").map(|line| line.parse().unwrap()),
            title: property("title").unwrap_or_default(),
            message: String::from_utf16_lossy(&units),
        });
    }

    /// Whether the output ended with commands stopped.
    pub fn is_stopped(&self) -> bool {
        self.stopped.is_some()
    }
}

/// `::name key=value,…::data` at the beginning of a line.
fn current(line: &str, known: &dyn Fn(&str) -> bool) -> Option<Command> {
    let rest = line.trim_start().strip_prefix("::")?;
    let (info, data) = rest.split_once("::")?;
    let unescape = |text: &str, property: bool| {
        let text = text.replace("%0D", "\r").replace("%0A", "\n");
        let text = if property { text.replace("%3A", ":").replace("%2C", ",") } else { text };
        text.replace("%25", "%")
    };
    let command = parts(info, ',', known, &|text| unescape(text, true))?;
    Some(Command { data: unescape(data, false), ..command })
}

/// `##[name key=value;…]data` anywhere in a line.
fn legacy(line: &str, known: &dyn Fn(&str) -> bool) -> Option<Command> {
    let (info, data) = line.split_once("##[")?.1.split_once(']')?;
    let unescape = |text: &str| {
        let text = text.replace("%3B", ";").replace("%0D", "\r").replace("%0A", "\n");
        text.replace("%5D", "]").replace("%25", "%")
    };
    let command = parts(info, ';', known, &unescape)?;
    Some(Command { data: unescape(data), ..command })
}

fn parts(
    info: &str,
    separator: char,
    known: &dyn Fn(&str) -> bool,
    unescape: &dyn Fn(&str) -> String,
) -> Option<Command> {
    let (name, rest) = info.split_once(' ').unwrap_or((info, ""));
    if !known(name) {
        return None;
    }
    let pairs = rest.trim().split(separator).filter_map(|pair| pair.split_once('='));
    let properties = pairs.map(|(key, value)| (key.to_owned(), unescape(value))).collect();
    Some(Command { name: name.to_owned(), properties, data: String::new() })
}

/// The values of a file in which a step sets outputs, states or variables: `name=value`, or `name<<end`, lines, `end`.
pub fn assignments(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut values = BTreeMap::new();
    let mut lines = text.split('\n').filter(|line| !line.is_empty());
    while let Some(line) = lines.next() {
        let (equals, heredoc) = (line.find('='), line.find("<<"));
        match (equals, heredoc) {
            (Some(at), heredoc) if heredoc.is_none_or(|heredoc| at < heredoc) => {
                values.insert(line[..at].to_owned(), line[at + 1..].to_owned());
            }
            (_, Some(at)) if at > 0 && line.len() > at + 2 => {
                let end = &line[at + 2..];
                let value: Vec<&str> = lines.by_ref().take_while(|line| *line != end).collect();
                values.insert(line[..at].to_owned(), value.join("\n"));
            }
            _ => return Err(format!("invalid format: {line:?}")),
        }
    }
    Ok(values)
}

#[test]
fn the_console_obeys_as_the_runner_does() {
    let mut console = Console::default();
    for line in [
        "  ::warning file=a%2Cb,line=3::50%25%0Anext",
        "text ##[error]old",
        "text ::error::not at the beginning",
        "::no-such::x",
        "::stop-commands::word",
        "::error::stopped",
        "##[set-env name=A]b",
        "::WORD::",
        "::add-mask::secret",
        "a secret",
        "::add-path::/tmp",
    ] {
        console.line(line);
    }
    let told: Vec<_> =
        console.annotations.iter().map(|one| (one.level.as_str(), one.message.as_str())).collect();
    assert_eq!(told, [("warning", "50%\nnext"), ("error", "old")]);
    assert_eq!((console.annotations[0].file.as_deref(), console.annotations[0].line), (Some("a,b"), Some(3)));
    assert!(console.failed && !console.is_stopped());
    assert_eq!(
        console.log,
        [
            "text ::error::not at the beginning",
            "::no-such::x",
            "::error::stopped",
            "##[set-env name=A]b",
            "a ***"
        ]
    );
    let values = assignments("a=b<<c\nd<<E\n1\nf=2\nE\n").unwrap();
    assert_eq!((values["a"].as_str(), values["d"].as_str()), ("b<<c", "1\nf=2"));
    assert!(assignments("nonsense\n").is_err());
}
