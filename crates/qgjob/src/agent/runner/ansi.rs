//! Text from runners without what only a terminal understands.

/// Removes escape sequences and control characters other than line feed and tab, and cuts the rest to
/// `most` bytes.
pub(super) fn plain(text: &str, most: usize) -> String {
    let mut plain = String::with_capacity(text.len().min(most));
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => match chars.next() {
                // CSI: parameters, then one final letter.
                Some('[') => while chars.next().is_some_and(|c| !('\u{40}'..='\u{7e}').contains(&c)) {},
                // OSC and its kin: up to BEL or ESC \.
                Some(']' | 'P' | '_' | '^') => {
                    while let Some(c) = chars.next() {
                        if c == '\u{7}' || (c == '\u{1b}' && chars.next_if_eq(&'\\').is_some()) {
                            break;
                        }
                    }
                }
                _ => {}
            },
            '\n' | '\t' => plain.push(c),
            c if c.is_control() => {}
            c => plain.push(c),
        }
        if plain.len() > most {
            let end = most.saturating_sub('…'.len_utf8());
            plain.truncate((0..=end).rev().find(|at| plain.is_char_boundary(*at)).unwrap_or(0));
            plain.push('…');
            break;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trap_ansi_codes_do_not_reach_errors() {
        for (raw, clean) in [
            ("\u{1b}[2mexpect(\u{1b}[22m\u{1b}[31mreceived\u{1b}[39m)", "expect(received)"),
            ("a\u{1b}]8;;http://x\u{7}link\u{1b}]8;;\u{1b}\\b", "alinkb"),
            ("\u{1b}[38;5;196mred", "red"),
            ("tab\tline\r\nbell\u{7}\u{9b}", "tab\tline\nbell"),
            ("cut off \u{1b}[3", "cut off "),
            ("cut off \u{1b}", "cut off "),
        ] {
            assert_eq!(plain(raw, 1000), clean, "{raw:?}");
        }
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let cut = plain(&"ü".repeat(1000), 101);
        assert!(cut.len() <= 101 && cut.ends_with('…'), "{cut}");
        assert_eq!(plain("short", 5), "short");
    }
}
