//! `GET /v1/audit`

use serde_json::Value;
use utoipa::openapi::schema::Schema;

use crate::admin::endpoint::{Answered, Call, Endpoint};
use crate::admin::member::{Errors, Member};
use crate::admin::page::{self, Page};
use crate::admin::problem::FieldError;
use crate::admin::query::{Parameters, Query};
use crate::keys::When;
use crate::store::{ACTIONS, AuditCursor, AuditFilter};
use crate::views::{AuditView, schemas};

/// Maximum length of a filter value, in bytes: the id of a bucket is its name.
const MAX_WORD_BYTES: usize = 128;

/// The operation.
pub(super) fn endpoint() -> Endpoint {
    Endpoint::get("/v1/audit", list)
        .named(
            "list_audit",
            "audit",
            "Show the audit log: who changed which key, when and from where",
        )
        .described("Newest first. Rows are never changed.")
        .answers(
            200,
            "A page of audit rows.",
            "AuditPage",
            page::schema("AuditEntry", page::number_cursor_schema()),
        )
        .made_of::<AuditView<'_>>()
}

struct List {
    filter: AuditFilter,
    since: Option<When>,
    until: Option<When>,
    page: Page,
}

/// Name of an action in the audit.
struct ActionWord(String);

/// An id, or the name of an actor.
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
                "Only actions on the subject with this id, or the bucket or plan with this name.",
            ),
            actor: word(
                "actor",
                "Only actions of this actor, for example `cli:root` or `api:ci`.",
            ),
            action: parameters
                .optional::<ActionWord>("action", "Only this action.")
                .map(|action| action.0),
            since: None,
            until: None,
        };
        Self {
            filter,
            since: parameters.optional("since", "Only from this time on."),
            until: parameters.optional("until", "Only before this time."),
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

impl Member for ActionWord {
    fn schema() -> Schema {
        schemas::one_of(ACTIONS)
    }

    fn read(value: Value, pointer: &str, errors: &mut Errors) -> Option<Self> {
        let word = value.as_str().filter(|word| ACTIONS.contains(word));
        if word.is_none() {
            errors.list.push(FieldError::at(
                pointer,
                format!("an action is one of {}", ACTIONS.join(", ")),
            ));
        }
        word.map(|word| Self(word.to_owned()))
    }
}

async fn list(call: Call<(), List, ()>) -> Answered {
    let List {
        filter,
        since,
        until,
        page,
    } = &call.query;
    let filter = &AuditFilter {
        since: since.map(|since| since.ago(call.now())),
        until: until.map(|until| until.ago(call.now())),
        ..filter.clone()
    };
    let found = call
        .store
        .audit(filter, page.number().map(AuditCursor), page.wanted())
        .await?;
    Ok(page.answer(&found, AuditView::of, |row| page::number_cursor(row.id)))
}
