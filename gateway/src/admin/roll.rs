//! Rolling keys: a new key replaces one key, or all active keys of a consumer.

use std::time::Duration;

use utoipa::PartialSchema as _;

use crate::admin::body::{Body, Fields};
use crate::admin::endpoint::{Answered, Call, Endpoint};
use crate::admin::keys::Grace;
use crate::admin::problem::Problem;
use crate::admin::{created, find, text};
use crate::keys::{ConsumerId, KeyId, PlainKey};
use crate::store::{Roll, RollTarget, RolledKeys, StoreError, StoredAnswer};
use crate::views::RolledView;

/// Default grace period of replaced keys.
const DEFAULT_GRACE: Duration = Duration::from_hours(24);

/// Returns the operations that roll keys.
pub(super) fn endpoints() -> Vec<Endpoint> {
    let shown_once = "The new key inherits the scopes and the original expiry of the replaced one. Its plain text is in `key`, only in the first answer: a repetition with the same Idempotency-Key has `key_shown` false. The replaced keys expire after the grace period, which never extends their life; until then their responses carry `Deprecation` and `Sunset`.";
    let rolled = |endpoint: Endpoint| {
        endpoint.described(shown_once).answers(
            201,
            "The new key and the replaced ones.",
            "RolledKey",
            RolledView::schema(),
        )
    };
    vec![
        rolled(
            Endpoint::create("/v1/keys/{id}/roll", roll_key)
                .named("roll_key", "keys", "Replace a key by a new one")
                .refuses(&[(409, "The key is expired, revoked or disabled.")]),
        ),
        rolled(
            Endpoint::create("/v1/consumers/{id}/roll", roll_consumer)
                .named(
                    "roll_keys_of_consumer",
                    "keys",
                    "Replace all active keys of a consumer by a new one",
                )
                .refuses(&[(409, "The consumer has no active key.")]),
        ),
    ]
}

struct Rolling {
    grace: Duration,
}

impl Body for Rolling {
    const NAME: Option<&'static str> = Some("Roll");
    const MAY_BE_MISSING: bool = true;

    fn read(fields: &mut Fields) -> Option<Self> {
        let grace = "Grace period, the maximum remaining life of the replaced keys; 0 expires them at once; default: a day.";
        Some(Self {
            grace: fields
                .optional::<Grace>("grace_seconds", grace)
                .map_or(DEFAULT_GRACE, |grace| grace.0),
        })
    }
}

async fn roll_key(call: Call<KeyId, (), Rolling>) -> Answered {
    let target = RollTarget::Key(call.path);
    roll(call, target).await
}

async fn roll_consumer(call: Call<ConsumerId, (), Rolling>) -> Answered {
    find::consumer(&call.store, &call.path).await?;
    let target = RollTarget::Consumer(call.path);
    roll(call, target).await
}

async fn roll<P>(call: Call<P, (), Rolling>, target: RollTarget) -> Answered {
    let key =
        PlainKey::generate(&call.prefix).map_err(|error| Problem::from(StoreError::from(error)))?;
    let roll = Roll {
        target,
        digest: key.digest(),
        hint: key.hint(),
        grace: call.body.grace,
    };
    let now = call.now();
    let answer = |rolled: &RolledKeys, plain: Option<&str>| {
        let mut view = RolledView::of(rolled, now);
        (view.new.key, view.new.key_shown) = (plain, Some(plain.is_some()));
        StoredAnswer {
            location: format!("/v1/keys/{}", rolled.key.id),
            body: text(&view),
        }
    };
    // The stored answer omits the key: the store never contains one.
    let remembered = |rolled: &RolledKeys| answer(rolled, None);
    let rolled = call
        .store
        .roll_once(roll, call.creation.as_ref(), remembered, &call.stamp)
        .await?;
    Ok(created(rolled, |rolled| answer(rolled, Some(key.expose()))))
}
