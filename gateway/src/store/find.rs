//! Keys that are found by what somebody has of them: the key, its digest, or a beginning.

use sqlx::{Any, AssertSqlSafe};

use crate::keys::{BucketName, ConsumerName, KeyDigest};
use crate::store::columns::in_row;
use crate::store::rows::{select_key, stored_key};
use crate::store::{Store, StoreError, StoredKey};

/// Shortest hint that is taken for the beginning of what somebody has.
const SHORTEST_HINT: usize = 4;

impl Store {
    /// The key with this digest. It counts as no use.
    pub async fn key_with(&self, digest: &KeyDigest) -> Result<Option<StoredKey>, StoreError> {
        let row = sqlx::query(AssertSqlSafe(select_key("WHERE k.digest = $1")))
            .bind(digest.as_bytes().as_slice())
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(stored_key).transpose()
    }

    /// At most `limit` keys that begin with `text`, or whose hint `text` begins with; oldest first. All are looked at.
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

    /// The name of a consumer of the bucket that differs from `name` only in the case of letters.
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
