//! Columns of stored types. [`columns!`] declares the list once; column names, bound values and the
//! row reader derive from it and cannot disagree.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, Row};

use crate::keys::allowance::{Entries, Entry};
use crate::keys::{
    AllowedIps, AllowedMethods, AllowedRoutes, BucketName, ConsumerId, ConsumerName, Count,
    CustomId, Description, KeyDigest, KeyId, KeyState, Lifetime, MaxInFlight, MaxLiveKeys,
    Metadata, PlanName, Scopes, Tag, Tags, UnixMillis,
};
use crate::store::{LeakPolicy, StoreError, UnusedAction};

/// A statement with some values bound.
pub(super) type Bound<'q> = Query<'q, Any, AnyArguments>;

/// A column of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) is_nullable: bool,
}

/// Type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Number,
    Digest,
}

/// Value of a column.
#[derive(Clone, Debug)]
pub(super) enum Value<'v> {
    Text(Option<Cow<'v, str>>),
    Number(Option<i64>),
    Digest(KeyDigest),
}

/// A type stored in one or more columns.
pub(super) trait Stored: Sized {
    /// Returns the columns. A single column is named after its field.
    fn columns(field: &'static str) -> Vec<Column>;

    /// Passes the values to `take`, in column order.
    fn values(&self, take: &mut dyn FnMut(Value<'_>));

    /// Reads the columns and validates the values: another program may have written them.
    fn read<S: Source>(source: &mut S, field: &'static str) -> Result<Self, S::Error>;
}

/// Source of values, read once each and in column order.
pub(super) trait Source {
    type Error;

    fn text(&mut self, column: &'static str) -> Result<&str, Self::Error>;
    fn optional_text(&mut self, column: &'static str) -> Result<Option<&str>, Self::Error>;
    fn number(&mut self, column: &'static str) -> Result<i64, Self::Error>;
    fn optional_number(&mut self, column: &'static str) -> Result<Option<i64>, Self::Error>;
    fn digest(&mut self, column: &'static str) -> Result<KeyDigest, Self::Error>;

    /// Error for a value that no version of the gateway writes.
    fn unreadable(column: &'static str, reason: impl Display) -> Self::Error;
}

/// Declares the columns of a struct: its fields in column order, with the column name if it
/// differs. A new field does not compile until listed.
macro_rules! columns {
    ($type:ident { $($field:ident $(as $column:literal)?),* $(,)? }) => {
        impl $crate::store::columns::Stored for $type {
            fn columns(_: &'static str) -> Vec<$crate::store::columns::Column> {
                [$($crate::store::columns::columns_of_field(
                    |stored: &$type| &stored.$field,
                    $crate::store::columns::column_name!($field $($column)?),
                )),*]
                .concat()
            }

            fn values(&self, take: &mut dyn FnMut($crate::store::columns::Value<'_>)) {
                let Self { $($field),* } = self;
                $($crate::store::columns::Stored::values($field, take);)*
            }

            fn read<S: $crate::store::columns::Source>(
                source: &mut S,
                _: &'static str,
            ) -> Result<Self, S::Error> {
                $(let $field = $crate::store::columns::Stored::read(
                    source,
                    $crate::store::columns::column_name!($field $($column)?),
                )?;)*
                Ok(Self { $($field),* })
            }
        }
    };
}
pub(super) use columns;

macro_rules! column_name {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $column:literal) => {
        $column
    };
}
pub(super) use column_name;

/// Returns the columns of a field with the type returned by `field`.
pub(super) fn columns_of_field<S, T: Stored>(_: fn(&S) -> &T, name: &'static str) -> Vec<Column> {
    T::columns(name)
}

/// Returns the columns of `T`, separated by commas and each prefixed by `before`: `k.id, k.hint`.
pub(super) fn names<T: Stored>(before: &str) -> String {
    let columns = T::columns("");
    let names: Vec<String> = columns
        .iter()
        .map(|column| format!("{before}{}", column.name))
        .collect();
    names.join(", ")
}

/// Returns the `UPDATE` of all columns of `T` in the row with the id `$1`.
pub(super) fn update<T: Stored>(table: &str) -> String {
    update_by::<T>(table, "id")
}

/// Returns the `UPDATE` of all columns of `T` in the row with `$1` in the column `key`.
pub(super) fn update_by<T: Stored>(table: &str, key: &str) -> String {
    let columns = T::columns("");
    let set: Vec<String> = columns
        .iter()
        .zip(2..)
        .map(|(column, number)| format!("{} = ${number}", column.name))
        .collect();
    format!("UPDATE {table} SET {} WHERE {key} = $1", set.join(", "))
}

/// Binds all values of `stored`.
pub(super) fn bind<'q>(query: Bound<'q>, stored: &impl Stored) -> Bound<'q> {
    let mut bound = Some(query);
    stored.values(&mut |value| {
        bound = bound.take().map(|query| match value {
            Value::Text(text) => query.bind(text.map(Cow::into_owned)),
            Value::Number(number) => query.bind(number),
            Value::Digest(digest) => query.bind(digest.as_bytes().to_vec()),
        });
    });
    // Always `Some`: the closure puts the query back after each value.
    bound.unwrap_or_else(|| sqlx::query(""))
}

/// Reads a `T` from a row.
pub(super) fn of_row<T: Stored>(row: &AnyRow) -> Result<T, StoreError> {
    in_row(row, "")
}

/// Reads the column `name` of a row.
pub(super) fn in_row<T: Stored>(row: &AnyRow, name: &'static str) -> Result<T, StoreError> {
    let mut source = row;
    T::read(&mut source, name)
}

impl Source for &AnyRow {
    type Error = StoreError;

    fn text(&mut self, column: &'static str) -> Result<&str, StoreError> {
        Ok(self.try_get(column)?)
    }

    fn optional_text(&mut self, column: &'static str) -> Result<Option<&str>, StoreError> {
        Ok(self.try_get(column)?)
    }

    fn number(&mut self, column: &'static str) -> Result<i64, StoreError> {
        Ok(self.try_get(column)?)
    }

    fn optional_number(&mut self, column: &'static str) -> Result<Option<i64>, StoreError> {
        Ok(self.try_get(column)?)
    }

    fn digest(&mut self, column: &'static str) -> Result<KeyDigest, StoreError> {
        let bytes: &[u8] = self.try_get(column)?;
        KeyDigest::try_from(bytes).map_err(|error| Self::unreadable(column, error))
    }

    fn unreadable(column: &'static str, reason: impl Display) -> StoreError {
        StoreError::UnreadableRow {
            what: column,
            reason: reason.to_string(),
        }
    }
}

/// A value stored as text.
pub(super) trait Text: Sized {
    fn text(&self) -> Cow<'_, str>;
    fn parse(text: &str) -> Result<Self, impl Display>;
}

/// Single-column types: column type, nullability, value and reader.
macro_rules! values {
    ($($type:ty $(where $generic:ident: $bound:ident)?, $kind:ident, $nullable:literal, $value:expr, $read:expr;)*) => {$(
        impl$(<$generic: $bound>)? Stored for $type {
            fn columns(field: &'static str) -> Vec<Column> {
                vec![Column {
                    name: field,
                    kind: Kind::$kind,
                    is_nullable: $nullable,
                }]
            }

            fn values(&self, take: &mut dyn FnMut(Value<'_>)) {
                let value: fn(&Self) -> Value<'_> = $value;
                take(value(self));
            }

            fn read<S: Source>(source: &mut S, field: &'static str) -> Result<Self, S::Error> {
                let read: fn(&mut S, &'static str) -> Result<Self, S::Error> = $read;
                read(source, field)
            }
        }
    )*};
}

values! {
    T where T: Text, Text, false, |text| Value::Text(Some(text.text())), |source, field| {
        T::parse(source.text(field)?).map_err(|error| S::unreadable(field, error))
    };
    Option<T> where T: Text, Text, true, |text| Value::Text(text.as_ref().map(T::text)), |source, field| {
        let read = source.optional_text(field)?.map(T::parse).transpose();
        read.map_err(|error| S::unreadable(field, error))
    };
    i64, Number, false, |number| Value::Number(Some(*number)), |source, field| source.number(field);
    UnixMillis, Number, false, |at| Value::Number(Some(at.0)), |source, field| {
        source.number(field).map(UnixMillis)
    };
    Option<UnixMillis>, Number, true, |at| Value::Number(at.map(|at| at.0)), |source, field| {
        Ok(source.optional_number(field)?.map(UnixMillis))
    };
    Option<MaxInFlight>, Number, true, |most| number_of(*most), read_count;
    Option<MaxLiveKeys>, Number, true, |most| number_of(*most), read_count;
    bool, Number, false, |flag| Value::Number(Some(i64::from(*flag))), |source, field| {
        source.number(field).map(|number| number != 0)
    };
    Duration, Number, false, |time| {
        Value::Number(Some(i64::try_from(time.as_millis()).unwrap_or(i64::MAX)))
    }, |source, field| {
        let millis = source.number(field)?;
        Ok(Duration::from_millis(u64::try_from(millis).unwrap_or_default()))
    };
    Option<Lifetime>, Number, true, |lifetime| {
        Value::Number(lifetime.and_then(|lifetime| i64::try_from(lifetime.as_secs()).ok()))
    }, |source, field| {
        let number = source.optional_number(field)?;
        let lifetime = number.map(|number| Lifetime::from_secs(u64::try_from(number).unwrap_or(0)));
        lifetime.transpose().map_err(|error| S::unreadable(field, error))
    };
    KeyDigest, Digest, false, |digest| Value::Digest(*digest), |source, field| source.digest(field);
}

fn number_of<const MOST: u32>(count: Option<Count<MOST>>) -> Value<'static> {
    Value::Number(count.map(|count| i64::from(count.get())))
}

fn read_count<const MOST: u32, S: Source>(
    source: &mut S,
    field: &'static str,
) -> Result<Option<Count<MOST>>, S::Error> {
    let number = source.optional_number(field)?;
    let count = number.map(|number| Count::try_from(u64::try_from(number).unwrap_or(0)));
    count
        .transpose()
        .map_err(|error| S::unreadable(field, error))
}

macro_rules! texts {
    ($($type:ident: $text:expr;)*) => {$(
        impl Text for $type {
            fn text(&self) -> Cow<'_, str> {
                let text: fn(&Self) -> Cow<'_, str> = $text;
                text(self)
            }

            fn parse(text: &str) -> Result<Self, impl Display> {
                text.parse::<Self>()
            }
        }
    )*};
}

texts! {
    AllowedIps: |ranges| ranges.to_string().into();
    AllowedMethods: |methods| methods.to_string().into();
    AllowedRoutes: |routes| stored_routes(routes).into();
    BucketName: |name| name.as_str().into();
    ConsumerId: |id| id.as_str().into();
    ConsumerName: |name| name.as_str().into();
    CustomId: |id| id.as_str().into();
    Description: |note| note.as_str().into();
    LeakPolicy: |policy| policy.as_str().into();
    UnusedAction: |action| action.as_str().into();
    KeyId: |id| id.as_str().into();
    PlanName: |name| name.as_str().into();
    Metadata: |metadata| metadata.as_str().into();
    Scopes: |scopes| scopes.as_str().into();
    String: |text| text.as_str().into();
}

/// A JSON array, because names may contain spaces; empty for no names.
fn stored_routes(routes: &AllowedRoutes) -> String {
    if routes.is_empty() {
        return String::new();
    }
    // Infallible: texts only.
    serde_json::to_string(routes).unwrap_or_default()
}

impl Text for KeyState {
    fn text(&self) -> Cow<'_, str> {
        self.as_str().into()
    }

    fn parse(text: &str) -> Result<Self, impl Display> {
        Self::parse(text).ok_or("the state is not active, disabled or revoked")
    }
}

/// A JSON array, empty for no entries: few subjects have any.
impl<T: Entry + serde::Serialize> Text for Entries<T> {
    fn text(&self) -> Cow<'_, str> {
        if self.is_empty() {
            return "".into();
        }
        // Infallible: texts and numbers only.
        serde_json::to_string(self).unwrap_or_default().into()
    }

    fn parse(text: &str) -> Result<Self, impl Display> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let value: serde_json::Value =
            serde_json::from_str(text).map_err(|error| error.to_string())?;
        Self::from_json(&value).map_err(|mistakes| {
            let first = mistakes.into_iter().next();
            first.map_or_else(String::new, |first| {
                format!("{} {}", first.pointer, first.reason)
            })
        })
    }
}

impl Text for Tags {
    fn text(&self) -> Cow<'_, str> {
        let object: serde_json::Map<String, serde_json::Value> = self
            .iter()
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        serde_json::Value::Object(object).to_string().into()
    }

    fn parse(json: &str) -> Result<Self, impl Display> {
        let tags: BTreeMap<String, String> =
            serde_json::from_str(json).map_err(|error| error.to_string())?;
        let tags: Result<Vec<Tag>, _> = tags
            .iter()
            .map(|(name, value)| Tag::new(name, value))
            .collect();
        tags.and_then(Self::new).map_err(|error| error.to_string())
    }
}
