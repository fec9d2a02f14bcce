//! Texts from elsewhere made fit to be shown, and numbers in the words of people.

use jiff::Timestamp;

/// A text from elsewhere on one line, without control characters.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c == '\n' || c == '\t' { ' ' } else { c }).filter(|c| !is_control(*c)).collect()
}

/// Whether a character is not shown but changes how others are: with marks of the writing direction, a text can look
/// like another one. What is no character has no place in XML.
fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{fffe}' | '\u{ffff}' | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A text from elsewhere with its lines, tabs and, if wanted, its colours; all other control sequences are taken
/// out, so that the output of a test cannot move the cursor, rename the window or look like something else.
pub fn tame(text: &str, colors: bool) -> String {
    let mut done = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| is_control(c) && c != '\n' && c != '\t') {
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
    fn marks_of_the_writing_direction_are_taken_out() {
        let marks =
            "\u{61c}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}";
        for mark in marks.chars() {
            let hostile = format!("a{mark}b\nש{mark}");
            assert_eq!(tame(&hostile, true), "ab\nש", "{mark:?}");
            assert_eq!(plain(&hostile), "ab ש", "{mark:?}");
        }
    }

    #[test]
    fn one_is_singular() {
        assert_eq!((count(1_u32, "test"), count(0_u32, "test")), ("1 test".into(), "0 tests".into()));
    }
}
