//! Patterns: anchored at both ends, to the letter. `*` stands for any characters but `/`, `**` for any with `/`. Nothing else
//! is special. A wildcard never takes control characters, so that no line break hides what follows it.

/// Whether the pattern covers the whole of `text`. Takes at most the product of their lengths.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    // Which places in the text the part of the pattern before `at` can end at.
    let mut ends = vec![false; text.len() + 1];
    ends[0] = true;
    let mut at = 0;
    while at < pattern.len() {
        if pattern[at] == '*' {
            let any = pattern.get(at + 1) == Some(&'*');
            for end in 1..=text.len() {
                let taken = text[end - 1];
                ends[end] |= ends[end - 1] && (any || taken != '/') && !taken.is_control();
            }
            at += if any { 2 } else { 1 };
        } else {
            for end in (1..=text.len()).rev() {
                ends[end] = ends[end - 1] && text[end - 1] == pattern[at];
            }
            ends[0] = false;
            at += 1;
        }
    }
    ends[text.len()]
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_pattern_covers_the_whole_text_to_the_letter() {
        for (pattern, text) in [
            ("refs/heads/main", "refs/heads/main"),
            ("refs/heads/*", "refs/heads/main"),
            ("refs/heads/release/*", "refs/heads/release/1.2"),
            ("refs/heads/**", "refs/heads/a/b/c"),
            ("refs/pull/*/merge", "refs/pull/7/merge"),
            ("*", "x"),
            ("*", ""),
            ("**", "a/b"),
            ("a*b*c", "a-b-b-c"),
            ("é*", "éa"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("refs/heads/main", "refs/heads/main-evil"),
            ("refs/heads/main", "refs/heads/mai"),
            ("refs/heads/main", "refs/heads/Main"),
            ("refs/heads/main", "refs/heads/main\n"),
            ("refs/heads/main", " refs/heads/main"),
            ("heads/main", "refs/heads/main"),
            ("refs/heads/*", "refs/heads/a/b"),
            ("refs/heads/*", "refs/heads/a\nb"),
            ("refs/heads/**", "refs/heads/a\u{0}b"),
            ("refs/heads/*", "refs/tags/heads/a"),
            ("refs/pull/*/merge", "refs/pull/7/x/merge"),
            ("a?c", "abc"),
            ("[ab]", "a"),
            (".*", "abc"),
            ("", "a"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn many_wildcards_take_no_long_time() {
        assert!(!matches(&("a*".repeat(8) + "b"), &"a".repeat(4_000)));
    }
}
