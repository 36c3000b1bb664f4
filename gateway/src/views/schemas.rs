//! Schemas of values, as exact as JSON Schema can express the domain's rules.

use utoipa::openapi::schema::{
    AdditionalProperties, AnyOfBuilder, ArrayBuilder, KnownFormat, Object, ObjectBuilder, Schema,
    SchemaFormat, SchemaType, Type,
};

use crate::keys::allowance::{self, MAX_ENTRIES, MAX_QUOTA, MAX_RATE, QuotaPeriod};
use crate::keys::allowed_ips::MAX_RANGES;
use crate::keys::allowed_methods::METHODS;
use crate::keys::allowed_routes::{MAX_ROUTE_NAME_BYTES, MAX_ROUTES};
use crate::keys::consumer::{MAX_DESCRIPTION_CHARS, MAX_NAME_BYTES};
use crate::keys::scope::MAX_SCOPE_BYTES;
use crate::keys::{Count, KeyStatus, MaxInFlight, MaxLiveKeys};
use crate::keys::{lifetime, plan, tag};
use crate::store::{LeakAction, LeakPolicy, Period, UnusedAction};
use crate::views::LeakView;

/// Maximum grace period, in seconds: ten years.
pub const MAX_GRACE_SECONDS: u64 = 315_360_000;

/// Visible ASCII with spaces only inside.
const HEADER_TEXT: &str = r"^[!-~]([ -~]*[!-~])?$";
/// IPv4 address without leading zeros.
const IPV4: &str = r"((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
/// Window of a rate, from `1s` to `1d`.
const WINDOW: &str = "^(([1-9][0-9]{0,3}|[1-7][0-9]{4}|8[0-5][0-9]{3}|86[0-3][0-9]{2}|86400)s|([1-9][0-9]{0,2}|1[0-3][0-9]{2}|14[0-3][0-9]|1440)m|([1-9]|1[0-9]|2[0-4])h|1d)$";
/// Text without control characters.
pub(crate) const NO_CONTROLS: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";

/// Schema of a bucket name.
#[must_use]
pub fn bucket_name() -> Schema {
    header_text().into()
}

/// Schema of the name of a plan.
#[must_use]
pub fn plan_name() -> Schema {
    text("^[0-9A-Za-z][0-9A-Za-z_.-]*$", 1, plan::MAX_NAME_BYTES).into()
}

/// Schema of an optional plan.
#[must_use]
pub fn plan_name_or_null() -> Schema {
    or_null(plan_name())
}

/// Schema of a lifetime of keys, in seconds.
#[must_use]
pub fn lifetime_seconds() -> Schema {
    whole_number(1, lifetime::MAX_SECONDS)
}

/// Schema of an optional lifetime of keys, in seconds.
#[must_use]
pub fn lifetime_or_null() -> Schema {
    or_null(lifetime_seconds())
}

/// Schema of a consumer name.
#[must_use]
pub fn consumer_name() -> Schema {
    header_text().into()
}

/// Schema of a custom id.
#[must_use]
pub fn custom_id() -> Schema {
    header_text().into()
}

/// Schema of an optional custom id.
#[must_use]
pub fn custom_id_or_null() -> Schema {
    or_null(custom_id())
}

/// Schema of a consumer id.
#[must_use]
pub fn consumer_id() -> Schema {
    text("^csmr_[0-9A-Za-z]{20}$", 25, 25).into()
}

/// Schema of a key id.
#[must_use]
pub fn key_id() -> Schema {
    text("^key_[0-9A-Za-z]{20}$", 24, 24).into()
}

/// Schema of a plain key.
#[must_use]
pub fn plain_key() -> Schema {
    let mut schema = text("^[a-z0-9]{2,12}_[0-9A-Za-z]{38}$", 41, 51);
    schema.read_only = Some(true);
    schema.into()
}

/// Schema of a key status.
#[must_use]
pub fn key_status() -> Schema {
    one_of(&KeyStatus::WORDS)
}

/// Schema of a leak policy.
#[must_use]
pub fn leak_policy() -> Schema {
    one_of(&LeakPolicy::WORDS)
}

/// Schema of what happens to unused keys.
#[must_use]
pub fn unused_action() -> Schema {
    one_of(&UnusedAction::WORDS)
}

/// Schema of a number from 1 to `MOST`.
#[must_use]
pub fn count<const MOST: u32>() -> Schema {
    whole_number(1, u64::from(MOST))
}

/// Schema of an optional number of live keys.
#[must_use]
pub fn max_live_keys_or_null() -> Schema {
    or_null(<MaxLiveKeys as Bounded>::schema())
}

/// A number with a schema.
trait Bounded {
    fn schema() -> Schema;
}

impl<const MOST: u32> Bounded for Count<MOST> {
    fn schema() -> Schema {
        count::<MOST>()
    }
}

/// Schema of an action on a leaked key.
#[must_use]
pub fn leak_action() -> Schema {
    let words: Vec<&str> = LeakAction::WORDS
        .into_iter()
        .chain([LeakView::UNKNOWN])
        .collect();
    one_of(&words)
}

/// Schema of a usage period.
#[must_use]
pub fn period() -> Schema {
    one_of(&Period::WORDS)
}

/// Schema of a gateway id.
#[must_use]
pub fn gateway_id() -> Schema {
    text("^gw_[0-9a-f]{16}$", 19, 19).into()
}

/// Schema of a hash of settings.
#[must_use]
pub fn settings_hash() -> Schema {
    text("^[0-9a-f]{16}$", 16, 16).into()
}

/// Schema of a hash of settings, or null.
#[must_use]
pub fn settings_hash_or_null() -> Schema {
    or_null(settings_hash())
}

/// Schema of a grace period.
#[must_use]
pub fn grace_seconds() -> Schema {
    whole_number(0, MAX_GRACE_SECONDS)
}

/// Schema of a note.
#[must_use]
pub fn description() -> Schema {
    text(NO_CONTROLS, 0, MAX_DESCRIPTION_CHARS).into()
}

/// Schema of an optional note.
#[must_use]
pub fn description_or_null() -> Schema {
    or_null(description())
}

/// Schema of metadata.
#[must_use]
pub fn metadata() -> Schema {
    Object::with_type(Type::Object).into()
}

/// Schema of optional metadata.
#[must_use]
pub fn metadata_or_null() -> Schema {
    or_null(metadata())
}

/// Schema of an optional consumer id.
#[must_use]
pub fn consumer_id_or_null() -> Schema {
    or_null(consumer_id())
}

/// Schema of a list of scopes.
#[must_use]
pub fn scopes() -> Schema {
    ArrayBuilder::new()
        .items(text(r"^[!#-+\--\[\]-~]+$", 1, MAX_SCOPE_BYTES))
        .into()
}

/// Schema of a list of address ranges.
#[must_use]
pub fn allowed_ips() -> Schema {
    ArrayBuilder::new()
        .items(ip_range())
        .max_items(Some(MAX_RANGES))
        .into()
}

/// Schema of one method.
#[must_use]
pub fn allowed_method() -> Schema {
    method().into()
}

fn method() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(METHODS))
        .build()
}

/// Schema of a list of methods.
#[must_use]
pub fn allowed_methods() -> Schema {
    ArrayBuilder::new().items(method()).into()
}

/// Schema of the name of a route.
#[must_use]
pub fn route_name() -> Schema {
    name_of_route().into()
}

fn name_of_route() -> Object {
    text(
        r"^[!#-\[\]-~]([ !#-\[\]-~]*[!#-\[\]-~])?$",
        1,
        MAX_ROUTE_NAME_BYTES,
    )
}

/// Schema of a list of names of routes.
#[must_use]
pub fn allowed_routes() -> Schema {
    ArrayBuilder::new()
        .items(name_of_route())
        .max_items(Some(MAX_ROUTES))
        .into()
}

/// Schema of an IPv4 or IPv6 address.
#[must_use]
pub fn ip_address() -> Schema {
    text(&format!("^({IPV4}|{})$", ipv6()), 2, 45).into()
}

/// Schema of an address with an optional prefix length.
fn ip_range() -> Object {
    let (four, six) = ("([12]?[0-9]|3[0-2])", "([1-9]?[0-9]|1[01][0-9]|12[0-8])");
    text(&format!("^({IPV4}(/{four})?|{}(/{six})?)$", ipv6()), 2, 49)
}

/// Pattern of an IPv6 address: eight groups, one run of which may be `::`, and the last two of
/// which may be an IPv4 address (RFC 4291, section 2.2).
fn ipv6() -> String {
    const GROUP: &str = "[0-9A-Fa-f]{1,4}";
    let whole = format!("({GROUP}:){{6}}({GROUP}:{GROUP}|{IPV4})");
    let shortened = (0..8_usize).map(|before| {
        let left = if before == 0 {
            String::new()
        } else {
            format!("{GROUP}(:{GROUP}){{{}}}", before - 1)
        };
        let right = match 7 - before {
            0 => String::new(),
            1 => format!("({GROUP})?"),
            most => format!(
                "(({GROUP}:){{0,{}}}{GROUP}|({GROUP}:){{0,{}}}{IPV4})?",
                most - 1,
                most - 2
            ),
        };
        format!("{left}::{right}")
    });
    let forms: Vec<String> = std::iter::once(whole).chain(shortened).collect();
    format!("({})", forms.join("|"))
}

/// Schema of the name of a limit.
#[must_use]
pub fn limit_name() -> Schema {
    let most = allowance::MAX_NAME_BYTES;
    text("^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", 1, most).into()
}

/// Schema of rates.
#[must_use]
pub fn limits() -> Schema {
    let bounded = entry(whole_number(1, MAX_RATE)).property("window", text(WINDOW, 2, 6));
    entries([bounded, entry(null())])
}

/// Schema of quotas.
#[must_use]
pub fn quotas() -> Schema {
    let bounded = || entry(whole_number(1, MAX_QUOTA));
    let by_word = one_of(&["calendar", "created"]);
    let any = AnyOfBuilder::new()
        .item(by_word.clone())
        .item(whole_number(1, 31));
    let monthly = bounded()
        .property("period", one_of(&[QuotaPeriod::Month.as_str()]))
        .property("anchor", any);
    let other = bounded()
        .property("period", one_of(&QuotaPeriod::WORDS))
        .property("anchor", by_word);
    entries([monthly, other, entry(null())])
}

/// Schema of a number of requests in flight.
#[must_use]
pub fn max_in_flight() -> Schema {
    <MaxInFlight as Bounded>::schema()
}

/// Schema of an optional number of requests in flight.
#[must_use]
pub fn max_in_flight_or_null() -> Schema {
    or_null(max_in_flight())
}

fn null() -> Schema {
    ObjectBuilder::new().schema_type(Type::Null).into()
}

/// An entry of an allowance with this limit.
fn entry(limit: Schema) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .property("name", limit_name())
        .required("name")
        .property("limit", limit)
        .required("limit")
        .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false)))
}

fn entries(forms: impl IntoIterator<Item = ObjectBuilder>) -> Schema {
    let any = forms
        .into_iter()
        .fold(AnyOfBuilder::new(), |any, form| any.item(form));
    ArrayBuilder::new()
        .items(any)
        .max_items(Some(MAX_ENTRIES))
        .into()
}

/// Schema of an optional key id.
#[must_use]
pub fn key_id_or_null() -> Schema {
    or_null(key_id())
}

/// Schema of optional scopes.
#[must_use]
pub fn scopes_or_null() -> Schema {
    or_null(scopes())
}

/// Schema of tags.
#[must_use]
pub fn tags() -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .property_names(Some(text("^[0-9A-Za-z_.-]+$", 1, tag::MAX_NAME_BYTES)))
        .additional_properties(Some(Schema::from(text(
            NO_CONTROLS,
            0,
            tag::MAX_VALUE_CHARS,
        ))))
        .max_properties(Some(tag::MAX_TAGS))
        .into()
}

/// Schema of a moment (RFC 3339).
#[must_use]
pub fn moment() -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .into()
}

/// Schema of a moment in a request body.
#[must_use]
pub fn moment_given() -> Schema {
    AnyOfBuilder::new().item(moment()).item(date()).into()
}

/// Schema of a time in a query: a duration, a date or a moment.
#[must_use]
pub fn when() -> Schema {
    let span = text("^[1-9][0-9]{0,3}(s|m|h|d|w)$", 2, 5);
    AnyOfBuilder::new()
        .item(Schema::from(span))
        .item(date())
        .item(moment())
        .into()
}

/// Schema of a date, which means midnight UTC.
fn date() -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Date)))
        .into()
}

/// Schema of an optional moment.
#[must_use]
pub fn moment_or_null() -> Schema {
    or_null(moment())
}

/// Schema of an integer from `least` to `most`.
#[must_use]
pub fn whole_number(least: u64, most: u64) -> Schema {
    let bound = |number| usize::try_from(number).ok();
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(bound(least))
        .maximum(bound(most))
        .into()
}

/// Schema of an enumeration.
#[must_use]
pub fn one_of(words: &[&str]) -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(words.iter().copied()))
        .into()
}

/// Schema of a text with a pattern and a length range.
#[must_use]
pub fn text(pattern: &str, min: usize, max: usize) -> Object {
    let builder = ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(pattern))
        .max_length(Some(max));
    if min > 0 {
        builder.min_length(Some(min)).build()
    } else {
        builder.build()
    }
}

/// Adds null to a schema.
#[must_use]
pub fn or_null(schema: Schema) -> Schema {
    let with_null = |schema_type: &mut SchemaType| {
        if let SchemaType::Type(own) = schema_type {
            *schema_type = SchemaType::from_iter([own.clone(), Type::Null]);
        }
    };
    match schema {
        Schema::Object(mut object) => {
            with_null(&mut object.schema_type);
            object.into()
        }
        Schema::Array(mut array) => {
            with_null(&mut array.schema_type);
            array.into()
        }
        Schema::AnyOf(mut any) => {
            let null = ObjectBuilder::new().schema_type(Type::Null);
            any.items.push(Schema::from(null).into());
            any.into()
        }
        other => other,
    }
}

fn header_text() -> Object {
    text(HEADER_TEXT, 1, MAX_NAME_BYTES)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;
    use regex::Regex;

    use super::*;
    use crate::keys::AddressRange;

    fn matches(schema: &Object, value: &str) -> bool {
        let length = schema.min_length.unwrap_or(0)..=schema.max_length.unwrap_or(usize::MAX);
        length.contains(&value.len())
            && Regex::new(schema.pattern.as_deref().unwrap())
                .unwrap()
                .is_match(value)
    }

    fn address() -> Object {
        let Schema::Object(object) = ip_address() else {
            panic!("an address is a text")
        };
        object
    }

    #[test]
    fn what_is_written_of_addresses_is_what_is_read() {
        for text in [
            "192.0.2.1",
            "0.0.0.0",
            "255.255.255.255",
            "::",
            "::1",
            "1::",
            "2001:db8::1",
            "1:2:3:4:5:6:7:8",
            "1:2:3:4:5:6:7::",
            "::2:3:4:5:6:7:8",
            "::ffff:192.0.2.1",
            "1:2:3:4:5:6:1.2.3.4",
            "256.0.0.1",
            "01.2.3.4",
            "1.2.3",
            "1:2:3:4:5:6:7",
            ":::",
            "1::2::3",
            "1:2:3:4:5:6:7::8",
            "12345::",
            "1:2:3:4:5:6:7:8:9",
            "1.2.3.4::",
            "",
            "0000000000",
        ] {
            assert_eq!(
                matches(&address(), text),
                text.parse::<IpAddr>().is_ok(),
                "{text}"
            );
            for prefix in [
                "0", "8", "08", "32", "33", "064", "128", "129", "", "-1", "1000",
            ] {
                let range = format!("{text}/{prefix}");
                // Not expressible without look-ahead: a mapped address has a prefix of 96 bits or
                // more.
                let is_cut_in_two = text.starts_with("::ffff:")
                    && prefix.parse::<u8>().is_ok_and(|prefix| prefix < 96);
                assert_eq!(
                    matches(&ip_range(), &range) && !is_cut_in_two,
                    range.parse::<AddressRange>().is_ok(),
                    "{range}"
                );
            }
        }
    }

    #[test]
    fn what_is_written_of_windows_is_what_is_read() {
        let schema = super::text(WINDOW, 2, 6);
        let numbers = (0..1600).chain([
            9_999, 10_000, 85_999, 86_000, 86_399, 86_400, 86_401, 99_999,
        ]);
        for text in numbers
            .flat_map(|number| ["s", "m", "h", "d", ""].map(|unit| format!("{number}{unit}")))
        {
            let is_read = format!("a=1/{text}").parse::<crate::keys::Rates>().is_ok();
            assert_eq!(matches(&schema, &text), is_read, "{text}");
        }
    }

    proptest! {
        #[test]
        fn addresses_of_the_schema_are_read_and_others_are_not(
            any in "[0-9a-f:.]{0,20}", four in "[0-9]{1,3}(\\.[0-9]{1,3}){3}", six in "([0-9a-f]{0,4}:){2,8}[0-9a-f]{0,4}",
        ) {
            for text in [any, four, six] {
                prop_assert_eq!(matches(&address(), &text), text.parse::<IpAddr>().is_ok(), "{}", text);
                prop_assert_eq!(matches(&ip_range(), &text), text.parse::<AddressRange>().is_ok(), "{}", text);
            }
        }
    }
}
