//! Query strings: each parameter is read once by its name, any other is refused. Reading a query
//! also describes it: see [`parameters`].

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn, ParameterStyle};
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};

use crate::admin::field_error;
use crate::admin::member::{Errors, Member};
use crate::admin::page::{self, Page};
use crate::admin::problem::{FieldError, Kind, Problem};
use crate::keys::tag::{InvalidTag, MAX_NAME_BYTES, MAX_TAGS, MAX_VALUE_CHARS};
use crate::keys::{BucketName, Tag, Tags};
use crate::store::{Store, StoreError};
use crate::views::schemas;

/// Prefix of tag parameters.
const TAG: &str = "tag.";

/// Description of tags used as a precondition.
const GUARD: &str = "Tag precondition (`tag.NAME=VALUE`); 412 if the consumer lacks one.";

/// A type that a query is parsed into.
pub(super) trait Query: Sized {
    /// Reads every parameter.
    fn read(parameters: &mut Parameters) -> Self;

    /// Returns the tag precondition for the consumer named by the body or a parameter. The
    /// precondition of a path is handled for every call.
    fn guard(&self) -> Tags {
        Tags::default()
    }
}

impl Query for () {
    fn read(_: &mut Parameters) -> Self {}
}

/// Tag precondition (`?tag.NAME=VALUE`); 412 if the consumer lacks one.
#[derive(Debug, Default)]
pub(super) struct Guard(pub(super) Tags);

impl Query for Guard {
    fn read(parameters: &mut Parameters) -> Self {
        Self(parameters.tags(GUARD))
    }

    fn guard(&self) -> Tags {
        self.0.clone()
    }
}

impl Guard {
    /// Returns whether there is no precondition.
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().next().is_none()
    }

    /// Refuses a consumer that lacks one of the tags.
    pub(super) fn check(&self, tags: &Tags) -> Result<(), Problem> {
        let mismatch = "The consumer lacks a tag of the precondition. Nothing was changed.";
        if tags.include(&self.0) {
            Ok(())
        } else {
            Err(Problem::new(Kind::TagMismatch, mismatch))
        }
    }
}

/// Parameters of a query, consumed one by one.
#[derive(Default)]
pub(super) struct Parameters {
    given: Vec<(String, String)>,
    errors: Vec<FieldError>,
    described: Vec<Parameter>,
}

impl Parameters {
    /// Reads an optional parameter.
    pub(super) fn optional<T: Member>(&mut self, name: &str, meaning: &str) -> Option<T> {
        self.describe(name, meaning, T::schema());
        let text = self.take(name)?;
        let mut errors = Errors::default();
        let value = T::read_text(text, &mut errors);
        self.errors.extend(
            errors
                .list
                .into_iter()
                .map(|error| FieldError::of(name, error.detail)),
        );
        value
    }

    /// Reads the page parameters of a list by age.
    pub(super) fn page(&mut self) -> Page {
        self.page_with(page::cursor_schema(), page::is_cursor)
    }

    /// Reads the page parameters of a list by name.
    pub(super) fn page_by_name(&mut self) -> Page {
        self.page_with(page::name_cursor_schema(), page::is_name_cursor)
    }

    /// Reads the page parameters of a list by descending number.
    pub(super) fn page_by_number(&mut self) -> Page {
        self.page_with(page::number_cursor_schema(), page::is_number_cursor)
    }

    fn page_with(&mut self, schema: Schema, is_cursor: fn(&str) -> bool) -> Page {
        let limit = self
            .limit("limit", "Page size; default: 100.")
            .unwrap_or(page::DEFAULT_LIMIT);
        self.describe(
            "cursor",
            "Cursor: `next_cursor` of the previous page.",
            schema,
        );
        let cursor = self.take("cursor");
        if cursor.as_deref().is_some_and(|cursor| !is_cursor(cursor)) {
            self.errors.push(FieldError::of(
                "cursor",
                "a cursor is what `next_cursor` was on the page before",
            ));
        }
        Page { limit, cursor }
    }

    /// Reads a number up to the maximum page size.
    pub(super) fn limit(&mut self, name: &str, meaning: &str) -> Option<u32> {
        self.describe(name, meaning, page::limit_schema());
        match page::parse_limit(&self.take(name)?) {
            Ok(limit) => Some(limit),
            Err(message) => {
                self.errors.push(FieldError::of(name, message));
                None
            }
        }
    }

    /// Reads every parameter `tag.NAME`.
    pub(super) fn tags(&mut self, meaning: &str) -> Tags {
        let schema = ObjectBuilder::new()
            .schema_type(Type::Object)
            .property_names(Some(schemas::text(
                r"^tag\.[0-9A-Za-z_.-]+$",
                TAG.len() + 1,
                TAG.len() + MAX_NAME_BYTES,
            )))
            .additional_properties(Some(Schema::from(schemas::text(
                schemas::NO_CONTROLS,
                0,
                MAX_VALUE_CHARS,
            ))))
            .max_properties(Some(MAX_TAGS));
        let parameter = parameter("tag", meaning, schema.into());
        self.described.push(
            parameter
                .style(Some(ParameterStyle::Form))
                .explode(Some(true))
                .build(),
        );
        let (tags, others) = std::mem::take(&mut self.given)
            .into_iter()
            .partition(|(name, _)| name.starts_with(TAG));
        self.given = others;
        let tags: Vec<(String, String)> = tags;
        // Checked first: each tag is compared with all previous ones.
        if tags.len() > MAX_TAGS {
            self.errors
                .push(FieldError::of("tag", InvalidTag::TooMany.to_string()));
            return Tags::default();
        }
        let mut read = Vec::new();
        for (index, (name, value)) in tags.iter().enumerate() {
            if tags[..index].iter().any(|(earlier, _)| earlier == name) {
                self.errors.push(FieldError::of(name, "duplicate"));
            }
            match Tag::new(&name[TAG.len()..], value) {
                Ok(tag) => read.push(tag),
                Err(error) => self.errors.push(FieldError::of(name, error.to_string())),
            }
        }
        Tags::new(read).unwrap_or_else(|error| {
            self.errors.push(FieldError::of("tag", error.to_string()));
            Tags::default()
        })
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let position = self.given.iter().position(|(given, _)| given == name)?;
        let (_, value) = self.given.remove(position);
        let before = self.given.len();
        self.given.retain(|(given, _)| given != name);
        if self.given.len() < before {
            self.errors.push(FieldError::of(name, "duplicate"));
        }
        Some(value)
    }

    fn describe(&mut self, name: &str, meaning: &str, schema: Schema) {
        self.described
            .push(parameter(name, meaning, schema).build());
    }
}

/// Reads a whole query. The tag precondition of a guarded path is read here, so that no operation
/// can forget it.
fn read<Q: Query>(parameters: &mut Parameters, is_guarded: bool) -> (Q, Guard) {
    let guard = if is_guarded {
        Guard::read(parameters)
    } else {
        Guard::default()
    };
    (Q::read(parameters), guard)
}

/// Returns the description of a query, recorded by reading an empty one.
pub(super) fn parameters<Q: Query>(is_guarded: bool) -> Vec<Parameter> {
    let mut parameters = Parameters::default();
    let _ = read::<Q>(&mut parameters, is_guarded);
    parameters.described
}

/// Refuses an unknown bucket name in the parameter `bucket`.
pub(super) async fn require_bucket(
    store: &Store,
    bucket: Option<&BucketName>,
) -> Result<(), Problem> {
    let Some(bucket) = bucket else { return Ok(()) };
    store
        .require_bucket(bucket)
        .await
        .map_err(|error| match error {
            StoreError::UnknownBucket { .. } => {
                Problem::new(Kind::NotFound, "There is no such bucket.").with(vec![FieldError::of(
                    "bucket",
                    "there is no bucket of this name",
                )])
            }
            error => error.into(),
        })
}

/// Parses a query as a `Q`, plus a tag precondition if `is_guarded`. Refuses anything else; every
/// operation uses it.
pub(super) fn parse<Q: Query>(text: &str, is_guarded: bool) -> Result<(Q, Guard), Problem> {
    let refuse = |errors: Vec<FieldError>| {
        let errors = field_error::limited(errors);
        let names: Vec<&str> = errors
            .iter()
            .filter_map(|error| error.parameter.as_deref())
            .collect();
        let detail = format!(
            "These parameters are not what is accepted here: {}.",
            names.join(", ")
        );
        Err(Problem::new(Kind::InvalidParameter, detail).with(errors))
    };
    let mut parameters = Parameters::default();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match (decode(name), decode(value)) {
            (Some(name), Some(value)) => parameters.given.push((name, value)),
            _ => return refuse(vec![FieldError::of("query", "not UTF-8")]),
        }
    }
    let read = read(&mut parameters, is_guarded);
    let Parameters {
        given: unknown,
        mut errors,
        ..
    } = parameters;
    errors.extend(
        unknown
            .iter()
            .map(|(name, _)| FieldError::of(name, "there is no such parameter here")),
    );
    if errors.is_empty() {
        Ok(read)
    } else {
        refuse(errors)
    }
}

/// Decodes a part of a query: `+` is a space, `%` and two digits a byte.
fn decode(text: &str) -> Option<String> {
    let text = text.replace('+', " ");
    percent_decode_str(&text)
        .decode_utf8()
        .map(Cow::into_owned)
        .ok()
}

fn parameter(name: &str, meaning: &str, schema: Schema) -> ParameterBuilder {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(utoipa::openapi::Required::False)
        .description(Some(meaning))
        .schema(Some(schema))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_taken_whole_or_refused_by_name() {
        let guard = |text| parse::<()>(text, true).map(|((), guard)| guard.0);
        assert_eq!(guard("").unwrap(), Tags::default());
        assert_eq!(
            guard("tag.a=b+c%2B&").unwrap().iter().collect::<Vec<_>>(),
            [("a", "b c+")]
        );
        for (text, named) in [
            ("x=1", "x"),
            ("tag.=1", "tag."),
            ("tag.a=%00", "tag.a"),
            ("tag.a=1&tag.a=1", "tag.a"),
            ("tag.a=%ff", "query"),
            ("limit=1", "limit"),
        ] {
            let problem = guard(text).unwrap_err();
            assert_eq!(problem.kind(), Kind::InvalidParameter);
            assert!(problem.to_string().contains(named), "{text}: {problem}");
        }
    }

    #[test]
    fn more_tags_than_a_consumer_has_are_one_error() {
        let query = |count| "tag.a=1&".repeat(count);
        let told = |count| {
            parse::<Guard>(&query(count), false)
                .map(drop)
                .unwrap_err()
                .to_string()
        };
        assert!(told(MAX_TAGS).matches("tag.a").count() == MAX_TAGS - 1);
        assert_eq!(told(3_000), told(MAX_TAGS + 1));
        assert!(!told(3_000).contains("tag.a"));
    }
}
