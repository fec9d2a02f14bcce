//! The commands of UiAutomator2's server.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::Failure;
use crate::device::State;
use crate::screen::{self, HEIGHT, WIDTH};
use crate::ui::{self, Node};

/// WebDriver's key for an element reference, and the older one.
const ELEMENT_KEYS: [&str; 2] = ["element-6066-11e4-a52e-4f735466cecf", "ELEMENT"];

type Answer = Result<Value, Failure>;

pub(super) fn run(state: &mut State, method: &str, path: &str, arguments: &Value) -> Answer {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match (method, parts.as_slice()) {
        ("GET", ["status"]) => {
            Ok(json!({"ready": true, "message": "UiAutomator2 Server is ready to accept commands"}))
        }
        ("GET", ["sessions"]) => {
            let sessions = state.automation.session.iter();
            Ok(sessions.map(|id| json!({"id": id, "capabilities": {}})).collect())
        }
        ("POST", ["session"]) => Ok(begin(state, arguments)),
        (_, ["session", id, rest @ ..]) => {
            if state.automation.session.as_deref() != Some(*id) {
                let message = "the session does not exist or has ended";
                return Err(Failure::new(StatusCode::NOT_FOUND, "invalid session id", message));
            }
            in_session(state, method, rest, arguments)
        }
        _ => Err(unknown(method, path)),
    }
}

fn unknown(method: &str, path: &str) -> Failure {
    Failure::new(StatusCode::NOT_FOUND, "unknown command", format!("{method} {path}"))
}

fn begin(state: &mut State, arguments: &Value) -> Value {
    state.truth.automation_sessions += 1;
    let number = state.truth.automation_sessions;
    let id = format!("00000000-0000-4000-8000-{:012x}", state.now().as_micros() as u64 % (1 << 40) + number);
    state.automation = super::Automation { session: Some(id.clone()), elements: Vec::new() };
    let capabilities = arguments.pointer("/capabilities/firstMatch/0").cloned().unwrap_or_else(|| json!({}));
    json!({"sessionId": id, "capabilities": capabilities})
}

fn in_session(state: &mut State, method: &str, path: &[&str], arguments: &Value) -> Answer {
    let screen_size = json!({"x": 0, "y": 0, "width": WIDTH, "height": HEIGHT});
    Ok(match (method, path) {
        ("DELETE", []) => {
            state.automation.session = None;
            Value::Null
        }
        ("GET", []) => json!({}),
        ("GET", ["source"]) => ui::source(state).into(),
        ("GET", ["screenshot"]) => screen::base64(&screen::photograph(state)).into(),
        ("GET", ["window", ..]) => screen_size,
        ("GET", ["orientation"]) => "PORTRAIT".into(),
        ("GET", ["rotation"]) => json!({"x": 0, "y": 0, "z": 0}),
        ("POST", ["orientation" | "rotation" | "timeouts", ..]) => Value::Null,
        ("POST", ["element"]) => {
            let found = search(state, arguments)?;
            let first = found.first().ok_or_else(no_such_element)?;
            reference(state, first)
        }
        ("POST", ["elements"]) => {
            let found = search(state, arguments)?;
            found.iter().map(|node| reference(state, node)).collect()
        }
        ("GET", ["element", "active"]) => {
            let focused =
                ui::nodes(state).into_iter().find(|node| node.focused).ok_or_else(no_such_element)?;
            reference(state, &focused)
        }
        (_, ["element", id, rest @ ..]) => {
            let node = known(state, id)?;
            return on_element(state, method, &node, rest, arguments);
        }
        ("POST", ["actions"]) => {
            actions(state, arguments)?;
            Value::Null
        }
        ("DELETE", ["actions"]) => Value::Null,
        ("POST", ["keys"]) => {
            state.type_text(&typed(arguments));
            Value::Null
        }
        ("POST", ["back"]) => {
            state.press(4);
            Value::Null
        }
        (_, ["alert", ..]) => {
            let message = "nothing on this phone shows alerts";
            return Err(Failure::new(StatusCode::NOT_FOUND, "no such alert", message));
        }
        (_, ["appium", rest @ ..]) => return appium(state, method, rest, arguments),
        _ => return Err(unknown(method, &path.join("/"))),
    })
}

fn appium(state: &mut State, method: &str, path: &[&str], arguments: &Value) -> Answer {
    Ok(match (method, path) {
        ("GET", ["settings"]) => json!({}),
        ("POST", ["settings"]) => Value::Null,
        ("GET", ["device", "info"]) => device_info(state),
        ("GET", ["device", "pixel_ratio"]) => json!(2.625),
        ("GET", ["device", "display_density"]) => json!(420),
        ("GET", ["device", "system_bars"]) => json!({
            "statusBar": 63,
            "navigationBar": {"visible": true, "x": 0, "y": HEIGHT - 63, "width": WIDTH, "height": 63},
        }),
        ("GET", ["device", "battery_info"]) => json!({"level": 1.0, "status": 2}),
        ("GET", ["device", "is_keyboard_shown"]) => false.into(),
        ("POST", ["device", "get_clipboard"]) => state.clipboard.clone().into(),
        ("POST", ["device", "set_clipboard"]) => {
            arguments["content"].as_str().unwrap_or_default().clone_into(&mut state.clipboard);
            Value::Null
        }
        ("POST", ["device", "press_keycode" | "long_press_keycode"]) => {
            let key = arguments["keycode"].as_u64().and_then(|key| u32::try_from(key).ok());
            state.press(key.unwrap_or(0));
            Value::Null
        }
        ("POST", ["device", "open_notifications"]) => Value::Null,
        ("POST", ["gestures", "click" | "double_click" | "long_click"]) => {
            let (x, y) = place(state, arguments)?;
            state.tap_at(x, y);
            Value::Null
        }
        // Nothing on this phone scrolls, so there is never more to scroll to.
        ("POST", ["gestures", "scroll" | "fling"]) => false.into(),
        ("POST", ["gestures", ..]) => Value::Null,
        _ => return Err(unknown(method, &format!("appium/{}", path.join("/")))),
    })
}

fn device_info(state: &State) -> Value {
    json!({
        "androidId": "a1b2c3d4e5f60718",
        "manufacturer": state.config.manufacturer,
        "model": state.config.model,
        "brand": state.property("ro.product.brand"),
        "apiVersion": state.config.sdk.to_string(),
        "platformVersion": state.config.release,
        "carrierName": "",
        "realDisplaySize": format!("{WIDTH}x{HEIGHT}"),
        "displayDensity": 420,
        "networks": [],
        "locale": "en_US",
        "timeZone": "UTC",
        "bluetooth": {"state": "OFF"},
    })
}

fn on_element(state: &mut State, method: &str, node: &Node, path: &[&str], arguments: &Value) -> Answer {
    let bounds = node.bounds;
    Ok(match (method, path) {
        ("GET", ["text"]) => node.text.clone().into(),
        ("GET", ["name"]) => node.class.clone().into(),
        ("GET", ["displayed"]) => true.into(),
        ("GET", ["enabled"]) => node.enabled.into(),
        ("GET", ["selected"]) => false.into(),
        ("GET", ["attribute", name]) => node.attribute(name).into(),
        ("GET", ["rect"]) => {
            json!({"x": bounds.x, "y": bounds.y, "width": bounds.width, "height": bounds.height})
        }
        ("GET", ["location"]) => json!({"x": bounds.x, "y": bounds.y}),
        ("GET", ["size"]) => json!({"width": bounds.width, "height": bounds.height}),
        ("GET", ["screenshot"]) => screen::base64(&screen::photograph(state)).into(),
        ("POST", ["click"]) => {
            if let Some(position) = node.position {
                state.tap(position);
            }
            Value::Null
        }
        ("POST", ["value"]) => {
            let replace = arguments["replace"].as_bool() == Some(true);
            let text = typed(arguments);
            // An empty field shows its hint, which typing does not add to.
            type_into(state, node, if replace { text } else { format!("{}{text}", node.text) })?;
            Value::Null
        }
        ("POST", ["clear"]) => {
            type_into(state, node, String::new())?;
            Value::Null
        }
        ("POST", ["element" | "elements"]) => {
            // Widgets have no children here; only the frame has.
            let inside = if node.position.is_none() { search(state, arguments)? } else { Vec::new() };
            let inside: Vec<Node> = inside.into_iter().filter(|found| found.position.is_some()).collect();
            if path == ["elements"] {
                inside.iter().map(|found| reference(state, found)).collect()
            } else {
                let first = inside.first().ok_or_else(no_such_element)?;
                reference(state, first)
            }
        }
        _ => return Err(unknown(method, &format!("element/{}", path.join("/")))),
    })
}

fn type_into(state: &mut State, node: &Node, text: String) -> Result<(), Failure> {
    if !node.class.ends_with("EditText") {
        let message =
            format!("Cannot set the element to '{text}'. Did you interact with the correct element?");
        return Err(Failure::new(StatusCode::BAD_REQUEST, "invalid element state", message));
    }
    if let Some((app, variables)) = state.front_app() {
        app.type_into(&node.id, text, variables);
    }
    Ok(())
}

fn typed(arguments: &Value) -> String {
    if let Some(text) = arguments["text"].as_str() {
        return text.to_owned();
    }
    let keys = arguments["value"].as_array();
    keys.into_iter().flatten().filter_map(Value::as_str).collect()
}

fn no_such_element() -> Failure {
    let message = "An element could not be located on the page using the given search parameters";
    Failure::new(StatusCode::NOT_FOUND, "no such element", message)
}

fn search(state: &State, arguments: &Value) -> Result<Vec<Node>, Failure> {
    let text = |names: [&str; 2]| names.iter().find_map(|name| arguments[*name].as_str()).unwrap_or_default();
    let (strategy, selector) = (text(["strategy", "using"]), text(["selector", "value"]));
    ui::find(&ui::nodes(state), strategy, selector)
        .map_err(|message| Failure::new(StatusCode::BAD_REQUEST, "invalid selector", message))
}

/// The same node is the same element for as long as the session lasts.
fn reference(state: &mut State, node: &Node) -> Value {
    let elements = &mut state.automation.elements;
    let place = elements.iter().position(|key| *key == node.key).unwrap_or_else(|| {
        elements.push(node.key.clone());
        elements.len() - 1
    });
    let id = format!("00000000-0000-0000-ffff-{place:012x}");
    ELEMENT_KEYS.into_iter().map(|key| (key.to_owned(), Value::from(id.clone()))).collect()
}

fn known(state: &State, id: &str) -> Result<Node, Failure> {
    let place = id.rsplit('-').next().and_then(|place| usize::from_str_radix(place, 16).ok());
    let key = place.and_then(|place| state.automation.elements.get(place));
    ui::nodes(state).into_iter().find(|node| Some(&node.key) == key).ok_or_else(|| {
        let message = "The element is not on the screen any more";
        Failure::new(StatusCode::NOT_FOUND, "stale element reference", message)
    })
}

/// The place that a gesture is about: an offset on the screen, or the middle of an element, or an offset in it.
fn place(state: &State, arguments: &Value) -> Result<(f64, f64), Failure> {
    let offset = arguments.get("offset").filter(|offset| !offset.is_null()).unwrap_or(arguments);
    let offset = offset["x"].as_f64().zip(offset["y"].as_f64());
    let origin = arguments.get("origin").and_then(element_id);
    match (origin, offset) {
        (Some(id), offset) => {
            let bounds = known(state, id)?.bounds;
            Ok(offset.map_or(bounds.center(), |(x, y)| (f64::from(bounds.x) + x, f64::from(bounds.y) + y)))
        }
        (None, Some(offset)) => Ok(offset),
        (None, None) => Err(Failure::new(StatusCode::BAD_REQUEST, "invalid argument", "no place to touch")),
    }
}

fn element_id(reference: &Value) -> Option<&str> {
    ELEMENT_KEYS.iter().find_map(|key| reference.get(*key)?.as_str())
}

/// W3C actions, played at once: fingers that go down and up again, and keys.
fn actions(state: &mut State, arguments: &Value) -> Result<(), Failure> {
    let sources = arguments["actions"].as_array().cloned().unwrap_or_default();
    for source in sources {
        let (mut at, mut down) = ((0.0, 0.0), None);
        for action in source["actions"].as_array().into_iter().flatten() {
            match action["type"].as_str().unwrap_or_default() {
                "pointerMove" => {
                    let (x, y) = (action["x"].as_f64().unwrap_or(0.0), action["y"].as_f64().unwrap_or(0.0));
                    at = match (element_id(&action["origin"]), action["origin"].as_str()) {
                        (Some(id), _) => {
                            let center = known(state, id)?.bounds.center();
                            (center.0 + x, center.1 + y)
                        }
                        (None, Some("pointer")) => (at.0 + x, at.1 + y),
                        (None, _) => (x, y),
                    };
                }
                "pointerDown" => down = Some(at),
                "pointerUp" => {
                    if let Some(down) = down.take() {
                        state.touch(down, at);
                    }
                }
                "keyDown" => state.type_text(action["value"].as_str().unwrap_or_default()),
                _ => {}
            }
        }
    }
    Ok(())
}
