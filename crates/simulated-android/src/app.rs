//! The app under test as the phone plays it: screens from `assets/screens.json` of its APK.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::{Deserialize, Serialize};

/// Counts launches since install or `pm clear`; kept by the phone, shown by a text `{launches}`.
pub(crate) const LAUNCHES: &str = "launches";

/// The whole app. The README describes the format for people who write one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Screens {
    /// Where a launch begins, unless a rule of `start_when` holds.
    pub(crate) start: String,
    /// The first rule whose variable is not empty decides where a launch begins.
    #[serde(default)]
    pub(crate) start_when: Vec<StartRule>,
    pub(crate) screens: BTreeMap<String, Vec<Widget>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StartRule {
    pub(crate) var: String,
    pub(crate) screen: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Widget {
    pub(crate) id: String,
    #[serde(default = "text_view")]
    pub(crate) class: String,
    #[serde(default)]
    pub(crate) text: String,
    #[serde(default)]
    pub(crate) desc: Option<String>,
    #[serde(default)]
    pub(crate) hint: Option<String>,
    #[serde(default)]
    pub(crate) clickable: bool,
    #[serde(default = "yes")]
    pub(crate) enabled: bool,
    #[serde(default)]
    pub(crate) goto: Option<String>,
    #[serde(default)]
    pub(crate) set: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) increment: Option<String>,
    #[serde(default, alias = "afterMs")]
    pub(crate) delay_ms: u64,
    #[serde(default)]
    pub(crate) shown_when: Option<String>,
    #[serde(default)]
    pub(crate) crash: bool,
}

fn text_view() -> String {
    "android.widget.TextView".to_owned()
}

fn yes() -> bool {
    true
}

impl Widget {
    pub(crate) fn is_field(&self) -> bool {
        self.class.ends_with("EditText")
    }
}

impl Screens {
    /// What a package without a screens file shows: its own name.
    pub(crate) fn bare(title: &str) -> Self {
        let widget =
            serde_json::json!({"start": "main", "screens": {"main": [{"id": "title", "text": title}]}});
        serde_json::from_value(widget).expect("a constant of this crate's own format")
    }
}

/// Variables of an app that survive its restart; gone with `pm clear` and uninstall.
pub(crate) type Variables = BTreeMap<String, String>;

/// A running process of an app.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) package: String,
    pub(crate) activity: String,
    pub(crate) pid: u32,
    screens: Screens,
    screen: String,
    back: Vec<String>,
    shown_since: Instant,
    /// What the fields on the screens hold; unlike variables this ends with the process.
    fields: BTreeMap<String, String>,
    focused: Option<String>,
}

/// What became of a tap.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reaction {
    Handled,
    Crashed,
}

/// A widget as it is on the screen now.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub(crate) position: usize,
    pub(crate) widget: Widget,
    pub(crate) text: String,
    pub(crate) focused: bool,
}

impl App {
    pub(crate) fn launch(
        package: &str,
        activity: &str,
        pid: u32,
        screens: Screens,
        variables: &mut Variables,
        now: Instant,
    ) -> Self {
        count(variables, LAUNCHES);
        let rule =
            screens.start_when.iter().find(|rule| variables.get(&rule.var).is_some_and(|v| !v.is_empty()));
        let screen = rule.map_or(&screens.start, |rule| &rule.screen).clone();
        Self {
            package: package.to_owned(),
            activity: activity.to_owned(),
            pid,
            screens,
            screen,
            back: Vec::new(),
            shown_since: now,
            fields: BTreeMap::new(),
            focused: None,
        }
    }

    pub(crate) fn screen(&self) -> &str {
        &self.screen
    }

    fn widgets(&self) -> &[Widget] {
        self.screens.screens.get(&self.screen).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn shown(&self, variables: &Variables, now: Instant) -> Vec<Shown> {
        let age =
            u64::try_from(now.saturating_duration_since(self.shown_since).as_millis()).unwrap_or(u64::MAX);
        let visible = |widget: &Widget| {
            age >= widget.delay_ms
                && widget
                    .shown_when
                    .as_ref()
                    .is_none_or(|var| variables.get(var).is_some_and(|v| !v.is_empty()))
        };
        let show = |(position, widget): (usize, &Widget)| Shown {
            position,
            text: match self.fields.get(&widget.id) {
                Some(typed) if widget.is_field() => typed.clone(),
                _ => fill_in(&widget.text, variables),
            },
            focused: self.focused.as_ref() == Some(&widget.id),
            widget: widget.clone(),
        };
        self.widgets().iter().enumerate().filter(|(_, widget)| visible(widget)).map(show).collect()
    }

    pub(crate) fn tap(&mut self, position: usize, variables: &mut Variables, now: Instant) -> Reaction {
        let Some(widget) = self.widgets().get(position).cloned() else { return Reaction::Handled };
        if !widget.enabled {
            return Reaction::Handled;
        }
        if widget.crash {
            return Reaction::Crashed;
        }
        if widget.is_field() {
            self.focused = Some(widget.id.clone());
        }
        for (name, value) in &widget.set {
            let value = fill_in(value, variables);
            variables.insert(name.clone(), value);
        }
        if let Some(name) = &widget.increment {
            count(variables, name);
        }
        if let Some(screen) = widget.goto {
            self.back.push(std::mem::replace(&mut self.screen, screen));
            self.shown_since = now;
            self.focused = None;
        }
        Reaction::Handled
    }

    /// Goes back one screen. False when there is none, which sends the app to the background.
    pub(crate) fn back(&mut self, now: Instant) -> bool {
        let Some(screen) = self.back.pop() else { return false };
        self.screen = screen;
        self.shown_since = now;
        self.focused = None;
        true
    }

    pub(crate) fn type_into(&mut self, id: &str, text: String, variables: &mut Variables) {
        variables.insert(id.to_owned(), text.clone());
        self.fields.insert(id.to_owned(), text);
        self.focused = Some(id.to_owned());
    }

    /// Types at the end of the focused field, or of the first one when none has the focus.
    pub(crate) fn type_at_focus(&mut self, text: &str, variables: &mut Variables) {
        let first = || self.widgets().iter().find(|widget| widget.is_field()).map(|widget| widget.id.clone());
        if let Some(id) = self.focused.clone().or_else(first) {
            let held = self.fields.get(&id).cloned().unwrap_or_default();
            self.type_into(&id, held + text, variables);
        }
    }
}

fn count(variables: &mut Variables, name: &str) {
    let count = variables.get(name).and_then(|value| value.parse::<u64>().ok()).unwrap_or(0);
    variables.insert(name.to_owned(), (count + 1).to_string());
}

/// Replaces `{name}` by the variable's value; by nothing when there is none. Other braces stay as they are.
fn fill_in(text: &str, variables: &Variables) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let after = &rest[open + 1..];
        let name = after.find('}').map(|close| &after[..close]);
        filled.push_str(&rest[..open]);
        match name {
            Some(name) if !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_') => {
                filled.push_str(variables.get(name).map_or("", String::as_str));
                rest = &after[name.len() + 1..];
            }
            _ => {
                filled.push('{');
                rest = after;
            }
        }
    }
    filled + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screens() -> Screens {
        serde_json::from_value(serde_json::json!({
            "start": "one",
            "start_when": [{"var": "user", "screen": "two"}],
            "screens": {
                "one": [
                    {"id": "name", "class": "android.widget.EditText", "hint": "Name"},
                    {"id": "next", "text": "Next", "goto": "two", "set": {"user": "{name}"}, "increment": "visits"},
                    {"id": "boom", "text": "Boom", "crash": true},
                    {"id": "late", "text": "Late", "delay_ms": 1000}
                ],
                "two": [{"id": "hello", "text": "Hello {user}, visit {visits}, launch {launches} {not a name"}]
            }
        }))
        .unwrap()
    }

    fn texts(app: &App, variables: &Variables, now: Instant) -> Vec<String> {
        app.shown(variables, now).into_iter().map(|shown| shown.text).collect()
    }

    #[test]
    fn variables_outlive_the_process_and_fields_do_not() {
        let now = Instant::now();
        let mut variables = Variables::new();
        let mut app = App::launch("p", ".A", 1, screens(), &mut variables, now);
        app.type_into("name", "Ada".into(), &mut variables);
        assert_eq!(texts(&app, &variables, now)[0], "Ada");
        assert_eq!(app.tap(1, &mut variables, now), Reaction::Handled);
        assert_eq!(texts(&app, &variables, now), ["Hello Ada, visit 1, launch 1 {not a name"]);
        let mut app = App::launch("p", ".A", 2, screens(), &mut variables, now);
        assert_eq!(texts(&app, &variables, now), ["Hello Ada, visit 1, launch 2 {not a name"]);
        assert!(!app.back(now), "a launch has nothing to go back to");
        variables.clear();
        let app = App::launch("p", ".A", 3, screens(), &mut variables, now);
        assert_eq!(texts(&app, &variables, now), ["", "Next", "Boom"]);
    }

    #[test]
    fn late_widgets_show_after_their_delay_and_a_crash_is_told() {
        let now = Instant::now();
        let mut variables = Variables::new();
        let mut app = App::launch("p", ".A", 1, screens(), &mut variables, now);
        let later = now + std::time::Duration::from_millis(1000);
        assert_eq!(app.shown(&variables, later).len(), 4);
        assert_eq!(app.tap(2, &mut variables, now), Reaction::Crashed);
    }
}
