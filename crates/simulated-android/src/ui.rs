//! What is on the screen, as UiAutomator sees it: a tree of nodes, and how to find some of them.

mod selector;
mod xpath;

use std::fmt::Write;
use std::time::Instant;

use crate::device::State;
use crate::screen::{HEIGHT, WIDTH};

pub(crate) use selector::by_ui_selector;
pub(crate) use xpath::by_xpath;

/// Why a search could not be made, in words for the test's author.
pub(crate) type BadSelector = String;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) x: u32,
    pub(crate) y: u32,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

impl Bounds {
    pub(crate) fn contains(self, x: f64, y: f64) -> bool {
        let within = |at: f64, from: u32, size: u32| at >= f64::from(from) && at < f64::from(from + size);
        within(x, self.x, self.width) && within(y, self.y, self.height)
    }

    pub(crate) fn center(self) -> (f64, f64) {
        (f64::from(self.x) + f64::from(self.width) / 2.0, f64::from(self.y) + f64::from(self.height) / 2.0)
    }
}

/// Where the widget at a position of its screen's list is drawn: one below the other.
pub(crate) fn bounds(position: usize) -> Bounds {
    let row = u32::try_from(position).unwrap_or(u32::MAX).min(1000);
    Bounds { x: 60, y: 200 + row * 180, width: 960, height: 150 }
}

#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// Tells elements apart across commands; changes when the app restarts or shows another screen.
    pub(crate) key: String,
    /// `None` for the frame around the widgets, and for the launcher.
    pub(crate) position: Option<usize>,
    /// The id in the screens file.
    pub(crate) id: String,
    pub(crate) index: usize,
    pub(crate) package: String,
    pub(crate) class: String,
    pub(crate) resource_id: String,
    pub(crate) text: String,
    pub(crate) desc: Option<String>,
    pub(crate) hint: Option<String>,
    pub(crate) clickable: bool,
    pub(crate) enabled: bool,
    pub(crate) focused: bool,
    pub(crate) bounds: Bounds,
}

impl Node {
    /// An attribute by UiAutomator's name for it; `None` when it has no such attribute or no value.
    pub(crate) fn attribute(&self, name: &str) -> Option<String> {
        let Bounds { x, y, width, height } = self.bounds;
        Some(match name {
            "text" => self.text.clone(),
            "name" => self.desc.clone().unwrap_or_else(|| self.text.clone()),
            "resource-id" | "resourceId" => self.resource_id.clone(),
            "class" | "className" => self.class.clone(),
            "package" => self.package.clone(),
            "content-desc" | "contentDescription" => return self.desc.clone(),
            "hint" => return self.hint.clone(),
            "index" => self.index.to_string(),
            "bounds" => format!("[{x},{y}][{},{}]", x + width, y + height),
            "clickable" => self.clickable.to_string(),
            "enabled" => self.enabled.to_string(),
            "focusable" => self.class.ends_with("EditText").to_string(),
            "focused" => self.focused.to_string(),
            "displayed" => true.to_string(),
            "checkable" | "checked" | "scrollable" | "long-clickable" | "longClickable" | "password"
            | "selected" => false.to_string(),
            _ => return None,
        })
    }
}

/// The nodes on the screen: the frame first, then the widgets inside it.
pub(crate) fn nodes(state: &State) -> Vec<Node> {
    let (package, _) = state.focus();
    let frame = Node {
        key: format!("{package}/frame"),
        position: None,
        id: String::new(),
        index: 0,
        package: package.clone(),
        class: "android.widget.FrameLayout".to_owned(),
        resource_id: "android:id/content".to_owned(),
        text: String::new(),
        desc: None,
        hint: None,
        clickable: false,
        enabled: true,
        focused: false,
        bounds: Bounds { x: 0, y: 0, width: WIDTH, height: HEIGHT },
    };
    let mut nodes = vec![frame];
    let Some(app) = state.apps.get(&package) else { return nodes };
    let Some(variables) = state.packages.get(&package).map(|known| &known.variables) else { return nodes };
    nodes.extend(app.shown(variables, Instant::now()).into_iter().enumerate().map(|(index, shown)| Node {
        key: format!("{}/{}/{}", app.pid, app.screen(), shown.position),
        position: Some(shown.position),
        index,
        package: package.clone(),
        resource_id: format!("{package}:id/{}", shown.widget.id),
        bounds: bounds(shown.position),
        text: shown.text,
        focused: shown.focused,
        clickable: shown.widget.clickable || shown.widget.is_field(),
        id: shown.widget.id,
        class: shown.widget.class,
        desc: shown.widget.desc,
        hint: shown.widget.hint,
        enabled: shown.widget.enabled,
    }));
    nodes
}

/// The screen as XML, as UiAutomator2's server gives it.
pub(crate) fn source(state: &State) -> String {
    let nodes = nodes(state);
    let mut xml = String::from("<?xml version='1.0' encoding='UTF-8' standalone='yes' ?>\n");
    let mut put = |text: String| xml.write_str(&text).expect("writing to a string cannot fail");
    put(format!(
        "<hierarchy index=\"0\" class=\"hierarchy\" rotation=\"0\" width=\"{WIDTH}\" height=\"{HEIGHT}\">\n"
    ));
    let (frame, widgets) = nodes.split_first().expect("the frame is always there");
    put(format!("  <{}{}>\n", frame.class, attributes(frame)));
    for node in widgets {
        put(format!("    <{}{} />\n", node.class, attributes(node)));
    }
    put(format!("  </{}>\n</hierarchy>\n", frame.class));
    xml
}

fn attributes(node: &Node) -> String {
    const SHOWN: [&str; 18] = [
        "index",
        "package",
        "class",
        "text",
        "content-desc",
        "resource-id",
        "hint",
        "checkable",
        "checked",
        "clickable",
        "enabled",
        "focusable",
        "focused",
        "long-clickable",
        "password",
        "scrollable",
        "bounds",
        "displayed",
    ];
    SHOWN.iter().filter_map(|name| Some(format!(" {name}=\"{}\"", escape(&node.attribute(name)?)))).collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Finds nodes by one of UiAutomator2's strategies.
///
/// # Errors
/// A strategy or selector outside the simulated subset.
pub(crate) fn find(nodes: &[Node], strategy: &str, selector: &str) -> Result<Vec<Node>, BadSelector> {
    let those = |test: &dyn Fn(&Node) -> bool| nodes.iter().filter(|node| test(node)).cloned().collect();
    Ok(match strategy {
        "id" => {
            let suffix = format!(":id/{selector}");
            those(&|node| node.resource_id == selector || node.resource_id.ends_with(&suffix))
        }
        "class name" => those(&|node| node.class == selector),
        "accessibility id" => those(&|node| node.desc.as_deref() == Some(selector)),
        "-android uiautomator" => by_ui_selector(nodes, selector)?,
        "xpath" => by_xpath(nodes, selector)?,
        other => return Err(format!("the strategy '{other}' is not simulated")),
    })
}

#[cfg(test)]
pub(crate) fn sample() -> Vec<Node> {
    let node = |index: usize, class: &str, id: &str, text: &str| Node {
        key: format!("k{index}"),
        position: index.checked_sub(1),
        id: id.to_owned(),
        index,
        package: "p".to_owned(),
        class: class.to_owned(),
        resource_id: format!("p:id/{id}"),
        text: text.to_owned(),
        desc: (id == "go").then(|| "Go on".to_owned()),
        hint: None,
        clickable: class.ends_with("Button"),
        enabled: true,
        focused: false,
        bounds: bounds(index),
    };
    vec![
        node(0, "android.widget.FrameLayout", "content", ""),
        node(1, "android.widget.TextView", "title", "It's \"Welcome\""),
        node(2, "android.widget.Button", "go", "Get started"),
        node(3, "android.widget.Button", "stop", "Stop (now)"),
    ]
}
