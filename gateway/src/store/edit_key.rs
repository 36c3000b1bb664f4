//! Edits of existing keys.

use serde_json::json;
use sqlx::AssertSqlSafe;

use crate::keys::{KeyId, KeyState, KeyStatus, UnixMillis};
use crate::store::columns::{self, columns};
use crate::store::connections::limited;
use crate::store::journal::{self, Action, Subject};
use crate::store::{
    KeyAttributes, KeyEdit, KeyRule, Stamp, Store, StoreError, StoredKey, WRITE_LIMIT, consumers,
    keys,
};

/// Mutable columns of `keys`.
struct Changed {
    state: KeyState,
    attributes: KeyAttributes,
    updated_at: UnixMillis,
}

columns!(Changed {
    state,
    attributes,
    updated_at
});

impl Store {
    /// Changes a key. An edit without effect writes nothing. Refuses revoked keys, and refuses a
    /// later expiry for a rolled key.
    pub async fn update_key(
        &self,
        id: &KeyId,
        edit: KeyEdit,
        stamp: &Stamp,
    ) -> Result<StoredKey, StoreError> {
        limited(WRITE_LIMIT, async {
        let mut transaction = self.begin_write().await?;
        let before = keys::guarded(&mut transaction, id, stamp).await?;
        let mut after = before.clone();
        let (changed, action) = apply(edit, &mut after);
        let Some(action) = action else {
            return Ok(before);
        };
        if before.state == KeyState::Revoked {
            return Err(StoreError::KeyRevoked(*id));
        }
        let is_longer = before
            .attributes
            .expires_at
            .is_some_and(|end| is_later_than(after.attributes.expires_at, end));
        if before.rolled.is_some() && is_longer {
            return Err(StoreError::KeyEnding(*id));
        }
        if is_longer {
            let owner = consumers::by_id(&mut transaction, &before.consumer).await?;
            let owner = owner.ok_or_else(|| consumers::unknown(&before.consumer))?;
            let rule = KeyRule::of(&mut transaction, &owner).await?;
            rule.require_within_longest(after.attributes.expires_at, before.created_at)?;
            if before.status(stamp.at) == KeyStatus::Expired {
                rule.require_room(&mut transaction, &owner, stamp.at)
                    .await?;
            }
        }
        const BOUND: [&str; 4] = ["scopes", "limits", "quotas", "max_in_flight"];
        if changed.iter().any(|name| BOUND.contains(name)) {
            let owner = consumers::by_id(&mut transaction, &before.consumer).await?;
            let owner = owner.ok_or_else(|| consumers::unknown(&before.consumer))?;
            keys::require_within(&mut transaction, &owner, &after.attributes).await?;
        }
        after.updated_at = stamp.at;
        let new = Changed {
            state: after.state,
            attributes: after.attributes.clone(),
            updated_at: after.updated_at,
        };
        let query = sqlx::query(AssertSqlSafe(columns::update::<Changed>("keys")));
        columns::bind(query.bind(id.as_str()), &new)
            .execute(&mut *transaction)
            .await?;
        let detail = json!({ "changed": changed, "before": before.state.as_str(), "expires_at": after.attributes.expires_at });
        journal::record(&mut transaction, stamp, action, Subject::Key(id), &detail).await?;
        transaction.commit_of(Some(id.as_str())).await?;
        Ok(after)
}).await
    }
}

fn is_later_than(end: Option<UnixMillis>, other: UnixMillis) -> bool {
    end.is_none_or(|end| end > other)
}

/// Applies the edit to `stored`; returns the changed attributes and the audit action, `None`
/// without a change.
fn apply(edit: KeyEdit, stored: &mut StoredKey) -> (Vec<&'static str>, Option<Action>) {
    let disabled = edit.disabled;
    let mut changed = edit.apply(&mut stored.attributes);
    let mut action = (!changed.is_empty()).then_some(Action::KeyUpdate);
    // A switched state names the audit row, whatever else changed: searches for it use that name.
    match (disabled, stored.state) {
        (Some(true), KeyState::Active | KeyState::Revoked) => {
            (stored.state, action) = (KeyState::Disabled, Some(Action::KeyDisable));
            changed.push("disabled");
        }
        (Some(false), KeyState::Disabled | KeyState::Revoked) => {
            (stored.state, action) = (KeyState::Active, Some(Action::KeyEnable));
            changed.push("disabled");
        }
        (None, _) | (Some(true), KeyState::Disabled) | (Some(false), KeyState::Active) => {}
    }
    (changed, action)
}
