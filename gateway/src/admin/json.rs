//! Strict JSON parser: refuses duplicate members. serde_json keeps the last one, and two programs
//! that read the same text could see different values.

use std::fmt;
use std::ops::ControlFlow;

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Deserializer, Map, Value};

use crate::admin::field_error::{FieldError, MAX_ERRORS, MAX_LOCATION_BYTES};
use crate::keys::{Prefix, token};

/// A JSON pointer, converted to text only for an error: a name can be as long as the body, and the
/// pointers to its members longer still.
#[derive(Clone, Copy)]
pub(super) enum Pointer<'p> {
    /// The whole document.
    Root,
    /// A member of the parent.
    Member(&'p Self, &'p str),
    /// An item of the parent.
    Item(&'p Self, usize),
}

/// Parses a JSON value.
///
/// # Errors
/// The errors with their JSON pointers: the syntax error, or every duplicate member, up to one more
/// than fits an answer.
pub(super) fn parse(text: &[u8], prefix: &Prefix) -> Result<Value, Vec<FieldError>> {
    let mut twice = Vec::new();
    let mut deserializer = Deserializer::from_slice(text);
    let value = At {
        pointer: Pointer::Root,
        prefix,
        twice: &mut twice,
    }
    .deserialize(&mut deserializer)
    .and_then(|value| deserializer.end().map(|()| value))
    // The message has line and column and never quotes the text.
    .map_err(|error| vec![FieldError::at("", format!("this is not JSON: {error}"))])?;
    if twice.is_empty() {
        Ok(value)
    } else {
        Err(twice)
    }
}

/// Appends a member to a JSON pointer (RFC 6901).
pub(super) fn member(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}

impl Pointer<'_> {
    /// Returns the pointer as text (RFC 6901), cut before a name that contains a key of this
    /// gateway and at the maximum length.
    pub(super) fn text(self, prefix: &Prefix) -> String {
        let mut text = String::new();
        let _ = self.write(&mut text, prefix);
        text
    }

    fn write(self, text: &mut String, prefix: &Prefix) -> ControlFlow<()> {
        match self {
            Self::Root => {}
            Self::Member(parent, name) => {
                parent.write(text, prefix)?;
                if text.len() > MAX_LOCATION_BYTES || token::contains_key(name.as_bytes(), prefix) {
                    return ControlFlow::Break(());
                }
                // Longer than the limit, so that the cut is visible.
                let told = name
                    .get(..name.floor_char_boundary(MAX_LOCATION_BYTES + 1))
                    .unwrap_or_default();
                *text = member(text, told);
            }
            Self::Item(parent, index) => {
                parent.write(text, prefix)?;
                text.push_str(&format!("/{index}"));
            }
        }
        ControlFlow::Continue(())
    }
}

/// Deserializes the value at a pointer.
struct At<'t> {
    pointer: Pointer<'t>,
    prefix: &'t Prefix,
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
        let Self {
            pointer,
            prefix,
            twice,
        } = self;
        let mut read = Vec::new();
        while let Some(item) = items.next_element_seed(At {
            pointer: Pointer::Item(&pointer, read.len()),
            prefix,
            twice,
        })? {
            read.push(item);
        }
        Ok(Value::Array(read))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let Self {
            pointer,
            prefix,
            twice,
        } = self;
        let mut read = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let at = Pointer::Member(&pointer, &name);
            let value = members.next_value_seed(At {
                pointer: at,
                prefix,
                twice: &mut *twice,
            })?;
            if read.contains_key(&name) && twice.len() <= MAX_ERRORS {
                twice.push(FieldError::at(&at.text(prefix), "duplicate"));
            }
            read.insert(name, value);
        }
        Ok(Value::Object(read))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &[u8]) -> Result<Value, Vec<FieldError>> {
        super::parse(text, &Prefix::default())
    }

    #[test]
    fn json_is_read_as_it_is_and_nothing_else_is() {
        for text in [
            r#"{"a":[1,-2,0.5,true,null,"ü\n"],"b":{"a":{}}}"#,
            "[]",
            "null",
            " 1 ",
            r#""""#,
        ] {
            assert_eq!(
                parse(text.as_bytes()),
                Ok(serde_json::from_str(text).unwrap()),
                "{text}"
            );
        }
        let deep = "[".repeat(10_000);
        for text in [
            "",
            "{",
            "{} {}",
            "{\"a\":1,}",
            "[1 2]",
            "nul",
            "'a'",
            "\u{feff}{}",
            "\"a",
            "1e999",
            "NaN",
            &deep,
        ] {
            let errors = parse(text.as_bytes()).unwrap_err();
            assert_eq!(errors[0].pointer.as_deref(), Some(""), "{text:.20}");
        }
        assert!(parse(b"\"\xff\"").is_err());
    }

    #[test]
    fn each_member_that_is_there_twice_is_named() {
        let errors = parse(br#"{"a":1,"b/c":[{"x":1,"x":2}],"a":2,"b/c":0}"#).unwrap_err();
        let pointers: Vec<&str> = errors
            .iter()
            .filter_map(|error| error.pointer.as_deref())
            .collect();
        assert_eq!(pointers, ["/b~1c/0/x", "/a", "/b~1c"]);
    }

    #[test]
    fn a_pointer_never_repeats_a_key_and_is_no_longer_than_is_told() {
        let key = "pstn_0123456789ABCDEFGHIJKLMNOPQRSTUV2pMS28";
        let long = "~".repeat(10_000);
        for (text, pointer) in [
            (format!(r#"{{"{key}":1,"{key}":1}}"#), String::new()),
            (
                format!(r#"{{"a":[{{"x {key}":{{"b":1,"b":1}}}}]}}"#),
                "/a/0".to_owned(),
            ),
            (
                format!(r#"{{"{long}":[{{"b":1,"b":1}}]}}"#),
                format!("/{}…", "~0".repeat(126)),
            ),
        ] {
            let errors = parse(text.as_bytes()).unwrap_err();
            assert_eq!(errors[0].pointer.as_deref(), Some(&*pointer), "{text:.40}");
        }
    }
}
