//! `GET /v1/audit`

use serde_json::Value;
use utoipa::openapi::schema::Schema;

use crate::admin::endpoint::{Answered, Call, Endpoint};
use crate::admin::member::{Errors, Member};
use crate::admin::page::{self, Page};
use crate::admin::problem::FieldError;
use crate::admin::query::{Parameters, Query};
use crate::keys::UnixMillis;
use crate::store::{AuditCursor, AuditFilter};
use crate::views::{AuditView, schemas};

/// Longest word of a filter, in bytes: an id of a bucket is its name.
const MAX_WORD_BYTES: usize = 128;

/// The operation.
pub(super) fn endpoint() -> Endpoint {
    Endpoint::get("/v1/audit", list)
        .named(
            "list_audit",
            "audit",
            "Show who did what to which key, when and from where",
        )
        .described("The newest first. Rows are never changed or deleted.")
        .answers(
            200,
            "A page of what was done.",
            "AuditPage",
            page::schema("AuditEntry", page::number_cursor_schema()),
        )
        .made_of::<AuditView<'_>>()
}

struct List {
    filter: AuditFilter,
    page: Page,
}

/// An id, the name of an actor or an action.
struct Word(String);

impl Query for List {
    fn read(parameters: &mut Parameters) -> Self {
        let mut word = |name, meaning| {
            parameters
                .optional::<Word>(name, meaning)
                .map(|word| word.0)
        };
        let filter = AuditFilter {
            subject_id: word(
                "subject_id",
                "Only what was done to the thing with this id, or the bucket of this name.",
            ),
            actor: word(
                "actor",
                "Only what this actor did, for example `cli:root` or `api:ci`.",
            ),
            action: word("action", "Only this action, for example `key.revoke`."),
            since: parameters.optional::<UnixMillis>("since", "Only from this moment on."),
            until: parameters.optional::<UnixMillis>("until", "Only before this moment."),
        };
        Self {
            filter,
            page: parameters.page_by_number(),
        }
    }
}

impl Member for Word {
    fn schema() -> Schema {
        schemas::text("^[ -~]+$", 1, MAX_WORD_BYTES).into()
    }

    fn read(value: Value, pointer: &str, errors: &mut Errors) -> Option<Self> {
        let is_word = |word: &&str| {
            (1..=MAX_WORD_BYTES).contains(&word.len())
                && word.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        };
        let word = value.as_str().filter(is_word);
        if word.is_none() {
            errors.list.push(FieldError::at(
                pointer,
                format!("1 to {MAX_WORD_BYTES} visible ASCII characters and spaces belong here"),
            ));
        }
        word.map(|word| Self(word.to_owned()))
    }
}

async fn list(call: Call<(), List, ()>) -> Answered {
    let List { filter, page } = &call.query;
    let found = call
        .store
        .audit(filter, page.number().map(AuditCursor), page.wanted())
        .await?;
    Ok(page.answer(&found, AuditView::of, |row| page::number_cursor(row.id)))
}
