//! `POST /v1/keys/verify`: verifies a key for services that are not behind the gateway. Answered
//! from memory, like requests.

use std::net::IpAddr;

use actix_web::HttpResponse;
use serde::Serialize;
use serde_json::Value;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema as _, ToSchema};

use crate::admin::body::{Body, Fields};
use crate::admin::endpoint::{Answered, Ask, Endpoint, check_role};
use crate::admin::limits::{LimitView, views};
use crate::admin::member::{Errors, Member, PresentedKey, Units};
use crate::admin::path::PathId as _;
use crate::admin::problem::{FieldError, Problem};
use crate::admin::query::Guard;
use crate::auth::demand::{Attempt, Demand, Denial};
use crate::auth::key_sources::KeySources;
use crate::auth::methods::Methods;
use crate::http::refusal::Refusal;
use crate::keys::address::parse_address;
use crate::keys::{
    AllowedMethod, CallerAddress, ConsumerId, CustomId, KeyId, KnownKey, Metadata, RouteName,
    Scopes, UnixMillis,
};
use crate::limits::{Holder, MAX_BURST, Purpose};
use crate::pipeline::{Policy, tell_of_quotas};
use crate::telemetry::metrics::Metrics;
use crate::views::schemas;

/// The operation.
pub(super) fn endpoint() -> Endpoint {
    Endpoint::ask("/v1/keys/verify", verify)
        .named("verify_key", "verification", "Verify a key")
        .described(
            "Answered from memory, as current as the decisions on requests. Open to any token, with `cost` to those of role `admin`. The status is 200 for an invalid key too: see `valid` and `code`. A tag precondition reads the consumer's tags from the database.",
        )
        .answers(200, "The result of the verification.", "Verification", Verification::schema())
        .refuses(&[(403, "The token is read-only and `cost` is not 0, or a browser sends a cross-origin request."), (412, "The consumer of the key lacks one of these tags.")])
}

struct Question {
    key: PresentedKey,
    scopes: Scopes,
    address: Option<IpAddr>,
    method: Option<AllowedMethod>,
    route: Option<RouteName>,
    cost: Cost,
}

/// Units to take of the limits.
type Cost = Units<0, MAX_BURST>;

impl Body for Question {
    const NAME: Option<&'static str> = Some("VerifyKey");
    const KEYS: &'static [&'static str] = &["key"];

    fn read(fields: &mut Fields) -> Option<Self> {
        let key = fields.required("key", "The key as presented; neither stored nor logged.");
        let scopes = fields
            .optional("scopes", "Required scopes, all of them.")
            .unwrap_or_default();
        let address = fields.optional("address", "Address of the key's user; default: any.");
        let method = fields.optional("method", "Method that the key is used with; default: any.");
        let route = fields.optional(
            "route",
            "Name of the route that the key is used on, which this gateway need not have; default: any.",
        );
        let cost = fields
            .optional("cost", "Units to take of every quota, and of every limit by key, consumer and tag that holds for all routes; default: 0, which takes none. More needs a token of role `admin`.")
            .unwrap_or_default();
        Some(Self {
            key: key?,
            scopes,
            address,
            method,
            route,
            cost,
        })
    }
}

impl Member for IpAddr {
    fn schema() -> Schema {
        schemas::ip_address()
    }

    fn read(value: Value, pointer: &str, errors: &mut Errors) -> Option<Self> {
        let read = value.as_str().and_then(parse_address);
        if read.is_none() {
            errors.list.push(FieldError::at(
                pointer,
                "an IP address belongs here, for example `192.0.2.1` or `2001:db8::1`",
            ));
        }
        read
    }
}

/// Result of verifying a key.
#[derive(Serialize, ToSchema)]
struct Verification<'k> {
    /// Whether to accept the key.
    valid: bool,
    /// `valid`, or the reason for refusal: a code of the gateway's refusals.
    #[schema(schema_with = codes)]
    code: &'static str,
    /// The key, if known.
    #[schema(required, inline)]
    key: Option<VerifiedKey>,
    /// Owner of the key.
    #[schema(required, inline)]
    consumer: Option<VerifiedConsumer<'k>>,
    /// What is used of the limits of the key, as this gateway counts it.
    #[schema(inline)]
    limits: Vec<LimitView>,
}

#[derive(Serialize, ToSchema)]
struct VerifiedKey {
    /// Public id.
    #[schema(schema_with = schemas::key_id)]
    id: KeyId,
    /// Granted scopes.
    #[schema(schema_with = schemas::scopes)]
    scopes: Scopes,
    /// Expiry; null for a key that never expires.
    #[schema(required, schema_with = schemas::moment_or_null)]
    expires_at: Option<UnixMillis>,
    /// Start of the deprecation; null for a key that needs no replacement.
    #[schema(required, schema_with = schemas::moment_or_null)]
    deprecated_at: Option<UnixMillis>,
}

#[derive(Serialize, ToSchema)]
struct VerifiedConsumer<'k> {
    /// Id of the consumer.
    #[schema(schema_with = schemas::consumer_id)]
    id: ConsumerId,
    /// Namespace of the name.
    #[schema(schema_with = schemas::bucket_name)]
    bucket: &'k str,
    /// Name, unique in the bucket.
    #[schema(schema_with = schemas::consumer_name)]
    name: &'k str,
    /// Id from your own system.
    #[schema(required, schema_with = schemas::custom_id_or_null)]
    custom_id: Option<&'k str>,
    /// Metadata for the origin.
    #[schema(required, schema_with = schemas::metadata_or_null)]
    metadata: Option<Value>,
}

/// The `code` of an active key.
const VALID: &str = "valid";

/// The `code` of an active key with a limit that denies the cost.
const RATE_LIMITED: &str = "rate_limited";

/// The `code` of an active key with a quota that denies the cost, or that is used up.
const QUOTA_EXCEEDED: &str = "quota_exceeded";

/// Returns the schema of `code`.
fn codes() -> Schema {
    let mut codes = vec![VALID];
    codes.extend(Denial::OF_A_KEY.map(code_of));
    codes.dedup();
    codes.push(code_of(Denial::NotAccepted));
    codes.extend([RATE_LIMITED, QUOTA_EXCEEDED]);
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(codes))
        .into()
}

async fn verify(ask: Ask<Guard, Question>) -> Answered {
    // Taking units is a change.
    check_role(ask.body.cost.0 == 0, ask.role)?;
    let keys = ask
        .operations
        .current_keys()
        .ok_or_else(Problem::store_unavailable)?;
    let Question {
        key,
        scopes,
        address,
        method,
        route,
        cost: Units(cost),
    } = ask.body;
    let is_token = key.is_token();
    let known = key
        .digest(ask.operations.prefix())
        .and_then(|digest| keys.lookup(&digest));
    // Tags are not in memory. An unknown key has no consumer.
    if let Some(known) = &known
        && !ask.query.is_empty()
    {
        let consumer = *known.consumer().id;
        ask.operations
            .with_store(async |store| {
                ask.query.check(&consumer.owner_tags(&store).await?)?;
                Ok(HttpResponse::NoContent().finish())
            })
            .await?;
    }
    let demand = Demand {
        scopes: scopes.to_list(),
        ..Demand::ANY_KEY
    };
    // Tokens are for the gateway alone: whoever forwards one here has not checked it.
    let none = match is_token {
        true => Denial::NotAccepted,
        false => Denial::Unknown,
    };
    let admitted = known.as_ref().ok_or(none).and_then(|known| {
        let attempt = Attempt {
            address: address.map(CallerAddress::from),
            method: method.map(AllowedMethod::as_str),
            route: route.as_ref().map(RouteName::as_str),
        };
        demand.admits(known, UnixMillis::now(), &attempt)
    });
    let policy = ask.operations.policy();
    let limited = known.as_ref().zip(policy.as_deref());
    let denied = match limited.filter(|_| admitted.is_ok()) {
        Some((known, policy)) => take(policy, known, cost, ask.operations.metrics()).await,
        None => None,
    };
    Ok(HttpResponse::Ok().json(Verification {
        valid: admitted.is_ok() && denied.is_none(),
        code: match admitted {
            Ok(()) => denied.unwrap_or(VALID),
            Err(denial) => code_of(denial),
        },
        key: known.as_ref().map(|known| VerifiedKey {
            id: *known.id(),
            scopes: known.scopes(),
            expires_at: known.expires_at(),
            deprecated_at: known.deprecated_at(),
        }),
        consumer: known
            .as_ref()
            .map(KnownKey::consumer)
            .map(|consumer| VerifiedConsumer {
                id: *consumer.id,
                bucket: consumer.bucket.as_str(),
                name: consumer.name.as_str(),
                custom_id: consumer.custom_id.map(CustomId::as_str),
                metadata: consumer.metadata.map(Metadata::to_json),
            }),
        limits: limited
            .map(|(known, policy)| views(policy, Holder::Known(known)))
            .unwrap_or_default(),
    }))
}

/// Takes `cost` of the limits and quotas of `key`, or of none if one denies; returns its code then.
/// With a cost of 0, asks the quotas whether a unit is left.
async fn take(
    policy: &Policy,
    key: &KnownKey,
    cost: u64,
    metrics: &Metrics,
) -> Option<&'static str> {
    let holder = Holder::Known(key);
    let mut charge = None;
    if cost > 0 {
        let verdict = policy.limits.decide_for(holder, cost).await;
        if verdict.denied.is_some() {
            return Some(RATE_LIMITED);
        }
        charge = verdict.charge;
    }
    let (units, purpose) = match cost {
        0 => (1, Purpose::Look),
        cost => (cost, Purpose::Take),
    };
    let verdict = policy
        .quotas
        .reserve(key, units, UnixMillis::now(), purpose);
    tell_of_quotas(&verdict, |count| metrics.beside(count));
    verdict.denied?;
    if let Some(charge) = charge {
        policy.limits.give_back_for(holder, charge);
    }
    Some(QUOTA_EXCEEDED)
}

/// Returns the code of the equivalent refusal of a request.
fn code_of(denial: Denial) -> &'static str {
    let (methods, sources) = (Methods::KEYS, KeySources::default());
    Refusal::of_denial(denial, &Demand::ANY_KEY, &methods, &sources).code()
}
