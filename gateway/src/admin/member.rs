//! Types of members and parameters, with parser and schema. The domain types decide on validity.

use std::convert::Infallible;
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use serde_json::Value;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use zeroize::Zeroizing;

use crate::admin::json::member;
use crate::admin::problem::{FieldError, Kind};
use crate::auth::jwt::is_token;
use crate::keys::allowance::{Entries, Entry, InvalidEntries, LimitName, whole};
use crate::keys::lifetime;
use crate::keys::{
    AddressRange, AllowedIps, AllowedMethod, AllowedMethods, AllowedRoutes, BucketName, ConsumerId,
    ConsumerName, Count, CustomId, Description, InvalidAllowedIps, InvalidText, KeyDigest, KeyId,
    KeyStatus, Lifetime, Metadata, PlanName, Prefix, Quotas, Rates, RouteName, Scope, Scopes, Tag,
    Tags, UnixMillis, When, check_shape,
};
use crate::store::{LeakPolicy, Period, UnusedAction};
use crate::views::schemas;

/// Errors found so far.
#[derive(Debug, Default)]
pub(super) struct Errors {
    pub(super) list: Vec<FieldError>,
    /// Kind of problem, with its detail, if the last mistake is the only one.
    pub(super) alone: Option<(Kind, &'static str)>,
}

/// Type of a member or a parameter.
pub(super) trait Member: Sized {
    /// Returns the schema of valid values.
    fn schema() -> Schema;

    /// Parses the value at `pointer`; adds mistakes to `errors`.
    fn read(value: Value, pointer: &str, errors: &mut Errors) -> Option<Self>;

    /// Parses a query parameter.
    fn read_text(text: String, errors: &mut Errors) -> Option<Self> {
        Self::read(Value::String(text), "", errors)
    }
}

/// A duration of `LEAST` to `MOST` whole seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seconds<const LEAST: u64, const MOST: u64>(pub(super) Duration);

/// Prefix of a hint: 1 to 64 visible ASCII characters.
pub(super) struct HintStart(pub(super) String);

/// A presented key of any form; wiped on drop.
pub(super) struct PresentedKey(Zeroizing<String>);

impl PresentedKey {
    /// Returns the key itself, for comparison only.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }

    /// Returns whether the text is a token rather than a key.
    pub(super) fn is_token(&self) -> bool {
        is_token(self.0.as_bytes())
    }

    /// Returns the digest; `None` if the text cannot be a key.
    pub(super) fn digest(&self, prefix: &Prefix) -> Option<KeyDigest> {
        check_shape(self.0.as_bytes(), prefix)
            .is_ok()
            .then(|| KeyDigest::of(self.0.as_bytes()))
    }
}

impl Errors {
    fn wrong_type(&mut self, pointer: &str, wanted: &str, found: &Value) {
        let found = match found {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
        };
        self.list.push(FieldError::at(
            pointer,
            format!("{wanted} belongs here, not {found}"),
        ));
    }
}

fn text<T: FromStr<Err: Display>>(value: &Value, pointer: &str, errors: &mut Errors) -> Option<T> {
    let Value::String(text) = value else {
        errors.wrong_type(pointer, "a string", value);
        return None;
    };
    text.parse()
        .map_err(|error: T::Err| errors.list.push(FieldError::at(pointer, error.to_string())))
        .ok()
}

macro_rules! texts {
    ($($type:ident: $schema:ident),*) => {$(
        impl Member for $type {
            fn schema() -> Schema {
                schemas::$schema()
            }

            fn read(value: Value, pointer: &str, errors: &mut Errors) -> Option<Self> {
                text(&value, pointer, errors)
            }
        }
    )*};
}

texts!(
    BucketName: bucket_name, PlanName: plan_name, ConsumerName: consumer_name, CustomId: custom_id, Description: description, ConsumerId: consumer_id,
    KeyId: key_id, LimitName: limit_name, KeyStatus: key_status, LeakPolicy: leak_policy, UnusedAction: unused_action, Period: period, When: when
);

impl<const LEAST: u64, const MOST: u64> Seconds<LEAST, MOST> {
    fn of(seconds: Option<u64>, pointer: &str, errors: &mut Errors) -> Option<Self> {
        let seconds = seconds.filter(|seconds| (LEAST..=MOST).contains(seconds));
        if seconds.is_none() {
            errors.list.push(FieldError::at(
                pointer,
                format!("a whole number from {LEAST} to {MOST} belongs here"),
            ));
        }
        seconds.map(Duration::from_secs).map(Self)
    }
}

impl<const LEAST: u64, const MOST: u64> Member for Seconds<LEAST, MOST> {
    fn schema() -> Schema {
        schemas::whole_number(LEAST, MOST)
    }

    fn read(value: Value, pointer: &str, errors: &mut Errors) -> Option<Self> {
        // JSON Schema counts 1.0 as an integer. Integers up to `MOST` are exact.
        let whole = value
            .as_f64()
            .filter(|number| number.fract() == 0.0 && (0.0..=MOST as f64).contains(number));
        Self::of(
            value.as_u64().or(whole.map(|number| number as u64)),
            pointer,
            errors,
        )
    }

    fn read_text(text: String, errors: &mut Errors) -> Option<Self> {
        let is_number = text.bytes().all(|digit| digit.is_ascii_digit());
        Self::of(is_number.then(|| text.parse().ok()).flatten(), "", errors)
    }
}

/// A whole number of units from `LEAST` to `MOST`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Units<const LEAST: u64, const MOST: u64>(pub(super) u64);

impl<const LEAST: u64, const MOST: u64> Member for Units<LEAST, MOST> {
    fn schema() -> Schema {
        schemas::whole_number(LEAST, MOST)
    }

    fn read(value: Value, pointer: &str, errors: &mut Errors) -> Option<Self> {
        let number = whole(&value).filter(|number| (LEAST..=MOST).contains(number));
        if number.is_none() {
            errors.list.push(FieldError::at(
                pointer,
                format!("a whole number from {LEAST} to {MOST} belongs here"),
            ));
        }
        number.map(Self)
    }
}

impl Member for PresentedKey {
    fn schema() -> Schema {
        // Any text can be presented: one that cannot be a key is merely invalid.
        ObjectBuilder::new().schema_type(Type::String).into()
    }

    fn read(value: Value, pointer: &str, errors: &mut Errors) -> Option<Self> {
        let Value::String(key) = value else {
            errors.wrong_type(pointer, "a string", &value);
            return None;
        };
        Some(Self(Zeroizing::new(key)))
    }
}

impl Member for KeyDigest {
    fn schema() -> Schema {
        schemas::text("^[0-9A-Fa-f]{64}$", 64, 64).into()
    }

    fn read(value: Value, pointer: &str, errors: &mut Errors) -> Option<Self> {
        let digest = value.as_str().and_then(Self::from_hex);
        if digest.is_none() {
            errors.list.push(FieldError::at(
                pointer,
                "SHA-256 in 64 hexadecimal digits belongs here",
            ));
        }
        digest
    }
}

impl Member for bool {
    fn schema() -> Schema {
        ObjectBuilder::new().schema_type(Type::Boolean).into()
    }

    fn read(value: Value, pointer: &str, errors: &mut Errors) -> Option<Self> {
        value.as_bool().or_else(|| {
            errors.wrong_type(pointer, "true or false", &value);
            None
        })
    }

    fn read_text(text: String, errors: &mut Errors) -> Option<Self> {
        text.parse()
            .map_err(|_| {
                let detail = "`true` or `false` belongs here";
                errors.list.push(FieldError::at("", detail));
            })
            .ok()
    }
}

impl Member for UnixMillis {
    fn schema() -> Schema {
        schemas::moment_given()
    }

    fn read(value: Value, pointer: &str, errors: &mut Errors) -> Option<Self> {
        let Value::String(text) = &value else {
            errors.wrong_type(pointer, "a string", &value);
            return None;
        };
        Self::parse(text)
            .map_err(|error| errors.list.push(FieldError::at(pointer, error.to_string())))
            .ok()
    }
}

impl Member for HintStart {
    fn schema() -> Schema {
        schemas::text("^[!-~]+$", 1, 64).into()
    }

    fn read(value: Value, pointer: &str, errors: &mut Errors) -> Option<Self> {
        let is_start = |text: &&str| {
            (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        let start = value.as_str().filter(is_start);
        if start.is_none() {
            errors.list.push(FieldError::at(
                pointer,
                "1 to 64 visible ASCII characters belong here",
            ));
        }
        start.map(|start| Self(start.to_owned()))
    }
}

impl Member for Metadata {
    fn schema() -> Schema {
        schemas::metadata()
    }

    fn read(value: Value, pointer: &str, errors: &mut Errors) -> Option<Self> {
        if !value.is_object() {
            errors.wrong_type(pointer, "an object", &value);
            return None;
        }
        value
            .to_string()
            .parse()
            .map_err(|error: InvalidText| {
                if error == InvalidText::MetadataTooLong {
                    errors.alone = Some((Kind::MetadataTooLarge, "The metadata is too large."));
                }
                errors.list.push(FieldError::at(pointer, error.to_string()));
            })
            .ok()
    }
}

/// Parses an array: items up to the first invalid one, then the collection as a whole.
fn items<T, All, E: Display>(
    value: Value,
    pointer: &str,
    errors: &mut Errors,
    item: impl Fn(&Value, &str, &mut Errors) -> Option<T>,
    all: impl FnOnce(Vec<T>) -> Result<All, E>,
) -> Option<All> {
    let Value::Array(items) = value else {
        errors.wrong_type(pointer, "an array", &value);
        return None;
    };
    let read: Vec<Option<T>> = items
        .iter()
        .enumerate()
        .map(|(index, value)| item(value, &format!("{pointer}/{index}"), errors))
        .collect();
    all(read.into_iter().collect::<Option<_>>()?)
        .map_err(|error| errors.list.push(FieldError::at(pointer, error.to_string())))
        .ok()
}

impl Member for Scopes {
    fn schema() -> Schema {
        schemas::scopes()
    }

    fn read(value: Value, pointer: &str, errors: &mut Errors) -> Option<Self> {
        items(value, pointer, errors, text::<Scope>, Self::new)
    }
}

impl Member for AllowedIps {
    fn schema() -> Schema {
        schemas::allowed_ips()
    }

    fn read(value: Value, pointer: &str, errors: &mut Errors) -> Option<Self> {
        let range = |value: &Value, pointer: &str, errors: &mut Errors| {
            text::<Range>(value, pointer, errors).map(|range| range.0)
        };
        items(value, pointer, errors, range, Self::new)
    }
}

impl Member for AllowedMethod {
    fn schema() -> Schema {
        schemas::allowed_method()
    }

    fn read(value: Value, pointer: &str, errors: &mut Errors) -> Option<Self> {
        text(&value, pointer, errors)
    }
}

impl Member for AllowedMethods {
    fn schema() -> Schema {
        schemas::allowed_methods()
    }

    fn read(value: Value, pointer: &str, errors: &mut Errors) -> Option<Self> {
        let all = |methods: Vec<AllowedMethod>| Ok::<_, Infallible>(Self::new(methods));
        items(value, pointer, errors, text::<AllowedMethod>, all)
    }
}

impl Member for RouteName {
    fn schema() -> Schema {
        schemas::route_name()
    }

    fn read(value: Value, pointer: &str, errors: &mut Errors) -> Option<Self> {
        text(&value, pointer, errors)
    }
}

impl Member for AllowedRoutes {
    fn schema() -> Schema {
        schemas::allowed_routes()
    }

    fn read(value: Value, pointer: &str, errors: &mut Errors) -> Option<Self> {
        items(value, pointer, errors, text::<RouteName>, Self::new)
    }
}

/// A range; its error message is that of a list of ranges.
struct Range(AddressRange);

impl FromStr for Range {
    type Err = InvalidAllowedIps;

    fn from_str(text: &str) -> Result<Self, InvalidAllowedIps> {
        Ok(Self(text.parse()?))
    }
}

impl Member for Rates {
    fn schema() -> Schema {
        schemas::limits()
    }

    fn read(value: Value, pointer: &str, errors: &mut Errors) -> Option<Self> {
        entries(&value, pointer, errors)
    }
}

impl Member for Quotas {
    fn schema() -> Schema {
        schemas::quotas()
    }

    fn read(value: Value, pointer: &str, errors: &mut Errors) -> Option<Self> {
        entries(&value, pointer, errors)
    }
}

fn entries<T: Entry>(value: &Value, pointer: &str, errors: &mut Errors) -> Option<Entries<T>> {
    let mistakes = match Entries::from_json(value) {
        Ok(entries) => return Some(entries),
        Err(mistakes) => mistakes,
    };
    let repeated = InvalidEntries::Twice(T::MANY).to_string();
    if mistakes.iter().all(|mistake| mistake.reason == repeated) {
        errors.alone = Some((Kind::RepeatedName, "Two entries have the same name."));
    }
    errors.list.extend(
        mistakes.into_iter().map(|mistake| {
            FieldError::at(&format!("{pointer}{}", mistake.pointer), mistake.reason)
        }),
    );
    None
}

impl<const MOST: u32> Member for Count<MOST> {
    fn schema() -> Schema {
        schemas::count::<MOST>()
    }

    fn read(value: Value, pointer: &str, errors: &mut Errors) -> Option<Self> {
        let number = whole(&value).unwrap_or_default();
        Self::try_from(number)
            .map_err(|error| errors.list.push(FieldError::at(pointer, error.to_string())))
            .ok()
    }
}

impl Member for Lifetime {
    fn schema() -> Schema {
        schemas::lifetime_seconds()
    }

    fn read(value: Value, pointer: &str, errors: &mut Errors) -> Option<Self> {
        let lifetime = whole(&value).and_then(|seconds| Self::from_secs(seconds).ok());
        if lifetime.is_none() {
            let most = lifetime::MAX_SECONDS;
            let wanted = format!("a whole number of seconds from 1 to {most} belongs here");
            errors.list.push(FieldError::at(pointer, wanted));
        }
        lifetime
    }
}

impl Member for Tags {
    fn schema() -> Schema {
        schemas::tags()
    }

    fn read(value: Value, pointer: &str, errors: &mut Errors) -> Option<Self> {
        let Value::Object(members) = value else {
            errors.wrong_type(pointer, "an object", &value);
            return None;
        };
        let mut tag = |(name, value): (String, Value)| {
            let pointer = member(pointer, &name);
            let Value::String(value) = value else {
                errors.wrong_type(&pointer, "a string", &value);
                return None;
            };
            Tag::new(&name, &value)
                .map_err(|error| {
                    errors
                        .list
                        .push(FieldError::at(&pointer, error.to_string()))
                })
                .ok()
        };
        let tags: Vec<Option<Tag>> = members.into_iter().map(&mut tag).collect();
        let tags: Vec<Tag> = tags.into_iter().collect::<Option<_>>()?;
        Self::new(tags)
            .map_err(|error| errors.list.push(FieldError::at(pointer, error.to_string())))
            .ok()
    }
}
