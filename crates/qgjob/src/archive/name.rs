//! Names inside archives that mean the same on every system.

/// Why a name is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    #[error("which is not UTF-8")]
    NotUtf8,
    #[error("which is empty or has an empty part")]
    EmptyPart,
    #[error("which is absolute")]
    Absolute,
    #[error("which has a '.' or '..' part")]
    Dots,
    #[error("which has a control character")]
    Control,
    #[error("which has a backslash or a colon: some systems take them for a drive or a folder")]
    Character,
    #[error("which has a part that ends with a dot or a blank")]
    Trailing,
    #[error("which has a part that is the name of a device on Windows")]
    Reserved,
    #[error("which has a part longer than 255 bytes or is longer than 1,024 in all")]
    TooLong,
    #[error("which is more than 32 folders deep")]
    TooDeep,
}

const MOST_BYTES: usize = 1024;
const MOST_PART_BYTES: usize = 255;
const MOST_DEPTH: usize = 32;

/// Checks a relative path with `/` between its parts.
pub fn check(name: &str) -> Result<(), BadName> {
    if name.starts_with('/') {
        return Err(BadName::Absolute);
    }
    if name.len() > MOST_BYTES {
        return Err(BadName::TooLong);
    }
    if name.split('/').count() > MOST_DEPTH {
        return Err(BadName::TooDeep);
    }
    name.split('/').try_for_each(check_part)
}

fn check_part(part: &str) -> Result<(), BadName> {
    match part {
        "" => return Err(BadName::EmptyPart),
        "." | ".." => return Err(BadName::Dots),
        _ => {}
    }
    if part.len() > MOST_PART_BYTES {
        return Err(BadName::TooLong);
    }
    if part.chars().any(char::is_control) {
        return Err(BadName::Control);
    }
    if part.contains(['\\', ':']) {
        return Err(BadName::Character);
    }
    if part.ends_with(['.', ' ']) {
        return Err(BadName::Trailing);
    }
    if is_reserved(part) { Err(BadName::Reserved) } else { Ok(()) }
}

/// Windows opens a device for these names, whatever extension follows.
fn is_reserved(part: &str) -> bool {
    let stem = part.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    match stem.as_str() {
        "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$" => true,
        _ => {
            let digit = stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT"));
            digit.is_some_and(|d| {
                matches!(d, "0" | "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "¹" | "²" | "³")
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_are_good() {
        let deepest = vec!["a"; MOST_DEPTH].join("/");
        for good in [
            "a",
            "tests/a b/ü.spec.js",
            ".npmrc",
            "..a",
            "a..b",
            "console.js",
            "[id].ts",
            "{a}+(b).js",
            &deepest,
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn each_rule_refuses() {
        let long_part = "x".repeat(256);
        let long = vec!["x".repeat(200); 6].join("/");
        let deep = vec!["a"; MOST_DEPTH + 1].join("/");
        for (bad, why) in [
            ("", BadName::EmptyPart),
            ("a//b", BadName::EmptyPart),
            ("a/", BadName::EmptyPart),
            ("/a", BadName::Absolute),
            ("..", BadName::Dots),
            ("a/../b", BadName::Dots),
            ("./a", BadName::Dots),
            ("a\nb", BadName::Control),
            ("a\u{85}", BadName::Control),
            ("C:a", BadName::Character),
            ("\\\\server\\share", BadName::Character),
            ("a.", BadName::Trailing),
            ("a ", BadName::Trailing),
            ("aux.spec.js", BadName::Reserved),
            ("x/COM1", BadName::Reserved),
            ("lpt9 .txt", BadName::Reserved),
            (&long_part, BadName::TooLong),
            (&long, BadName::TooLong),
            (&deep, BadName::TooDeep),
        ] {
            assert_eq!(check(bad), Err(why), "{bad:?}");
        }
    }
}
