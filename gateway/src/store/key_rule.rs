//! [`KeyRule`]: what a bucket says about the keys in it.

use std::str::FromStr;

use sqlx::AnyConnection;
use thiserror::Error;

use crate::keys::{Lifetime, MaxLiveKeys, UnixMillis};
use crate::store::attributes::replace;
use crate::store::columns::columns;
use crate::store::lifetimes::require_order;
use crate::store::{PlanAttributes, StoreError, StoredConsumer, buckets, plans};

/// Rules of a bucket for its keys; `None` for no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyRule {
    /// Lifetime of a new key without an expiry of its own.
    pub default_lifetime: Option<Lifetime>,
    /// Longest lifetime of a key.
    pub max_lifetime: Option<Lifetime>,
    /// Most live keys of one consumer.
    pub max_live: Option<MaxLiveKeys>,
    /// Time after which an unused key is reported or disabled.
    pub unused_after: Option<Lifetime>,
    /// What happens to such a key.
    pub unused_action: UnusedAction,
}

columns!(KeyRule {
    default_lifetime as "default_key_lifetime",
    max_lifetime as "max_key_lifetime",
    max_live as "max_live_keys",
    unused_after,
    unused_action
});

/// Edit of a [`KeyRule`]: `None` leaves a part as it is, `Some(None)` clears it.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyRuleEdit {
    /// Lifetime of a new key without an expiry of its own.
    pub default_lifetime: Option<Option<Lifetime>>,
    /// Longest lifetime of a key.
    pub max_lifetime: Option<Option<Lifetime>>,
    /// Most live keys of one consumer.
    pub max_live: Option<Option<MaxLiveKeys>>,
    /// Time after which an unused key is reported or disabled.
    pub unused_after: Option<Option<Lifetime>>,
    /// What happens to such a key.
    pub unused_action: Option<UnusedAction>,
}

/// What happens to keys that are unused for too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnusedAction {
    /// They are counted and logged.
    #[default]
    Report,
    /// They are disabled.
    Disable,
}

/// The text is not an [`UnusedAction`].
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("what happens to unused keys is `report` or `disable`")]
pub struct InvalidUnusedAction;

impl UnusedAction {
    /// Stored words, one for each action.
    pub const WORDS: [&str; 2] = ["report", "disable"];

    /// Returns the word that is stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Disable => "disable",
        }
    }
}

impl FromStr for UnusedAction {
    type Err = InvalidUnusedAction;

    fn from_str(word: &str) -> Result<Self, InvalidUnusedAction> {
        [Self::Report, Self::Disable]
            .into_iter()
            .find(|action| action.as_str() == word)
            .ok_or(InvalidUnusedAction)
    }
}

impl KeyRuleEdit {
    /// Applies the edit.
    ///
    /// # Errors
    /// A default lifetime above the longest.
    pub(super) fn apply(self, rule: &mut KeyRule) -> Result<(), StoreError> {
        self.set(rule);
        rule.require_order()
    }

    /// Sets what is given.
    pub fn set(self, rule: &mut KeyRule) {
        replace(&mut rule.default_lifetime, self.default_lifetime);
        replace(&mut rule.max_lifetime, self.max_lifetime);
        replace(&mut rule.max_live, self.max_live);
        replace(&mut rule.unused_after, self.unused_after);
        replace(&mut rule.unused_action, self.unused_action);
    }
}

impl KeyRule {
    /// Refuses a default lifetime above the longest.
    pub(super) fn require_order(&self) -> Result<(), StoreError> {
        require_order(self.default_lifetime, self.max_lifetime)
    }

    /// Returns the rule for the keys of `owner`, with the lifetimes of its plan.
    pub(super) async fn of(
        connection: &mut AnyConnection,
        owner: &StoredConsumer,
    ) -> Result<Self, StoreError> {
        let rule = buckets::require(connection, &owner.bucket).await?.keys;
        let plan = plans::of(connection, owner.attributes.plan.as_ref()).await?;
        Ok(match plan {
            None => rule,
            Some(plan) => rule.with(&plan.attributes),
        })
    }

    /// Adds the lifetimes of a plan: its default precedes, and of two longest the shorter counts.
    fn with(self, plan: &PlanAttributes) -> Self {
        let longest = [self.max_lifetime, plan.max_key_lifetime];
        Self {
            default_lifetime: plan.default_key_lifetime.or(self.default_lifetime),
            max_lifetime: longest.into_iter().flatten().min(),
            ..self
        }
    }

    /// Returns the expiry of a new key that names none: the default lifetime, at most the longest.
    pub(super) fn default_expiry(&self, now: UnixMillis) -> Option<UnixMillis> {
        let longest = self.max_lifetime;
        let default = self
            .default_lifetime
            .map(|default| longest.map_or(default, |longest| default.min(longest)));
        default
            .or(longest)
            .map(|lifetime| now.after(lifetime.get()))
    }

    /// Returns `end` for a key made at `now`, brought forward to the longest lifetime.
    pub(super) fn within_longest(
        &self,
        end: Option<UnixMillis>,
        now: UnixMillis,
    ) -> Option<UnixMillis> {
        let last = self.max_lifetime.map(|longest| now.after(longest.get()));
        [end, last].into_iter().flatten().min()
    }

    /// Refuses an expiry beyond the longest lifetime of a key made at `made_at`.
    pub(super) fn require_within_longest(
        &self,
        end: Option<UnixMillis>,
        made_at: UnixMillis,
    ) -> Result<(), StoreError> {
        match self.max_lifetime {
            Some(longest) if end.is_none_or(|end| end > made_at.after(longest.get())) => {
                Err(StoreError::LifetimeTooLong { longest })
            }
            _ => Ok(()),
        }
    }

    /// Refuses one more live key of `owner`. A key that a roll deprecated does not count, since its
    /// successor does.
    pub(super) async fn require_room(
        &self,
        connection: &mut AnyConnection,
        owner: &StoredConsumer,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let Some(most) = self.max_live else {
            return Ok(());
        };
        let live: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM keys WHERE consumer_id = $1 AND state <> 'revoked' AND deprecated_at IS NULL \
             AND (expires_at IS NULL OR expires_at > $2)",
        )
        .bind(owner.id.as_str())
        .bind(now.0)
        .fetch_one(connection)
        .await?;
        if live < i64::from(most.get()) {
            return Ok(());
        }
        Err(StoreError::TooManyKeys {
            consumer: owner.name.to_string(),
            most,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_of_bucket_and_plan_come_together() {
        let days = |text: &str| (!text.is_empty()).then(|| text.parse::<Lifetime>().unwrap());
        for (bucket, plan, default, longest) in [
            (("", ""), ("", ""), "", ""),
            (("90d", ""), ("", ""), "90d", ""),
            (("90d", "1d"), ("", ""), "1d", "1d"),
            (("", "365d"), ("", ""), "365d", "365d"),
            (("90d", "365d"), ("30d", ""), "30d", "365d"),
            (("90d", "365d"), ("", "100d"), "90d", "100d"),
            (("90d", "365d"), ("", "60d"), "60d", "60d"),
            (("90d", "365d"), ("400d", "500d"), "365d", "365d"),
        ] {
            let rule = KeyRule {
                default_lifetime: days(bucket.0),
                max_lifetime: days(bucket.1),
                ..KeyRule::default()
            };
            let rule = rule.with(&PlanAttributes {
                default_key_lifetime: days(plan.0),
                max_key_lifetime: days(plan.1),
                ..PlanAttributes::default()
            });
            let now = UnixMillis(1_000);
            let after = |text: &str| days(text).map(|days| now.after(days.get()));
            assert_eq!(
                rule.default_expiry(now),
                after(default),
                "{bucket:?} {plan:?}"
            );
            assert_eq!(
                rule.within_longest(None, now),
                after(longest),
                "{bucket:?} {plan:?}"
            );
        }
    }

    #[test]
    fn a_key_ends_within_the_longest_lifetime() {
        let rule = KeyRule {
            max_lifetime: Some("10s".parse().unwrap()),
            ..KeyRule::default()
        };
        let (made, last) = (UnixMillis(1_000), UnixMillis(11_000));
        for (end, is_within) in [
            (Some(last), true),
            (Some(UnixMillis(11_001)), false),
            (Some(UnixMillis(1_001)), true),
            (None, false),
        ] {
            assert_eq!(
                rule.require_within_longest(end, made).is_ok(),
                is_within,
                "{end:?}"
            );
            assert!(rule.within_longest(end, made) <= Some(last));
        }
        assert!(
            KeyRule::default()
                .require_within_longest(None, made)
                .is_ok()
        );
    }
}
