//! `GET /v1/usage`

use std::time::Duration;

use actix_web::HttpResponse;
use utoipa::PartialSchema as _;

use crate::admin::endpoint::{Answered, Call, Endpoint};
use crate::admin::find;
use crate::admin::path::PathId as _;
use crate::admin::problem::{FieldError, Kind, Problem};
use crate::admin::query::{Guard, Parameters, Query, require_bucket};
use crate::keys::{BucketName, ConsumerId, KeyId, UnixMillis, When};
use crate::store::{Period, UsageOf, UsageRange};
use crate::views::UsageView;

/// Default length of the range.
const DEFAULT_RANGE: Duration = Duration::from_hours(24);

/// The operation.
pub(super) fn endpoint() -> Endpoint {
    Endpoint::get("/v1/usage", show)
        .named("show_usage", "usage", "Show the usage of keys, by hour or day")
        .described(
            "Covers all keys, including deleted ones, unless `key_id`, `consumer_id` or `bucket` is given. Counts are at most a second old.",
        )
        .answers(200, "The usage, with a row for each period.", "Usage", UsageView::schema())
        .made_of::<UsageView<'_>>()
        .refuses(&[
            (404, "There is no such consumer or bucket."),
            (412, "The consumer lacks one of these tags."),
            (422, "The range is empty or has too many periods, or several subjects are given."),
        ])
}

struct Wanted {
    key: Option<KeyId>,
    consumer: Option<ConsumerId>,
    bucket: Option<BucketName>,
    from: Option<When>,
    to: Option<When>,
    by: Period,
    top: Option<u32>,
    guard: Guard,
}

impl Query for Wanted {
    fn read(parameters: &mut Parameters) -> Self {
        Self {
            key: parameters.optional("key_id", "Only this key, even a deleted one."),
            consumer: parameters.optional("consumer_id", "Only keys of this consumer."),
            bucket: parameters.optional("bucket", "Only keys of this bucket."),
            from: parameters.optional("from", "Start of the range; default: a day before `to`."),
            to: parameters.optional("to", "End of the range; default: now."),
            by: parameters
                .optional("by", "Granularity; hours and days are in UTC.")
                .unwrap_or_default(),
            top: parameters.limit("top", "Also list this many keys with the most requests."),
            guard: Guard::read(parameters),
        }
    }
}

async fn show(call: Call<(), Wanted, ()>) -> Answered {
    let wanted = &call.query;
    let of = match (wanted.key, wanted.consumer, &wanted.bucket) {
        (None, None, None) => UsageOf::All,
        (Some(key), None, None) => UsageOf::Key(key),
        (None, Some(consumer), None) => UsageOf::Consumer(consumer),
        (None, None, Some(bucket)) => UsageOf::Bucket(bucket.clone()),
        _ => {
            return Err(unfollowable(
                "key_id",
                "one of key_id, consumer_id and bucket can be given, not several",
            ));
        }
    };
    match &of {
        _ if wanted.guard.is_empty() => {}
        UsageOf::Key(key) => wanted.guard.check(&key.owner_tags(&call.store).await?)?,
        UsageOf::Consumer(consumer) => {
            wanted
                .guard
                .check(&consumer.owner_tags(&call.store).await?)?;
        }
        UsageOf::All | UsageOf::Bucket(_) => {
            return Err(unfollowable(
                "tag",
                "a tag precondition needs one consumer: give key_id or consumer_id too",
            ));
        }
    }
    match &of {
        UsageOf::Consumer(consumer) => drop(find::consumer(&call.store, consumer).await?),
        UsageOf::Bucket(bucket) => require_bucket(&call.store, Some(bucket)).await?,
        UsageOf::All | UsageOf::Key(_) => {}
    }
    // The current millisecond is included.
    let to = wanted
        .to
        .map_or(UnixMillis(call.now().0.saturating_add(1)), |to| {
            to.ago(call.now())
        });
    let back = i64::try_from(DEFAULT_RANGE.as_millis()).unwrap_or(i64::MAX);
    let from = wanted
        .from
        .map_or(UnixMillis(to.0.saturating_sub(back)), |from| {
            from.ago(call.now())
        });
    let range = UsageRange::new(from, to, wanted.by)
        .map_err(|error| unfollowable("from", error.to_string()))?;
    let report = call.store.usage(&of, range).await?;
    let top = match wanted.top {
        Some(limit) => Some(call.store.top_keys(&of, range, limit).await?),
        None => None,
    };
    Ok(HttpResponse::Ok().json(UsageView::of(&report, top.as_deref())))
}

/// Valid parameters whose combination has no result.
fn unfollowable(parameter: &str, detail: impl Into<String>) -> Problem {
    let detail = detail.into();
    let errors = vec![FieldError::of(parameter, detail.clone())];
    Problem::new(
        Kind::UnfollowableQuery,
        format!("The parameters do not go together: {detail}."),
    )
    .with(errors)
}
