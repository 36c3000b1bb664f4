//! Pages of lists, and their cursors.
//!
//! A cursor is the position after the last item of a page, not an offset: concurrent creation and
//! deletion neither repeats nor hides other items.

use actix_web::HttpResponse;
use serde::Serialize;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Ref, Schema, Type};

use crate::keys::UnixMillis;
use crate::keys::consumer::MAX_NAME_BYTES;
use crate::store::After;
use crate::views::schemas;

/// Default page size.
pub(super) const DEFAULT_LIMIT: u32 = 100;
/// Maximum page size.
const MAX_LIMIT: u32 = 1000;

/// Hexadecimal digits of the time in a cursor, before the random characters of the id.
const MOMENT_DIGITS: usize = 16;
/// Length of a cursor.
const CURSOR_CHARS: usize = MOMENT_DIGITS + 20;

/// Requested page of a list.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) limit: u32,
    pub(super) cursor: Option<String>,
}

/// Response body of a page.
#[derive(Serialize)]
struct PageView<V> {
    data: Vec<V>,
    next_cursor: Option<String>,
}

impl Page {
    /// Number of rows to request: one more than the page, to detect a next page.
    pub(super) fn wanted(&self) -> u32 {
        self.limit + 1
    }

    /// Decodes the cursor, in a list of items whose ids begin with `prefix`.
    pub(super) fn after(&self, prefix: &str) -> Option<After> {
        let (moment, id) = self.cursor.as_ref()?.split_at_checked(MOMENT_DIGITS)?;
        let moment = u64::from_str_radix(moment, 16).ok()?;
        Some(After {
            created_at: UnixMillis(moment.cast_signed()),
            id: format!("{prefix}{id}"),
        })
    }

    /// Decodes the cursor of a list by name.
    pub(super) fn after_name(&self) -> String {
        let digits = self.cursor.as_deref().unwrap_or_default().as_bytes();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        digits.chunks(2).filter_map(byte).map(char::from).collect()
    }

    /// Decodes the cursor of a list by number.
    pub(super) fn number(&self) -> Option<i64> {
        i64::from_str_radix(self.cursor.as_ref()?, 16).ok()
    }

    /// Answers with the rows from the store; `cursor` returns the cursor after an item.
    pub(super) fn answer<'t, T, V: Serialize>(
        &self,
        found: &'t [T],
        view: impl Fn(&'t T) -> V,
        cursor: impl Fn(&'t T) -> String,
    ) -> HttpResponse {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let is_more = found.len() > limit;
        let shown = &found[..found.len().min(limit)];
        let next_cursor = shown.last().filter(|_| is_more).map(cursor);
        HttpResponse::Ok().json(PageView {
            data: shown.iter().map(view).collect(),
            next_cursor,
        })
    }
}

/// Encodes the cursor after an item with this time of creation and id.
pub(super) fn cursor(moment: UnixMillis, id: &str) -> String {
    let random = id.split_once('_').map_or(id, |(_, random)| random);
    format!("{:016x}{random}", moment.0.cast_unsigned())
}

/// Encodes the cursor after this name.
pub(super) fn name_cursor(name: &str) -> String {
    name.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// Encodes the cursor after this non-negative number.
pub(super) fn number_cursor(number: i64) -> String {
    format!("{number:016x}")
}

pub(super) fn parse_limit(text: &str) -> Result<u32, String> {
    let limit = text
        .parse()
        .ok()
        .filter(|limit| (1..=MAX_LIMIT).contains(limit) && !text.starts_with('+'));
    limit.ok_or_else(|| format!("a limit is a whole number from 1 to {MAX_LIMIT}"))
}

/// Validates a cursor. Any text of this form is a valid position, so none fails later.
pub(super) fn is_cursor(text: &str) -> bool {
    text.len() == CURSOR_CHARS
        && text
            .bytes()
            .enumerate()
            .all(|(position, byte)| match position {
                0..MOMENT_DIGITS => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
                _ => byte.is_ascii_alphanumeric(),
            })
}

/// Validates the cursor of a list by name: any characters are a position among names.
pub(super) fn is_name_cursor(text: &str) -> bool {
    let is_pair = |pair: &[u8]| matches!(pair, [b'2'..=b'7', low] if low.is_ascii_digit() || (b'a'..=b'f').contains(low));
    (1..=MAX_NAME_BYTES * 2).contains(&text.len()) && text.as_bytes().chunks(2).all(is_pair)
}

/// Validates the cursor of a list by number.
pub(super) fn is_number_cursor(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == MOMENT_DIGITS
        && matches!(bytes[0], b'0'..=b'7')
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte))
}

pub(super) fn limit_schema() -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(1))
        .maximum(Some(MAX_LIMIT as usize))
        .into()
}

pub(super) fn cursor_schema() -> Schema {
    schemas::text("^[0-9a-f]{16}[0-9A-Za-z]{20}$", CURSOR_CHARS, CURSOR_CHARS).into()
}

pub(super) fn number_cursor_schema() -> Schema {
    schemas::text("^[0-7][0-9a-f]{15}$", MOMENT_DIGITS, MOMENT_DIGITS).into()
}

pub(super) fn name_cursor_schema() -> Schema {
    schemas::text("^([2-7][0-9a-f])+$", 2, MAX_NAME_BYTES * 2).into()
}

/// Returns the schema of a page with items of the schema `name` and this cursor schema.
pub(super) fn schema(name: &str, cursor: Schema) -> Schema {
    let mut next = schemas::or_null(cursor);
    if let Schema::Object(next) = &mut next {
        next.description = Some("Cursor of the next page; null on the last page.".to_owned());
    }
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .property(
            "data",
            ArrayBuilder::new()
                .items(Ref::from_schema_name(name))
                .max_items(Some(MAX_LIMIT as usize)),
        )
        .required("data")
        .property("next_cursor", next)
        .required("next_cursor")
        .into()
}

#[cfg(test)]
mod tests {
    use actix_web::body::MessageBody as _;

    use super::*;

    fn read(answer: HttpResponse) -> serde_json::Value {
        serde_json::from_slice(&answer.into_body().try_into_bytes().unwrap_or_default()).unwrap()
    }

    #[test]
    fn a_cursor_leads_back_to_its_place() {
        for moment in [0, 1, -1, i64::MIN, i64::MAX, 1_700_000_000_000] {
            let found = [
                (UnixMillis(moment), "key_0123456789abcdefghij"),
                (UnixMillis(moment), "key_1123456789abcdefghij"),
            ];
            let page = Page {
                limit: 1,
                cursor: None,
            };
            let answer =
                read(page.answer(&found, |found| found.1, |found| cursor(found.0, found.1)));
            let next = answer["next_cursor"].as_str().unwrap().to_owned();
            assert!(is_cursor(&next), "{next}");
            let after = Page {
                limit: 1,
                cursor: Some(next),
            }
            .after("key_")
            .unwrap();
            assert_eq!((after.created_at, after.id.as_str()), found[0]);
            let last = read(page.answer(
                &found[..1],
                |found| found.1,
                |found| cursor(found.0, found.1),
            ));
            assert!(last["next_cursor"].is_null());
        }
    }

    #[test]
    fn a_name_cursor_leads_back_to_its_name() {
        for name in ["a", "~", "eu/.. 1", &"n".repeat(MAX_NAME_BYTES)] {
            let cursor = name_cursor(name);
            assert!(is_name_cursor(&cursor), "{cursor}");
            assert_eq!(
                Page {
                    limit: 1,
                    cursor: Some(cursor)
                }
                .after_name(),
                name
            );
        }
        assert_eq!(
            Page {
                limit: 1,
                cursor: None
            }
            .after_name(),
            ""
        );
        for text in [
            "",
            "6",
            "616",
            "1f",
            "80",
            "6G",
            "6A",
            "é1",
            &"61".repeat(MAX_NAME_BYTES + 1),
        ] {
            assert!(!is_name_cursor(text), "{text}");
        }
    }

    #[test]
    fn limits_and_cursors_have_one_form() {
        for (text, limit) in [
            ("1", Some(1)),
            ("1000", Some(1000)),
            ("0", None),
            ("1001", None),
            ("+1", None),
            ("", None),
            ("a", None),
        ] {
            assert_eq!(parse_limit(text).ok(), limit, "{text}");
        }
        let cursor = "0000018bcfe568000123456789abcdefghij";
        assert!(is_cursor(cursor));
        for text in [
            "",
            "x",
            &cursor[1..],
            &cursor.replace('b', "B"),
            &cursor.replace('j', "-"),
            &cursor.replace('j', "é"),
        ] {
            assert!(!is_cursor(text), "{text}");
        }
    }
}
