//! `/v1/keys`, and the keys of one consumer

use actix_web::HttpResponse;
use actix_web::http::Method;
use utoipa::PartialSchema as _;

use crate::admin::body::{Body, Fields};
use crate::admin::endpoint::{Answered, Call, Endpoint};
use crate::admin::member::{HintStart, Seconds};
use crate::admin::page::{self, Page};
use crate::admin::problem::{FieldError, Kind, Problem};
use crate::admin::query::{Guard, Parameters, Query, require_bucket};
use crate::admin::{Operations, created, find, text};
use crate::keys::{
    BucketName, ConsumerId, ConsumerName, KeyId, KeyState, KeyStatus, PlainKey, UnixMillis, When,
};
use crate::store::{
    CreatedKey, KeyAttributes, KeyEdit, KeyFilter, NewEnd, NewKey, Owner, Stamp, StoreError,
    StoredAnswer, StoredKey, WaitFor,
};
use crate::views::schemas::MAX_GRACE_SECONDS;
use crate::views::{KeyView, RevokedKeyView};

const TAG: &str = "keys";

const UNCONFIRMED: &str = "The key is revoked, but some gateways have not confirmed it in time: see `gateways.missing` and `gateways.silent`. Without `wait_seconds`: the revocation is not in force on this gateway yet.";

/// Grace period of replaced keys.
pub(super) type Grace = Seconds<0, MAX_GRACE_SECONDS>;

/// Returns the operations on keys.
pub(super) fn endpoints() -> Vec<Endpoint> {
    let shown_once = "The plain key is in `key`, only in this answer, because it is not stored: a repetition with the same Idempotency-Key has `key_shown` false.";
    let key = KeyView::schema;
    let page = || page::schema("Key", page::cursor_schema());
    vec![
        Endpoint::get("/v1/consumers/{id}/keys", list_of_consumer)
            .named("list_keys_of_consumer", TAG, "List the keys of a consumer")
            .described("Oldest first.")
            .answers(200, "A page of keys.", "KeyPage", page()),
        Endpoint::create("/v1/consumers/{id}/keys", create_for_consumer)
            .named("create_key_of_consumer", TAG, "Create a key for a consumer")
            .described(shown_once)
            .answers(201, "The created key.", "Key", key()),
        Endpoint::get("/v1/keys", list)
            .named("list_keys", TAG, "List keys")
            .described("Oldest first; from all buckets unless `bucket` is given.")
            .answers(200, "A page of keys.", "KeyPage", page())
            .refuses(&[(404, "There is no such bucket.")]),
        Endpoint::create("/v1/keys", create)
            .named("create_key", TAG, "Create a key")
            .described(&format!("For the consumer with this id or name; a missing name is created. {shown_once}"))
            .answers(201, "The created key.", "Key", key())
            .refuses(&[
                (404, "There is no such consumer or bucket."),
                (412, "The consumer lacks one of these tags; a new consumer has none."),
            ]),
        Endpoint::get("/v1/keys/{id}", show).named("show_key", TAG, "Show a key, without its plain text").answers(
            200,
            "The key.",
            "Key",
            key(),
        ),
        Endpoint::write(Method::PATCH, "/v1/keys/{id}", update)
            .named("update_key", TAG, "Change a key")
            .described("A merge patch (RFC 7396).")
            .answers(200, "The key in its new state.", "Key", key())
            .refuses(&[(409, "The key is revoked, or was rolled and its expiry cannot be extended."), (422, "The consumer lacks a scope or has less, the expiry is in the past or beyond the longest lifetime, or two limits have the same name.")]),
        Endpoint::write(Method::DELETE, "/v1/keys/{id}", revoke)
            .named("delete_key", TAG, "Revoke a key")
            .described("Equivalent to `revoke`. The key remains visible, because the audit needs it.")
            .answers(200, "The key in its new state.", "RevokedKey", RevokedKeyView::schema())
            .answers(202, UNCONFIRMED, "RevokedKey", RevokedKeyView::schema())
            .made_of::<RevokedKeyView<'_>>(),
        Endpoint::write(Method::POST, "/v1/keys/{id}/revoke", revoke)
            .named("revoke_key", TAG, "Revoke a key for ever")
            .described(
                "Idempotent. With `wait_seconds`, waits until every gateway that may run refuses the key, or until that time is over.",
            )
            .answers(200, "The key in its new state.", "RevokedKey", RevokedKeyView::schema())
            .answers(202, UNCONFIRMED, "RevokedKey", RevokedKeyView::schema()),
        Endpoint::write(Method::POST, "/v1/keys/{id}/disable", disable)
            .named("disable_key", TAG, "Disable a key until it is enabled again")
            .answers(200, "The key in its new state.", "Key", key())
            .refuses(&[(409, "The key is revoked.")]),
        Endpoint::write(Method::POST, "/v1/keys/{id}/enable", enable)
            .named("enable_key", TAG, "Enable a disabled key")
            .answers(200, "The key in its new state.", "Key", key())
            .refuses(&[(409, "The key is revoked.")]),
    ]
}

struct List {
    filter: KeyFilter,
    times: Times,
    page: Page,
}

/// Time filters, resolved at the time of the call.
struct Times {
    hint: Option<HintStart>,
    status: Option<KeyStatus>,
    ending_within: Option<When>,
    unused_for: Option<When>,
    created_since: Option<When>,
    created_until: Option<When>,
}

impl Times {
    fn of(&self, filter: &KeyFilter, now: UnixMillis) -> KeyFilter {
        KeyFilter {
            hint: self.hint.as_ref().map(|hint| hint.0.clone()),
            status: self.status.map(|status| (status, now)),
            ending: self.ending_within.map(|within| now..=within.ahead(now)),
            unused_since: self.unused_for.map(|unused| unused.ago(now)),
            created_since: self.created_since.map(|since| since.ago(now)),
            created_until: self.created_until.map(|until| until.ago(now)),
            ..filter.clone()
        }
    }
}

impl Query for List {
    fn read(parameters: &mut Parameters) -> Self {
        Self {
            filter: KeyFilter {
                consumer: parameters.optional("consumer_id", "Only keys of this consumer."),
                bucket: parameters.optional("bucket", "Only keys of consumers of this bucket."),
                tags: parameters.tags(
                    "Only keys of consumers with all of these tags, each as `tag.NAME=VALUE`.",
                ),
                ..KeyFilter::default()
            },
            times: Times {
                hint: parameters.optional("hint", "Only keys that begin with this text, compared to the length of their hint."),
                status: parameters.optional("status", "Only keys with this status."),
                ending_within: parameters.optional(
                    "ending_within",
                    "Only unrevoked keys that expire within this duration, or until this moment.",
                ),
                unused_for: parameters.optional(
                    "unused_for",
                    "Only keys created before this moment or longer ago than this duration, and not used since.",
                ),
                created_since: parameters.optional("created_since", "Only keys created since this time."),
                created_until: parameters.optional("created_until", "Only keys created before this time."),
            },
            page: parameters.page(),
        }
    }
}

impl Query for Page {
    fn read(parameters: &mut Parameters) -> Self {
        parameters.page()
    }
}

struct Revocation {
    /// Maximum wait for the gateways.
    wait: Option<Seconds<1, 60>>,
}

impl Query for Revocation {
    fn read(parameters: &mut Parameters) -> Self {
        let wait = "Maximum wait until every gateway that may run refuses the key.";
        Self {
            wait: parameters.optional("wait_seconds", wait),
        }
    }
}

/// A new key of a known consumer.
#[derive(Clone)]
struct NewKeyOfConsumer {
    attributes: KeyAttributes,
    end: NewEnd,
}

impl Body for NewKeyOfConsumer {
    const NAME: Option<&'static str> = Some("NewKeyOfConsumer");
    const MAY_BE_MISSING: bool = true;

    fn read(fields: &mut Fields) -> Option<Self> {
        let expires_at = fields.nullable(
            "expires_at",
            "Expiry, in the future; default: that of the plan or the bucket, or never. Null for never.",
        );
        let end = match expires_at {
            Some(None) => NewEnd::Never,
            _ => NewEnd::Default,
        };
        let attributes = KeyAttributes {
            description: fields.nullable("description", "A note.").flatten(),
            expires_at: expires_at.flatten(),
            scopes: fields
                .nullable(
                    "scopes",
                    "Scopes of the key, limited by those of the consumer; default: all of the consumer's.",
                )
                .flatten(),
            limits: fields
                .nullable("limits", "Rates of the key, which narrow those of the consumer.")
                .flatten()
                .unwrap_or_default(),
            quotas: fields
                .nullable("quotas", "Quotas of the key, which narrow those of the consumer.")
                .flatten()
                .unwrap_or_default(),
            max_in_flight: fields
                .nullable(
                    "max_in_flight",
                    "Requests of the key in flight at once, at most as many as the consumer's.",
                )
                .flatten(),
            allowed_ips: fields
                .optional(
                    "allowed_ips",
                    "Addresses that the key may be used from, besides those of the consumer; default: any that the consumer allows.",
                )
                .unwrap_or_default(),
            allowed_methods: fields
                .optional("allowed_methods", "Methods that the key may be used with; `GET` includes `HEAD`; default: any.")
                .unwrap_or_default(),
            allowed_routes: fields
                .optional(
                    "allowed_routes",
                    "Names of the routes that the key may be used on; they need not exist yet; default: any.",
                )
                .unwrap_or_default(),
            exempt_from_unused: fields
                .optional(
                    "exempt_from_unused",
                    "Whether the key may be unused for any time, whatever its bucket says; default: false.",
                )
                .unwrap_or_default(),
        };
        Some(Self { attributes, end })
    }
}

struct NewKeyOfAnyone {
    owner: Owner,
    key: NewKeyOfConsumer,
}

impl Body for NewKeyOfAnyone {
    const NAME: Option<&'static str> = Some("NewKey");

    fn read(fields: &mut Fields) -> Option<Self> {
        fields.either("consumer_id", "consumer", &["bucket"]);
        let id = fields.optional::<ConsumerId>(
            "consumer_id",
            "Id of the consumer; alternative to `consumer`.",
        );
        let consumer = "Name of the consumer, created if missing with the scopes of the key; alternative to `consumer_id`.";
        let name = fields.optional::<ConsumerName>("consumer", consumer);
        let bucket =
            fields.optional::<BucketName>("bucket", "Bucket of `consumer`; default: `default`.");
        let key = NewKeyOfConsumer::read(fields);
        let owner = match (id, name) {
            (Some(id), _) => Owner::Id(id),
            (None, Some(name)) => Owner::Named(bucket.unwrap_or_default(), name),
            (None, None) => return None,
        };
        Some(Self { owner, key: key? })
    }
}

impl Body for KeyEdit {
    const NAME: Option<&'static str> = Some("KeyEdit");

    fn read(fields: &mut Fields) -> Option<Self> {
        Some(Self {
            description: fields.nullable("description", "New note; null removes it."),
            expires_at: fields
                .nullable("expires_at", "New expiry, in the future; null for never."),
            scopes: fields.nullable(
                "scopes",
                "New list of scopes, limited by those of the consumer; null for all of the consumer's.",
            ),
            limits: fields
                .nullable("limits", "New list of rates, replaced as a whole; null for none.")
                .map(Option::unwrap_or_default),
            quotas: fields
                .nullable("quotas", "New list of quotas, replaced as a whole; null for none.")
                .map(Option::unwrap_or_default),
            max_in_flight: fields.nullable(
                "max_in_flight",
                "New number of requests in flight at once; null for that of the consumer.",
            ),
            allowed_ips: fields
                .nullable(
                    "allowed_ips",
                    "New list of addresses, replaced as a whole; null or `[]` for any that the consumer allows.",
                )
                .map(Option::unwrap_or_default),
            allowed_methods: fields
                .nullable(
                    "allowed_methods",
                    "New list of methods, replaced as a whole; null or `[]` for any.",
                )
                .map(Option::unwrap_or_default),
            allowed_routes: fields
                .nullable(
                    "allowed_routes",
                    "New list of names of routes, replaced as a whole; null or `[]` for any.",
                )
                .map(Option::unwrap_or_default),
            exempt_from_unused: fields.optional(
                "exempt_from_unused",
                "Whether the key may be unused for any time, whatever its bucket says.",
            ),
            disabled: fields.optional(
                "disabled",
                "Whether the key is refused until enabled again.",
            ),
        })
    }
}

async fn list(call: Call<(), List, ()>) -> Answered {
    let List {
        filter,
        times,
        page,
    } = &call.query;
    require_bucket(&call.store, filter.bucket.as_ref()).await?;
    let filter = &times.of(filter, call.now());
    let found = call
        .store
        .list_keys(filter, page.after("key_").as_ref(), page.wanted())
        .await?;
    Ok(answer_page(page, &found, call.now()))
}

async fn list_of_consumer(call: Call<ConsumerId, Page, ()>) -> Answered {
    let page = &call.query;
    find::consumer(&call.store, &call.path).await?;
    let filter = KeyFilter {
        consumer: Some(call.path),
        ..KeyFilter::default()
    };
    let found = call
        .store
        .list_keys(&filter, page.after("key_").as_ref(), page.wanted())
        .await?;
    Ok(answer_page(page, &found, call.now()))
}

async fn create(call: Call<(), Guard, NewKeyOfAnyone>) -> Answered {
    let NewKeyOfAnyone { owner, key } = &call.body;
    make(&call, owner.clone(), key.clone()).await
}

async fn create_for_consumer(call: Call<ConsumerId, (), NewKeyOfConsumer>) -> Answered {
    make(&call, Owner::Id(call.path), call.body.clone()).await
}

async fn make<P, Q, B>(call: &Call<P, Q, B>, owner: Owner, new: NewKeyOfConsumer) -> Answered {
    let NewKeyOfConsumer { attributes, end } = new;
    let Call {
        store,
        prefix,
        stamp,
        creation,
        operations,
        ..
    } = call;
    require_future(attributes.expires_at, stamp)?;
    let key = PlainKey::generate(prefix).map_err(|error| Problem::from(StoreError::from(error)))?;
    let new = NewKey {
        owner,
        digest: key.digest(),
        hint: key.hint(),
        attributes,
        end,
    };
    let now = stamp.at;
    let answer = |created: &CreatedKey, plain: Option<&str>| {
        let view = KeyView {
            key: plain,
            key_shown: Some(plain.is_some()),
            ..shown(&created.key, now, operations)
        };
        StoredAnswer {
            location: format!("/v1/keys/{}", created.key.id),
            body: text(&view),
        }
    };
    // The stored answer omits the key: the store never contains one.
    let remembered = |made: &CreatedKey| answer(made, None);
    let made = store
        .create_key_once(new, creation.as_ref(), remembered, stamp)
        .await?;
    Ok(created(made, |made| answer(made, Some(key.expose()))))
}

async fn show(call: Call<KeyId, (), ()>) -> Answered {
    let found = find::key(&call.store, &call.path).await?;
    Ok(HttpResponse::Ok().json(shown(&found, call.now(), &call.operations)))
}

async fn update(call: Call<KeyId, (), KeyEdit>) -> Answered {
    require_future(call.body.expires_at.flatten(), &call.stamp)?;
    let after = call
        .store
        .update_key(&call.path, call.body, &call.stamp)
        .await?;
    Ok(HttpResponse::Ok().json(shown(&after, call.stamp.at, &call.operations)))
}

async fn revoke(call: Call<KeyId, Revocation, ()>) -> Answered {
    let change = call
        .store
        .set_key_state(&call.path, KeyState::Revoked, &call.stamp)
        .await?;
    let confirmation = match call.query.wait {
        Some(Seconds(patience)) => Some(call.store.confirmed_by(WaitFor::All, patience).await?),
        None => None,
    };
    let all_did = confirmation
        .as_ref()
        .is_none_or(|confirmation| confirmation.is_whole(false));
    let mut response = if all_did {
        HttpResponse::Ok()
    } else {
        HttpResponse::Accepted()
    };
    Ok(response.json(RevokedKeyView::of(
        &change.key,
        confirmation.as_ref(),
        call.now(),
    )))
}

async fn disable(call: Call<KeyId, (), ()>) -> Answered {
    set_state(call, KeyState::Disabled).await
}

async fn enable(call: Call<KeyId, (), ()>) -> Answered {
    set_state(call, KeyState::Active).await
}

async fn set_state(call: Call<KeyId, (), ()>, state: KeyState) -> Answered {
    let change = call
        .store
        .set_key_state(&call.path, state, &call.stamp)
        .await?;
    Ok(HttpResponse::Ok().json(shown(&change.key, call.now(), &call.operations)))
}

/// Shows a key, with the allowed routes that this gateway does not have.
fn shown<'k>(key: &'k StoredKey, now: UnixMillis, operations: &Operations) -> KeyView<'k> {
    let view = KeyView::of(key, now);
    match operations.policy() {
        Some(policy) => view.with_routes(|name| policy.routes.has(name)),
        None => view,
    }
}

fn answer_page(page: &Page, found: &[StoredKey], now: UnixMillis) -> HttpResponse {
    let cursor = |found: &StoredKey| page::cursor(found.created_at, found.id.as_str());
    page.answer(found, |found| KeyView::of(found, now), cursor)
}

/// Refuses an expiry in the past. To end a key at once, revoke it.
fn require_future(end: Option<UnixMillis>, stamp: &Stamp) -> Result<(), Problem> {
    match end {
        Some(end) if end <= stamp.at => {
            let errors = vec![FieldError::at("/expires_at", "not in the future")];
            Err(Problem::new(
                Kind::ExpiryInThePast,
                "A key must expire in the future; to end it now, revoke it.",
            )
            .with(errors))
        }
        _ => Ok(()),
    }
}
