//! `/v1/consumers/{id}/limits` and `/v1/keys/{id}/limits`: what has been used of rate limits, as
//! this gateway counts it.

use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::Method;
use serde::Serialize;
use utoipa::{PartialSchema as _, ToSchema};

use crate::admin::body::{Body, Fields};
use crate::admin::endpoint::{Answered, Call, Endpoint};
use crate::admin::find;
use crate::admin::problem::Problem;
use crate::keys::allowance::{LimitName, window_text};
use crate::keys::{ConsumerId, KeyId, UnixMillis};
use crate::limits::{By, Holder, LimitUse, OfRoute};
use crate::pipeline::Policy;
use crate::store::{StoredConsumer, StoredKey};
use crate::views::schemas;

const TAG: &str = "limits";

const RESET: &str = "As if nothing had been used; with `name`, of that limit alone. Every gateway makes it, within a second.";

/// Longest wait until this gateway has made a reset, before it says what is used.
const RESET_TIMEOUT: Duration = Duration::from_secs(2);

/// The operations on limits.
pub(super) fn endpoints() -> Vec<Endpoint> {
    let limits = LimitsView::schema;
    vec![
        Endpoint::get("/v1/consumers/{id}/limits", of_consumer)
            .named(
                "limits_of_consumer",
                TAG,
                "Show what a consumer has used of its limits",
            )
            .described("Limits by consumer and tag, and the consumer's own.")
            .answers(200, "The limits.", "Limits", limits()),
        Endpoint::get("/v1/keys/{id}/limits", of_key)
            .named(
                "limits_of_key",
                TAG,
                "Show what a key has used of its limits",
            )
            .described("Limits by key, consumer and tag, and those of their own.")
            .answers(200, "The limits.", "Limits", limits()),
        Endpoint::write(
            Method::POST,
            "/v1/consumers/{id}/limits/reset",
            reset_of_consumer,
        )
        .named(
            "reset_limits_of_consumer",
            TAG,
            "Reset the limits of a consumer",
        )
        .described(RESET)
        .answers(200, "The limits.", "Limits", limits()),
        Endpoint::write(Method::POST, "/v1/keys/{id}/limits/reset", reset_of_key)
            .named("reset_limits_of_key", TAG, "Reset the limits of a key")
            .described(RESET)
            .answers(200, "The limits.", "Limits", limits()),
    ]
}

/// The limits of a key or a consumer.
#[derive(Serialize, ToSchema)]
struct LimitsView {
    /// Limits, by name.
    #[schema(inline)]
    data: Vec<LimitView>,
}

/// One limit.
#[derive(Serialize, ToSchema)]
pub(super) struct LimitView {
    /// Name.
    name: String,
    /// What is counted apart.
    by: Vec<String>,
    /// Route, for a limit that counts each route apart; else null.
    #[schema(required)]
    route: Option<String>,
    /// Units per window, of all gateways.
    #[schema(minimum = 1)]
    limit: u64,
    /// Length of the window.
    window: String,
    /// Units used.
    #[schema(minimum = 0)]
    used: u64,
    /// Units left.
    #[schema(minimum = 0)]
    remaining: u64,
    /// Time at which all are there again, if nothing is used meanwhile.
    #[schema(schema_with = schemas::moment)]
    resets_at: UnixMillis,
    /// Whether the limit denies requests.
    enforced: bool,
    /// Who counted: `gateway`, the one that answers.
    scope: String,
}

struct Reset {
    name: Option<LimitName>,
}

impl Body for Reset {
    const NAME: Option<&'static str> = Some("ResetLimits");
    const MAY_BE_MISSING: bool = true;

    fn read(fields: &mut Fields) -> Option<Self> {
        Some(Self {
            name: fields.optional("name", "Name of the limit; default: all."),
        })
    }
}

async fn of_consumer(call: Call<ConsumerId, (), ()>) -> Answered {
    let consumer = find::consumer(&call.store, &call.path).await?;
    let party = call.store.with_plan(consumer, None).await?;
    show(call.policy()?, party.holder())
}

async fn of_key(call: Call<KeyId, (), ()>) -> Answered {
    let key = find::key(&call.store, &call.path).await?;
    let consumer = find::consumer(&call.store, &key.consumer).await?;
    let party = call.store.with_plan(consumer, Some(key)).await?;
    show(call.policy()?, party.holder())
}

async fn reset_of_consumer(call: Call<ConsumerId, (), Reset>) -> Answered {
    let consumer = find::consumer(&call.store, &call.path).await?;
    reset(&call, consumer, None).await
}

async fn reset_of_key(call: Call<KeyId, (), Reset>) -> Answered {
    let key = find::key(&call.store, &call.path).await?;
    let consumer = find::consumer(&call.store, &key.consumer).await?;
    reset(&call, consumer, Some(key)).await
}

async fn reset<P>(
    call: &Call<P, (), Reset>,
    consumer: StoredConsumer,
    key: Option<StoredKey>,
) -> Answered {
    let (store, name) = (&call.store, call.body.name.as_ref());
    let id = key.as_ref().map(|key| &key.id);
    let recorded =
        store.record_limit_reset(&consumer.id, id, name.map(LimitName::as_str), &call.stamp);
    let revision = recorded.await?;
    let policy = call.policy()?;
    let made = policy.limits.memory().reset_made(revision);
    // A gateway that the feed does not reach says what it counts.
    let _ = tokio::time::timeout(RESET_TIMEOUT, made).await;
    let party = store.with_plan(consumer, key).await?;
    show(policy, party.holder())
}

fn routes(policy: &Policy) -> Vec<(&Arc<str>, &OfRoute)> {
    let routes = policy.routes.iter();
    routes.map(|route| (&route.name, &route.in_force)).collect()
}

fn show(policy: Arc<Policy>, holder: Holder<'_>) -> Result<HttpResponse, Problem> {
    let data = views(&policy, holder);
    Ok(HttpResponse::Ok().json(LimitsView { data }))
}

/// Returns the limits of `holder`.
pub(super) fn views(policy: &Policy, holder: Holder<'_>) -> Vec<LimitView> {
    let uses = policy.limits.uses(holder, &routes(policy));
    uses.into_iter().map(LimitView::of).collect()
}

impl LimitView {
    fn of(limit: LimitUse) -> Self {
        Self {
            name: limit.name.to_string(),
            by: limit.by.iter().map(By::to_string).collect(),
            route: limit.route.map(|route| route.to_string()),
            limit: limit.limit,
            window: window_text(limit.window),
            used: limit.used,
            remaining: limit.remaining,
            resets_at: UnixMillis(limit.free_at.unix_millis()),
            enforced: limit.enforced,
            scope: "gateway".to_owned(),
        }
    }
}
