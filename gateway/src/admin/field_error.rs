//! Errors of single members, parameters and headers. Answers are bounded in size whatever the
//! request, so that no client can amplify its traffic.

use serde::Serialize;
use utoipa::ToSchema;

/// Maximum number of errors in an answer.
pub(super) const MAX_ERRORS: usize = 100;
/// Maximum length of a pointer or parameter name in an answer, in bytes; longer ones are cut.
pub(super) const MAX_LOCATION_BYTES: usize = 256;

/// An error in a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct FieldError {
    /// JSON pointer into the body (RFC 6901).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String)]
    pub(super) pointer: Option<String>,
    /// Name of the parameter or header.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String)]
    pub(super) parameter: Option<String>,
    /// The mistake, or the accepted values.
    pub(super) detail: String,
}

impl FieldError {
    /// Returns an error at a JSON pointer.
    #[must_use]
    pub(super) fn at(pointer: &str, detail: impl Into<String>) -> Self {
        Self {
            pointer: Some(cut(pointer)),
            parameter: None,
            detail: detail.into(),
        }
    }

    /// Returns an error of a parameter.
    #[must_use]
    pub(super) fn of(parameter: &str, detail: impl Into<String>) -> Self {
        Self {
            pointer: None,
            parameter: Some(cut(parameter)),
            detail: detail.into(),
        }
    }
}

/// Truncates `errors` to the limit; the last one then mentions the rest.
#[must_use]
pub(super) fn limited(mut errors: Vec<FieldError>) -> Vec<FieldError> {
    if errors.len() > MAX_ERRORS {
        errors.truncate(MAX_ERRORS - 1);
        let detail = format!("more is wrong than the {} things above", MAX_ERRORS - 1);
        errors.push(FieldError {
            pointer: None,
            parameter: None,
            detail,
        });
    }
    errors
}

fn cut(location: &str) -> String {
    const CUT: char = '…';
    if location.len() <= MAX_LOCATION_BYTES {
        return location.to_owned();
    }
    let end = location.floor_char_boundary(MAX_LOCATION_BYTES - CUT.len_utf8());
    format!("{}{CUT}", location.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_at_most_a_hundred_errors_and_short_places() {
        let errors = |count| limited(vec![FieldError::at("/a", "x"); count]);
        assert_eq!(
            errors(MAX_ERRORS),
            vec![FieldError::at("/a", "x"); MAX_ERRORS]
        );
        let many = errors(MAX_ERRORS + 1);
        let last = many.last().unwrap();
        assert_eq!(
            (many.len(), &last.pointer, &*last.detail),
            (MAX_ERRORS, &None, "more is wrong than the 99 things above")
        );
        for letter in ["a", "ä", "€"] {
            let told = FieldError::at(&letter.repeat(1_000), "x").pointer.unwrap();
            assert!(
                told.len() <= MAX_LOCATION_BYTES
                    && told.len() > MAX_LOCATION_BYTES - 4
                    && told.ends_with('…'),
                "{told}"
            );
        }
    }
}
