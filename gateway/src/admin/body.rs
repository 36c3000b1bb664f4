//! Request bodies: read up to a limit, parsed strictly, and consumed member by member, so that one
//! answer lists every error. Reading a body also describes it: see [`schema`].

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header;
use actix_web::web::{BytesMut, Payload};
use futures_util::StreamExt as _;
use serde_json::{Map, Value};
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, OneOfBuilder, Schema};

use crate::admin::field_error::MAX_ERRORS;
use crate::admin::json::{self, Pointer};
use crate::admin::member::{Errors, Member};
use crate::admin::problem::{FieldError, Kind, Problem};
use crate::keys::{KeyTable, Prefix, token};
use crate::views::schemas::or_null;

/// Maximum size of a body, in bytes.
pub(super) const MAX_BYTES: usize = 64 * 1024;

/// A type that a request body is parsed into.
pub(super) trait Body: Sized {
    /// Name of the schema in the document; `None` for an operation without a body.
    const NAME: Option<&'static str>;
    /// Members that accept an API key; any other member refuses one.
    const KEYS: &'static [&'static str] = &[];

    /// Whether a missing body equals an empty object.
    const MAY_BE_MISSING: bool = false;

    /// Reads every member before failing on a missing one, so that all are validated and described.
    fn read(fields: &mut Fields) -> Option<Self>;
}

impl Body for () {
    const NAME: Option<&'static str> = None;

    fn read(_: &mut Fields) -> Option<Self> {
        Some(())
    }
}

/// Members of a body, consumed one by one. Any left at the end are unknown and refused.
#[derive(Default)]
pub(super) struct Fields {
    members: Map<String, Value>,
    errors: Errors,
    described: ObjectBuilder,
    either: Option<Either>,
}

/// Exactly one of these two members is required.
struct Either {
    one: &'static str,
    other: &'static str,
    /// Members incompatible with `one`.
    excluded: Vec<&'static str>,
}

impl Fields {
    /// Reads a required member.
    pub(super) fn required<T: Member>(&mut self, name: &str, meaning: &str) -> Option<T> {
        self.describe(name, meaning, T::schema());
        self.described = std::mem::take(&mut self.described).required(name);
        match self.members.remove(name) {
            Some(value) => T::read(value, &json::member("", name), &mut self.errors),
            None => {
                self.errors
                    .list
                    .push(FieldError::at(&json::member("", name), "missing"));
                None
            }
        }
    }

    /// Reads an optional member.
    pub(super) fn optional<T: Member>(&mut self, name: &str, meaning: &str) -> Option<T> {
        self.describe(name, meaning, T::schema());
        let value = self.members.remove(name)?;
        T::read(value, &json::member("", name), &mut self.errors)
    }

    /// Reads an optional member in which null clears the attribute.
    pub(super) fn nullable<T: Member>(&mut self, name: &str, meaning: &str) -> Option<Option<T>> {
        self.describe(name, meaning, or_null(T::schema()));
        match self.members.remove(name)? {
            Value::Null => Some(None),
            value => T::read(value, &json::member("", name), &mut self.errors).map(Some),
        }
    }

    /// Requires exactly one of the members `one` and `other`, and refuses any of `beside` together
    /// with `one`. Call it before reading them.
    pub(super) fn either(
        &mut self,
        one: &'static str,
        other: &'static str,
        beside: &[&'static str],
    ) {
        let has = |name: &str| self.members.contains_key(name);
        let excluded: Vec<&'static str> = [other].iter().chain(beside).copied().collect();
        let together = excluded.iter().filter(|name| has(one) && has(name));
        let mut errors: Vec<FieldError> = together
            .map(|name| FieldError::at(&json::member("", name), format!("it excludes {one}")))
            .collect();
        if !has(one) && !has(other) {
            errors.push(FieldError::at(
                &json::member("", other),
                format!("either {one} or {other} has to be there"),
            ));
        }
        self.errors.list.extend(errors);
        self.either = Some(Either {
            one,
            other,
            excluded,
        });
    }

    fn describe(&mut self, name: &str, meaning: &str, schema: Schema) {
        let mut schema = schema;
        match &mut schema {
            Schema::Object(object) => object.description = Some(meaning.to_owned()),
            Schema::AnyOf(any) => any.description = Some(meaning.to_owned()),
            Schema::Array(array) => array.description = Some(meaning.to_owned()),
            _ => {}
        }
        self.described = std::mem::take(&mut self.described).property(name, schema);
    }
}

/// Returns the schema of a body, recorded by reading an empty one.
pub(super) fn schema<B: Body>() -> Schema {
    let mut fields = Fields::default();
    // Fails on the empty body, after every member was recorded.
    let _ = B::read(&mut fields);
    let object = fields
        .described
        .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false)))
        .build();
    let Some(Either {
        one,
        other,
        excluded,
    }) = fields.either
    else {
        return object.into();
    };
    let mut with_one = object.clone();
    excluded
        .iter()
        .for_each(|name| drop(with_one.properties.shift_remove(*name)));
    with_one.required.push(one.to_owned());
    let mut with_other = object;
    with_other.properties.shift_remove(one);
    with_other.required.push(other.to_owned());
    OneOfBuilder::new().item(with_one).item(with_other).into()
}

/// Reads the whole body, up to [`MAX_BYTES`].
pub(super) async fn collect(request: &HttpRequest, payload: Payload) -> Result<BytesMut, Problem> {
    collect_up_to(MAX_BYTES, request, payload).await
}

/// Reads the whole body, up to `limit` bytes.
pub(super) async fn collect_up_to(
    limit: usize,
    request: &HttpRequest,
    mut payload: Payload,
) -> Result<BytesMut, Problem> {
    let too_large = || {
        Problem::new(
            Kind::BodyTooLarge,
            format!("The body may have at most {limit} bytes."),
        )
    };
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| {
            Problem::new(Kind::BadRequest, "The body broke off or is badly framed.")
        })?;
        if body.len() + chunk.len() > limit {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    if announced.is_some_and(|length| length != body.len() as u64) {
        return Err(Problem::new(
            Kind::BadRequest,
            "A request with a body cannot offer to leave HTTP: send it without Upgrade.",
        ));
    }
    Ok(body)
}

/// Reads the whole body, up to `limit` bytes and until the deadline.
pub(super) async fn collect_within(
    deadline: Duration,
    limit: usize,
    request: &HttpRequest,
    payload: Payload,
) -> Result<BytesMut, Problem> {
    let collected = tokio::time::timeout(deadline, collect_up_to(limit, request, payload)).await;
    collected.unwrap_or_else(|_| {
        Err(Problem::new(
            Kind::BadRequest,
            format!(
                "The body did not arrive within {}.",
                humantime::format_duration(deadline)
            ),
        ))
    })
}

/// Parses `text` as a `B`.
pub(super) fn parse<B: Body>(
    request: &HttpRequest,
    text: &[u8],
    prefix: &Prefix,
    keys: &KeyTable,
) -> Result<B, Problem> {
    let refuse = |errors| {
        Problem::new(
            Kind::InvalidBody,
            "The body is not what is accepted here; see errors.",
        )
        .with(errors)
    };
    let value = match (B::NAME, text) {
        // Many clients send an empty body or `{}` with a call that takes none.
        (name, b"") if name.is_none() || B::MAY_BE_MISSING => Value::Object(Map::new()),
        _ => {
            require_json(request)?;
            json::parse(text, prefix).map_err(refuse)?
        }
    };
    let mut errors = Vec::new();
    let is_key = |text: &str| {
        token::contains_key(text.as_bytes(), prefix) || keys.has_foreign_in(text.as_bytes())
    };
    match &value {
        Value::Object(members) if !B::KEYS.is_empty() => {
            let others = members
                .iter()
                .filter(|(name, _)| !B::KEYS.contains(&name.as_str()));
            let others = others
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            refuse_keys(
                &Value::Object(others),
                Pointer::Root,
                prefix,
                &is_key,
                &mut errors,
            );
        }
        value => refuse_keys(value, Pointer::Root, prefix, &is_key, &mut errors),
    }
    if !errors.is_empty() {
        return Err(refuse(errors));
    }
    let Value::Object(members) = value else {
        return Err(refuse(vec![FieldError::at(
            "",
            "the body is a JSON object",
        )]));
    };
    let mut fields = Fields {
        members,
        ..Fields::default()
    };
    let read = B::read(&mut fields);
    let Fields {
        members: unknown,
        errors: Errors {
            list: mut errors,
            alone,
        },
        ..
    } = fields;
    errors.extend(
        unknown
            .keys()
            .map(|name| FieldError::at(&json::member("", name), "there is no such member here")),
    );
    if let (Some((kind, detail)), [_]) = (alone, errors.as_slice()) {
        return Err(Problem::new(kind, detail).with(errors));
    }
    match read {
        Some(read) if errors.is_empty() => Ok(read),
        _ => Err(refuse(errors)),
    }
}

/// Requires `application/json`; a change may also be `application/merge-patch+json` (RFC 7396).
fn require_json(request: &HttpRequest) -> Result<(), Problem> {
    let is_patch = request.method() == actix_web::http::Method::PATCH;
    let mut given = request.headers().get_all(header::CONTENT_TYPE);
    let media_type = match (
        given.next().and_then(|value| value.to_str().ok()),
        given.next(),
    ) {
        (Some(value), None) => value
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase(),
        _ => String::new(),
    };
    match media_type.as_str() {
        "application/json" => Ok(()),
        "application/merge-patch+json" if is_patch => Ok(()),
        _ => Err(Problem::new(
            Kind::UnsupportedMediaType,
            "Send the body with content-type: application/json.",
        )),
    }
}

/// Refuses a whole key in any text that is stored and shown.
fn refuse_keys(
    value: &Value,
    pointer: Pointer<'_>,
    prefix: &Prefix,
    is_key: &impl Fn(&str) -> bool,
    errors: &mut Vec<FieldError>,
) {
    if errors.len() > MAX_ERRORS {
        return;
    }
    let message = "this is a whole API key; it was not stored, but consider revoking it";
    match value {
        Value::String(text) if is_key(text) => {
            errors.push(FieldError::at(&pointer.text(prefix), message))
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| {
                refuse_keys(item, Pointer::Item(&pointer, index), prefix, is_key, errors)
            });
        }
        Value::Object(members) => {
            for (name, value) in members {
                if is_key(name) {
                    // Without the name of the member, which contains the key.
                    errors.push(FieldError::at(&pointer.text(prefix), message));
                } else {
                    refuse_keys(
                        value,
                        Pointer::Member(&pointer, name),
                        prefix,
                        is_key,
                        errors,
                    );
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use actix_web::FromRequest as _;
    use actix_web::dev;
    use actix_web::error::PayloadError;
    use actix_web::test::TestRequest;
    use actix_web::web::Bytes;

    use super::*;

    #[actix_rt::test]
    async fn a_body_that_does_not_come_is_given_up() {
        let (request, _) = TestRequest::post().to_http_parts();
        let begun = futures_util::stream::iter([Ok::<_, PayloadError>(Bytes::from_static(b"{"))]);
        let stalled = begun.chain(futures_util::stream::pending()).boxed_local();
        let mut payload = dev::Payload::Stream { payload: stalled };
        let payload = Payload::from_request(&request, &mut payload).await.unwrap();
        let problem = collect_within(Duration::from_millis(20), 100, &request, payload)
            .await
            .unwrap_err();
        assert_eq!(
            (problem.kind(), problem.to_string().contains("within 20ms")),
            (Kind::BadRequest, true),
            "{problem}"
        );
    }
}
