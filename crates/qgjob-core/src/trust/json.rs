//! JSON in which no name stands twice: of two values of one claim, who checks and who acts could take different ones.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The object that `bytes` hold.
///
/// # Errors
/// What is wrong with it; never the text itself.
pub(super) fn object(bytes: &[u8]) -> Result<Map<String, Value>, &'static str> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    match value {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("is no JSON object"),
        Err(error) if error.to_string().starts_with(TWICE) => Err("names something twice"),
        Err(_) => Err("is no JSON"),
    }
}

const TWICE: &str = "a name stands twice";

struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Strict)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(Strict)?;
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom(TWICE));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_object_without_repeats_is_read() {
        let good = br#"{"a":1,"b":[{"a":-2.5},null,true],"c":{"a":"x"}}"#;
        assert_eq!(Value::Object(object(good).unwrap()), serde_json::from_slice::<Value>(good).unwrap());
        for (bad, why) in [
            (r#"{"a":1,"a":1}"#, "names something twice"),
            (r#"{"a":1,"\u0061":1}"#, "names something twice"),
            (r#"{"a":{"b":1,"b":2}}"#, "names something twice"),
            (r#"{"a":[{"b":1,"b":2}]}"#, "names something twice"),
            ("[1]", "is no JSON object"),
            (r#"{"a":1} {"b":2}"#, "is no JSON"),
            (r#"{"a":1"#, "is no JSON"),
            ("", "is no JSON"),
        ] {
            assert_eq!(object(bad.as_bytes()), Err(why), "{bad}");
        }
        let deep = "[".repeat(1_000_000);
        assert_eq!(object(deep.as_bytes()), Err("is no JSON"), "it ends before the stack does");
    }
}
