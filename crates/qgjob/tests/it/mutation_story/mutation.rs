//! Changes to a report: of its bytes, as a broken disk or a half-written file makes them, and of its structure, as a
//! runner that lies would.

use qgjob_simulation::random::Random;
use serde_json::{Map, Value, json};

/// Words that a report's strings may be replaced by.
const WORDS: &[&str] = &[
    "expected",
    "unexpected",
    "flaky",
    "skipped",
    "passed",
    "failed",
    "interrupted",
    "android",
    "setup",
    "",
    "..",
    "/",
    "green.spec.js",
    "../tests/green.spec.js",
    "matrix.spec.js",
    "/project/proj1",
    "/elsewhere",
    "No tests found",
];

/// The report, changed by `random` in up to eight places.
pub fn mutate(report: &Value, random: &mut Random) -> Vec<u8> {
    let mut json = report.clone();
    let of_structure = random.chance(0.8);
    if of_structure {
        for _ in 0..=random.below(4) {
            change(&mut json, random);
        }
        // A lie that its counts give away tests nothing else.
        if random.chance(0.7) {
            count(&mut json);
        }
    }
    let mut text = json.to_string().into_bytes();
    if !of_structure || random.chance(0.1) {
        for _ in 0..=random.below(8) {
            damage(&mut text, random);
        }
    }
    text
}

fn change(json: &mut Value, random: &mut Random) {
    let other = node(json, random).clone();
    let place = node(json, random);
    match random.below(9) {
        0 => *place = junk(random),
        1 => *place = other,
        2 if place.is_array() => {
            let list = place.as_array_mut().expect("the guard saw it");
            if !list.is_empty() {
                list.remove(random.below(list.len()));
            }
        }
        3 if place.is_array() => {
            let list = place.as_array_mut().expect("the guard saw it");
            let copy = list.get(random.below(list.len())).cloned().unwrap_or(other);
            list.insert(random.below(list.len() + 1), copy);
        }
        4 if place.is_array() => {
            let list = place.as_array_mut().expect("the guard saw it");
            if !list.is_empty() {
                let (left, right) = (random.below(list.len()), random.below(list.len()));
                list.swap(left, right);
            }
        }
        2..=4 if place.is_object() => {
            let object = place.as_object_mut().expect("the guard saw it");
            if let Some(key) = key(object, random) {
                let value = object.remove(&key).expect("it is one of its keys");
                if random.chance(0.5) {
                    object.insert(WORDS[random.below(WORDS.len())].to_owned(), value);
                }
            }
        }
        5 => {
            if let Some(text) = place.as_str() {
                let mut letters: Vec<char> = text.chars().collect();
                if !letters.is_empty() {
                    let at = random.below(letters.len());
                    letters[at] = char::from(b'0' + random.below(10) as u8);
                }
                *place = Value::from(letters.into_iter().collect::<String>());
            }
        }
        6 => {
            if let Some(number) = place.as_i64() {
                *place = json!(number + [-1, 1, i64::from(i32::MAX), -number][random.below(4)]);
            }
        }
        _ => {
            // Statuses, ids, files and names of projects: what a verdict hangs on.
            let key = ["status", "id", "file", "projectName", "rootDir"][random.below(5)];
            let word = WORDS[random.below(WORDS.len())];
            if let Some(object) = place.as_object_mut()
                && object.contains_key(key)
            {
                object.insert(key.to_owned(), json!(word));
            }
        }
    }
}

/// Any node of the document, those below `suites` more often.
fn node<'a>(json: &'a mut Value, random: &mut Random) -> &'a mut Value {
    let mut place = json;
    if random.chance(0.7) && place.get("suites").is_some() {
        place = &mut place["suites"];
    }
    loop {
        let stays = random.chance(0.12);
        let next = match &*place {
            Value::Array(list) if !stays && !list.is_empty() => Step::At(random.below(list.len())),
            Value::Object(object) if !stays => match key(object, random) {
                Some(key) => Step::Key(key),
                None => return place,
            },
            _ => return place,
        };
        place = match next {
            Step::At(at) => &mut place[at],
            Step::Key(key) => &mut place[key.as_str()],
        };
    }
}

enum Step {
    At(usize),
    Key(String),
}

fn key(object: &Map<String, Value>, random: &mut Random) -> Option<String> {
    object.keys().nth(random.below(object.len())).cloned()
}

fn junk(random: &mut Random) -> Value {
    match random.below(10) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(-1),
        3 => json!(u64::MAX),
        4 => json!(1e308),
        5 => json!([]),
        6 => json!({}),
        7 => json!([{}]),
        8 => json!("x".repeat(random.below(5_000))),
        _ => json!(WORDS[random.below(WORDS.len())]),
    }
}

/// Makes the report's counts those of what it holds.
fn count(json: &mut Value) {
    let mut counts = json!({ "expected": 0, "unexpected": 0, "flaky": 0, "skipped": 0 });
    fn visit(suite: &Value, counts: &mut Value) {
        for spec in suite["specs"].as_array().into_iter().flatten() {
            for test in spec["tests"].as_array().into_iter().flatten() {
                if let Some(status) = test["status"].as_str()
                    && let Some(count) = counts.get_mut(status)
                {
                    *count = json!(count.as_u64().unwrap_or_default() + 1);
                }
            }
        }
        for inner in suite["suites"].as_array().into_iter().flatten() {
            visit(inner, counts);
        }
    }
    for suite in json["suites"].as_array().into_iter().flatten() {
        visit(suite, &mut counts);
    }
    if let Some(stats) = json.get_mut("stats").and_then(Value::as_object_mut) {
        stats.extend(counts.as_object().expect("it was made one").clone());
    }
}

fn damage(text: &mut Vec<u8>, random: &mut Random) {
    if text.is_empty() {
        return;
    }
    let (one, other) = (random.below(text.len()), random.below(text.len()));
    let (from, to) = (one.min(other), one.max(other));
    let near = to.min(from + 40);
    match random.below(7) {
        0 => text[from] ^= 1 << random.below(8),
        1 => text[from] = random.below(256) as u8,
        2 => _ = text.drain(from..near),
        3 => {
            let copy = text[from..near].to_vec();
            text.splice(to..to, copy);
        }
        4 => text.truncate(to),
        // A key twice, at the beginning of some object.
        5 => {
            if let Some(at) = text[from..].iter().position(|byte| *byte == b'{') {
                let key = ["status", "stats", "results", "id"][random.below(4)];
                let field = format!("\"{key}\":\"{}\",", WORDS[random.below(WORDS.len())]);
                text.splice(from + at + 1..from + at + 1, field.into_bytes());
            }
        }
        _ => {
            let digit = text[from..].iter().position(u8::is_ascii_digit);
            if let Some(at) = digit {
                text[from + at] = b'0' + random.below(10) as u8;
            }
        }
    }
}
