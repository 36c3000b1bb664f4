//! JSON lines: one object per line, as `gateway export` prints it.

use std::fmt;
use std::io::{BufRead, Read};

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::import::fields::{Defaults, Fields, Named};
use crate::import::reading::{ReadError, Rows};
use crate::store::TransferRow;

/// Maximum length of a line, in bytes.
const MAX_LINE_BYTES: u64 = 64 * 1024;

/// Iterates over the rows of a JSON lines file.
pub(crate) fn rows(source: impl BufRead + 'static, defaults: Defaults) -> Rows {
    Box::new(Lines {
        source,
        defaults,
        line: 0,
        text: Zeroizing::default(),
    })
}

struct Lines<R> {
    source: R,
    defaults: Defaults,
    line: u64,
    text: Zeroizing<Vec<u8>>,
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<TransferRow, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.line += 1;
            self.text.clear();
            match self
                .source
                .by_ref()
                .take(MAX_LINE_BYTES)
                .read_until(b'\n', &mut self.text)
            {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => return Some(Err(error.into())),
            }
            if self.text.len() as u64 == MAX_LINE_BYTES && !self.text.ends_with(b"\n") {
                return Some(match self.source.skip_until(b'\n') {
                    Ok(_) => Err(ReadError::bad(
                        self.line,
                        format!("it has more than {MAX_LINE_BYTES} bytes"),
                    )),
                    Err(error) => Err(error.into()),
                });
            }
            let text = match self.line {
                1 => self
                    .text
                    .strip_prefix(b"\xef\xbb\xbf")
                    .unwrap_or(&self.text),
                _ => &self.text,
            };
            if !text.trim_ascii().is_empty() {
                return Some(read(text, self.line, &self.defaults));
            }
        }
    }
}

/// Parses a line.
pub(crate) fn read(text: &[u8], line: u64, defaults: &Defaults) -> Result<TransferRow, ReadError> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let read = ObjectSeed(defaults).deserialize(&mut reader);
    let fields = read
        .and_then(|fields| reader.end().map(|()| fields))
        .map_err(|error| ReadError::bad(line, explain(&error)))?;
    fields
        .read(line, defaults)
        .map_err(|reason| ReadError::bad(line, reason))
}

/// Prefix of [`ObjectSeed`]'s own errors; all others may quote the line.
const OWN: &str = "a line is one object: ";

/// Describes an error without quoting the line.
fn explain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text
        .strip_prefix(OWN)
        .and_then(|rest| rest.rsplit_once(" at line "))
    {
        Some((reason, _)) => reason.to_owned(),
        None => format!(
            "it is not one JSON object, such as {{\"consumer\":\"acme\",\"key\":\"…\"}} (column {})",
            error.column()
        ),
    }
}

/// Deserializer of an object, with the import's settings.
struct ObjectSeed<'d>(&'d Defaults);

impl<'de> DeserializeSeed<'de> for ObjectSeed<'_> {
    type Value = Fields;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Fields, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ObjectSeed<'_> {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Fields::default();
        let mut seen = Vec::new();
        let mut count = 0;
        while let Some(name) = map.next_key::<String>()?.map(Zeroizing::new) {
            count += 1;
            let column = match self.0.named(&name) {
                Named::Column(column) => column,
                Named::Ignored => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
                Named::Unknown => {
                    let what = Defaults::unknown("field", count, &name, !seen.is_empty());
                    return Err(A::Error::custom(format_args!("{OWN}{what}")));
                }
            };
            if seen.contains(&column) {
                return Err(A::Error::custom(format_args!(
                    "{OWN}`{}` is there twice",
                    column.as_str()
                )));
            }
            seen.push(column);
            fields.set_json(column, map.next_value::<Value>()?);
        }
        Ok(fields)
    }
}
