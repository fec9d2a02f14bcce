//! `UiSelector`: the chain of conditions that Android tests write in Java's notation.

use regex::Regex;

use super::{BadSelector, Node};

#[derive(Debug, PartialEq)]
struct Call {
    method: String,
    argument: String,
}

/// Finds nodes by a `UiSelector` expression, with or without `new UiSelector()` in front.
///
/// # Errors
/// An expression outside the simulated subset.
pub(crate) fn by_ui_selector(nodes: &[Node], selector: &str) -> Result<Vec<Node>, BadSelector> {
    let mut text = selector.trim().trim_end_matches(';');
    // Nothing scrolls here, so all that could be scrolled to is on the screen already.
    if let Some(at) = text.find("scrollIntoView(") {
        text = text[at + "scrollIntoView(".len()..].trim_end().strip_suffix(')').unwrap_or(text);
    }
    let calls = parse(text).ok_or_else(|| format!("Could not parse UiSelector argument: {selector}"))?;
    let mut found: Vec<Node> = Vec::new();
    for node in nodes {
        let mut all = true;
        for call in &calls {
            all &= holds(node, call)?;
        }
        if all {
            found.push(node.clone());
        }
    }
    match calls.iter().find(|call| call.method == "instance").map(|call| call.argument.parse::<usize>()) {
        Some(Ok(instance)) => Ok(found.into_iter().skip(instance).take(1).collect()),
        Some(Err(_)) => Err("instance() needs a number".to_owned()),
        None => Ok(found),
    }
}

fn parse(text: &str) -> Option<Vec<Call>> {
    let mut rest = text.trim();
    if let Some(after) = rest.strip_prefix("new UiSelector()") {
        rest = after.trim_start();
    }
    let mut calls = Vec::new();
    while !rest.is_empty() {
        rest = rest.strip_prefix('.').unwrap_or(rest).trim_start();
        let open = rest.find('(')?;
        let method = rest[..open].trim().to_owned();
        if method.is_empty() || !method.chars().all(char::is_alphanumeric) {
            return None;
        }
        rest = rest[open + 1..].trim_start();
        let argument = if rest.starts_with('"') {
            let (argument, after) = java_string(rest)?;
            rest = after.trim_start();
            argument
        } else {
            let close = rest.find(')')?;
            let argument = rest[..close].trim().to_owned();
            rest = &rest[close..];
            argument
        };
        rest = rest.strip_prefix(')')?.trim_start();
        calls.push(Call { method, argument });
    }
    (!calls.is_empty()).then_some(calls)
}

fn java_string(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.strip_prefix('"')?.chars();
    loop {
        match characters.next()? {
            '"' => return Some((value, characters.as_str())),
            '\\' => match characters.next()? {
                'n' => value.push('\n'),
                't' => value.push('\t'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
}

fn holds(node: &Node, Call { method, argument }: &Call) -> Result<bool, BadSelector> {
    let desc = node.desc.as_deref().unwrap_or_default();
    let folded = argument.to_lowercase();
    let contains = |text: &str| text.to_lowercase().contains(&folded);
    let starts = |text: &str| text.to_lowercase().starts_with(&folded);
    // Java's matches() is about the whole string, and its dot matches line ends here as UiAutomator sets DOTALL.
    let matches = |text: &str| {
        Regex::new(&format!("^(?s:{argument})$"))
            .map(|pattern| pattern.is_match(text))
            .map_err(|error| format!("bad regular expression in {method}: {error}"))
    };
    let flag = |value: bool| argument.parse::<bool>().is_ok_and(|wanted| wanted == value);
    Ok(match method.as_str() {
        "text" => node.text == *argument,
        "textContains" => contains(&node.text),
        "textStartsWith" => starts(&node.text),
        "textMatches" => matches(&node.text)?,
        "description" => node.desc.as_ref() == Some(argument),
        "descriptionContains" => contains(desc),
        "descriptionStartsWith" => starts(desc),
        "descriptionMatches" => matches(desc)?,
        "resourceId" => node.resource_id == *argument,
        "resourceIdMatches" => matches(&node.resource_id)?,
        "className" => node.class == *argument,
        "classNameMatches" => matches(&node.class)?,
        "packageName" => node.package == *argument,
        "clickable" => flag(node.clickable),
        "enabled" => flag(node.enabled),
        "focused" => flag(node.focused),
        "checked" | "scrollable" | "selected" | "checkable" | "longClickable" => flag(false),
        "index" => node.index.to_string() == *argument,
        "instance" => true,
        other => return Err(format!("UiSelector has no simulated method {other}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::sample;

    fn ids(selector: &str) -> Vec<String> {
        by_ui_selector(&sample(), selector).unwrap().into_iter().map(|node| node.id).collect()
    }

    #[test]
    fn conditions_are_all_required() {
        assert_eq!(
            ids(r#"new UiSelector().className("android.widget.Button").textContains("STOP")"#),
            ["stop"]
        );
        assert_eq!(ids(r#"textContains("get")"#), ["go"]);
        assert_eq!(ids(r#"text("It's \"Welcome\"")"#), ["title"]);
        assert_eq!(ids(r#"text("Stop (now)")"#), ["stop"]);
        assert_eq!(ids(r#"resourceIdMatches(".*id/(go|stop)")"#), ["go", "stop"]);
        assert_eq!(ids(r#"resourceIdMatches("go")"#), [""; 0], "matches() is about the whole id");
        assert_eq!(ids("new UiSelector().clickable(true).instance(1)"), ["stop"]);
        let scrolling = r#"new UiScrollable(new UiSelector().scrollable(true)).scrollIntoView(new UiSelector().text("Get started"))"#;
        assert_eq!(ids(scrolling), ["go"]);
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for selector in
            ["", "nonsense", r#"new UiSelector().fromParent("x")"#, r#"text("open"#, r#"textMatches("(")"#]
        {
            assert!(by_ui_selector(&sample(), selector).is_err(), "{selector}");
        }
    }
}
