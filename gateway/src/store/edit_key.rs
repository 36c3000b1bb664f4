//! Changing a key that exists.

use serde_json::json;

use crate::keys::{Description, KeyId, KeyState, Scopes, UnixMillis};
use crate::store::connections::limited;
use crate::store::journal::{self, Action, Subject};
use crate::store::{Stamp, Store, StoreError, StoredKey, WRITE_LIMIT, consumers, keys};

/// What to change of a key; `None` leaves a part as it is, `Some(None)` empties it.
#[derive(Clone, Debug, Default)]
pub struct KeyEdit {
    /// Its note.
    pub description: Option<Option<Description>>,
    /// When it ends; empty is never.
    pub expires_at: Option<Option<UnixMillis>>,
    /// All its scopes, within its consumer's; empty is all of those.
    pub scopes: Option<Option<Scopes>>,
    /// Whether it is refused until it is enabled again.
    pub disabled: Option<bool>,
}

impl Store {
    /// Changes a key. An edit that changes nothing leaves no trace; a revoked key cannot be changed, and one that is to be
    /// replaced ends no later than it does.
    pub async fn update_key(
        &self,
        id: &KeyId,
        edit: KeyEdit,
        stamp: &Stamp,
    ) -> Result<StoredKey, StoreError> {
        limited(WRITE_LIMIT, self.update_key_in_turn(id, edit, stamp)).await
    }

    async fn update_key_in_turn(
        &self,
        id: &KeyId,
        edit: KeyEdit,
        stamp: &Stamp,
    ) -> Result<StoredKey, StoreError> {
        let mut transaction = self.begin_write().await?;
        let before = keys::guarded(&mut transaction, id, stamp).await?;
        let mut after = before.clone();
        let (changed, action) = edit.apply(&mut after);
        let Some(action) = action else {
            return Ok(before);
        };
        if before.state == KeyState::Revoked {
            return Err(StoreError::KeyRevoked(*id));
        }
        let is_later = |end: UnixMillis| after.expires_at.is_none_or(|after| after > end);
        if before.rolled.is_some() && before.expires_at.is_some_and(is_later) {
            return Err(StoreError::KeyEnding(*id));
        }
        if changed.contains(&"scopes") {
            let owner = consumers::by_id(&mut transaction, &before.consumer).await?;
            let owner = owner.ok_or_else(|| consumers::unknown(&before.consumer))?;
            keys::require_within(&owner, after.scopes.as_ref())?;
        }
        after.updated_at = stamp.at;
        sqlx::query(
            "UPDATE keys SET description = $2, expires_at = $3, scopes = $4, state = $5, updated_at = $6 WHERE id = $1",
        )
        .bind(id.as_str())
        .bind(after.description.as_ref().map(Description::as_str))
        .bind(after.expires_at.map(|end| end.0))
        .bind(after.scopes.as_ref().map(Scopes::as_str))
        .bind(after.state.as_str())
        .bind(after.updated_at.0)
        .execute(&mut *transaction)
        .await?;
        let detail = json!({ "changed": changed, "before": before.state.as_str(), "expires_at": after.expires_at });
        journal::record(&mut transaction, stamp, action, Subject::Key(id), &detail).await?;
        transaction.commit_of(Some(id.as_str())).await?;
        Ok(after)
    }
}

impl KeyEdit {
    /// Changes `stored` and tells which parts are other than before, and under which name that goes into the audit: there
    /// is none when nothing is.
    fn apply(self, stored: &mut StoredKey) -> (Vec<&'static str>, Option<Action>) {
        let mut changed = Vec::new();
        let mut action = None;
        if let Some(description) = self.description.filter(|new| *new != stored.description) {
            stored.description = description;
            changed.push("description");
        }
        if let Some(end) = self.expires_at.filter(|new| *new != stored.expires_at) {
            stored.expires_at = end;
            changed.push("expires_at");
        }
        if let Some(scopes) = self.scopes.filter(|new| *new != stored.scopes) {
            stored.scopes = scopes;
            changed.push("scopes");
        }
        if !changed.is_empty() {
            action = Some(Action::KeyUpdate);
        }
        // Who looks for a key that was switched finds it under that name, whatever else was changed with it.
        match (self.disabled, stored.state) {
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
}
