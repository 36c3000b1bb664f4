//! Reading JSON strictly: serde_json would let the last of two members of one name win, and two programs that read the
//! same text could then see different values.

use std::fmt;

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Deserializer, Map, Value};

use crate::admin::problem::FieldError;

/// Reads one JSON value.
///
/// # Errors
/// What is wrong, each with its JSON pointer: where the text stops being JSON, or every member that is there twice.
pub(super) fn parse(text: &[u8]) -> Result<Value, Vec<FieldError>> {
    let mut twice = Vec::new();
    let mut deserializer = Deserializer::from_slice(text);
    let value = At { pointer: String::new(), twice: &mut twice }
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        // Its message names a line and a column, and never repeats the text.
        .map_err(|error| vec![FieldError::at("", format!("this is not JSON: {error}"))])?;
    if twice.is_empty() { Ok(value) } else { Err(twice) }
}

/// The pointer to a member of what `pointer` points to (RFC 6901).
pub(super) fn member(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// Reads the value at a pointer.
struct At<'t> {
    pointer: String,
    twice: &'t mut Vec<FieldError>,
}

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let Self { pointer, twice } = self;
        let mut read = Vec::new();
        while let Some(item) = items.next_element_seed(At { pointer: format!("{pointer}/{}", read.len()), twice })? {
            read.push(item);
        }
        Ok(Value::Array(read))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let Self { pointer, twice } = self;
        let mut read = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let at = member(&pointer, &name);
            let value = members.next_value_seed(At { pointer: at.clone(), twice: &mut *twice })?;
            if read.insert(name, value).is_some() {
                twice.push(FieldError::at(&at, "it is there more than once"));
            }
        }
        Ok(Value::Object(read))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_read_as_it_is_and_nothing_else_is() {
        for text in [r#"{"a":[1,-2,0.5,true,null,"ü\n"],"b":{"a":{}}}"#, "[]", "null", " 1 ", r#""""#] {
            assert_eq!(parse(text.as_bytes()), Ok(serde_json::from_str(text).unwrap()), "{text}");
        }
        let deep = "[".repeat(10_000);
        for text in ["", "{", "{} {}", "{\"a\":1,}", "[1 2]", "nul", "'a'", "\u{feff}{}", "\"a", "1e999", "NaN", &deep] {
            let errors = parse(text.as_bytes()).unwrap_err();
            assert_eq!(errors[0].pointer.as_deref(), Some(""), "{text:.20}");
        }
        assert!(parse(b"\"\xff\"").is_err());
    }

    #[test]
    fn each_member_that_is_there_twice_is_named() {
        let errors = parse(br#"{"a":1,"b/c":[{"x":1,"x":2}],"a":2,"b/c":0}"#).unwrap_err();
        let pointers: Vec<&str> = errors.iter().filter_map(|error| error.pointer.as_deref()).collect();
        assert_eq!(pointers, ["/b~1c/0/x", "/a", "/b~1c"]);
    }
}
