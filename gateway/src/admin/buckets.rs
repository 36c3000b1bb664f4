//! `/v1/buckets`

use actix_web::HttpResponse;
use actix_web::http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use utoipa::PartialSchema as _;

use crate::admin::body::{Body, Fields};
use crate::admin::endpoint::{Answered, Call, Endpoint};
use crate::admin::keys::Grace;
use crate::admin::page::{self, Page};
use crate::admin::problem::{Kind, Problem};
use crate::admin::query::{Parameters, Query};
use crate::admin::{created, text};
use crate::keys::{BucketName, Lifetime, MaxLiveKeys};
use crate::store::{
    BucketEdit, KeyRule, KeyRuleEdit, LeakRule, NewBucket, StoredAnswer, StoredBucket,
};
use crate::views::BucketView;

const TAG: &str = "buckets";
/// What a name escapes as one segment of a path. Also the full stop: `.` and `..` are special
/// segments.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'~');
const ORDER: &str = "The default lifetime is above the longest.";

/// The operations on buckets.
pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/v1/buckets", list)
            .named("list_buckets", TAG, "List buckets")
            .described("By name.")
            .answers(
                200,
                "A page of buckets.",
                "BucketPage",
                page::schema("Bucket", page::name_cursor_schema()),
            ),
        Endpoint::create("/v1/buckets", create)
            .named("create_bucket", TAG, "Create a bucket")
            .answers(201, "The created bucket.", "Bucket", BucketView::schema())
            .refuses(&[(422, ORDER)]),
        Endpoint::get("/v1/buckets/{name}", show)
            .named("show_bucket", TAG, "Show a bucket")
            .answers(200, "The bucket.", "Bucket", BucketView::schema()),
        Endpoint::write(Method::PATCH, "/v1/buckets/{name}", update)
            .named(
                "update_bucket",
                TAG,
                "Change the rules of a bucket for its keys",
            )
            .described("A merge patch (RFC 7396). Lifetimes and the number of live keys count for keys that are created or changed from then on.")
            .answers(200, "The changed bucket.", "Bucket", BucketView::schema())
            .refuses(&[(422, ORDER)]),
    ]
}

struct List {
    page: Page,
}

impl Query for List {
    fn read(parameters: &mut Parameters) -> Self {
        Self {
            page: parameters.page_by_name(),
        }
    }
}

impl Body for NewBucket {
    const NAME: Option<&'static str> = Some("NewBucket");

    fn read(fields: &mut Fields) -> Option<Self> {
        let name = fields.required("name", "Name of the bucket, immutable.");
        let BucketEdit {
            leak_policy,
            leak_grace,
            keys: edit,
        } = read_edit(fields);
        let usual = LeakRule::default();
        let leaks = LeakRule {
            policy: leak_policy.unwrap_or(usual.policy),
            grace: leak_grace.unwrap_or(usual.grace),
        };
        let mut keys = KeyRule::default();
        edit.set(&mut keys);
        Some(Self {
            name: name?,
            leaks,
            keys,
        })
    }
}

impl Body for BucketEdit {
    const NAME: Option<&'static str> = Some("BucketEdit");

    fn read(fields: &mut Fields) -> Option<Self> {
        Some(read_edit(fields))
    }
}

fn read_edit(fields: &mut Fields) -> BucketEdit {
    let grace = "Grace period under the policy `roll`.";
    BucketEdit {
        leak_policy: fields.optional("leak_policy", "Action on keys reported as leaked."),
        leak_grace: fields
            .optional::<Grace>("leak_grace_seconds", grace)
            .map(|grace| grace.0),
        keys: KeyRuleEdit {
            default_lifetime: fields.nullable::<Lifetime>(
                "default_key_lifetime_seconds",
                "Lifetime of a new key without an expiry of its own; null for none.",
            ),
            max_lifetime: fields.nullable::<Lifetime>(
                "max_key_lifetime_seconds",
                "Longest lifetime of a key; null for none.",
            ),
            max_live: fields.nullable::<MaxLiveKeys>(
                "max_live_keys",
                "Most live keys of one consumer; null for any number.",
            ),
            unused_after: fields.nullable::<Lifetime>(
                "unused_after_seconds",
                "Time after which an unused key is reported or disabled; null for never.",
            ),
            unused_action: fields.optional("unused_action", "What happens to unused keys."),
        },
    }
}

async fn list(call: Call<(), List, ()>) -> Answered {
    let List { page } = &call.query;
    let found = call
        .store
        .buckets(&page.after_name(), page.wanted())
        .await?;
    Ok(page.answer(&found, BucketView::of, |found| {
        page::name_cursor(found.name.as_str())
    }))
}

async fn create(call: Call<(), (), NewBucket>) -> Answered {
    let answer = |made: &StoredBucket| StoredAnswer {
        location: format!(
            "/v1/buckets/{}",
            utf8_percent_encode(made.name.as_str(), ESCAPED)
        ),
        body: text(&BucketView::of(made)),
    };
    let made = call
        .store
        .create_bucket_once(call.body, call.creation.as_ref(), answer, &call.stamp)
        .await?;
    Ok(created(made, answer))
}

async fn show(call: Call<BucketName, (), ()>) -> Answered {
    let found = call.store.bucket(&call.path).await?;
    let found = found.ok_or_else(|| Problem::new(Kind::NotFound, "There is no such bucket."))?;
    Ok(HttpResponse::Ok().json(BucketView::of(&found)))
}

async fn update(call: Call<BucketName, (), BucketEdit>) -> Answered {
    let after = call
        .store
        .update_bucket(&call.path, call.body, &call.stamp)
        .await?;
    Ok(HttpResponse::Ok().json(BucketView::of(&after)))
}
