//! [`deserialize`]: settings of one's own from the merged layers, by their `serde::Deserialize`.
//!
//! A derived deserializer stops at the first problem and passes over unknown names. So what is
//! wrong is taken out and the rest read again, and names that a struct does not have are refused.
//! No message repeats the text of a value.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use config::{Map, Value, ValueKind};
use serde::de::value::StringDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, EnumAccess, Expected, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use crate::config::own::Section;
use crate::config::reader::{Reader, repeats, shown_name};

/// Reads settings; `reader` collects the problems, the unknown names among them.
pub(super) fn deserialize<S: DeserializeOwned>(
    section: &Section,
    mut table: Map<String, Value>,
    reader: &mut Reader,
) -> Option<S> {
    let unknown = RefCell::default();
    let mut wrong: BTreeMap<String, String> = BTreeMap::new();
    let settings = loop {
        let at = At {
            value: Value::new(None, table.clone()),
            path: String::new(),
            unknown: &unknown,
        };
        let problem = match S::deserialize(at) {
            Ok(settings) => break Some(settings),
            Err(problem) => problem,
        };
        let key = problem.path.split(['.', '[']).next().unwrap_or_default();
        let was_taken_out = |path: &String| path.split(['.', '[']).next() == Some(key);
        let (key, is_known) = (key.to_owned(), wrong.keys().any(was_taken_out));
        // A setting without a default is missing once it was taken out.
        if !is_known {
            wrong.insert(problem.path, problem.message);
        }
        if table.remove(&key).is_none() {
            break None;
        }
    };
    wrong.extend(unknown.into_inner());
    let settings = settings.filter(|_| wrong.is_empty());
    for (path, message) in wrong {
        section.problem(reader, &path, message);
    }
    settings
}

/// Unknown names by their paths, with what is said of them.
type UnknownNames = RefCell<BTreeMap<String, String>>;

/// A value with its path within the section.
struct At<'u> {
    value: Value,
    path: String,
    unknown: &'u UnknownNames,
}

/// What is wrong, and where.
#[derive(Debug)]
struct Wrong {
    path: String,
    message: String,
    /// Whether the message may repeat the value.
    is_of_the_type: bool,
}

impl Wrong {
    fn new(message: String) -> Self {
        Self {
            path: String::new(),
            message,
            is_of_the_type: false,
        }
    }

    /// Places the problem at `path`, unless it has a place within it.
    fn at(mut self, path: &str) -> Self {
        if self.path.is_empty() {
            path.clone_into(&mut self.path);
        } else if !path.is_empty() && !self.path.starts_with(path) {
            self.path = format!("{path}.{}", self.path);
        }
        self
    }

    /// Says no more than that `text` is wrong, if the message repeats it.
    fn without(mut self, text: Option<&str>) -> Self {
        if self.is_of_the_type && text.is_none_or(|text| repeats(&self.message, text)) {
            "this is not accepted here".clone_into(&mut self.message);
        }
        self.is_of_the_type = false;
        self
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Wrong {}

impl de::Error for Wrong {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self {
            is_of_the_type: true,
            ..Self::new(message.to_string())
        }
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("accepted here is {expected}"))
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("accepted here is {expected}"))
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        Self::new(format!("accepted here is {expected}"))
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("accepted here are: {}", expected.join(", ")))
    }

    fn missing_field(field: &'static str) -> Self {
        Self {
            path: field.to_owned(),
            ..Self::new("it is missing, and has no default".to_owned())
        }
    }
}

impl<'u> At<'u> {
    fn within(&self, key: &str) -> String {
        match self.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }

    fn table(self, expected: &str) -> Result<TableAt<'u>, Wrong> {
        let Self {
            value,
            path,
            unknown,
        } = self;
        let table = match value.kind {
            ValueKind::Table(table) => table,
            // An absent table, in a list that the environment has.
            _ => return Err(Wrong::new(format!("accepted here is {expected}")).at(&path)),
        };
        let mut entries: Vec<(String, Value)> = table.into_iter().collect();
        entries.sort_by(|(one, _), (other, _)| other.cmp(one));
        Ok(TableAt {
            entries,
            value: None,
            path,
            unknown,
        })
    }

    /// Takes out names that are none of `fields`, and notes them.
    fn note_unknown(&mut self, fields: &[&str]) {
        let ValueKind::Table(table) = &mut self.value.kind else {
            return;
        };
        let is_unknown = |key: &&String| !fields.contains(&key.as_str());
        let strange: Vec<String> = table.keys().filter(is_unknown).cloned().collect();
        let known: Vec<String> = fields.iter().map(|&field| field.to_owned()).collect();
        for key in strange {
            table.remove(&key);
            let here = match known.as_slice() {
                [] => "here are none".to_owned(),
                known => format!("here are: {}", known.join(", ")),
            };
            let path = match self.path.as_str() {
                "" => shown_name(&key, &known),
                path => format!("{path}.{}", shown_name(&key, &known)),
            };
            let message = format!("there is no such setting; {here}");
            self.unknown.borrow_mut().insert(path, message);
        }
    }

    /// Visits a value that stands for itself.
    fn visit<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let (path, text) = (self.path.clone(), self.value.clone().into_string().ok());
        let visited = match self.value.kind {
            ValueKind::Nil => visitor.visit_unit(),
            ValueKind::Boolean(value) => visitor.visit_bool(value),
            ValueKind::I64(value) => visitor.visit_i64(value),
            ValueKind::I128(value) => visitor.visit_i128(value),
            ValueKind::U64(value) => visitor.visit_u64(value),
            ValueKind::U128(value) => visitor.visit_u128(value),
            ValueKind::Float(value) => visitor.visit_f64(value),
            ValueKind::String(value) => visitor.visit_string(value),
            ValueKind::Table(_) => return visitor.visit_map(self.table("a table")?),
            ValueKind::Array(_) => return visitor.visit_seq(self.list()?),
        };
        visited.map_err(|wrong: Wrong| wrong.at(&path).without(text.as_deref()))
    }

    /// The items of a list; in the environment, commas separate them.
    fn list(self) -> Result<ListAt<'u>, Wrong> {
        let (path, unknown) = (self.path, self.unknown);
        let items = match self.value.kind {
            ValueKind::Array(items) => items,
            ValueKind::String(text) => {
                let items = text.split(',').map(str::trim);
                let items = items.filter(|item| !item.is_empty());
                items.map(|item| Value::new(None, item)).collect()
            }
            _ => return Err(Wrong::new("accepted here is a list".to_owned()).at(&path)),
        };
        Ok(ListAt {
            items: items.into_iter().enumerate(),
            path,
            unknown,
        })
    }

    /// The value as another kind, as which a text of the environment may be read.
    fn read_as<T>(
        self,
        read: impl FnOnce(Value) -> Result<T, config::ConfigError>,
        accepted: &str,
    ) -> Result<Self, Wrong>
    where
        ValueKind: From<T>,
    {
        let wrong = Wrong::new(format!("accepted here is {accepted}")).at(&self.path);
        let kind = read(self.value).map(ValueKind::from).map_err(|_| wrong)?;
        Ok(Self {
            value: Value::new(None, kind),
            ..self
        })
    }
}

/// Reads a number, as which a text may be read too.
macro_rules! numbers {
    ($($method:ident $read:ident $accepted:literal;)+) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
            self.read_as(Value::$read, $accepted)?.visit(visitor)
        })+
    };
}

impl<'de> de::Deserializer<'de> for At<'_> {
    type Error = Wrong;

    numbers! {
        deserialize_bool into_bool "true or false";
        deserialize_i8 into_int "a whole number";
        deserialize_i16 into_int "a whole number";
        deserialize_i32 into_int "a whole number";
        deserialize_i64 into_int "a whole number";
        deserialize_u8 into_uint "a whole number, not negative";
        deserialize_u16 into_uint "a whole number, not negative";
        deserialize_u32 into_uint "a whole number, not negative";
        deserialize_u64 into_uint "a whole number, not negative";
        deserialize_f32 into_float "a number";
        deserialize_f64 into_float "a number";
        deserialize_str into_string "a text";
        deserialize_string into_string "a text";
        deserialize_char into_string "one character";
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.visit(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.value.kind {
            ValueKind::Nil => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Wrong> {
        self.note_unknown(&[]);
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        let (path, text) = (self.path.clone(), self.value.clone().into_string().ok());
        let visited = visitor.visit_newtype_struct(self);
        visited.map_err(|wrong: Wrong| wrong.at(&path).without(text.as_deref()))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let path = self.path.clone();
        let visited = visitor.visit_seq(self.list()?);
        visited.map_err(|wrong: Wrong| wrong.at(&path).without(None))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let path = self.path.clone();
        let visited = visitor.visit_map(self.table("a table of settings")?);
        visited.map_err(|wrong: Wrong| wrong.at(&path).without(None))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.note_unknown(fields);
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        let path = self.path.clone();
        let unknown = self.unknown;
        let (variant, content) = match self.value.kind {
            ValueKind::Table(table) if table.len() == 1 => match table.into_iter().next() {
                Some((variant, value)) => (variant, Some(value)),
                None => return Err(Wrong::new("accepted here is a word".to_owned()).at(&path)),
            },
            _ => {
                let word = self.read_as(Value::into_string, "a word")?.value;
                (word.into_string().unwrap_or_default(), None)
            }
        };
        let chosen = VariantAt {
            variant,
            content: content.map(|value| At {
                value,
                path: path.clone(),
                unknown,
            }),
        };
        let visited = visitor.visit_enum(chosen);
        visited.map_err(|wrong: Wrong| wrong.at(&path).without(None))
    }

    forward_to_deserialize_any! {
        i128 u128 bytes byte_buf identifier ignored_any
    }
}

/// The entries of a table, from the last to the first.
struct TableAt<'u> {
    entries: Vec<(String, Value)>,
    value: Option<(String, Value)>,
    path: String,
    unknown: &'u UnknownNames,
}

impl<'de> MapAccess<'de> for TableAt<'_> {
    type Error = Wrong;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Wrong> {
        let Some((key, value)) = self.entries.pop() else {
            return Ok(None);
        };
        let name: StringDeserializer<Wrong> = key.clone().into_deserializer();
        self.value = Some((key, value));
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Wrong> {
        let Some((key, value)) = self.value.take() else {
            return Err(Wrong::new("a value is missing".to_owned()));
        };
        let mut at = At {
            value,
            path: self.path.clone(),
            unknown: self.unknown,
        };
        let path = at.within(&key);
        at.path.clone_from(&path);
        let text = at.value.clone().into_string().ok();
        let read = seed.deserialize(at);
        read.map_err(|wrong| wrong.at(&path).without(text.as_deref()))
    }
}

struct ListAt<'u> {
    items: std::iter::Enumerate<std::vec::IntoIter<Value>>,
    path: String,
    unknown: &'u UnknownNames,
}

impl<'de> SeqAccess<'de> for ListAt<'_> {
    type Error = Wrong;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Wrong> {
        let Some((index, value)) = self.items.next() else {
            return Ok(None);
        };
        let path = format!("{}[{index}]", self.path);
        let text = value.clone().into_string().ok();
        let item = At {
            value,
            path: path.clone(),
            unknown: self.unknown,
        };
        let read = seed.deserialize(item).map(Some);
        read.map_err(|wrong| wrong.at(&path).without(text.as_deref()))
    }
}

struct VariantAt<'u> {
    variant: String,
    content: Option<At<'u>>,
}

impl<'de, 'u> EnumAccess<'de> for VariantAt<'u> {
    type Error = Wrong;
    type Variant = Content<'u>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self::Variant), Wrong> {
        let name: StringDeserializer<Wrong> = self.variant.clone().into_deserializer();
        let variant = seed.deserialize(name)?;
        let content = self.content.map(|at| At {
            path: at.within(&self.variant),
            ..at
        });
        Ok((variant, Content(content)))
    }
}

/// What stands beside the word of a variant.
struct Content<'u>(Option<At<'u>>);

impl<'de> VariantAccess<'de> for Content<'_> {
    type Error = Wrong;

    fn unit_variant(self) -> Result<(), Wrong> {
        match self.0 {
            None => Ok(()),
            Some(at) => Err(Wrong::new("accepted here is the word alone".to_owned()).at(&at.path)),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Wrong> {
        seed.deserialize(self.0.ok_or_else(without_content)?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Wrong> {
        de::Deserializer::deserialize_tuple(self.0.ok_or_else(without_content)?, len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        let content = self.0.ok_or_else(without_content)?;
        de::Deserializer::deserialize_struct(content, "", fields, visitor)
    }
}

fn without_content() -> Wrong {
    Wrong::new("accepted here is a table with this word and its settings".to_owned())
}
