//! The part of XPath that mobile tests use: `/` and `//` steps, predicates with `and`, `or`, `not`, comparisons,
//! `contains`, `starts-with`, `text()`, and positions.

use super::{BadSelector, Node};

/// Finds nodes by XPath.
///
/// # Errors
/// An expression outside the simulated subset.
pub(crate) fn by_xpath(nodes: &[Node], xpath: &str) -> Result<Vec<Node>, BadSelector> {
    let mut parser = Parser { rest: xpath.trim(), whole: xpath };
    let grouped = parser.take("(");
    let mut context: Vec<Place> = vec![Place::Document];
    loop {
        let deep = parser.take("//");
        if !deep && !parser.take("/") {
            break;
        }
        context = parser.step(nodes, &context, deep)?;
    }
    if grouped {
        if !parser.take(")") {
            return parser.fail();
        }
        while parser.take("[") {
            let predicate = parser.predicate()?;
            context = keep(nodes, context, &predicate);
        }
    }
    if !parser.rest.is_empty() || context.contains(&Place::Document) {
        return parser.fail();
    }
    Ok(context
        .into_iter()
        .filter_map(|place| if let Place::Node(at) = place { nodes.get(at).cloned() } else { None })
        .collect())
}

/// A place in the tree: the document holds the hierarchy, which holds the frame, which holds the widgets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Document,
    Hierarchy,
    Node(usize),
}

fn children(nodes: &[Node], place: Place) -> Vec<Place> {
    match place {
        Place::Document => vec![Place::Hierarchy],
        Place::Hierarchy if nodes.is_empty() => Vec::new(),
        Place::Hierarchy => vec![Place::Node(0)],
        Place::Node(0) => (1..nodes.len()).map(Place::Node).collect(),
        Place::Node(_) => Vec::new(),
    }
}

fn below(nodes: &[Node], place: Place) -> Vec<Place> {
    children(nodes, place).into_iter().flat_map(|child| [vec![child], below(nodes, child)].concat()).collect()
}

#[derive(Debug)]
enum Predicate {
    Position(usize),
    Last,
    And(Box<Predicate>, Box<Predicate>),
    Or(Box<Predicate>, Box<Predicate>),
    Not(Box<Predicate>),
    Has(String),
    Compare { attribute: String, test: Test, value: String },
}

#[derive(Debug, Clone, Copy)]
enum Test {
    Is,
    IsNot,
    Contains,
    StartsWith,
}

fn keep(nodes: &[Node], places: Vec<Place>, predicate: &Predicate) -> Vec<Place> {
    let last = places.len();
    let numbered = places.into_iter().enumerate();
    numbered
        .filter(|(at, place)| holds(nodes, *place, at + 1, last, predicate))
        .map(|(_, place)| place)
        .collect()
}

fn holds(nodes: &[Node], place: Place, position: usize, last: usize, predicate: &Predicate) -> bool {
    let attribute = |name: &str| match place {
        Place::Node(at) => nodes[at].attribute(name),
        Place::Hierarchy if name == "class" => Some("hierarchy".to_owned()),
        Place::Hierarchy | Place::Document => None,
    };
    let recurse = |inner: &Predicate| holds(nodes, place, position, last, inner);
    match predicate {
        Predicate::Position(wanted) => position == *wanted,
        Predicate::Last => position == last,
        Predicate::And(left, right) => recurse(left) && recurse(right),
        Predicate::Or(left, right) => recurse(left) || recurse(right),
        Predicate::Not(inner) => !recurse(inner),
        Predicate::Has(name) => attribute(name).is_some(),
        Predicate::Compare { attribute: name, test, value } => {
            attribute(name).is_some_and(|held| match test {
                Test::Is => held == *value,
                Test::IsNot => held != *value,
                Test::Contains => held.contains(value.as_str()),
                Test::StartsWith => held.starts_with(value.as_str()),
            })
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
    whole: &'a str,
}

impl Parser<'_> {
    fn fail<T>(&self) -> Result<T, BadSelector> {
        Err(format!(
            "this XPath is invalid or too rich for the simulated phone: {} (at '{}')",
            self.whole, self.rest
        ))
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.rest.strip_prefix(token);
        if let Some(rest) = found {
            self.rest = rest.trim_start();
        }
        found.is_some()
    }

    /// Takes a word operator, which must not be the beginning of a longer name.
    fn take_word(&mut self, word: &str) -> bool {
        let ends = self.rest.strip_prefix(word).is_some_and(|rest| !rest.starts_with(is_name));
        ends && self.take(word)
    }

    fn name(&mut self) -> Result<String, BadSelector> {
        let end = self.rest.find(|c| !is_name(c)).unwrap_or(self.rest.len());
        if end == 0 {
            return self.fail();
        }
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        Ok(name.to_owned())
    }

    fn step(&mut self, nodes: &[Node], context: &[Place], deep: bool) -> Result<Vec<Place>, BadSelector> {
        let name = if self.take("*") { None } else { Some(self.name()?) };
        let named = |place: &Place| match (place, &name) {
            (_, None) => true,
            (Place::Node(at), Some(name)) => nodes[*at].class == *name,
            (Place::Hierarchy, Some(name)) => name == "hierarchy",
            (Place::Document, Some(_)) => false,
        };
        let mut predicates = Vec::new();
        while self.take("[") {
            predicates.push(self.predicate()?);
        }
        let mut found: Vec<Place> = Vec::new();
        for place in context {
            // A position counts within one parent, so each parent's children are filtered by themselves.
            let parents = if deep { [vec![*place], below(nodes, *place)].concat() } else { vec![*place] };
            for parent in parents {
                let mut candidates: Vec<Place> = children(nodes, parent).into_iter().filter(named).collect();
                for predicate in &predicates {
                    candidates = keep(nodes, candidates, predicate);
                }
                found.extend(
                    candidates.into_iter().filter(|candidate| !found.contains(candidate)).collect::<Vec<_>>(),
                );
            }
        }
        Ok(found)
    }

    /// Reads up to and including the closing bracket.
    fn predicate(&mut self) -> Result<Predicate, BadSelector> {
        let predicate = self.or()?;
        if self.take("]") { Ok(predicate) } else { self.fail() }
    }

    fn or(&mut self) -> Result<Predicate, BadSelector> {
        let mut left = self.and()?;
        while self.take_word("or") {
            left = Predicate::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Predicate, BadSelector> {
        let mut left = self.term()?;
        while self.take_word("and") {
            left = Predicate::And(Box::new(left), Box::new(self.term()?));
        }
        Ok(left)
    }

    fn term(&mut self) -> Result<Predicate, BadSelector> {
        if self.take("(") {
            let inner = self.or()?;
            return if self.take(")") { Ok(inner) } else { self.fail() };
        }
        if self.take("not(") {
            let inner = self.or()?;
            return if self.take(")") { Ok(Predicate::Not(Box::new(inner))) } else { self.fail() };
        }
        if self.take("last()") {
            return Ok(Predicate::Last);
        }
        for (function, test) in [("contains(", Test::Contains), ("starts-with(", Test::StartsWith)] {
            if self.take(function) {
                let attribute = self.operand()?;
                if !self.take(",") {
                    return self.fail();
                }
                let value = self.literal()?;
                return if self.take(")") {
                    Ok(Predicate::Compare { attribute, test, value })
                } else {
                    self.fail()
                };
            }
        }
        let digits = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        if digits > 0 {
            let (number, rest) = self.rest.split_at(digits);
            let Ok(number) = number.parse() else { return self.fail() };
            self.rest = rest.trim_start();
            return Ok(Predicate::Position(number));
        }
        let attribute = self.operand()?;
        if self.take("!=") {
            return Ok(Predicate::Compare { attribute, test: Test::IsNot, value: self.literal()? });
        }
        if self.take("=") {
            return Ok(Predicate::Compare { attribute, test: Test::Is, value: self.literal()? });
        }
        Ok(Predicate::Has(attribute))
    }

    /// `@name`, or `text()` and `.` which mean the text here.
    fn operand(&mut self) -> Result<String, BadSelector> {
        if self.take("@") {
            return self.name();
        }
        if self.take("text()") || self.take(".") {
            return Ok("text".to_owned());
        }
        self.fail()
    }

    fn literal(&mut self) -> Result<String, BadSelector> {
        for quote in ['"', '\''] {
            if let Some(after) = self.rest.strip_prefix(quote) {
                let Some((value, rest)) = after.split_once(quote) else { return self.fail() };
                self.rest = rest.trim_start();
                return Ok(value.to_owned());
            }
        }
        self.fail()
    }
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '$')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::sample;

    fn ids(xpath: &str) -> Vec<String> {
        by_xpath(&sample(), xpath).unwrap().into_iter().map(|node| node.id).collect()
    }

    #[test]
    fn steps_and_predicates_select_as_in_a_browser() {
        assert_eq!(ids("//android.widget.Button"), ["go", "stop"]);
        assert_eq!(ids("//*[@text=\"Get started\"]"), ["go"]);
        assert_eq!(ids("//*[contains(@text, 'Welcome') and not(@clickable='true')]"), ["title"]);
        assert_eq!(ids("//*[starts-with(@resource-id,'p:id/s') or @content-desc='Go on']"), ["go", "stop"]);
        assert_eq!(ids("//android.widget.Button[2]"), ["stop"]);
        assert_eq!(ids("//android.widget.Button[last()]"), ["stop"]);
        assert_eq!(ids("(//android.widget.Button)[1]"), ["go"]);
        assert_eq!(ids("/hierarchy/android.widget.FrameLayout/android.widget.TextView"), ["title"]);
        assert_eq!(
            ids("//android.widget.FrameLayout//*[@clickable='true'][text()!='Get started']"),
            ["stop"]
        );
        assert_eq!(ids("//*[@content-desc]"), ["go"]);
        assert_eq!(ids("//*").len(), 4);
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for xpath in [
            "",
            "//",
            "//*[",
            "//*[@text=]",
            "//*[@text='x'",
            "//a/following-sibling::b",
            "(//a",
            "count(//a)",
        ] {
            assert!(by_xpath(&sample(), xpath).is_err(), "{xpath}");
        }
    }
}
