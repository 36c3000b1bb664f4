//! Search for keys by the key itself, its digest, or its first characters.

use sqlx::{Any, AssertSqlSafe};

use crate::keys::{BucketName, ConsumerName, KeyDigest};
use crate::store::columns::in_row;
use crate::store::rows::{select_key, stored_key};
use crate::store::{Store, StoreError, StoredKey};

/// Minimum length of a hint that matches a longer text.
const SHORTEST_HINT: usize = 4;

impl Store {
    /// Returns the key with this digest; does not count as a use.
    pub async fn key_with(&self, digest: &KeyDigest) -> Result<Option<StoredKey>, StoreError> {
        let row = sqlx::query(AssertSqlSafe(select_key("WHERE k.digest = $1")))
            .bind(digest.as_bytes().as_slice())
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(stored_key).transpose()
    }

    /// Returns at most `limit` keys, oldest first, whose hint and `text` share a beginning: one is
    /// a prefix of the other. Scans all keys.
    pub async fn keys_like(&self, text: &str, limit: u32) -> Result<Vec<StoredKey>, StoreError> {
        let _turn = self.scan().await?;
        let sql = format!(
            "{} WHERE substr(k.hint, 1, length($1)) = $1 \
             OR (length(k.hint) >= {SHORTEST_HINT} AND substr($1, 1, length(k.hint)) = k.hint) \
             ORDER BY k.created_at, k.id LIMIT {limit}",
            select_key("")
        );
        let rows = sqlx::query::<Any>(AssertSqlSafe(sql))
            .bind(text)
            .fetch_all(&self.scans)
            .await?;
        rows.iter().map(stored_key).collect()
    }

    /// Returns the name of a consumer of the bucket that equals `name` except for case.
    pub async fn consumer_spelled_like(
        &self,
        bucket: &BucketName,
        name: &ConsumerName,
    ) -> Result<Option<ConsumerName>, StoreError> {
        let _turn = self.scan().await?;
        let row = sqlx::query(
            "SELECT c.name FROM consumers c WHERE c.bucket = $1 AND lower(c.name) = $2 AND c.name <> $3 LIMIT 1",
        )
        .bind(bucket.as_str())
        .bind(name.as_str().to_ascii_lowercase())
        .bind(name.as_str())
        .fetch_optional(&self.scans)
        .await?;
        row.map(|row| in_row(&row, "name")).transpose()
    }
}
