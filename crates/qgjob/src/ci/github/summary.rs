//! The job summary where there is no report to show.

use std::fmt::Write;

use crate::text::plain;

/// Says in Markdown what went wrong, why, and what to do. What others wrote stands in code, where Markdown and HTML mean
/// nothing.
pub fn of_failure(what: &str, causes: &[String], hints: &[String]) -> String {
    let mut text = String::from("## ⚠️ qgjob came to no verdict\n\n");
    let lines = [("", what)].into_iter();
    let lines = lines.chain(causes.iter().map(|cause| ("cause: ", cause.as_str())));
    let lines = lines.chain(hints.iter().map(|hint| ("hint:  ", hint.as_str())));
    for (head, line) in lines {
        // Indented lines are code, and no line can end that.
        writeln!(text, "    {head}{}", plain(line)).expect("a string grows");
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_it_is_markup() {
        let text = of_failure("a\n## b", &["```\n<script>".to_owned()], &["do\u{2028}c".to_owned()]);
        assert_eq!(
            text,
            "## ⚠️ qgjob came to no verdict\n\n    a ## b\n    cause: ``` <script>\n    hint:  do\u{2028}c\n\n"
        );
    }
}
