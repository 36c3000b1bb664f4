//! Strict JSON of tokens and key sets (RFC 8725 section 2.4): one object, no member twice at any
//! level, at most [`MAX_DEPTH`] levels.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Maximum depth of nesting; the object itself is the first level.
const MAX_DEPTH: usize = 16;

/// Members of an object.
pub(super) type Object = Map<String, Value>;

/// The bytes are not a strict JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JsonFault {
    /// Not JSON, or with a number that has no finite value.
    Form,
    /// JSON, but no object.
    NotAnObject,
    /// A member twice in one object.
    Duplicate,
    /// More than [`MAX_DEPTH`] levels.
    Depth,
}

/// Parses an object.
pub(super) fn object(text: &[u8]) -> Result<Object, JsonFault> {
    let fault = Cell::new(JsonFault::Form);
    let mut reader = serde_json::Deserializer::from_slice(text);
    let level = Level {
        left: MAX_DEPTH,
        fault: &fault,
    };
    let value = level.deserialize(&mut reader);
    let read = value.and_then(|value| reader.end().map(|()| value));
    match read {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(JsonFault::NotAnObject),
        Err(_) => Err(fault.get()),
    }
}

/// Reader of one value with `left` levels of nesting left.
#[derive(Clone, Copy)]
struct Level<'c> {
    left: usize,
    fault: &'c Cell<JsonFault>,
}

impl Level<'_> {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        match self.left.checked_sub(1) {
            Some(left) => Ok(Self { left, ..self }),
            None => Err(self.refuse(JsonFault::Depth)),
        }
    }

    fn refuse<E: Error>(self, fault: JsonFault) -> E {
        self.fault.set(fault);
        E::custom("refused")
    }
}

impl<'de> DeserializeSeed<'de> for Level<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
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
        let number = Number::from_f64(value);
        number.map_or_else(
            || Err(self.refuse(JsonFault::Form)),
            |number| Ok(number.into()),
        )
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(inner)? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut object = Object::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(inner)?;
            if object.insert(name, value).is_some() {
                return Err(self.refuse(JsonFault::Duplicate));
            }
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_strict_objects_are_read() {
        let nested = |levels: usize| format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
        let listed =
            |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
        for (text, wanted) in [
            ("{}", Ok(0)),
            (" {\"a\":1,\n\t\"b\":[{\"a\":1},{\"a\":2}]} ", Ok(2)),
            (&nested(16), Ok(1)),
            (&listed(15), Ok(1)),
            (&nested(17), Err(JsonFault::Depth)),
            (&listed(16), Err(JsonFault::Depth)),
            (&nested(5000), Err(JsonFault::Depth)),
            ("{\"a\":1,\"a\":1}", Err(JsonFault::Duplicate)),
            ("{\"a\":1,\"\\u0061\":1}", Err(JsonFault::Duplicate)),
            ("{\"a\":{\"b\":1,\"b\":1}}", Err(JsonFault::Duplicate)),
            ("", Err(JsonFault::Form)),
            ("{", Err(JsonFault::Form)),
            ("{}{}", Err(JsonFault::Form)),
            ("{\"a\":1e400}", Err(JsonFault::Form)),
            ("{\"a\":NaN}", Err(JsonFault::Form)),
            ("{\"a\":01}", Err(JsonFault::Form)),
            ("{'a':1}", Err(JsonFault::Form)),
            ("\u{feff}{}", Err(JsonFault::Form)),
            ("[]", Err(JsonFault::NotAnObject)),
            ("null", Err(JsonFault::NotAnObject)),
            ("\"a\"", Err(JsonFault::NotAnObject)),
        ] {
            let read = object(text.as_bytes()).map(|object| object.len());
            assert_eq!(read, wanted, "{}", &text[..text.len().min(60)]);
        }
        assert_eq!(object(b"{\"a\":\"\xff\"}"), Err(JsonFault::Form));
    }
}
