//! Command lines: words and quotes, `;`, `&&`, `||`, pipes, and redirections. No variables but `$?`, no loops.

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) joint: Joint,
    pub(crate) pipeline: Vec<Command>,
}

/// How a pipeline hangs on the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Joint {
    Then,
    And,
    Or,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) words: Vec<String>,
    pub(crate) redirects: Vec<Redirect>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Redirect {
    Out { path: String, append: bool },
    Err(String),
    ErrToOut,
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Operator(&'static str),
}

/// Longest first, so that `>>` is not taken for two `>`.
const OPERATORS: [&str; 11] = ["2>&1", "2>>", "2>", "1>", "&&", "||", ">>", ">", "|", ";", "\n"];

fn tokens(line: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        if word.is_none() || !rest.starts_with(['1', '2']) {
            let operator =
                OPERATORS.into_iter().find(|operator| quote.is_none() && rest.starts_with(operator));
            if let Some(operator) = operator {
                tokens.extend(word.take().map(Token::Word));
                tokens.push(Token::Operator(operator));
                rest = &rest[operator.len()..];
                continue;
            }
        }
        rest = &rest[c.len_utf8()..];
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => {
                let mut escaped = rest.chars();
                let next = escaped.next();
                rest = escaped.as_str();
                let word = word.get_or_insert_default();
                // Within double quotes only these lose their backslash.
                if quote.is_some() && !matches!(next, Some('"' | '\\' | '$' | '`')) {
                    word.push('\\');
                }
                word.extend(next);
            }
            (None, c) if c.is_whitespace() => tokens.extend(word.take().map(Token::Word)),
            _ => word.get_or_insert_default().push(c),
        }
    }
    tokens.extend(word.map(Token::Word));
    tokens
}

/// Reads a command line.
///
/// # Errors
/// What the shell would complain about.
pub(crate) fn parse(line: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut joint = Joint::Then;
    let mut pipeline = Vec::new();
    let mut command = Command::default();
    let mut tokens = tokens(line).into_iter();
    while let Some(token) = tokens.next() {
        let mut target = |operator: &str| match tokens.next() {
            Some(Token::Word(path)) => Ok(path),
            _ => Err(format!("syntax error: no file after '{operator}'")),
        };
        match token {
            Token::Word(word) if command.words.is_empty() && is_keyword(&word) => {
                return Err(format!("'{word}' is not simulated"));
            }
            Token::Word(word) => command.words.push(word),
            Token::Operator("2>&1") => command.redirects.push(Redirect::ErrToOut),
            Token::Operator(operator @ ("2>" | "2>>")) => {
                command.redirects.push(Redirect::Err(target(operator)?))
            }
            Token::Operator(operator @ (">" | "1>" | ">>")) => {
                let path = target(operator)?;
                command.redirects.push(Redirect::Out { path, append: operator == ">>" });
            }
            Token::Operator("|") => pipeline.push(std::mem::take(&mut command)),
            Token::Operator(operator) => {
                finish(&mut steps, joint, &mut pipeline, &mut command);
                joint = match operator {
                    "&&" => Joint::And,
                    "||" => Joint::Or,
                    _ => Joint::Then,
                };
            }
        }
    }
    finish(&mut steps, joint, &mut pipeline, &mut command);
    Ok(steps)
}

fn is_keyword(word: &str) -> bool {
    matches!(word, "if" | "for" | "while" | "case" | "until" | "{") || word.starts_with('(')
}

fn finish(steps: &mut Vec<Step>, joint: Joint, pipeline: &mut Vec<Command>, command: &mut Command) {
    if *command != Command::default() {
        pipeline.push(std::mem::take(command));
    }
    if !pipeline.is_empty() {
        steps.push(Step { joint, pipeline: std::mem::take(pipeline) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_removed_as_the_shell_removes_them() {
        let words = |line| parse(line).unwrap().remove(0).pipeline.remove(0).words;
        assert_eq!(words(r#"echo 'a b' "c \"d\" \n" e\ f ''"#), ["echo", "a b", r#"c "d" \n"#, "e f", ""]);
        assert_eq!(
            words("cmd package 'install' '-r' -S 8543"),
            ["cmd", "package", "install", "-r", "-S", "8543"]
        );
    }

    #[test]
    fn lists_pipes_and_redirections_are_seen() {
        let steps = parse("ls /x 2>&1 | grep a2 >> /y && echo 'a;b' || false; true 2>/dev/null").unwrap();
        let joints: Vec<Joint> = steps.iter().map(|step| step.joint).collect();
        assert_eq!(joints, [Joint::Then, Joint::And, Joint::Or, Joint::Then]);
        assert_eq!(steps[0].pipeline.len(), 2);
        assert_eq!(steps[0].pipeline[0].redirects, [Redirect::ErrToOut]);
        assert_eq!(steps[0].pipeline[1].words, ["grep", "a2"]);
        assert_eq!(steps[0].pipeline[1].redirects, [Redirect::Out { path: "/y".into(), append: true }]);
        assert_eq!(steps[1].pipeline[0].words, ["echo", "a;b"]);
        assert!(parse("if true; then false; fi").is_err());
        assert!(parse("echo >").is_err());
    }
}
